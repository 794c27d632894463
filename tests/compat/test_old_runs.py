"""Runs that ESIS 0.0.4 made: nothing of ours removes or repeats them, and each command says what it can know."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from esis.model.workdir import RunDir
from esis.records import old
from tests.compat.made import listing, old_run, submitted
from tests.contract.site import FakeSite, Workflow, make_workflow

REMOVE = ("remove", "rm -", "delete")


@pytest.fixture
def flow(site: FakeSite) -> Workflow:
    return make_workflow(
        site,
        "old",
        2,
        worker='#!/bin/sh\n[ ! -e "../fail.$SLURM_ARRAY_TASK_ID" ] || exit 3\necho "task $SLURM_ARRAY_TASK_ID"\n',
    )


def state_of(flow: Workflow, target: str = "") -> dict[str, int]:
    return flow.states(*([target] if target else []))


def unharmed(site: FakeSite, run: RunDir, before: dict[str, bytes], jobs: int) -> None:
    """Assert that nothing was changed in a run but completed.state, and nothing submitted."""
    states = [
        {name: text for name, text in found.items() if name != "__esis__/completed.state"}
        for found in (before, listing(run))
    ]
    assert states[0] == states[1]
    assert site.submissions() == jobs


def test_one_is_told_from_ours(site: FakeSite, flow: Workflow) -> None:
    """Also from one of ours that lost its state.json."""
    ours = make_workflow(site, "ours", 2)
    ours.esis("run").ok()
    run = RunDir(ours.only_run())
    assert not old.is_old(run)
    run.state.unlink()
    assert not old.is_old(run)
    assert old.is_old(old_run(flow))
    empty = RunDir.of(flow.directory, "e" * 64)
    empty.private.mkdir(parents=True)
    assert not old.is_old(empty)
    assert "nothing to submit: 2 waiting" in ours.esis("run").ok().stderr
    assert RunDir(ours.only_run()).submission(1).exists()
    assert site.submissions() == 1


def test_run_leaves_an_active_one_alone(site: FakeSite, flow: Workflow) -> None:
    """It waits, it runs, it is done: `esis run` says so, submits nothing, and prints the directory."""
    run = old_run(flow)
    job = submitted(site, run)
    before = listing(run)
    shown = flow.esis("run").ok()
    assert shown.stdout == f"{run.path}\n"
    assert "ESIS 0.0.4 made it" in shown.stderr
    assert f"2 waiting, in job {job}" in shown.stderr
    assert not any(word in shown.stderr for word in REMOVE)
    assert state_of(flow) == {"waiting": 2}
    unharmed(site, run, before, 1)
    site.slurm.run()
    before = listing(run)
    assert state_of(flow) == {"done": 2}
    assert "nothing to submit" in flow.esis("run").ok().stderr
    unharmed(site, run, before, 1)


@pytest.mark.parametrize("command", [["run"], ["run", "--local"], ["dependency"]])
def test_nothing_is_built_or_submitted_when_slurm_has_forgotten_it(
    site: FakeSite, flow: Workflow, command: list[str]
) -> None:
    """The usual case: no completed.state, no accounting, nothing in the queue. How to go on by hand is told."""
    run = old_run(flow)
    run.job_ids.write_text("4711\n")
    (run.results).mkdir()
    run.result_file(0).write_text('{"good": 1}')
    before = listing(run)
    site.slurm.set(accounting=False)
    shown = flow.esis(*command)
    assert shown.code == (3 if command == ["dependency"] else 0), shown.stderr
    assert "2 unknown, in job 4711" in shown.stderr
    assert "sbatch --array=<tasks> ../sbatch.sh" in shown.stderr
    assert not any(word in shown.stderr for word in REMOVE)
    unharmed(site, run, before, 0)


def test_failed_tasks_are_named_and_rerun_by_hand(site: FakeSite, flow: Workflow) -> None:
    """Not by `esis resubmit`, which refuses; `sbatch ../sbatch.sh` does it."""
    run = old_run(flow)
    (run.path / "fail.1").touch()
    submitted(site, run)
    site.slurm.run()
    before = listing(run)
    shown = flow.esis("run").ok()
    assert "1 done, 1 failed" in shown.stderr
    assert "failed: 1: " in shown.stderr
    assert "esis resubmit" not in shown.stderr
    refused = flow.esis("resubmit")
    assert refused.code == 1
    assert "made by ESIS 0.0.4" in refused.stderr
    assert "sbatch --array=<tasks> ../sbatch.sh" in refused.stderr
    grouped = flow.esis("errors").ok()
    assert "1 failed" in grouped.stdout
    unharmed(site, run, before, 1)


def test_without_a_job_id_nobody_can_tell(site: FakeSite, flow: Workflow) -> None:
    """Whether it was ever submitted isn't known, so it is not submitted; no command calls it never submitted."""
    run = old_run(flow)
    before = listing(run)
    refused = flow.esis("run")
    assert refused.code == 1
    assert "holds no job id" in refused.stderr
    assert not any(word in refused.stderr for word in REMOVE)
    assert state_of(flow) == {"unknown": 2}
    log = flow.esis("log", "1")
    assert log.code == 2
    assert "never submitted" not in log.stderr
    assert "holds no job id" in log.stderr
    cancelled = flow.esis("cancel")
    assert cancelled.code == 2
    assert "scancel" in cancelled.stderr
    unharmed(site, run, before, 0)


