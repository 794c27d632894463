"""Remember the hashes of large files that haven't changed, for each user, in a cache that may vanish at any time.

`$XDG_CACHE_HOME/esis/hashes/` (by default below `~/.cache`) holds one file for each script or include with large files
in it. A file's hash counts as long as device, inode, size, mtime and ctime are those of when it was read. It only finds
the run of a workflow: what is copied into a new run is always hashed from the bytes of the copy.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from esis.digests import sha256
from esis.errors import EsisError
from esis.files import read_limited, write_atomic

# A file that was written just before it was read may be written again within the same tick of its file system's clock,
# which is coarse (a second on some, and another host's), so that nothing would show: its hash isn't kept.
SETTLED_SECONDS = 3.0
MOST_ENTRIES = 200_000  # in one file of the cache
MOST_FILES = 256
_HEADER = "esis hashes 1\n"
_ENTRY = re.compile(r"([0-9a-f]{64}) ((?:-?[0-9]+ ){4}-?[0-9]+)\Z")
_OLD_KEPT = 3  # times as many entries as are in use: other hosts number devices otherwise, branches come back


@dataclass(frozen=True)
class Identity:
    """Tell whether a file is the one that was read, unchanged."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, descriptor: int) -> Identity:
        """Describe an open file: opening one on NFS asks the server, a mere stat may be a minute old."""
        found = os.fstat(descriptor)
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    @property
    def key(self) -> str:
        """Return it as it stands in the cache."""
        return f"{self.device} {self.inode} {self.size} {self.mtime_ns} {self.ctime_ns}"

    def settled(self, began: float) -> bool:
        """Return whether a change after `began` (seconds since 1970) is sure to show."""
        return max(self.mtime_ns, self.ctime_ns) < (began - SETTLED_SECONDS) * 1e9


@dataclass
class Memory:
    """Hold what is remembered of one script or include; `save` it in the end."""

    file: Path | None  # None: nothing can be kept here
    _old: dict[str, str] | None = None
    _used: dict[str, str] = field(default_factory=dict)
    _news: bool = False

    @classmethod
    def of(cls, source: Path) -> Memory:
        """Return the memory of a script or include; it is read when it is first asked."""
        directory = cache_directory()
        if directory is None:
            return cls(None)
        name = sha256(os.fsencode(os.path.abspath(source)))[:32]  # noqa: PTH100  no link is followed
        return cls(directory / name)

    def recall(self, identity: Identity) -> str | None:
        """Return the hash of an unchanged file."""
        if self._old is None:
            self._old = _read(self.file)
        found = self._old.get(identity.key)
        if found is not None:
            self._used[identity.key] = found
        return found

    def note(self, identity: Identity, digest: str) -> None:
        """Remember a hash."""
        self._used[identity.key] = digest
        self._news = True

    def save(self) -> None:
        """Write what is new; that it can't be written is no error."""
        if not self._news or self.file is None:
            return
        old = self._old if self._old is not None else _read(self.file)
        kept = [item for item in old.items() if item[0] not in self._used][: _OLD_KEPT * len(self._used)]
        entries = [*self._used.items(), *kept][:MOST_ENTRIES]
        body = _HEADER + "".join(f"{digest} {key}\n" for key, digest in entries)
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomic(self.file, f"{body}{_seal(body)}\n")
            _tidy(self.file.parent)
        except OSError:
            return
        self._news = False


def cache_directory() -> Path | None:
    """Return where hashes are remembered; None where the user has no such place."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    home = os.environ.get("HOME", "")
    if given.startswith("/"):  # others are to be ignored, says the XDG base directory specification
        return Path(given, "esis", "hashes")
    return Path(home, ".cache", "esis", "hashes") if home.startswith("/") else None


def _read(file: Path | None) -> dict[str, str]:
    """Return the entries of a file of the cache; none where it isn't whole, or somebody else's."""
    if file is None:
        return {}
    try:
        if file.stat().st_uid != os.geteuid():
            return {}
        text = read_limited(file).decode("ascii")
    except (OSError, EsisError, ValueError):
        return {}
    body, _, seal = text.rstrip("\n").rpartition("\n")
    if not body.startswith(_HEADER[:-1]) or seal != _seal(f"{body}\n"):
        return {}
    found = (_ENTRY.match(line) for line in body.split("\n")[1:])
    return {entry[2]: entry[1] for entry in found if entry is not None}


def _seal(body: str) -> str:
    return sha256(body.encode("ascii"))


def _tidy(directory: Path) -> None:
    """Remove the files that were written longest ago, down to a number."""
    with os.scandir(directory) as listing:
        files = [(item.stat().st_mtime, item.path) for item in listing]
    for _, path in sorted(files)[: max(0, len(files) - MOST_FILES)]:
        Path(path).unlink()
