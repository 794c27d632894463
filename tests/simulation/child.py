"""Be one command of ESIS: a fork of the warm process, in which time, Slurm, host and scripts are the world's.

What the product calls stays the product's: only `esis.process.capture` and `run_logged`, the clocks, the host's name,
os.urandom and one thread are replaced. A kill is SIGKILL of this process, so no `finally` runs.
"""

from __future__ import annotations

import importlib.util
import os
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import esis.process
from esis.locks import HEARTBEAT_SECONDS
from tests import forked
from tests.simulation import old
from tests.simulation.messages import ERRNOS, Asked, Order, Paused, Reply, Slept

_PATIENCE = 120  # seconds: what blocks is ended by SIGALRM
_INJECTOR = Path(__file__).parents[1] / "faults" / "injector" / "sitecustomize.py"
_OUTSIDE = re.compile(r"^(after )?[a-z.]+ (/proc|/etc|/usr|/sys|/var)|\.pyc?$")  # reading there is no step
_COUNT = re.compile(rb"echo (\d+)\s*\Z")


def warm_up(release: Path | None = None) -> ModuleType:
    """Import all that a command may need, and return the injector of faults, not armed.

    `release`: where the last release lies, if there will be commands of it.
    """
    forked.preload("zoneinfo")
    if release is not None:
        old.load(release)
    spec = importlib.util.spec_from_file_location("injector", _INJECTOR)
    if spec is None or spec.loader is None:
        raise ImportError(str(_INJECTOR))
    injector = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(injector)
    return injector


def fork(order: Order, line: Connection, injector: ModuleType) -> int:
    """Start a command and return its process id."""
    return forked.fork(_Child(order, line, injector).run)


