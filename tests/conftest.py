"""What holds for every test, whatever started the tests."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Hear SIGINT, SIGQUIT and SIGHUP.

    What a script's shell puts into the background ignores the first two, what nohup starts the third.
    All children would ignore them, too: POSIX lets no shell set a trap on what was ignored when it started.
    """
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
