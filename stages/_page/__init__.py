"""The report as one page, of what the repository holds: `python -m stages page`."""
