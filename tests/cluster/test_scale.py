"""Scans that outgrow Slurm's limits: several arrays, limits on the number of jobs, packs of many short tasks.

One cluster for all: MaxArraySize is 101, nodes have many (invented) CPUs, and two QOS limit how many jobs a user may
have. What takes long by its nature (a time limit counts in minutes) is set going first and looked at last.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from esis.model.workdir import RunDir
from esis.records.tasks import Names
from esis.schedulers.answers import parse_squeue
from esis.schedulers.commands import ROW_END, squeue_argv
from tests.cluster import harness
from tests.cluster.conftest import SUITE
from tests.cluster.harness import SlurmCluster, wait_until
from tests.cluster.test_faults import executions, submissions, verdicts
from tests.contract.site import ClusterSite, Workflow, make_workflow

ARRAY = 101
"""MaxArraySize: indices end at 100, so an array holds 101 tasks."""
ROOMY, NARROW = 150, 30
"""What the two QOS let a user have in the queue: one array and a half, and less than a third of one."""
ENVIRONMENT = "/home/alice/environment"
"""Where alice installed ESIS for herself, so that compute nodes have it too: a job that feeds needs it there."""

CONF = """\
AccountingStorageEnforce=associations,limits,qos
SchedulerParameters=sched_interval=5,bf_interval=5,default_queue_depth=2000,bf_max_job_test=2000,sched_min_interval=0
"""
# Each execution leaves a line with its begin and its end.
WORKER = """#!/bin/sh
begin=$(date +%s%N)
cp "../parameters/parameters.$SLURM_ARRAY_TASK_ID.json" "seen.$SLURM_ARRAY_TASK_ID"
"""
# Slurm 26.05 numbers the batch script, too: -5.
SPAN = 'echo "$begin $(date +%s%N) ${SLURM_STEP_ID:--5}" >>"ran.$SLURM_ARRAY_TASK_ID"\n'
HOLDING = "while ! [ -e ../go ]; do sleep 0.2; done\n"


def template(*directives: str, call: str = "WORKERSCRIPT") -> str:
    """Return a template with directives of its own; tasks need no srun, which costs as much as they do."""
    lines = "".join(f"#SBATCH {line}\n" for line in ("--array=TASKARRAYDEFINITION", "--time=5", *directives))
    return f"#!/bin/bash\n{lines}#ESIS_PRIVATE\nset -euo pipefail\n{call}\n"


@pytest.fixture(scope="module")
def cluster(engine: None) -> Iterator[SlurmCluster]:
    """A cluster with small arrays, many CPUs and limits, ESIS on its login nodes and in alice's home."""
    with SlurmCluster(suite=SUITE, accounting=True, cpus=32, max_array_size=ARRAY, extra_conf=CONF) as cluster:
        wheels = harness.wheelhouse(harness.PYTHON_OF[SUITE])
        cluster.install(wheels)
        cluster.run(["python3", "-m", "venv", ENVIRONMENT])
        pip = [f"{ENVIRONMENT}/bin/pip", "install", "--quiet", "--no-index", "--find-links", "/opt/wheels"]
        cluster.run([*pip, "esis-slurm"], timeout=300)
        limits = "".join(
            f"sacctmgr -i add qos {name} set MaxSubmitJobsPerUser={limit}\n"
            for name, limit in (("roomy", ROOMY), ("narrow", NARROW))
        )
        cluster.sh(f"{limits}sacctmgr -i modify user alice set qos+=roomy,narrow", user="root", host="ctl")
        taken = ["sbatch", "--test-only", "--qos=narrow", "--wrap", "true"]
        wait_until(lambda: cluster.run(taken, check=False).returncode == 0, what="the QOS are known")
        yield cluster


@pytest.fixture(scope="module")
def site(cluster: SlurmCluster) -> ClusterSite:
    return ClusterSite(cluster, f"scale-{secrets.token_hex(4)}")


