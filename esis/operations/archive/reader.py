"""Read archives and directories alike, without unpacking anything: names, checksums, links, a few small files.

An archive may come from anybody. 240 bytes can hold a member of an exabyte, forty kilobytes the same data a million
times, and a header can ask for all memory; so everything is bounded, and what isn't read on is a problem with a name.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from esis.errors import BadInput, CorruptState, FileTrouble
from esis.files import CHUNK, STATE_FILE_LIMIT, open_regular
from esis.model.fingerprint import Kind, describe
from esis.model.workdir import RunDir
from esis.operations.archive.writer import need_zstandard

LINK_LIMIT = 65536  # bytes of a link's target
MOST_ENTRIES = 20_000_000
MOST_PROBLEMS = 1000  # that are told; more tell nothing new
FREE = 4 * 1024**3  # bytes that any archive may unpack to
RATIO = 1100  # and how many times its own size; deflate can't do more, and zstd does with nothing but repetitions
_KEPT = 256 * 1024 * 1024  # bytes of contents
_HEADER = 1024 * 1024  # bytes of a long name or other extension of a tar header
_DIRECTORY = 1024**3  # bytes of a zip's list of its members
_NAME = 255  # bytes of a name; Linux takes no longer one
_PATH = 4096  # bytes of a path
# What zipfile and tarfile raise for damaged input, apart from their own errors: they trust what they read.
_DAMAGE = (
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    struct.error,
    MemoryError,
)


class _TooMuch(Exception):
    """Report that nothing more is read."""


@dataclass(frozen=True)
class Problem:
    """Say of one file what is wrong."""

    path: str
    what: str


@dataclass(frozen=True)
class Member:
    """Describe what an archive or a directory holds under one name."""

    kind: Kind
    digest: str = ""  # of a file
    target: str = ""  # of a symbolic link


@dataclass
class Found:
    """Collect what an archive or a directory holds."""

    keep: Callable[[str], bool]  # which files' contents are wanted
    entries: dict[str, Member] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    prefix: str = ""  # directory at the top of a tar
    kept: int = 0  # bytes of contents
    untold: int = 0  # problems beyond MOST_PROBLEMS

    def problem(self, path: str, what: str) -> None:
        """Note a problem."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(path, what))
        else:
            self.untold += 1

    def add(self, name: str, entry: Member) -> None:
        """Take an entry, unless there is one of that name."""
        if len(self.entries) >= MOST_ENTRIES:
            raise _TooMuch(f"has more than {MOST_ENTRIES} entries, and was not read on")
        if name in self.entries and not (entry.kind is Kind.DIRECTORY and self.entries[name].kind is Kind.DIRECTORY):
            self.problem(name, "is there twice")
            return
        self.entries[name] = entry

    def file(self, name: str, content: IO[bytes], executable: bool) -> None:
        """Take a file, read in chunks."""
        digest = hashlib.sha256()
        wanted = self.keep(name)
        kept: list[bytes] = []
        size = 0
        while data := content.read(CHUNK):
            digest.update(data)
            size += len(data)
            if wanted and size <= STATE_FILE_LIMIT:
                kept.append(data)
        if wanted and size > STATE_FILE_LIMIT:
            self.problem(name, f"is larger than {STATE_FILE_LIMIT} bytes")
        elif wanted and self.kept + size > _KEPT:
            self.problem(name, "is too much, together with the other records, to be looked into")
        elif wanted and name not in self.entries:
            self.contents[name] = b"".join(kept)
            self.kept += size
        self.add(name, Member(Kind.EXECUTABLE if executable else Kind.FILE, digest.hexdigest()))


def is_archive(path: Path) -> bool:
    """Return whether `path` is a file that is no workflow file."""
    return path.name.endswith((".zip", ".tar.zst")) and not path.is_dir()


def is_unpacked(path: Path) -> bool:
    """Return whether `path` is a directory that an archive was unpacked to."""
    return RunDir(path).manifest.is_file()


