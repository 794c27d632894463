"""Find the lines of one task in a file into which `esis compact` folded those of all, sorted by task.

Nothing but the lines themselves is held in memory, and of a file of any size a few places are looked at.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from esis.errors import CorruptState
from esis.files import LINE_LIMIT, open_regular
from esis.model.workdir import RunDir
from esis.worker.objects import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, BinaryIO

_HEAD = 256  # bytes of a line that tell its task
_STEP = 64 * 1024  # bytes read at a time
_RESULTS = re.compile(rb'\s*\{\s*"task"\s*:\s*([0-9]{1,12})\s*,')


def results_of(run: RunDir, task: int) -> dict[str, Any]:
    """Return what results.jsonl holds of a task; nothing where there is no such line. Raises OSError, CorruptState."""
    path = run.results_lines

    def number(head: bytes) -> int:
        match = _RESULTS.match(head)
        if match is None:
            raise CorruptState(f"{path} is corrupt: a line begins with {head[:40]!r}")
        return int(match.group(1))

    for line in _lines_of(path, task, number):
        value = parse(line, f"{path}, the line of task {task},")
        try:
            results = value["results"]
        except (TypeError, KeyError):
            raise CorruptState(f"{path} is corrupt: the line of task {task} holds no results") from None
        return results if isinstance(results, dict) else {"value": results}
    return {}


def names_of(run: RunDir, task: int) -> Iterator[str]:
    """Yield the names of the records of a task that were folded into tasks.txt. Raises OSError, CorruptState."""
    for line in _lines_of(run.folded_tasks, task, _task_of_record):
        yield line.partition(b" ")[0].decode("ascii", "replace")


def _task_of_record(head: bytes) -> int:
    digits = head.partition(b".")[0]
    return int(digits) if digits.isdigit() else -1


def _lines_of(path: Path, task: int, number: Callable[[bytes], int]) -> Iterator[bytes]:
    """Yield the lines whose beginning tells this number, of a file sorted by it; none where the file is missing."""
    try:
        stream = open_regular(path)
    except FileNotFoundError:
        return
    with stream:
        first: int | None = None
        # Lines that begin before `low` have smaller numbers, those that begin at `high` or behind it don't.
        low, high = 0, os.fstat(stream.fileno()).st_size
        while low < high:
            middle = (low + high) // 2
            begin = _begin(stream, middle, high)
            if begin is None:
                high = middle
                continue
            stream.seek(begin)
            if number(stream.read(_HEAD)) < task:
                low = begin + 1
            else:
                first, high = begin, middle
        if first is None:
            return
        stream.seek(first)
        while (line := stream.readline(LINE_LIMIT + 1)) and number(line[:_HEAD]) == task:
            if len(line) > LINE_LIMIT:
                raise CorruptState(f"{path} is corrupt: the line of task {task} has more than {LINE_LIMIT} bytes")
            yield line


def _begin(stream: BinaryIO, least: int, end: int) -> int | None:
    """Return where the first line begins that begins at `least` or behind it, and before `end`."""
    if least == 0:
        return 0
    at = least - 1  # a line begins behind the end of another one
    stream.seek(at)
    while at < end - 1:
        block = stream.read(min(_STEP, end - 1 - at))
        if not block:
            return None
        found = block.find(b"\n")
        if found >= 0:
            return at + found + 1
        at += len(block)
    return None
