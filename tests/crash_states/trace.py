"""See with strace which operations a command, and all that it starts, does to the files below a directory."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from tests.bench.traced import calls
from tests.crash_states.disk import Changed, Disk, Gone, Kind, Made, Moved, Node, Operation, Synced, Written

_CALLS = (
    "open openat creat write pwrite64 writev pwritev copy_file_range sendfile ftruncate truncate rename renameat "
    "renameat2 link linkat symlink symlinkat unlink unlinkat rmdir mkdir mkdirat chmod fchmod fchmodat fsync fdatasync "
    "sync syncfs lseek dup dup2 dup3"
).split()
_STRACE = ("strace", "-f", "-y", "-xx", "-s", "1000000", "-qq", "-e", "signal=none", "-e", f"trace={','.join(_CALLS)}")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)(?:<([^>]*)>)?(?: (E[A-Z]+))?")
_TOKEN = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?|(AT_FDCWD|\d+)<((?:\\x[0-9a-f]{2}|[^>])*)>|(-?\w[\w|]*)')
_UMASK = 0o022


class Unknown(Exception):
    """Report a call that the model doesn't know: what it did would be missing."""


@dataclass
class _Opened:
    """An open file: where the next write goes to."""

    node: int
    offset: int
    append: bool


@dataclass(frozen=True)
class _Descriptor:
    path: str