def bad_name(name: str) -> str | None:
    """Say what is wrong with a name in an archive: it could be written outside of the place, or not at all."""
    if not name or "\0" in name:
        return "is no name"
    if name.startswith("/"):
        return "is an absolute path"
    parts = name.rstrip("/").split("/")
    if ".." in parts:
        return "leaves the archive"
    if "" in parts or "." in parts:
        return "is no plain path"
    try:
        sizes = [len(os.fsencode(part)) for part in parts]
    except UnicodeEncodeError:
        return "is no name that a file can have"
    if max(sizes) > _NAME or sum(sizes) + len(sizes) > _PATH:
        return "is longer than a name can be"
    return None


def read_archive(path: Path, keep: Callable[[str], bool]) -> Found:
    """Read an archive. Raises BadInput where there is none; damage is a problem among those found."""
    found = Found(keep)
    try:
        with open_regular(path) as stream:
            if path.name.endswith(".zip"):
                _read_zip(stream, found, str(path))
            else:
                _read_tar(stream, found, str(path))
    except FileNotFoundError:
        raise BadInput(f"there is no {path}") from None
    except OSError as error:
        raise FileTrouble.of(error, f"reading {path}") from error
    except _TooMuch as error:
        found.problem(str(path), str(error))
    _check_parents(found)
    return found


def _check_parents(found: Found) -> None:
    """Find what lies below a file or a link: unpacking it fails, or writes to where the link points."""
    directories: set[str] = set()
    for name in found.entries:
        parent = name.rpartition("/")[0]
        while parent and parent not in directories:
            above = found.entries.get(parent)
            if above is not None and above.kind is not Kind.DIRECTORY:
                found.problem(name, f"lies below {parent}, which is a {above.kind.value}")
                break
            directories.add(parent)
            parent = parent.rpartition("/")[0]


def read_directory(root: Path, keep: Callable[[str], bool], into: Callable[[str], bool] = lambda name: True) -> Found:
    """Read a directory, of it the names for which `into` is true."""
    found = Found(keep)
    try:
        for name, path, mode in _below(root, into, found):
            if stat.S_ISDIR(mode):
                found.add(name, Member(Kind.DIRECTORY))
            elif stat.S_ISLNK(mode):
                found.add(name, Member(Kind.LINK, target=os.readlink(path)))  # noqa: PTH115  as it stands there
            elif not stat.S_ISREG(mode):
                found.problem(name, f"is {describe(mode)}")
            else:
                _read_file(name, path, bool(mode & stat.S_IXUSR), found)
    except _TooMuch as error:
        found.problem(str(root), str(error))
    return found


def _read_file(name: str, path: Path, executable: bool, found: Found) -> None:
    try:
        with open_regular(path) as content:
            found.file(name, content, executable)
    except OSError as error:
        found.problem(name, f"can't be read: {error.strerror}")
    except CorruptState as error:
        found.problem(name, error.message)


def _below(root: Path, into: Callable[[str], bool], found: Found) -> Iterator[tuple[str, Path, int]]:
    """Yield what is below a directory in the order of the names, each directory before what is in it."""
    pending = [""]
    while pending:
        relative = pending.pop()
        path = root / relative
        try:
            if relative:
                mode = path.lstat().st_mode
                yield relative, path, mode
                if not stat.S_ISDIR(mode):
                    continue
            names = sorted(os.listdir(path), key=os.fsencode, reverse=True)
        except OSError as error:
            found.problem(relative or str(root), f"can't be read: {error.strerror}")
            continue
        inner = (f"{relative}/{name}" if relative else name for name in names)
        pending += [name for name in inner if into(name)]


