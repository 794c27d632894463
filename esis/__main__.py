"""Start the command `esis`, also `python -m esis`: what needs nothing but a name is told before click is imported."""

import os
import sys


def start() -> None:
    """Run the command line and exit; a Ctrl-C on the way to it ends it like one that comes later."""
    try:
        _start()
    except KeyboardInterrupt:
        _answer("esis: interrupted\n", 2)
        os._exit(130)


def _start() -> None:
    from esis.version import VERSION

    if sys.argv[1:] != ["--version"] or not _answer(f"esis, version {VERSION}\n", 1):
        from esis.cli.main import run

        run()


def _answer(text: str, descriptor: int) -> bool:
    """Write `text`; False where that fails, which the command line tells better."""
    try:
        return os.write(descriptor, text.encode("ascii")) == len(text)
    except OSError:
        return False


if __name__ == "__main__":
    start()
