"""Fold what a complete run has many of into one file each: task records, logs and, on request, results.

The one file is durable before anything it holds is removed, so that a kill at any moment costs nothing: the same
command goes on. Every command reads both forms, and what is written afterwards outranks what was folded.

Jobs by hand take no lock. So all that may be folded is listed before Slurm is asked, and nothing is removed that has
changed since, nor the record of an attempt that has no end: its job looks for it.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from heapq import merge
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

from esis.errors import BadInput, CorruptState, EsisError, SlurmUnanswered
from esis.files import TEMPORARY_PREFIX, is_there, names_in, naming, read_at, replacing, write_lines
from esis.locks import require, still
from esis.model.index_sets import find_parameter_files, format_ranges
from esis.model.log_pattern import Pattern
from esis.model.workdir import RunDir
from esis.operations.build.prepare import hold_run
from esis.operations.context import Context
from esis.operations.logs import zipped
from esis.operations.logs.whose import Whose
from esis.operations.unchanged import Signature, put_back, remove, signature_of, signatures
from esis.operations.witness.evidence import Evidence, gather
from esis.operations.witness.keep import look_and_keep, mark_complete
from esis.operations.witness.status import RunStatus, TaskState
from esis.records import stage
from esis.records.folded import folded_lines, folded_order, write_folded
from esis.records.log_names import LogKind, RunLogs
from esis.records.results import Unfit, as_line, find_files, folded
from esis.records.tasks import TaskRecord
from esis.schedulers.base import Scheduler

WORTH_IT = 1000  # records; fewer files are no burden on anybody, and people like to look at them
_RUNNING = ".running"


@dataclass(frozen=True)
class Compacted:
    """Count the files that were folded, and thus removed."""

    records: int = 0
    logs: int = 0
    results: int = 0
    parameters: int = 0  # left behind by tasks whose end removed nothing


def compact(run: RunDir, scheduler: Scheduler, context: Context, logs: bool = True, results: bool = False) -> Compacted:
    """Fold records and logs (and results) of a complete run.

    Raises BadInput where it isn't complete, SlurmUnanswered where a task may run and nobody can tell, OSError.
    """
    with hold_run(run, context) as evidence:
        # A rerun by hand may wait behind a mark that says that the run is complete. Records are read behind the list.
        asked = evidence._replace(marked_complete=False, listed=None)
        listed = _list(run, asked, logs, results)
        status = look_and_keep(asked, scheduler)
        still_idle = partial(_is_as_before, run, stage.records_moment(run))
        _check_idle(status, evidence.marked_complete, listed)  # behind that moment: nothing has begun before it, either
        # Results first: they are the only ones that a damaged file of a task's own can keep from being folded.
        moved = _fold_results(run, context, listed) if results else 0
        kept = _fold_logs(run, listed, context, still_idle) if logs else 0
        removed = remove(run.parameters, listed.parameters)
        return Compacted(_fold_records(run, evidence, context, listed.records), kept, moved, removed)


def fold_if_many(run: RunDir, context: Context) -> None:
    """Fold the records of a run that was found complete, if they are many; not if anything is in the way."""
    try:
        with os.scandir(run.tasks) as entries:
            ended = (entry for entry in entries if not entry.name.endswith(_RUNNING))
            many = sum(1 for _ in islice(ended, WORTH_IT)) >= WORTH_IT
        if many:
            with hold_run(run, context) as evidence:
                names = _record_names(run)
                # Since it was found complete somebody may have submitted tasks of it again, or by hand.
                if stage.has_own_mark(run) and stage.is_marked(run, evidence.submissions):
                    context.say(f"{run.label}: complete; folding its task records into one file")
                    _fold_records(run, evidence, context, names)
    except (EsisError, OSError):
        return  # somebody else is at it, or it is somebody else's run: another command will do it


class _Listed(NamedTuple):
    """Hold what there was before Slurm was asked: names of records, and of the other files what tells of a change."""

    records: frozenset[str]
    logs: Mapping[str, Signature]
    results: Mapping[str, Signature]
    halves: Mapping[str, Signature]  # what interrupted writes left among the results
    parameters: Mapping[str, Signature]


def _list(run: RunDir, evidence: Evidence, logs: bool, results: bool) -> _Listed:
    for directory in (run.cwd, run.results):
        put_back(directory)
    records = _record_names(run)
    whose = Whose(run, evidence)
    patterns = _log_patterns(whose.called) if logs else []
    found = [
        entry.name
        for entry in (os.scandir(run.cwd) if patterns and is_there(run.cwd) else ())
        if entry.is_file(follow_symlinks=False) and any(whose.read(pattern, entry.name) for pattern in patterns)
    ]
    tasks = sorted(find_files(run.results)) if results else []
    halves = [name for name in names_in(run.results) if name.startswith(TEMPORARY_PREFIX)] if results else []
    left = find_parameter_files(run.parameters) if is_there(run.parameters_lines) else []
    return _Listed(
        records,
        signatures(run.cwd, sorted(found)),
        signatures(run.results, (run.result_file(task).name for task in tasks)),
        signatures(run.results, halves),
        signatures(
            run.parameters, (run.parameter_file(task).name for task in left if not run.parameter_file(task).is_dir())
        ),
    )


def _record_names(run: RunDir) -> frozenset[str]:
    return frozenset(name for name in names_in(run.tasks) if TaskRecord.parse(name) is not None)


def _attempts(names: Iterable[str]) -> set[str]:
    """Return what stays of the names when ends are written into them, by a task or with Slurm's verdict."""
    return {name.rsplit(".", 1)[0] if name.endswith(_RUNNING) else name.rsplit(".", 2)[0] for name in names}


