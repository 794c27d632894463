"""Runs whose tasks are somewhere else: on another cluster, below another name of their directory, not on this machine.

The numbers are those of the list of faults, as in tests/faults/test_clusters.py and test_whose_tasks.py.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.harness import OTHER_HOME, SlurmCluster, wait_until
from tests.cluster.test_faults import (
    COUNTING,
    HOLDING,
    ended,
    executions,
    grow_older,
    in_background,
    job_of,
    let_go,
    submissions,
    template,
    verdicts,
    wait_started,
)
from tests.cluster.test_identity import queue
from tests.contract.site import ClusterSite, Workflow, make_workflow

# Fails until it is told to hold.
MENDED = COUNTING + "[ -e ../mended ] || exit 3\nwhile ! [ -e ../go ]; do sleep 0.1; done\n"


@pytest.fixture
def site(either_cluster: SlurmCluster) -> Iterator[ClusterSite]:
    place = ClusterSite(either_cluster, f"whose-{secrets.token_hex(4)}")
    yield place
    clean_up(place)


def clean_up(site: ClusterSite) -> None:
    """Leave no job to other tests."""
    for run in site.home.glob("*/wrkdir.*"):
        (run / "go").touch()
    site.run(["scancel", "--me"], site.home)
    site.cluster.wait_jobs_gone()


@contextmanager
def second_cluster(
    cluster: SlurmCluster, name: str, first_job: str = "1", accounting: bool = False, settings: Sequence[str] = ()
) -> Iterator[None]:
    """Let login2 be the controller and the login node of a cluster of its own during the block.

    It has the same /home, and no node that is up, so that its jobs wait. Their ids begin at `first_job`. `settings` are
    lines of its slurm.conf.
    """

    def root(script: str, check: bool = True, host: str = "login2") -> str:
        return cluster.sh(script, user="root", cwd="/", host=host, check=check).stdout

    changes = [f"s/^ClusterName=.*/ClusterName={name}/", "s/^SlurmctldHost=.*/SlurmctldHost=login2/"]
    changes.append(r"s/c\[1-2\]/login2/")
    for line in (f"FirstJobId={first_job}", *settings):
        changes += [f"/^{line.partition('=')[0]}=/d", f"$ a {line}"]
    if not accounting:
        changes.append("/^AccountingStorage/d")
    if accounting:
        root(f"sacctmgr -i add cluster {name}; sacctmgr -i add account science cluster={name}", host="ctl")
        root(f"sacctmgr -i add user alice account=science cluster={name}", host="ctl")
    root("cp /etc/slurm/slurm.conf /etc/slurm/first.conf")
    try:
        root("sed -i " + " ".join(f"-e '{change}'" for change in changes) + " /etc/slurm/slurm.conf")
        root("rm -rf /var/lib/slurm/slurmctld/* && cluster-daemon start slurmctld")
        wait_until(lambda: "is UP" in root("scontrol ping", check=False), what="the second controller answers")
        if accounting:
            known = f"sacctmgr -n -P show cluster {name} format=controlport"
            wait_until(lambda: root(known).strip() not in ("", "0"), what="slurmdbd knows the second controller")
        yield
    finally:
        root("mv /etc/slurm/first.conf /etc/slurm/slurm.conf; pkill -KILL -x 'slurmctld(-wlm)?'", check=False)
        if accounting:
            root(f"sacctmgr -i delete cluster {name}", host="ctl", check=False)


def seen_from(flow: Workflow, *, host: str = "login", homes: str = "/home") -> Workflow:
    """Return a workflow as it is seen on another machine, or by the other name of its directory."""
    site = flow.site
    assert isinstance(site, ClusterSite)
    return Workflow(ClusterSite(site.cluster, site.home.name, host=host, homes=homes), flow.directory)


def states(flow: Workflow) -> dict[str, int]:
    """Count the tasks by their states, whatever the exit code of the command."""
    found: dict[str, int] = {}
    for state, _ in verdicts(flow).values():
        found[state] = found.get(state, 0) + 1
    return found


def all_jobs(site: ClusterSite) -> list[str]:
    """Return all elements of all jobs that wait or run, with their states."""
    return sorted(site.run(["squeue", "-h", "-r", "--me", "-o", "%i %T"], site.home).ok().stdout.splitlines())


def by_hand(flow: Workflow, *options: str) -> str:
    """Submit the run's script as its users may, and return the id of the job."""
    argv = ["sbatch", "--parsable", *options, "../sbatch.sh"]
    return flow.site.run(argv, flow.only_run() / "cwd").ok().stdout.strip()


