"""Know the names of a run's logs: which a task's logs have, and which tasks a name is of.

An array writes its output as its submission says, and its error output where the script says so. Where indices are no
tasks (arrays with an offset, maps, packs) ESIS keeps the output of arrays apart by the job's id. A task of a pack has a
log of its own besides (task.sh). What `sbatch ../sbatch.sh` by hand writes is named as the script says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path

from esis.model.log_pattern import UNTOLD, Pattern, Reading, kept_apart
from esis.records.submissions import LOCAL, Submission
from esis.schedulers.directives import Options

_PACKED = Pattern.of("slurm-%A_task%a.out")  # task.sh names them; the index is the task


class LogKind(Enum):
    """Name what a log holds."""

    OUTPUT = "output"  # of a task, or of all that share the file
    ERROR = "error"  # of a task, or of a pack's own script; where it isn't in the same file
    PACK = "pack"  # output of a pack's own script, around the logs of its tasks


@dataclass(frozen=True)
class LogSeries:
    """Name the logs of arrays of a submission by one pattern, as seen from cwd/."""

    submission: Submission
    stream: LogKind
    pattern: Pattern
    positions: tuple[int, ...]  # of the arrays
    tasks_themselves: bool = False  # the index in a name is the task
    by_hand: bool = False  # only what was submitted by hand has such names

    def tasks(self, reading: Reading) -> Sequence[int]:
        """Return the tasks whose log a name may be that reads so."""
        if reading.index is not None and self.tasks_themselves:
            return (reading.index,)
        position = self.submission.position_of(reading.job) if reading.job is not None else None
        positions = self.positions if position is None else (position,)
        if reading.index is not None:
            return [task for at in positions for task in self.submission.tasks_at(at, (reading.index,))]
        if len(positions) == len(self.submission.arrays):
            return self.submission.tasks
        return [
            task
            for at in positions
            for task in self.submission.tasks_at(at, self.submission.arrays[at].indices() or ())
        ]


@dataclass(frozen=True)
class LogOwner:
    """Say of which tasks a log is, by which job (None: its name doesn't tell)."""

    stream: LogKind
    job: str | None
    tasks: Sequence[int]


class SubmissionLogs:
    """Know the names of the logs of one submission."""

    def __init__(self, submission: Submission, options: Options, user: str) -> None:
        """Take the options of its script and its command line, and the name of the user whose jobs they are."""
        self.submission = submission
        self._directory = options.directory or ""
        self._names = {"x": options.job_name, "u": user}
        self._output = submission.output or options.output
        self._error = options.error

    @property
    def _local(self) -> bool:
        return self.submission.scheduler == LOCAL

    def output(self, position: int, by_hand: bool = False) -> Pattern:
        """Return the pattern of the output of an array, as seen from cwd/."""
        submission = self.submission
        named = submission.output_of(position)
        if named == submission.output or by_hand or self._local:
            # The directory is in the record; what is absolute stays, and that of old records is none.
            found = Pattern.of(self._output)
            return (found if submission.output else found.below(self._directory)).filled(self._names)
        return Pattern.of(named).below(self._directory).filled(self._names)

    @property
    def has_error(self) -> bool:
        """Return whether the error output is in files of its own."""
        return bool(self._error)

    def error(self, position: int, by_hand: bool = False) -> Pattern | None:
        """Return the pattern of the error output of an array, as seen from cwd/; None where it has no own files."""
        if not self._error:
            return None
        own = self.submission.unique_error and self.submission.is_shifted(position) and not (by_hand or self._local)
        named = self.submission.unique_error if own else self._error
        return Pattern.of(named).below(self._directory).filled(self._names)

    @cached_property
    def series(self) -> tuple[LogSeries, ...]:
        """Return the patterns of all its logs."""
        submission = self.submission
        everywhere = tuple(range(len(submission.arrays)))
        whole = LogKind.PACK if submission.packed else LogKind.OUTPUT
        found = []
        for stream, name in ((whole, self.output), (LogKind.ERROR, self.error)):
            places: dict[Pattern, list[int]] = defaultdict(list)
            for position in everywhere:
                pattern = name(position)
                if pattern is not None:
                    places[pattern].append(position)
            found += [LogSeries(submission, stream, pattern, tuple(at), self._local) for pattern, at in places.items()]
            typed = name(0, True)
            if typed is not None and places.get(typed, ()) != list(everywhere):
                found.append(LogSeries(submission, stream, typed, everywhere, by_hand=True))
        if submission.packed:
            found.append(LogSeries(submission, LogKind.OUTPUT, _PACKED, everywhere, tasks_themselves=True))
        return tuple(found)

    def of_task(
        self, task: int, job: str | None, told: Mapping[str, str], stream: LogKind = LogKind.OUTPUT
    ) -> list[Pattern]:
        """Return what a log of a task may be called, likeliest first, as far as that is known.

        `job`: the array's id where a record tells it; `told`: what else a record tells, by letter.
        """
        submission = self.submission
        position, index = submission.place_of(task)
        typed = job is not None and submission.position_of(job) is None
        if job is None and position < len(submission.jobs):
            job = submission.jobs[position].id
        values = {**told, "A": job} if job is not None else told
        if submission.packed:
            return [_PACKED.filled({**values, "a": str(task)})]
        if self._local:
            index = task
        pattern = self.error(position, typed) if stream is LogKind.ERROR else None
        pattern = (pattern or self.output(position, typed)).filled({**values, "a": str(index)})
        return list(dict.fromkeys(pattern.filled({"b": way}) for way in (str(index % 10), UNTOLD)))


class RunLogs:
    """Know the names of all logs of a run."""

    def __init__(self, submissions: Sequence[Submission], script: str, user: str, jobs: Collection[str] = ()) -> None:
        """Take the text of sbatch.sh, the name of the run's owner, and the ids of jobs that left records."""
        self._of = {item.number: SubmissionLogs(item, Options.of(script, item.options), user) for item in submissions}
        self._submitted = {job.id: item.number for item in submissions for job in item.jobs}
        self._by_hand = not set(jobs) <= set(self._submitted)

    def of(self, submission: Submission) -> SubmissionLogs:
        """Return those of one of the submissions."""
        return self._of[submission.number]

    @cached_property
    def series(self) -> Mapping[Pattern, Sequence[LogSeries]]:
        """Return what each of the patterns names."""
        found: dict[Pattern, list[LogSeries]] = defaultdict(list)
        for logs in self._of.values():
            for series in logs.series:
                found[series.pattern].append(series)
        return found

    def read(self, pattern: Pattern, name: str) -> list[Reading]:
        """Return what a name as seen from cwd/ may mean by one of the patterns; nothing where it is no such name."""
        return list(pattern.read(name, self._submitted))

    def owners(self, pattern: Pattern, reading: Reading) -> list[LogOwner]:
        """Return whose log a name is that reads so by one of the patterns.

        Several may own it: arrays whose logs have the same names, and tasks that share one.
        """
        number = self._submitted.get(reading.job) if reading.job is not None else None
        if number is not None:
            found = [
                series for series in self.series[pattern] if series.submission.number == number and not series.by_hand
            ]
        else:
            found = [series for series in self.series[pattern] if self._by_hand or not series.by_hand]
        return [LogOwner(series.stream, reading.job, series.tasks(reading)) for series in found or self.series[pattern]]


def written_output(script: str, options: Sequence[str]) -> str:
    """Return the pattern of the output as a submission's record holds it: as seen from cwd/."""
    found = Options.of(script, options)
    return str(Path(found.directory or "") / found.output)


def unique_output(script: str, options: Sequence[str]) -> str:
    """Return what is given to sbatch where indices aren't tasks; empty where the script's pattern will do."""
    return kept_apart(Options.of(script, options).output)


def unique_error(script: str, options: Sequence[str]) -> str:
    """Return the same for the error output; empty where that has no own files."""
    error = Options.of(script, options).error
    return kept_apart(error) if error else ""


def missing_directories(options: Options, cwd: Path) -> list[Path]:
    """Return the directories of logs that aren't there: a task whose log can't be made fails before it begins."""
    parents = set()
    for text in filter(None, (options.output, options.error)):
        *directories, _ = Pattern.of(text).split() or [Pattern(())]
        names = [part.fixed for part in directories]
        if None not in names:
            parents.add("/".join(name for name in names if name is not None) or ("/" if text[0] == "/" else "."))
    return sorted(cwd / parent for parent in parents if not (cwd / parent).is_dir())


def overwritten(options: Options) -> bool:
    """Return whether the tasks of an array write over each other's logs: only what the last one wrote is left."""
    return Pattern.of(options.output).shared and not options.append and not options.output.startswith("/dev/")
