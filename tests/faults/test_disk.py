"""Disks that are full and state files that are broken."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.faults.bench import Bench, differences, generator, only_run, tree
from tests.faults.conftest import FULL


def test_f04_on_a_really_full_disk_nothing_is_submitted_and_room_mends_it(small_disk: Path, bench: Bench) -> None:
    """F04: exit code ≠ 0, one line with errno and path; with the room back the same command is clean."""
    subprocess.run(["mount", "-o", "remount,nr_inodes=2000", str(small_disk)], check=True)
    bench.home = small_disk
    place = bench.workflow("a")
    (place / "helper.txt").write_bytes(b"x" * 200_000)
    filler = small_disk / "filler"
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize
    filler.write_bytes(b"x" * (free - 100_000))
    full = bench.esis(place, "run")
    assert full.code == 1, full.stderr
    assert "ENOSPC" in full.stderr
    assert str(place) in full.stderr
    assert len(full.stderr.splitlines()) == 1
    assert bench.slurm.jobs() == []
    assert list(place.glob("wrkdir.*")) == []
    filler.unlink()
    bench.esis(place, "run").ok()
    assert len(bench.slurm.jobs()) == 1
    assert [name for name in os.listdir(place) if name.startswith(".esis")] == []


def test_f05_too_few_inodes_are_told_and_enlarging_mends_it(small_disk: Path, bench: Bench) -> None:
    """F05: the generator's own words, or ESIS's where it met the limit first; nothing is submitted; then it works."""
    subprocess.run(["mount", "-o", "remount,nr_inodes=60", str(small_disk)], check=True)
    bench.home = small_disk
    place = bench.workflow("a", 100)
    (place / "gen.sh").write_text("#!/bin/sh\nset -e\n" + generator(100).partition("\n")[2])
    refused = bench.esis(place, "run")
    assert refused.code == 4 or (refused.code == 1 and "(ENOSPC)" in refused.stderr), refused.stderr
    assert "No space left on device" in refused.stderr
    assert str(place) in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert bench.slurm.jobs() == []
    subprocess.run(["mount", "-o", "remount,nr_inodes=2000", str(small_disk)], check=True)
    bench.esis(place, "run").ok()
    assert len(bench.slurm.jobs()) == 1
    assert len(list((only_run(place) / "parameters").iterdir())) == 100


def test_f05_too_few_inodes_for_the_build_itself(small_disk: Path, bench: Bench) -> None:
    """F05: when ESIS can't make its own directories the errno is named and nothing is left behind."""
    bench.home = small_disk
    place = bench.workflow("a")
    before = tree(small_disk)
    for number in range(100):
        try:
            (small_disk / f"filler.{number}").touch()
        except OSError:
            break
    (small_disk / "filler.0").unlink()
    refused = bench.esis(place, "run")
    assert refused.code == 1, refused.stderr
    assert "ENOSPC" in refused.stderr
    assert str(place) in refused.stderr
    for filler in small_disk.glob("filler.*"):
        filler.unlink()
    assert differences(before, tree(small_disk)) == []
    subprocess.run(["mount", "-o", "remount,nr_inodes=2000", str(small_disk)], check=True)
    bench.esis(place, "run").ok()


