"""Choose the tasks that are submitted again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from esis.errors import BadInput
from esis.model.index_sets import format_ranges
from esis.operations.context import Context
from esis.operations.witness.conditions import matching
from esis.operations.witness.status import ACTIVE_STATES, RESUMABLE, RunStatus, TaskState
from esis.operations.witness.words import UNRECORDED_ENDS

# What is resubmitted if nothing is said: not what is done or active, nor what may be.
DEFAULT_STATES = (TaskState.FAILED, TaskState.LOST, TaskState.UNSUBMITTED)


@dataclass(frozen=True)
class Selection:
    """Say which tasks are meant."""

    states: tuple[TaskState, ...] = ()
    tasks: tuple[int, ...] | None = None
    where: str | None = None
    max_attempts: int | None = None
    resumable: bool = False  # only those that saved their state


def choose(status: RunStatus, selection: Selection, context: Context) -> list[int]:
    """Return the sorted tasks that are meant. Raises BadInput for active ones that were named."""
    label, named = status.run.label, selection.tasks
    if named is not None and not all(task in status.tasks for task in named):
        absent = [task for task in named if task not in status.tasks]
        raise BadInput(
            f"{label} has no tasks {format_ranges(absent)}", f"its tasks are {format_ranges(sorted(status.tasks))}"
        )
    asked = status.indices(*(selection.states or (TaskState if named is not None else DEFAULT_STATES)))
    if selection.resumable:
        asked = _common(asked, status.by_reason(TaskState.FAILED).get((TaskState.FAILED, RESUMABLE), ()))
    chosen = matching(status.run, asked if named is None else _common(asked, named), selection.where)
    active = _common(chosen, status.indices(*ACTIVE_STATES))
    if active:
        raise BadInput(
            f"{label}: tasks {format_ranges(active)} are waiting or running", "wait for them, or esis cancel them first"
        )
    if TaskState.UNKNOWN not in selection.states:
        unknown = status.indices(TaskState.UNKNOWN)
        skipped = unknown if named is None else _common(chosen, unknown)
        reasons = status.by_reason(TaskState.UNKNOWN)
        ended = [task for reason in UNRECORDED_ENDS for task in reasons.get((TaskState.UNKNOWN, reason), ())]
        for tasks, why, then in (
            (_without(skipped, ended), "they may be running", "--state unknown includes them"),
            (
                _common(skipped, ended),
                "they have ended, and may be done",
                "look for their results; to do them again: --state unknown",
            ),
        ):
            if tasks:
                shown = f"{format_ranges(tasks)} ({status.tasks[tasks[0]].reason})"
                context.say(f"{label}: left out, for {why}: {shown}; {then}")
        chosen = _without(chosen, skipped)
    if TaskState.DONE not in selection.states:
        done = _common(chosen, status.indices(TaskState.DONE))
        if done:
            context.say(f"{label}: left out, for they are done: {format_ranges(done)}; --state done includes them")
        chosen = _without(chosen, done)
    return without_worn(status, _without_packed(status, chosen, context), selection.max_attempts, context)


def _without_packed(status: RunStatus, chosen: list[int], context: Context) -> list[int]:
    """Leave out what hasn't ended well in a pack whose job lives.

    That is past them; but if Slurm queues it again (its node is lost, another job goes first), it comes to all tasks of
    the pack that aren't done.
    """
    packed = [held for held in status.queue if held.submission is not None and held.submission.packed]
    done = frozenset(status.indices(TaskState.DONE) if packed else ())
    for held in packed:
        tasks = {task for index in held.seen.indices or () for task in held.tasks(index)}
        left = _common(chosen, [*(tasks - done)])
        if left:
            context.say(
                f"{status.run.label}: left out, for job {held.seen.job} still works through their pack, and would do "
                f"them again if Slurm requeued it: {format_ranges(left)}; repeat the command once it has ended"
            )
            chosen = _without(chosen, left)
    return chosen


def without_worn(status: RunStatus, chosen: list[int], most: int | None, context: Context) -> list[int]:
    """Leave out the tasks that were submitted `most` times already."""
    if most is None:
        return chosen
    worn = [task for task in chosen if status.evidence.attempts[task] >= most]
    if worn:
        context.say(f"{status.run.label}: left out after {most} attempts: {format_ranges(worn)}")
    return _without(chosen, worn)


def _common(tasks: Sequence[int], others: Sequence[int]) -> list[int]:
    wanted = set(others)
    return [task for task in tasks if task in wanted]


def _without(tasks: Sequence[int], others: Sequence[int]) -> list[int]:
    unwanted = set(others)
    return [task for task in tasks if task not in unwanted]
