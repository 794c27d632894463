"""Judge a task that Slurm can't know: a shell of some machine runs it, or will, for a local run or by hand."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from esis.locks import Owner, user_name
from esis.operations.witness.evidence import Evidence
from esis.operations.witness.status import TaskState, Verdict
from esis.operations.witness.words import elsewhere
from esis.processes import has_left, process_alive, tasks_of_job
from esis.records.submissions import Submission
from esis.records.task_details import Details, read_details
from esis.records.tasks import TaskRecord


def just_begun(submission: Submission) -> Container[int]:
    """Return the tasks that a local run, which was killed, had started a moment before: they may have no record yet."""
    owner = Owner.parse(submission.owner)
    if not submission.jobs or owner is None or not owner.is_here() or not owner.is_dead():
        return ()
    return tasks_of_job(submission.jobs[0].id)


def left_behind(evidence: Evidence, submission: Submission, tasks: Sequence[int]) -> list[tuple[int, int | None]]:
    """Return for each task of a local run, which was killed, the process that goes on; None where nobody tells.

    Not that of an earlier attempt: its number may be anybody's by now.
    """
    begun = tasks_of_job(submission.jobs[0].id) if submission.jobs else {}
    found = []
    for task in tasks:
        record = evidence.records.get(task)
        mine = record is not None and submission.position_of(record.job) is not None
        details = read_details(evidence.run.tasks, record) if record is not None and mine else None
        found.append((task, details.pid if details is not None else begun.get(task)))
    return found


def waits(submission: Submission, task: int, begun: Container[int]) -> Verdict:
    """Judge a task to which its local run hasn't come, or only just: then it is among `begun`."""
    owner = Owner.parse(submission.owner)
    if owner is None or not owner.is_here():
        return Verdict(TaskState.UNKNOWN, elsewhere(owner))
    if task in begun:
        return Verdict(TaskState.RUNNING, "begins", job=submission.jobs[0].id)
    if owner.is_dead():
        return Verdict(TaskState.UNSUBMITTED, "its local run was killed")
    return Verdict(TaskState.WAITING, "local")


def of_local_run(
    record: TaskRecord, details: Details | None, submission: Submission, sessions: Callable[[], Container[int]]
) -> Verdict:
    """Judge a task whose local run began with it; its shell may outlive that, where it was killed."""
    owner = Owner.parse(submission.owner)
    if owner is None or not owner.is_here():
        return Verdict(TaskState.UNKNOWN, elsewhere(owner), job=record.job)
    if details is None:
        return Verdict(TaskState.UNKNOWN, "its record doesn't name its process", job=record.job)
    if details.started == 0 and process_alive(details.pid, 0) and owner.is_dead():
        return Verdict(
            TaskState.UNKNOWN, f"its local run was killed, and process {details.pid} may be another", job=record.job
        )
    return _of_process(record, details, sessions)


def by_hand(record: TaskRecord, details: Details, sessions: Callable[[], Container[int]]) -> Verdict:
    """Judge a task that somebody began without Slurm and without `esis run --local` (`esis doc by-hand`)."""
    shell = f"process {details.pid} on {details.host}"
    if not Owner(details.host, details.boot, details.pid, details.started, "", "").is_here():
        return Verdict(
            TaskState.UNKNOWN,
            f"begun by hand, without Slurm, as {shell}: another machine, boot or container, whose processes can't be "
            "seen from here",
            job=record.job,
        )
    verdict = _of_process(record, details, sessions)
    return verdict._replace(reason=verdict.reason or f"by hand, {shell}")


def stranger(evidence: Evidence, record: TaskRecord) -> str | None:
    """Return who began a task by hand, if that is nobody whose jobs are asked for: several may share a run."""
    try:
        uid = (evidence.run.tasks / record.name).stat().st_uid
    except OSError:
        return None
    return None if uid in evidence.owners else user_name(uid)


def _of_process(record: TaskRecord, details: Details, sessions: Callable[[], Container[int]]) -> Verdict:
    if process_alive(details.pid, details.started):
        return Verdict(TaskState.RUNNING, job=record.job)
    if details.started and has_left(details.pid, sessions()):
        return Verdict(TaskState.RUNNING, "its shell has ended, and what it started goes on", job=record.job)
    return Verdict(TaskState.LOST, "its local process is gone", job=record.job, unread=True)