@pytest.fixture
def tidy(site: ClusterSite) -> Iterator[None]:
    """Let nothing of a test that failed hold the nodes."""
    before = set(site.home.glob("*/wrkdir.*"))
    yield
    for run in set(site.home.glob("*/wrkdir.*")) - before:
        (run / "go").touch()


# --- looking at runs


def queued(flow: Workflow) -> int:
    """Return how many elements of a run's arrays wait or run; -1 where the answer got lost on its way to here."""
    place = str(flow.site.inside(flow.only_run() / "cwd"))
    rows = flow.site.run(["squeue", "-r", "--me", "-o", "%Z"], flow.directory).ok().stdout.splitlines()
    return rows.count(place) if rows else -1  # there is a header


def gone(flow: Workflow, seconds: float = 240) -> None:
    """Wait until nothing of a run waits or runs."""
    wait_until(lambda: queued(flow) == 0, seconds=seconds, interval=0.5, what=f"{flow.directory.name} is over")


def spans(run: Path) -> list[tuple[int, int]]:
    """Return begin and end of each execution, in nanoseconds."""
    lines = [line.split() for path in (run / "cwd").glob("ran.*") for line in path.read_text().splitlines()]
    return [(int(line[0]), int(line[1])) for line in lines]


def most_at_once(run: Path) -> int:
    """Return how many tasks ran at the same time at most."""
    events = sorted([(begin, 1) for begin, _ in spans(run)] + [(end, -1) for _, end in spans(run)])
    most = now = 0
    for _, change in events:
        now += change
        most = max(most, now)
    return most


def arrays(run: Path) -> list[list[tuple[str, int]]]:
    """Return specification and number of tasks of each array of each submission."""
    return [[(item["array"], item["tasks"]) for item in record["arrays"]] for record in submissions(run)]


def rows_of(flow: Workflow) -> list[list[str]]:
    """Return the rows of `esis status`."""
    return [line.split("\t") for line in flow.esis("status").ok().stdout.splitlines()[1:]]


def expand(ranges: str) -> list[int]:
    """Read a set of indices as people write it."""
    found: list[int] = []
    for part in ranges.split(","):
        low, _, high = part.partition("-")
        found += range(int(low), int(high or low) + 1)
    return found


def pack(flow: Workflow, per_job: int, parallel: int) -> None:
    """Let each job of a workflow work through several tasks."""
    path = flow.directory / "wf.esis.json"
    described = json.loads(path.read_text())
    described.update(tasks_per_job=per_job, tasks_parallel=parallel)
    path.write_text(json.dumps(described))


@pytest.fixture(scope="module", autouse=True)
def slow(site: ClusterSite) -> dict[str, Workflow]:
    """Set going what takes its time: a run that takes turns, and packs that meet their time limit of a minute."""
    turns = make_workflow(site, "turns", 2 * ARRAY + 8, worker=WORKER + SPAN, template=template(), options=["-m", "2"])
    # Of the packs 0-3, 4-7, … two tasks at a time; those of HELD hang as long as there is no ../go.
    held = "|".join(map(str, HELD))
    worker = f"{WORKER}{SPAN}case $SLURM_ARRAY_TASK_ID in {held}) {HOLDING.strip()} ;; esac\n"
    cut = make_workflow(site, "cut", 12, worker=worker, template=template().replace("=5", "=1"))
    pack(cut, 4, 2)
    for flow in (cut, turns):
        flow.esis("run").ok()
    return {"cut": cut, "turns": turns}


HELD = (1, 3, 4, 5, 11)


# --- more tasks than MaxArraySize


TASKS = 1000
SCATTERED = sorted(task for task in range(TASKS) if task * 7919 % TASKS < 137)
FAILING = f"[ -e ../mended ] || [ $((SLURM_ARRAY_TASK_ID * 7919 % {TASKS})) -ge 137 ] || exit 3\n"


