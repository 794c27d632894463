"""Start the command `esis`, also `python -m esis`: what needs nothing but a name is told before click is imported."""

import os
import sys
from contextlib import suppress

_COLLECTED = 50_000  # new objects between two searches for cycles: modules bring as many, and all of them stay


def start() -> None:
    """Run the command line and exit; a Ctrl-C on the way to it ends it like one that comes later."""
    try:
        _start()
    except KeyboardInterrupt:
        _answer("esis: interrupted\n", 2)
        os._exit(130)


def _start() -> None:
    _leave_alone_what_lies_beside(os.path.dirname(os.path.realpath(sys.argv[0])))  # noqa: PTH120
    if sys.argv[1:] == ["--version"]:
        from esis.version import VERSION

        if _answer(f"esis, version {VERSION}\n", 1):
            return
    import gc

    gc.set_threshold(_COLLECTED)
    from esis.cli.main import run

    run()


def _leave_alone_what_lies_beside(place: str) -> None:
    """Take the directory of the script, or of a `python -m`, out of sys.path, as `python -P` does.

    A file csv.py of the user's there isn't meant; and every import would look there first, on a network file system.
    """
    if sys.path[:1] == [place] and not os.path.exists(f"{place}/esis/__main__.py"):  # noqa: PTH110
        del sys.path[0]


def _answer(text: str, descriptor: int) -> bool:
    """Write `text`; False where that fails, which the command line tells better."""
    try:
        return os.write(descriptor, text.encode("ascii")) == len(text)
    except OSError:
        return False


if __name__ == "__main__":
    with suppress(OSError):  # the present directory is gone
        _leave_alone_what_lies_beside(os.getcwd())  # noqa: PTH109
    start()
