"""The logs of tasks: where they are, what they end with, and the zip that holds those of a compacted run."""
