"""Start the command `esis`, also `python -m esis`: what needs nothing but a name is told before click is imported."""

import os
import sys

from esis.version import VERSION


def start() -> None:
    """Run the command line and exit."""
    if sys.argv[1:] != ["--version"] or not _answer(f"esis, version {VERSION}\n"):
        from esis.cli.main import run

        run()


def _answer(text: str) -> bool:
    """Write `text` to standard output; False where that fails, which the command line tells better."""
    try:
        return os.write(1, text.encode("ascii")) == len(text)
    except OSError:
        return False


if __name__ == "__main__":
    start()
