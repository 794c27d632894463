"""Tests of the list of runs that a job checks before its work."""

from __future__ import annotations

from pathlib import Path

import pytest

from esis.errors import CorruptState
from esis.model.workdir import RunDir
from esis.records import required


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path)
    run.private.mkdir()
    return run


def test_what_is_saved_is_read_again(run: RunDir) -> None:
    assert (required.entries(run), required.paths(run), required.count(run)) == ([], [], 0)
    saved = [(0, 2, Path("/a/b:c")), (1, 1, Path("/a/d"))]
    required.save(run, saved)
    assert required.entries(run) == saved
    assert required.paths(run) == [Path("/a/b:c"), Path("/a/d")]
    assert required.count(run) == 2


def test_f162_a_last_line_that_somebody_mended_counts_without_a_newline(run: RunDir) -> None:
    """task.sh reads it; who writes the list anew would drop that run."""
    run.requirements.write_text("0:2:/a/b\n0:1:/a/c")
    assert required.entries(run) == [(0, 2, Path("/a/b")), (0, 1, Path("/a/c"))]
    assert required.count(run) == 2


def test_a_line_that_is_cut_is_no_entry(run: RunDir) -> None:
    run.requirements.write_text("0:2:/a/b\n0:")
    with pytest.raises(CorruptState, match="'0:' is no <first task>"):
        required.entries(run)
