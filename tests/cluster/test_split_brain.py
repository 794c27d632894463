"""Split brain: a node is lost, Slurm requeues its tasks elsewhere, and the first attempts go on.

All tests look at one pair of runs: the daemon of the node c1 is killed under their tasks, and slurmctld gives the node
up. (A node that is called down by hand won't do: 24.11 waits for the end of its tasks before it requeues them.) What is
left of the first attempts is alone with the file system.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from functools import partial

import pytest

from tests.cluster.harness import SlurmCluster, wait_until
from tests.cluster.test_faults import ended, records, verdicts
from tests.cluster.test_workers import HEAD, make, results, template
from tests.contract.site import ClusterSite, Workflow

# Each attempt says when it is at work, waits for its turn, and then exports and saves.
WORKER = (
    HEAD
    + """
import os, pathlib, time
import esis

task = esis.task()
me = f"{task.index}.{task.restarts}"
pathlib.Path(f"at-work.{me}").touch()
while not os.path.exists(f"../go.{me}"):
    time.sleep(0.1)
said = []
try:
    with esis.checkpoints().save(step=10 - task.restarts) as directory:
        (directory / "who").write_text(me)
except BaseException as error:
    said.append(repr(error))
try:
    esis.export(attempt=task.restarts, n=task.parameters["n"])
    esis.export_array("who", [float(task.restarts)])
except BaseException as error:
    said.append(repr(error))
own = pathlib.Path(f"../parameters/parameters.{task.index}.json")
said.append(own.read_text().strip() if own.exists() else "no parameters")
pathlib.Path(f"said.{me}.tmp").write_text("\\n".join(said))
os.rename(f"said.{me}.tmp", f"said.{me}")
"""
)
FILES = "#!/usr/bin/env python3\nimport json\n" + (
    "for n in range(3):\n    json.dump({'n': n}, open(f'parameters.{n}.json', 'w'))\nprint(3)\n"
)
LINES = "#!/usr/bin/env python3\n" + (
    "open('parameters.jsonl', 'w').write(''.join('{\"n\": %d}\\n' % n for n in range(3)))\nprint(3)\n"
)
FIRST_LAST, FIRST_FIRST, FIRST_STAYS = range(3)
"""The tasks by what becomes of their first attempts: they end behind the second, before it, or not at all."""


@pytest.fixture(scope="module")
def site(cluster: SlurmCluster) -> ClusterSite:
    return ClusterSite(cluster, f"split-{secrets.token_hex(4)}")


def at_work(flow: Workflow, attempt: int) -> bool:
    """Return whether all three tasks have begun their first (0) or second attempt."""
    return len(list(flow.only_run().glob(f"cwd/at-work.*.{attempt}"))) == 3


def turn(flow: Workflow, task: int, attempt: int) -> str:
    """Let one attempt come to its end and return what it said."""
    run = flow.only_run()
    flow.site.run(["touch", f"go.{task}.{attempt}"], run).ok()
    said = run / f"cwd/said.{task}.{attempt}"
    wait_until(said.exists, what=f"attempt {attempt} of task {task} has ended")
    return said.read_text()


def time_out(cluster: SlurmCluster, seconds: int) -> None:
    """Let slurmctld give nodes up that don't answer for so long."""
    setting = f"sed -i 's/^SlurmdTimeout=.*/SlurmdTimeout={seconds}/' /etc/slurm/slurm.conf && scontrol reconfigure"
    cluster.sh(setting, user="root", cwd="/", host="ctl")
    shown = ["scontrol", "show", "config"]
    wait_until(
        lambda: f"SlurmdTimeout           = {seconds} " in cluster.run(shown, check=False).stdout,
        what=f"SlurmdTimeout is {seconds}",
    )


