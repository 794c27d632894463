"""Tell whether this process ends as a script does that went well; only then do files count as it leaves them.

What cuts a worker off has no end of kinds, so this is a list of what is good:

- The modules that were being run when it opened the checkpoint (the script, and what runs it) came to their ends, or
  sys.exit() or sys.exit(0) ended the process. What status a SystemExit of the worker's own has isn't seen from inside.
- No exception came out of a thread, or where Python calls something by itself (at an object's end, say).
- No other thread is left, which may be writing. Nor was there a process that it had started, since it opened the
  checkpoint or declared the files: nobody tells here how one ended, and a signal to the job meets that one, too.
- No signal was heard that ends a job (esis.stopping), and nobody has asked to be requeued.
- It is no child of multiprocessing: that has no end of a script, and a call in a pool fails without its knowledge. And
  no session by hand, in which one line fails, and another one is typed.

What somebody has caught (an exception, a signal by a handler of his own) isn't known.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, ModuleType
    from typing import Any, NoReturn

_RETURNS = ("RETURN_VALUE", "RETURN_CONST")


class _Seen:
    """Be what was seen in this process and, by their numbers, in those that it was forked from."""

    def __init__(self) -> None:
        self.at_work: dict[int, list[FrameType]] = {}
        self.exited: set[int] = set()
        self.failed: set[int] = set()


_seen = _Seen()


class _Exit(SystemExit):
    """Be what sys.exit raises for a good end, and tell if nobody catches it."""

    def __del__(self) -> None:
        if sys._getframe().f_back is None and _is_main_thread():  # Python's own last act
            _seen.exited.add(os.getpid())

    def __reduce__(self) -> tuple[Any, ...]:
        return SystemExit, self.args


_Exit.__name__ = _Exit.__qualname__ = "SystemExit"
_Exit.__module__ = "builtins"


def observe() -> None:
    """Begin to look at how this process ends."""
    if not _seen.at_work:
        import threading

        _see_exits()
        _see_failures(threading, "excepthook")
        _see_failures(sys, "unraisablehook")
    if os.getpid() not in _seen.at_work:
        _seen.at_work[os.getpid()] = _modules_at_work()


def children() -> object:
    """Return what changes with each process that this one has started, and that has ended and was waited for."""
    import resource

    return resource.getrusage(resource.RUSAGE_CHILDREN)


def goes_well(children_before: object) -> bool:
    """Return whether this process, which is at its end, ends well."""
    own = os.getpid()
    modules = _seen.at_work.get(own, [])
    at_its_end = own in _seen.exited or (bool(modules) and all(map(_has_returned, modules)))
    return (
        at_its_end
        and own not in _seen.failed
        and not hasattr(sys, "ps1")
        and not _was_told_to_end()
        and not _is_child()
        and len(sys._current_frames()) == 1
        and children_before == children()
        and not _has_children()
    )


def _modules_at_work() -> list[FrameType]:
    """Return the frames of the main thread that run a module, and the first one of all.

    The variables of a module live on to the end in any case; those of a function would be kept from it.
    """
    import threading

    found: list[FrameType] = []
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        if frame.f_code.co_name == "<module>" or frame.f_back is None:
            found.append(frame)
        frame = frame.f_back
    return found


def _has_returned(frame: FrameType) -> bool:
    """Return whether the last instruction of a frame was a return: an exception leaves it at another one."""
    import opcode

    return opcode.opname[frame.f_code.co_code[frame.f_lasti]] in _RETURNS


def _see_exits() -> None:
    before = sys.exit

    def leave(status: object = None, /) -> NoReturn:
        """Exit the interpreter by raising SystemExit(status)."""
        if status is None:
            raise _Exit
        if isinstance(status, int) and status == 0:
            raise _Exit(status)
        before(status)  # type: ignore[arg-type]

    leave.__name__ = leave.__qualname__ = "exit"
    sys.exit = leave


def _see_failures(module: ModuleType, name: str) -> None:
    before = getattr(module, name)

    def note(told: Any, /) -> None:
        if told.exc_type is not SystemExit:  # a thread's own way to end
            _seen.failed.add(os.getpid())
        before(told)

    setattr(module, name, note)


def _is_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()


def _was_told_to_end() -> bool:
    """Ask those who know; who wasn't loaded has heard nothing."""
    stop, requeue = sys.modules.get("esis.worker.stop"), sys.modules.get("esis.worker.requeue")
    return (stop is not None and stop.Stop.heard) or (requeue is not None and requeue.Requeued.asked)


def _is_child() -> bool:
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def _has_children() -> bool:
    """Return whether a process that this one has started goes on, or has ended and nobody waited for it."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    except AttributeError:  # a system that can't tell
        return True
    return True
