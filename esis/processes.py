"""Know one process from another that has, or had, its number. Workers use this too: standard library only, and little.

A PID alone says nothing: it is used again, each boot counts anew, and so does each PID name space (containers).
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

UNKNOWN_BOOT = "unknown"  # no /proc tells


def boot() -> str:
    """Return what a PID of this machine depends on: its boot, and the PID name space of this process."""
    try:
        number = _read("/proc/sys/kernel/random/boot_id").decode("ascii").strip()
        return f"{number}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return UNKNOWN_BOOT


def process_start(pid: int) -> int | None:
    """Return when `pid` started, in clock ticks since boot; None where there is no such process or no /proc."""
    try:
        return int(_words(pid)[19])
    except OSError:
        return None


def process_alive(pid: int, started: int) -> bool:
    """Return whether the process `pid` that started at `started` (0: unknown) still runs."""
    found = process_start(pid)
    if found is not None:
        return started in (0, found) and not is_zombie(pid)
    if _tells():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sessions() -> dict[int, list[int]]:
    """Return the living processes by session, which is called as its first process; nothing where no /proc tells.

    No other process or session gets that number before the last of them has ended, whatever became of the first one.
    """
    found: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if _tells() else ():
        if name.isdecimal():
            try:
                words = _words(name)
            except OSError:
                continue
            if words[0] not in (b"Z", b"X"):
                found.setdefault(int(words[3]), []).append(int(name))
    return found


def tasks_of_job(job: str) -> dict[int, int]:
    """Return the indices of an array job's tasks that processes of this user's on this machine belong to.

    And of each the session of one of these. Their environment tells, from their first instruction on.
    """
    found: dict[int, int] = {}
    mark, index = f"SLURM_ARRAY_JOB_ID={job}".encode(), b"SLURM_ARRAY_TASK_ID="
    for name in os.listdir("/proc") if _tells() else ():
        if name.isdecimal():
            try:
                variables = _read(f"/proc/{name}/environ").split(b"\0")
                session = int(_words(name)[3]) if mark in variables else 0
            except OSError:
                continue
            for item in variables if session else ():
                if item.startswith(index) and item[len(index) :].isdigit():  # a worker may have set another one
                    found.setdefault(int(item[len(index) :]), session)
    return found


def has_left(pid: int, living: Container[int]) -> bool:
    """Return whether a process that began a session has ended, and others live on; `living`: all of `sessions`."""
    return pid in living and (process_start(pid) is None or is_zombie(pid))


def is_zombie(pid: int) -> bool:
    """Return whether a process has ended and wasn't waited for yet."""
    try:
        return _words(pid)[0] == b"Z"
    except OSError:
        return False


def has_open(pid: int, directory: str | os.PathLike[str]) -> bool:
    """Return whether a process has a directory open, by whatever name; also where nobody can tell."""
    place = f"/proc/{pid}/fd"
    try:
        return any(_is_same(f"{place}/{name}", directory) for name in os.listdir(place))
    except OSError:
        return True


def _is_same(path: str, directory: str | os.PathLike[str]) -> bool:
    try:
        return os.path.samefile(path, directory)
    except OSError:
        return False


def _tells() -> bool:
    return os.path.exists("/proc/self/stat")


def _words(pid: int | str) -> list[bytes]:
    """Return what stat says of a process from its state on (proc(5), field 3): its name may hold anything."""
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()