def test_a_thousand_tasks_run_in_ten_arrays_and_137_of_them_again(site: ClusterSite) -> None:
    """Each task has its own parameters, also under srun; what failed is named, rerun alone, and a dependant waits."""
    some_srun = "launch=\n[ $((SLURM_ARRAY_TASK_ID % 20)) -ne 1 ] || launch=srun\n$launch WORKERSCRIPT"
    parent = make_workflow(
        site, "parent", TASKS, worker=WORKER + SPAN + FAILING, template=template(call=some_srun), options=["-m", "44"]
    )
    child = make_workflow(site, "child", 3, worker=WORKER + SPAN, template=template())
    child.esis("require", "../parent/wf.esis.json", "parent").ok()
    child.esis("dependency").ok()
    run = parent.only_run()
    (record,) = submissions(run)
    assert len(record["jobs"]) == len({job["id"] for job in record["jobs"]}) == 10
    assert [tasks for _, tasks in arrays(run)[0]] == [101] * 9 + [91]
    assert sum(int(spec.partition("%")[2]) for spec, _ in arrays(run)[0]) == 44
    gone(parent)
    for task in range(TASKS):
        assert json.loads((run / f"cwd/seen.{task}").read_text()) == {"n": task, "square": task * task}
    steps = {int(path.name[4:]): path.read_text().split()[2] for path in (run / "cwd").glob("ran.*")}
    assert steps == {task: "0" if task % 20 == 1 else "-5" for task in range(TASKS)}
    assert executions(run) == dict.fromkeys(range(TASKS), 1)
    assert 10 < most_at_once(run) <= 44
    logs = {path.name for path in (run / "cwd").glob("slurm-*")}
    assert len(logs) == TASKS

    failed = [row for row in rows_of(parent) if row[0] == "failed"]
    assert len(failed) == 1
    assert failed[0][1] == "137" and failed[0][3] == "exit code 3"
    assert expand(failed[0][2]) == SCATTERED
    assert queued(child) == 3 and not spans(child.only_run())
    site.run(["touch", "mended"], run).ok()
    parent.esis("resubmit").ok()
    assert sum(tasks for _, tasks in arrays(run)[1]) == 137
    child.esis("dependency").ok()
    gone(parent)
    assert executions(run) == {task: 2 if task in SCATTERED else 1 for task in range(TASKS)}
    assert parent.states() == {"done": TASKS}
    gone(child)
    assert child.states() == {"done": 3}
    assert executions(child.only_run()) == dict.fromkeys(range(3), 1)
    assert min(begin for begin, _ in spans(child.only_run())) > max(end for _, end in spans(run))


# --- limits on the number of jobs


def test_a_limit_of_a_qos_is_met_by_calling_run_again(site: ClusterSite) -> None:
    """Each call submits what there is room for and ends with 0, whenever it comes; every task runs once."""
    flow = make_workflow(
        site, "roomy", TASKS, worker=WORKER + SPAN, template=template("--qos=roomy"), options=["-m", "60"]
    )
    first = flow.esis("run").ok()
    run = flow.only_run()
    assert "QOS" in first.stderr
    left = TASKS - ARRAY
    assert f"leaves {left} tasks unsubmitted" in first.stderr
    assert flow.states()["unsubmitted"] == left
    most = [queued(flow)]

    def over() -> bool:
        flow.esis("run").ok()
        most.append(queued(flow))
        return most[-1] == 0 and flow.states() == {"done": TASKS}

    wait_until(over, seconds=480, interval=0.5, what="calling esis run again has finished the run")
    assert ARRAY - 1 <= max(most) <= ROOMY
    assert executions(run) == dict.fromkeys(range(TASKS), 1)
    assert all(record["outcome"] == "submitted" for record in submissions(run))


