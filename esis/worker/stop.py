"""Tell a worker that it has to stop soon: a signal came, or the time limit is near.

Slurm announces the end of a job by SIGTERM (time limit, preemption, scancel) or, if the template asks for it, by
SIGUSR1 some time before. Handlers are set only when a worker asks for one of these functions, never on import.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Optional, Union

from esis.errors import BadInput, EsisError
from esis.hook import JOB_END  # for templates that know better, or save the call of squeue

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
MARGIN_SECONDS = 60.0
_ASK_SECONDS = 30.0
if TYPE_CHECKING:
    _Handler = Union[Callable[[int, Optional[FrameType]], Any], int, signal.Handlers, None]
_NO_LIMIT = ("NONE", "N/A", "UNKNOWN", "")


class Stop:
    """Be true from the moment on when the worker has to stop."""

    heard: ClassVar[bool] = False  # whether any of them has heard a signal

    def __init__(self, margin: float | None = MARGIN_SECONDS) -> None:
        """Set how many seconds before the time limit it becomes true; None: the time doesn't count."""
        self.margin = margin
        self._heard: str | None = None
        self._active = False
        self._before: dict[int, _Handler] = {}

    def __bool__(self) -> bool:
        return self.reason is not None

    def __repr__(self) -> str:
        return f"<stop: {self.reason or 'not yet'}>"

    @property
    def reason(self) -> str | None:
        """Return the name of the signal, or "time limit"; None as long as the worker may go on."""
        if self._heard is None and self.margin is not None:
            end = end_time()
            if end is not None and time.time() >= end - self.margin:
                self._heard = "time limit"
        return self._heard

    @property
    def remaining(self) -> float | None:
        """Return the seconds until the time limit; None where there is none, or nobody knows it."""
        end = end_time()
        return None if end is None else end - time.time()

    def listen(self, signals: Sequence[int] = SIGNALS) -> None:
        """Set the handlers; one that was there is called after ours, but Python's own for SIGINT, which would raise.

        Raises EsisError outside of the main thread, BadInput for what is no signal that can be heard.
        """
        if threading.current_thread() is not threading.main_thread():
            raise EsisError(
                "handlers of signals can be set in the main thread alone",
                "call esis.stopping() or esis.should_stop() there once, before the other threads begin",
            )
        self._active = True
        for number in dict.fromkeys(signals):
            try:
                self._before[number] = signal.signal(number, self._hear)
            except (OSError, ValueError) as error:
                self.ignore()
                raise BadInput(
                    f"{_name(number)} can't be heard: {error}", "choose others, such as signal.SIGTERM"
                ) from error

    def ignore(self) -> None:
        """Put the handlers back that were there before; one that was set on top of ours stays."""
        self._active = False
        for number, before in self._before.items():
            if signal.getsignal(number) == self._hear and before is not None:
                signal.signal(number, before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        Stop.heard = True
        if self._active:
            self._heard = self._heard or _name(number)
        before = self._before.get(number)
        if callable(before) and before is not signal.default_int_handler:
            before(number, frame)


@contextlib.contextmanager
def stopping(margin: float | None = MARGIN_SECONDS, signals: Sequence[int] = SIGNALS) -> Iterator[Stop]:
    """Give a flag that becomes true on SIGTERM, SIGUSR1, or `margin` seconds before the time limit.

    Within the block these signals no longer end the process, however many come. Raises EsisError outside of the main
    thread, BadInput for what is no signal that can be heard.
    """
    stop = Stop(margin)
    stop.listen(signals)
    try:
        yield stop
    finally:
        stop.ignore()


def should_stop(margin: float | None = MARGIN_SECONDS) -> bool:
    """Return whether the worker has to stop; the first call sets the handlers, for good.

    Other threads may ask too, once the main thread has. Raises EsisError if it hasn't.
    """
    stop = _for_good()
    stop.margin = margin
    return bool(stop)


@functools.lru_cache(maxsize=1)
def end_time() -> float | None:
    """Return when the job will reach its time limit, in seconds since 1970; None where nothing is known of one.

    From ESIS_JOB_END_TIME, SLURM_JOB_END_TIME (Slurm 23.02 and newer), or else one question to squeue.
    """
    for name in (JOB_END, "SLURM_JOB_END_TIME"):
        text = os.environ.get(name, "")
        if text.isascii() and text.isdigit():
            return float(text)
    from esis.worker.job import JobHere

    job = JobHere.here()
    if job is None or job.local:
        return None
    return _ask_squeue(job.name)


def _name(number: int) -> str:
    """Return a signal's name; of the real-time ones Python names but the first and the last."""
    try:
        return signal.Signals(number).name
    except ValueError:
        if signal.SIGRTMIN < number < signal.SIGRTMAX:
            return f"SIGRTMIN+{number - signal.SIGRTMIN}"
        return f"signal {number}"


@functools.lru_cache(maxsize=1)
def _for_good() -> Stop:
    stop = Stop()
    stop.listen()
    return stop


def _ask_squeue(job: str) -> float | None:
    """Ask for the end of the job, once; a failure is told, for then the time limit can't be seen coming."""
    from datetime import datetime

    from esis.process import capture
    from esis.worker.job import asking_environment

    argv = ["squeue", "-h", "-j", job, "-o", "%e"]
    try:
        # Left out by a filter it would look as if it had no limit.
        done = capture(argv, env=asking_environment(SLURM_TIME_FORMAT="standard"), timeout=_ASK_SECONDS)
        text = done.stdout.decode("utf-8", "replace").strip()
        if done.code == 0 and not done.timed_out:
            return None if text.upper() in _NO_LIMIT else datetime.fromisoformat(text).timestamp()
        problem = done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.code}"
    except (OSError, ValueError) as error:
        problem = str(error)
    warnings.warn(
        f"esis can't see the time limit coming ({' '.join(argv)}: {problem}); signals alone count. "
        f"Set {JOB_END} in the template",
        RuntimeWarning,
        stacklevel=2,
    )
    return None
