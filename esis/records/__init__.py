"""The records of a run: its stage, its submissions, its tasks, and where it came from."""
