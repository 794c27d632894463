"""Compute the hash of a workflow: a public contract, compatible with ESIS 0.0.4.

The hashed text is lines `tag:value` joined by a newline, none at the end; `esis doc hash` describes it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from esis.digests import hash_descriptor, sha256
from esis.errors import BadInput, CorruptState, FileTrouble
from esis.files import read_limited
from esis.model.workdir import RunDir
from esis.model.workflow import Workflow

HASHED_ROLES = ("setupscript", "sbatchtemplate", "workerscript", "param_generator")  # in the order of the hashed text
BYTECODE = "__pycache__"  # what Python makes in a directory when something imports from there


class Kind(Enum):
    """Name what an entry of an included directory is; the value stands in the hashed listing."""

    DIRECTORY = "directory"
    FILE = "file"
    EXECUTABLE = "executable"
    LINK = "link"


class Entry(NamedTuple):
    """Describe one entry of an included directory."""

    relative: str
    kind: Kind
    target: str = ""  # of a symbolic link
    size: int = 0  # bytes of a file, as it was listed; not hashed

    def listed(self, content: str) -> str:
        """Return the entry's line of the listing: JSON in ASCII, so that no name can imitate another line."""
        return json.dumps([self.kind.value, self.relative, content], ensure_ascii=True)


def status_text(workflow: Workflow, digest_of: Callable[[Path], str], requirements: Mapping[str, str]) -> str:
    """Return the text whose SHA-256 is the hash.

    `digest_of` gives the SHA-256 of a file or directory; `requirements` maps each stored requirement path to its
    hash (the frozen one where it is frozen).
    """
    lines = [(role, digest_of(workflow.resolve(workflow.script(role)))) for role in HASHED_ROLES]
    lines += [(stored, digest_of(workflow.resolve(stored))) for stored in sorted(workflow.param_includes)]
    lines += [(stored, requirements[stored]) for stored in sorted(workflow.requires)]
    return "\n".join(f"{tag}:{digest}" for tag, digest in lines)


def read_status(run: RunDir) -> str:
    """Return the hashed text that a run keeps. Raises BadInput where there is none, CorruptState, OSError."""
    try:
        return read_limited(run.wf_status).decode("utf-8")
    except FileNotFoundError:
        raise BadInput(
            f"{run.path} has no {run.wf_status.name}, the text that its hash is made of",
            "only a run that was built has one; of one that lost it: restore the file from a backup",
        ) from None
    except UnicodeDecodeError as error:
        raise CorruptState(f"{run.wf_status} is corrupt: {error}") from error


def status_lines(text: str) -> list[tuple[str, str]]:
    """Return tag and hash of each line of the hashed text, in their order.

    The scripts come first; a requirement may have the path of an include, and stands behind it.
    """
    return [(tag, digest) for tag, _, digest in (line.rpartition(":") for line in text.split("\n"))]


def text_digest(text: str) -> str:
    """Return the SHA-256 of `text` as UTF-8, in hex."""
    return sha256(text.encode("utf-8"))


def hash_source(path: Path) -> str:
    """Return the SHA-256 of a script's or include's bytes, or of a directory's listing. Raises BadInput."""
    if os.path.isdir(path):  # noqa: PTH112  Path.is_dir raises for names that are too long
        return tree_digest(tree_entries(path), lambda entry: hash_file(path / entry.relative))
    return hash_file(path)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a regular file's bytes, read in chunks. Raises BadInput for anything else."""
    descriptor = open_source(path)
    try:
        return hash_descriptor(descriptor)
    except OSError as error:
        raise FileTrouble.of(error, f"reading {path}") from error
    finally:
        os.close(descriptor)


def open_source(path: Path) -> int:
    """Open a user's file for reading without ever blocking. Raises BadInput for what is no regular file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}") from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise BadInput(f"{path} is {describe(mode)}, not a regular file")
    return descriptor


def tree_entries(root: Path) -> Iterator[Entry]:
    """Yield what is below `root`, sorted by the bytes of the relative paths.

    Raises BadInput for FIFOs, sockets and devices, and for a relative link that leaves `root` (the copy of the
    directory would hold a link to nowhere). Names that are no UTF-8 are kept (surrogate escapes).
    """
    found: list[Entry] = []
    pending = [""]
    while pending:
        below = pending.pop()
        try:
            with os.scandir(root / below) as listing:
                for item in listing:
                    entry = _entry(root, below, item)
                    found.append(entry)
                    if entry.kind is Kind.DIRECTORY:
                        pending.append(entry.relative)
        except OSError as error:
            raise BadInput(f"can't read the directory {root / below}: {error.strerror}") from error
    yield from sorted(found, key=lambda entry: os.fsencode(entry.relative))


def tree_digest(entries: Iterator[Entry], digest_of: Callable[[Entry], str]) -> str:
    """Return the SHA-256 of the listing of `entries`; `digest_of` gives the hash of a file's bytes."""
    import hashlib

    digest = hashlib.sha256()
    for entry in entries:
        content = digest_of(entry) if entry.kind in (Kind.FILE, Kind.EXECUTABLE) else entry.target
        digest.update(entry.listed(content).encode("ascii") + b"\n")
    return digest.hexdigest()


def describe(mode: int) -> str:
    """Say what kind of file a mode belongs to."""
    kinds = (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
    )
    return next((name for test, name in kinds if test(mode)), "no regular file")


def _entry(root: Path, below: str, item: os.DirEntry[str]) -> Entry:
    relative = f"{below}/{item.name}" if below else item.name
    found = item.stat(follow_symlinks=False)
    mode = found.st_mode
    if stat.S_ISLNK(mode):
        target = os.readlink(item.path)  # noqa: PTH115  Path.readlink would tidy the target up
        if not target.startswith("/") and _leaves(below, target):
            raise BadInput(
                f"{root / relative} is a link to {target}, outside of the included directory {root}",
                "include the whole, or put a copy there",
            )
        return Entry(relative, Kind.LINK, target)
    if stat.S_ISDIR(mode):
        return Entry(relative, Kind.DIRECTORY)
    if not stat.S_ISREG(mode):
        raise BadInput(f"{root / relative} is {describe(mode)}, which can't be included")
    return Entry(relative, Kind.EXECUTABLE if mode & stat.S_IXUSR else Kind.FILE, size=found.st_size)


def _leaves(below: str, target: str) -> bool:
    depth = len(PurePosixPath(below).parts)
    for part in PurePosixPath(target).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False
