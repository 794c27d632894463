"""Tests that drive a real Slurm cluster in containers."""