def submitted(flow: Workflow, started: bool, tasks: int = 3) -> Path:
    """Submit tasks that hold, or wait for a release, and let that be long ago; return the run."""
    flow.esis("run").ok()
    if started:
        wait_started(flow, *range(tasks))
    grow_older(flow.only_run())
    assert states(flow) == {"running" if started else "waiting": tasks}
    return flow.only_run()


@pytest.mark.parametrize("started", [True, False], ids=["running", "waiting"])
@pytest.mark.parametrize("name", ["esis", "b"])
def test_f83_on_a_second_cluster_with_the_same_home_nothing_is_lost(
    site: ClusterSite, name: str, started: bool
) -> None:
    """F83: unknown, with advice; nothing is submitted, a stranger of the same id not touched. At home all is well."""
    flow = make_workflow(site, "home", 3, worker=HOLDING, template=template(*([] if started else ["--hold"])))
    run = submitted(flow, started)
    away = seen_from(flow, host="login2")
    place = away.site
    assert isinstance(place, ClusterSite)
    at_home = all_jobs(site)
    with second_cluster(site.cluster, name, job_of(flow)):
        own = place.run(["sbatch", "--parsable", "--hold", "--array=0-2", "--wrap=true"], run / "cwd").ok()
        assert own.stdout.partition(";")[0].strip() == job_of(flow)
        there = all_jobs(place)
        assert states(away) == {"unknown": 3}
        told = away.esis("status")
        assert (told.code, "SLURM_CONF" in told.stdout) == (6, True)
        assert f"this is cluster {name} (login2), and it was submitted to cluster esis (ctl)" in told.stdout
        for command in (
            "resubmit",
            "resubmit --state unknown",
            "resubmit --local",
            "cancel",
            "cancel --tasks 1",
            "throttle 1",
            "wait --timeout 1",
        ):
            assert (command, away.esis(*command.split()).code) == (command, 6)
        assert "nothing to submit" in away.esis("run").ok().stderr
        assert all_jobs(place) == there
        # The advice.
        led = {"SLURM_CONF": "/etc/slurm/first.conf"}
        assert away.esis("status", env=led).ok().stdout == flow.esis("status").ok().stdout
    assert all_jobs(site) == at_home
    assert len(submissions(run)) == 1
    grow_older(run, -100)  # tasks end their own records
    flow.esis("cancel", "--tasks", "2").ok()
    assert verdicts(flow)[2] == ("failed", "CANCELLED")
    site.run(["scontrol", "release", job_of(flow)], site.home)
    let_go(flow)
    ended(flow)
    assert verdicts(flow) == {0: ("done", ""), 1: ("done", ""), 2: ("failed", "CANCELLED")}
    assert {task: times for task, times in executions(run).items() if task != 2} == {0: 1, 1: 1}


def test_f83_what_has_failed_at_home_can_be_run_on_the_second_cluster(site: ClusterSite) -> None:
    """F83: then these tasks are unknown at home, and not submitted there."""
    flow = make_workflow(site, "failed", 2, worker=COUNTING + "exit 3\n")
    flow.esis("run").ok()
    ended(flow)
    assert states(flow) == {"failed": 2}
    away = seen_from(flow, host="login2")
    with second_cluster(site.cluster, "b"):
        away.esis("resubmit").ok()
        grow_older(flow.only_run())
        assert states(away) == {"waiting": 2}
        assert states(flow) == {"unknown": 2}
        assert flow.esis("resubmit").code == 6
        assert flow.esis("cancel").code == 6
        assert all_jobs(site) == []
        away.esis("cancel").ok()
        assert states(flow) == {"failed": 2}