@dataclass
class Recorder:
    """Turn calls into operations on the disks that they are on."""

    roots: Mapping[Path, Disk]
    operations: list[tuple[Path, Operation]] = field(default_factory=list)
    _opened: dict[str, _Opened] = field(default_factory=dict)

    def take(self, name: str, words: Sequence[object], result: int, given: str | None) -> None:
        """Take in one successful call; `given` is the path of the descriptor that it returned."""
        handler: Callable[..., None] | None = getattr(self, f"_{_SAME.get(name, name)}", None)
        if handler is None:
            raise Unknown(name)
        handler(words, result, given)

    def _do(self, root: Path, operation: Operation) -> None:
        self.roots[root].apply(operation)
        self.operations.append((root, operation))

    def _place(self, path: str) -> tuple[Path, Disk, tuple[str, ...]] | None:
        """Return the disk that a path lies on, and its parts below the root."""
        normal = os.path.normpath(path)
        for root, disk in self.roots.items():
            if normal == str(root) or normal.startswith(f"{root}/"):
                parts = Path(normal).relative_to(root).parts
                return root, disk, parts
        return None

    def _at(self, words: Sequence[object], first: int) -> str:
        """Return the path that a directory's descriptor and a name mean."""
        directory, name = words[first], words[first + 1]
        assert isinstance(directory, _Descriptor)
        assert isinstance(name, str)
        return os.path.join(directory.path, name)

    def _open(self, words: Sequence[object], result: int, given: str | None) -> None:
        path, flags = self._at(words, 0), str(words[2])
        place = self._place(given if given is not None else path)
        if place is None:
            return
        root, disk, parts = place
        number = disk.find(parts)
        if number is None:
            if "O_CREAT" not in flags:
                raise Unknown(f"open of {path}, which isn't known")
            mode = int(str(words[3]), 8) & ~_UMASK
            number = self._make(root, disk, parts, Node(Kind.FILE, mode))
        if disk.nodes[number].kind is not Kind.FILE:
            return
        if "O_TRUNC" in flags and disk.nodes[number].data:
            self._do(root, Written(number, 0, b"", end=0))
        if "O_WRONLY" in flags or "O_RDWR" in flags:
            self._opened[os.path.normpath(given or path)] = _Opened(number, 0, "O_APPEND" in flags)

    def _make(self, root: Path, disk: Disk, parts: Sequence[str], new: Node) -> int:
        parent = disk.find(parts[:-1])
        assert parent is not None, parts
        number = max(disk.nodes) + 1
        self._do(root, Made(parent, parts[-1], number, new))
        return number

    def _to(self, descriptor: object) -> tuple[Path, Disk, _Opened] | None:
        assert isinstance(descriptor, _Descriptor)
        place = self._place(descriptor.path)
        if place is None or descriptor.path.endswith("(deleted)"):
            return None
        root, disk, parts = place
        found = self._opened.get(os.path.normpath(descriptor.path))
        number = disk.find(parts)
        if number is None or disk.nodes[number].kind is not Kind.FILE:
            raise Unknown(f"a write to {descriptor.path}")
        if found is None or found.node != number:
            raise Unknown(f"a write to {descriptor.path}, which nobody opened")
        return root, disk, found

    def _write(self, words: Sequence[object], result: int, given: str | None) -> None:
        found = self._to(words[0])
        if found is None:
            return
        root, disk, opened = found
        data = words[1]
        assert isinstance(data, bytes)
        offset = len(disk.nodes[opened.node].data) if opened.append else opened.offset
        self._do(root, Written(opened.node, offset, data[:result]))
        opened.offset = offset + result

    def _pwrite64(self, words: Sequence[object], result: int, given: str | None) -> None:
        found = self._to(words[0])
        if found is not None:
            root, _, opened = found
            assert isinstance(words[1], bytes)
            self._do(root, Written(opened.node, int(str(words[3])), words[1][:result]))

    def _copy_file_range(self, words: Sequence[object], result: int, given: str | None) -> None:
        found, source = self._to(words[2]), words[0]
        if found is None or result == 0:
            return
        assert isinstance(source, _Descriptor)
        root, _, opened = found
        # Who copies has opened nothing else of that name, and reads it from its beginning.
        data = Path(source.path).read_bytes()[opened.offset : opened.offset + result]
        self._do(root, Written(opened.node, opened.offset, data))
        opened.offset += result

    def _sendfile(self, words: Sequence[object], result: int, given: str | None) -> None:
        found, source = self._to(words[0]), words[1]
        if found is None or result == 0:
            return
        assert isinstance(source, _Descriptor)
        root, _, opened = found
        place = self._place(source.path)
        if place is None or len(words) != 5:
            raise Unknown(f"sendfile from {source.path}, with {words[2:]}")
        number, first = place[1].find(place[2]), int(str(words[2]))
        assert number is not None, source.path
        self._do(root, Written(opened.node, opened.offset, place[1].nodes[number].data[first : first + result]))
        opened.offset += result

    def _ftruncate(self, words: Sequence[object], result: int, given: str | None) -> None:
        found = self._to(words[0])
        if found is not None:
            root, _, opened = found
            self._do(root, Written(opened.node, 0, b"", end=int(str(words[1]))))

    def _lseek(self, words: Sequence[object], result: int, given: str | None) -> None:
        assert isinstance(words[0], _Descriptor)
        opened = self._opened.get(os.path.normpath(words[0].path))
        if opened is not None:
            opened.offset = result

    def _rename(self, words: Sequence[object], result: int, given: str | None) -> None:
        at = isinstance(words[0], _Descriptor)
        self._move(self._at(words, 0), self._at(words, 2)) if at else self._move(str(words[0]), str(words[1]))

    def _move(self, source: str, target: str) -> None:
        place, other = self._place(source), self._place(target)
        if place is None and other is None:
            return
        if place is None or other is None or place[0] != other[0]:
            raise Unknown(f"a rename of {source} to {target}")
        root, disk, parts = place
        parent, node, to = disk.find(parts[:-1]), disk.find(parts), disk.find(other[2][:-1])
        assert parent is not None
        assert node is not None
        assert to is not None
        self._do(root, Moved(parent, parts[-1], to, other[2][-1], node))
        moved = {name for name in self._opened if name == source or name.startswith(f"{source}/")}
        for name in moved:
            self._opened[target + name[len(source) :]] = self._opened.pop(name)

    def _symlink(self, words: Sequence[object], result: int, given: str | None) -> None:
        place = self._place(self._at(words, 1) if len(words) > 2 else str(words[1]))
        if place is not None:
            self._make(place[0], place[1], place[2], Node(Kind.LINK, 0o777, data=os.fsencode(str(words[0]))))

    def _link(self, words: Sequence[object], result: int, given: str | None) -> None:
        at = isinstance(words[0], _Descriptor)
        source, target = (self._at(words, 0), self._at(words, 2)) if at else (str(words[0]), str(words[1]))
        place, other = self._place(source), self._place(target)
        if other is None:
            return
        assert place is not None
        node, parent = place[1].find(place[2]), other[1].find(other[2][:-1])
        assert node is not None
        assert parent is not None
        self._do(other[0], Made(parent, other[2][-1], node))

    def _unlink(self, words: Sequence[object], result: int, given: str | None) -> None:
        path = self._at(words, 0) if isinstance(words[0], _Descriptor) else str(words[0])
        place = self._place(path)
        if place is not None:
            root, disk, parts = place
            parent, node = disk.find(parts[:-1]), disk.find(parts)
            assert parent is not None
            assert node is not None, path
            self._do(root, Gone(parent, parts[-1], node))
            self._opened.pop(os.path.normpath(path), None)

    def _mkdir(self, words: Sequence[object], result: int, given: str | None) -> None:
        at = isinstance(words[0], _Descriptor)
        place = self._place(self._at(words, 0) if at else str(words[0]))
        if place is not None:
            mode = int(str(words[2 if at else 1]), 8) & ~_UMASK
            self._make(place[0], place[1], place[2], Node(Kind.DIRECTORY, mode))

    def _chmod(self, words: Sequence[object], result: int, given: str | None) -> None:
        if isinstance(words[0], _Descriptor) and isinstance(words[1], str) and not words[1].isdecimal():
            path, mode = self._at(words, 0), words[2]
        else:
            path = words[0].path if isinstance(words[0], _Descriptor) else str(words[0])
            mode = words[1]
        place = self._place(path)
        if place is not None:
            number = place[1].find(place[2])
            assert number is not None, path
            self._do(place[0], Changed(number, int(str(mode), 8)))

    def _fsync(self, words: Sequence[object], result: int, given: str | None) -> None:
        assert isinstance(words[0], _Descriptor)
        place = self._place(words[0].path)
        if place is not None:
            number = place[1].find(place[2])
            assert number is not None, words[0].path
            self.operations.append((place[0], Synced(number)))

    def _sync(self, words: Sequence[object], result: int, given: str | None) -> None:
        self.operations += [(root, Synced(None)) for root in self.roots]

    def _nothing(self, words: Sequence[object], result: int, given: str | None) -> None:
        """Change nothing that counts."""


