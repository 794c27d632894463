"""Whose job is it: jobs of the user's own in a run's directory, and the run's own jobs submitted by hand.

What Slurm shows of a job's script differs by version and by how sbatch was called: the command as it was typed, in
22.05 with its arguments; nothing for --wrap and for a script from stdin.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import SlurmCluster, wait_until
from tests.cluster.test_faults import (
    COUNTING,
    ended,
    executions,
    grow_older,
    job_of,
    submissions,
    template,
    verdicts,
    watch_sbatch,
)
from tests.contract.site import ClusterSite, Result, Workflow, make_workflow

LATER = "--begin=now+1hour"
SLEEPING = "#!/bin/bash\nsleep 600\n"
OWN = {
    "a script": f"sbatch --parsable --array=0-3 {LATER} post.sh",
    "a script by its path": f"sbatch --parsable --array=0-3 {LATER} $PWD/post.sh",
    "a script outside": f"sbatch --parsable --array=0-3 {LATER} ../../post.sh",
    "a script of the same name": f"sbatch --parsable --array=0-3 {LATER} ../../sbatch.sh",
    "the run's script as an argument": f"sbatch --parsable --array=0-3 {LATER} post.sh ../sbatch.sh",
    "the run's script as an argument, by its path": f"sbatch --parsable --array=0-3 {LATER} ../../post.sh "
    "$(cd .. && pwd)/sbatch.sh",
    "--wrap": f"sbatch --parsable --array=0-3 {LATER} --wrap 'sleep 600'",
    "stdin": f"sbatch --parsable --array=0-3 {LATER} <post.sh",
    "the run's name": f"sbatch --parsable --array=0-3 {LATER} --job-name=sbatch.sh --comment=../sbatch.sh post.sh",
    "no array": f"sbatch --parsable {LATER} post.sh",
    "running": "sbatch --parsable --array=0-1 post.sh",
}
"""What users submit from a run's cwd/."""


@pytest.fixture
def site(either_cluster: SlurmCluster) -> Iterator[ClusterSite]:
    place = ClusterSite(either_cluster, f"identity-{secrets.token_hex(4)}")
    yield place
    place.run(["scancel", "--me"], place.home)
    either_cluster.wait_jobs_gone()


def queue(site: ClusterSite, *jobs: str) -> dict[str, str]:
    """Return the states of all elements of these jobs that Slurm still knows."""
    argv = ["squeue", "-h", "-r", "-t", "all", "--me", "-o", "%F %i %T"]
    rows = [row.split() for row in site.run(argv, site.home).ok().stdout.splitlines()]
    return {element: state for job, element, state in rows if job in jobs}


def submit_own(flow: Workflow, *forms: str) -> list[str]:
    """Submit jobs of the user's own from the run's cwd/ and return their ids."""
    cwd = flow.only_run() / "cwd"
    for place in (cwd / "post.sh", flow.directory / "post.sh", flow.directory / "sbatch.sh"):
        flow.site.run(["sh", "-c", f"printf '{SLEEPING}' >{flow.site.inside(place)}"], flow.directory).ok()
    return [flow.site.run(["bash", "-c", OWN[form]], cwd).ok().stdout.strip() for form in forms]


def names_of_records(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "__esis__/tasks").iterdir())


def test_f45_jobs_of_the_users_own_beside_a_done_run_are_not_the_runs(site: ClusterSite) -> None:
    """F45: done stays done, nothing is resubmitted, and cancel and throttle refuse and touch nothing."""
    flow = make_workflow(site, "done", 4, worker=COUNTING)
    flow.esis("run").ok()
    ended(flow)
    run = flow.only_run()
    records = names_of_records(run)
    own = submit_own(flow, *OWN)
    wait_until(lambda: set(queue(site, own[-1]).values()) == {"RUNNING"}, what="the user's job runs")
    before = queue(site, *own)
    assert len(before) == 9 * 4 + 1 + 2
    assert flow.states() == {"done": 4}
    assert "nothing to resubmit" in flow.esis("resubmit").ok().stderr
    for command in ("cancel", "throttle 1", "cancel --tasks 0-3", "cancel --pending"):
        assert flow.esis(*command.split()).code == 2, command
    assert queue(site, *own) == before
    shown = site.run(["scontrol", "show", "job", own[0]], site.home).ok().stdout
    assert "ArrayTaskThrottle" not in shown
    site.run(["scancel", *own], site.home).ok()
    site.cluster.wait_jobs_gone()
    grow_older(run)
    assert flow.states() == {"done": 4}
    assert names_of_records(run) == records
    assert len(submissions(run)) == 1
    assert executions(run) == dict.fromkeys(range(4), 1)


def test_f45_tasks_that_wait_are_cancelled_and_the_users_own_are_not(site: ClusterSite) -> None:
    """F45: beside waiting tasks of the run, from the same directory: the run's are counted, throttled, cancelled."""
    flow = make_workflow(site, "waiting", 3, template=template(LATER))
    flow.esis("run").ok()
    own = submit_own(flow, *OWN)
    wait_until(lambda: set(queue(site, own[-1]).values()) == {"RUNNING"}, what="the user's job runs")
    before = queue(site, *own)
    assert flow.states() == {"waiting": 3}
    flow.esis("throttle", "1").ok()
    for job in own:
        assert "ArrayTaskThrottle" not in site.run(["scontrol", "show", "job", job], site.home).ok().stdout
    flow.esis("cancel").ok()
    assert verdicts(flow) == dict.fromkeys(range(3), ("failed", "CANCELLED"))
    assert queue(site, *own) == before


