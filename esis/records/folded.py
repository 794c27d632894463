"""Read and write the task records that `esis compact` has folded into one file: a line `<name> <content>` each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from esis.errors import CorruptState
from esis.files import STATE_FILE_LIMIT, naming, open_regular, replacing, write_lines
from esis.model.workdir import RunDir

_BLOCK = 1024 * 1024  # bytes looked at together


def folded_names(run: RunDir) -> Iterator[str]:
    """Yield the names of the records that were folded; many lines at a time are faster."""
    for lines in _blocks(run):
        names = [line.partition(b" ")[0] for line in lines]
        yield from b"\n".join(names).decode("utf-8", "surrogateescape").split("\n")


def folded_lines(run: RunDir) -> Iterator[str]:
    """Yield the lines `<name> <content>` of the records that were folded. Raises OSError, CorruptState."""
    for lines in _blocks(run):
        for line in lines:
            yield line.decode("utf-8", "surrogateescape")


def write_folded(run: RunDir, lines: Iterable[str], check: Callable[[], None]) -> None:
    """Let these lines be all that is folded, if `check` raises nothing at the last moment. Raises OSError."""
    with naming(run.folded_tasks), replacing(run.folded_tasks, check=check) as descriptor:
        write_lines(descriptor, (line.encode("utf-8", "surrogateescape") for line in lines))


def folded_order(line: str) -> tuple[int, str]:
    """Return the place of a record, or of its line, among those that are folded."""
    name = line.partition(" ")[0]
    task = name.partition(".")[0]
    return int(task) if task.isascii() and task.isdigit() else -1, name


def _blocks(run: RunDir) -> Iterator[list[bytes]]:
    """Yield the lines of the folded records, a bounded number of bytes at a time. Raises OSError, CorruptState."""
    path = run.folded_tasks
    try:
        stream = open_regular(path)
    except FileNotFoundError:
        return
    with stream:
        rest = b""
        while block := stream.read(_BLOCK):
            *lines, rest = (rest + block).split(b"\n")
            if len(rest) > STATE_FILE_LIMIT:
                raise CorruptState(f"{path} is corrupt: a line has more than {STATE_FILE_LIMIT} bytes")
            if lines:
                yield lines
        if rest:
            yield [rest]
