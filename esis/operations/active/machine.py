"""The tasks of a run that are active on a machine, not in Slurm, and the process that is told to end them."""

from __future__ import annotations

from collections.abc import Sequence

from esis.errors import BadInput
from esis.locks import Owner
from esis.model.index_sets import format_ranges
from esis.operations.witness.on_machine import left_behind
from esis.operations.witness.status import ACTIVE_STATES, RunStatus
from esis.processes import process_alive
from esis.records.submissions import LOCAL, Outcome, Submission
from esis.records.task_details import read_details


def local_parts(
    status: RunStatus, wanted: set[int], queued: set[int]
) -> tuple[tuple[Submission, tuple[int, ...]], ...]:
    """Return the chosen tasks that are active on a machine, not in Slurm, by the local run that they belong to.

    Raises BadInput where not all of one is to be ended: there is one process to be told, and it ends all.
    """
    taken = [item for item in status.evidence.submissions if item.outcome is not Outcome.REFUSED]
    by_number: dict[int, list[int]] = {}
    # Nobody has to look at each task of a run that was never on a machine.
    for task in status.indices(*ACTIVE_STATES) if any(item.scheduler == LOCAL for item in taken) else ():
        latest = next((item for item in reversed(taken) if item.holds(task)), None)
        if latest is None or latest.scheduler != LOCAL:
            continue
        if task not in queued or _is_on_machine(status, task, latest):
            by_number.setdefault(latest.number, []).append(task)
    parts = []
    for item in taken:
        active = by_number.get(item.number, [])
        chosen = tuple(task for task in active if task in wanted)
        others = [task for task in active if task not in wanted]
        if chosen and others:
            raise BadInput(
                f"{status.run.label}: a local run can only be ended as a whole, and tasks "
                f"{format_ranges(others)} wait or run, too",
                "esis cancel without options ends all of it, as Ctrl-C does",
            )
        if chosen:
            parts.append((item, chosen))
    return tuple(parts)


def _is_on_machine(status: RunStatus, task: int, submission: Submission) -> bool:
    """Return whether a task that is queued in Slurm waits or runs on this machine as well, for a local run."""
    record, owner = status.evidence.records.get(task), Owner.parse(submission.owner)
    if owner is None or not owner.is_here() or task in submission.returned:
        return False
    if record is None or record.submission < submission.number:
        return not owner.is_dead()
    details = read_details(status.run.tasks, record)
    mine = not record.ended and submission.position_of(record.job) is not None
    return mine and details is not None and process_alive(details.pid, details.started)


def interrupt(status: RunStatus, submission: Submission, tasks: Sequence[int]) -> BadInput | None:
    """Interrupt the esis that runs the tasks on this machine, as Ctrl-C would.

    Returns why that can't be done: nobody is signalled who isn't certainly the process that the run names.
    """
    label, owner = status.run.label, Owner.parse(submission.owner)
    if owner is not None and owner.is_dead():
        begun = left_behind(status.evidence, submission, tasks)
        shown = [f"task {task}: process {process or 'unknown'}" for task, process in begun]
        return BadInput(
            f"{label}: its local run was killed, and what it had begun goes on by itself ({', '.join(shown)} on "
            f"{owner.host})",
            "end these processes there, each with its session: kill -- -<process>",
        )
    try:
        if owner is not None and owner.interrupt(status.run.path):
            return None
    except PermissionError:
        pass
    return BadInput(
        f"{label}: its local run belongs to {owner or 'an unknown process'}, which can't be signalled from here",
        "end that process on its own machine, as its own user; if this is a copy of the run: cancel that one",
    )