def test_a_limit_below_one_array_cuts_it(site: ClusterSite) -> None:
    """Where not even one array has room a part of it is submitted, and the rest when that is over."""
    flow = make_workflow(
        site, "narrow", 70, worker=WORKER + SPAN, template=template("--qos=narrow"), options=["-m", "60"]
    )
    flow.esis("run").ok()
    run = flow.only_run()
    assert 0 < sum(tasks for _, tasks in arrays(run)[0]) <= NARROW

    def over() -> bool:
        flow.esis("run").ok()
        return queued(flow) == 0 and flow.states() == {"done": 70}

    wait_until(over, seconds=120, interval=0.5, what="calling esis run again has finished the run")
    assert executions(run) == dict.fromkeys(range(70), 1)


def feeds(flow: Workflow, over: Callable[[], bool], seconds: float) -> None:
    """Wait until a run has fed itself; a failure shows what its job wrote and what waits."""
    log = flow.only_run() / "__esis__/feed.log"
    try:
        wait_until(over, seconds=seconds, interval=0.5, what="the run has fed itself")
    except TimeoutError as error:
        queue = flow.site.run(["squeue", "-t", "all", "-o", "%i %j %T %r %q %V"], flow.directory).stdout
        said = log.read_text() if log.exists() else "no log"
        raise AssertionError(f"{error}\n{queue}\n{said}\n{flow.esis('status').stdout}") from None


@pytest.mark.parametrize(("qos", "tasks"), [("roomy", TASKS), ("narrow", 70)])
def test_a_run_feeds_itself(site: ClusterSite, qos: str, tasks: int) -> None:
    """One call of run --feed: a job in the queue submits the rest, again and again, and is gone at the end."""
    flow = make_workflow(
        site, f"fed-{qos}", tasks, worker=WORKER + SPAN, template=template(f"--qos={qos}"), options=["-m", "60"]
    )
    flow.site.run([f"{ENVIRONMENT}/bin/esis", "run", "--feed"], flow.directory).ok()
    run = flow.only_run()
    done = run / "__esis__/completed.state"

    def over() -> bool:
        return len(executions(run)) == tasks and not site.run(["squeue", "-h", "--me"], site.home).ok().stdout

    feeds(flow, over, 480)
    assert executions(run) == dict.fromkeys(range(tasks), 1)
    assert flow.states() == {"done": tasks}
    assert done.read_text() == "1"
    assert len(submissions(run)) >= 3


@pytest.fixture
def fed(cluster: SlurmCluster, site: ClusterSite) -> Iterator[Workflow]:
    """A run that its QOS lets only begin, and whose tasks wait for a file; its feeding job waits behind them."""
    flow = make_workflow(
        site,
        f"left-{secrets.token_hex(2)}",
        70,
        worker=WORKER + HOLDING + SPAN,
        template=template("--qos=narrow"),
        options=["-m", "60"],
    )
    flow.site.run([f"{ENVIRONMENT}/bin/esis", "run", "--feed"], flow.directory).ok()
    yield flow
    (flow.only_run() / "go").touch()
    set_limit(cluster, NARROW)
    site.run(["scancel", "--me"], site.home)
    gone(flow)


def feeder_of(flow: Workflow) -> str:
    """Return the id of the job that submits the rest."""
    (job,) = json.loads(flow.esis("status", "--json").ok().stdout)["feeding_jobs"]
    return str(job)


def shown(site: ClusterSite, job: str, fields: str) -> str:
    """Return fields of a job that Slurm knows; "" where it doesn't, "?" where its answer got lost on the way."""
    done = site.run(["squeue", "-t", "all", "-j", job, "-o", fields], site.home)
    if done.code != 0:
        return "" if "Invalid job id" in done.stderr else "?"
    return "\n".join(line.strip() for line in done.stdout.splitlines()[1:]) if done.stdout else "?"


def set_limit(cluster: SlurmCluster, jobs: int) -> None:
    """Change how many jobs the QOS `narrow` takes, and wait until slurmctld has heard of it."""
    cluster.sh(f"sacctmgr -i modify qos narrow set MaxSubmitJobsPerUser={jobs}", user="root", host="ctl")
    asked = ["scontrol", "show", "assoc_mgr", "flags=qos", "qos=narrow"]
    wait_until(
        lambda: f"MaxSubmitJobsPU={jobs}(" in cluster.run(asked, user="root", host="ctl").stdout,
        what=f"the limit is {jobs}",
    )


