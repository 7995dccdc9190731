"""lm-eval tasks and their scoring."""