class _Careful(io.RawIOBase):
    """Let zipfile read no more at once than a list of members can have: it asks for what the file's end tells."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size > _DIRECTORY:
            raise _TooMuch("is damaged: its list of members is larger than one can be")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _read_zip(stream: IO[bytes], found: Found, path: str) -> None:
    size = os.fstat(stream.fileno()).st_size
    try:
        with zipfile.ZipFile(_Careful(stream)) as archive:
            members = archive.infolist()
            if sum(info.compress_size for info in members) > size:
                raise _TooMuch("is damaged: its members take more room than there is, so they overlap")
            for info in members:
                _read_member(archive, info, found)
    except OSError as error:  # of seeking to where no file has a byte, too
        found.problem(path, f"is damaged, or no zip: {error.strerror or error}")
    except (zipfile.BadZipFile, *_DAMAGE) as error:
        found.problem(path, f"is damaged, or no zip: {error}")


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, found: Found) -> None:
    wrong = bad_name(info.filename)
    name = info.filename.rstrip("/")
    if wrong is not None:
        found.problem(info.filename, wrong)
        return
    if info.is_dir():
        found.add(name, Member(Kind.DIRECTORY))
        return
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        found.problem(name, "is damaged: it is compressed in a way that no archive of ESIS is")
        return
    mode = info.external_attr >> 16
    try:
        with archive.open(info) as content:
            if stat.S_ISLNK(mode):
                found.add(name, Member(Kind.LINK, target=os.fsdecode(content.read(LINK_LIMIT))))
            elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                found.problem(name, f"is {describe(mode)}")
            else:
                found.file(name, content, bool(mode & stat.S_IXUSR))
    except (zipfile.BadZipFile, *_DAMAGE) as error:
        found.problem(name, f"is damaged: {error}")


class _Limited(io.RawIOBase):
    """Read what a stream unpacks to, up to a limit."""

    def __init__(self, plain: IO[bytes], limit: int) -> None:
        super().__init__()
        self._plain = plain
        self._limit = limit
        self._left = limit

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._plain.read(CHUNK if size < 0 else min(size, CHUNK))
        self._left -= len(data)
        if self._left < 0:
            raise _TooMuch(
                f"unpacks to more than {self._limit} bytes, which is {RATIO} times its size, and was not read on"
            )
        return data


class _Header(tarfile.TarInfo):
    """Refuse what no archive of ESIS has, and what tarfile would follow without end."""

    def _proc_member(self, archive: Any) -> Any:
        extended = self.type in (
            tarfile.XHDTYPE,
            tarfile.XGLTYPE,
            tarfile.SOLARIS_XHDTYPE,
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
        )
        if extended and not 0 <= self.size <= _HEADER:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        if self.size < 0:
            raise tarfile.ReadError(f"a size of {self.size} bytes")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(f"{self.name!r} is a sparse file, which no archive of ESIS has")
        return super()._proc_member(archive)  # type: ignore[misc]  # meant to be overridden, says tarfile's source


def _read_tar(stream: IO[bytes], found: Found, path: str) -> None:
    zstandard = need_zstandard()
    limit = max(FREE, RATIO * os.fstat(stream.fileno()).st_size)
    try:
        with zstandard.ZstdDecompressor().stream_reader(stream, closefd=False) as reader:
            plain = _Limited(reader, limit)
            with tarfile.open(
                fileobj=plain, mode="r|", encoding="utf-8", errors="surrogateescape", tarinfo=_Header
            ) as archive:
                while (info := archive.next()) is not None:
                    _read_tar_member(archive, info, found)
                    archive.members.clear()  # type: ignore[attr-defined]  # tarfile remembers all that it has seen
            # A tar ends before the stream does; what checks the stream stands at its end.
            while plain.read(CHUNK):
                pass
    except (tarfile.TarError, zstandard.ZstdError, *_DAMAGE) as error:
        found.problem(path, f"is damaged, or no .tar.zst: {error}")


def _read_tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo, found: Found) -> None:
    if info.issparse():
        raise tarfile.ReadError(f"{info.name!r} is a sparse file, which no archive of ESIS has")
    # Read to its end, whatever it is: tarfile's own way to skip goes on for ever where the archive ends before.
    content = archive.extractfile(info) if info.isreg() or info.type not in tarfile.SUPPORTED_TYPES else None
    wrong = bad_name(info.name)
    top, slash, name = info.name.partition("/")
    if wrong is None and not found.prefix:
        found.prefix = top
    if wrong is not None:
        found.problem(info.name, wrong)
    elif top != found.prefix:
        found.problem(info.name, f"lies outside of {found.prefix}/")
    elif not slash:
        if not info.isdir():
            found.problem(info.name, "is no directory")
    elif info.isdir():
        found.add(name, Member(Kind.DIRECTORY))
    elif info.issym():
        found.add(name, Member(Kind.LINK, target=info.linkname))
    elif info.isreg() and content is not None:
        found.file(name, content, bool(info.mode & stat.S_IXUSR))
    else:
        found.problem(name, "is a hard link or a device")
    while content is not None and content.read(CHUNK):
        pass
