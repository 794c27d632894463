"""Other names of directories."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def bound(directory: Path, name: Path, read_only: bool = False) -> Iterator[None]:
    """Let `name`, an empty directory, be another name of `directory`; skip where nothing may be mounted."""
    done = subprocess.run(["mount", "--bind", str(directory), str(name)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        if read_only:
            subprocess.run(["mount", "-o", "remount,ro,bind", str(name)], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(name)], check=False)