def _check_idle(status: RunStatus, marked: bool, listed: _Listed) -> None:
    """Raise BadInput where a run isn't complete or a task of it runs, SlurmUnanswered where one may run."""
    run, records = status.run, status.evidence.records
    if not (status.complete or marked) or status.active_jobs:
        raise BadInput(
            f"{run.label} is not complete: {status.summary()}", "its records, logs and results are folded when it is"
        )
    recorded = status.complete and status.evidence.recorded_complete
    unclear = [task for task in status.indices(TaskState.UNKNOWN) if task in records and not records[task].ended]
    if not recorded and (status.problem is not None or unclear):
        raise SlurmUnanswered(
            f"{run.label}: nothing was folded, for tasks of it may be running: "
            f"{status.problem or f'nobody knows of {format_ranges(unclear)}'}",
            "try again later",
        )
    begun = _record_names(run) - listed.records
    tasks = {int(stem.partition(".")[0]) for stem in _attempts(begun) - _attempts(listed.records)}
    # Not what has just been noted of those that never ran.
    tasks -= {task for task, _ in status.news.unrecorded}
    if tasks:
        raise BadInput(
            f"{run.label} is not complete: tasks {format_ranges(sorted(tasks))} have begun by now",
            "its records, logs and results are folded when it is",
        )


def _is_as_before(run: RunDir, moment: int | None) -> bool:
    """Return whether no record has come or gone since; no task begins without one, in a run that has records."""
    return stage.records_moment(run) == moment


def _fold_records(run: RunDir, evidence: Evidence, context: Context, names: frozenset[str]) -> int:
    """Fold the records; the mark that the run is complete stays one of its present records."""
    marked = stage.has_own_mark(run) and stage.is_marked(run, evidence.submissions)
    number = _fold(run, context, names)
    after = gather(run) if marked else None
    # Not where a rerun by hand has begun meanwhile: its record voids the mark.
    if after is not None and after.recorded_complete and _attempts(_record_names(run)) <= _attempts(names):
        require(run.lock, run.label)
        mark_complete(after)
    return number