@pytest.mark.parametrize("started", [True, False], ids=["running", "waiting"])
def test_f85_a_run_that_is_reached_by_a_second_mount_is_the_same(site: ClusterSite, started: bool) -> None:
    """F85: what was submitted by one name of its directory is seen, left alone and cancelled by the other one."""
    flow = make_workflow(site, "mounted", 3, worker=HOLDING, template=template(*([] if started else ["--hold"])))
    run = submitted(flow, started)
    other = seen_from(flow, homes=OTHER_HOME)
    at_work = "running" if started else "waiting"
    assert OTHER_HOME in other.esis("status").ok().stdout
    assert states(other) == {at_work: 3}
    assert f"nothing to resubmit: 3 {at_work}" in other.esis("resubmit").ok().stderr
    assert f"nothing to submit: 3 {at_work}" in other.esis("run").ok().stderr
    other.esis("cancel", "--tasks", "1").ok()
    assert states(other) == {at_work: 2, "failed": 1}
    other.esis("resubmit").ok()
    again = job_of(flow)
    if started:
        wait_until(lambda: "RUNNING" in queue(site, again).values(), what="the task runs again")
        wait_until(lambda: states(flow) == {"running": 3}, what="its record is there")
    grow_older(run)
    assert states(flow) == states(other) == {at_work: 3}
    assert f"nothing to resubmit: 3 {at_work}" in flow.esis("resubmit").ok().stderr
    assert len(submissions(run)) == 2
    flow.esis("cancel", "--tasks", "1").ok()
    other.esis("cancel").ok()
    assert verdicts(flow) == verdicts(other) == dict.fromkeys(range(3), ("failed", "CANCELLED"))
    assert all_jobs(site) == []


def failed_in_slurm(site: ClusterSite, name: str, tasks: int) -> Workflow:
    """Return a run whose tasks have failed; from now on they hold."""
    flow = make_workflow(site, name, tasks, worker=MENDED)
    flow.esis("run").ok()
    ended(flow)
    assert states(flow) == {"failed": tasks}
    return flow


def mend(flow: Workflow) -> None:
    flow.site.run(["touch", "mended"], flow.only_run()).ok()


def test_f80_a_local_resubmission_is_refused_beside_slurms_tasks_and_these_are_cancelled(site: ClusterSite) -> None:
    """F80: exit code 1, no submission; `esis cancel` ends them in Slurm."""
    flow = failed_in_slurm(site, "refused", 3)
    mend(flow)
    flow.esis("resubmit", "--tasks", "1-2").ok()
    wait_started(flow, 1, 2)
    refused = flow.esis("resubmit", "--local", "--failed")
    assert (refused.code, "1-2 are still waiting or running" in refused.stderr) == (1, True)
    assert len(submissions(flow.only_run())) == 2
    flow.esis("cancel").ok()
    assert set(queue(site, job_of(flow)).values()) <= {"CANCELLED"}
    assert {task: reason for task, (_, reason) in verdicts(flow).items()} == {
        0: "exit code 3",
        1: "CANCELLED",
        2: "CANCELLED",
    }


def test_f80_slurms_tasks_are_cancelled_behind_a_local_resubmission(site: ClusterSite) -> None:
    """F80: the latest submission was a local one; what waits and runs is Slurm's."""
    flow = failed_in_slurm(site, "behind", 4)
    assert flow.esis("resubmit", "--local", "--tasks", "0-1").code == 8
    mend(flow)
    jobs = [by_hand(flow, "--array=2"), by_hand(flow, "--hold", "--array=3")]
    wait_started(flow, 2)
    assert states(flow) == {"running": 1, "waiting": 1, "failed": 2}
    flow.esis("cancel").ok()
    assert set(queue(site, *jobs).values()) == {"CANCELLED"}
    assert states(flow) == {"failed": 4}
    assert flow.esis("cancel").code == 2


