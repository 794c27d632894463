"""Slurm's own faults, made on purpose on a real cluster: what ESIS says meanwhile, and what it does afterwards.

The numbers F01 to F44 are those of the list of faults. The slow ones (a time limit counts in minutes) are set going by
the fixture `fates` and looked at by the last tests, so that the tests between cost no waiting.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.harness import PREFIX, SlurmCluster, login_environment, wait_until
from tests.contract.site import ClusterSite, Result, Workflow, make_workflow

ROUNDS = int(os.environ.get("ESIS_FREEZE_ROUNDS", "5"))
PATIENCE_SECONDS = 2
"""MessageTimeout of the commands that meet a frozen slurmctld."""

# Every execution of a task leaves a line.
COUNTING = '#!/bin/sh\necho "${SLURM_RESTART_COUNT:-0}" >>"ran.$SLURM_ARRAY_TASK_ID"\n'
HOLDING = COUNTING + "while ! [ -e ../go ]; do sleep 0.1; done\n"


def template(*directives: str, call: str = "srun WORKERSCRIPT") -> str:
    """Return a template with directives of its own."""
    lines = "".join(f"#SBATCH {line}\n" for line in ("--array=TASKARRAYDEFINITION", "--time=5", *directives))
    return f"#!/bin/bash\n{lines}#ESIS_PRIVATE\nset -euo pipefail\n{call}\n"


@pytest.fixture
def site(cluster: SlurmCluster) -> Iterator[ClusterSite]:
    place = ClusterSite(cluster, f"faults-{secrets.token_hex(4)}")
    yield place
    # Nothing of a test that failed may hold the nodes.
    for run in place.home.glob("*/wrkdir.*"):
        (run / "go").touch()


# --- looking at runs


def submissions(run: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((run / "__esis__/submissions").glob("*.json"))]


def has_begun(flow: Workflow, tasks: int) -> bool:
    return len(executions(flow.only_run())) == tasks


def job_of(flow: Workflow) -> str:
    """Return the id of the latest array."""
    return (flow.only_run() / "__esis__/jobid.tx").read_text().strip()


def executions(run: Path) -> dict[int, int]:
    """Return how often each task has done its work."""
    return {int(path.name[4:]): len(path.read_text().splitlines()) for path in (run / "cwd").glob("ran.*")}


def records(run: Path, task: int) -> list[str]:
    """Return what the records of a task say, by attempt: restart count and outcome."""
    found = []
    for path in (run / "__esis__/tasks").glob(f"{task}.*"):
        parts = path.name.split(".")
        found.append(f"{parts[3]} {parts[5]}")
    return sorted(found)


def verdicts(flow: Workflow, env: Mapping[str, str] | None = None) -> dict[int, tuple[str, str]]:
    """Return state and reason of each task, whatever the exit code of the command."""
    shown = json.loads(flow.esis("status", "--tasks", "--json", env=env).stdout)
    return {row["task"]: (row["state"], row["reason"]) for row in shown["rows"]}


def wait_started(flow: Workflow, *tasks: int) -> None:
    """Wait until these tasks have written the records of their start."""
    (run,) = wait_until(flow.runs, what="the run is there")

    def started() -> bool:
        return all(list((run / "__esis__/tasks").glob(f"{task}.*.running")) for task in tasks)

    wait_until(started, what=f"tasks {tasks} have started")


def let_go(flow: Workflow) -> None:
    """Let the tasks that hold come to their end."""
    flow.site.run(["touch", "go"], flow.only_run()).ok()


def ended(flow: Workflow, *earlier: str) -> None:
    """Wait until the latest array of a run has left the queue."""
    site = flow.site
    assert isinstance(site, ClusterSite)
    site.cluster.wait_jobs_gone(job_of(flow), *earlier)


# --- making faults


@dataclass(frozen=True)
class Watch:
    """An sbatch in front of the real one that logs each call; clients that give up soon."""

    log: Path
    env: Mapping[str, str]

    def calls(self) -> int:
        return self._lines().count("begin")

    def answers(self) -> int:
        return sum(1 for line in self._lines() if line.startswith("end"))

    def clear(self) -> None:
        self.log.write_text("")

    def _lines(self) -> list[str]:
        return self.log.read_text().splitlines()


def watch_sbatch(site: ClusterSite, before: str = "", after: str = "", patience: int = PATIENCE_SECONDS) -> Watch:
    """Put such an sbatch on PATH; it runs shell text before and after the real one."""
    bin_ = site.home / "bin"
    inside = site.inside(bin_)
    site.run(["mkdir", str(inside)], site.home).ok()
    log = bin_ / "log"
    text = (
        f'#!/bin/sh\necho begin >>{inside}/log\n{before}\n/usr/bin/sbatch "$@"\ncode=$?\n{after}\n'
        f"echo end $code >>{inside}/log\nexit $code\n"
    )
    (bin_ / "sbatch").write_text(text)
    (bin_ / "sbatch").chmod(0o755)
    log.write_text("")
    log.chmod(0o666)
    settings = f"sed 's/^MessageTimeout=.*/MessageTimeout={patience}/' /etc/slurm/slurm.conf >{inside}/slurm.conf"
    site.cluster.sh(settings)
    return Watch(log, {"PATH": f"{inside}:{login_environment('alice')['PATH']}", "SLURM_CONF": f"{inside}/slurm.conf"})


@contextmanager
def frozen(cluster: SlurmCluster, host: str) -> Iterator[Callable[[], None]]:
    """Freeze a container during the block; the function that it gives thaws it before the end."""
    cluster.freeze(host)
    cold = [host]

    def thaw() -> None:
        if cold:
            cluster.thaw(cold.pop())

    try:
        yield thaw
    finally:
        thaw()


@contextmanager
def without_controller(cluster: SlurmCluster) -> Iterator[None]:
    """Stop slurmctld for the block, as an administrator would."""
    cluster.kill_daemon("ctl", "TERM")
    try:
        yield
    finally:
        cluster.start_daemon("ctl")
        wait_until(lambda: cluster.run(["scontrol", "ping"], check=False).returncode == 0, what="slurmctld answers")


@contextmanager
def in_background(flow: Workflow, *arguments: str, env: Mapping[str, str]) -> Iterator[Callable[[], Result]]:
    """Run esis during the block; the function that it gives waits for the result. Its PID stands in `pid`."""
    with ThreadPoolExecutor(1) as pool:
        argv = ["sh", "-c", 'echo $$ >pid; exec esis "$@"', "esis", *arguments]
        yield pool.submit(flow.site.run, argv, flow.directory, env).result


def kill_esis(flow: Workflow) -> None:
    flow.site.run(["sh", "-c", 'kill -KILL "$(cat pid)"'], flow.directory).ok()


def forget(cluster: SlurmCluster, *jobs: str) -> None:
    """Let slurmctld purge these jobs or elements, as it does MinJobAge after their end (two seconds is its minimum)."""
    _set_age(cluster, 2)
    try:

        def forgotten() -> bool:
            known = cluster.run(["squeue", "-h", "-t", "all", "-o", "%F %i"]).stdout.split()
            return not set(known) & set(jobs)

        wait_until(forgotten, what=f"jobs {jobs} are forgotten")
    finally:
        remember(cluster)


def remember(cluster: SlurmCluster) -> None:
    """Let slurmctld purge no job for an hour: what the fates are is looked at after minutes of other tests."""
    _set_age(cluster, 3600)


def _set_age(cluster: SlurmCluster, seconds: int) -> None:
    setting = f"sed -i 's/^MinJobAge=.*/MinJobAge={seconds}/' /etc/slurm/slurm.conf && scontrol reconfigure"
    cluster.sh(setting, user="root", cwd="/", host="ctl")
    shown = ["scontrol", "show", "config"]
    wait_until(
        lambda: re.search(rf"^MinJobAge\s*= {seconds} ", cluster.run(shown, check=False).stdout, re.MULTILINE),
        what=f"MinJobAge is {seconds}",
    )


def grow_older(run: Path, seconds: int = 100) -> None:
    """Let a run look as it will in a while: the grace before `lost` counts from its records."""
    for path in (run / "__esis__/submissions").glob("*.json"):
        record = json.loads(path.read_text())
        for key in ("created", "answered"):
            record[key] = record[key] and record[key] - seconds
        path.write_text(json.dumps(record))
    for path in (run / "__esis__/tasks").glob("*.running"):
        parts = path.name.split(".")
        parts[4] = str(int(parts[4]) - seconds)
        path.rename(path.with_name(".".join(parts)))


# --- fates that tasks can meet, on clusters with and without accounting alike


def meet_fates(site: ClusterSite) -> dict[str, Workflow]:
    """Submit runs whose tasks end in every way that there is; the node c1 fails under those that are on it."""
    cluster = site.cluster
    here = "-w c2"
    shell = "export BATCH_SHELL=$$\nsrun WORKERSCRIPT"
    ends = COUNTING + ('case $SLURM_ARRAY_TASK_ID in 1) exit 7;; 2) kill -KILL "$BATCH_SHELL";; 3) sleep 300;; esac\n')
    hoard = COUNTING + """exec python3 -c 'import time; hoard = b"x" * (400 << 20); time.sleep(300)'\n"""
    flows = {
        "timeout": make_workflow(site, "timeout", 2, worker=HOLDING, template=template(here).replace("=5", "=1")),
        "node": make_workflow(site, "node", 2, worker=HOLDING, template=template("-w c1", "--no-requeue")),
        # Held for as long as the frozen rounds take.
        "requeued": make_workflow(
            site, "requeued", 1, worker=HOLDING, template=template("-w c1", "--requeue").replace("=5", "=60")
        ),
        "ends": make_workflow(site, "ends", 4, worker=ends, template=template(here, call=shell)),
        "unseen": make_workflow(
            site, "unseen", 1, worker=COUNTING + 'kill -KILL "$BATCH_SHELL"\n', template=template(here, call=shell)
        ),
        "pending": make_workflow(site, "pending", 2, worker=COUNTING, template=template("--begin=now+1hour")),
        "memory": make_workflow(site, "memory", 1, worker=hoard, template=template(here, "--mem=50")),
        "hookless": make_workflow(
            site, "hookless", 2, worker=COUNTING + "exit $((SLURM_ARRAY_TASK_ID * 7))\n", template=template(here)
        ),
    }
    for name, flow in flows.items():
        flow.esis("run", *(["--no-task-records"] if name == "hookless" else [])).ok()
    for name in ("node", "requeued"):
        tasks = 1 if name == "requeued" else 2
        wait_until(partial(has_begun, flows[name], tasks), what=f"the tasks of {name} are at work")
    cluster.kill("c1")
    # As slurmctld does by itself after SlurmdTimeout. A slurmd that is back at once hides for minutes that its tasks
    # are gone; this one's registration resumes the node (ReturnToService=2).
    down = ["scontrol", "update", "nodename=c1", "state=down", "reason=power"]
    cluster.run(down, user="root", cwd="/", host="ctl")
    cluster.start("c1")
    wait_started(flows["ends"], 3)
    site.run(["scancel", f"{job_of(flows['ends'])}_3"], site.home).ok()
    site.run(["scancel", job_of(flows["pending"])], site.home).ok()
    return flows


def fate_of(flows: Mapping[str, Workflow]) -> dict[str, tuple[str, str]]:
    """Return state and reason of each fate."""
    tasks = {"timeout": (1,), "node": (1,), "ends": (0, 1, 2, 3), "pending": (0, 1), "memory": (0,), "hookless": (0, 1)}
    found = {}
    for name, chosen in tasks.items():
        all_of_it = verdicts(flows[name])
        found.update({f"{name} {task}": all_of_it[task] for task in chosen})
    return found


@pytest.fixture(scope="module")
def fates(cluster: SlurmCluster) -> dict[str, Workflow]:
    remember(cluster)
    return meet_fates(ClusterSite(cluster, f"fates-{secrets.token_hex(4)}"))


# --- the lost reply


def test_f10_a_lost_reply_is_adopted_and_every_task_runs_once(
    fates: object, site: ClusterSite, cluster: SlurmCluster
) -> None:
    """F10: slurmctld is frozen, sbatch gives up, slurmctld goes on and takes the job: it is found and adopted."""
    watch = watch_sbatch(site)
    flows = []
    for number in range(ROUNDS):
        flow = make_workflow(site, f"round{number}", 3, worker=COUNTING)
        flows.append(flow)
        watch.clear()
        with frozen(cluster, "ctl") as thaw, in_background(flow, "run", env=watch.env) as result:
            wait_until(watch.answers, what="sbatch has given up")
            thaw()
            done = result().ok()
        assert "Socket timed out" in done.stderr
        assert "Slurm has it as job" in done.stderr
        assert watch.calls() == 1
        (record,) = submissions(flow.only_run())
        assert record["outcome"] == "submitted"
    assert len({job_of(flow) for flow in flows}) == ROUNDS
    assert site.submissions() == ROUNDS
    for flow in flows:
        ended(flow)
        assert flow.states() == {"done": 3}
        assert executions(flow.only_run()) == {0: 1, 1: 1, 2: 1}


def test_f02_esis_killed_while_sbatch_hangs_adopts_its_job_when_called_again(
    site: ClusterSite, cluster: SlurmCluster
) -> None:
    """F02: the intent is on disk; while slurmctld is silent nothing is sent again, then the same job is adopted."""
    watch = watch_sbatch(site)
    flows = []
    for number in range(ROUNDS):
        flow = make_workflow(site, f"round{number}", 3, worker=COUNTING)
        flows.append(flow)
        watch.clear()
        with frozen(cluster, "ctl") as thaw:
            with in_background(flow, "run", env=watch.env) as result:
                wait_until(watch.calls, what="sbatch was called")
                kill_esis(flow)
                assert result().code == 137
            (record,) = submissions(flow.only_run())
            assert record["outcome"] == "open"
            if number == 0:
                silent = flow.esis("run", env=watch.env)
                assert silent.code == 6, silent.stderr
                assert "tasks 0-2 may or may not be queued" in silent.stderr
                outcome = ("unknown", "outcome of the submission unknown")
                assert verdicts(flow, watch.env) == dict.fromkeys(range(3), outcome)
            thaw()
        flow.esis("run", env=watch.env).ok()
        assert watch.calls() == 1
        (record,) = submissions(flow.only_run())
        assert record["outcome"] == "submitted"
    assert site.submissions() == ROUNDS
    for flow in flows:
        ended(flow)
        assert flow.states() == {"done": 3}
        assert executions(flow.only_run()) == {0: 1, 1: 1, 2: 1}
        assert not list((flow.only_run() / "__esis__").glob("lock*"))


# --- slurmctld away


def test_f18_while_slurmctld_is_down_status_tells_what_the_records_tell(
    site: ClusterSite, cluster: SlurmCluster
) -> None:
    """F18: exit code 6, what couldn't be asked and how old the rest is; nothing is called failed, lost or queued."""
    env = watch_sbatch(site).env
    worker = HOLDING.replace("while", '[ "$SLURM_ARRAY_TASK_ID" = 0 ] || while')
    # Without srun, which in 26.05 doesn't return from the end of its step before slurmctld has heard of it.
    flow = make_workflow(site, "away", 4, worker=worker, template=template(call="WORKERSCRIPT"))
    flow.esis("run").ok()
    wait_started(flow, 1, 2, 3)
    run = flow.only_run()
    wait_until(lambda: records(run, 0) == ["0 exit0"], what="task 0 has ended")
    with without_controller(cluster):
        shown = flow.esis("status", env=env)
        assert shown.code == 6
        assert shown.stdout.splitlines()[1] == "done\t1\t0"
        assert [line.split("\t")[:3] for line in shown.stdout.splitlines()[2:]] == [["unknown", "3", "1-3"]]
        assert re.search(
            r"the queue could not be asked \(.*Unable to contact slurm controller.*\); what is shown is "
            r"from the tasks' own records, the latest \d+ s old",
            shown.stderr,
        )
        for command in ("cancel", "throttle 2"):
            assert flow.esis(*command.split(), env=env).code == 6, command
        refused = flow.esis("resubmit", env=env)
        assert refused.code == 6
        assert "nothing was submitted" in refused.stderr
        let_go(flow)
        wait_until(lambda: all(records(run, task) == ["0 exit0"] for task in range(4)), what="all tasks have ended")
        assert verdicts(flow, env) == dict.fromkeys(range(4), ("done", ""))
    ended(flow)
    assert flow.states() == {"done": 4}
    assert executions(run) == dict.fromkeys(range(4), 1)


