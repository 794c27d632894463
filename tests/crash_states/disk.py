"""Know what a power cut may leave: inodes and names, the operations on them, and which of these are on disk for sure.

An operation is durable once a sync that covers it has returned. Of the others each model of a file system says which
may be there all the same:

- `ordered`, like ext4 by default: operations on names come in one order, any sync commits all that came before it; what
  a file holds may be missing, in part or whole, until the file is synced, also behind a rename that is there.
- `weak`, as little as POSIX promises: an operation on a name is durable once its directory is synced; of the others any
  may be there or not, in any order. A rename is there as a whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from pathlib import Path
from typing import Union


class Kind(Enum):
    """Say what an inode is."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"


@dataclass
class Node:
    """An inode."""

    kind: Kind
    mode: int
    names: dict[str, int] = field(default_factory=dict)  # of a directory
    data: bytes = b""  # of a file; what a link points to
    modified: int | None = None  # nanoseconds since 1970; of a file that is as it was before the command

    def copy(self) -> Node:
        return Node(self.kind, self.mode, dict(self.names), self.data, self.modified)


@dataclass(frozen=True)
class Made:
    """A name for an inode; `new`: what the inode is before anything is written to it."""

    parent: int
    name: str
    node: int
    new: Node | None = None


@dataclass(frozen=True)
class Gone:
    """A name is taken away."""

    parent: int
    name: str
    node: int


@dataclass(frozen=True)
class Moved:
    """A rename."""

    parent: int
    name: str
    to: int
    called: str
    node: int


@dataclass(frozen=True)
class Written:
    """Bytes at an offset of a file; `end`: its size from then on, where it is cut."""

    node: int
    offset: int
    data: bytes
    end: int | None = None


@dataclass(frozen=True)
class Changed:
    """A new mode."""

    node: int
    mode: int


@dataclass(frozen=True)
class Synced:
    """Something is durable: one inode, or everything."""

    node: int | None


Operation = Union[Made, Gone, Moved, Written, Changed, Synced]
Naming = (Made, Gone, Moved)


class Disk:
    """Inodes by number; 0 is the root of what is looked at."""

    def __init__(self, nodes: dict[int, Node]) -> None:
        self.nodes = nodes

    @classmethod
    def read(cls, root: Path, numbers: Iterator[int] | None = None) -> Disk:
        """Take what is there as durable."""
        numbers = numbers if numbers is not None else count()
        nodes: dict[int, Node] = {}

        def add(path: Path) -> int:
            number = next(numbers)
            found = path.lstat()
            mode = stat.S_IMODE(found.st_mode)
            if stat.S_ISLNK(found.st_mode):
                nodes[number] = Node(Kind.LINK, mode, data=os.fsencode(path.readlink()))
            elif stat.S_ISDIR(found.st_mode):
                node = nodes[number] = Node(Kind.DIRECTORY, mode)
                for name in sorted(os.listdir(path)):
                    node.names[name] = add(path / name)
            else:
                nodes[number] = Node(Kind.FILE, mode, data=path.read_bytes(), modified=found.st_mtime_ns)
            return number

        add(root)
        return cls(nodes)

    def copy(self) -> Disk:
        return Disk({number: node.copy() for number, node in self.nodes.items()})

    def find(self, parts: Sequence[str]) -> int | None:
        """Return the inode below the root that a path without links means."""
        number = 0
        for part in parts:
            found = self.nodes[number].names.get(part)
            if found is None:
                return None
            number = found
        return number

    def apply(self, operation: Operation) -> None:
        """Let an operation happen; what it needs may be missing, after a cut."""
        nodes = self.nodes
        if isinstance(operation, Made):
            if operation.new is not None and operation.node not in nodes:
                nodes[operation.node] = operation.new.copy()
            self._put(operation.parent, operation.name, operation.node)
        elif isinstance(operation, Gone):
            self._take(operation.parent, operation.name, operation.node)
        elif isinstance(operation, Moved):
            self._take(operation.parent, operation.name, operation.node)
            self._put(operation.to, operation.called, operation.node)
        elif isinstance(operation, Written):
            node = nodes[operation.node]
            node.modified = None
            if operation.end is not None:
                node.data = node.data[: operation.end].ljust(operation.end, b"\0")
            if operation.data:
                head = node.data[: operation.offset].ljust(operation.offset, b"\0")
                node.data = head + operation.data + node.data[operation.offset + len(operation.data) :]
        elif isinstance(operation, Changed):
            nodes[operation.node].mode = operation.mode

    def _put(self, parent: int, name: str, node: int) -> None:
        self.nodes[parent].names[name] = node

    def _take(self, parent: int, name: str, node: int) -> None:
        if self.nodes[parent].names.get(name) == node:
            del self.nodes[parent].names[name]

    def reachable(self) -> Iterator[tuple[str, Node]]:
        """Yield each path below the root with its inode, parents first."""
        pending = [("", 0)]
        while pending:
            path, number = pending.pop()
            node = self.nodes[number]
            yield path, node
            pending += [(f"{path}/{name}" if path else name, node.names[name]) for name in sorted(node.names)]

    def digest(self) -> bytes:
        """Return what is the same for two disks with the same content."""
        found = hashlib.sha256()
        for path, node in sorted(self.reachable()):
            found.update(
                f"{path}\0{node.kind.value}\0{node.mode}\0{len(node.data)}\0".encode("utf-8", "surrogateescape")
            )
            found.update(node.data)
        return found.digest()

    def write(self, root: Path) -> None:
        """Put what is reachable in the place of `root`."""
        if root.exists():
            for directory, _, _ in os.walk(root):
                Path(directory).chmod(0o755)  # others than root can't empty what can't be written
            shutil.rmtree(root)
        directories: list[tuple[Path, int]] = []
        for path, node in self.reachable():
            place = root / path if path else root
            if node.kind is Kind.DIRECTORY:
                place.mkdir()
                directories.append((place, node.mode))
            elif node.kind is Kind.LINK:
                place.symlink_to(os.fsdecode(node.data))
            else:
                place.write_bytes(node.data)
                if node.modified is not None:
                    os.utime(place, ns=(node.modified, node.modified))
                place.chmod(node.mode)
        for place, mode in reversed(directories):
            place.chmod(mode)


