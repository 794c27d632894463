"""Read the parameter sets of a run: a file for each task, or all of them as the lines of one file.

The one file `parameters.jsonl` holds task n in line n, from 0; where it is, it is the truth, whatever files
`parameters.<n>.json` are beside it (jobs make them for a while). `parameters.index` holds the byte offset of each of
its lines in 16 decimal digits and a newline, so that entry n is at byte 17 n.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from esis.errors import BadInput, CorruptState, UserScriptFailed
from esis.files import STATE_FILE_LIMIT, is_there, naming, open_regular, parse_json, read_at, replacing, write_all
from esis.model.index_sets import MOST_TASKS, as_sequence, find_parameter_files
from esis.model.workdir import INDEX_ENTRY, PARAMETERS_INDEX, PARAMETERS_LINES, RunDir

_BATCH = 8192  # index entries written at a time


class ParameterSets:
    """Give the parameter sets of one run, in whatever form they are kept."""

    def __init__(self, run: RunDir) -> None:
        """Look which form it is; the content is read when it is asked for."""
        self._run = run
        self.in_lines = is_there(run.parameters_lines)

    def indices(self) -> Sequence[int]:
        """Return the sorted indices of all tasks. Raises OSError, CorruptState."""
        if self.in_lines:
            return range(self.count())
        return find_parameter_files(self._run.parameters)

    def count(self) -> int:
        """Return how many parameter sets there are. Raises OSError, CorruptState."""
        if not self.in_lines:
            return len(find_parameter_files(self._run.parameters))
        path = self._run.parameters_index
        try:
            with open_regular(path) as stream:
                size = os.fstat(stream.fileno()).st_size
        except FileNotFoundError:
            return _count_lines(self._run.parameters_lines)
        if size % INDEX_ENTRY:
            raise _bad_index(path, f"its size is no multiple of {INDEX_ENTRY}")
        if size // INDEX_ENTRY > MOST_TASKS:
            raise _bad_index(path, f"it has more than {MOST_TASKS} entries")
        return size // INDEX_ENTRY

    def missing(self, tasks: Sequence[int]) -> list[int]:
        """Return which of some sorted tasks have no parameter set; costs one listing. Raises OSError, CorruptState."""
        there = self.indices()
        if len(there) >= len(tasks) and as_sequence(there) == as_sequence(tasks):
            return []
        known = there if isinstance(there, range) else set(there)
        return [task for task in tasks if task not in known]

    def get(self, task: int) -> Mapping[str, Any]:
        """Return the parameter set of a task; one that is no JSON object has the single key `value`.

        Raises BadInput where there is none or it can't be read.
        """
        for _, parameters in self.iterate((task,)):
            return parameters
        raise BadInput(f"{self._run.label} has no parameter set {task}")

    def iterate(self, tasks: Iterable[int]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield each of `tasks` with its parameter set, in their order, holding one at a time.

        One file is open at a time, and reading goes forward where the tasks do. Raises BadInput as `get` does.
        """
        return self._from_lines(tasks) if self.in_lines else self._from_files(tasks)

    def _from_files(self, tasks: Iterable[int]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        place = self._run.parameters
        try:
            directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise BadInput(f"{place} is missing") from None
        try:
            for task in tasks:
                name = f"parameters.{task}.json"
                try:
                    data = read_at(directory, name, place)
                except FileNotFoundError:
                    raise BadInput(f"{place / name} is missing") from None
                try:
                    value = parse_json(data)
                except (ValueError, RecursionError) as error:
                    raise BadInput(f"{place / name} is no JSON: {error}") from None
                yield task, value if type(value) is dict else {"value": value}
        finally:
            os.close(directory)

    def _from_lines(self, tasks: Iterable[int]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        path = self._run.parameters_lines
        with open_regular(path) as stream, _Offsets(self._run.parameters_index, path) as offsets:
            following = 0  # number of the line that the stream stands before
            for task in tasks:
                if task != following and task >= 0:
                    _go_to(stream, task, following, offsets)
                line = stream.readline(STATE_FILE_LIMIT) if task >= 0 else b""
                if not line:
                    raise BadInput(f"{path} has no line {task + 1}, for task {task}")
                following = task + 1
                try:
                    value = parse_json(line)
                except (ValueError, RecursionError) as error:
                    raise BadInput(f"{path}: line {following} is no JSON: {error}") from None
                yield task, value if type(value) is dict else {"value": value}


class _Offsets:
    """Know at which byte each line begins, if there is an index."""

    def __init__(self, index: Path, lines: Path) -> None:
        self._path = index
        self._lines = lines

    def __enter__(self) -> _Offsets:
        try:
            self._index: BinaryIO | None = open_regular(self._path)
        except FileNotFoundError:
            self._index = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._index is not None:
            self._index.close()

    def of(self, task: int) -> int | None:
        """Return the offset of a task's line; None where there is no index. Raises BadInput, CorruptState."""
        if self._index is None:
            return None
        entry = os.pread(self._index.fileno(), INDEX_ENTRY, task * INDEX_ENTRY)
        if not entry:
            raise BadInput(f"{self._lines} has no line {task + 1}, for task {task}")
        if len(entry) != INDEX_ENTRY or not entry[:-1].isdigit():
            raise _bad_index(self._path, f"entry {task} is {entry!r}")
        return int(entry)

    def check(self, stream: BinaryIO, task: int, offset: int) -> None:
        """Raise CorruptState unless a line begins at `offset`; leaves the stream there."""
        stream.seek(max(0, offset - 1))
        if offset and stream.read(1) != b"\n":
            raise _bad_index(self._path, f"no line begins at byte {offset}, where that of task {task} should")


def _go_to(stream: BinaryIO, task: int, following: int, offsets: _Offsets) -> None:
    """Move to the line of a task: by the index, or by reading on where there is none."""
    offset = offsets.of(task)
    if offset is not None:
        offsets.check(stream, task, offset)
        return
    if task < following:
        stream.seek(0)
        following = 0
    while following < task and stream.readline(STATE_FILE_LIMIT):
        following += 1


def write_index(path: Path) -> int:
    """Write `parameters.index` beside the `parameters.jsonl` at `path`; return the number of its lines.

    Reads a line at a time. No line may be empty but the last ones; the first has to be JSON by itself, for text that
    is indented over several lines is the usual mistake. Raises UserScriptFailed with the number of the line, OSError.
    """
    count = offset = blank = 0
    batch: list[bytes] = []
    index = path.with_name(PARAMETERS_INDEX)
    with open_regular(path) as stream, naming(index), replacing(index) as descriptor:
        while line := stream.readline(STATE_FILE_LIMIT):
            number = count + 1
            if not line.strip():
                blank = blank or number
            elif blank:
                raise UserScriptFailed(f"{path}: line {blank} is empty", "write one JSON object a line")
            else:
                if len(line) == STATE_FILE_LIMIT:
                    raise UserScriptFailed(f"{path}: line {number} has {STATE_FILE_LIMIT} bytes or more")
                if count == 0:
                    _check_json(line, path)
                batch.append(b"%016d\n" % offset)
                count = number
                if count > MOST_TASKS:
                    raise UserScriptFailed(
                        f"{path} has more than {MOST_TASKS} lines, and a run has no more tasks",
                        "make several workflows of it, or let a task do more",
                    )
            offset += len(line)
            if len(batch) == _BATCH:
                write_all(descriptor, b"".join(batch))
                batch.clear()
        if count == 0:
            raise UserScriptFailed(f"{path}: line 1 is empty", "write one JSON object a line")
        write_all(descriptor, b"".join(batch))
    return count


def _check_json(line: bytes, path: Path) -> None:
    try:
        json.loads(line.decode("utf-8", "surrogatepass"))  # as text: of bytes a byte order mark would be skipped
    except (ValueError, RecursionError) as error:
        raise UserScriptFailed(
            f"{path}: line 1 is no JSON by itself: {error}", "write each parameter set on one line, in UTF-8"
        ) from None


def _count_lines(path: Path) -> int:
    """Count the lines that hold something."""
    with open_regular(path) as stream:
        count = sum(1 for line in iter(lambda: stream.readline(STATE_FILE_LIMIT), b"") if line.strip())
    if count > MOST_TASKS:
        raise CorruptState(f"{path} holds {count} lines, and a run has {MOST_TASKS} tasks at most")
    return count


def _bad_index(path: Path, why: str) -> CorruptState:
    return CorruptState(
        f"{path} is corrupt: {why}", f"remove it: without it {PARAMETERS_LINES} is read from its beginning"
    )
