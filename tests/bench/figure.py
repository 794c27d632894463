"""Hold what a benchmark comes to: a ratio, measured in one run against a floor."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One row of the table; smaller is better."""

    name: str
    ratio: float
    goal: float | None  # None: nothing to reach, it is only shown
    unit: str = ""  # what it is a multiple of; or the unit of a count
    notes: str = ""

    @property
    def reached(self) -> bool:
        """Return whether the goal is met."""
        return self.goal is None or self.ratio <= self.goal


def interleaved(takes: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Measure each in turn, `rounds` times, and return the medians: a busy moment hits all alike."""
    found: dict[str, list[float]] = {name: [] for name in takes}
    for _ in range(rounds):
        for name, take in takes.items():
            found[name].append(take())
    return {name: statistics.median(values) for name, values in found.items()}
