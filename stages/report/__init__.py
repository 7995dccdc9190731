"""Stage `report`: the results table, paired differences and training curves."""
