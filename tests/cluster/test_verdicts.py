"""What a job did: preemption without requeue, and signals that end the batch shell."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.cluster.harness import SlurmCluster, wait_until
from tests.cluster.test_faults import (
    COUNTING,
    HOLDING,
    ended,
    executions,
    forget,
    grow_older,
    job_of,
    let_go,
    submissions,
    template,
    verdicts,
    wait_started,
)
from tests.contract.site import ClusterSite, Workflow, make_workflow

LOW = ("--partition=low", "--nodelist=c2", "--exclusive")
POLITE = "trap 'exit 0' TERM\nsrun WORKERSCRIPT &\nwait $!"
"""A script that takes a signal for a good reason to end well."""


@pytest.fixture
def site(either_cluster: SlurmCluster) -> Iterator[ClusterSite]:
    place = ClusterSite(either_cluster, f"verdicts-{secrets.token_hex(4)}")
    yield place
    place.run(["scancel", "--me"], place.home)
    either_cluster.wait_jobs_gone()


def let_in_a_better_job(flow: Workflow) -> str:
    """Let a job of a better partition ask for the node of a run's task; return its id."""
    site = flow.site
    argv = "sbatch --parsable --partition=main --nodelist=c2 --exclusive --output=/dev/null --wrap true".split()
    return site.run(argv, flow.directory).ok().stdout.strip()


def preempt(flow: Workflow) -> None:
    """Let a job of a better partition take the node of a run's task."""
    site = flow.site
    assert isinstance(site, ClusterSite)
    site.cluster.wait_jobs_gone(let_in_a_better_job(flow), job_of(flow))
    shown = site.run(["squeue", "-h", "-t", "all", "-j", job_of(flow), "-o", "%T"], flow.directory)
    assert shown.stdout == "PREEMPTED\n"


@pytest.mark.parametrize("call", ["srun WORKERSCRIPT", POLITE], ids=["plain", "trap"])
def test_f49_a_preempted_task_has_failed_and_can_be_resubmitted(site: ClusterSite, call: str) -> None:
    """F49: PreemptMode=CANCEL, also with a TERM trap that exits 0: PREEMPTED, as long as Slurm shows it and after."""
    flow = make_workflow(site, "preempted", 1, worker=HOLDING, template=template(*LOW, call=call))
    flow.esis("run").ok()
    wait_started(flow, 0)
    preempt(flow)
    assert verdicts(flow) == {0: ("failed", "PREEMPTED")}
    assert flow.esis("status", "--check").code == 8
    assert flow.esis("wait").code == 8
    assert (flow.only_run() / "__esis__/completed.state").read_text() == "0"
    forget(site.cluster, job_of(flow))
    grow_older(flow.only_run())
    # Of a record that says failed, too, Slurm's word for it isn't noted down. So it may be with the trap, where the
    # signal ends the step before it comes to the shell.
    told = [path.name for path in (flow.only_run() / "__esis__/tasks").iterdir()]
    failed = any(".exit143." in name for name in told)
    reasons = {"PREEMPTED", "exit code 143"} if failed and not site.cluster.accounting else {"PREEMPTED"}
    ((state, reason),) = verdicts(flow).values()
    assert (state, reason in reasons) == ("failed", True), reason
    let_go(flow)
    flow.esis("resubmit").ok()
    assert submissions(flow.only_run())[1]["tasks"] == "0"
    ended(flow)
    assert flow.states() == {"done": 1}
    assert executions(flow.only_run()) == {0: 2}


def test_f49_a_preemption_that_nobody_saw_is_known_from_the_accounting(cluster_accounting: SlurmCluster) -> None:
    """F49: the record says exit 0, squeue has forgotten the job: sacct outranks the record."""
    site = ClusterSite(cluster_accounting, f"verdicts-{secrets.token_hex(4)}")
    flow = make_workflow(site, "unseen", 1, worker=HOLDING, template=template(*LOW, call=POLITE))
    flow.esis("run").ok()
    wait_started(flow, 0)
    preempt(flow)
    let_go(flow)
    forget(cluster_accounting, job_of(flow))
    grow_older(flow.only_run())
    wait_until(lambda: verdicts(flow) == {0: ("failed", "PREEMPTED")}, what="sacct tells it")


