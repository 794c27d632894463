"""Fold what a complete run has many of into one file each: task records, logs and, on request, results.

The one file is durable before anything it holds is removed, so that a kill at any moment costs nothing: the same
command goes on. Every command reads both forms, and what is written afterwards outranks what was folded.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from heapq import merge
from itertools import groupby, islice
from pathlib import Path

from esis.errors import BadInput, CorruptState, EsisError
from esis.files import CHUNK, is_there, naming, read_at, replacing, sweep_temporaries, write_all
from esis.locks import require, still
from esis.model.index_sets import find_parameter_files
from esis.model.log_pattern import Pattern
from esis.model.workdir import RunDir
from esis.operations.build.prepare import hold_run
from esis.operations.context import Context
from esis.operations.logs import zipped
from esis.operations.logs.whose import Whose
from esis.operations.witness.evidence import Evidence, gather
from esis.operations.witness.keep import look_and_keep, mark_complete
from esis.records import stage
from esis.records.log_names import LogKind, RunLogs
from esis.records.results import Unfit, as_line, find_files, folded, identity
from esis.records.tasks import TaskRecord, folded_lines
from esis.schedulers.base import Scheduler

WORTH_IT = 1000  # records; fewer files are no burden on anybody, and people like to look at them


@dataclass(frozen=True)
class Compacted:
    """Count the files that were folded, and thus removed."""

    records: int = 0
    logs: int = 0
    results: int = 0
    parameters: int = 0  # left behind by tasks whose end removed nothing


def compact(run: RunDir, scheduler: Scheduler, context: Context, logs: bool = True, results: bool = False) -> Compacted:
    """Fold records and logs (and results) of a complete run. Raises BadInput where it isn't complete, OSError."""
    with hold_run(run, context) as evidence:
        # A rerun by hand may wait behind a mark that says that the run is complete.
        status = look_and_keep(evidence._replace(marked_complete=False), scheduler)
        if not (status.complete or evidence.marked_complete) or status.active_jobs:
            raise BadInput(
                f"{run.label} is not complete: {status.summary()}",
                "its records, logs and results are folded when it is",
            )
        # Results first: they are the only ones that a damaged file of a task's own can keep from being folded.
        moved = _fold_results(run, context) if results else 0
        kept = _fold_logs(run, evidence, context) if logs else 0
        return Compacted(_fold_records(run, context), kept, moved, _remove_parameters(run))


def fold_if_many(run: RunDir, context: Context) -> None:
    """Fold the records of a run that was found complete, if they are many; not if anything is in the way."""
    try:
        with os.scandir(run.tasks) as entries:
            many = sum(1 for _ in islice(entries, WORTH_IT)) >= WORTH_IT
        if many:
            with hold_run(run, context):
                context.say(f"{run.label}: complete; folding its task records into one file")
                _fold_records(run, context)
    except (EsisError, OSError):
        return  # somebody else is at it, or it is somebody else's run: another command will do it


def _fold_records(run: RunDir, context: Context) -> int:
    """Fold the records; the mark that the run is complete stays one of its present records."""
    if not stage.has_own_mark(run):
        return _fold(run, context)
    before = gather(run)
    number = _fold(run, context)
    after = gather(run)
    # Not where a rerun by hand has begun meanwhile: its record voids the mark.
    if before is not None and before.marked_complete and after is not None and after.recorded_complete:
        mark_complete(after)
    return number


