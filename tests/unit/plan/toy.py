"""A model that is small enough to be counted by hand."""

from __future__ import annotations

from stages._plan.models import dense

TOY = dense("toy", 2, 8, 16, 100, attention_width=8, kv_width=4, is_tied=True)
