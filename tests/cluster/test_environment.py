"""The caller's environment: what Slurm's commands read from it is decided on, and filters hide nothing."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

import pytest

from esis.environment import SBATCH_KEPT, SLURM_KEPT, clean_environment, query_environment
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
from tests.contract.site import ClusterSite, make_workflow

HIDING = {
    "SQUEUE_ACCOUNT": "nobody",
    "SQUEUE_ALL": "1",
    "SQUEUE_ARRAY": "1",
    "SQUEUE_ARRAY_UNIQUE": "1",
    "SQUEUE_FEDERATION": "1",
    "SQUEUE_FORMAT": "%i",
    "SQUEUE_FORMAT2": "jobid",
    "SQUEUE_LICENSES": "matlab",
    "SQUEUE_LOCAL": "1",
    "SQUEUE_NAMES": "other",
    "SQUEUE_PARTITION": "other",
    "SQUEUE_PRIORITY": "1",
    "SQUEUE_QOS": "other",
    "SQUEUE_SIBLING": "1",
    "SQUEUE_SORT": "-i",
    "SQUEUE_STATES": "COMPLETING",
    "SQUEUE_USERS": "bob",
    "SLURM_BITSTR_LEN": "2",
    "SLURM_TIME_FORMAT": "relative",
    "SLURM_DEBUG_FLAGS": "Steps",
    "SLURM_JSON": "compact",
    "SLURM_YAML": "compact",
    "SACCT_FORMAT": "JobName",
    "SACCT_FEDERATION": "1",
    "SACCT_LOCAL": "1",
    "SCONTROL_ALL": "1",
    "SCONTROL_FUTURE": "1",
    "SCONTROL_LOCAL": "1",
    "SCONTROL_FEDERATION": "1",
    "SCONTROL_SIBLING": "1",
    "SLURM_CONF_OUT": "/dev/full",
}
"""What people export to see less, or otherwise."""
SPARING = {
    "SCANCEL_ACCOUNT": "nobody",
    "SCANCEL_BATCH": "1",
    "SCANCEL_CRON": "1",
    "SCANCEL_CTLD": "1",
    "SCANCEL_FULL": "1",
    "SCANCEL_HURRY": "1",
    "SCANCEL_INTERACTIVE": "1",
    "SCANCEL_NAME": "other",
    "SCANCEL_PARTITION": "other",
    "SCANCEL_QOS": "other",
    "SCANCEL_STATE": "SUSPENDED",
    "SCANCEL_USER": "bob",
    "SCANCEL_VERBOSE": "1",
    "SCANCEL_WCKEY": "other",
}
"""What would keep scancel from cancelling."""


@pytest.fixture
def site(either_cluster: SlurmCluster) -> Iterator[ClusterSite]:
    place = ClusterSite(either_cluster, f"environment-{secrets.token_hex(4)}")
    yield place
    place.run(["scancel", "--me"], place.home)


def test_f47_filters_in_the_environment_hide_nothing(site: ClusterSite) -> None:
    """F47: with each of them a running and a waiting task are that, nothing is submitted again, and cancel cancels."""
    flow = make_workflow(site, "filtered", 2, worker=HOLDING, options=["-m", "1"])
    flow.esis("run", env=HIDING).ok()
    wait_started(flow, 0)
    grow_older(flow.only_run())
    shown = {name: verdicts(flow, {name: value}) for name, value in HIDING.items()}
    plain = verdicts(flow)
    assert plain[0] == ("running", "")
    assert plain[1][0] == "waiting"
    assert shown == dict.fromkeys(HIDING, plain)
    for name in ("SQUEUE_ACCOUNT", "SQUEUE_NAMES", "SQUEUE_PARTITION"):
        assert "nothing to resubmit" in flow.esis("resubmit", env={name: HIDING[name]}).ok().stderr, name
    assert "nothing to resubmit" in flow.esis("resubmit", env=HIDING).ok().stderr
    assert len(submissions(flow.only_run())) == 1
    flow.esis("cancel", env={**HIDING, **SPARING}).ok()
    assert flow.states() == {"failed": 2}
    assert executions(flow.only_run()) == {0: 1}


def test_f47_the_accounting_is_read_whatever_its_format_is(cluster_accounting: SlurmCluster) -> None:
    """F47: SACCT_FORMAT and its like: what only sacct still knows is told as without them."""
    site = ClusterSite(cluster_accounting, f"environment-{secrets.token_hex(4)}")
    flow = make_workflow(site, "accounted", 2, worker=COUNTING + "exit $((SLURM_ARRAY_TASK_ID * 7))\n")
    flow.esis("run", "--no-task-records", env=HIDING).ok()
    ended(flow)
    forget(cluster_accounting, job_of(flow))
    grow_older(flow.only_run())
    told = {0: ("done", "COMPLETED, no task records"), 1: ("failed", "exit code 7")}
    wait_until(lambda: verdicts(flow, HIDING) == told, what="sacct tells it")
    assert verdicts(flow) == told


def test_f47_sbatch_is_not_redirected(site: ClusterSite) -> None:
    """F25, F47: variables of sbatch that would change the contract, all at once: the tasks run as if unset."""
    breaking = {
        "SBATCH_ARRAY_INX": "7-9",
        "SBATCH_DEBUG": "3",
        "SBATCH_ERROR": "/nowhere/e",
        "SBATCH_EXPORT": "NONE",
        "SBATCH_INPUT": "/nowhere/i",
        "SBATCH_JOB_NAME": "x",
        "SBATCH_OUTPUT": "/nowhere/o",
        "SBATCH_WAIT": "1",
        "SLURM_HINT": "nomultithread",
        "SLURM_EXIT_ERROR": "0",
        "SLURM_UMASK": "0777",
        "SLURM_NTASKS": "3",
        "SLURM_JOB_DEPENDENCY": "singleton",
        "SLURM_CPUS_PER_TASK": "5",
        "SLURM_EXPORT_ENV": "NONE",
    }
    flow = make_workflow(site, "redirected", 2, worker=HOLDING, template=template())
    flow.esis("run", env=breaking).ok()
    wait_started(flow, 0, 1)
    let_go(flow)
    ended(flow)
    assert flow.states() == {"done": 2}
    assert len(list((flow.only_run() / "cwd").glob(f"slurm-{job_of(flow)}_*.out"))) == 2


# --- the manual pages of the installed version

QUERIES = ("sacct", "scancel", "scontrol", "squeue")
DROPPED = frozenset(
    """
    SACCT_FEDERATION SACCT_FORMAT SACCT_LOCAL SCANCEL_ACCOUNT SCANCEL_BATCH SCANCEL_CRON SCANCEL_CTLD SCANCEL_FULL
    SCANCEL_HURRY SCANCEL_INTERACTIVE SCANCEL_NAME SCANCEL_PARTITION SCANCEL_QOS SCANCEL_STATE SCANCEL_USER
    SCANCEL_VERBOSE SCANCEL_WCKEY SCONTROL_ALL SCONTROL_FEDERATION SCONTROL_FUTURE SCONTROL_LOCAL SCONTROL_SIBLING
    SQUEUE_ACCOUNT SQUEUE_ALL SQUEUE_ARRAY SQUEUE_FEDERATION SQUEUE_FORMAT SQUEUE_FORMAT2 SQUEUE_LICENSES SQUEUE_LOCAL
    SQUEUE_NAMES SQUEUE_PARTITION SQUEUE_PRIORITY SQUEUE_QOS SQUEUE_SIBLING SQUEUE_SORT SQUEUE_STATES SQUEUE_USERS
    SLURM_BITSTR_LEN SLURM_CONF_OUT SLURM_DEBUG_FLAGS SLURM_EXIT_ERROR SLURM_HINT SLURM_JSON
    SLURM_STEP_KILLED_MSG_NODE_ID SLURM_TIME_FORMAT SLURM_TOPO_LEN SLURM_UMASK SLURM_YAML
    SBATCH_ARRAY_INX SBATCH_DEBUG SBATCH_ERROR SBATCH_EXPORT SBATCH_INPUT SBATCH_JOB_NAME SBATCH_OUTPUT
    SBATCH_WAIT