def test_f80_both_are_ended_where_both_are_at_work(site: ClusterSite) -> None:
    """F80: a living local run is interrupted, and reruns by hand are cancelled in Slurm."""
    flow = failed_in_slurm(site, "both", 3)
    mend(flow)
    with in_background(flow, "resubmit", "--local", "--tasks", "0", env={}) as result:
        wait_started(flow, 0)
        jobs = [by_hand(flow, "--array=1"), by_hand(flow, "--hold", "--array=2")]
        wait_started(flow, 0, 1)
        assert states(flow) == {"running": 2, "waiting": 1}
        assert "cancelled: 0-2" in flow.esis("cancel").ok().stderr
        assert result().code == 130
    assert set(queue(site, *jobs).values()) == {"CANCELLED"}
    assert states(flow) == {"unsubmitted": 1, "failed": 2}


def test_f82_a_done_task_that_is_requeued_is_not_submitted_beside_itself(site: ClusterSite) -> None:
    """F82: the run is marked as complete, and the queue is asked all the same; each task runs as often as was asked."""
    flow = make_workflow(site, "again", 3, worker=COUNTING)
    flow.esis("run").ok()
    ended(flow)
    run = flow.only_run()
    first = job_of(flow)
    assert states(flow) == {"done": 3}
    assert (run / "__esis__/complete").exists()
    site.run(["scontrol", "requeue", f"{first}_1"], site.home).ok()
    said = flow.esis("resubmit", "--state", "done", "--tasks", "1").ok().stderr
    assert "nothing to resubmit: 2 done, 1 waiting" in said
    assert len(submissions(run)) == 1
    assert (run / "__esis__/complete").exists()
    assert "2 tasks (0,2" in flow.esis("resubmit", "--state", "done").ok().stderr
    ended(flow, first)
    assert states(flow) == {"done": 3}
    assert executions(run) == dict.fromkeys(range(3), 2)


@pytest.mark.parametrize("variable", ["SBATCH_CLUSTERS", "SLURM_CLUSTERS"])
def test_f87_steps_find_their_allocation_where_clusters_were_named(
    cluster_accounting: SlurmCluster, variable: str
) -> None:
    """F87: jobs inherit the environment, and srun looks for its job on the clusters that SLURM_CLUSTERS names."""
    site = ClusterSite(cluster_accounting, f"named-{secrets.token_hex(4)}")
    with second_cluster(cluster_accounting, "b", accounting=True):
        both = {variable: "b,esis"}
        flow = make_workflow(site, "both", 2, worker=COUNTING)
        flow.esis("run", env=both).ok()
        (record,) = submissions(flow.only_run())
        assert [job["cluster"] for job in record["jobs"]] == ["esis"]
        ended(flow)
        assert executions(flow.only_run()) == {0: 1, 1: 1}
        for env in ({}, both):
            assert flow.esis("status", env=env).ok().stdout.endswith("done\t2\t0-1\n")
    clean_up(site)


def test_f146_arrays_are_cut_as_the_named_cluster_takes_them(cluster_accounting: SlurmCluster) -> None:
    """F146: `scontrol -M` tells another cluster's limits."""
    site = ClusterSite(cluster_accounting, f"sizes-{secrets.token_hex(4)}")
    with second_cluster(cluster_accounting, "b", accounting=True, settings=["MaxArraySize=4"]):
        flow = make_workflow(site, "away", 9)
        flow.esis("run", env={"SBATCH_CLUSTERS": "b"}).ok()
        (record,) = submissions(flow.only_run())
        assert [job["cluster"] for job in record["jobs"]] == ["b"] * 3
        site.run(["scancel", "-M", "b", "--me"], site.home)
    clean_up(site)
