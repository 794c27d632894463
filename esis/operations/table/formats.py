"""Write a table as CSV, JSON Lines or Parquet; types are kept as far as each of them has them.

Text that is no valid Unicode (a lone surrogate, which JSON can hold) is written as JSON escapes it.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

from esis.errors import BadInput
from esis.operations.table.columns import ABSENT, MISSING, Cells
from esis.operations.table.frame import Table

if TYPE_CHECKING:
    import pyarrow

_ENDINGS = MappingProxyType(
    {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
)
_PLAIN = frozenset({int, float, str})
_QUOTED = re.compile('[,"\r\n]')  # what a CSV cell may hold only in quotes
_DOUBLE_BITS = 1023  # larger integers are no doubles


def format_of(name: str) -> str:
    """Return the format that the ending of a file's name means. Raises BadInput."""
    for ending, form in _ENDINGS.items():
        if name.lower().endswith(ending):
            return form
    raise BadInput(f"the name {name!r} tells no format", f"give --format, or end it with {', '.join(_ENDINGS)}")


def writer_of(form: str) -> Callable[[Table, BinaryIO], None]:
    """Return what writes that format. Raises BadInput where its library is missing."""
    if form == "parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise BadInput(
                f"Parquet needs pyarrow, which can't be imported ({error})",
                "install it with: pip install 'esis-slurm[parquet]'",
            ) from None
        return write_parquet
    return write_csv if form == "csv" else write_jsonl


def _bounded(write: Callable[[Table, BinaryIO], None]) -> Callable[[Table, BinaryIO], None]:
    """Let a value that is nested too deep for json be an error of whoever made it. Raises BadInput."""

    @functools.wraps(write)
    def written(table: Table, stream: BinaryIO) -> None:
        try:
            write(table, stream)
        except RecursionError:
            raise BadInput("there is a value nested too deep to be written", "--columns leaves it out") from None

    return written


@_bounded
def write_csv(table: Table, stream: BinaryIO) -> None:
    """Write a header and a line for each row. Raises OSError.

    Floats have all their digits; booleans are true and false; lists and empty objects are JSON; null, and what a task
    does not have, is an empty cell.
    """
    alone = len(table.names) == 1
    stream.write(_encoded(",".join(map(_quoted, table.names)) + "\n"))
    converters = [_csv_converter(kinds) for kinds in table.kinds]
    for chunk in table.chunks():
        columns = [convert(cells) for convert, cells in zip(converters, chunk)]
        # A line that is empty would be no row.
        lines = [cell or '""' for cell in columns[0]] if alone else list(map(",".join, zip(*columns)))
        lines.append("")
        stream.write(_encoded("\n".join(lines)))


@_bounded
def write_jsonl(table: Table, stream: BinaryIO) -> None:
    """Write a JSON object for each row; a key that a task does not have is left out. Raises OSError."""
    encode = json.JSONEncoder(ensure_ascii=False).encode
    gaps = any(ABSENT in kinds for kinds in table.kinds)
    names = table.names
    for chunk in table.chunks():
        rows = zip(*chunk)
        if gaps:
            lines = [encode({name: value for name, value in zip(names, row) if value is not MISSING}) for row in rows]
        else:
            lines = [encode(dict(zip(names, row))) for row in rows]
        lines.append("")
        stream.write(_encoded("\n".join(lines)))


@_bounded
def write_parquet(table: Table, stream: BinaryIO) -> None:
    """Write typed columns, as `column_type` says. Raises OSError."""
    import pyarrow as pa
    from pyarrow import parquet

    types = _types(table)
    schema = pa.schema([pa.field(_valid(name), getattr(pa, kind)()) for name, kind in zip(table.names, types)])
    with parquet.ParquetWriter(stream, schema, compression="zstd") as writer:
        for chunk in table.chunks():
            writer.write_batch(_batch(chunk, types, schema))


def column_type(kinds: frozenset[type]) -> str:
    """Return the Parquet type for a column with values of these types.

    One type alone is kept (int64, double, bool, string); integers beside floats become double; anything else, also
    integers beyond 64 bits, becomes string: texts as they are, all others as JSON.
    """
    kinds = kinds - {ABSENT, type(None)}
    single: Mapping[frozenset[type], str] = {
        frozenset({int}): "int64",
        frozenset({float}): "float64",
        frozenset({bool}): "bool_",
        frozenset({int, float}): "float64",
    }
    return single.get(kinds, "string") if kinds else "null"


def _types(table: Table) -> list[str]:
    """Return the type of each column; only where there are integers their size has to be looked at."""
    types = [column_type(kinds) for kinds in table.kinds]
    doubtful = {number for number, kinds in enumerate(table.kinds) if int in kinds and types[number] != "string"}
    for chunk in table.chunks() if doubtful else ():
        for number in sorted(doubtful):
            bits = 63 if types[number] == "int64" else _DOUBLE_BITS
            if any(type(cell) is int and (cell + (cell < 0)).bit_length() > bits for cell in chunk[number]):
                types[number] = "string"
                doubtful.remove(number)
    return types


def _batch(chunk: Sequence[Cells], types: Sequence[str], schema: pyarrow.Schema) -> pyarrow.RecordBatch:
    import pyarrow as pa

    convert: Mapping[str, Callable[[Any], Any]] = {"string": lambda value: _valid(_cell(value)), "float64": float}
    arrays = []
    for values, kind, field in zip(chunk, types, schema):
        made = convert.get(kind, lambda value: value)
        cells = [None if value is MISSING or value is None else made(value) for value in values]
        arrays.append(pa.array(cells, field.type))
    return pa.record_batch(arrays, schema=schema)


def _csv_converter(kinds: frozenset[type]) -> Callable[[Cells], Iterable[str]]:
    """Return what makes CSV of a column with values of these types."""
    if kinds == {float} or kinds == {int}:
        return lambda values: map(repr, values)
    if kinds == {str}:
        return lambda values: map(_quoted, values) if _QUOTED.search("".join(values)) else values
    return lambda values: [_quoted(cell) if isinstance(cell := _cell(value), str) else repr(cell) for value in values]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def _cell(value: Any) -> Any:
    """Return a value as text, and numbers as they are."""
    if type(value) in _PLAIN:
        return value
    if value is None or value is MISSING:
        return ""
    if type(value) is bool:
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False)


def _valid(value: Any) -> str:
    """Return text that UTF-8 can hold."""
    text = value if isinstance(value, str) else json.dumps(value)
    return _encoded(text).decode("utf-8")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
