"""Cut the tasks of a submission into array jobs that Slurm takes: a pure computation."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from esis.model.index_sets import format_ranges
from esis.model.limits import Limits
from esis.records.submissions import Array

ARRAY_SPEC_LIMIT = 3500  # characters: 3,544 were seen accepted, 4,944 refused


@dataclass(frozen=True)
class Packing:
    """Say how many tasks each element of an array works through, and how many of them at a time."""

    per_job: int = 1
    parallel: int = 1


UNPACKED = Packing()


@dataclass(frozen=True)
class Plan:
    """Hold the arrays of a submission. `mapped`: their indices are positions in the list of tasks, not tasks."""

    arrays: tuple[Array, ...]
    mapped: bool


def plan(tasks: Sequence[int], throttle: int, limits: Limits | None, packing: Packing = UNPACKED) -> Plan:
    """Return the arrays for sorted `tasks`; `limits` None: one array of any size will do.

    Exact ranges where Slurm takes them, else dense arrays over a list of the tasks. `throttle` is shared by the arrays
    (0: no limit). Raises ValueError for no tasks: an empty `--array` makes Slurm submit a plain job.
    """
    if not tasks:
        raise ValueError("an array needs at least one task")
    if packing.per_job > 1:
        parts = _cut(range(-(-len(tasks) // packing.per_job)), limits)
        counts = [
            len(tasks[part.units[0] * packing.per_job : (part.units[-1] + 1) * packing.per_job]) for part in parts
        ]
        return Plan(_arrays(parts, counts, throttle), mapped=tasks[-1] - tasks[0] + 1 != len(tasks))
    dense = _cut(range(len(tasks)), limits)
    exact = _cut(tasks, limits, most=len(dense) + 1)
    # What runs here is given its task, so a map would be looked up with a task for a position.
    mapped = limits is not None and (
        len(exact) > len(dense) + 1 or any(len(part.spec()) > ARRAY_SPEC_LIMIT for part in exact)
    )
    parts = dense if mapped else exact
    return Plan(_arrays(parts, [len(part.units) for part in parts], throttle), mapped)


def share(throttle: int, arrays: int) -> list[int]:
    """Return how many elements of each array may run at a time, so that they are at most `throttle` together.

    Where there are more arrays than that each gets one, and the arrays take turns (Submission.lanes).
    """
    if throttle == 0:
        return [0] * arrays
    part, more = divmod(throttle, arrays)
    return [max(1, part + (number < more)) for number in range(arrays)]


@dataclass(frozen=True)
class _Part:
    """Hold the units of one array, and what is taken from them to make indices that Slurm takes."""

    units: Sequence[int]
    offset: int

    def spec(self) -> str:
        if isinstance(self.units, range):
            return format_ranges(range(self.units.start - self.offset, self.units.stop - self.offset))
        return format_ranges(unit - self.offset for unit in self.units)


def _cut(units: Sequence[int], limits: Limits | None, most: int | None = None) -> list[_Part]:
    """Cut sorted units into arrays; stops at more than `most` of them, which says enough."""
    if limits is None:
        return [_Part(units, 0)]
    size = max(1, limits.max_array_size)
    count = limits.max_array_tasks or len(units)
    parts: list[_Part] = []
    start = 0
    while start < len(units) and (most is None or len(parts) <= most):
        # The first array keeps the indices as they are, if it can.
        offset = 0 if start == 0 and units[0] < size else units[start]
        end = min(bisect_left(units, offset + size, start), start + count)
        parts.append(_Part(units[start:end], offset))
        start = end
    return parts


def _arrays(parts: Sequence[_Part], counts: Sequence[int], throttle: int) -> tuple[Array, ...]:
    return tuple(
        Array(part.spec(), part.offset, count).throttled(limit)
        for part, count, limit in zip(parts, counts, share(throttle, len(parts)))
    )