def test_f14_what_is_run_while_slurmctld_is_down_is_submitted_by_the_same_command_later(
    site: ClusterSite, cluster: SlurmCluster
) -> None:
    """F14: exit code 6 and what to do; the intent is kept, and one job comes of it."""
    watch = watch_sbatch(site)
    flow = make_workflow(site, "later", 2, worker=COUNTING)
    with without_controller(cluster):
        for _ in range(2):
            refused = flow.esis("run", env=watch.env)
            assert refused.code == 6, refused.stderr
            assert "Unable to contact slurm controller" in refused.stderr
            assert "repeat the command later" in refused.stderr
        assert watch.calls() == 1
        (record,) = submissions(flow.only_run())
        assert record["outcome"] == "open"
    flow.esis("run", env={**watch.env, "ESIS_LOOKUP_GRACE": "2"}).ok()
    assert watch.calls() == 2
    ended(flow)
    assert flow.states() == {"done": 2}
    assert site.submissions() == 1
    assert executions(flow.only_run()) == {0: 1, 1: 1}
    assert [record["number"] for record in submissions(flow.only_run())] == [1]


def test_f15_an_acknowledged_job_that_slurmctld_lost_is_lost_and_its_ids_next_owner_is_somebody_else(
    site: ClusterSite, cluster: SlurmCluster
) -> None:
    """F15: slurmctld dies before it saves the job, and gives its id away: unknown at first, then lost."""
    flow = make_workflow(site, "lost", 2, worker=COUNTING, template=template("--begin=now+1hour"))
    state = "/var/lib/slurm/slurmctld"
    cluster.kill_daemon("ctl", "TERM")
    cluster.run(["cp", "-a", state, f"{state}.before"], user="root", host="ctl")
    cluster.start_daemon("ctl")
    wait_until(lambda: cluster.run(["scontrol", "ping"], check=False).returncode == 0, what="slurmctld answers")
    flow.esis("run").ok()
    cluster.kill_daemon("ctl", "KILL")
    cluster.sh(f"rm -rf {state} && mv {state}.before {state}", user="root", host="ctl")
    cluster.start_daemon("ctl")
    wait_until(lambda: cluster.run(["scontrol", "ping"], check=False).returncode == 0, what="slurmctld answers")
    lost = job_of(flow)
    stranger = site.run(["sbatch", "--parsable", "--array=0-1", "--wrap", "sleep 1"], site.home).ok().stdout.strip()
    assert stranger == lost
    assert flow.states() == {"unknown": 2}
    assert flow.esis("resubmit").ok().stderr.count("left out, for they may be running: 0-1") == 1
    grow_older(flow.only_run())
    assert flow.states() == {"lost": 2}
    cluster.wait_jobs_gone(stranger)
    assert flow.states() == {"lost": 2}
    flow.esis("resubmit", "--", "--begin=now").ok()
    assert job_of(flow) != lost
    ended(flow)
    assert flow.states() == {"done": 2}
    assert executions(flow.only_run()) == {0: 1, 1: 1}


