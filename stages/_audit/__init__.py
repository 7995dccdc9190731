"""Checks of what is published, for whoever trusts nothing; no stage depends on it."""