def test_one_that_is_marked_complete_is_done(site: FakeSite, flow: Workflow) -> None:
    """With or without a job id; a dependant may use it."""
    run = old_run(flow)
    run.completed.write_text("1")
    assert state_of(flow) == {"done": 2}
    assert "nothing to submit" in flow.esis("run").ok().stderr
    after = make_workflow(site, "after", 1)
    after.esis("require", "../old/wf.esis2.json", "old").ok()
    after.esis("dependency").ok()
    assert site.submissions() == 1
    site.slurm.run()
    assert after.states() == {"done": 1}


def test_a_dependant_waits_behind_an_active_one(site: FakeSite, flow: Workflow) -> None:
    run = old_run(flow)
    job = submitted(site, run)
    after = make_workflow(site, "after", 1)
    after.esis("require", "../old/wf.esis2.json", "old").ok()
    after.esis("dependency").ok()
    assert f"#SBATCH --dependency=afterok:{job}" in (after.only_run() / "sbatch.sh").read_text()
    site.slurm.run()
    assert after.states() == {"done": 1}


@pytest.mark.parametrize(("command", "code"), [("run", 3), ("dependency", 3)])
def test_behind_one_that_failed_it_is_said_how_to_rerun_it_by_hand(
    site: FakeSite, flow: Workflow, command: str, code: int
) -> None:
    """`esis resubmit`, which was advised, refuses it."""
    run = old_run(flow)
    (run.path / "fail.1").touch()
    submitted(site, run)
    site.slurm.run()
    after = make_workflow(site, "after", 1)
    after.esis("require", "../old/wf.esis2.json", "old").ok()
    shown = after.esis(command)
    assert (shown.code, "sbatch --array=<tasks> ../sbatch.sh" in shown.stderr) == (code, True), shown
    assert "esis resubmit" not in shown.stderr


def test_the_job_of_another_directory_is_not_its_own(site: FakeSite, flow: Workflow) -> None:
    """Ids are used again: the directory has to be the run's, too."""
    run = old_run(flow)
    elsewhere = site.home / "elsewhere" / "cwd"
    elsewhere.mkdir(parents=True)
    shutil.copy(run.script, elsewhere.parent / "sbatch.sh")
    job = site.run(["sbatch", "--parsable", "../sbatch.sh"], elsewhere).ok().stdout.strip()
    run.job_ids.write_text(f"{job}\n")
    assert state_of(flow) == {"unknown": 2}
    assert flow.esis("cancel").code == 2
    assert set(site.slurm.job(int(job)).states.values()) == {"PENDING"}


def test_cancel_ends_its_tasks_and_writes_nothing_into_it(site: FakeSite, flow: Workflow) -> None:
    run = old_run(flow)
    job = submitted(site, run)
    before = listing(run)
    assert "cancelled: 1" in flow.esis("cancel", "--tasks", "1").ok().stderr
    assert site.slurm.job(int(job)).states == {0: "PENDING", 1: "CANCELLED"}
    unharmed(site, run, before, 1)