_SAME = {
    "openat": "open",
    "renameat": "rename",
    "renameat2": "rename",
    "symlinkat": "symlink",
    "linkat": "link",
    "unlinkat": "unlink",
    "rmdir": "unlink",
    "mkdirat": "mkdir",
    "fchmod": "chmod",
    "fchmodat": "chmod",
    "fdatasync": "fsync",
    "syncfs": "sync",
    "dup": "nothing",
    "dup2": "nothing",
    "dup3": "nothing",
}


def record(
    argv: Sequence[str], cwd: Path, env: Mapping[str, str], roots: Sequence[Path]
) -> list[tuple[Path, Operation]]:
    """Run a command, which has to succeed, and return its operations below each of `roots`, in their order."""
    recorder = Recorder({root: Disk.read(root) for root in roots})
    log = roots[0].parent / "strace"
    done = subprocess.run(
        [*_STRACE, "-o", str(log), *argv],
        cwd=cwd,
        env=dict(env),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        umask=_UMASK,
    )
    assert done.returncode == 0, done.stderr
    for name, words, result, given in _calls(log.read_text("ascii")):
        recorder.take(name, words, result, given)
    return recorder.operations


def _calls(text: str) -> Iterator[tuple[str, list[object], int, str | None]]:
    """Yield the calls that succeeded, in the order in which they ended."""
    for _, told in calls(text):
        call = _CALL.match(told)
        if call is None or call.group(5) is not None:
            if call is None and not told.startswith(("+++", "---", "exit")) and " = ?" not in told:
                raise Unknown(told)
            continue
        name, arguments, result, given, _ = call.groups()
        yield name, list(_words(name, arguments)), int(result), _text(given) if given is not None else None


def _words(name: str, arguments: str) -> Iterator[object]:
    data = name in ("write", "pwrite64")
    for token in _TOKEN.finditer(arguments):
        string, cut, number, path, other = token.groups()
        if string is not None:
            if cut:
                raise Unknown(f"{name}: more than strace shows")
            raw = bytes.fromhex(string.replace("\\x", ""))
            yield raw if data else os.fsdecode(raw)
        elif number is not None:
            yield _Descriptor(_text(path))
        else:
            yield other


def _text(hexadecimal: str) -> str:
    """Return a path that strace writes in hexadecimal; those of pipes and sockets are plain."""
    if "\\x" not in hexadecimal:
        return hexadecimal
    return os.fsdecode(
        re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), hexadecimal.encode())
    )
