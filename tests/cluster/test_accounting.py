"""The accounting as a witness: what sacct adds to squeue and to the tasks' records, and what is said without it.

The fates are those of test_faults.py: with and without accounting, what is known may differ, what is claimed may not.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator

import pytest

from tests.cluster.harness import SlurmCluster, wait_until
from tests.cluster.test_faults import (
    COUNTING,
    FATES,
    HOLDING,
    assert_fates,
    ended,
    executions,
    fate_of,
    forget,
    frozen,
    grow_older,
    job_of,
    let_go,
    meet_fates,
    verdicts,
    wait_started,
    watch_sbatch,
)
from tests.contract.site import ClusterSite, Workflow, make_workflow

ACCOUNTED = {**FATES, "hookless 1": ("failed", "exit code 7")}
"""What ESIS says where sacct is left alone: the same states, one with a better reason."""


@pytest.fixture
def site(cluster_accounting: SlurmCluster) -> ClusterSite:
    return ClusterSite(cluster_accounting, f"accounting-{secrets.token_hex(4)}")


@pytest.fixture(scope="module")
def fates(cluster_accounting: SlurmCluster) -> dict[str, Workflow]:
    return meet_fates(ClusterSite(cluster_accounting, f"fates-{secrets.token_hex(4)}"))


def accounted(cluster: SlurmCluster, job: str, rows: int) -> None:
    """Wait until sacct shows the end of all tasks of an array; its records lag behind."""
    argv = ["sacct", "-X", "-n", "-P", "-j", job, "-o", "State"]
    unfinished = {"PENDING", "RUNNING", "REQUEUED"}

    def known() -> bool:
        states = cluster.run(argv, check=False).stdout.split("\n")[:-1]
        return len(states) >= rows and not set(states) & unfinished

    wait_until(known, what=f"sacct knows how job {job} ended")


def hookless(site: ClusterSite) -> Workflow:
    """Run two tasks, one good and one bad, that write no records."""
    flow = make_workflow(site, "hookless", 2, worker=COUNTING + "exit $((SLURM_ARRAY_TASK_ID * 7))\n")
    flow.esis("run", "--no-task-records").ok()
    ended(flow)
    accounted(site.cluster, job_of(flow), 2)
    return flow


HOOKLESS = {0: ("done", "COMPLETED, no task records"), 1: ("failed", "exit code 7")}


@pytest.fixture
def no_dbd(cluster_accounting: SlurmCluster) -> Iterator[None]:
    """Stop slurmdbd for one test."""
    cluster_accounting.kill_daemon("dbd", "TERM")
    yield
    cluster_accounting.start_daemon("dbd")
    wait_until(lambda: cluster_accounting.run(["sacct"], check=False).returncode == 0, what="slurmdbd answers")


def test_f17_a_silent_slurmdbd_does_not_hang_status(
    fates: object, site: ClusterSite, cluster_accounting: SlurmCluster
) -> None:
    """F17: sacct is given up; the answer is that of squeue and the records."""
    flow = make_workflow(site, "silent", 2, worker=COUNTING + "exit $((SLURM_ARRAY_TASK_ID * 7))\n")
    flow.esis("run").ok()
    ended(flow)
    with frozen(cluster_accounting, "dbd"):
        shown = flow.esis("status").ok()
    assert shown.stdout.splitlines()[1:] == ["done\t1\t0", "failed\t1\t1\texit code 7"]


def test_f18_without_slurmctld_the_accounting_tells_what_it_knows(
    site: ClusterSite, cluster_accounting: SlurmCluster
) -> None:
    """F18: exit code 6, for the queue wasn't asked; what ended is known, and nothing that isn't."""
    env = watch_sbatch(site).env
    flow = hookless(site)
    cluster_accounting.kill_daemon("ctl", "TERM")
    try:
        shown = flow.esis("status", env=env)
        assert shown.code == 6
        assert "the queue could not be asked" in shown.stderr
        assert verdicts(flow, env) == HOOKLESS
    finally:
        cluster_accounting.start_daemon("ctl")
        wait_until(
            lambda: cluster_accounting.run(["scontrol", "ping"], check=False).returncode == 0, what="slurmctld answers"
        )
    assert {state for state, _ in verdicts(flow).values()} == {"done", "failed"}


def test_f20_every_fate_is_told_alike_before_and_after_slurm_forgot_it(
    fates: dict[str, Workflow], cluster_accounting: SlurmCluster
) -> None:
    """F20: the same states as without accounting, from squeue and then from sacct alone; nothing is lost."""
    (fates["requeued"].only_run() / "go").touch()
    for name, flow in fates.items():
        ended(flow)
        # A job that was cancelled before any of its tasks started is one row.
        tasks = len(list((flow.only_run() / "parameters").glob("parameters.*.json")))
        accounted(cluster_accounting, job_of(flow), 1 if name == "pending" else tasks)
    before = fate_of(fates)
    assert_fates(before, FATES)
    assert verdicts(fates["requeued"]) == {0: ("done", "")}
    forget(cluster_accounting, *(job_of(flow) for flow in fates.values()))
    for flow in fates.values():
        grow_older(flow.only_run())
    after = fate_of(fates)
    assert_fates(after, ACCOUNTED)
    assert verdicts(fates["unseen"]) == {0: ("failed", "signal 9")}


def test_f19_tasks_without_records_are_known_from_sacct_when_squeue_has_forgotten_them(
    fates: object, site: ClusterSite, cluster_accounting: SlurmCluster
) -> None:
    """F19: `--no-task-records`, purged: done and failed as before, by the last witness that is left."""
    flow = hookless(site)
    assert flow.states() == {"done": 1, "failed": 1}
    forget(cluster_accounting, job_of(flow))
    assert verdicts(flow) == HOOKLESS
    assert flow.esis("status", "--check").code == 8
    flow.esis("resubmit", "--no-task-records").ok()
    record = json.loads((flow.only_run() / "__esis__/submissions/0002.json").read_text())
    assert record["tasks"] == "1"
    ended(flow)
    assert executions(flow.only_run()) == {0: 1, 1: 2}


def test_f17_without_slurmdbd_status_works_and_says_so_once(
    fates: object, site: ClusterSite, cluster_accounting: SlurmCluster, no_dbd: None
) -> None:
    """F17: squeue and records go on; what only sacct could tell is unknown, with one warning, and never done."""
    flow = make_workflow(site, "queue", 2, worker=COUNTING + "exit $((SLURM_ARRAY_TASK_ID * 7))\n")
    flow.esis("run").ok()
    ended(flow)
    assert verdicts(flow) == {0: ("done", ""), 1: ("failed", "exit code 7")}
    assert flow.esis("status").ok().stderr == ""
    silent = make_workflow(site, "silent", 2, worker=COUNTING)
    silent.esis("run", "--no-task-records").ok()
    ended(silent)
    forget(cluster_accounting, job_of(silent))
    shown = silent.esis("status").ok()
    assert shown.stdout.splitlines()[1].startswith("unknown\t2\t0-1")
    assert shown.stderr.count("\n") == 1
    assert "the accounting could not be asked" in shown.stderr
    assert silent.esis("status", "--check").code == 6
    assert (silent.only_run() / "__esis__/completed.state").read_text() == "0"
    assert "left out, for they may be running: 0-1" in silent.esis("resubmit").ok().stderr


def test_f17_what_slurmdbd_missed_is_known_when_it_is_back(
    fates: object, site: ClusterSite, cluster_accounting: SlurmCluster
) -> None:
    """F17: slurmctld keeps what it has to tell; the verdict comes with it."""
    cluster_accounting.kill_daemon("dbd", "TERM")
    try:
        flow = make_workflow(site, "missed", 2, worker=COUNTING + "exit $((SLURM_ARRAY_TASK_ID * 7))\n")
        flow.esis("run", "--no-task-records").ok()
        ended(flow)
        forget(cluster_accounting, job_of(flow))
        assert {state for state, _ in verdicts(flow).values()} == {"unknown"}
    finally:
        cluster_accounting.start_daemon("dbd")
    accounted(cluster_accounting, job_of(flow), 2)
    assert verdicts(flow) == HOOKLESS


def test_f111_what_sacct_says_of_a_task_outranks_what_it_says_of_the_rest(
    site: ClusterSite, cluster_accounting: SlurmCluster
) -> None:
    """F111: of an array whose rest is cancelled as a task begins; it may still count that one to the rest."""
    flow = make_workflow(site, "rest", 6, worker=COUNTING, options=["-m", "1"])
    flow.esis("run", "--no-task-records").ok()
    run, job = flow.only_run(), job_of(flow)
    wait_until(lambda: len(executions(run)) == 2, interval=0.05, what="the second task has begun")
    site.run(["scancel", "-t", "PENDING", job], site.home).ok()
    ended(flow)
    begun = executions(run)
    accounted(cluster_accounting, job, len(begun) + 1)
    forget(cluster_accounting, job)
    found = verdicts(flow)
    assert {task for task, (state, _) in found.items() if state == "done"} == set(begun)
    assert {found[task] for task in range(6) if task not in begun} == {("failed", "CANCELLED")}


def test_f112_a_task_that_is_cancelled_while_it_is_requeued_can_be_resubmitted(
    site: ClusterSite, cluster_accounting: SlurmCluster
) -> None:
    """F112: sacct says REQUEUED for ever of an attempt that was given back, and came not again."""
    flow = make_workflow(site, "back", 2, worker=HOLDING.replace("#!/bin/sh", "#!/bin/sh\ntrap '' TERM"))
    flow.esis("run").ok()
    wait_started(flow, 0, 1)
    element = f"{job_of(flow)}_1"
    # In one go, while the attempt, which ignores SIGTERM, has KillWait left.
    ending = f"until squeue -h -j {element} -o %T | grep -q COMPLETING; do :; done"
    site.run(["sh", "-c", f"scontrol requeue {element} && {ending} && scancel {element}"], site.home).ok()
    active = ["squeue", "-h", "-j", element]
    wait_until(lambda: site.run(active, site.home).stdout == "", what="the attempt is killed")
    let_go(flow)
    ended(flow)
    forget(cluster_accounting, job_of(flow))
    grow_older(flow.only_run())
    said = ["sacct", "-X", "-n", "-P", "-j", element, "-o", "State"]
    # 24.11 may hear of the cancellation.
    given_back = site.run(said, site.home).stdout == "REQUEUED\n"
    assert verdicts(flow)[1][0] == ("lost" if given_back else "failed")
    flow.esis("resubmit").ok()
    ended(flow)
    assert flow.states() == {"done": 2}
