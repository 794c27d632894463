"""Copies made before the name of the run is known: used, or gone."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from esis import digests
from esis.errors import EsisError
from esis.model import known_digests
from esis.model.fingerprint import text_digest
from esis.model.workdir import STAGING_PREFIX
from esis.operations import ahead
from esis.operations.ahead import resolved
from esis.operations.build.prepare import prepared
from esis.operations.context import Context
from tests.contract.site import BIN, FakeSite, Workflow, make_workflow, until

SIZE = 300_000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Small files take the way of large ones; what was just written is remembered."""
    monkeypatch.setattr(ahead, "_WORTH_BYTES", 1000)
    monkeypatch.setattr(digests, "BESIDE", 1000)
    monkeypatch.setattr(known_digests, "SETTLED_SECONDS", -3600.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def flow(site: FakeSite) -> Workflow:
    """A workflow with a file and a directory."""
    made = make_workflow(site, "w", setup="#!/bin/sh\n")
    (made.directory / "table").write_bytes(os.urandom(SIZE))
    (made.directory / "lib/below").mkdir(parents=True)
    for name in ("lib/a", "lib/below/b"):
        (made.directory / name).write_bytes(os.urandom(SIZE))
    (made.directory / "lib/link").symlink_to("below/b")
    made.esis("setup", "setup.sh", "gen.py", "template.sh", "worker.sh", "table", "lib").ok()
    return made


def build(flow: Workflow, verify: bool = False) -> Path:
    with resolved(flow.directory / "wf.esis.json", Context(), verify) as (node, context), prepared(node, context):
        assert text_digest(node.run.wf_status.read_text()) == node.digest
        return node.run.path


def litter(flow: Workflow) -> list[str]:
    return [name for name in os.listdir(flow.directory) if name.startswith(".esis")]


def recorded(run: Path) -> dict[str, str]:
    lines = (run / "__esis__/wf_status").read_text().split("\n")
    return dict(line.split(":") for line in lines)


def test_copies_become_part_of_the_run(flow: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are moved, not copied again; they are what the hash says, and read-only."""
    copied: list[str] = []
    inner = digests.copy_descriptor

    def counting(reading: int, writing: int, stop: object = None) -> str:
        copied.append(os.readlink(f"/proc/self/fd/{reading}").rpartition("/")[2])
        return inner(reading, writing)

    monkeypatch.setattr("esis.model.sources.copy_descriptor", counting)
    run = build(flow)
    assert sorted(copied) == sorted(["setup.sh", "gen.py", "template.sh", "worker.sh", "table", "a", "b"])
    assert recorded(run)["table"] == hashlib.sha256((run / "includes/table").read_bytes()).hexdigest()
    assert (run / "includes/lib/below/b").read_bytes() == (flow.directory / "lib/below/b").read_bytes()
    assert os.readlink(run / "includes/lib/link") == "below/b"
    assert not (run / "includes/table").stat().st_mode & 0o222
    assert litter(flow) == []
    assert flow.esis("list").ok().stdout.count("wrkdir.") == 1


def test_nothing_is_copied_for_a_run_that_may_be_there(flow: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the memory is gone: a file of that name and size stands in a run."""
    run = build(flow)

    def never(*arguments: object) -> str:
        raise AssertionError("copied")

    monkeypatch.setattr("esis.model.sources.copy_descriptor", never)
    assert build(flow) == run
    assert build(flow, verify=True) == run


def test_copies_that_nobody_wants_are_removed(flow: Workflow) -> None:
    """The command fails, or another one was faster."""
    with pytest.raises(EsisError, match="stop"), resolved(flow.directory / "wf.esis.json", Context()) as (_, context):
        assert {path.name for path in context.copies} == {"table", "lib"}
        assert len(litter(flow)) == 1
        raise EsisError("stop")
    assert litter(flow) == []
    path = flow.directory / "wf.esis.json"
    memory_gone = Context()
    with resolved(path, memory_gone, verify=True) as (node, context):
        assert context.copies
        flow.esis("run").ok()
        with prepared(node, context):
            pass
    assert litter(flow) == []
    assert len(flow.runs()) == 1


@pytest.mark.parametrize("change", ["worker.sh", "gen.py"])
def test_nothing_is_copied_for_a_workflow_that_will_be_refused(flow: Workflow, change: str) -> None:
    """Before any write: a generator that can't be executed, a template without marks."""
    flow.write("gen.py" if change == "gen.py" else "template.sh", "#!/bin/sh\n", executable=False)
    with resolved(flow.directory / "wf.esis.json", Context()) as (_, context):
        assert not context.copies
        assert litter(flow) == []


def test_f04_where_no_copy_can_be_made_the_hash_is_found_all_the_same(
    flow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: the run that is being looked for may be there already."""

    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", full)
    with resolved(flow.directory / "wf.esis.json", Context()) as (node, context):
        assert not context.copies
        assert litter(flow) == []
    monkeypatch.undo()
    assert build(flow).name == f"wrkdir.{node.digest}"


def test_f33_a_source_that_changes_after_its_copy_does_not_matter(flow: Workflow) -> None:
    """The run is that of the copy."""
    before = (flow.directory / "table").read_bytes()
    with resolved(flow.directory / "wf.esis.json", Context()) as (node, context):
        (flow.directory / "table").write_bytes(b"other")
        (flow.directory / "lib/below/b").unlink()
        with prepared(node, context):
            pass
    assert (node.run.includes / "table").read_bytes() == before
    assert recorded(node.run.path)["table"] == hashlib.sha256(before).hexdigest()
    assert not (node.run.includes / "table").stat().st_mode & 0o222
    assert build(flow) != node.run.path


def test_f33_a_remembered_hash_that_is_wrong_never_gets_into_a_run(
    flow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a file written through a memory map, whose times stay: refused, and right the next time."""
    build(flow)
    flow.write("worker.sh", "#!/bin/sh\n# other\n")
    inner = known_digests.Identity.of.__func__  # type: ignore[attr-defined]
    known = inner(known_digests.Identity, os.open(flow.directory / "table", os.O_RDONLY))
    (flow.directory / "table").write_bytes(os.urandom(SIZE))

    def same(cls: type, descriptor: int) -> known_digests.Identity:
        found: known_digests.Identity = inner(cls, descriptor)
        return known if found.inode == known.inode else found

    monkeypatch.setattr(known_digests.Identity, "of", classmethod(same))
    runs = flow.runs()
    with pytest.raises(EsisError, match="table changed while it was being copied"):
        build(flow)
    assert flow.runs() == runs
    assert litter(flow) == []
    run = build(flow)
    assert recorded(run)["table"] == hashlib.sha256((run / "includes/table").read_bytes()).hexdigest()


def test_a_killed_copy_is_swept_by_the_next_command(site: FakeSite) -> None:
    """SIGKILL while it copies; SIGTERM tidies up by itself."""
    flow = make_workflow(site, "w")
    with (flow.directory / "table").open("wb") as stream:
        stream.truncate(1 << 40)  # takes for ever, and no space: the copy is ended before
    flow.esis("setup", "setup.sh", "gen.py", "template.sh", "worker.sh", "table").ok()
    for number in (signal.SIGKILL, signal.SIGTERM):
        child = subprocess.Popen(
            [BIN / "esis", "run"], cwd=flow.directory, env=site.slurm.env(dict(os.environ)), stderr=subprocess.DEVNULL
        )
        copy = f".esis-build-early-*,{child.pid},*/0/table"
        until(lambda pattern=copy: any(flow.directory.glob(pattern)), 30)  # type: ignore[misc]
        child.send_signal(number)
        child.wait(30)
        assert len(litter(flow)) == (number == signal.SIGKILL)
    assert STAGING_PREFIX == ".esis-build-"