# --- tasks under which something breaks, and hands that interfere


def test_f21_tasks_of_a_dead_node_are_requeued_under_the_same_id(
    fates: dict[str, Workflow], cluster: SlurmCluster
) -> None:
    """F21, --requeue: restart count 1, one record of a good end, and nothing to resubmit."""
    flow = fates["requeued"]
    run = flow.only_run()
    wait_until(lambda: executions(run) == {0: 2}, what="the task has started again")
    assert flow.states() == {"running": 1}
    let_go(flow)
    ended(flow)
    assert flow.states() == {"done": 1}
    assert (run / "cwd/ran.0").read_text() == "0\n1\n"
    assert records(run, 0) == ["0 running", "1 exit0"]
    (record,) = submissions(run)
    assert record["jobs"] == [{"id": job_of(flow), "cluster": None}]
    assert (run / "__esis__/completed.state").read_text() == "1"


def test_f21_tasks_of_a_dead_node_that_may_not_be_requeued_can_be_resubmitted(fates: dict[str, Workflow]) -> None:
    """F21, --no-requeue: failed with NODE_FAIL; resubmitting completes what was asked for."""
    flow = fates["node"]
    ended(flow)
    assert verdicts(flow) == dict.fromkeys((0, 1), ("failed", "NODE_FAIL"))
    let_go(flow)
    flow.esis("resubmit", "--tasks", "0").ok()
    ended(flow)
    assert verdicts(flow) == {0: ("done", ""), 1: ("failed", "NODE_FAIL")}


