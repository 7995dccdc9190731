"""Rederive: DeepSeek-R1 re-derived as DVC stages."""
