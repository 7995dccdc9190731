"""`python -m stages publish`: recorded data sets and checkpoints, to the hub or to a DVC remote."""