def test_f21_a_task_that_is_requeued_by_hand_is_done_once(site: ClusterSite) -> None:
    """F21: `scontrol requeue` of one running task: it waits and runs again; the others are left alone."""
    flow = make_workflow(site, "byhand", 3, worker=HOLDING)
    flow.esis("run").ok()
    wait_started(flow, 0, 1, 2)
    run = flow.only_run()
    job = job_of(flow)
    site.run(["scontrol", "requeue", f"{job}_1"], site.home).ok()
    wait_until(lambda: flow.states() == {"running": 2, "waiting": 1}, what="task 1 waits", seconds=30)
    assert flow.esis("resubmit", "--tasks", "1").code == 2
    let_go(flow)
    ended(flow)
    assert flow.states() == {"done": 3}
    assert executions(run) == {0: 1, 1: 2, 2: 1}
    assert records(run, 1)[-1] == "1 exit0"
    assert job_of(flow) == job


def test_f20_tasks_that_are_cancelled_by_hand_can_be_resubmitted(site: ClusterSite) -> None:
    """F20: scancel of a running task: CANCELLED; of a waiting one: lost after the grace; the rest goes on."""
    flow = make_workflow(site, "cancelled", 4, worker=HOLDING, options=["-m", "2"])
    flow.esis("run").ok()
    wait_started(flow, 0, 1)
    job = job_of(flow)
    site.run(["scancel", f"{job}_0", f"{job}_3"], site.home).ok()
    wait_started(flow, 2)
    wait_until(lambda: verdicts(flow)[0] == ("failed", "CANCELLED"), what="task 0 is gone")
    # Slurm keeps nothing of a task that is cancelled out of an array which still waits.
    young = verdicts(flow)
    assert young[3][0] == "unknown"
    assert {young[1], young[2]} == {("running", "")}
    let_go(flow)
    ended(flow)
    grow_older(flow.only_run())
    assert verdicts(flow)[3][0] == "lost"
    flow.esis("resubmit").ok()
    assert submissions(flow.only_run())[1]["tasks"] == "0,3"
    ended(flow, job)
    assert flow.states() == {"done": 4}