def without_room(cluster: SlurmCluster, site: ClusterSite, fed: Workflow) -> tuple[Path, str]:
    """Let the QOS be full when a run's feeding job has its turn; return the run and the job, once it waits again."""
    run, job = fed.only_run(), feeder_of(fed)
    set_limit(cluster, 1)
    (run / "go").touch()
    wait_until(
        lambda: shown(site, job, "%T %r") == "PENDING BeginTime",
        seconds=120,
        interval=0.5,
        what="it has requeued itself",
    )
    return run, job


def test_a_feeder_without_room_requeues_itself_and_goes_on_later(
    cluster: SlurmCluster, site: ClusterSite, fed: Workflow
) -> None:
    """The QOS is full when its turn comes: it waits again under its own id, and finishes the run when there is room."""
    run, job = without_room(cluster, site, fed)
    assert "QOS" in (run / "__esis__/feed.log").read_text()
    assert fed.states()["unsubmitted"] > 0
    assert feeder_of(fed) == job
    set_limit(cluster, NARROW)
    site.run(["scontrol", "update", f"jobid={job}", "starttime=now"], site.home).ok()

    wait_until_fed(fed, 70)
    assert executions(run) == dict.fromkeys(range(70), 1)


def wait_until_fed(flow: Workflow, tasks: int) -> None:
    """Wait until a run has fed itself; its job needn't wait for the minutes that Slurm lets pass behind a requeue."""
    site = flow.site

    def over() -> bool:
        asked = ["squeue", "-h", "--me", "-n", "esis-feed", "-o", "%A %r"]
        for waiting in site.run(asked, site.home).stdout.splitlines():
            if waiting.endswith("BeginTime"):
                site.run(["scontrol", "update", f"jobid={waiting.split()[0]}", "starttime=now"], site.home)
        return flow.states() == {"done": tasks}

    feeds(flow, over, 300)


def test_a_feeder_whose_own_place_is_the_last_one_leaves_it_to_tasks(cluster: SlurmCluster, site: ClusterSite) -> None:
    """A limit of two: it and the one that it keeps a place for would fill it for ever, and no task would get in."""
    set_limit(cluster, 2)
    try:
        flow = make_workflow(site, "two", 4, worker=WORKER + SPAN, template=template("--qos=narrow"))
        flow.site.run([f"{ENVIRONMENT}/bin/esis", "run", "--feed"], flow.directory).ok()
        wait_until_fed(flow, 4)
        assert executions(flow.only_run()) == dict.fromkeys(range(4), 1)
        gone(flow)
    finally:
        set_limit(cluster, NARROW)


def test_a_feeder_that_waits_again_is_cancelled_with_its_run(
    cluster: SlurmCluster, site: ClusterSite, fed: Workflow
) -> None:
    """After a cancel nothing is submitted any more, not by a job that had requeued itself either."""
    run, job = without_room(cluster, site, fed)
    assert f"cancelled: job {job}" in fed.esis("cancel").ok().stderr
    assert shown(site, job, "%T") in ("CANCELLED", "")
    before = submissions(run)
    set_limit(cluster, NARROW)
    gone(fed)
    assert submissions(run) == before
    assert set(executions(run).values()) == {1}


def test_a_feeder_that_is_refused_for_good_ends_and_says_so(site: ClusterSite, fed: Workflow) -> None:
    """It doesn't come again where nothing is gained by it."""
    run, job = fed.only_run(), feeder_of(fed)
    (kept,) = (
        path
        for path in run.iterdir()
        if path.is_file() and "--qos=narrow" in path.read_text() and path.name != "sbatch.sh"
    )  # the template of the snapshot
    kept.chmod(0o644)
    kept.write_text(kept.read_text().replace("--qos=narrow", "--qos=nowhere"))
    (run / "go").touch()
    wait_until(lambda: shown(site, job, "%T") in ("FAILED", ""), seconds=120, what="it has ended", interval=0.5)
    log = (run / "__esis__/feed.log").read_text()
    assert "Invalid qos" in log
    assert "nothing submits the rest any more" in log


