"""What provenance.json tells of the user's git repository."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from esis.model.workdir import RunDir
from esis.model.workflow import Workflow
from esis.process import capture
from esis.records import provenance
from esis.typed import read_object

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="no git here")


def git(place: Path, *words: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
    return subprocess.run(
        ["git", "-C", str(place), *identity, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def workflow(place: Path) -> Workflow:
    place.mkdir(parents=True, exist_ok=True)
    path = place / "wf.esis.json"
    return Workflow(path, "s", "g", "t", "w")


def told(place: Path, scratch: Path) -> Any:
    run = RunDir.of(scratch, "ab" * 32)
    run.private.mkdir(parents=True)
    provenance.save(run, workflow(place), ["esis", "run"], None)
    shutil.move(run.provenance, scratch / "told.json")
    shutil.rmtree(run.path)
    return read_object(scratch / "told.json")["git"]


@pytest.mark.parametrize("below", ["", "scans/a"])
def test_commit_and_changes_of_the_repository_around_the_workflow_are_told(tmp_path: Path, below: str) -> None:
    """Changes beside the workflow's directory don't count, nor does what git doesn't know."""
    git(tmp_path, "init", "-q", "repository")
    place = tmp_path / "repository" / below
    place.mkdir(parents=True, exist_ok=True)
    (place / "worker.sh").write_text("true\n")
    git(place, "add", "worker.sh")
    git(place, "commit", "-q", "-m", "one")
    commit = git(place, "rev-parse", "HEAD")
    assert told(place, tmp_path) == {"commit": commit, "dirty": False}
    (place / "worker.sh").write_text("false\n")
    assert told(place, tmp_path) == {"commit": commit, "dirty": True}


def test_where_there_is_no_repository_no_git_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To start it takes as long as much of what `esis run` does; GIT_DIR may name one that is elsewhere."""
    if any((above / ".git").exists() for above in tmp_path.resolve().parents):
        pytest.skip("the temporary directory is in a repository")
    started: list[list[str]] = []

    def counted(argv: list[str], timeout: float) -> Any:
        started.append(argv)
        return capture(argv, timeout=timeout)

    monkeypatch.setattr("esis.records.provenance.capture", counted)
    monkeypatch.delenv("GIT_DIR", raising=False)
    assert told(tmp_path / "plain", tmp_path) is None
    assert started == []
    git(tmp_path, "init", "-q", "repository")
    (tmp_path / "repository/file").touch()
    git(tmp_path / "repository", "add", "file")
    git(tmp_path / "repository", "commit", "-q", "-m", "one")
    monkeypatch.setenv("GIT_DIR", os.fspath(tmp_path / "repository/.git"))
    assert told(tmp_path / "plain", tmp_path)["commit"] == git(tmp_path / "repository", "rev-parse", "HEAD")


def test_where_nobody_can_tell_whether_there_is_a_repository_there_is_none(tmp_path: Path) -> None:
    """As of a `.git` that leads to where this user may not look: no reason not to run."""
    place = tmp_path / "plain"
    place.mkdir()
    (place / ".git").symlink_to("n" * 300)
    assert told(place, tmp_path) is None