# --- two at once


def test_f28_two_login_nodes_at_once_make_one_submission(site: ClusterSite, cluster: SlurmCluster) -> None:
    """F28: one submits, the other one succeeds as well or says who is at it, on which host."""
    watch = watch_sbatch(site)
    hosts = ("login", "login2")

    def run_on(host: str, flow: Workflow) -> Result:
        done = cluster.run(["esis", "run"], cwd=str(site.inside(flow.directory)), env=watch.env, host=host, check=False)
        return Result(done.returncode, done.stdout, done.stderr)

    flows = [make_workflow(site, f"race{number}", 2, worker=COUNTING) for number in range(ROUNDS)]
    for flow in flows:
        watch.clear()
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda host, flow=flow: run_on(host, flow), hosts))
        assert watch.calls() == 1
        assert 0 in {result.code for result in results}
        for host, result in zip(hosts, results):
            if result.code != 0:
                (other,) = set(hosts) - {host}
                assert result.code == 7, result.stderr
                assert re.search(rf"process \d+ of alice on {other} is at it", result.stderr)
        assert flow.esis("run").ok().stderr.count("nothing to submit") == 1
    assert site.submissions() == ROUNDS
    for flow in flows:
        ended(flow)
        assert executions(flow.only_run()) == {0: 1, 1: 1}
        assert not list(flow.directory.glob(".esis-*"))


