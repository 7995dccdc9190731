"""The documentation; site/ builds it."""
