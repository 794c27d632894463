"""Choose what is to be cancelled: elements of arrays, jobs of which nobody knows the tasks, local runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from esis.errors import BadInput
from esis.model.index_sets import format_ranges
from esis.operations.active.machine import local_parts
from esis.operations.witness.status import ACTIVE_STATES, Held, RunStatus, TaskState
from esis.records.submissions import Submission
from esis.schedulers.base import JobState


class Element(NamedTuple):
    """Hold an element of a queued array, and which of the chosen tasks it works on."""

    held: Held
    tasks: tuple[int, ...]


class Targets(NamedTuple):
    """Hold what is to be cancelled, as it was known when that was asked: what comes later isn't meant."""

    elements: Mapping[str, Mapping[int, Element]]  # by job and Slurm's index
    strangers: Mapping[str, frozenset[int]]  # the same of jobs of which nobody knows the tasks
    local: tuple[tuple[Submission, tuple[int, ...]], ...]  # what runs or waits on a machine, by submission

    @property
    def tasks(self) -> list[int]:
        """Return the tasks, sorted."""
        found = {task for elements in self.elements.values() for item in elements.values() for task in item.tasks}
        return sorted(found.union(*(tasks for _, tasks in self.local)))


def choose(status: RunStatus, tasks: Sequence[int] | None, pending_only: bool) -> Targets:
    """Return what is to be cancelled. Raises BadInput for tasks that aren't active, and parts of what ends whole."""
    wanted = set(_active(status, tasks, pending_only))
    queued: set[int] = set()  # tasks that wait or run in Slurm
    found: dict[str, dict[int, Element]] = {}
    strangers: dict[str, set[int]] = {}
    for held in status.queue:
        meant = not pending_only or held.seen.state is JobState.WAITING
        if not held.known and tasks is None and meant:
            strangers.setdefault(held.seen.job, set()).update(held.seen.indices or ())
        for index in held.seen.indices or () if held.known else ():
            of_it = held.tasks(index)
            queued.update(of_it)
            chosen = tuple(task for task in of_it if task in wanted)
            if chosen and meant:
                _refuse_part_of_pack(status, of_it, chosen)
                found.setdefault(held.seen.job, {})[index] = Element(held, chosen)
    return Targets(
        found, {job: frozenset(indices) for job, indices in strangers.items()}, local_parts(status, wanted, queued)
    )


def _active(status: RunStatus, tasks: Sequence[int] | None, pending_only: bool) -> list[int]:
    active = status.indices(TaskState.WAITING) if pending_only else status.indices(*ACTIVE_STATES)
    if tasks is None:
        return active
    named = set(tasks)
    idle = sorted(named - set(status.indices(*ACTIVE_STATES)))
    if idle:
        unknown = sorted(set(idle).intersection(status.indices(TaskState.UNKNOWN)))
        jobs = sorted({held.seen.job for held in status.queue if not held.known}, key=lambda job: (len(job), job))
        raise BadInput(
            f"{status.run.label}: tasks {format_ranges(idle)} are neither waiting nor running"
            + (f", as far as anybody knows ({status.tasks[unknown[0]].reason})" if unknown else ""),
            f"scancel {' '.join(jobs)} cancels what nobody knows the tasks of; so does esis cancel without --tasks"
            if unknown and jobs
            else None,
        )
    return [task for task in active if task in named]


def beyond_reach(status: RunStatus, tasks: Sequence[int] | None, pending_only: bool, targets: Targets) -> list[int]:
    """Return the chosen tasks that are active, but neither in Slurm nor of a local run: begun by hand."""
    outside = set(status.outside_slurm()).difference(targets.tasks)
    return sorted(outside.intersection(_active(status, tasks, pending_only)) if outside else ())


def _refuse_part_of_pack(status: RunStatus, pack: Sequence[int], chosen: Sequence[int]) -> None:
    """Raise BadInput where an element of an array works on active tasks that aren't to be cancelled."""
    others = [
        task
        for task in (pack if len(pack) > len(chosen) else ())
        if task not in chosen and task in status.tasks and status.tasks[task].state in ACTIVE_STATES
    ]
    if others:
        raise BadInput(
            f"{status.run.label}: tasks {format_ranges(sorted(chosen))} are in one job with "
            f"{format_ranges(others)}, and can only be cancelled together with them",
            "name them too",
        )
