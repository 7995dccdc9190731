"""Estimates of memory and time from a stated model of a GPU cluster: `python -m stages plan`.

Nothing here was measured on a GPU. No stage imports it, and it needs the standard library only.
"""
