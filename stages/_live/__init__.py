"""Shows how a running stage goes: in the terminal, on trackers, against the curves of other runs.

All of it only reads what a stage prints and leaves in work/. No stage depends on it, and nothing of
it is in a hash.
"""
