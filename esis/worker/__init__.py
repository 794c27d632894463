"""What `import esis` gives to workers: the standard library, the ground and the names in a run, nothing else."""