PACKED = ("--tasks-per-job", "4")
ONE_HOLDS = COUNTING + '[ "$SLURM_ARRAY_TASK_ID" != 1 ] || until [ -e ../go ]; do sleep 0.1; done\n'


def test_f49_a_preempted_pack_keeps_what_is_done_and_gives_back_what_never_began(site: ClusterSite) -> None:
    """F49: PreemptMode=CANCEL of a pack: what isn't done is unsubmitted again."""
    flow = make_workflow(site, "packed", 4, worker=ONE_HOLDS, template=template(*LOW), options=PACKED)
    flow.esis("run").ok()
    wait_started(flow, 1)
    preempt(flow)
    found = verdicts(flow)
    assert [found[task][0] for task in range(4)] == ["done", *["unsubmitted"] * 3]
    let_go(flow)
    flow.esis("run").ok()
    ended(flow)
    assert flow.states() == {"done": 4}
    assert executions(flow.only_run()) == {0: 1, 1: 2, 2: 1, 3: 1}


FIRST_ENDS = COUNTING + '[ "$SLURM_ARRAY_TASK_ID" = 0 ] || until [ -e ../go ]; do sleep 0.1; done\n'


def test_f110_cancelling_what_waits_makes_no_failure_of_what_slurm_has_forgotten(cluster: SlurmCluster) -> None:
    """F110: without records and accounting: what had ended is unknown, and isn't run again by `esis resubmit`."""
    site = ClusterSite(cluster, f"verdicts-{secrets.token_hex(4)}")
    flow = make_workflow(site, "rest", 4, worker=FIRST_ENDS, options=["-m", "1"])
    flow.esis("run", "--no-task-records").ok()
    run = flow.only_run()
    wait_until(lambda: len(executions(run)) == 2, what="the second task has begun")
    forget(cluster, f"{job_of(flow)}_0")
    assert flow.states() == {"unknown": 1, "running": 1, "waiting": 2}
    flow.esis("cancel", "--pending").ok()
    shown = site.run(["squeue", "-h", "-t", "CANCELLED", "-j", job_of(flow), "-o", "%i"], flow.directory)
    assert shown.stdout == f"{job_of(flow)}\n", "Slurm names no element"
    assert flow.states() == {"unknown": 1, "running": 1, "failed": 2}
    let_go(flow)
    ended(flow)
    flow.esis("resubmit", "--no-task-records").ok()
    assert submissions(run)[1]["tasks"] == "2-3"
    ended(flow)
    assert executions(run) == dict.fromkeys(range(4), 1)


SIGNALS = (
    "ILL TRAP ABRT BUS FPE SEGV XFSZ VTALRM SYS HUP INT QUIT KILL USR1 USR2 PIPE ALRM TERM STKFLT XCPU PROF IO PWR"
).split()
SURE = 9
"""The first ones end a shell wherever Slurm starts it; some of the others it may ignore."""


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_f50_no_signal_to_the_batch_shell_ends_a_task_well(site: ClusterSite, shell: str) -> None:
    """F50: a shell that a signal ends, right after a command that ended with 0, has failed, by record and by Slurm."""
    call = f'WORKERSCRIPT\nset -- {" ".join(SIGNALS)}\nshift "$SLURM_ARRAY_TASK_ID"\nkill -s "$1" $$\nexit 42'
    text = template(call=call).replace("#!/bin/bash", f"#!/bin/{shell}").replace("set -euo pipefail", "ulimit -c 0")
    flow = make_workflow(site, "signals", len(SIGNALS), worker=COUNTING, template=text)
    flow.esis("run").ok()
    ended(flow)
    run = flow.only_run()
    ends = sorted(path.name for path in (run / "__esis__/tasks").iterdir())
    assert [name for name in ends if ".exit0." in name] == []
    assert executions(run) == dict.fromkeys(range(len(SIGNALS)), 1)
    grow_older(run)
    told = {SIGNALS[task]: verdict for task, verdict in verdicts(flow).items()}
    assert {state for state, _ in told.values()} == {"failed"}, told
    assert [name for name in SIGNALS[:SURE] if "exit code 42" in told[name][1]] == []
    forget(site.cluster, job_of(flow))
    assert {SIGNALS[task]: state for task, (state, _) in verdicts(flow).items()} == dict.fromkeys(SIGNALS, "failed")
