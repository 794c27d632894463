"""Break an esis process at its Nth file-system step; Python's site module imports this from PYTHONPATH.

Only for tests, and nothing of it stands in the product. Steps are counted by an audit hook; os.fsync, os.write and
the moments after an event raise none, so these functions are wrapped. The children of the process (scripts, Slurm's
clients) are not affected: the variables below are taken out of the environment as soon as they have been read.

    ESIS_FAULT_REPORT   file that gets one line per step, the hit one with HIT before it
    ESIS_FAULT_KIND     count, kill, meanwhile, ask, short, full, or the name of an errno (ENOSPC, EDQUOT, EIO, EACCES)
    ESIS_FAULT_AT       number of the step, from 1
    ESIS_FAULT_MEANWHILE    shell command for the kind `meanwhile`

kill: SIGKILL before the event; after it as well for rename, fsync and Popen; half-way through a write. meanwhile: at
the same moments the process is held up until the command has ended, and knows nothing of it. short: os.write
takes 10 bytes. full: from the step on nothing can be created or written any more (ENOSPC). An errno: that one step.
ask: a function of the process itself is called at all moments of a kill (see `arm`).
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
VARIABLES = ("ESIS_FAULT_REPORT", "ESIS_FAULT_KIND", "ESIS_FAULT_AT", "ESIS_FAULT_MEANWHILE")
SHORT = 10  # bytes
_EVENTS = frozenset(
    {
        "open",
        "os.mkdir",
        "os.rename",
        "os.link",
        "os.symlink",
        "os.remove",
        "os.rmdir",
        "os.chmod",
        "os.truncate",
        "os.utime",
        "shutil.rmtree",
        "subprocess.Popen",
    }
)
_READING = frozenset({"os.listdir", "os.scandir"})
_NOT_AN_OPERATION = frozenset({"shutil.rmtree"})  # its own steps follow, so here an error would be nobody's
_ALL_MOMENTS = frozenset({"count", "kill", "meanwhile", "ask"})  # also those behind an event, and half-way through it
_STANDARD = (1, 2)  # what a command says; tests/cli/test_streams.py breaks that
_NEEDS_SPACE = frozenset({"open", "os.mkdir", "os.link", "os.symlink", "os.write", "os.fsync"})
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_write, _fsync = os.write, os.fsync
_rename, _replace = os.rename, os.replace


class _Fault:
    """Count the steps of this process and break the chosen one."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        self.kind = environment["ESIS_FAULT_KIND"]
        self.at = int(environment.get("ESIS_FAULT_AT", "0"))
        self.meanwhile = environment.get("ESIS_FAULT_MEANWHILE", "")
        self.count = 0
        self.ask: Callable[[int, bool, str], str | None] = lambda number, can_fail, what: None
        self.reads = False  # whether what only reads is a step, too
        self.quiet = False
        self.report = os.open(
            environment["ESIS_FAULT_REPORT"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
        )

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Hear of an event that is about to happen."""
        if self.quiet or (event not in _EVENTS and not (self.reads and event in _READING)):
            return
        if event == "open" and (
            not isinstance(arguments[2], int)
            or not (self.reads or arguments[2] & _WRITING)
            or arguments[0] == os.devnull
            or isinstance(arguments[0], int)
        ):
            return  # nothing is opened by the number of what is open already
        if event == "subprocess.Popen":
            name = os.path.basename(os.fsdecode(arguments[0]))
            self.step(event, arguments[0], shown=" ".join([name, *map(str, arguments[1][1:2])]))
        else:
            self.step(event, arguments[0], *(arguments[1:2] if event in ("os.rename", "os.symlink") else ()))

    def step(self, event: str, path: Any, other: Any = None, shown: str | None = None, after: bool = False) -> None:
        """Count one step; strike if it is the chosen one."""
        if after and self.kind not in _ALL_MOMENTS:
            return
        if event in _NOT_AN_OPERATION and self.kind not in _ALL_MOMENTS:
            return
        if self.kind == "short" and event != "os.write":
            return
        if self.kind == "full" and event not in _NEEDS_SPACE:
            return
        self.count += 1
        what = f"{'after ' if after else ''}{event} {shown if shown is not None else _shown(path)}"
        if other is not None:
            what += f" -> {_shown(other)}"
        if self.kind == "ask":
            answer = self.ask(self.count, not after and event not in _NOT_AN_OPERATION, what)
            if answer is not None:
                self.fail(getattr(errno, answer), path, other)
            return
        hit = self.count == self.at or (self.kind == "full" and 0 < self.at < self.count)
        self.say(f"HIT {what}" if hit else what)
        if not hit or self.kind in ("count", "short"):
            return
        if self.kind == "meanwhile":
            os.system(self.meanwhile)
            return
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        self.fail(errno.ENOSPC if self.kind == "full" else getattr(errno, self.kind), path, other)

    def fail(self, code: int, path: Any, other: Any) -> None:
        """Raise what the system says."""
        if isinstance(path, int):
            raise OSError(code, os.strerror(code))  # as write(2) and fsync(2) do: without a name
        raise OSError(code, os.strerror(code), *((path, None, other) if other is not None else (path,)))

    def say(self, text: str) -> None:
        self.quiet = True
        try:
            _write(self.report, text.encode("utf-8", "backslashreplace").replace(b"\n", b" ") + b"\n")
        finally:
            self.quiet = False


_armed: list[_Fault] = []


class _Wrapped:
    """Stand in for a function of os; not a function itself, so that no class can bind it as a method."""

    def __init__(self, inner: Callable[..., Any], call: Callable[..., Any]) -> None:
        self._inner = inner
        self._call = call

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if not _armed:
            return self._inner(*arguments, **options)
        return self._call(_armed[0], self._inner, *arguments, **options)


def _wrapped_fsync(fault: _Fault, inner: Callable[..., Any], descriptor: Any) -> Any:
    number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
    fault.step("os.fsync", number)
    inner(descriptor)
    fault.step("os.fsync", number, after=True)


def _wrapped_write(fault: _Fault, inner: Callable[..., Any], descriptor: int, data: Any) -> Any:
    if descriptor in _STANDARD:
        return inner(descriptor, data)
    fault.step("os.write", descriptor)
    if fault.kind == "short" and fault.count == fault.at:
        return inner(descriptor, memoryview(data)[:SHORT])
    if fault.kind in _ALL_MOMENTS and len(data) > 1:
        done = inner(descriptor, memoryview(data)[: len(data) // 2])
        fault.step("os.write", descriptor, shown=f"{_shown(descriptor)} (half)", after=True)
        return done + inner(descriptor, memoryview(data)[done:])
    return inner(descriptor, data)


def _wrapped_rename(fault: _Fault, inner: Callable[..., Any], source: Any, target: Any, **options: Any) -> Any:
    inner(source, target, **options)
    fault.step("os.rename", source, target, after=True)


def _install() -> None:
    os.fsync = _Wrapped(_fsync, _wrapped_fsync)
    os.write = _Wrapped(_write, _wrapped_write)
    os.rename = _Wrapped(_rename, _wrapped_rename)
    os.replace = _Wrapped(_replace, _wrapped_rename)
    accessor = getattr(sys.modules.get("pathlib"), "_NormalAccessor", None)  # Python 3.9's holds what it found in os
    if accessor is not None:
        accessor.rename, accessor.replace = staticmethod(os.rename), staticmethod(os.replace)
    start = subprocess.Popen.__init__

    def started(self: Any, args: Any, *rest: Any, **options: Any) -> None:
        start(self, args, *rest, **options)
        if _armed:
            shown = " ".join([os.path.basename(str(args[0])), *map(str, args[1:2])])
            _armed[0].step("subprocess.Popen", str(args[0]), shown=shown, after=True)

    subprocess.Popen.__init__ = started  # type: ignore[method-assign]


def arm(
    environment: MutableMapping[str, str],
    ask: Callable[[int, bool, str], str | None] | None = None,
    reads: bool = False,
) -> None:
    """Begin to count as `environment` says, and take our variables out of it.

    `ask` is told the number of a step, whether that may fail, and what it is; it returns an errno's name, or None to go
    on. With `reads` what lists a directory or opens a file to read it is a step, too.
    """
    if "ESIS_FAULT_REPORT" in environment:
        fault = _Fault(environment)
        if ask is not None:
            fault.ask = ask
        fault.reads = reads
        _armed.append(fault)
        sys.addaudithook(fault.hook)
    for name in VARIABLES:
        environment.pop(name, None)
    parts = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part not in ("", HERE)]
    if parts:
        environment["PYTHONPATH"] = os.pathsep.join(parts)
    else:
        environment.pop("PYTHONPATH", None)


def _shown(path: Any) -> str:
    if path is None:
        return "."
    if isinstance(path, int):
        try:
            return os.readlink(f"/proc/self/fd/{path}")
        except OSError:
            return f"descriptor {path}"
    return os.fsdecode(path)


_install()
if "ESIS_FAULT_NURSERY" not in os.environ:
    arm(os.environ)
