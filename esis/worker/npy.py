"""Write numbers in NumPy's file format (.npy, version 1.0), with the standard library alone.

What comes from NumPy itself is written by NumPy. Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import array
import io
import re
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from esis.errors import BadInput

_MAGIC = b"\x93NUMPY\x01\x00"
_ALIGNMENT = 64  # bytes; the header's length is a multiple of it
_MOST_DIMENSIONS = 32
_KINDS = {
    **dict.fromkeys("bhilqn", "i"),
    **dict.fromkeys("BHILQN", "u"),
    **dict.fromkeys("efd", "f"),
    "?": "b",
    "Zf": "c",
    "Zd": "c",
}
_FORMAT = re.compile(r"([@=<>!]?)(Z?[?a-zA-Z])\Z")
_ADVICE = "give nested lists of numbers, an array.array, a memoryview of numbers, or an array of NumPy"


def encode(values: object) -> bytes:
    """Return the content of the .npy file of `values`. Raises BadInput."""
    numpy = sys.modules.get("numpy")  # whoever has such an array has imported it
    if numpy is not None and isinstance(values, (numpy.ndarray, numpy.generic)):
        _check_unmasked(numpy, values)
        return _by_numpy(numpy, values)
    if isinstance(values, (list, tuple, range)):
        try:
            return _of_lists(_made_plain(numpy, values) if numpy is not None else values)
        except RecursionError:
            raise BadInput("it holds itself, or is nested too deeply", _ADVICE) from None
    if isinstance(values, (memoryview, array.array)):
        return _of_buffer(memoryview(values))
    raise BadInput(f"{type(values).__name__} is no array of numbers", _ADVICE)


def _check_unmasked(numpy: Any, values: Any) -> None:
    """Raise BadInput where values are masked: the file would hold what the mask hides."""
    ma = sys.modules.get("numpy.ma")
    if ma is not None and isinstance(values, ma.MaskedArray) and numpy.any(ma.getmaskarray(values)):
        raise BadInput("values of it are masked, and the file has no place for a mask", "fill them: values.filled(nan)")


def _made_plain(numpy: Any, values: Any) -> Any:
    """Return nested lists with Python's own numbers in the place of NumPy's, and lists in that of its arrays."""
    if isinstance(values, (list, tuple)):
        return [_made_plain(numpy, item) for item in values]
    if not isinstance(values, (numpy.ndarray, numpy.generic)):
        return values
    _check_unmasked(numpy, values)
    if values.dtype.kind == "f":
        return values.astype(numpy.float64).tolist()  # also of longer ones, of which Python has none
    return values.tolist() if values.dtype.kind in "?biuc" else values


def _by_numpy(numpy: Any, values: Any) -> bytes:
    stream = io.BytesIO()
    try:
        numpy.save(stream, values, allow_pickle=False)
    except ValueError as error:
        raise BadInput(f"NumPy can't write it without pickling: {error}", _ADVICE) from error
    return stream.getvalue()


def _of_buffer(view: memoryview) -> bytes:
    match = _FORMAT.match(view.format)
    kind = _KINDS.get(match.group(2)) if match is not None else None
    if match is None or kind is None:
        raise BadInput(f"a buffer of format {view.format!r} holds no numbers", _ADVICE)
    big = match.group(1) in (">", "!") or (match.group(1) in ("", "@", "=") and sys.byteorder == "big")
    order = "|" if view.itemsize == 1 else ">" if big else "<"
    return _header(f"{order}{kind}{view.itemsize}", view.shape or ()) + view.tobytes()


def _of_lists(values: Sequence[object]) -> bytes:
    shape = _shape(values)
    flat: list[Any] = list(_flat(values, shape))
    kinds = {_kind(item) for item in flat}
    if "c" in kinds:
        return _header("<c16", shape) + _pack("d", [part for item in flat for part in (item.real, item.imag)])
    if "f" in kinds or not kinds:
        return _header("<f8", shape) + _pack("d", flat)
    if kinds == {"b"}:
        return _header("|b1", shape) + _pack("?", flat)
    return _header("<i8", shape) + _pack("q", flat)


def _pack(code: str, flat: list[Any]) -> bytes:
    try:
        return struct.pack(f"<{len(flat)}{code}", *flat)
    except (struct.error, OverflowError) as error:
        raise BadInput(f"a number is too large: {error}", "give it as a float") from error


def _kind(item: object) -> str:
    for kind, types in (("b", bool), ("i", int), ("f", float), ("c", complex)):
        if isinstance(item, types):
            return kind
    raise BadInput(f"{item!r:.60} is no number", _ADVICE)


def _shape(values: object) -> tuple[int, ...]:
    """Return the shape that the first elements tell; `_flat` checks it of all."""
    shape: list[int] = []
    while isinstance(values, (list, tuple, range)):
        if len(shape) == _MOST_DIMENSIONS:
            raise BadInput(f"more than {_MOST_DIMENSIONS} dimensions", _ADVICE)
        shape.append(len(values))
        if not values:
            break
        values = values[0]
    return tuple(shape)


def _flat(values: object, shape: tuple[int, ...]) -> Iterator[object]:
    nested = isinstance(values, (list, tuple, range))
    if nested != bool(shape) or (isinstance(values, (list, tuple, range)) and len(values) != shape[0]):
        raise BadInput("its rows are not of one length", "fill them up, or export them one by one")
    if not isinstance(values, (list, tuple, range)):
        yield values
        return
    for item in values:
        yield from _flat(item, shape[1:])


def _header(descr: str, shape: Sequence[int]) -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {tuple(shape)!r}, }}".encode("ascii")
    padding = -(len(_MAGIC) + 2 + len(text) + 1) % _ALIGNMENT
    text += b" " * padding + b"\n"
    return _MAGIC + struct.pack("<H", len(text)) + text
