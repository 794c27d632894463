"""Tell which files a block of a test opens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_watching: list[tuple[str, list[str]]] = []
_hooked: list[bool] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _watching and isinstance(arguments[0], (str, Path)):
        path = Path(arguments[0])
        for below, names in _watching:
            # Names relative to a directory's descriptor show no directory.
            if not path.is_absolute() or str(path).startswith(below):
                names.append(path.name)


@contextmanager
def opened(below: Path) -> Iterator[list[str]]:
    """Collect the names of the files below a directory (or opened relative to one) that the block opens."""
    if not _hooked:
        sys.addaudithook(_hook)  # can't be taken away again
        _hooked.append(True)
    names: list[str] = []
    _watching.append((str(below), names))
    try:
        yield names
    finally:
        _watching.pop()
