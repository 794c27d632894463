"""What the long runs of worlds and of interleavings have in common: their processes, and broken products."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from tests.simulation import child
from tests.simulation.breaks import Break, run_broken

_warm: list[ModuleType] = []


def begin(release: Path | None = None) -> None:
    """Import all of the product, once in a process; `release`: and of the last release, which lies there."""
    _warm.append(child.warm_up(release))
    gc.collect()
    gc.freeze()


def injector() -> ModuleType:
    """Return the injector of faults of a process that has begun."""
    return _warm[0]


def fix_hashes(module: str) -> None:
    """Start `python -m module` once more where strings hash at random: the order of sets is part of a world."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]])


def tell_broken(name: str, broken: Break, module: str) -> int:
    """Run the same command, given `--break name`, with a broken product; print what it says and return its code."""
    rest = [word for word in sys.argv[1:] if word not in ("--break", name)]
    with tempfile.TemporaryDirectory(prefix="esis-broken-") as directory:
        done = run_broken(broken, Path(directory), module, rest)
    print(done.stdout + done.stderr, end="")
    return done.returncode
