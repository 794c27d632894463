"""Read the scripts and includes of workflows: hash them, or copy them while they are hashed, several at a time."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from esis.digests import MOST_THREADS, copy_descriptor, cores, hash_descriptor, in_threads
from esis.errors import FileTrouble
from esis.files import CHUNK, fsync_directory, naming
from esis.model.fingerprint import Entry, Kind, open_source, tree_digest, tree_entries
from esis.model.requirements import key_of
from esis.model.workflow import Workflow, load

if TYPE_CHECKING:
    from esis.model.known_digests import Memory  # most workflows hold no file that is worth remembering

REMEMBERED = 16 * 1024  # bytes; a smaller file is read as quickly as it is looked up
_WORTH_BYTES = 8 * CHUNK  # less is read sooner than threads start, if there are few files
_WORTH_FILES = 64
_FILES = (Kind.FILE, Kind.EXECUTABLE)


class Source:
    """Hold what a script or include consists of, and which hashes of it are remembered."""

    def __init__(self, path: Path, entries: tuple[Entry, ...] | None) -> None:
        """Begin with nothing known; `entries`: None for a single file."""
        self.path = path
        self.entries = entries
        self.known: dict[str, str] = {}  # by the path relative to it, "" for a single file
        self.unknown: dict[str, int] = {}  # the sizes of the others
        self._memory: Memory | None = None

    @classmethod
    def survey(cls, path: Path, verify: bool = False) -> Source:
        """List what is there and recall what is known of it; with `verify` nothing is. Raises BadInput."""
        if os.path.isdir(path):  # noqa: PTH112  Path.is_dir raises for names that are too long
            entries = tuple(tree_entries(path))
            found = cls(path, entries)
            sizes = {entry.relative: entry.size for entry in entries if entry.kind in _FILES}
        else:
            found = cls(path, None)
            descriptor = open_source(path)
            try:
                sizes = {"": os.fstat(descriptor).st_size}
                if sizes[""] < REMEMBERED:  # read now, it needs not be opened twice
                    with _reading(path):
                        found.known[""] = hash_descriptor(descriptor)
                    sizes.clear()
            finally:
                os.close(descriptor)
        for relative, size in sizes.items():
            if size >= REMEMBERED:
                _ = found.memory  # made here, for the files are read by several threads
            known = None if verify or size < REMEMBERED else found._recall(relative)
            if known is not None:
                found.known[relative] = known
            else:
                found.unknown[relative] = size
        return found

    def place(self, relative: str) -> Path:
        """Return where a file of it is."""
        return self.path / relative if relative else self.path

    def digest(self, digests: dict[str, str]) -> str:
        """Return the hash of the whole, given those of its files."""
        if self.entries is None:
            return digests[""]
        return tree_digest(iter(self.entries), lambda entry: digests[entry.relative])

    def make_directories(self, target: Path) -> None:
        """Make all of a copy but its files."""
        if self.entries is None:
            return
        target.mkdir()
        for entry in self.entries:
            if entry.kind is Kind.DIRECTORY:
                (target / entry.relative).mkdir()
            elif entry.kind is Kind.LINK:
                (target / entry.relative).symlink_to(entry.target)

    def sync_directories(self, target: Path) -> None:
        """Make the names in a copy durable, the deepest first."""
        if self.entries is None:
            return
        for entry in reversed(self.entries):
            if entry.kind is Kind.DIRECTORY:
                fsync_directory(target / entry.relative)
        fsync_directory(target)

    @property
    def memory(self) -> Memory:
        """Return what is remembered of it."""
        if self._memory is None:
            from esis.model.known_digests import Memory

            self._memory = Memory.of(self.path)
        return self._memory

    def save(self) -> None:
        """Keep what is new in the memory."""
        if self._memory is not None:
            self._memory.save()

    def _recall(self, relative: str) -> str | None:
        from esis.model.known_digests import Identity

        descriptor = open_source(self.place(relative))
        try:
            return self.memory.recall(Identity.of(descriptor))
        finally:
            os.close(descriptor)


class _Job(NamedTuple):
    source: Source
    relative: str
    size: int
    target: Path | None


class Sources:
    """Hash the sources of the workflows that it reads, each once."""

    def __init__(self, verify: bool = False, into: Callable[[Source], Path | None] = lambda source: None) -> None:
        """With `verify` all is read. `into` says where a copy of a source is to be made at once, if anywhere."""
        self._verify = verify
        self._into = into
        self._done: dict[str, str] = {}
        self._together: dict[str, tuple[Path, ...]] = {}

    def read(self, path: Path) -> Workflow:
        """Read a workflow file; its includes will be read together. Raises BadInput."""
        workflow = load(path)
        here = key_of(path).parent
        includes = tuple(here / stored for stored in workflow.param_includes)
        self._together.update((os.path.realpath(include), includes) for include in includes)
        return workflow

    def digest_of(self, path: Path) -> str:
        """Return the hash of a script or include. Raises BadInput, FileTrouble, and OSError where a copy fails."""
        key = os.path.realpath(path)
        if key not in self._done:
            others = {os.path.realpath(item): item for item in self._together.get(key, ())}
            wanted = {name: item for name, item in others.items() if name not in self._done} or {key: path}
            sources = [Source.survey(item, self._verify) for item in wanted.values()]
            digests = read_sources(sources, [self._into(source) for source in sources])
            self._done.update(zip(wanted, digests))
        return self._done[key]


def read_sources(sources: Sequence[Source], targets: Sequence[Path | None]) -> list[str]:
    """Return the hashes of `sources`; those with a target are copied there, whole, and the copy is hashed.

    Raises BadInput, FileTrouble, and OSError where a copy can't be written.
    """
    return [source.digest(found) for source, found in zip(sources, file_digests(sources, targets))]


def file_digests(sources: Sequence[Source], targets: Sequence[Path | None]) -> list[dict[str, str]]:
    """Return what `read_sources` does, file by file, by the path relative to the source ("" for a single file)."""
    jobs = []
    for source, target in zip(sources, targets):
        if target is not None:
            source.make_directories(target)
            source.unknown.update(dict.fromkeys(source.known, 0))
        jobs += [
            _Job(source, relative, size, target / relative if target is not None and relative else target)
            for relative, size in source.unknown.items()
        ]
    worth = len(jobs) >= _WORTH_FILES or sum(job.size for job in jobs) >= _WORTH_BYTES
    found = {source.path: dict(source.known) for source in sources}
    for job, digest in zip(jobs, in_threads(_read, jobs, min(cores(), MOST_THREADS) if worth else 1)):
        found[job.source.path][job.relative] = digest
    for source, target in zip(sources, targets):
        if target is not None:
            source.sync_directories(target)
        source.save()
    return [found[source.path] for source in sources]


def copy_file(source: Path, target: Path, stop: threading.Event | None = None) -> str:
    """Copy the bytes and the executable bit, durably; return the SHA-256 of what was written."""
    reading = open_source(source)
    try:
        return _copy(reading, target, stop)
    finally:
        os.close(reading)


def _read(job: _Job, stop: threading.Event) -> str:
    reading = open_source(job.source.place(job.relative))
    try:
        if os.fstat(reading).st_size < REMEMBERED:
            return _hash(job, reading, stop)
        from esis.model.known_digests import Identity

        before, began = Identity.of(reading), time.time()
        digest = _hash(job, reading, stop)
        if before == Identity.of(reading) and before.settled(began):
            job.source.memory.note(before, digest)
        return digest
    finally:
        os.close(reading)


def _hash(job: _Job, reading: int, stop: threading.Event) -> str:
    """Return the hash of an open file; where there is a target, of what was written there."""
    if job.target is not None:
        return _copy(reading, job.target, stop)
    with _reading(job.source.place(job.relative)):
        return hash_descriptor(reading, stop)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say of an OSError in the block that a source couldn't be read."""
    try:
        yield
    except OSError as error:
        raise FileTrouble.of(error, f"reading {path}") from error


def _copy(reading: int, target: Path, stop: threading.Event | None) -> str:
    executable = os.fstat(reading).st_mode & 0o100
    with naming(target):
        writing = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o777 if executable else 0o666)
        try:
            digest = copy_descriptor(reading, writing, stop)
            os.fsync(writing)
        finally:
            os.close(writing)
    return digest
