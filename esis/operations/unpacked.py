"""Read archives and directories alike, without unpacking anything: names, checksums, links, a few small files."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from esis.errors import BadInput, FileTrouble
from esis.files import CHUNK, STATE_FILE_LIMIT
from esis.model.fingerprint import Kind, describe
from esis.model.workdir import RunDir
from esis.operations.pack import need_zstandard

LINK_LIMIT = 65536  # bytes of a link's target


@dataclass(frozen=True)
class Problem:
    """Say of one file what is wrong."""

    path: str
    what: str


@dataclass(frozen=True)
class Entry:
    """Describe what an archive or a directory holds under one name."""

    kind: Kind
    digest: str = ""  # of a file
    target: str = ""  # of a symbolic link


@dataclass
class Found:
    """Collect what an archive or a directory holds."""

    keep: Callable[[str], bool]  # which files' contents are wanted
    entries: dict[str, Entry] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    prefix: str = ""  # directory at the top of a tar

    def problem(self, path: str, what: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(path, what))

    def add(self, name: str, entry: Entry) -> None:
        """Take an entry, unless there is one of that name."""
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
        elif wanted and name not in self.entries:
            self.contents[name] = b"".join(kept)
        self.add(name, Entry(Kind.EXECUTABLE if executable else Kind.FILE, digest.hexdigest()))


def is_archive(path: Path) -> bool:
    """Return whether `path` is a file that is no workflow file."""
    return path.name.endswith((".zip", ".tar.zst")) and not path.is_dir()


def is_unpacked(path: Path) -> bool:
    """Return whether `path` is a directory that an archive was unpacked to."""
    return RunDir(path).manifest.is_file()


def bad_name(name: str) -> str | None:
    """Say what is wrong with a name in an archive: it could be written outside of where it is unpacked."""
    if not name or "\0" in name:
        return "is no name"
    if name.startswith("/"):
        return "is an absolute path"
    parts = name.rstrip("/").split("/")
    if ".." in parts:
        return "leaves the archive"
    if "" in parts or "." in parts:
        return "is no plain path"
    return None


def read_archive(path: Path, keep: Callable[[str], bool]) -> Found:
    """Read an archive. Raises BadInput where there is none; damage is a problem among those found."""
    found = Found(keep)
    try:
        with path.open("rb") as stream:
            if path.name.endswith(".zip"):
                _read_zip(stream, found)
            else:
                _read_tar(stream, found)
    except FileNotFoundError:
        raise BadInput(f"there is no {path}") from None
    except OSError as error:
        raise FileTrouble.of(error, f"reading {path}") from error
    return found


def read_directory(root: Path, keep: Callable[[str], bool], into: Callable[[str], bool] = lambda name: True) -> Found:
    """Read a directory, of it the names for which `into` is true."""
    found = Found(keep)
    for name, path, mode in _below(root, "", into):
        if stat.S_ISDIR(mode):
            found.add(name, Entry(Kind.DIRECTORY))
        elif stat.S_ISLNK(mode):
            found.add(name, Entry(Kind.LINK, target=os.readlink(path)))  # noqa: PTH115  as it stands there
        elif not stat.S_ISREG(mode):
            found.problem(name, f"is {describe(mode)}")
        else:
            try:
                with path.open("rb") as content:
                    found.file(name, content, bool(mode & stat.S_IXUSR))
            except OSError as error:
                found.problem(name, f"can't be read: {error.strerror}")
    return found


def _below(root: Path, below: str, into: Callable[[str], bool]) -> Iterator[tuple[str, Path, int]]:
    for name in sorted(os.listdir(root / below), key=os.fsencode):
        relative = f"{below}{name}"
        if not into(relative):
            continue
        path = root / relative
        mode = path.lstat().st_mode
        yield relative, path, mode
        if stat.S_ISDIR(mode):
            yield from _below(root, f"{relative}/", into)


def _read_zip(stream: IO[bytes], found: Found) -> None:
    try:
        with zipfile.ZipFile(stream) as archive:
            for info in archive.infolist():
                wrong = bad_name(info.filename)
                name = info.filename.rstrip("/")
                if wrong is not None:
                    found.problem(info.filename, wrong)
                    continue
                try:
                    _read_member(archive, info, name, found)
                except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
                    found.problem(name, f"is damaged: {error}")
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        found.problem(stream.name, f"is damaged, or no zip: {error}")


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, found: Found) -> None:
    mode = info.external_attr >> 16
    if info.is_dir():
        found.add(name, Entry(Kind.DIRECTORY))
        return
    with archive.open(info) as content:
        if stat.S_ISLNK(mode):
            found.add(name, Entry(Kind.LINK, target=os.fsdecode(content.read(LINK_LIMIT))))
        elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            found.problem(name, f"is {describe(mode)}")
        else:
            found.file(name, content, bool(mode & stat.S_IXUSR))


def _read_tar(stream: IO[bytes], found: Found) -> None:
    zstandard = need_zstandard()
    try:
        with zstandard.ZstdDecompressor().stream_reader(stream, closefd=False) as plain, tarfile.open(
                fileobj=plain, mode="r|", encoding="utf-8", errors="surrogateescape") as archive:
            while (info := archive.next()) is not None:
                _read_tar_member(archive, info, found)
                archive.members.clear()  # type: ignore[attr-defined]  # tarfile remembers all that it has seen
            # A tar ends before the stream does; what checks the stream stands at its end.
            while plain.read(CHUNK):
                pass
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
        found.problem(stream.name, f"is damaged, or no .tar.zst: {error}")


def _read_tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo, found: Found) -> None:
    wrong = bad_name(info.name)
    if wrong is not None:
        found.problem(info.name, wrong)
        return
    top, slash, name = info.name.partition("/")
    if not found.prefix:
        found.prefix = top
    if top != found.prefix:
        found.problem(info.name, f"lies outside of {found.prefix}/")
    elif not slash:
        if not info.isdir():
            found.problem(info.name, "is no directory")
    elif info.isdir():
        found.add(name, Entry(Kind.DIRECTORY))
    elif info.issym():
        found.add(name, Entry(Kind.LINK, target=info.linkname))
    elif info.isreg():
        content = archive.extractfile(info)
        if content is not None:
            found.file(name, content, bool(info.mode & stat.S_IXUSR))
    else:
        found.problem(name, "is a hard link or a device")
