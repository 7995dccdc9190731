"""Where sft and grpo run alone, as in the pipeline's tests."""

from __future__ import annotations

from tests.pipeline.conftest import repo, source

__all__ = ["repo", "source"]
