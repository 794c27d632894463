"""Keep the logs of a compacted run in one zip, and read them from it; whatever the zip holds, nothing but errors comes.

A zip counts time from 1980 to 2107; a log of another time is of the nearest one there.
"""

from __future__ import annotations

import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from esis.errors import CorruptState
from esis.files import CHUNK, open_regular

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    ArithmeticError,
    LookupError,
)


class Unfit(Exception):
    """Say why a log can't be put into a zip."""


@contextmanager
def reading(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip of logs. Raises CorruptState, in the block, too; OSError."""
    with open_regular(path) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                yield archive
        except _DAMAGE as error:
            raise CorruptState(f"{path} is corrupt: {error}") from error


def read(path: Path, name: str) -> Iterator[bytes]:
    """Yield what a zip holds under a name, in pieces. Raises CorruptState, OSError."""
    with reading(path) as archive, archive.open(name) as content:
        while data := content.read(CHUNK):
            yield data


def copy_member(source: zipfile.ZipFile, info: zipfile.ZipInfo, target: zipfile.ZipFile) -> None:
    """Copy a member into another zip, in constant memory."""
    new = zipfile.ZipInfo(info.filename, info.date_time)
    new.external_attr, new.create_system, new.compress_type = info.external_attr, 3, zipfile.ZIP_DEFLATED
    new.file_size = info.file_size  # so that zipfile knows in time whether it needs zip64
    with source.open(info) as content, target.open(new, "w") as stream:
        shutil.copyfileobj(content, stream, CHUNK)


def add(archive: zipfile.ZipFile, path: Path) -> None:
    """Put a log into a zip, under its own name. Raises Unfit before anything is written, OSError."""
    try:
        path.name.encode("utf-8")
    except UnicodeEncodeError:
        raise Unfit(f"{path.name!r} in {path.parent} is no name that a zip can hold") from None
    try:
        content = open_regular(path)
    except OSError as error:
        raise Unfit(f"{path}: {error.strerror}") from None
    except CorruptState as error:
        raise Unfit(error.message) from None
    with content:
        found = os.fstat(content.fileno())
        info = zipfile.ZipInfo.from_file(path, path.name, strict_timestamps=False)
        info.compress_type, info.file_size = zipfile.ZIP_DEFLATED, found.st_size
        with archive.open(info, "w") as stream:
            shutil.copyfileobj(content, stream, CHUNK)