def _fold(run: RunDir, context: Context) -> int:
    """Write all records, older attempts too, as lines `<name> <content>`; remove their files."""
    try:
        names = sorted((name for name in os.listdir(run.tasks) if TaskRecord.parse(name) is not None), key=_order)
    except FileNotFoundError:
        return 0
    if not names:
        return 0
    again = set(names)  # an earlier fold may have been killed before it removed them
    written: list[str] = []
    directory = os.open(run.tasks, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def added() -> Iterator[str]:
        for name in names:
            try:
                content = read_at(directory, name, run.tasks)
            except (CorruptState, OSError) as error:
                context.say(f"{run.label}: left where it is: {_why(error)}")
                continue
            written.append(name)
            yield f"{name} {_one_line(content)}"

    try:
        with naming(run.folded_tasks), replacing(run.folded_tasks, check=still(run.lock, run.label)) as descriptor:
            before = (line for line in folded_lines(run) if line.partition(" ")[0] not in again)
            _write_lines(descriptor, merge(before, added(), key=lambda line: _order(line.partition(" ")[0])))
        require(run.lock, run.label)
        for name in written:
            with suppress(FileNotFoundError):  # another one may be at it as well
                os.unlink(name, dir_fd=directory)
    finally:
        os.close(directory)
    return len(written)


def _fold_logs(run: RunDir, evidence: Evidence, context: Context) -> int:
    """Put the run's own logs that lie in cwd/ into one archive; a later one of the same name outranks an earlier one.

    A log that can't be read, or whose name no zip can hold, stays where it is.
    """
    whose = Whose(run, evidence)
    patterns = _log_patterns(whose.called)
    names = sorted(
        entry.name
        for entry in os.scandir(run.cwd)
        if entry.is_file(follow_symlinks=False) and any(whose.read(pattern, entry.name) for pattern in patterns)
    )
    if not names:
        return 0
    again = set(names)
    written: list[str] = []
    with (
        naming(run.folded_logs),
        replacing(run.folded_logs, check=still(run.lock, run.label)) as descriptor,
        os.fdopen(os.dup(descriptor), "wb") as stream,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        if is_there(run.folded_logs):
            with zipped.reading(run.folded_logs) as before:
                for info in before.infolist():
                    if info.filename not in again:
                        zipped.copy_member(before, info, archive)
        for name in names:
            try:
                zipped.add(archive, run.cwd / name)
            except zipped.Unfit as error:
                context.say(f"{run.label}: left where it is: {error}")
            else:
                written.append(name)
    require(run.lock, run.label)
    for name in written:
        (run.cwd / name).unlink(missing_ok=True)
    return len(written)


def _log_patterns(called: RunLogs) -> list[Pattern]:
    """Return the patterns of logs that are folded.

    Left alone are those outside of cwd/, those that a worker's own files can't be told from, and error output.
    """
    series = (item for items in called.series.values() for item in items)
    patterns = {item.pattern for item in series if item.stream is not LogKind.ERROR}
    return [pattern for pattern in patterns if pattern.telling and len(pattern.split()) == 1]


def _fold_results(run: RunDir, context: Context) -> int:
    """Write all results as lines of one file, sorted by task, and remove their files.

    Whatever bears a number is kept, be it a task's or not, in a file or in a line; the text of a worker's results stays
    as it is. What no line can hold stays where it is, and so does what was written while it was folded.
    """
    sweep_temporaries(run.results)
    files = sorted(find_files(run.results))
    if not files:
        return 0
    written: dict[int, tuple[int, ...]] = {}

    def added() -> Iterator[tuple[int, bytes]]:
        for task in files:
            try:
                line, written[task] = as_line(run, task)
            except FileNotFoundError:
                continue  # its task, or somebody else, is at it
            except Unfit as error:
                context.say(f"{run.label}: left where it is: {error}")
                continue
            yield task, line

    def lines() -> Iterator[bytes]:
        for _, same in groupby(merge(folded(run), added(), key=_number), key=_number):
            *_, (_, line) = same  # the file's, where there is one
            yield line

    with naming(run.results_lines), replacing(run.results_lines, check=still(run.lock, run.label)) as descriptor:
        _write(descriptor, lines())
    require(run.lock, run.label)
    return sum(_remove_if(run.result_file(task), seen) for task, seen in written.items())


def _number(line: tuple[int, bytes]) -> int:
    return line[0]


def _remove_if(path: Path, seen: tuple[int, ...]) -> bool:
    """Remove a file that was folded; not another one that has taken its place since."""
    try:
        if identity(path) != seen:
            return False
    except FileNotFoundError:
        return True
    path.unlink(missing_ok=True)
    return True


def _remove_parameters(run: RunDir) -> int:
    """Remove the files that tasks made of their lines of parameters.jsonl and didn't remove themselves."""
    if not is_there(run.parameters_lines):
        return 0
    left = [task for task in find_parameter_files(run.parameters) if not run.parameter_file(task).is_dir()]
    for task in left:
        run.parameter_file(task).unlink(missing_ok=True)
    return len(left)


def read_log(run: RunDir, path: Path) -> Iterator[bytes] | None:
    """Return what a log that was folded holds, in pieces; None where there is no such log. Raises CorruptState."""
    try:
        with zipped.reading(run.folded_logs) as archive:
            # Where nobody knows any more on which node a task ran, that part of the name is a wildcard.
            names = [name for name in archive.namelist() if name == path.name or fnmatchcase(name, path.name)]
    except FileNotFoundError:
        return None
    return zipped.read(run.folded_logs, names[-1]) if names else None


def _write_lines(descriptor: int, lines: Iterable[str]) -> None:
    _write(descriptor, (line.encode("utf-8", "surrogateescape") for line in lines))


def _write(descriptor: int, lines: Iterable[bytes]) -> None:
    """Write lines, many at a time where they are short."""
    batch: list[bytes] = []
    size = 0
    for line in lines:
        batch += (line, b"\n")
        size += len(line) + 1
        if size >= CHUNK:
            write_all(descriptor, b"".join(batch))
            batch.clear()
            size = 0
    write_all(descriptor, b"".join(batch))


def _why(error: CorruptState | OSError) -> str:
    return error.message if isinstance(error, CorruptState) else f"{error.filename}: {error.strerror}"


def _order(name: str) -> tuple[int, str]:
    task = name.partition(".")[0]
    return int(task) if task.isascii() and task.isdigit() else -1, name


def _one_line(content: bytes) -> str:
    return " ".join(content.decode("utf-8", "surrogateescape").split())