DAMAGES = {
    "empty": b"",
    "garbage": b"\x00\xff\xfe garbage",
    "a list": b"[1, 2]",
    "nested": b"[" * 100_000,
    "wrong types": b'{"schema": 1, "stage": 7, "number": [], "tasks": {}, "first": "x", "jobs": 3}',
}
FILES = (
    "state.json",
    "submissions/0001.json",
    "jobid.tx",
    "wf_starttime",
    "completed.state",
    "provenance.json",
    "wf_status",
    "workflow_definition.json",
)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["truncated", *DAMAGES] if FULL else ["truncated", "garbage", "wrong types"])
def test_f07_a_damaged_state_file_is_called_corrupt_or_derived_anew(bench: Bench, file: str, damage: str) -> None:
    """F07: no traceback, nothing submitted again; where the file decides something it is named."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    bench.slurm.run()
    run = only_run(place)
    target = run / "__esis__" / file
    data = target.read_bytes()
    target.write_bytes(data[: len(data) // 2] if damage == "truncated" else DAMAGES[damage])
    (run / "mended").touch()
    for arguments in (
        ["list"],
        ["list", "--json"],
        ["status"],
        ["status", "--tasks"],
        ["run"],
        ["resubmit"],
        ["log", "1"],
        ["errors"],
        ["cancel"],
    ):
        shown = bench.esis(place, *arguments)
        assert "Traceback" not in shown.stderr + shown.stdout, (arguments, shown.stderr)
        assert "internal error" not in shown.stderr, (arguments, shown.stderr)
        assert shown.code >= 0
        if "corrupt" in shown.stderr:
            assert shown.code == 1
            assert str(target) in shown.stderr or file == "state.json", shown.stderr
    assert len(bench.slurm.jobs()) == 1
    assert (run / "worker.sh").exists()


@pytest.mark.parametrize("damage", ["truncated", *DAMAGES])
def test_f07_a_damaged_stage_is_derived_from_the_submission(bench: Bench, damage: str) -> None:
    """F07: a run with a submission was built, so state.json is derived anew; its finished tasks are kept."""
    place = bench.workflow("a")
    (place / "flaky").touch()
    bench.esis(place, "run").ok()
    bench.slurm.run()
    run = only_run(place)
    state = run / "__esis__/state.json"
    state.write_bytes(state.read_bytes()[:30] if damage == "truncated" else DAMAGES[damage])
    assert bench.states(place) == {"done": 1, "failed": 2}
    bench.esis(place, "run").ok()
    assert len((run / "setup-ran").read_text().splitlines()) == 1
    (run / "mended").touch()
    bench.esis(place, "resubmit").ok()
    bench.slurm.run()
    assert bench.states(place) == {"done": 3}
    assert len(bench.slurm.jobs()) == 2


@pytest.mark.parametrize("damage", ["truncated", *DAMAGES])
def test_f07_a_damaged_stage_of_an_unfinished_build_leads_to_a_new_build(bench: Bench, damage: str) -> None:
    """F07: without a submission nothing is lost by building it again."""
    place = bench.workflow("a")
    (place / "setup.sh").write_text("#!/bin/sh\nexit 1\n")
    assert bench.esis(place, "run").code == 4
    state = only_run(place) / "__esis__/state.json"
    state.write_bytes(state.read_bytes()[:30] if damage == "truncated" else DAMAGES[damage])
    (place / "setup.sh").write_text("#!/bin/sh\nexit 1\n")
    assert bench.esis(place, "list").ok().stdout == ""
    assert bench.esis(place, "run").code == 4
    assert bench.slurm.jobs() == []


@pytest.mark.parametrize("damage", ["truncated", *DAMAGES])
def test_f07_a_damaged_submission_is_never_submitted_again(bench: Bench, damage: str) -> None:
    """F07: the record is called corrupt by name while its tasks may be queued; nothing is queued a second time."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    run = only_run(place)
    target = run / "__esis__/submissions/0001.json"
    target.write_bytes(target.read_bytes()[:40] if damage == "truncated" else DAMAGES[damage])
    for command in ("run", "resubmit", "dependency", "status"):
        refused = bench.esis(place, command)
        assert refused.code == 1, (command, refused)
        assert str(target) in refused.stderr
        assert "corrupt" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    assert len(bench.slurm.jobs()) == 1


def test_f07_damaged_task_records_decide_nothing(bench: Bench) -> None:
    """F07: the state stands in the names; a record's content may be garbage, and strange names are nobody's."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    bench.slurm.run()
    run = only_run(place)
    for record in (run / "__esis__/tasks").iterdir():
        record.write_bytes(b"\xff{")
    for name in ("garbage", "0.0001.1.0.x.exit0.5", ".hidden", "9" * 200, "1.0001.1.0.5.exit0.5.extra"):
        (run / "__esis__/tasks" / name).touch()
    assert bench.states(place) == {"done": 3}


@pytest.mark.parametrize("looked", [False, True])
def test_f09_a_task_whose_end_could_not_be_recorded_is_never_done(small_disk: Path, bench: Bench, looked: bool) -> None:
    """F09: the disk refuses the end record: the log says so and the script fails; once Slurm forgot it, it is lost."""
    subprocess.run(["mount", "-o", "remount,nr_inodes=2000", str(small_disk)], check=True)
    bench.home = small_disk
    place = bench.workflow("a", 1, worker=f"#!/bin/sh\nmount -o remount,ro {small_disk}\n")
    template = place / "template.sh"
    logs = bench.directory / "logs"
    logs.mkdir()
    template.write_text(template.read_text().replace("#ESIS_PRIVATE", f"#SBATCH -o {logs}/%a\n#ESIS_PRIVATE"))
    bench.esis(place, "run").ok()
    bench.slurm.run()
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert "can't write the record of this task's end" in (logs / "0").read_text()
    run = only_run(place)
    (record,) = (run / "__esis__/tasks").iterdir()
    assert record.name.endswith(".running")
    if looked:
        assert bench.states(place) == {"failed": 1}
    bench.slurm.purge()
    assert bench.states(place) == ({"failed": 1} if looked else {"unknown": 1})
    age(run)
    assert bench.states(place) == ({"failed": 1} if looked else {"lost": 1})
    assert (run / "__esis__/completed.state").read_text() == "0"


def age(run: Path, seconds: int = 100) -> None:
    """Move what a run says of time into the past, so that nobody has to wait for a grace period."""
    for path in (run / "__esis__/submissions").glob("*.json"):
        value = json.loads(path.read_text())
        for name in ("created", "answered"):
            if value[name] is not None:
                value[name] -= seconds
        path.write_text(json.dumps(value))
    for path in (run / "__esis__/tasks").iterdir():
        parts = path.name.split(".")
        parts[4] = str(int(parts[4]) - seconds)
        path.rename(path.with_name(".".join(parts)))


def test_f04_a_cancellation_that_cannot_be_noted_is_done_and_said(small_disk: Path, bench: Bench) -> None:
    """F04: the jobs are gone, and whoever looks later hears it from Slurm."""
    subprocess.run(["mount", "-o", "remount,nr_inodes=2000", str(small_disk)], check=True)
    bench.home = small_disk
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    try:
        shown = bench.esis(place, "cancel").ok()
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert "cancelled: 0-2" in shown.stderr
    assert bench.states(place) == {"failed": 3}