# --- many short tasks


LINES = """#!/bin/sh
i=0
while [ "$i" -lt {count} ]; do echo "{{\\"n\\": $i, \\"square\\": $((i * i))}}"; i=$((i + 1)); done >parameters.jsonl
echo {count}
"""
SHORT = """#!/bin/sh
read -r seen <"../parameters/parameters.$SLURM_ARRAY_TASK_ID.json"
echo "$SLURM_ARRAY_TASK_ID $seen" >>"../ran.$SLURM_ARRAY_JOB_ID"
sleep 0.01
"""
MANY, PER_JOB = 20_000, 500


def test_twenty_thousand_short_tasks_in_packs_outlive_a_node(site: ClusterSite, cluster: SlurmCluster) -> None:
    """All are recorded one by one; of those on a node that is lost, what was running runs again, and nothing else."""
    flow = make_workflow(
        site,
        "short",
        MANY,
        worker=SHORT,
        generator_text=LINES.format(count=MANY),
        template=template("--requeue"),
        options=["-m", "4"],
    )
    pack(flow, PER_JOB, 2)
    flow.esis("run").ok()
    run = flow.only_run()
    assert arrays(run) == [[(f"0-{MANY // PER_JOB - 1}%4", MANY)]]

    def lines() -> list[str]:
        return [line for path in run.glob("ran.*") for line in path.read_text().splitlines()]

    wait_until(lambda: len(lines()) > 2000, seconds=240, what="it is well under way")
    on_c1 = ["squeue", "-h", "-t", "running", "-w", "c1", "-o", "%K"]
    wait_until(lambda: cluster.run(on_c1).stdout, seconds=120, what="a pack is on c1")
    cluster.kill("c1")
    down = ["scontrol", "update", "nodename=c1", "state=down", "reason=power"]
    cluster.run(down, user="root", cwd="/", host="ctl")
    cluster.start("c1")
    gone(flow, 900)
    assert flow.states() == {"done": MANY}
    executed = Counter(int(line.partition(" ")[0]) for line in lines())
    twice = {task for task, count in executed.items() if count == 2}
    # What died with the node before it had written its line has one, from its next attempt.
    assert set(executed) == set(range(MANY)) and set(executed.values()) <= {1, 2}
    # Of each pack that was on the node two tasks were at work at most.
    names = [name.split(".") for name in Names(RunDir(run))]  # folded, for the run is complete
    again = {int(name[0]) // PER_JOB for name in names if name[3] == "1"}
    assert 1 <= len(again) <= 4
    per_pack = Counter(task // PER_JOB for task in twice)
    assert set(per_pack) <= again and set(per_pack.values()) <= {1, 2}
    assert set(lines()) == {f'{n} {{"n": {n}, "square": {n * n}}}' for n in range(MANY)}
    assert Counter(int(name[0]) for name in names if name[5] == "exit0") == Counter(range(MANY))
    # The attempts that were lost with the node have no end, so nobody knew whether they still read theirs.
    left = {int(path.suffixes[0][1:]) for path in (run / "parameters").glob("parameters.[0-9]*.json")}
    assert left <= {int(name[0]) for name in names if name[5] == "running"}
    flow.esis("compact").ok()
    assert not list((run / "parameters").glob("parameters.[0-9]*"))


# --- commands on a run of several arrays


def says_its_number(flow: Workflow, task: int) -> bool:
    return flow.esis("log", str(task)).stdout == f"here is task {task}\n"


def test_throttle_cancel_and_log_know_all_arrays(site: ClusterSite, tidy: None) -> None:
    """The throttle is shared anew, cancelled tasks are those that were named, and each log is found."""
    tasks = 2 * ARRAY + 48
    say = 'echo "here is task $SLURM_ARRAY_TASK_ID"\n'
    flow = make_workflow(
        site, "several", tasks, worker=WORKER + say + HOLDING + SPAN, template=template(), options=["-m", "6"]
    )
    flow.esis("run").ok()
    run = flow.only_run()
    assert [spec.partition("%")[2] for spec, _ in arrays(run)[0]] == ["2", "2", "2"]
    wait_until(lambda: flow.states().get("running") == 6, what="six tasks run")
    flow.esis("throttle", "9").ok()
    wait_until(lambda: flow.states().get("running") == 9, what="nine tasks run")
    running = [task for row in rows_of(flow) if row[0] == "running" for task in expand(row[2])]
    assert running == [*range(3), *range(ARRAY, ARRAY + 3), *range(2 * ARRAY, 2 * ARRAY + 3)]

    for task in running:
        wait_until(partial(says_its_number, flow, task), what=f"the log of task {task} is found")
    doomed = [1, 50, 51, ARRAY + 2, ARRAY + 70, 2 * ARRAY, tasks - 1]
    flow.esis("cancel", "--tasks", ",".join(map(str, doomed))).ok()
    (cancelled,) = [row for row in rows_of(flow) if row[0] == "failed"]
    assert (expand(cancelled[2]), cancelled[3]) == (doomed, "CANCELLED")
    flow.esis("throttle", "0").ok()
    site.run(["touch", "go"], run).ok()
    gone(flow)
    assert executions(run) == {task: 1 for task in range(tasks) if task not in doomed}
    (cancelled,) = [row for row in rows_of(flow) if row[0] == "failed"]
    assert (expand(cancelled[2]), cancelled[3]) == (doomed, "CANCELLED")
    flow.esis("resubmit").ok()
    gone(flow)
    assert flow.states() == {"done": tasks}
    assert executions(run) == dict.fromkeys(range(tasks), 1)


# --- what was set going at the beginning


def test_a_pack_at_its_time_limit_keeps_what_is_done(slow: dict[str, Workflow]) -> None:
    """Done stays done; who had all of the time and didn't end has failed; the others are unsubmitted again."""
    flow = slow["cut"]
    run = flow.only_run()
    gone(flow)
    found = verdicts(flow)
    assert {task: state for task, (state, _) in found.items()} == {
        0: "done",
        1: "failed",
        2: "done",
        3: "unsubmitted",
        4: "failed",
        5: "failed",
        6: "unsubmitted",
        7: "unsubmitted",
        8: "done",
        9: "done",
        10: "done",
        11: "unsubmitted",
    }
    assert {found[task][1] for task in (1, 4, 5)} == {"TIMEOUT"}
    flow.site.run(["touch", "go"], run).ok()
    flow.esis("run").ok()
    gone(flow)
    assert flow.states() == {"done": 9, "failed": 3}
    flow.esis("resubmit").ok()
    gone(flow)
    assert flow.states() == {"done": 12}
    assert executions(run) == {task: 2 if task in HELD else 1 for task in range(12)}


def test_more_arrays_than_tasks_may_run_at_once_take_turns(slow: dict[str, Workflow]) -> None:
    """-m 2 holds over three arrays: the third one waits for the end of the first."""
    flow = slow["turns"]
    run = flow.only_run()
    assert [spec.partition("%")[2] for spec, _ in arrays(run)[0]] == ["1", "1", "1"]
    gone(flow)
    assert flow.states() == {"done": 2 * ARRAY + 8}
    assert most_at_once(run) == 2
    first, third = range(ARRAY), range(2 * ARRAY, 2 * ARRAY + 8)
    ran = {int(path.name[4:]): int(path.read_text().split()[0]) for path in (run / "cwd").glob("ran.*")}
    assert min(ran[task] for task in third) > max(ran[task] for task in first)


# --- squeue without -r


def queue_of_arrays(cluster: SlurmCluster, directory: str) -> None:
    """Put into the queue what a run of several arrays puts there: waiting, running, cancelled and requeued elements."""
    cluster.run(["mkdir", "-p", directory])

    def submit(*options: str, command: str = "while ! [ -e go ]; do sleep 0.2; done") -> str:
        argv = ["sbatch", "--parsable", "--mem=10", *options, "--wrap", command]
        return cluster.run(argv, cwd=directory).stdout.strip()

    def running(job: str) -> list[str]:
        argv = ["squeue", "-h", "-r", "-t", "running", "-j", job, "-o", "%K"]
        return sorted(cluster.run(argv).stdout.split(), key=int)

    def runs(job: str, elements: list[str]) -> bool:
        return running(job) == elements

    irregular = submit("--array=0,2-4,7,9-40:3,41-60,77%2")
    requeued = submit("--array=0-5%2", "--requeue")
    partly = submit("--array=10-29%1")
    submit("--array=1-90", "--hold")
    behind = submit("--array=0-100%7", f"--dependency=afterany:{irregular}")
    for job, elements in ((irregular, ["0", "2"]), (requeued, ["0", "1"]), (partly, ["10"])):
        wait_until(partial(runs, job, elements), what=f"job {job} runs")
    for part in (f"{partly}_[12,15-17,29]", f"{partly}_10", f"{behind}_[50-60]"):
        cluster.run(["scancel", part])
    cluster.run(["scontrol", "requeue", f"{requeued}_1"])
    wait_until(lambda: running(requeued) == ["0", "2"] and running(partly) == ["11"], what="the next elements run")
    cluster.run(["scancel", partly])
    wait_until(lambda: not running(partly), what="the rest is cancelled")


def ask_in_both_forms(cluster: SlurmCluster, directory: str = "/home/alice/a b, ü|x/cwd") -> dict[str, str]:
    """Return what squeue says, element by element and folded as ESIS asks, of the same moment."""
    queue_of_arrays(cluster, directory)
    folded = squeue_argv()
    argv = [folded[0], "-r", *folded[1:]]

    def both() -> tuple[str, str, str]:
        env = {"SLURM_BITSTR_LEN": "0"}
        return cluster.run(argv).stdout, cluster.run(folded, env=env).stdout, cluster.run(argv).stdout

    def words(text: str) -> list[str]:
        return ["|".join(line.split("|")[:4]) for line in text.splitlines()]

    def steady() -> dict[str, str]:
        before, whole, after = both()
        return {"-rows": before, "-asked": whole} if words(before) == words(after) else {}

    answers = wait_until(steady, what="the queue is the same before and after")
    cluster.run(["touch", f"{directory}/go"])
    jobs = {line.split("|")[1] for line in answers["-asked"].splitlines() if line.endswith(f"{directory}{ROW_END}")}
    cluster.run(["scancel", *sorted(jobs)])
    return answers


def elements(text: str) -> dict[tuple[str, int], tuple[object, str, str]]:
    """Return state, word and reason of each element that an answer tells of."""
    found: dict[tuple[str, int], tuple[object, str, str]] = {}
    for seen in parse_squeue(text)[0]:
        assert seen.indices is not None
        for index in seen.indices:
            assert (seen.job, index) not in found
            found[seen.job, index] = seen.state, seen.word, seen.reason
    return found


def test_folded_answers_of_squeue_tell_of_each_element(cluster: SlurmCluster) -> None:
    """Irregular indices behind a throttle, running, cancelled, requeued ones: the same as a row for each element."""
    here = {
        form: "".join(line for line in text.splitlines(keepends=True) if "ü|x" in line)
        for form, text in ask_in_both_forms(cluster).items()
    }
    assert elements(here["-asked"]) == elements(here["-rows"])
    # Those that were cancelled by index before they began are in neither.
    assert len(elements(here["-asked"])) == 37 + 6 + (20 - 5) + 90 + (101 - 11)
    assert here["-asked"].count("\n") == 11