def test_its_logs_are_found(site: FakeSite, flow: Workflow) -> None:
    run = old_run(flow)
    submitted(site, run)
    site.slurm.run()
    assert flow.esis("log", "1").ok().stdout == "task 1\n"


def test_verify_calls_none_broken_for_what_0_0_4_does_not_keep(site: FakeSite, flow: Workflow) -> None:
    """No template, no definition; but what was changed is told."""
    run = old_run(flow)
    shown = flow.esis("verify").ok()
    assert shown.stdout == ""
    assert "nothing that can be checked was changed" in shown.stderr
    shutil.copy(flow.directory / "wf.esis.json", run.workflow_definition)
    told = json.loads(flow.esis("verify", "--json").ok().stdout)
    assert told["ok"] is True
    assert [item["path"] for item in told["unknown"]] == ["template.sh"]
    (run.path / "worker.sh").write_text("#!/bin/sh\necho other\n")
    changed = flow.esis("verify")
    assert changed.code == 1
    assert changed.stdout.splitlines() == ["worker.sh: was changed: the hash is made of another workerscript"]
    run.wf_status.unlink()
    assert flow.esis("verify").code == 0


def test_archive_says_that_it_cannot_be_packed(site: FakeSite, flow: Workflow) -> None:
    run = old_run(flow)
    run.completed.write_text("1")
    before = listing(run)
    refused = flow.esis("archive", "-o", "x.zip")
    assert refused.code == 1
    assert "made by ESIS 0.0.4" in refused.stderr
    assert not (flow.directory / "x.zip").exists()
    unharmed(site, run, before, 0)


def test_export_and_the_other_readers_work(site: FakeSite, flow: Workflow) -> None:
    """Parameters, results and states; status rows; list; why."""
    run = old_run(flow)
    submitted(site, run)
    site.slurm.run()
    run.results.mkdir()
    run.result_file(1).write_text('{"m": 0.5}')
    rows = flow.esis("export", "--format", "csv").ok().stdout.splitlines()
    assert len(rows) == 3
    assert "0.5" in rows[2]
    assert flow.esis("status", "--tasks").ok().stdout
    assert flow.esis("wait").ok()
    assert flow.esis("list", "--by-time").ok().stdout == f"03.02.2022-11:12:13\t{run.path}\n"
    assert flow.esis("why").ok().stdout == f"{run.path}\n"
    assert flow.esis("status", "--check", str(run.path)).code == 0
    for command in (["compact"], ["throttle", "3"]):
        assert "internal error" not in flow.esis(*command).stderr


def test_one_of_before_0_0_4_is_left_alone_too(site: FakeSite, flow: Workflow) -> None:
    """No __esis__ at all: never taken for a build that was interrupted."""
    run = old_run(flow)
    for path in (run.job_ids, run.start_time):
        path.unlink(missing_ok=True)
    shutil.rmtree(run.private)
    (run.path / "jobid.tx").write_text("12\n")
    (run.path / "wf_starttime").write_text("01.02.2019-03:04:05")
    before = listing(run)
    for command in (
        ["run"],
        ["dependency"],
        ["resubmit"],
        ["cancel"],
        ["status"],
        ["log", "0"],
        ["verify"],
        ["archive", "-o", "x.zip"],
        ["compact"],
    ):
        refused = flow.esis(*command)
        assert refused.code in (1, 2), (command, refused)
        assert "before 0.0.4" in refused.stderr, command
        assert not any(word in refused.stderr for word in REMOVE), command
    unharmed(site, run, before, 0)
    assert os.listdir(flow.directory / run.path.name)
    assert Path(flow.directory / "wf.esis.json").exists()


@pytest.mark.parametrize("state", ["1", "0", None])
def test_a_worker_of_0_0_4_may_have_claimed_completion(site: FakeSite, flow: Workflow, state: str | None) -> None:
    """Where Slurm knows nothing any more, the claim decides."""
    run = old_run(flow)
    run.job_ids.write_text("77\n")
    if state is not None:
        run.completed.write_text(f"{state}\n")
    site.slurm.set(accounting=False)
    assert state_of(flow) == ({"done": 2} if state == "1" else {"unknown": 2})
