"""Workers on a real Slurm: longer than the time limit, killed, preempted, written for 0.0.4, in sh and in C.

Compute nodes have a Python and no ESIS: the workers take it from a copy of its files among the includes.
What counts in minutes (time limits) is set going by the fixture `slow` and looked at last.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import conftest, harness
from tests.cluster.harness import SlurmCluster, wait_until
from tests.contract.site import ClusterSite, Workflow, make_workflow
from tests.worker.test_imports import listed_files
from tests.worker.test_languages import build

WORK_SECONDS = 180
PREEMPTION = """PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=low Nodes=c[1-2] PriorityTier=0 GraceTime=15 DefaultTime=10 State=UP"""

HEAD = "#!/usr/bin/env python3\nimport sys\nsys.path.insert(0, '../includes')\n"
LONG = (
    HEAD
    + """
import json, os, random, time
import esis

task = esis.task()
pause = float(os.environ.get("PAUSE", "0.5"))
rng, step, total = random.Random(task.seed), 0, 0.0
saved = esis.checkpoints()
if saved.latest:
    state = json.loads((saved.latest / "state").read_text())
    rng.setstate((state["rng"][0], tuple(state["rng"][1]), state["rng"][2]))
    step, total = saved.latest.step, state["total"]
with esis.stopping(margin=12) as stop:
    while step < int(task.parameters["seconds"] / 0.5):
        total += rng.gauss(0, 1)
        step += 1
        time.sleep(pause)
        if stop:
            with saved.save(step=step) as directory:
                (directory / "state").write_text(json.dumps({"rng": rng.getstate(), "total": total}))
            print("saved at", step, "for", stop.reason, flush=True)
            esis.requeue()
esis.export(total=total)
esis.export_array("last", [rng.random() for _ in range(4)])
print("finished after", task.restarts, "restarts", flush=True)
"""
)
LISTENING = (
    HEAD
    + """
import os, time
import esis

with esis.stopping(margin=None) as stop:
    open(f"started.{os.environ['SLURM_ARRAY_TASK_ID']}", "w").close()
    while not stop:
        time.sleep(0.05)
    esis.export(heard=stop.reason, restarts=esis.task().restarts)
    time.sleep(1)
