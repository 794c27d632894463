"""Wait for something that has to be asked for, gently: the pauses grow."""

from __future__ import annotations

import time
from collections.abc import Callable

GROWTH = 1.5


def pause_until(condition: Callable[[], bool], seconds: float | None, first: float, longest: float) -> bool:
    """Ask until `condition` holds or `seconds` (None: for ever) are over; return whether it held.

    The pauses grow from `first` to `longest` seconds.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    pause = first
    while not condition():
        now = time.monotonic()
        if deadline is not None and now >= deadline:
            return False
        time.sleep(pause if deadline is None else max(0.0, min(pause, deadline - now)))
        pause = min(longest, pause * GROWTH)
    return True