@pytest.mark.parametrize("records", [True, False], ids=["records", "no records"])
def test_f45_a_job_of_the_users_own_is_not_adopted_for_a_submission_that_never_left(
    site: ClusterSite, records: bool
) -> None:
    """F45: ESIS is killed between its intent and sbatch, the user submits from cwd/: the run is submitted, once."""
    inside = site.inside(site.home / "bin")
    watch = watch_sbatch(site, before=f'[ -e {inside}/on ] || {{ kill -KILL "$PPID"; exit 1; }}')
    options = [] if records else ["--no-task-records"]
    flow = make_workflow(site, "killed", 3, worker=COUNTING)
    assert flow.esis("run", *options, env=watch.env).code == 137
    (record,) = submissions(flow.only_run())
    assert record["outcome"] == "open"
    own = submit_own(flow, *OWN)
    before = queue(site, *own)
    site.run(["touch", f"{inside}/on"], site.home).ok()
    flow.esis("run", *options, env={**watch.env, "ESIS_LOOKUP_GRACE": "2"}).ok()
    assert watch.calls() == 2
    assert watch.answers() == 1
    (record,) = submissions(flow.only_run())
    assert record["outcome"] == "submitted"
    assert [job["id"] for job in record["jobs"]] == [job_of(flow)]
    assert job_of(flow) not in own
    ended(flow)
    assert flow.states() == {"done": 3}
    assert executions(flow.only_run()) == dict.fromkeys(range(3), 1)
    assert set(queue(site, *own)) == set(before)


BY_HAND = {
    "as documented": "cd cwd && sbatch --parsable {later} ../sbatch.sh",
    "by its path": "cd cwd && sbatch --parsable {later} $PWD/../sbatch.sh",
    "by a path with detours": "cd cwd && sbatch --parsable {later} $PWD/..//__esis__/./../sbatch.sh",
    "through a link": "ln -s $PWD ../link && cd ../link/cwd && sbatch --parsable {later} ../sbatch.sh",
    "by a path through a link": "cd cwd && sbatch --parsable {later} $PWD/../../link/sbatch.sh",
    "with a name and a comment": "cd cwd && sbatch --parsable {later} -J mine --comment='a|b' ../sbatch.sh",
    "with arguments": "cd cwd && sbatch --parsable {later} ../sbatch.sh --this 'and that|' ../post.sh",
    "from elsewhere": "sbatch --parsable {later} --chdir=cwd $PWD/sbatch.sh",
}
"""Reruns of a run's script by hand, from the directory of the run."""


def test_a_script_that_is_submitted_by_hand_stays_the_runs(site: ClusterSite) -> None:
    """`sbatch ../sbatch.sh`, however the script and the directory are named: the tasks wait, and can be cancelled."""
    flow = make_workflow(site, "byhand", 2, worker=COUNTING + "exit 3\n")
    flow.esis("run").ok()
    ended(flow)
    assert flow.states() == {"failed": 2}
    found = {}
    for form, command in BY_HAND.items():
        job = site.run(["bash", "-c", command.format(later=LATER)], flow.only_run()).ok().stdout.strip()
        state = flow.states()
        cancelled = flow.esis("cancel").code
        left = sorted(element for element, word in queue(site, job).items() if word == "PENDING")
        found[form] = (state, cancelled, left)
        site.run(["scancel", job], site.home).ok()
    assert found == dict.fromkeys(BY_HAND, ({"waiting": 2}, 0, []))


ELSEWHERE = (
    "#SBATCH --chdir=/tmp",
    "#SBATCH --chdir /tmp",
    "#SBATCH -D /tmp",
    "#SBATCH\t-D/tmp",
    "#SBATCH --chd=/tmp",
    "#SBATCH --time=5 -D /tmp",
    "#SBATCH -HD /tmp",
    '#SBATCH --chdir="/tmp"',
    "#SBATCH-D /tmp",
    "#BSUB -cwd /tmp",
    "#PBS -d /tmp",
)
"""Ways to say that a job works somewhere else than in cwd/."""


def test_f46_another_working_directory_in_the_template_is_refused_before_anything_is_submitted(
    site: ClusterSite,
) -> None:
    """F46: Slurm would show the pending array with that directory and a relative command: nobody could know it."""
    watch = watch_sbatch(site)
    told = {}
    for number, line in enumerate(ELSEWHERE):
        flow = make_workflow(site, f"elsewhere{number}", 2, worker=COUNTING)
        text = template().replace("#ESIS_PRIVATE", f"{line}\n#ESIS_PRIVATE")
        flow.write("template.sh", text)
        done = set_up(flow)
        if done.code == 0:
            done = flow.esis("run", env=watch.env)
        told[line] = (done.code, watch.calls(), [len(submissions(run)) for run in flow.runs()])
    assert told == dict.fromkeys(ELSEWHERE, (2, 0, []))


def set_up(flow: Workflow) -> Result:
    return flow.esis("setup", "setup.sh", "gen.py", "template.sh", "worker.sh")