raise SystemExit(9)
"""
)


def template(*directives: str, call: str = "srun WORKERSCRIPT") -> str:
    lines = "".join(f"#SBATCH {line}\n" for line in ("--array=TASKARRAYDEFINITION", *directives))
    return f"#!/bin/bash\n{lines}#ESIS_PRIVATE\nset -euo pipefail\n{call}\n"


def generator(*parameters: object) -> str:
    return f"#!/usr/bin/env python3\nimport json\nsets = {list(parameters)!r}\n" + (
        "for n, value in enumerate(sets):\n    json.dump(value, open(f'parameters.{n}.json', 'w'))\nprint(len(sets))\n"
    )


@pytest.fixture(scope="module")
def cluster(engine: None) -> Iterator[SlurmCluster]:
    """A cluster of its own, which preempts."""
    with SlurmCluster(suite=conftest.SUITE, extra_conf=PREEMPTION) as made:
        made.install(harness.wheelhouse(harness.PYTHON_OF[conftest.SUITE]))
        yield made


@pytest.fixture(scope="module")
def site(cluster: SlurmCluster) -> ClusterSite:
    return ClusterSite(cluster, f"workers-{secrets.token_hex(4)}")


def make(site: ClusterSite, name: str, worker: str | Path, parameters: str, text: str) -> Workflow:
    """Make a workflow whose includes hold the files of ESIS that a worker needs."""
    flow = make_workflow(site, name, template=text, generator_text=parameters, setup="#!/bin/sh\n")
    if isinstance(worker, Path):
        (flow.directory / "worker.sh").unlink()
        shutil.copy(worker, flow.directory / "worker.sh")
        return flow
    flow.write("worker.sh", worker)
    for part in listed_files():
        source, target = harness.REPOSITORY / part, flow.directory / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    flow.esis("setup", "setup.sh", "gen.py", "template.sh", "worker.sh", "esis").ok()
    return flow


def results(flow: Workflow) -> dict[int, dict[str, object]]:
    found = {}
    for path in flow.only_run().glob("results/results.*.json"):
        found[int(path.name.split(".")[1])] = json.loads(path.read_text())
    return dict(sorted(found.items()))


def rows(flow: Workflow) -> dict[int, tuple[str, str]]:
    shown = json.loads(flow.esis("status", "--tasks", "--json").stdout)["rows"]
    return {row["task"]: (row["state"], row["reason"]) for row in shown}


def settled(flow: Workflow, seconds: float = 120.0) -> dict[int, tuple[str, str]]:
    """Wait until no task of the flow waits or runs; return state and reason of each."""

    def ended() -> bool:
        found = rows(flow)
        return bool(found) and not any(state in ("waiting", "running", "unknown") for state, _ in found.values())

    wait_until(ended, seconds=seconds, interval=1.0, what=f"{flow.directory.name} has ended")
    return rows(flow)


def log(flow: Workflow, task: int) -> str:
    return "".join(path.read_text() for path in flow.only_run().glob(f"cwd/slurm-*_{task}.out"))


# --- what takes minutes

FORMS = {
    "srun": "srun WORKERSCRIPT",
    "srun &": "srun WORKERSCRIPT &\nwait $!",
    "bare": "WORKERSCRIPT",
    "bare &": "WORKERSCRIPT &\nwait $!",
}
# Who hears what: the template of `esis doc requeue`. Those that hear no USR1 hear the TERM of the time limit.
HEARD: Mapping[tuple[str, str], str] = {
    ("srun", "USR1"): "SIGUSR1",
    ("srun &", "USR1"): "SIGUSR1",
    ("bare", "USR1"): "SIGTERM",
    ("bare &", "USR1"): "SIGTERM",
    ("srun", "B:USR1"): "SIGTERM",
    ("srun &", "B:USR1"): "SIGUSR1",
    ("bare", "B:USR1"): "SIGTERM",
    ("bare &", "B:USR1"): "SIGUSR1",
}


@dataclass(frozen=True)
class Slow:
    """What goes on while the other tests run."""

    long: Workflow
    signalled: Mapping[tuple[str, str], Workflow]


@pytest.fixture(scope="module")
def slow(site: ClusterSite) -> Slow:
    text = template("--time=1", "--requeue", "--open-mode=append")
    long = make(site, "long", LONG, generator({"seconds": WORK_SECONDS}, {"seconds": 20}), text)
    long.esis("run").ok()
    flows = {}
    for number, (form, whom) in enumerate(HEARD):
        flow = make(
            site,
            f"signal-{number}",
            LISTENING,
            generator({"form": form, "whom": whom}),
            template("--time=1", f"--signal={whom}@55", call=FORMS[form]),
        )
        flow.esis("run").ok()
        flows[form, whom] = flow
    return Slow(long, flows)


@pytest.mark.parametrize("language", ["sh", "C"])
def test_workers_in_sh_and_c_export_results_and_checkpoints(
    slow: Slow, site: ClusterSite, tmp_path: Path, language: str
) -> None:
    """The examples of `esis doc languages`; the nodes have no compiler, so C comes as a static program."""
    flow = make(
        site,
        f"language-{language}",
        build(language, tmp_path, *(["-static"] if language == "C" else [])),
        generator({"limit": 3}, {"limit": 5}),
        template("--time=2"),
    )
    flow.esis("run").ok()
    assert set(settled(flow).values()) == {("done", "")}
    assert results(flow) == {0: {"count": 3, "sum": 6}, 1: {"count": 5, "sum": 15}}
    for task, (count, total) in enumerate([(3, 6), (5, 15)]):
        places = list(flow.only_run().glob(f"__checkpoints__/task.{task}/main/*"))
        latest = max(places, key=lambda path: int(path.name))
        assert (latest / "state").read_text() == f"{count} {total}\n"
    # Once more: they go on from there and have nothing to do.
    flow.esis("resubmit", "--state", "done").ok()
    assert set(settled(flow).values()) == {("done", "")}
    assert results(flow) == {0: {"count": 3, "sum": 6}, 1: {"count": 5, "sum": 15}}


def test_a_worker_killed_while_it_saves_goes_on_from_the_checkpoint_before(slow: Slow, site: ClusterSite) -> None:
    """F08 on the cluster: SIGKILL in the middle of a save, then `esis resubmit`."""
    worker = (
        HEAD
        + """
import os, signal
import esis

task, saved = esis.task(), esis.checkpoints()
step = saved.latest.step if saved.latest else 0
began, total = step, int((saved.latest / "total").read_text()) if step else 0
while step < 6:
    step, total = step + 1, total + step + 1
    with saved.save(step=step) as directory:
        (directory / "first").write_text(str(step))
        if step == 4 and task.attempt == 1:
            (directory / "total").write_text("hal")
            os.kill(os.getpid(), signal.SIGKILL)
        (directory / "total").write_text(str(total))
esis.export(total=total, began=began, attempt=task.attempt)
"""
    )
    flow = make(site, "killed", worker, generator({}, {}), template("--time=2"))
    flow.esis("run").ok()
    assert {state for state, _ in settled(flow).values()} == {"failed"}
    assert results(flow) == {}
    assert [path.name for path in flow.only_run().glob("__checkpoints__/task.0/main/[0-9]*/../[0-9]*/total")] != []
    flow.esis("resubmit").ok()
    assert set(settled(flow).values()) == {("done", "")}
    assert results(flow) == {task: {"total": 21, "began": 3, "attempt": 2} for task in (0, 1)}
    left = list(flow.only_run().glob("__checkpoints__/task.*/main/.esis-tmp-*"))
    assert left == [], "what the killed one left is swept"


PLAIN_0_0_4 = (
    HEAD
    + """
