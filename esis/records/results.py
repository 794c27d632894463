"""Read the results that tasks exported: a file for each, or, of a run that was compacted, the lines of one file.

`results.jsonl` holds lines `{"task": 5, "results": {…}}` sorted by task, in which the results are the text that the
worker wrote. A file `results.<n>.json` outranks the line of the same task: it was written by a later attempt. Arrays
are in files `results.<n>.<name>.npy` beside them.
"""

from __future__ import annotations

import json
import os
import re
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from esis.errors import Busy, CorruptState
from esis.files import LINE_LIMIT, is_there, open_regular, parse_json, read_at, read_limited
from esis.model.workdir import RunDir

_FILE = re.compile(r"results\.(0|[1-9][0-9]{0,11})\.json\Z")
_BEHIND_ALL = 10**13  # is no task's number
_SPARE = 64  # levels; who reads a line may stand deeper in calls of its own than who wrote it
_ENDS = bytes.maketrans(b"\r\n", b"  ")

Exported = Mapping[str, Any]


class Unfit(Exception):
    """Report results that no line can hold so that they can be read again."""


class Results:
    """Give what the tasks of one run exported, in whatever form it is kept."""

    def __init__(self, run: RunDir, unfinished: Callable[[int], bool] = lambda task: False) -> None:
        """Take the run; what there is is read when it is asked for.

        Of tasks that are `unfinished` a file may be half written: what is no JSON is none so far.
        """
        self._run = run
        self._unfinished = unfinished

    def get(self, task: int) -> Exported | None:
        """Return what a task exported; None where it did not. Raises CorruptState, OSError."""
        return next(iter(self.iterate((task,))))[1]

    def iterate(self, tasks: Iterable[int]) -> Iterator[tuple[int, Exported | None]]:
        """Yield each of `tasks`, which ascend, with what it exported, holding one at a time; None where it did not.

        What is no JSON object has the single key `value`. Somebody may compact the run meanwhile. Raises CorruptState
        naming the file, Busy where a task can't be looked up any more because of that, OSError.
        """
        coming = iter(tasks)
        task = next(coming, None)
        with _Reading(self._run, self._unfinished) as reading:
            while task is not None:
                following = next(coming, None)
                found = reading.of(task)
                if following is None:
                    reading.check()
                yield task, found
                task = following


