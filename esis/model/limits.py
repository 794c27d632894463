"""Hold what the configuration of a scheduler says about arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Hold what a scheduler's configuration says about arrays and about its own patience."""

    max_array_size: int = 1001  # Slurm's default; the largest index is one less
    max_array_tasks: int | None = None  # elements of one array
    message_timeout: float = 10.0  # seconds; Slurm's default
    version: str | None = None
    problem: str | None = None  # why the scheduler couldn't be asked: then these are defaults


def common(found: Sequence[Limits]) -> Limits:
    """Return what holds on each of several clusters, for sbatch chooses among them."""
    return Limits(
        min(item.max_array_size for item in found),
        min((item.max_array_tasks for item in found if item.max_array_tasks is not None), default=None),
        max(item.message_timeout for item in found),
        found[0].version,
        next((item.problem for item in found if item.problem is not None), None),
    )
