"""Find the logs that are in a run, whose they are, and which aren't there though their tasks began."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from esis.errors import FileTrouble
from esis.model.index_sets import format_ranges
from esis.model.log_pattern import Pattern, Reading
from esis.model.workdir import RunDir
from esis.operations.logs import zipped
from esis.operations.logs.whose import Whose
from esis.operations.witness.evidence import Evidence
from esis.operations.witness.status import LAUNCH_FAILURE, RunStatus, TaskState
from esis.records.log_names import LogKind, RunLogs
from esis.records.submissions import Submission

_LENGTH = 200  # characters of a list of tasks in a note


@dataclass
class LogFiles:
    """Hold what logs there are, by names relative to the run."""

    run: RunDir
    called: RunLogs
    names: set[str] = field(default_factory=set)
    chosen: set[str] = field(default_factory=set)  # those of the wanted tasks
    outside: dict[tuple[int, LogKind], Pattern] = field(default_factory=dict)  # patterns that lead out of the run
    links: set[str] = field(default_factory=set)  # directories of logs that are elsewhere
    _held: dict[LogKind, set[tuple[str | None, int]]] = field(default_factory=lambda: defaultdict(set))
    _tasks: dict[LogKind, set[int]] = field(default_factory=lambda: defaultdict(set))

    def take(self, pattern: Pattern, readings: Sequence[Reading], wanted: Collection[int]) -> bool:
        """Note whose a log is; return whether it is that of a wanted task."""
        found = False
        for reading in readings:
            for owner in self.called.owners(pattern, reading):
                self._held[owner.stream].update((owner.job, task) for task in owner.tasks)
                self._tasks[owner.stream].update(owner.tasks)
                found = found or any(task in wanted for task in owner.tasks)
        return found

    def has(self, stream: LogKind, attempt: _Attempt) -> bool:
        """Return whether there is the log of an attempt."""
        task = attempt.task
        if attempt.job is None:
            return task in self._tasks[stream]
        return not self._held[stream].isdisjoint({(attempt.job, task), (None, task)})


def find_logs(run: RunDir, evidence: Evidence, wanted: Collection[int], folded: bool = False) -> LogFiles:
    """Look for all logs; those that `esis compact` folded count as held where they go in. Raises FileTrouble."""
    whose = Whose(run, evidence)
    found = LogFiles(run, whose.called)
    packed = [(f"{run.cwd.name}/{name}", False) for name in _folded_names(run)] if folded else []
    for pattern, series in found.called.series.items():
        inside = pattern.inside(str(run.path), run.cwd.name)
        if inside is None:
            found.outside.update(
                {(item.submission.number, item.stream): pattern for item in series if not item.by_hand}
            )
            continue
        shared: dict[tuple[Reading, ...], bool] = {}  # of what doesn't tell the task there may be one file for each
        steps = inside.split()
        for name, here in chain(((name, True) for name in _walk(str(run.path), "", steps, found.links)), packed):
            readings = whose.read(pattern, name, inside)
            if not readings:
                continue
            if any(reading.index is None for reading in readings):
                if readings not in shared:
                    shared[readings] = found.take(pattern, readings, wanted)
                chosen = shared[readings]
            else:
                chosen = found.take(pattern, readings, wanted)
            if here:
                found.names.add(name)
                if chosen:
                    found.chosen.add(name)
    return found


def missing_logs(evidence: Evidence, status: RunStatus, found: LogFiles, wanted: Sequence[int]) -> Iterator[str]:
    """Yield a note for people on the tasks that began and have no log, and one on each place that isn't in the run."""
    missing: dict[LogKind, list[_Attempt]] = defaultdict(list)
    outside: set[Pattern] = set()
    for attempt in _began(evidence, status, wanted):
        submission = attempt.submission
        streams = [LogKind.OUTPUT]
        if found.called.of(submission).has_error and not submission.packed:
            streams.append(LogKind.ERROR)
        for stream in streams:
            if (submission.number, stream) in found.outside:
                outside.add(found.outside[submission.number, stream])
            elif not found.has(stream, attempt):
                missing[stream].append(attempt)
    for stream, attempts in missing.items():
        first = attempts[0]
        name = found.called.of(first.submission).of_task(first.task, first.job, {}, stream)[0]
        many = len(attempts) > 1
        yield (
            f"no {'log' if stream is LogKind.OUTPUT else 'error log'} of {len(attempts)} task{'s' if many else ''} "
            f"that began, {_short(format_ranges([attempt.task for attempt in attempts]))}: in {found.run.cwd.name}/ "
            f"there is no {_short(name.starred)}{' and so on' if many else ''}"
        )
    for pattern in sorted(outside, key=str):
        if not str(pattern).startswith("/dev/"):
            yield f"left out: logs that lie outside of the run, {_short(str(pattern))}"
    if wanted:
        for link in sorted(found.links):
            yield f"left out: logs behind the link {_short(link)}"


@dataclass(frozen=True)
class _Attempt:
    task: int
    submission: Submission
    job: str | None  # None: no record tells


def _began(evidence: Evidence, status: RunStatus, wanted: Sequence[int]) -> Iterator[_Attempt]:
    """Yield the latest attempts at tasks, of those that have begun: where there are no records, those that are done."""
    numbers = {sub.number: sub for sub in evidence.submissions}
    for task in wanted:
        record, verdict = evidence.records.get(task), status.tasks[task]
        if verdict.reason == LAUNCH_FAILURE and verdict.job is not None:  # without a record
            yield from (
                _Attempt(task, sub, verdict.job)
                for sub in evidence.submissions
                if sub.position_of(verdict.job) is not None
            )
        elif record is not None:
            if record.submission in numbers and not record.never_began:
                yield _Attempt(task, numbers[record.submission], record.job)
        elif verdict.state is TaskState.DONE:
            holding = [sub for sub in evidence.submissions if sub.holds(task)]
            if holding:
                yield _Attempt(task, holding[-1], None)


def _short(text: str) -> str:
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}…"


def _folded_names(run: RunDir) -> list[str]:
    with suppress(FileNotFoundError), zipped.reading(run.folded_logs) as archive:
        return archive.namelist()
    return []


def _walk(root: str, below: str, steps: Sequence[Pattern], links: set[str]) -> Iterator[str]:
    """Yield what is there of a pattern's names, directories aside; `links` gets those that lead to directories."""
    step, *further = steps
    try:
        names = (
            [step.fixed]
            if step.fixed is not None
            else sorted(entry for entry in os.listdir(f"{root}/{below}") if step.matches(entry))
        )
        for name in names:
            path = f"{below}{name}"
            if further:
                if Path(root, path).is_symlink():
                    links.add(path)
                yield from _walk(root, f"{path}/", further, links)
            elif not stat.S_ISDIR(os.lstat(f"{root}/{path}").st_mode):
                yield path
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise FileTrouble.of(error, "looking for logs", "nothing was left behind") from error