def test_f30_the_lock_of_another_host_is_respected_until_it_is_stale(site: ClusterSite, cluster: SlurmCluster) -> None:
    """F30: esis dies on login while it builds; login2 names it, and takes over when it is silent and is told to."""
    setup = "#!/bin/sh\n[ -e ../on ] && exit; echo here >../building; exec sleep 300\n"
    flow = make_workflow(site, "stale", 2, worker=COUNTING, setup=setup)
    cwd = str(site.inside(flow.directory))

    def elsewhere(*options: str) -> Result:
        done = cluster.run(["esis", "run", *options], cwd=cwd, host="login2", check=False)
        return Result(done.returncode, done.stdout, done.stderr)

    with in_background(flow, "run", env={}) as result:
        wait_until((flow.directory / "building").exists, what="the setup script runs")
        busy = elsewhere()
        assert busy.code == 7
        assert re.search(r"process \d+ of alice on login is at it \(last sign of life \d+ s ago\)", busy.stderr)
        kill_esis(flow)
        assert result().code == 137
    cluster.run(["pkill", "-KILL", "-x", "sleep"])
    (flow.directory / "on").touch()
    assert elsewhere("--take-over").code == 7
    (lock,) = flow.only_run().glob("__esis__/lock/*")
    os.utime(lock, (0, 0))
    stale = elsewhere()
    assert stale.code == 7
    assert "--take-over" in stale.stderr
    elsewhere("--take-over").ok()
    ended(flow)
    assert flow.states() == {"done": 2}
    assert not list((flow.only_run() / "__esis__").glob("lock*"))
    assert not list(flow.directory.glob(".esis-*"))


# --- the disk


