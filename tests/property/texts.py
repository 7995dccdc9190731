"""Texts that hypothesis draws."""

from __future__ import annotations

from hypothesis import strategies as st

TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
plain = st.text().filter(lambda text: not any(tag in text for tag in TAGS))
