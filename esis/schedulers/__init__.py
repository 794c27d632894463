"""The schedulers behind one small Protocol: Slurm, and this machine."""
