"""Runs of ESIS 0.0.4 whose parameter sets are gone, or can't be read: what their other files tell counts."""

from __future__ import annotations

import shutil

import pytest

from esis.model.workdir import RunDir
from esis.records import old
from tests.compat.made import listing, old_run, submitted
from tests.contract.site import FakeSite, Workflow, make_workflow

GONE = ("parameters/ is missing", "it is empty", "it is a file", "its files have other names")
COMMANDS = (
    ["status"],
    ["status", "--tasks"],
    ["status", "--json"],
    ["cancel"],
    ["wait", "--timeout", "1"],
    ["errors"],
    ["log", "0"],
    ["resubmit"],
    ["run"],
    ["verify"],
    ["export"],
    ["list"],
    ["list", "--by-jobid"],
    ["list", "--by-time"],
    ["throttle", "2"],
    ["archive", "x.zip"],
    ["compact"],
    ["why"],
)


@pytest.fixture
def flow(site: FakeSite) -> Workflow:
    return make_workflow(site, "old", 2, worker='#!/bin/sh\necho "task $SLURM_ARRAY_TASK_ID"\n')


def damaged(run: RunDir, how: str) -> None:
    names = sorted(run.parameters.iterdir())
    if "names" in how:
        for number, path in enumerate(names):
            path.rename(run.parameters / f"set_{number}.txt")
        return
    shutil.rmtree(run.parameters)
    if "empty" in how:
        run.parameters.mkdir()
    if "a file" in how:
        run.parameters.write_text("")


@pytest.mark.parametrize("how", GONE)
def test_the_tasks_are_those_of_the_script(site: FakeSite, flow: Workflow, how: str) -> None:
    """Its --array and the job's id tell what to look for: waiting, done, and the right job is cancelled."""
    run = old_run(flow)
    submitted(site, run)
    damaged(run, how)
    assert flow.states() == {"waiting": 2}
    assert "2 waiting" in flow.esis("run").ok().stderr
    assert "cancelled: 0-1" in flow.esis("cancel").ok().stderr
    assert site.submissions() == 1
    job = submitted(site, run)
    site.slurm.run()
    assert flow.states() == {"done": 2}
    assert f"slurm-{job}_1.out" in flow.esis("log", "1", "--path").ok().stdout


@pytest.mark.parametrize("how", GONE)
@pytest.mark.parametrize("script", ["", "#!/bin/sh\ntrue\n", "#!/bin/sh\n#SBATCH --array=$N\ntrue\n"])
def test_where_nothing_tells_the_tasks_the_job_is_named(site: FakeSite, flow: Workflow, how: str, script: str) -> None:
    """Nobody is told that there were no job: it may run."""
    run = old_run(flow)
    job = submitted(site, run)
    damaged(run, how)
    run.script.write_text(script)
    for command in (["status"], ["cancel"], ["errors"], ["log", "1"], ["run"], ["wait", "--timeout", "1"]):
        told = flow.esis(*command)
        assert told.code in (1, 2), (command, told)
        assert f"its job is {job}" in told.stderr
        assert f"scancel {job}" in told.stderr
        assert "no job id" not in told.stderr
    assert site.submissions() == 1
    run.completed.write_text("1")
    assert "complete" in flow.esis("status").ok().stderr


@pytest.mark.parametrize("ids", ["", "x\n", "12_[0-3]\n", "4711 4712\n", "9" * 40])
@pytest.mark.parametrize("how", [*GONE, "nothing"])
def test_no_command_stumbles_or_harms(site: FakeSite, flow: Workflow, how: str, ids: str) -> None:
    run = old_run(flow)
    run.job_ids.write_text(ids)
    if how != "nothing":
        damaged(run, how)
    before = listing(run)
    for command in COMMANDS:
        told = flow.esis(*command)
        assert "internal error" not in told.stderr, (command, told)
        assert told.stdout or told.stderr, command
    assert listing(run) == before
    assert site.submissions() == 0


@pytest.mark.parametrize(
    ("text", "jobs"),
    [
        ("12\n", ("12",)),
        ("12\n13\n", ("12", "13")),
        ("123_[0-3]\n", ("123",)),
        ("123_[0-1,3%2]", ("123",)),
        ("5;cluster\n", ("5",)),
        ("Submitted batch job 8\n", ("8",)),
        ("", ()),
        ("x\n", ()),
        ("1" * 21, ()),
    ],
)
def test_the_job_is_read_in_each_form_that_sbatch_and_squeue_print(text: str, jobs: tuple[str, ...]) -> None:
    assert old.job_ids(text) == jobs


def test_a_job_noted_as_an_array_is_cancelled(site: FakeSite, flow: Workflow) -> None:
    """With parameters/ gone, too."""
    run = old_run(flow)
    job = submitted(site, run)
    run.job_ids.write_text(f"{job}_[0-1]\n")
    damaged(run, "parameters/ is missing")
    assert flow.states() == {"waiting": 2}
    assert "cancelled: 0-1" in flow.esis("cancel").ok().stderr
    assert set(site.slurm.job(int(job)).states.values()) == {"CANCELLED"}


def test_each_of_several_jobs_counts(site: FakeSite, flow: Workflow) -> None:
    """Who submitted tasks again by hand and added the id: waiting, done and cancelled are those of all jobs."""
    run = old_run(flow, 4)
    jobs = [
        site.run(["sbatch", "--parsable", f"--array={tasks}", "../sbatch.sh"], run.cwd).ok().stdout
        for tasks in ("0-1", "2")
    ]
    run.job_ids.write_text("".join(jobs))
    first, second = (int(job) for job in jobs)
    assert flow.states() == {"waiting": 3, "unknown": 1}
    site.slurm.set_state(first, "COMPLETED", task=0)
    assert flow.states() == {"done": 1, "waiting": 2, "unknown": 1}
    assert "cancelled: 1-2" in flow.esis("cancel").ok().stderr
    assert site.slurm.job(first).states[1] == site.slurm.job(second).states[2] == "CANCELLED"


@pytest.mark.parametrize(
    ("array", "tasks"),
    [
        ("0-6:2", [0, 2, 4, 6]),
        ("0-4:2%1", [0, 2, 4]),
        ("1,4-8:3,9", [1, 4, 7, 9]),
        ("3-4:0", []),
        ("5-1:2", []),
        ("0-999999999:1", []),
        ("0-99999999:2", []),
        ("0-999999999:100000000", list(range(0, 10**9, 10**8))),
    ],
)
def test_the_tasks_of_its_script_may_have_steps(flow: Workflow, array: str, tasks: list[int]) -> None:
    run = old_run(flow)
    run.script.write_text(f"#!/bin/sh\n#SBATCH --array={array}\n")
    assert list(old.tasks_of(run, ())) == tasks
