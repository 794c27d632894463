"""Keep the table of an export: on disk while its columns are not all known, then as often as somebody reads it."""

from __future__ import annotations

import marshal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from esis.errors import BadInput
from esis.files import naming
from esis.operations.table.columns import ABSENT, MISSING, Cells, Chunk, Columns, as_numbers

CHUNK = 1000  # tasks held at a time
_LENGTH = 8  # bytes before each chunk
_SHOWN = 40  # names in a message


class Table(Protocol):
    """Give columns in chunks of rows; `kinds` holds the types in each column, that of MISSING among them."""

    names: Sequence[str]
    kinds: Sequence[frozenset[type]]

    def chunks(self) -> Iterator[Sequence[Cells]]:
        """Yield the cells of each column for the next rows."""
        ...


class Spool:
    """Keep chunks in a temporary file without a name, so that nothing is left behind whatever happens."""

    def __init__(self) -> None:
        """Make the file, where TMPDIR says. Raises OSError."""
        self._file = tempfile.TemporaryFile(prefix="esis-")  # noqa: SIM115  closed by `close`

    def add(self, count: int, chunk: Chunk) -> None:
        """Keep a chunk of so many rows. Raises OSError naming the place, ValueError for values nested too deep."""
        whole: Any = (count, chunk)  # what JSON holds, and MISSING
        data = marshal.dumps(whole)
        with naming(Path(tempfile.gettempdir())):
            self._file.write(len(data).to_bytes(_LENGTH, "big"))
            self._file.write(data)

    def chunks(self) -> Iterator[tuple[int, Chunk]]:
        """Yield the chunks as they were added."""
        with naming(Path(tempfile.gettempdir())):
            self._file.seek(0)  # which writes what is in memory still
        while data := self._next():
            yield marshal.loads(data)  # noqa: S302  of this very process

    def _next(self) -> bytes:
        with naming(Path(tempfile.gettempdir())):
            return self._file.read(int.from_bytes(self._file.read(_LENGTH), "big"))

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()


class Frame:
    """Hold the rows of an export and what is known of them once all were seen; use it as a context manager."""

    def __init__(self, columns: Columns) -> None:
        """Begin without rows; call `add` for each chunk and then `finish`."""
        self._columns = columns
        self._spool = Spool()
        self._numbers: Sequence[int] = ()
        self._spelt: frozenset[int] = frozenset()  # columns of numbers in which texts stand for NaN and infinities
        self.count = 0
        self.names: Sequence[str] = ()
        self.kinds: Sequence[frozenset[type]] = ()

    def __enter__(self) -> Frame:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what is on disk."""
        self.close()

    def close(self) -> None:
        """Remove what is on disk."""
        self._spool.close()

    def add(self, count: int, chunk: Chunk) -> None:
        """Take a chunk of so many rows."""
        self._spool.add(count, chunk)
        self.count += count

    def finish(self, left_out: Sequence[str], wanted: Sequence[str] | None) -> None:
        """Name the columns, and keep all but `left_out`, or those `wanted`. Raises BadInput for an unknown one."""
        named = self._columns.names()
        ordered = [named[number] for number in self._columns.order()]
        numbers = {name: number for number, name in enumerate(named)}
        self.names = [name for name in ordered if name not in left_out] if wanted is None else list(wanted)
        self._numbers = [_known(name, numbers, ordered) for name in self.names]
        self._spelt = frozenset(filter(self._columns.spells_numbers, self._numbers))
        kinds = [self._columns.kinds(number, self.count) for number in self._numbers]
        self.kinds = [
            (kind - {str}) | {float} if number in self._spelt else kind for number, kind in zip(self._numbers, kinds)
        ]

    def chunks(self) -> Iterator[Sequence[Cells]]:
        """Yield the wanted columns."""
        return self._picked(self._numbers)

    def with_task(self) -> Iterator[Sequence[Cells]]:
        """Yield the same, the index of the task before them."""
        return self._picked([0, *self._numbers])

    def _picked(self, numbers: Sequence[int]) -> Iterator[Sequence[Cells]]:
        for count, chunk in self._spool.chunks():
            blank: Cells = (MISSING,) * count
            cells = ((number, chunk.get(number, blank)) for number in numbers)
            yield [list(map(as_numbers, column)) if number in self._spelt else column for number, column in cells]


class Long:
    """Show a frame with a row for each value: task, name, value."""

    names: Sequence[str] = ("task", "name", "value")

    def __init__(self, frame: Frame) -> None:
        """Take a frame that is finished; its column `task` becomes no row of its own."""
        self._frame = frame
        kinds = [kinds for name, kinds in zip(frame.names, frame.kinds) if name != "task"]
        values: frozenset[type] = frozenset().union(*kinds) - {ABSENT}
        self.kinds: Sequence[frozenset[type]] = (frozenset({int}), frozenset({str}), values)

    def chunks(self) -> Iterator[Sequence[Cells]]:
        """Yield the values in the order of tasks and columns; what a task does not have has no row."""
        names = self._frame.names
        for task_cells, *columns in self._frame.with_task():
            rows: list[tuple[Any, str, Any]] = [
                (task, name, value)
                for task, *values in zip(task_cells, *columns)
                for name, value in zip(names, values)
                if value is not MISSING and name != "task"
            ]
            yield list(zip(*rows)) if rows else [(), (), ()]


def _known(name: str, numbers: dict[str, int], ordered: Sequence[str]) -> int:
    if name in numbers:
        return numbers[name]
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    raise BadInput(f"there is no column {name!r}", f"there are: {', '.join(ordered[:_SHOWN])}{more}")
