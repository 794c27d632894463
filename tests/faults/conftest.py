"""Benches for the fault tests, and one nursery a worker."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.site import FakeSite
from tests.faults.bench import Bench, Nursery

FULL = os.environ.get("ESIS_FAULTS") == "full"  # ci/faults sets it


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """A process that starts esis quickly."""
    made = Nursery()
    yield made
    made.close()


@pytest.fixture
def bench(tmp_path: Path, nursery: Nursery) -> Iterator[Bench]:
    """An empty bench whose jobs run only when told to."""
    made = Bench(tmp_path / "bench", nursery)
    with made.slurm:
        yield made


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FakeSite]:
    """The fake as a site of the contract tests; jobs run only when told to."""
    made = FakeSite(tmp_path)
    made.slurm.set(auto=False)
    with made.slurm:
        yield made


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs with 30 inodes (enlarge it with `mount -o remount`); skipped where mounting isn't allowed."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=30", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)