""".split()
)
"""What the manual pages of 20.11 to 26.05 name and ESIS takes away."""


def variables(cluster: SlurmCluster, command: str) -> set[str]:
    """Return the variables that a command's manual page says it reads."""
    text = cluster.run(["zcat", f"/usr/share/man/man1/{command}.1.gz"], cwd="/").stdout
    sections = re.split(r"^\.SH +", text, flags=re.MULTILINE)
    (section,) = [part for part in sections if re.match(r'"?(INPUT )?ENVIRONMENT VARIABLES', part)]
    heads = re.findall(r"^(?:\\fB|\.B |\.BR )(S[A-Z]+_[A-Z0-9_\\]+)(.*)$", section.replace("\\-", "-"), re.MULTILINE)
    found = set()
    for first, rest in heads:
        found.add(first)
        found.update(re.findall(r"\bS[A-Z]+_[A-Z0-9_]+", rest))
    return {name.rstrip("\\") for name in found}


def test_f47_every_variable_of_the_manual_pages_is_decided_on(
    bare_cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F47: each variable that Slurm's commands read, by the installed version's own pages, is kept or taken away."""
    known = {command: variables(bare_cluster, command) for command in (*QUERIES, "sbatch")}
    assert len(known["sbatch"]) > 50
    assert {"SQUEUE_PARTITION", "SQUEUE_USERS", "SLURM_CONF"} <= known["squeue"]
    assert {"SACCT_LOCAL", "SLURM_TIME_FORMAT"} <= known["sacct"]
    assert "SCONTROL_ALL" in known["scontrol"]
    assert "SCANCEL_STATE" in known["scancel"]
    kept = SLURM_KEPT | SBATCH_KEPT
    every = set().union(*known.values())
    assert every - kept - DROPPED == set(), "decide on these: esis/environment.py, and DROPPED here"
    assert not kept & DROPPED
    for name in every:
        monkeypatch.setenv(name, "7")
    for name in every:
        assert (name in clean_environment()) == (name in kept or not name.startswith(("SLURM_", "SBATCH_"))), name
    for command in QUERIES:
        assert known[command] & set(query_environment()) <= SLURM_KEPT, command