class _Child:
    def __init__(self, order: Order, line: Connection, injector: ModuleType) -> None:
        self.order = order
        self.line = line
        self.injector = injector
        self.now = order.now
        self.moments = 0
        self.steps = 0
        self.list = -1  # the descriptor to which steps are written
        self.beats: dict[Path, float] = {}  # locks that this command holds, and when it last said so

    def run(self) -> None:
        order = self.order
        forked.become(order.argv, order.cwd, order.env, order.stdout, order.stderr)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where the tests are run in the background
        signal.alarm(_PATIENCE)
        if order.old:
            old.become_old()
        self._replace()
        if order.stop is not None and order.stop.what == "list":
            self.list = os.open(f"{order.stdout}.steps", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fault = {"ESIS_FAULT_REPORT": os.devnull, "ESIS_FAULT_KIND": "ask"}
        self.injector.arm(fault, self._step, order.readings)
        from esis.cli.main import run

        run()

    def _replace(self) -> None:
        chance, host, here = random.Random(self.order.seed), self.order.host, os.uname()
        sys.executable = f"{self.order.env['WORLD']}/bin/python"  # what a job of `esis run --feed` calls
        os.urandom = lambda size: bytes(chance.randrange(256) for _ in range(size))
        os.uname = lambda: os.uname_result((here[0], host, *here[2:]))
        time.time = time.monotonic = lambda: self.now
        time.sleep = self._sleep
        threading.Thread = _thread(self.order.reads_late, self)  # type: ignore[misc]
        self._stamp()
        process: Any = sys.modules["esis.process"]  # of the version that this command is of
        for module in list(sys.modules.values()):
            if getattr(module, "__name__", "").startswith("esis.") and module is not process:
                if getattr(module, "capture", None) is process.capture:
                    module.capture = self._capture  # type: ignore[attr-defined]
                if getattr(module, "run_logged", None) is process.run_logged:
                    module.run_logged = self._run_logged  # type: ignore[attr-defined]

    def _stamp(self) -> None:
        """Let new directories and files, by which locks tell their age, have the world's time."""
        mkdir, open_file, utime = os.mkdir, os.open, os.utime

        def touch(path: Any, *rest: Any, **options: Any) -> None:
            if rest or options:
                utime(path, *rest, **options)
            else:
                utime(path, (self.now, self.now))

        def make(path: Any, *rest: Any, **options: Any) -> None:
            mkdir(path, *rest, **options)
            self._quietly(lambda: utime(path, (self.now, self.now)))

        def opened(path: Any, flags: int, *rest: Any, **options: Any) -> int:
            descriptor = open_file(path, flags, *rest, **options)
            if flags & os.O_EXCL:
                self._quietly(lambda: utime(descriptor, (self.now, self.now)))
            return descriptor

        os.mkdir, os.open, os.utime = make, opened, touch

    def _quietly(self, do: Callable[[], None]) -> None:
        """Do something that is no step of the command's."""
        fault = self.injector._armed[0]
        before, fault.quiet = fault.quiet, True
        try:
            do()
        finally:
            fault.quiet = before

    def _step(self, number: int, can_fail: bool, what: str) -> str | None:
        """Do what is planned for one step; an errno's name is raised."""
        stop = self.order.stop
        if stop is None or (self.order.readings and _OUTSIDE.search(what)):
            return None
        self.steps += 1
        if stop.what == "list":
            self.injector._write(self.list, what.encode("utf-8", "backslashreplace").replace(b"\n", b" ") + b"\n")
        if stop.at == self.steps and stop.what in ("kill", "hold", *ERRNOS):
            return self._stop(stop.what, can_fail, what)
        return None

    def _stop(self, what: str, can_fail: bool = False, step: str = "") -> str | None:
        if what.startswith("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if what.startswith("hold"):
            self.line.send(Paused(what, step))
            self.now = self.line.recv()
            return None
        return what if can_fail else None

    def _at_call(self) -> None:
        """Count the moments before and behind the calls of Slurm's programs; do what is planned for one of them."""
        self.moments += 1
        stop = self.order.stop
        if stop is not None and stop.at == self.moments and stop.what in ("killcall", "holdcall"):
            self._stop(stop.what)

    def _sleep(self, seconds: Any) -> None:
        self.line.send(Slept(seconds))
        self.now = self.line.recv()
        for entry, last in self.beats.items():
            if self.now - last >= HEARTBEAT_SECONDS:
                self.beats[entry] = self.now
                with suppress(OSError):
                    self._quietly(lambda entry=entry: os.utime(entry))  # type: ignore[misc]

    def _capture(
        self, argv: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float
    ) -> esis.process.Completed:
        """Let the world's Slurm answer; before the question and behind the answer the command may be stopped."""
        if argv[0] == "git":
            raise FileNotFoundError(2, "No such file or directory", "git")
        sys.audit("subprocess.Popen", argv[0], list(argv), None, None)
        self._at_call()
        place = str(cwd) if cwd is not None else os.getcwd()
        os.stat(place)
        self.line.send(Asked(tuple(argv), place, dict(os.environ if env is None else env), timeout))
        reply: Reply = self.line.recv()
        self.now = reply.now
        self._at_call()
        sys.audit("subprocess.Popen", argv[0], list(argv), None, None)
        return esis.process.Completed(argv, reply.code, reply.stdout, reply.stderr, reply.timed_out)

    def _run_logged(
        self, argv: Sequence[str], *, cwd: Path, log: Path, started: Callable[[int], None] | None = None, **_: object
    ) -> esis.process.Completed:
        """Do what the generator and the setup script do; files.py has the same as shell scripts."""
        sys.audit("subprocess.Popen", argv[0], list(argv), None, None)
        log.write_bytes(b"")
        if started is not None:
            started(os.getpid())
        said = b""

        def work() -> None:
            nonlocal said
            counted = _COUNT.search(Path(argv[0]).read_bytes())
            said = b"" if counted is None else counted.group(1) + b"\n"
            for n in range(int(said or 0)):
                (cwd / f"parameters.{n}.json").write_text(f'{{"n": {n}}}\n')
            if counted is None:
                with (cwd / "setup-ran").open("a") as stream:
                    stream.write("ran\n")
            log.write_bytes(said)

        self._quietly(work)
        sys.audit("subprocess.Popen", argv[0], list(argv), None, None)
        return esis.process.Completed(argv, 0, said, b"")


def _thread(late: bool, child: _Child) -> type[threading.Thread]:
    """Return a thread that isn't one where the product reads records while it asks, or gives signs of life.

    Records are read before the question or behind it: both orders happen; which one is the world's choice.
    """
    real = threading.Thread

    class Thread(real):  # type: ignore[misc,valid-type]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            target = options.get("target")
            self._what = getattr(target, "__name__", "")
            self._do: Callable[[], None] = target or (lambda: None)
            self._of = options.get("args", ())

        def start(self) -> None:
            if self._what == "_heartbeat":
                child.beats[self._of[0]] = child.now
            elif self._what != "read":
                super().start()
            elif not late:
                self._do()

        def join(self, timeout: float | None = None) -> None:
            if self._what == "_heartbeat":
                child.beats.pop(self._of[0], None)
            elif self._what != "read":
                super().join(timeout)
            elif late:
                self._do()

    return Thread


def reap(pid: int) -> int:
    """Wait for the end of a command and return its exit status; negative: the signal."""
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status)
