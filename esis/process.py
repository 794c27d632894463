"""Start other programs: the one door for subprocesses.

Nothing here uses a shell. Every program gets its own session, so that a Ctrl-C at the terminal reaches ESIS alone:
a killed `sbatch` client may leave an accepted job behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from esis.errors import EsisError
from esis.files import naming
from esis.processes import sessions

_GONE_SECONDS = 2.0  # a process that waits for a disk can't be killed at once
_OUTPUT_KEPT = 1024 * 1024  # bytes of standard output that a caller may see; the rest only reaches the log


@dataclass(frozen=True)
class Completed:
    """Hold the outcome of a program. `code` is negative where a signal ended it."""

    argv: Sequence[str]
    code: int
    stdout: bytes
    stderr: bytes
    timed_out: bool = False


@contextlib.contextmanager
def hearing_children() -> Iterator[None]:
    """Let programs tell how they ended, where this process ignores SIGCHLD; in what they start, too.

    Who ignores it (`trap '' CHLD`, a daemon, a script in Perl) hands that on. The kernel then keeps no exit status, and
    Python takes 0 for it. A worker may ignore it for children of its own, so it is put back. Only the main thread can.
    """
    ignored = signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
    if not ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def is_on_path(name: str) -> bool:
    """Return whether a program is there to be started. What `shutil.which` says; that would load four compressions."""
    places = (os.path.join(directory, name) for directory in os.get_exec_path())  # noqa: PTH118
    return any(os.path.isfile(place) and os.access(place, os.X_OK) for place in places)  # noqa: PTH113


def capture(
    argv: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float
) -> Completed:
    """Run a program to its end and return its output. Raises FileNotFoundError, PermissionError.

    After `timeout` seconds its whole session is killed and `timed_out` is set. On an interrupt it is left alone: an
    interrupted sbatch may be half-way through an acknowledgement.
    """
    with hearing_children():
        child = _start(argv, cwd, env)
        try:
            stdout, stderr = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            _kill_session(child)
            stdout, stderr = _drain(child)
            return Completed(argv, child.returncode, stdout, stderr, timed_out=True)
    return Completed(argv, child.returncode, stdout, stderr)


def run_logged(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    timeout: float | None,
    live: bool = False,
    started: Callable[[int], None] | None = None,
) -> Completed:
    """Run a user's script; both its outputs go to `log` and, with `live`, to stderr as they come.

    Memory is bounded: of stdout the first megabyte is returned. `started` is told the PID. On an interrupt, and where
    the script fails, its session is ended. Raises OSError where it can't be started.
    """
    # Unbuffered: what a full disk refuses would be tried once more at the end, and fail there without the log's name.
    with hearing_children(), log.open("wb", buffering=0) as stream:
        child = _start(argv, cwd, env)
        sink = _Sink(stream, sys.stderr.buffer if live else None)
        kept = [bytearray(), bytearray()]
        readers = [
            threading.Thread(target=sink.pump, args=(pipe, buffer), daemon=True)
            for pipe, buffer in zip((child.stdout, child.stderr), kept)
        ]
        for reader in readers:
            reader.start()
        timed_out = False
        try:
            if started is not None:
                started(child.pid)
            if child.wait(timeout) != 0:
                end_session(child)  # nothing of what failed goes on in a directory that is about to be built anew
        except subprocess.TimeoutExpired:
            timed_out = True
            _kill_session(child)
        except BaseException:
            _kill_session(child)
            raise
        finally:
            for reader in readers:
                # A process that the script left in the background may keep the pipes open for ever.
                reader.join(timeout=2.0)
            sink.close()
            for pipe, reader in zip((child.stdout, child.stderr), readers):
                if pipe is not None and not reader.is_alive():
                    pipe.close()
        with naming(log):
            sink.check()
            os.fsync(stream.fileno())
    return Completed(argv, child.returncode, bytes(kept[0]), bytes(kept[1]), timed_out)


def spawn(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdout: Path, stderr: Path | None, append: bool
) -> subprocess.Popen[bytes]:
    """Start a task with its outputs in files (`stderr` None: in the same one). Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if append else os.O_TRUNC)
    descriptors: list[int] = []
    try:
        for path in (stdout, stderr):
            if path is not None:
                descriptors.append(os.open(path, flags, 0o666))
        return subprocess.Popen(  # noqa: S603  argv is a list, no shell
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=descriptors[0],
            stderr=descriptors[-1],
            start_new_session=True,
            close_fds=True,
        )
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def signal_session(child: subprocess.Popen[bytes], number: int) -> list[int]:
    """Send a signal to all processes of a child's session and return them; it is no error if they are gone.

    A process group isn't enough: `timeout` makes one of its own, and so do shells with job control.
    """
    found = sessions().get(child.pid, [])
    if not found and child.poll() is None:  # no /proc
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)
    for process in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, number)
    return found


def end_session(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a child's session; what begins meanwhile, too. Waits a while until all are gone."""
    until = time.monotonic() + _GONE_SECONDS
    while signal_session(child, signal.SIGKILL) and time.monotonic() < until:
        time.sleep(0.01)


class _Sink:
    """Copy what two pipes bring into one log, in the order of arrival."""

    def __init__(self, log: IO[bytes], echo: IO[bytes] | None) -> None:
        self._outputs = [log] + ([echo] if echo is not None else [])
        self._lock = threading.Lock()
        self._closed = False
        self._error: OSError | None = None

    def pump(self, pipe: IO[bytes] | None, kept: bytearray) -> None:
        if pipe is None:
            return
        while True:
            data = os.read(pipe.fileno(), 65536)
            if not data:
                return
            with self._lock:
                if self._closed:
                    return
                kept += data[: _OUTPUT_KEPT - len(kept)]
                for output in self._outputs:
                    try:
                        _write(output, data)
                    except OSError as error:
                        self._error = self._error or error

    def close(self) -> None:
        """Let nothing more in: the log is about to be closed."""
        with self._lock:
            self._closed = True

    def check(self) -> None:
        """Raise the first error met while writing the log."""
        if self._error is not None:
            raise self._error


def _write(stream: IO[bytes], data: bytes) -> None:
    """Write all of it at once; a stream without a buffer may take a part."""
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]
    stream.flush()


def _start(argv: Sequence[str], cwd: Path | None, env: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
    if any("\0" in argument for argument in argv):
        raise EsisError(f"an argument of {argv[0]} holds a NUL character")
    return subprocess.Popen(  # noqa: S603  argv is a list, no shell
        list(argv),
        cwd=cwd,
        env=dict(env) if env is not None else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        close_fds=True,
    )


def _drain(child: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    try:
        return child.communicate(timeout=2.0)
    except subprocess.TimeoutExpired as late:
        return late.stdout or b"", late.stderr or b""


def _kill_session(child: subprocess.Popen[bytes]) -> None:
    """End the child's session: TERM, two seconds, KILL."""
    signal_session(child, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(2.0)
    end_session(child)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(2.0)