class Model(Enum):
    """Name what a file system promises."""

    ORDERED = "ordered"
    WEAK = "weak"


@dataclass(frozen=True)
class Cut:
    """The operations up to a power cut, by number, that may be missing; all others are on disk."""

    names: tuple[int, ...]
    files: tuple[tuple[int, tuple[int, ...]], ...]  # an inode with its writes and modes that may be missing


def pending(operations: Sequence[Operation], end: int, model: Model) -> Cut:
    """Return which of the first `end` operations no sync covers."""
    names: list[int] = []
    files: dict[int, list[int]] = {}
    for number in range(end):
        operation = operations[number]
        if isinstance(operation, Naming):
            names.append(number)
        elif isinstance(operation, (Written, Changed)):
            files.setdefault(operation.node, []).append(number)
        elif operation.node is None:
            names.clear()
            files.clear()
        else:
            files.pop(operation.node, None)
            if model is Model.ORDERED:
                names.clear()
            else:
                names = [kept for kept in names if not _covers(operations[kept], operation.node)]
    return Cut(tuple(names), tuple((node, tuple(numbers)) for node, numbers in files.items()))


def _covers(operation: Operation, directory: int) -> bool:
    """Return whether a sync of a directory makes an operation on names durable."""
    return directory == (operation.to if isinstance(operation, Moved) else getattr(operation, "parent", None))


def lost(
    operations: Sequence[Operation], cut: Cut, model: Model
) -> Iterator[tuple[str, frozenset[int], frozenset[int]]]:
    """Yield what a cut may take away, in words: operations that are missing, and files whose writes are there by half.

    Not all subsets: all and nothing, each one missing by itself, each one there by itself; of `ordered` each prefix.
    """
    names = cut.names
    by_file = {node: frozenset(numbers) for node, numbers in cut.files}
    content = frozenset[int]().union(*by_file.values())
    half = frozenset(by_file)
    nothing = frozenset[int]()
    if model is Model.ORDERED:
        kept = [(f"names up to {number}", frozenset(names[number:])) for number in range(len(names) + 1)]
    else:
        kept = [("all names", nothing), ("no names", frozenset(names))]
        kept += [(f"names without {number}", frozenset({number})) for number in names]
        kept += [(f"of the names {number} alone", frozenset(names) - {number}) for number in names]
    for what, missing in kept:
        yield f"{what}, all content", missing, nothing
        if content:
            yield f"{what}, no content", missing | content, nothing
            yield f"{what}, half of the content", missing, half
    for node, numbers in by_file.items():
        yield f"all but the content of {node}", numbers, nothing
        yield f"all but half of the content of {node}", nothing, frozenset({node})
        yield f"no content but that of {node}", content - numbers, nothing


def after(
    before: Disk,
    operations: Sequence[Operation],
    end: int,
    missing: frozenset[int] = frozenset(),
    half: frozenset[int] = frozenset(),
) -> Disk:
    """Return what is on disk after a cut."""
    disk = before.copy()
    for number in range(end):
        operation = operations[number]
        if isinstance(operation, Synced):
            continue
        if number in missing:
            if isinstance(operation, Made) and operation.new is not None:
                # Its inode may be there by another name.
                disk.nodes.setdefault(operation.node, operation.new.copy())
            continue
        if isinstance(operation, Written) and operation.node in half and operation.data:
            operation = Written(
                operation.node, operation.offset, operation.data[: len(operation.data) // 2], operation.end
            )
        disk.apply(operation)
    return disk
