"""Somebody else looks at a run: a colleague, an administrator, on a site that hides jobs and on one that doesn't."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.harness import SlurmCluster, wait_until
from tests.cluster.test_faults import COUNTING, HOLDING, ended, grow_older, let_go, submissions, wait_started
from tests.contract.site import ClusterSite, Result, Workflow, make_workflow


@pytest.fixture
def site(either_cluster: SlurmCluster) -> Iterator[ClusterSite]:
    place = ClusterSite(either_cluster, f"users-{secrets.token_hex(4)}")
    yield place
    place.run(["scancel", "--me"], place.home)


@contextmanager
def hidden_jobs(cluster: SlurmCluster) -> Iterator[None]:
    """Let users see only their own jobs during the block, in the queue and in the accounting."""
    _set_private(cluster, "jobs")
    try:
        yield
    finally:
        _set_private(cluster, "none")


def _set_private(cluster: SlurmCluster, what: str) -> None:
    setting = f"sed -i '/^PrivateData=/d' FILE; [ {what} = none ] || echo PrivateData={what} >>FILE"
    for host in cluster.hosts:
        cluster.sh(setting.replace("FILE", "/etc/slurm/slurm.conf"), user="root", cwd="/", host=host)
    if cluster.accounting:
        conf = setting.replace("FILE", "/etc/slurm/slurmdbd.conf")
        cluster.sh(f"{conf}; sacctmgr -i reconfigure", user="root", cwd="/", host="dbd")
    cluster.run(["scontrol", "reconfigure"], user="root", cwd="/", host="ctl")
    shown = ["scontrol", "show", "config"]
    expected = f"PrivateData             = {what}"
    wait_until(lambda: expected in cluster.run(shown, check=False).stdout, what=f"PrivateData is {what}")


def as_user(flow: Workflow, user: str, *argv: str) -> Result:
    """Run esis in the directory of a workflow as somebody else."""
    site = flow.site
    assert isinstance(site, ClusterSite)
    done = site.cluster.run(["esis", *argv], cwd=str(site.inside(flow.directory)), user=user, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


def states(flow: Workflow, user: str) -> dict[str, int]:
    shown = as_user(flow, user, "status", "--json", flow.only_run().name)
    assert shown.code in (0, 6), shown.stderr
    return {state: value["count"] for state, value in json.loads(shown.stdout)["states"].items()}


@contextmanager
def old(run: Path) -> Iterator[None]:
    """Let a run look during the block as it will after all graces; a task renames the record of its own start."""
    tasks = run / "__esis__/tasks"
    before = {path.name.split(".")[0]: path for path in tasks.glob("*.running")}
    grow_older(run)
    yield
    for path in tasks.glob("*.running"):
        path.rename(before[path.name.split(".")[0]])


def active(site: ClusterSite) -> Workflow:
    """Let one task be done, one run and one wait."""
    worker = HOLDING.replace("while", '[ "$SLURM_ARRAY_TASK_ID" = 0 ] || while')
    flow = make_workflow(site, "active", 3, worker=worker, options=["-m", "1"])
    flow.esis("run").ok()
    wait_started(flow, 1)
    return flow


@pytest.mark.parametrize("user", ["bob", "root"])
def test_f53_another_user_sees_what_the_owner_sees(site: ClusterSite, user: str) -> None:
    """F53: waiting and running are that, nothing is lost, and `wait` waits."""
    flow = active(site)
    run = flow.only_run()
    expected = {"done": 1, "running": 1, "waiting": 1}
    with old(run):
        assert flow.states() == expected
        assert states(flow, user) == expected
        assert as_user(flow, user, "status", "--check", run.name).code == 9
        assert as_user(flow, user, "wait", "--timeout", "2", run.name).code == 9
        assert flow.states() == expected
    let_go(flow)
    ended(flow)
    grow_older(run)
    assert states(flow, user) == {"done": 3}
    assert as_user(flow, user, "status", "--check", run.name).code == 0


def test_f53_another_user_changes_nothing(cluster: SlurmCluster) -> None:
    """F53: somebody who can't write into the run can neither cancel, throttle nor resubmit."""
    flow = active(ClusterSite(cluster, f"users-{secrets.token_hex(4)}"))
    run = flow.only_run()
    for command in ("cancel", "throttle 1", "resubmit"):
        done = as_user(flow, "bob", *command.split(), run.name)
        assert "internal error" not in done.stderr
        # Nothing to resubmit is no failure.
        assert done.code != 0 or (command == "resubmit" and "nothing to resubmit" in done.stderr), command
    assert flow.states() == {"done": 1, "running": 1, "waiting": 1}
    assert len(submissions(run)) == 1
    let_go(flow)
    ended(flow)


def test_f53_the_jobs_of_the_one_who_looks_are_not_the_runs(site: ClusterSite) -> None:
    """F53: bob's own job with the run's script and directory is bob's: alice's run has ended."""
    flow = make_workflow(site, "ended", 2, worker=COUNTING)
    flow.esis("run").ok()
    ended(flow)
    cwd = str(site.inside(flow.only_run() / "cwd"))
    argv = ["sbatch", "--parsable", "--begin=now+1hour", "--output=/dev/null", "../sbatch.sh"]
    job = site.cluster.run(argv, cwd=cwd, user="bob").stdout.strip()
    try:
        assert states(flow, "bob") == {"done": 2}
        assert flow.states() == {"done": 2}
        assert flow.esis("cancel").code == 2
    finally:
        site.cluster.run(["scancel", job], user="bob")


def test_f53_where_the_site_hides_jobs_another_user_knows_nothing_of_them(site: ClusterSite) -> None:
    """F53: PrivateData=jobs looks like an empty queue: what isn't recorded is unknown to others, never lost."""
    flow = active(site)
    run = flow.only_run()
    with hidden_jobs(site.cluster):
        with old(run):
            assert flow.states() == {"done": 1, "running": 1, "waiting": 1}
            assert states(flow, "bob") == {"done": 1, "unknown": 2}
            assert as_user(flow, "bob", "status", "--check", run.name).code == 6
            assert as_user(flow, "bob", "wait", "--timeout", "2", run.name).code in (6, 9)
        let_go(flow)
        ended(flow)
        assert states(flow, "bob") == {"done": 3}
    assert states(flow, "bob") == {"done": 3}
