"""Hold what the configuration of a scheduler says about arrays."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Hold what a scheduler's configuration says about arrays and about its own patience."""

    max_array_size: int = 1001  # Slurm's default; the largest index is one less
    max_array_tasks: int | None = None  # elements of one array
    message_timeout: float = 10.0  # seconds; Slurm's default
    version: str | None = None
    problem: str | None = None  # why the scheduler couldn't be asked: then these are defaults