class NodeSite(ClusterSite):
    """A compute node as the place where alice works, with a copy of ESIS: these containers may mount file systems."""

    host = "c1"

    def __init__(self, cluster: SlurmCluster, directory: str) -> None:
        super().__init__(cluster, directory)
        self.tools = self.inside(self.home / "tools")
        cluster.sh(
            f"mkdir {self.tools} && cp -r {PREFIX} {self.tools}/esis.d && "
            f"printf '#!/bin/sh\nexec {self.tools}/esis.d/bin/python -m esis \"$@\"\n' >{self.tools}/esis && "
            f"chmod +x {self.tools}/esis"
        )

    def run(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> Result:
        path = (env or {}).get("PATH", login_environment("alice")["PATH"])
        environment = {**(env or {}), "PATH": f"{self.tools}:{path}"}
        done = self.cluster.run(list(argv), cwd=str(self.inside(cwd)), env=environment, host=self.host, check=False)
        return Result(done.returncode, done.stdout, done.stderr)


class SmallDisk:
    """A small file system of one node, for runs."""

    def __init__(self, site: NodeSite) -> None:
        self.site = site
        self.place = str(site.inside(site.home / "disk"))
        site.run(["mkdir", self.place], site.home).ok()
        self._as_root("mount", "-t", "tmpfs", "-o", "size=800k,uid=1000,gid=1000,mode=755", "small", self.place)
        self.fill_command = f"dd if=/dev/zero of={self.place}/filler bs=4k 2>/dev/null"

    def fill(self, pages_left: int = 0) -> None:
        """Take all the room but some pages of 4 KiB."""
        self.free()
        self.sh(f"{self.fill_command}; truncate -s $(($(stat -c %s filler) - {pages_left * 4096})) filler")

    def free(self) -> None:
        self.sh("rm -f filler")

    def sh(self, script: str) -> str:
        return self.site.cluster.sh(script, cwd=self.place, host=self.site.host).stdout

    def workflow(self, name: str) -> Workflow:
        """Make a workflow whose runs are on the small disk; its job is held: no other node has that disk."""
        return make_workflow(
            self.site,
            name,
            2,
            template=template("--hold", f"--job-name={HELD}"),
            options=["--workdir-path", self.place],
        )

    def close(self) -> None:
        self.site.run(["scancel", "--me", f"--name={HELD}"], self.site.home)
        self._as_root("umount", "-l", self.place)

    def _as_root(self, *argv: str) -> None:
        self.site.cluster.run(argv, user="root", cwd="/", host=self.site.host)


@pytest.fixture
def disk(cluster: SlurmCluster) -> Iterator[SmallDisk]:
    small = SmallDisk(NodeSite(cluster, f"disk-{secrets.token_hex(4)}"))
    yield small
    small.close()


HELD = "held-by-the-test"
LISTING = r"cd wrkdir.* && find . -printf '%P %y %m\n' | sort"


def test_f04_a_disk_that_is_full_while_a_run_is_built_leaves_nothing_wrong(disk: SmallDisk) -> None:
    """F04: with ever more room, exit code 1 and ENOSPC until there is enough; then the run is as any other."""
    watch = watch_sbatch(disk.site)
    flow = disk.workflow("built")
    failures = 0
    for pages in range(0, 100, 3):
        disk.fill(pages)
        done = flow.esis("run", env=watch.env)
        if done.code == 0:
            break
        failures += 1
        assert done.code == 1, done.stderr
        assert "ENOSPC" in done.stderr
        assert disk.place in done.stderr
        assert len(done.stderr.strip().splitlines()) <= 2, done.stderr
    assert failures > 3
    assert watch.calls() == 1
    assert disk.sh("ls -A") == "filler\n" + disk.sh("ls -d wrkdir.*")
    disk.free()
    listing = disk.sh(LISTING)
    disk.sh("rm -rf wrkdir.*")
    disk.site.run(["scancel", "--me", f"--name={HELD}"], disk.site.home).ok()
    flow.esis("run", env=watch.env).ok()
    assert disk.sh(LISTING) == listing


def test_f04_a_disk_that_is_full_at_the_intent_submits_nothing(disk: SmallDisk) -> None:
    """F04: sbatch isn't called before its intent is on disk; the same command goes on when there is room."""
    watch = watch_sbatch(disk.site)
    flow = disk.workflow("intent")
    assert flow.esis("run", env={"SBATCH_PARTITION": "nowhere"}).code == 5
    disk.fill()
    full = flow.esis("run", env=watch.env)
    assert full.code == 1
    assert "ENOSPC" in full.stderr
    assert disk.place in full.stderr
    assert watch.calls() == 0
    disk.free()
    flow.esis("run", env=watch.env).ok()
    assert watch.calls() == 1
    assert flow.states() == {"waiting": 2}


def test_f04_a_disk_that_is_full_when_the_answer_comes_does_not_submit_twice(disk: SmallDisk) -> None:
    """F04: the job is queued, its id can't be written: exit code 1; the same command adopts it."""
    watch = watch_sbatch(disk.site, after=disk.fill_command)
    flow = disk.workflow("record")
    full = flow.esis("run", env=watch.env)
    assert full.code == 1
    assert "ENOSPC" in full.stderr
    assert disk.place in full.stderr
    assert watch.calls() == 1
    disk.free()
    adopted = flow.esis("run", env=watch.env).ok()
    assert "Slurm has it as job" in adopted.stderr
    assert watch.calls() == 1
    assert disk.site.submissions() == 1
    assert flow.states() == {"waiting": 2}
    queued = disk.site.run(["squeue", "-h", "--me", "-n", HELD, "-o", "%F"], disk.site.home).stdout.strip()
    assert disk.sh("cat wrkdir.*/__esis__/jobid.tx").strip() == queued
    assert ".esis-tmp" not in disk.sh(LISTING)


# --- the slow ones


def test_a_time_limit_is_named_and_a_longer_one_completes(fates: dict[str, Workflow]) -> None:
    """F20: TIMEOUT, whatever the task's own record says; `esis resubmit -- --time=…` is enough."""
    flow = fates["timeout"]
    ended(flow)
    assert verdicts(flow) == dict.fromkeys((0, 1), ("failed", "TIMEOUT"))
    let_go(flow)
    flow.esis("resubmit", "--tasks", "0", "--", "--time=7").ok()
    job = job_of(flow)
    limit = flow.site.run(["squeue", "-h", "-t", "all", "-j", job, "-o", "%l"], flow.directory).ok().stdout
    assert limit.split() == ["7:00"]
    ended(flow)
    assert verdicts(flow) == {0: ("done", ""), 1: ("failed", "TIMEOUT")}


FATES = {
    "timeout 1": ("failed", "TIMEOUT"),
    "node 1": ("failed", "NODE_FAIL"),
    "ends 0": ("done", ""),
    "ends 1": ("failed", "exit code 7"),
    "ends 2": ("failed", r"FAILED.*|signal 9"),
    "ends 3": ("failed", "CANCELLED"),
    "pending 0": ("failed", "CANCELLED"),
    "pending 1": ("failed", "CANCELLED"),
    "memory 0": ("failed", r"OUT_OF_MEMORY|exit code \d+|FAILED.*"),
    "hookless 0": ("done", "COMPLETED, no task records"),
    "hookless 1": ("failed", "FAILED.*|exit code 7"),
}
"""State and reason (a regular expression: Slurm's versions differ, and squeue knows no exit codes) of each fate."""


def assert_fates(found: Mapping[str, tuple[str, str]], expected: Mapping[str, tuple[str, str]]) -> None:
    wrong = {
        fate: told
        for fate, told in found.items()
        if told[0] != expected[fate][0] or not re.fullmatch(expected[fate][1], told[1])
    }
    assert wrong == {}
    assert set(found) == set(expected)


def never_wrong(before: Mapping[str, tuple[str, str]], after: Mapping[str, tuple[str, str]]) -> None:
    """A verdict whose witness is gone may become `unknown`, a failure `lost`; nothing becomes done or undone."""
    allowed = {"done": {"done", "unknown"}, "failed": {"failed", "lost", "unknown"}}
    for fate, (state, _) in before.items():
        assert after[fate][0] in allowed[state], (fate, before[fate], after[fate])


def test_f19_what_slurm_forgot_is_told_by_the_records_or_not_at_all(
    fates: dict[str, Workflow], cluster: SlurmCluster
) -> None:
    """F19, F20: done stays done and failed failed; what no command saw and no record tells is lost, never done."""
    let_go(fates["requeued"])
    for flow in fates.values():
        ended(flow)
    before = fate_of(fates)
    assert_fates(before, FATES)
    forget(cluster, *(job_of(flow) for flow in fates.values()))
    young = fate_of(fates)
    never_wrong(before, young)
    for flow in fates.values():
        grow_older(flow.only_run())
    old = fate_of(fates)
    never_wrong(before, old)
    assert verdicts(fates["unseen"])[0][0] == "lost"
    assert old["ends 0"] == ("done", "")
    assert old["ends 1"] == ("failed", "exit code 7")
    # Once told by a command, it is kept; `unseen` was told by none.
    assert old["node 1"] == ("failed", "NODE_FAIL")
    assert old["timeout 1"][0] == "failed"
    assert {old["pending 0"][0], old["pending 1"][0]} == {"lost"}
    assert (old["hookless 0"][0], old["hookless 1"][0]) == ("done", "failed")
    assert fates["hookless"].esis("status", "--check").code == 8


# --- chains; last, for they too let Slurm forget what the tests before look at


@dataclass(frozen=True)
class Chain:
    """A requirement whose tasks fail at first, and hold later; and what requires it."""

    parent: Workflow
    child: Workflow

    def dependency(self) -> Result:
        return self.child.esis("dependency", env={"ESIS_REQUIREMENT_WAIT": "1"})


def make_chain(site: ClusterSite) -> Chain:
    """Queue the chain, and wait until the parent has failed and the child is stuck."""
    worker = COUNTING + "[ -e ../again ] || exit 3\nwhile ! [ -e ../go ]; do sleep 0.1; done\n"
    found = Chain(make_workflow(site, "parent", 2, worker=worker), make_workflow(site, "child", 2, worker=COUNTING))
    found.child.esis("require", "../parent/wf.esis.json", "parent").ok()
    found.dependency().ok()
    wait_until(lambda: reason(found.child) == "DependencyNeverSatisfied", what="the dependant is stuck")
    assert found.parent.states() == {"failed": 2}
    return found


def reason(flow: Workflow) -> str:
    return flow.site.run(["squeue", "-h", "-j", job_of(flow), "-o", "%r"], flow.directory).stdout.strip()


@pytest.mark.parametrize("parent", ["known", "forgotten"])
def test_f26_a_stuck_dependant_waits_for_the_resubmission_of_its_parent(
    site: ClusterSite, cluster: SlurmCluster, parent: str
) -> None:
    """F26: DependencyNeverSatisfied, parent resubmitted: `esis dependency` lets the same job wait for the new one."""
    flows = make_chain(site)
    stuck = job_of(flows.child)
    if parent == "forgotten":
        forget(cluster, job_of(flows.parent))
    refused = flows.dependency()
    assert refused.code == 3
    assert str(site.inside(flows.parent.only_run())) in refused.stderr
    site.run(["touch", "again"], flows.parent.only_run()).ok()
    flows.parent.esis("resubmit").ok()
    wait_started(flows.parent, 0, 1)
    shown = flows.dependency().ok()
    assert f"now it waits for afterok:{job_of(flows.parent)}" in shown.stderr
    wait_until(lambda: reason(flows.child) == "Dependency", what="the dependant waits again")
    assert executions(flows.child.only_run()) == {}
    let_go(flows.parent)
    ended(flows.child)
    assert flows.child.states() == {"done": 2}
    assert job_of(flows.child) == stuck
    assert executions(flows.child.only_run()) == {0: 1, 1: 1}


def test_f26_a_dependant_of_a_failed_and_forgotten_parent_does_not_start_its_work(
    site: ClusterSite, cluster: SlurmCluster
) -> None:
    """F26: the parent is gone and the dependency lifted: the dependant's job itself refuses, naming the parent."""
    flows = make_chain(site)
    parent, child = flows.parent.only_run(), flows.child.only_run()
    forget(cluster, job_of(flows.parent))
    # Some versions lift it themselves.
    site.run(["scontrol", "update", f"jobid={job_of(flows.child)}", "dependency="], site.home)
    ended(flows.child)
    assert executions(child) == {}
    assert flows.child.states() == {"failed": 2}
    logs = "".join(path.read_text() for path in (child / "cwd").glob("slurm-*.out"))
    assert f"the required run {site.inside(parent)} is not complete" in logs
    refused = flows.dependency()
    assert refused.code == 3
    assert str(site.inside(parent)) in refused.stderr
    site.run(["touch", "again", "go"], parent).ok()
    flows.parent.esis("resubmit").ok()
    ended(flows.parent)
    assert flows.parent.states() == {"done": 2}
    flows.child.esis("resubmit").ok()
    ended(flows.child)
    assert flows.child.states() == {"done": 2}
    assert executions(child) == {0: 1, 1: 1}
