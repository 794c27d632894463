"""Find the logs of tasks, read their last words, and group failed tasks by what they have in common."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from esis.errors import BadInput, CorruptState
from esis.files import open_regular, read_limited
from esis.locks import user_name
from esis.model.workdir import RunDir
from esis.operations.witness.evidence import Evidence
from esis.operations.witness.status import RunStatus, TaskState
from esis.operations.witness.target import evidence_of
from esis.records.folded import folded_lines
from esis.records.log_names import RunLogs
from esis.records.submissions import Outcome, Submission
from esis.records.task_details import read_details
from esis.records.tasks import TaskRecord

_TAIL = 16384  # bytes at the end of a log in which its last words are looked for
_NOISE = re.compile(r"(srun|slurmstepd|slurmd|sbatch)(: |\[)")
_NUMBER = re.compile(r"\d+")
_FOLLOW_SECONDS = 0.5


@dataclass(frozen=True)
class Group:
    """Hold failed tasks that failed alike."""

    state: TaskState
    reason: str
    line: str  # the last meaningful line of the example's log
    tasks: tuple[int, ...]
    example: Path | None  # the log of the first one
    missing: Path | None = None  # the directory of its log, where that isn't there, which is why there is no log


def names_of(run: RunDir, evidence: Evidence) -> RunLogs:
    """Return what names the run's logs have."""
    try:
        script = read_limited(run.script).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        script = ""
    return RunLogs(evidence.submissions, script, user_name(run.path.stat().st_uid), evidence.records.jobs)


def log_of(run: RunDir, evidence: Evidence, task: int, names: RunLogs | None = None) -> Path:
    """Return where the log of a task's latest attempt is, or will be. Raises BadInput where it was never submitted."""
    record, holding = _latest(evidence, task)
    if record is not None:
        # Who submits by hand may take other tasks than ESIS did.
        holding = [
            sub
            for sub in evidence.submissions
            if sub.number == record.submission and (sub.holds(task) or not (sub.mapped or sub.packed))
        ] or holding
    if not holding and evidence.state is None:
        raise BadInput(
            f"{run.label} was made by an older ESIS and holds no job id, so nothing tells which log is that "
            f"of task {task}",
            f"the logs are in {run.cwd}",
        )
    if not holding and (record is not None or evidence.marked_complete):
        raise BadInput(
            f"{run.label}: the record of its submission was removed, so nothing tells which log is that of task {task}",
            f"the logs are in {run.cwd}",
        )
    if not holding:
        raise BadInput(f"{run.label}: task {task} was never submitted, so it has no log")
    submission = holding[-1]
    told = _told(run, record) if record is not None else {}
    names = names or names_of(run, evidence)
    ways = names.of(submission).of_task(task, record.job if record is not None else None, told)
    for name in ways:
        pattern = name.wildcard()
        found = sorted(Path("/").glob(pattern[1:]) if pattern.startswith("/") else run.cwd.glob(pattern))
        if found:
            return found[-1]
    return run.cwd / ways[0].starred


def _latest(evidence: Evidence, task: int) -> tuple[TaskRecord | None, list[Submission]]:
    """Return the record of a task's latest attempt, and the submissions that a scheduler kept the task of.

    None where that attempt left no record, whatever earlier ones left.
    """
    record = evidence.records.get(task)
    holding = [
        sub
        for sub in evidence.submissions
        if sub.outcome is not Outcome.REFUSED and sub.holds(task) and task not in sub.returned
    ]
    return None if record is not None and holding and holding[-1].number > record.submission else record, holding


def _told(run: RunDir, record: TaskRecord) -> Mapping[str, str]:
    """Return what a record's content tells of the name of its log, by letter, also where it was folded."""
    details = read_details(run.tasks, record)
    if details is not None:
        job, host = details.job, details.host
    else:
        job, host = next((own_of(content) for name, content in folded(run) if name == record.name), ("", ""))
    told = {"j": job, "J": job, "N": host.partition(".")[0]}
    return {letter: value for letter, value in told.items() if value}


def folded(run: RunDir) -> Iterator[tuple[str, str]]:
    """Yield name and content of the records that were folded. Raises OSError, CorruptState."""
    for line in folded_lines(run):
        name, _, content = line.partition(" ")
        yield name, content


def own_of(content: str) -> tuple[str, str]:
    """Return the own id of a task in Slurm and its host, as the content of a record tells them; else empty texts."""
    try:
        told = json.loads(content)
        job, host = told["job"], told["host"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return "", ""
    return (job, host) if isinstance(job, str) and isinstance(host, str) else ("", "")


def last_words(path: Path) -> str:
    """Return the last meaningful line of a log, or why it can't be read; empty where there is none."""
    try:
        with open_regular(path, whole=False) as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL))
            text = stream.read(_TAIL).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"({path.name}: {error.strerror})"
    except CorruptState as error:
        return f"({error.message})"
    # NUL bytes fill the hole that is left where a log is cut under its writer, or a file server lost what was there.
    lines = [line.strip() for line in re.split(r"[\r\n\0]+", text) if line.strip()]
    meaningful = [line for line in lines if not _NOISE.match(line)]
    return (meaningful or lines or [""])[-1][:300]


def group_failures(status: RunStatus, evidence: Evidence) -> list[Group]:
    """Group failed and lost tasks by state, reason and last words (numbers in these don't count); largest first."""
    names = names_of(status.run, evidence)
    found: dict[tuple[TaskState, str, str], list[tuple[int, str, Path | None]]] = {}
    for task in status.indices(TaskState.FAILED, TaskState.LOST):
        item = status.tasks[task]
        path: Path | None = None
        with suppress(BadInput):  # the record of its submission is gone
            path = log_of(status.run, evidence, task, names)
        line = last_words(path) if path is not None else ""
        found.setdefault((item.state, item.reason, _NUMBER.sub("#", line)), []).append((task, line, path))
    groups = [_group(state, reason, items) for (state, reason, _), items in found.items()]
    return sorted(groups, key=lambda group: (-len(group.tasks), group.tasks))


def _group(state: TaskState, reason: str, items: Sequence[tuple[int, str, Path | None]]) -> Group:
    _, line, log = items[0]
    there, place = log is not None and log.exists(), log.parent if log is not None else None
    missing = None if there or place is None or place.is_dir() or "*" in str(place) else place
    return Group(state, reason, line, tuple(task for task, _, _ in items), log if there else None, missing)


def follow(path: Path, active: Callable[[], bool]) -> Iterator[bytes]:
    """Yield what is in a log, then what comes, until `active` says that its task isn't any more.

    Raises OSError, CorruptState for what is no regular file.
    """
    position = 0
    going = True
    while True:
        try:
            with open_regular(path) as stream:
                if stream.seek(0, os.SEEK_END) < position:
                    position = 0  # a requeued task truncates its log
                stream.seek(position)
                while data := stream.read(65536):
                    position += len(data)
                    yield data
        except FileNotFoundError:
            position = 0
        if not going:
            return
        time.sleep(_FOLLOW_SECONDS)
        going = active()


def task_ended(run: RunDir, task: int) -> bool:
    """Return whether the records say that the task's latest attempt is over; costs no Slurm call."""
    record, _ = _latest(evidence_of(run), task)
    return record is not None and record.ended
