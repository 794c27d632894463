"""See with strace what a command opens and reads."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_UNFINISHED = "<unfinished ...>"
_READ = re.compile(
    r"(?:read|pread64|readv|preadv|copy_file_range|sendfile|mmap)\((?:NULL, \d+, [A-Z_|]+, [A-Z_|]+, )?"
    r"\d+<([^>]*)>.* = (\d+|0x[0-9a-f]+)$"
)


def opened(argv: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None, alone: bool = False) -> list[str]:
    """Return what a command opens, in order; what isn't there doesn't count. `alone`: without what it starts."""
    log = _trace(["-e", "trace=open,openat", *(() if alone else ("-f",))], argv, cwd, env)
    return re.findall(r'open(?:at)?\([^"]*"([^"]*)".* = \d+$', log, re.MULTILINE)


def with_paths(argv: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> list[str]:
    """Return the calls of a command (not of what it starts) that name a file, or ask for what one is."""
    return _trace(["-e", "trace=%file"], argv, cwd, env).splitlines()


def bytes_read(argv: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> dict[str, int]:
    """Return how many bytes of each file a command got: reads, copies by the kernel, maps."""
    log = _trace(["-f", "-y", "-e", "trace=read,pread64,readv,preadv,copy_file_range,sendfile,mmap"], argv, cwd, env)
    found: dict[str, int] = {}
    for name, count in reads_of(log):
        found[name] = found.get(name, 0) + count
    return found


def works() -> bool:
    """Return whether strace is installed and may trace here."""
    try:
        return bool(opened(["true"], Path.cwd()))
    except (OSError, subprocess.CalledProcessError):
        return False


def calls(log: str) -> Iterator[tuple[int, str]]:
    """Yield process and text of what strace's output (-f) tells, in the order in which it ended.

    A call during which another process's was told is put together again.
    """
    begun: dict[int, str] = {}
    for line in log.splitlines():
        process, _, rest = line.partition(" ")
        pid, call = int(process), rest.strip()
        if call.endswith(_UNFINISHED):
            begun[pid] = call[: -len(_UNFINISHED)].rstrip()
            continue
        if call.startswith("<... "):
            call = begun.pop(pid, "") + call.partition("resumed>")[2]
        yield pid, call


def reads_of(log: str) -> Iterator[tuple[str, int]]:
    """Yield file and bytes of each call in strace's output; those that were interrupted by another thread's, too."""
    for _, call in calls(log):
        match = _READ.match(call)
        if match is not None:
            size = re.match(r"mmap\(NULL, (\d+)", call)
            yield match[1], int(size[1]) if size is not None else int(match[2])


def _trace(options: Sequence[str], argv: Sequence[str], cwd: Path, env: Mapping[str, str] | None) -> str:
    with tempfile.NamedTemporaryFile("r", errors="replace") as log:
        subprocess.run(
            ["strace", "-qq", "-e", "signal=none", "-o", log.name, *options, *argv],
            check=True,
            cwd=cwd,
            env=None if env is None else dict(env),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        return log.read()
