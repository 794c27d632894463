"""Write the JSON objects of workers so that the next attempt can read them: whatever their texts hold, bounded in size.

A text may have halves of characters, as names of files that are no UTF-8 have: they become JSON's own escapes.
"""

from __future__ import annotations

from esis.errors import BadInput, CorruptState
from esis.files import STATE_FILE_LIMIT, read_limited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any


def encode(
    values: Mapping[str, Any],
    what: str,
    advice: str,
    allow_nan: bool = True,
    default: Callable[[object], object] | None = None,
) -> bytes:
    """Return the line that holds an object. Raises BadInput where it is so large that nobody would read it again.

    `default` makes something else of what JSON can't hold; raises ValueError, TypeError for the rest.
    """
    import json  # draws in re, and many workers only ask whether there is a checkpoint

    line = _line(json.dumps(values, ensure_ascii=False, allow_nan=allow_nan, default=default))
    if len(line) > STATE_FILE_LIMIT:  # perhaps because of the blanks between its values
        compact = (",", ":")
        line = _line(json.dumps(values, ensure_ascii=False, allow_nan=allow_nan, default=default, separators=compact))
    if len(line) > STATE_FILE_LIMIT:
        raise BadInput(
            f"{what} would take {len(line)} bytes; no more than {STATE_FILE_LIMIT} can be read again", advice
        )
    return line


def _line(text: str) -> bytes:
    return f"{text}\n".encode("utf-8", "backslashreplace")


def read(path: Path) -> dict[str, Any]:
    """Return the object in a file. Raises FileNotFoundError, CorruptState where it can't be read as one."""
    value = parse(read_limited(path), str(path))
    if not isinstance(value, dict):
        raise CorruptState(f"{path} is corrupt: expected a JSON object")
    return value


def parse(data: bytes, name: str) -> Any:
    """Return what JSON holds. Raises CorruptState.

    ESIS 0.1.0 wrote the bytes of names that are no UTF-8 as they are; they are the same halves of characters.
    """
    import json

    try:
        try:
            return json.loads(data)
        except UnicodeDecodeError:
            return json.loads(data.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise CorruptState(f"{name} is corrupt: {error}") from error
