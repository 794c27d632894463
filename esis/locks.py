"""Lock a run among processes and hosts with nothing but rename, unlink and rmdir.

The lock is a directory that holds one entry, named after its owner. It is made aside and renamed into place:
rename fails where a non-empty directory stands and succeeds silently on an empty one (rename(2)), so an empty
directory is a free lock. Breaking the lock of a dead owner removes the entry *of that name*; names are unique, so
it can never remove a successor's. Neither flock nor fcntl locks are used: they are node-local or absent on parallel
file systems.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote

from esis.errors import Busy, EsisError
from esis.files import names_in
from esis.processes import UNKNOWN_BOOT, boot, has_open, process_alive, process_start

HEARTBEAT_SECONDS = 60.0
STALE_SECONDS = 900.0  # 15 missed heartbeats: a lock of another host may then be taken over, on request
_FIELDS = 6
_NUMBER = re.compile(r"[0-9]{1,20}\Z")


@dataclass(frozen=True)
class Owner:
    """Identify a process so that another one can tell whether it still lives."""

    host: str
    boot: str  # boot id and PID name space: where these differ, a PID says nothing
    pid: int
    started: int  # clock ticks since boot (proc(5), field 22), 0 where unknown
    user: str
    nonce: str

    @classmethod
    def current(cls) -> Owner:
        """Describe this process."""
        pid = os.getpid()
        return cls(
            os.uname().nodename, boot(), pid, process_start(pid) or 0, user_name(os.getuid()), os.urandom(4).hex()
        )

    def text(self) -> str:
        """Return a file name that holds all of it."""
        parts = (self.host[:60], self.boot, str(self.pid), str(self.started), self.user[:40], self.nonce)
        return ",".join(quote(part, safe="") for part in parts)

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """Read what `text` wrote; None where it is nothing of ours."""
        parts = [unquote(part) for part in text.split(",")]
        if len(parts) != _FIELDS or not (_NUMBER.match(parts[2]) and _NUMBER.match(parts[3])):
            return None
        return cls(parts[0], parts[1], int(parts[2]), int(parts[3]), parts[4], parts[5])

    def is_here(self) -> bool:
        """Return whether its PID means something to this process: the same host, boot and PID name space.

        A host of that name which booted at another time may be this one before, or another machine (containers and
        clones share names): nobody can know.
        """
        here = boot()
        return self.host == os.uname().nodename[:60] and self.boot == here and here != UNKNOWN_BOOT

    def is_dead(self) -> bool:
        """Return True only where it is certain: it was here, and there is no such process (any more)."""
        return self.is_here() and not process_alive(self.pid, self.started)

    def interrupt(self, at: Path | None = None) -> bool:
        """Send it SIGINT, and let it go on if it is stopped. Raises PermissionError.

        False where it isn't certain to be this process, has ended, or hasn't open the directory `at` that it works on.
        """
        if not self.is_here() or self.started == 0:
            return False
        # Its number may be used again at any moment; a descriptor goes on meaning the process that it was got for.
        handle = _process_handle(self.pid)
        try:
            if not process_alive(self.pid, self.started) or (at is not None and not has_open(self.pid, at)):
                return False
            for number in (signal.SIGINT, signal.SIGCONT):  # one that is stopped would hear of it when it goes on
                if handle is not None:
                    signal.pidfd_send_signal(handle, number)
                else:
                    os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        finally:
            if handle is not None:
                os.close(handle)
        return True

    def __str__(self) -> str:
        """Name the owner as messages do."""
        return f"process {self.pid} of {self.user} on {self.host}"


def _process_handle(pid: int) -> int | None:
    """Return a descriptor that means this process alone; None where there is none, or kernel or Python are too old."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def user_name(uid: int) -> str:
    """Return the login name of `uid`, or its number where it has none."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def make_lock(directory: Path, owner: Owner) -> None:
    """Write the entry of `owner` into the new directory `directory` (not yet in place)."""
    directory.mkdir()
    _touch(directory / owner.text())


@contextmanager
def hold(lock: Path, what: str, take_over: bool = False) -> Iterator[Owner]:
    """Hold `lock` during the block. Raises Busy naming the owner, OSError where the lock can't be made.

    The lock of a dead process of this host is taken over at once. That of another host is respected; with
    `take_over`, not if its last heartbeat is older than STALE_SECONDS.
    """
    owner = Owner.current()
    acquire(lock, owner, what, take_over)
    with held(lock, owner):
        yield owner


@contextmanager
def held(lock: Path, owner: Owner) -> Iterator[None]:
    """Keep a lock that `owner` has already alive during the block, and release it at the end."""
    stop = threading.Event()
    beat = threading.Thread(target=_heartbeat, args=(lock / owner.text(), stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        release(lock, owner)


def acquire(lock: Path, owner: Owner, what: str, take_over: bool = False) -> None:
    """Take `lock` for `owner` or raise Busy; see `hold`."""
    aside = lock.with_name(f"{lock.name}.{owner.text()}")
    make_lock(aside, owner)
    try:
        for _ in range(100):
            try:
                aside.rename(lock)
            except OSError as error:
                if error.errno == errno.ENOTDIR:
                    raise EsisError(
                        f"{what}: {lock} is no directory, so no lock of ESIS", "look at it, and remove it"
                    ) from None
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            else:
                return
            for name in _entries(lock):
                _judge(lock, name, what, take_over)
    except BaseException:
        _remove_lock_directory(aside)
        raise
    _remove_lock_directory(aside)
    raise Busy(f"{what}: the lock {lock} changes hands too often", "try again")


def require(lock: Path, what: str) -> None:
    """Raise Busy where this process, which took `lock`, holds it no more; OSError where nobody can tell.

    One that was stopped or cut off from the file system for long may have been taken over, and doesn't know it. It asks
    before each step that another one must not do as well. What is left is the moment between question and step.
    """
    me = Owner.parse(Owner.current().text())
    others = []
    for name in _entries(lock):
        owner = Owner.parse(name)
        if owner is not None and me is not None and replace(owner, nonce=me.nonce) == me:
            try:
                os.utime(lock / name)  # the list may come from a client's cache; this goes to the server
            except FileNotFoundError:
                continue
            return
        others.append(str(owner or name))
    who = others[0] if others else "another process"
    raise Busy(
        f"{what}: {who} took it over while this process, {os.getpid()}, was stopped or cut off from the file system",
        "it goes on there; esis status shows what it does",
    )


def still(lock: Path, what: str) -> Callable[[], None]:
    """Return `require` of this lock, for those who write something at the last moment or not at all."""
    return partial(require, lock, what)


def release(lock: Path, owner: Owner) -> None:
    """Give `lock` back; it is no error if somebody took it over meanwhile."""
    for remove, path in ((os.unlink, lock / owner.text()), (os.rmdir, lock)):
        try:
            remove(path)
        except OSError:
            return


def holder(lock: Path) -> Owner | None:
    """Return a living (or unknowable) owner of `lock`, None where it is free."""
    for name in _entries(lock):
        found = Owner.parse(name)
        if found is not None and not found.is_dead():
            return found
    return None


def sweep(lock: Path) -> None:
    """Remove what dead processes of this host left beside `lock` while they tried to take it."""
    for name in sorted(names_in(lock.parent)):
        owner = Owner.parse(name[len(lock.name) + 1 :]) if name.startswith(f"{lock.name}.") else None
        if owner is not None and owner.is_dead():
            _remove_lock_directory(lock.parent / name)


def _judge(lock: Path, name: str, what: str, take_over: bool) -> None:
    """Remove the entry `name` if its owner is dead (or stale, on request); raise Busy if not."""
    owner = Owner.parse(name)
    if owner is None:
        raise EsisError(
            f"{what}: {lock} holds {name!r}, which is no lock of ESIS", "look at it, and remove it if nothing uses it"
        )
    age = _age(lock, name)
    if age is None:
        return
    if not owner.is_dead():
        if not take_over:
            raise Busy(f"{what}: {owner} is at it (last sign of life {age:.0f} s ago)", _advice(owner, age))
        if age < STALE_SECONDS:
            raise Busy(
                f"{what}: {owner} gave a sign of life {age:.0f} s ago, so it is not taken over",
                f"wait, or end it; after {STALE_SECONDS:.0f} s of silence --take-over works",
            )
    try:
        (lock / name).unlink()
    except FileNotFoundError:
        return
    except PermissionError as error:
        raise Busy(
            f"{what}: {owner} left a lock, and it can't be removed: {error.strerror}",
            f"ask {owner.user} to remove {lock}",
        ) from error


def _advice(owner: Owner, age: float) -> str:
    if age > STALE_SECONDS:
        # A machine of this name that booted at another time may be this one.
        gone = "was booted since" if owner.host == os.uname().nodename[:60] else "is down for good"
        return f"if {owner.host} {gone}, repeat the command with --take-over"
    return "wait for it, then repeat the command"


def _age(lock: Path, name: str) -> float | None:
    """Return the seconds since the entry's last heartbeat by the file system's own clock."""
    probe = lock.with_name(f"{lock.name}.{Owner.current().text()}")
    try:
        probe.mkdir()
        try:
            now = probe.stat().st_mtime
        finally:
            probe.rmdir()
    except OSError:
        now = time.time()
    try:
        return abs(now - (lock / name).lstat().st_mtime)  # one in the future is no sign of life
    except FileNotFoundError:
        return None


def _entries(lock: Path) -> list[str]:
    if lock.is_symlink():
        raise EsisError(f"{lock} is a symbolic link, not a lock of ESIS", "look at it, and remove it")
    return sorted(names_in(lock))


def _remove_lock_directory(directory: Path) -> None:
    for name in _entries(directory):
        with suppress(FileNotFoundError):
            (directory / name).unlink()
    with suppress(FileNotFoundError):
        directory.rmdir()


def _touch(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))


def _heartbeat(entry: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        try:
            os.utime(entry)
        except FileNotFoundError:  # somebody has taken it over
            return
        except OSError:  # a server that is away comes back, and a silent holder would be taken for dead
            continue
