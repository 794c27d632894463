"""The inside of the fake Slurm: records, the queue, the clients and the runner."""
