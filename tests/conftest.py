"""What holds for every test, whatever started the tests."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Hear SIGINT: what a script puts into the background starts with it ignored, and so would all of its children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
