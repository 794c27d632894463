"""Write archives, reproducibly and in constant memory: sorted names come from the caller, times and owners are fixed.

The same input gives the same bytes with the same versions of zlib or zstd; other versions may compress otherwise.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import tarfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import IO, Protocol

from esis.errors import BadInput, EsisError
from esis.files import CHUNK

_EARLIEST = 315532800  # 1980-01-01, the first time that a zip can hold, in seconds since 1970
_LATEST = 4354819198  # 2107-12-31 23:59:58, the last one
_LEVEL = 10  # of zstd
_UNSAFE = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")  # in the names of a zip
EXTRA = "pip install 'esis-slurm[archive]'"


class Format(Enum):
    """Name the formats by the ending of the file."""

    ZIP = ".zip"
    TAR_ZST = ".tar.zst"

    @classmethod
    def of(cls, path: Path) -> Format:
        """Return the format that a file name means. Raises BadInput."""
        for found in cls:
            if path.name.endswith(found.value) and path.name != found.value:
                return found
        raise BadInput(f"{path}: the name of an archive has to end in .zip or .tar.zst")


class Writer(Protocol):
    """Take the entries of an archive, in their order."""

    def directory(self, name: str) -> None:
        """Add a directory."""
        ...

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        ...

    def file(self, name: str, content: IO[bytes], size: int, executable: bool) -> None:
        """Add a file of exactly `size` bytes."""
        ...


class ZipWriter:
    """Write a zip; the archive's entries are at its root, as RO-Crate wants it."""

    def __init__(self, archive: zipfile.ZipFile, seconds: int) -> None:
        """Give every entry the same time (UTC, without its zone: a zip has none)."""
        self._archive = archive
        self._time = time.gmtime(seconds)[:6]

    def directory(self, name: str) -> None:
        """Add a directory."""
        info = self._info(f"{name}/", stat.S_IFDIR | 0o755)
        info.external_attr |= 0x10  # what DOS calls a directory; some tools look at nothing else
        self._archive.writestr(info, b"", zipfile.ZIP_STORED)

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link, as Info-ZIP does it."""
        self._archive.writestr(self._info(name, stat.S_IFLNK | 0o777), os.fsencode(target), zipfile.ZIP_STORED)

    def file(self, name: str, content: IO[bytes], size: int, executable: bool) -> None:
        """Add a file of exactly `size` bytes."""
        info = self._info(name, stat.S_IFREG | (0o755 if executable else 0o644))
        info.compress_type = zipfile.ZIP_DEFLATED
        info.file_size = size  # so that zipfile knows in time whether it needs zip64
        with self._archive.open(info, "w") as target:
            while data := content.read(CHUNK):
                target.write(data)

    def _info(self, name: str, mode: int) -> zipfile.ZipInfo:
        # unzip takes control characters out of names, and a zip's names are UTF-8.
        if _UNSAFE.search(name):
            raise BadInput(f"{name!r} is no name that comes safely through a zip", "use .tar.zst")
        info = zipfile.ZipInfo(name, self._time)
        info.create_system = 3  # Unix, whatever this is
        info.external_attr = mode << 16
        return info


class TarWriter:
    """Write a tar; all entries are below one directory."""

    def __init__(self, archive: tarfile.TarFile, prefix: str, seconds: int) -> None:
        """Give every entry the same time, and no owner."""
        self._archive = archive
        self._prefix = prefix
        self._time = seconds
        self._archive.addfile(self._info("", tarfile.DIRTYPE, 0o755))

    def directory(self, name: str) -> None:
        """Add a directory."""
        self._archive.addfile(self._info(name, tarfile.DIRTYPE, 0o755))

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        info = self._info(name, tarfile.SYMTYPE, 0o777)
        info.linkname = target
        self._archive.addfile(info)

    def file(self, name: str, content: IO[bytes], size: int, executable: bool) -> None:
        """Add a file of exactly `size` bytes."""
        info = self._info(name, tarfile.REGTYPE, 0o755 if executable else 0o644)
        info.size = size
        self._archive.addfile(info, content)
        self._archive.members.clear()  # type: ignore[attr-defined]  # tarfile remembers all that it has written

    def _info(self, name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo(f"{self._prefix}/{name}" if name else self._prefix)
        info.type = kind
        info.mode = mode
        info.mtime = self._time
        return info


@contextmanager
def writing(stream: IO[bytes], form: Format, prefix: str, seconds: float) -> Iterator[Writer]:
    """Yield a writer that writes into `stream`; `prefix` is the directory that a tar unpacks to."""
    # A zip counts in steps of two seconds.
    at = int(min(max(seconds, _EARLIEST), _LATEST)) // 2 * 2
    if form is Format.ZIP:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            yield ZipWriter(archive, at)
        return
    zstandard = need_zstandard()
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    with (
        compressor.stream_writer(stream, closefd=False) as packed,
        tarfile.open(
            fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
        ) as tar,
    ):
        yield TarWriter(tar, prefix, at)


def need_zstandard() -> ModuleType:
    """Return the package zstandard. Raises BadInput naming the extra that has it."""
    try:
        import zstandard
    except ImportError:
        raise BadInput("archives in .tar.zst need the Python package zstandard", EXTRA) from None
    return zstandard


class Hashing(io.RawIOBase):
    """Read a stream of known length through SHA-256; on the way look for words that shouldn't be there."""

    def __init__(self, content: IO[bytes], size: int, name: str, words: tuple[bytes, ...] = ()) -> None:
        """Read at most `size` bytes of `content`."""
        super().__init__()
        self._content = content
        self._left = size
        self._name = name
        self._digest = hashlib.sha256()
        self._words = words
        self._tail = b""
        self.found = False  # one of the words

    def readable(self) -> bool:
        """Say yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes. Raises EsisError where the file is shorter than it was."""
        wanted = self._left if size < 0 else min(size, self._left)
        try:
            data = self._content.read(min(wanted, CHUNK))
        except OSError as error:
            error.filename = error.filename or self._name  # read(2) names nothing, and what is written isn't at fault
            raise
        if wanted and not data:
            raise EsisError(f"{self._name} became shorter while it was being packed", "repeat the command")
        self._left -= len(data)
        self._digest.update(data)
        if self._words and not self.found:
            seen = self._tail + data
            self.found = any(word in seen for word in self._words)
            self._tail = seen[-max(map(len, self._words)) :]
        return data

    def digest(self) -> str:
        """Return the SHA-256 of the whole. Raises EsisError where the file has grown meanwhile."""
        if self._left or self._content.read(1):
            raise EsisError(f"{self._name} changed while it was being packed", "repeat the command")
        return self._digest.hexdigest()
