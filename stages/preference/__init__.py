"""Trains a reward model on pairs of responses."""