@pytest.fixture(scope="module")
def flows(site: ClusterSite) -> Iterator[dict[str, Workflow]]:
    """Two runs, with a parameter file per task and with one for all, whose tasks run twice at the same time."""
    cluster = site.cluster

    def node(name: str, state: str, check: bool = True) -> None:
        argv = ["scontrol", "update", f"nodename={name}", f"state={state}", "reason=test"]
        cluster.run(argv, user="root", cwd="/", host="ctl", check=check)

    # No srun: slurmctld would tell it that its node is gone.
    text = template("--time=10", "--requeue", "--open-mode=append", call="WORKERSCRIPT")
    made = {form: make(site, form, WORKER, generator, text) for form, generator in (("files", FILES), ("lines", LINES))}
    try:
        time_out(cluster, 10)
        node("c2", "drain")
        for flow in made.values():
            flow.esis("run").ok()
        for flow in made.values():
            wait_until(partial(at_work, flow, 0), what="the first attempts are at work")
        node("c2", "resume")
        cluster.kill_daemon("c1")
        for flow in made.values():
            wait_until(partial(at_work, flow, 1), what="the second attempts are at work", seconds=120)
        yield made
    finally:
        for flow in made.values():
            for run in flow.runs():
                site.run(["touch", *(f"go.{task}.{attempt}" for task in range(3) for attempt in range(2))], run)
        time_out(cluster, 60)
        # No node may be resumed that is neither drained nor down.
        node("c2", "resume", check=False)
        cluster.start_daemon("c1")
        node("c1", "resume", check=False)
        cluster.wait_jobs_gone()
        cluster.wait_for_nodes()


def latest(flow: Workflow, task: int) -> str:
    """Return whose checkpoint a worker would go on from: that of the highest number."""
    places = flow.only_run().glob(f"__checkpoints__/task.{task}/main/[0-9]*/who")
    return max(places, key=lambda path: int(path.parent.name)).read_text()


@pytest.mark.parametrize("form", ["files", "lines"])
def test_f54_what_an_overtaken_attempt_writes_last_replaces_nothing(flows: dict[str, Workflow], form: str) -> None:
    """F54: the later attempt is done; then the first one exports and saves: results and checkpoints stay."""
    flow = flows[form]
    assert turn(flow, FIRST_LAST, 1).endswith('{"n": 0}')
    wait_until(lambda: verdicts(flow)[FIRST_LAST] == ("done", ""), what="the second attempt is done")
    assert results(flow)[FIRST_LAST]["attempt"] == 1
    before = {path: path.read_bytes() for path in (flow.only_run() / "results").iterdir()}
    turn(flow, FIRST_LAST, 0)
    wait_until(lambda: len(records(flow.only_run(), FIRST_LAST)) == 2, what="both have a record")
    assert {path: path.read_bytes() for path in (flow.only_run() / "results").iterdir()} == before
    assert latest(flow, FIRST_LAST) == f"{FIRST_LAST}.1"
    assert verdicts(flow)[FIRST_LAST] == ("done", "")


@pytest.mark.parametrize("form", ["files", "lines"])
def test_f54_an_overtaken_attempt_that_ends_first_takes_nothing_away(flows: dict[str, Workflow], form: str) -> None:
    """F54: the first attempt ends while the later one works: that one has its parameters, and its results count."""
    flow = flows[form]
    turn(flow, FIRST_FIRST, 0)
    wait_until(
        lambda: any(not record.endswith("running") for record in records(flow.only_run(), FIRST_FIRST)),
        what="the first attempt has ended",
    )
    assert verdicts(flow)[FIRST_FIRST] == ("running", "")
    assert turn(flow, FIRST_FIRST, 1).endswith('{"n": 1}')
    wait_until(lambda: verdicts(flow)[FIRST_FIRST] == ("done", ""), what="the second attempt is done")
    assert results(flow)[FIRST_FIRST] == {"attempt": 1, "n": 1, "who": "results.1.who.npy"}
    assert latest(flow, FIRST_FIRST) == f"{FIRST_FIRST}.1"


@pytest.mark.parametrize("form", ["files", "lines"])
def test_f54_a_first_attempt_that_never_ends_holds_nothing_up(flows: dict[str, Workflow], form: str) -> None:
    """F54: the later attempt's end is the task's; the run completes."""
    flow = flows[form]
    for task in (FIRST_LAST, FIRST_FIRST, FIRST_STAYS):
        turn(flow, task, 1)
    ended(flow)
    assert flow.states() == {"done": 3}
    assert flow.esis("status", "--check").code == 0
    assert {task: row["attempt"] for task, row in results(flow).items()} == dict.fromkeys(range(3), 1)
