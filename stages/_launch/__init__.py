"""Where a stage runs: here, in an image, or as a job of Slurm's. No stage depends on it.

`R1_SITE=NAME` names slurm/sites/NAME.yaml; see slurm/README.md.
"""