def _fold(run: RunDir, context: Context, judged: frozenset[str]) -> int:
    """Write the records of ended attempts, earlier ones too, as lines `<name> <content>`; remove their files.

    Only of attempts that are among the `judged` ones as ended. Slurm's word may have come into their names since.
    """
    ended = _attempts(name for name in judged if not name.endswith(_RUNNING))
    names = sorted(
        (name for name in _record_names(run) if not name.endswith(_RUNNING) and _attempts((name,)) <= ended),
        key=folded_order,
    )
    if not names:
        return 0
    again = set(names)  # an earlier fold may have been killed before it removed them
    written: dict[str, Signature] = {}
    directory = os.open(run.tasks, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def added() -> Iterator[str]:
        for name in names:
            try:
                signature = signature_of(os.stat(name, dir_fd=directory, follow_symlinks=False))
                content = read_at(directory, name, run.tasks)
            except (CorruptState, OSError) as error:
                context.say(f"{run.label}: left where it is: {_why(error)}")
                continue
            written[name] = signature
            yield f"{name} {_one_line(content)}"

    try:
        before = (line for line in folded_lines(run) if line.partition(" ")[0] not in again)
        write_folded(run, merge(before, added(), key=folded_order), still(run.lock, run.label))
    finally:
        os.close(directory)
    require(run.lock, run.label)
    return remove(run.tasks, written, aside=False)


def _fold_logs(run: RunDir, listed: _Listed, context: Context, still_idle: Callable[[], bool]) -> int:
    """Put the run's own logs that lie in cwd/ into one archive; a later one of the same name outranks an earlier one.

    A log that can't be read, or whose name no zip can hold, stays where it is; so do all that are left once a task has
    begun: which of them it writes into nobody knows.
    """
    if not listed.logs:
        return 0
    written: dict[str, Signature] = {}
    with (
        naming(run.folded_logs),
        replacing(run.folded_logs, check=still(run.lock, run.label)) as descriptor,
        os.fdopen(os.dup(descriptor), "wb") as stream,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        if is_there(run.folded_logs):
            with zipped.reading(run.folded_logs) as before:
                for info in before.infolist():
                    if info.filename not in listed.logs:
                        zipped.copy_member(before, info, archive)
        for name, signature in listed.logs.items():
            try:
                zipped.add(archive, run.cwd / name)
            except zipped.Unfit as error:
                context.say(f"{run.label}: left where it is: {error}")
            else:
                written[name] = signature
    require(run.lock, run.label)
    removed = remove(run.cwd, written, still_idle)
    if removed < len(written):
        context.say(f"{run.label}: {len(written) - removed} logs are left where they are, for something has begun")
    return removed


def _log_patterns(called: RunLogs) -> list[Pattern]:
    """Return the patterns of logs that are folded.

    Left alone are those outside of cwd/, those that a worker's own files can't be told from, and error output.
    """
    series = (item for items in called.series.values() for item in items)
    patterns = {item.pattern for item in series if item.stream is not LogKind.ERROR}
    return [pattern for pattern in patterns if pattern.telling and len(pattern.split()) == 1]


def _fold_results(run: RunDir, context: Context, listed: _Listed) -> int:
    """Write results as lines of one file, sorted by task, and remove their files.

    Whatever bears a number is kept, be it a task's or not, in a file or in a line; the text of a worker's results stays
    as it is. What no line can hold stays where it is, and so does what was written since Slurm was asked.
    """
    remove(run.results, listed.halves)
    if not listed.results:
        return 0
    written: dict[str, Signature] = {}

    def added() -> Iterator[tuple[int, bytes]]:
        for task in sorted(find_files(run.results)):
            path = run.result_file(task)
            try:
                signature = listed.results.get(path.name)
                if signature is None or signature_of(path.lstat()) != signature:
                    continue
                line = as_line(run, task)
            except FileNotFoundError:
                continue  # somebody else is at it
            except Unfit as error:
                context.say(f"{run.label}: left where it is: {error}")
                continue
            written[path.name] = signature
            yield task, line

    def lines() -> Iterator[bytes]:
        for _, same in groupby(merge(folded(run), added(), key=_number), key=_number):
            *_, (_, line) = same  # the file's, where there is one
            yield line

    with naming(run.results_lines), replacing(run.results_lines, check=still(run.lock, run.label)) as descriptor:
        write_lines(descriptor, lines())
    require(run.lock, run.label)
    return remove(run.results, written)


def _number(line: tuple[int, bytes]) -> int:
    return line[0]


def read_log(run: RunDir, path: Path) -> Iterator[bytes] | None:
    """Return what a log that was folded holds, in pieces; None where there is no such log. Raises CorruptState."""
    try:
        with zipped.reading(run.folded_logs) as archive:
            # Where nobody knows any more on which node a task ran, that part of the name is a wildcard.
            names = [name for name in archive.namelist() if name == path.name or fnmatchcase(name, path.name)]
    except FileNotFoundError:
        return None
    return zipped.read(run.folded_logs, names[-1]) if names else None


def _why(error: CorruptState | OSError) -> str:
    return error.message if isinstance(error, CorruptState) else f"{error.filename}: {error.strerror}"


def _one_line(content: bytes) -> str:
    return " ".join(content.decode("utf-8", "surrogateescape").split())
