"""Hash files with one read, in constant memory; a copy is hashed from the bytes that were stored.

The kernel copies (copy_file_range: a reflink where the file system can, on the server where that can), and what arrived
in the copy is read and hashed beside it. So whatever somebody writes into the source meanwhile, the hash is that of the
copy, and only one of the two is ever read by this process.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Callable, TypeVar

from esis.files import CHUNK, write_all

_SHORT = 256 * 1024  # bytes
BESIDE = 8 * CHUNK  # bytes; a smaller file isn't worth a second thread
KERNEL_CHUNK = 4 * CHUNK  # bytes copied at a time: what was copied is still in the processor's cache when it is hashed
MOST_THREADS = 8  # a parallel file system has more to give, but it is shared
_UNSUPPORTED = frozenset(
    {errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM, errno.ETXTBSY, errno.EIO}
)

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

T = TypeVar("T")
R = TypeVar("R")


class Stopped(Exception):
    """Report that another thread failed, so that the result is of no use."""


def sha256(data: bytes) -> str:
    """Return the SHA-256 (hex) of a short text.

    By the interpreter's own code where it is there: `hashlib` loads OpenSSL, six files and some milliseconds, which is
    worth it for long ones.
    """
    name = "_sha2" if sys.version_info >= (3, 12) else "_sha256"
    with suppress(ImportError, AttributeError):
        return str(import_module(name).sha256(data).hexdigest())
    digest = _new()
    digest.update(data)
    return digest.hexdigest()


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hash_descriptor(reading: int, stop: threading.Event | None = None) -> str:
    """Return the SHA-256 (hex) of what is left in an open file. Raises OSError, Stopped."""
    data = os.read(reading, CHUNK)
    if len(data) < _SHORT:
        rest = os.read(reading, CHUNK)
        if not rest:
            return sha256(data)
        data += rest
    digest = _new()
    digest.update(data)
    while data := os.read(reading, CHUNK):
        digest.update(data)
        _check(stop)
    return digest.hexdigest()


def copy_descriptor(reading: int, writing: int, stop: threading.Event | None = None) -> str:
    """Copy one open file, both at their beginning, into another one (open for reading, too, and empty).

    Returns the SHA-256 (hex) of the bytes in the copy. Raises OSError, Stopped.
    """
    size = os.fstat(reading).st_size
    if size < BESIDE or not hasattr(os, "copy_file_range"):
        return _copy_through(reading, writing, _new(), stop)
    beside = _Beside(reading, writing, stop)
    digest = beside.hash()
    # What the kernel left: it stops early on some file systems, or can't do it at all.
    os.lseek(reading, beside.copied, os.SEEK_SET)
    os.lseek(writing, beside.copied, os.SEEK_SET)
    return _copy_through(reading, writing, digest, stop)


def in_threads(work: Callable[[T, threading.Event], R], items: Sequence[T], threads: int) -> list[R]:
    """Return what `work` gives for each item, in their order; the first error, in that order, ends all others.

    `work` has to look at the event now and then, and to raise Stopped.
    """
    stop = threading.Event()
    if threads < 2 or len(items) < 2:
        return [work(item, stop) for item in items]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(threads, len(items)), "esis-digests") as pool:
        waiting = [pool.submit(_stopping, work, item, stop) for item in items]
        try:
            for one in waiting:
                error = one.exception()
                if error is not None and not isinstance(error, Stopped):
                    raise error
            return [one.result() for one in waiting]
        except BaseException:
            stop.set()
            for one in waiting:
                one.cancel()
            raise


def _stopping(work: Callable[[T, threading.Event], R], item: T, stop: threading.Event) -> R:
    _check(stop)
    try:
        return work(item, stop)
    except BaseException:
        stop.set()
        raise


class _Beside:
    """Let the kernel copy in a second thread while this one hashes what has arrived."""

    def __init__(self, reading: int, writing: int, stop: threading.Event | None) -> None:
        self.copied = 0
        self._reading = reading
        self._writing = writing
        self._stop = stop
        self._ended = False
        self._given_up = False
        self._error: OSError | None = None
        self._news = threading.Condition()

    def hash(self) -> Hash:
        """Return the hash of the bytes 0 to `copied` of the copy."""
        digest = _new()
        copier = threading.Thread(target=self._copy, daemon=True)
        copier.start()
        try:
            hashed = 0
            while (arrived := self._wait_beyond(hashed)) > hashed:
                while hashed < arrived:
                    data = os.pread(self._writing, min(CHUNK, arrived - hashed), hashed)
                    if not data:
                        raise OSError(errno.EIO, "the copy is shorter than what was written")
                    digest.update(data)
                    hashed += len(data)
                    _check(self._stop)
        finally:
            self._given_up = True
            copier.join()
        if self._error is not None:
            raise self._error
        return digest

    def _wait_beyond(self, hashed: int) -> int:
        with self._news:
            self._news.wait_for(lambda: self.copied > hashed or self._ended)
            return self.copied

    def _copy(self) -> None:
        """Copy until there is no more, or until the kernel refuses what can be done in another way."""
        try:
            while not self._given_up:
                count = os.copy_file_range(self._reading, self._writing, KERNEL_CHUNK)
                if count == 0:
                    break
                with self._news:
                    self.copied += count
                    self._news.notify()
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                self._error = error
        finally:
            with self._news:
                self._ended = True
                self._news.notify()


def _copy_through(reading: int, writing: int, digest: Hash, stop: threading.Event | None) -> str:
    while data := os.read(reading, CHUNK):
        digest.update(data)
        write_all(writing, data)
        _check(stop)
    return digest.hexdigest()


def _new() -> Hash:
    import hashlib

    return hashlib.sha256()


def _check(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise Stopped