import json, os
import esis.checkpoint

task = os.environ["SLURM_ARRAY_TASK_ID"]
facility = esis.checkpoint.checkpoint_facility(17)
if not facility.has_checkpoint("conf" + task):
    cp = facility.create_checkpoint("conf" + task)
    with open(cp.get_file_name("lattice"), "w") as stream:
        stream.write(str(cp.get_seed_int() % 1000))
    cp.set_OK()
it = (facility.open_iterative if facility.has_iterative_checkpoint("mc" + task)
      else facility.create_iterative_checkpoint)("mc" + task)
for i in range(it.get_iteration(), 4):
    with open(it.get_file_name("sum"), "a") as stream:
        stream.write(f"{i}\\n")
    it.set_iteration(i + 1)
    if i == 1 and not os.path.exists("died." + task):
        open("died." + task, "w").close()
        raise SystemExit(1)
it.set_OK()
facility.set_run_OK()
"""
)
READER_0_0_4 = (
    HEAD
    + """
import json, os
from esis.checkpoint import checkpoint_facility

task = os.environ["SLURM_ARRAY_TASK_ID"]
with open(f"../parameters/parameters.{task}.json") as stream:
    parameters = json.load(stream)
other = checkpoint_facility(1).open_external(parameters["confs"])
assert other.iterative_checkpoint_is_finished("mc" + task)
found = {"lattice": open(other.load_checkpoint("conf" + task).get_file_name("lattice")).read(),
         "sum": open(other.open_iterative("mc" + task).get_file_name("sum")).read().split()}
with open(f"../results/results.{task}.json", "w") as stream:
    json.dump(found, stream)
"""
)
REQUIRING = """#!/usr/bin/env python3
import json, os
confs = json.loads(os.environ["ESIS2_REQUIREMENTS"])["confs"]
for n in range(2):
    with open(f"parameters.{n}.json", "w") as stream:
        json.dump({"confs": confs}, stream)
print(2)
"""


@pytest.mark.parametrize("where", ["local", "slurm"])
def test_workers_written_for_0_0_4_run_unchanged(slow: Slow, site: ClusterSite, where: str) -> None:
    """Plain and iterative checkpoints, an interruption, and a dependant that opens those of its requirement."""
    options = ["--local"] if where == "local" else []
    text = template("--time=2")
    confs = make(site, f"confs-{where}", PLAIN_0_0_4, generator({}, {}), text)
    reader = make(site, f"reader-{where}", READER_0_0_4, REQUIRING, text)
    reader.esis("require", f"../{confs.directory.name}/wf.esis.json", "confs").ok()
    confs.esis("run", *options)
    assert set(settled(confs).values()) == {("failed", "exit code 1")}
    confs.esis("resubmit", *options).ok()
    if where == "local":
        assert set(settled(confs).values()) == {("done", "")}
    reader.esis("dependency", *options).ok()
    assert set(settled(reader).values()) == {("done", "")}
    found = results(reader)
    assert [found[task]["sum"] for task in (0, 1)] == [["0", "1", "2", "3"]] * 2
    assert found[0]["lattice"] != found[1]["lattice"]


LOW = ("--time=5", "--partition=low", "--requeue", "--nodelist=c2", "--mem=9000")


def let_in_a_better_job(flow: Workflow, command: str = "sleep 2") -> str:
    """Let a job of a better partition take the memory of a run's task; return its id."""
    argv = "sbatch --parsable --partition=main --nodelist=c2 --mem=9000 --time=5 --output=/dev/null --wrap".split()
    return flow.site.run([*argv, command], flow.directory).ok().stdout.strip()


PREEMPTED = (
    HEAD
    + """
import time
import esis

saved = esis.checkpoints()
with esis.stopping(margin=None) as stop:
    if saved.latest:
        esis.export(heard=saved.latest.note["heard"])
        raise SystemExit(0)
    open("started", "w").close()
    while not stop:
        time.sleep(0.05)
    with saved.save(heard=stop.reason):
        pass
    esis.requeue()
"""
)


