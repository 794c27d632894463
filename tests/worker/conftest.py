"""A run for workers, and an environment without a job around it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from esis.model.workdir import RunDir
from esis.worker import stop


def make_run(parent: Path, digest: str = "ab" * 32) -> RunDir:
    """Make a run's directories as `esis run` does."""
    parent.mkdir(parents=True, exist_ok=True)
    run = RunDir.of(parent, digest)
    for path in (run.path, *run.directories()):
        path.mkdir()
    return run


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return make_run(tmp_path / 'it\'s a "$HOME"')


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what a job around the tests would tell the worker, and what it has found out before."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "ESIS_")):
            monkeypatch.delenv(name)
    stop.end_time.cache_clear()