class _Reading:
    """Go through the results of a run once, and notice where somebody folds them meanwhile.

    Folding puts the lines into their place before it removes a file. So where there is no file, or none any more, the
    lines that are there *then* tell; they may be others than those in hand.
    """

    def __init__(self, run: RunDir, unfinished: Callable[[int], bool]) -> None:
        self._run = run
        self._unfinished = unfinished
        self._path = run.results_lines
        self._directory = -1  # open, where there is one
        self._stream: BinaryIO | None = None
        self._seen: tuple[int, ...] = ()
        self._files: Collection[int] | None = None  # which tasks have files; None: each has to be tried
        self._lines: Iterator[tuple[int, Exported]] = iter(())
        self._there, self._value = _BEHIND_ALL, None  # type: int, Exported | None
        self._missed = array("q")  # tasks that had no file when there were no lines

    def __enter__(self) -> _Reading:
        try:
            self._directory = os.open(self._run.results, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._files = ()
            return self
        try:
            self._look()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()
        if self._directory >= 0:
            os.close(self._directory)

    def of(self, task: int) -> Exported | None:
        """Return what a task exported; they are to be asked for in ascending order."""
        while self._files is None or task in self._files:
            found = self._from_file(task)
            if found is not None:
                return found
            if not self._look():
                if self._files is None:
                    self._missed.append(task)
                break
        while self._there < task:
            self._there, self._value = next(self._lines, (_BEHIND_ALL, None))
        return self._value if self._there == task else None

    def check(self) -> None:
        """Raise Busy where a task was said to have no results and has some in lines that came to light later.

        A client of NFS may say for up to a minute that there is no such file; whoever opens the directory asks anew.
        """
        if not self._missed:
            return
        if self._stream is None:
            os.close(os.open(self._run.results, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            if not self._look():
                return
        missed = set(self._missed)
        with open_regular(self._path) as stream:
            if any(task in missed for task, _ in _values(stream, self._path)):
                raise Busy(f"the results of {self._run.label} were folded while they were read", "repeat the command")

    def _look(self) -> bool:
        """Open the lines where they are there, and others than those in hand. Raises CorruptState, OSError."""
        if self._stream is None and not is_there(self._path):
            return False
        try:
            if self._stream is not None:
                with open_regular(self._path) as stream:  # to open a file asks also a server of NFS which one it is
                    if _identity(os.fstat(stream.fileno())) == self._seen:
                        return False
            # Listed before the lines are opened: what is folded in between is in both, and is looked for once more.
            files = frozenset(find_files(self._run.results))
            stream = open_regular(self._path)
        except FileNotFoundError:
            return False
        if self._stream is not None:
            self._stream.close()
        self._stream, self._files = stream, files
        self._seen = _identity(os.fstat(stream.fileno()))
        self._lines = _values(stream, self._path)
        self._there, self._value = -1, None
        return True

    def _from_file(self, task: int) -> Exported | None:
        name = f"results.{task}.json"
        try:
            data = read_at(self._directory, name, self._run.results)
        except FileNotFoundError:
            return None
        try:
            value = _parse_file(data, self._run.result_file(task), task)
        except CorruptState:
            if self._unfinished(task):
                return None
            raise
        return value if type(value) is dict else {"value": value}


def _parse_file(data: bytes, path: Path, task: int) -> Any:
    try:
        return parse_json(data)
    except (ValueError, RecursionError) as error:
        what = str(error) if data.strip() else "it is empty"
        raise CorruptState(
            f"{path} is no JSON: {what}",
            f"mend it, or run the task once more: esis resubmit --tasks {task} (done: with --state done)",
        ) from None


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def find_files(directory: Path) -> Iterator[int]:
    """Yield the tasks, in no order, that have a file of results in `directory`; none where it is missing."""
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                match = _FILE.match(entry.name)
                if match is not None:
                    yield int(match.group(1))
    except FileNotFoundError:
        return


def _values(stream: BinaryIO, path: Path) -> Iterator[tuple[int, Exported]]:
    """Yield task and results of each line. Raises CorruptState naming the line."""
    for task, value, _ in _lines(stream, path):
        yield task, value if type(value) is dict else {"value": value}


def _lines(stream: BinaryIO, path: Path) -> Iterator[tuple[int, Any, bytes]]:
    """Yield task, results and the line itself. Raises CorruptState naming the line."""
    before = -1
    number = 0
    while line := stream.readline(LINE_LIMIT + 1):
        number += 1
        if len(line) > LINE_LIMIT:
            raise CorruptState(f"{path} is corrupt: line {number} has more than {LINE_LIMIT} bytes")
        try:
            value = _parse_line(line)
            task, results = value["task"], value["results"]
        except (ValueError, RecursionError, TypeError, KeyError) as error:
            raise CorruptState(f"{path} is corrupt: line {number}: {error!r}") from None
        if type(task) is not int or task <= before:
            raise CorruptState(f"{path} is corrupt: line {number}: tasks don't ascend ({task!r} after {before})")
        before = task
        yield task, results, line


def _parse_line(line: bytes) -> Any:
    """Return what a line holds; 0.1.0 wrote bytes of texts that are no UTF-8 as they are."""
    try:
        return parse_json(line)
    except UnicodeDecodeError:
        return parse_json(line.decode("utf-8", "surrogateescape"))


# --- for folding


def folded(run: RunDir) -> Iterator[tuple[int, bytes]]:
    """Yield task and line, without its end, of what was folded already. Raises CorruptState, OSError."""
    try:
        stream = open_regular(run.results_lines)
    except FileNotFoundError:
        return
    with stream:
        for task, _, line in _lines(stream, run.results_lines):
            yield task, _valid(line.rstrip(b"\r\n"), "surrogateescape")


def as_line(run: RunDir, task: int) -> bytes:
    """Return the line, without its end, that says what the file of a task says.

    Texts and numbers stay as the worker wrote them, and so does a key that stands there twice. Raises CorruptState,
    Unfit, OSError.
    """
    path = run.result_file(task)
    data = read_limited(path)
    _parse_file(data, path, task)
    encoding = json.detect_encoding(data)
    if encoding != "utf-8":
        data = data.decode(encoding, "surrogatepass").encode("utf-8", "backslashreplace")
    # In JSON ends of lines are between tokens alone.
    text = _valid(data, "surrogatepass").strip(b" \t\r\n").translate(_ENDS)
    line = b'{"task": %d, "results": %b}' % (task, text)
    if len(line) >= LINE_LIMIT:
        raise Unfit(f"{path}: its line would have {len(line)} bytes, of which {LINE_LIMIT} can be read")
    try:
        _parse_line(b"[" * _SPARE + line + b"]" * _SPARE)
    except RecursionError:
        raise Unfit(f"{path}: it is nested so deeply that its line might not be read again") from None
    except ValueError as error:
        raise Unfit(f"{path}: its line could not be read again: {error}") from None
    return line


def _valid(text: bytes, errors: str) -> bytes:
    """Return UTF-8 for what may have bytes in texts that are none; they become JSON's own escapes."""
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("utf-8", errors).encode("utf-8", "backslashreplace")
    return text