@pytest.mark.parametrize("form", ["srun", "srun &", "bare &"])
def test_a_preempted_worker_saves_and_its_task_comes_back(slow: Slow, site: ClusterSite, form: str) -> None:
    """PreemptMode=REQUEUE with a GraceTime: SIGTERM for the steps first, for the rest at its end; it runs once more.

    Or twice: 24.11 also carries out the requeue of its own, even when the task is done already.
    """
    flow = make(
        site,
        f"preempted-{list(FORMS).index(form)}",
        PREEMPTED,
        generator({"form": form}),
        template(*LOW, call=FORMS[form]),
    )
    flow.esis("run").ok()
    wait_until(lambda: list(flow.only_run().glob("cwd/started")), seconds=90, what="the worker has started")
    site.cluster.wait_jobs_gone(let_in_a_better_job(flow))
    assert set(settled(flow).values()) == {("done", "")}
    assert results(flow) == {0: {"heard": "SIGTERM"}}
    starts = sorted(path.name for path in flow.only_run().glob("__esis__/tasks/0.*"))
    assert len(starts) in (2, 3), starts
    assert ".exit0." not in starts[0]
    assert all(".exit0." in name for name in starts[1:]), starts


ONE_HOLDS = """#!/bin/sh
echo x >>"ran.$SLURM_ARRAY_TASK_ID"
[ "$SLURM_ARRAY_TASK_ID" != 1 ] || until [ -e ../go ]; do sleep 0.1; done
"""


def ran(flow: Workflow) -> dict[int, int]:
    """Return how often each task has begun its work."""
    found = flow.only_run().glob("cwd/ran.*")
    return {int(path.suffix[1:]): len(path.read_text().splitlines()) for path in sorted(found)}


def test_a_preempted_pack_comes_back_and_goes_on_where_it_was(site: ClusterSite) -> None:
    """What is done isn't done again, and nobody else is given what waits for the pack to come back.

    Without srun: a step gets its SIGTERM GraceTime earlier, its task ends with it, and the pack does the others.
    """
    flow = make_workflow(
        site,
        "repacked",
        4,
        template=template(*LOW, call=FORMS["bare"]),
        worker=ONE_HOLDS,
        setup="#!/bin/sh\n",
        options=("--tasks-per-job", "4"),
    )
    flow.esis("run").ok()
    run = flow.only_run()

    def nobody_else_is_given_any(state: str) -> None:
        wait_until(lambda: rows(flow)[1][0] == state, seconds=90, what=f"the second task is {state}")
        assert [state for state, _ in rows(flow).values()] == ["done", state, "waiting", "waiting"]
        flow.esis("run")
        flow.esis("resubmit")
        assert [path.name for path in run.glob("__esis__/submissions/*.json")] == ["0001.json"]

    nobody_else_is_given_any("running")
    let_in_a_better_job(flow, f"until [ -e {site.inside(run)}/make-room ]; do sleep 0.1; done")
    nobody_else_is_given_any("waiting")
    site.run(["touch", "make-room"], run).ok()
    nobody_else_is_given_any("running")
    site.run(["touch", "go"], run).ok()
    assert set(settled(flow).values()) == {("done", "")}
    assert ran(flow) == {0: 1, 1: 2, 2: 1, 3: 1}


@pytest.mark.parametrize(("form", "whom"), list(HEARD))
def test_signals_reach_the_worker_as_documented(slow: Slow, form: str, whom: str) -> None:
    """--signal=USR1@55 and B:USR1@55 in each form of calling the worker."""
    flow = slow.signalled[form, whom]
    (state,) = settled(flow, 180).values()
    assert results(flow) == {0: {"heard": HEARD[form, whom], "restarts": 0}}
    assert state[0] == "failed"


def test_work_longer_than_the_time_limit_finishes_by_itself(slow: Slow, site: ClusterSite) -> None:
    """Three minutes of work under a limit of one: the results are bit for bit those of a run without interruption."""
    assert set(settled(slow.long, 600).values()) == {("done", "")}
    said = log(slow.long, 0)
    assert said.count("saved at") >= 3, said
    assert said.count("for time limit") == said.count("saved at"), said
    assert "saved at" not in log(slow.long, 1)
    plain = make(
        site,
        "uninterrupted",
        LONG,
        generator({"seconds": WORK_SECONDS}, {"seconds": 20}),
        template("--time=1", "--requeue", "--open-mode=append"),
    )
    plain.esis("run", "--local", env={"PAUSE": "0"}).ok()
    assert plain.only_run().name == slow.long.only_run().name
    for name in ("results.0.json", "results.1.json", "results.0.last.npy", "results.1.last.npy"):
        files = [flow.only_run() / "results" / name for flow in (slow.long, plain)]
        assert files[0].read_bytes() == files[1].read_bytes(), name
    # One record of each start: requeued ones that were cut off, or ended with 75, and one that is done.
    starts = sorted(path.name.split(".")[3] for path in slow.long.only_run().glob("__esis__/tasks/0.*"))
    assert starts == [str(number) for number in range(said.count("saved at") + 1)]
