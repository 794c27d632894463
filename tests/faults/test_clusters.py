"""Several clusters: of one database, or beside each other on one file system; and several names of one directory."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.fakes import FakeSlurm, JobView
from tests.faults.bench import TEMPLATE, Bench, only_run
from tests.faults.test_disk import age
from tests.faults.test_slurm_faults import submission
from tests.mounts import bound

SRUN = TEMPLATE.replace("WORKERSCRIPT", "srun WORKERSCRIPT")


@pytest.fixture
def other(bench: Bench, tmp_path: Path) -> FakeSlurm:
    """A second cluster, `b`, in the database of the bench's, `a`."""
    made = FakeSlurm(tmp_path / "b", cluster_name="b", controller="ctl-b", accounting=True)
    with made.store.transaction() as cluster:
        cluster.next_id = 100
    bench.slurm.set(
        cluster_name="a", controller="ctl-a", accounting=True, clusters=["a"], siblings={"b": str(made.state_dir)}
    )
    return made


@pytest.fixture
def beside(bench: Bench, tmp_path: Path) -> FakeSlurm:
    """A second cluster beside the bench's, of which it knows nothing; both are called as most are."""
    bench.slurm.set(cluster_name="cluster", controller="ctl-a")
    return FakeSlurm(tmp_path / "b", cluster_name="cluster", controller="ctl-b")


class Login:
    """A login node of another cluster: another host, whose commands talk to that one."""

    def __init__(self, bench: Bench, slurm: FakeSlurm) -> None:
        self._bench = bench
        self.slurm = slurm

    def __enter__(self) -> Login:
        self._home, self._bench.slurm = self._bench.slurm, self.slurm
        self._moved()
        return self

    def __exit__(self, *_: object) -> None:
        self._bench.slurm = self._home
        self._moved()

    def _moved(self) -> None:
        """Let what was submitted until now have been submitted on another host than this one, or on this one."""
        for path in self._bench.home.glob("*/wrkdir.*/__esis__/submissions/*.json"):
            record = json.loads(path.read_text())
            host, comma, rest = record["owner"].partition(",")
            record["owner"] = f"{host[5:] if host.startswith('away-') else f'away-{host}'}{comma}{rest}"
            path.write_text(json.dumps(record))


def asked(slurm: FakeSlurm, program: str) -> int:
    return len(slurm.calls(program))


@pytest.mark.parametrize("names", [("cluster", "cluster"), ("a", "b")])
@pytest.mark.parametrize("accounting", [True, False])
@pytest.mark.parametrize("started", [True, False])
def test_f83_from_another_cluster_on_the_same_file_system_nothing_is_lost(
    bench: Bench, beside: FakeSlurm, names: tuple[str, str], accounting: bool, started: bool
) -> None:
    """F83: its squeue knows nothing of the tasks, which proves nothing; at home they wait as before."""
    bench.slurm.set(cluster_name=names[0], accounting=accounting)
    beside.set(cluster_name=names[1], accounting=accounting)
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    if started:
        for task in range(3):
            (only_run(place) / f"__esis__/tasks/{task}.0001.1.0.{int(time.time())}.running").touch()
        bench.slurm.set_state(1, "RUNNING")
    age(only_run(place))
    shown = {"running": 3} if started else {"waiting": 3}
    with Login(bench, beside):
        assert bench.states(place) == {"unknown": 3}
        told = bench.esis(place, "status")
        assert f"this is cluster {names[1]} (ctl-b)" in told.stdout
        assert f"submitted to cluster {names[0]} (ctl-a)" in told.stdout
        assert "SLURM_CONF" in told.stdout
        assert told.code == 6
        for command in (["resubmit"], ["run"], ["cancel"], ["resubmit", "--state", "unknown"]):
            refused = bench.esis(place, *command)
            assert refused.code == (0 if command == ["run"] else 6), refused.stderr
            assert "ctl-a" in refused.stderr
        assert not beside.jobs()
    assert bench.states(place) == shown
    assert len(bench.slurm.jobs()) == 1


def test_f83_a_stranger_with_the_same_id_is_not_taken_for_a_task(bench: Bench, beside: FakeSlurm) -> None:
    """F83: numbers of two clusters meet."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    age(only_run(place))
    away = only_run(place).with_name("elsewhere") / only_run(place).name
    beside.call("sbatch", "--hold", "--array=0-2", "--wrap=true", cwd=only_run(place) / "cwd").check_returncode()
    with Login(bench, beside):
        assert bench.states(place) == {"unknown": 3}
        assert "ctl-a" in bench.esis(place, "status").stdout
        assert bench.esis(place, "cancel").code == 6
    assert not away.exists()
    assert beside.job(1).states == {0: "PENDING", 1: "PENDING", 2: "PENDING"}


@pytest.mark.parametrize("known", [True, False])
def test_f83_on_another_login_node_of_the_same_cluster_absence_counts(bench: Bench, known: bool) -> None:
    """F83: scontrol is asked there, once, and only if a task is missing; where the record tells nothing, nobody is."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    assert asked(bench.slurm, "scontrol") == 1
    age(only_run(place))
    if not known:
        path = only_run(place) / "__esis__/submissions/0001.json"
        record = json.loads(path.read_text())
        del record["cluster"]
        path.write_text(json.dumps(record))
    with Login(bench, bench.slurm):
        assert bench.states(place) == {"waiting": 3}
        assert asked(bench.slurm, "scontrol") == 1
        bench.slurm.forget(1)
        assert bench.states(place) == {"lost": 3}
        assert asked(bench.slurm, "scontrol") == (2 if known else 1)
        bench.slurm.fail("scontrol", "timeout")
        assert bench.states(place) == ({"unknown": 3} if known else {"lost": 3})
        bench.slurm.set(faults=[])
        bench.esis(place, "resubmit").ok()
        assert bench.states(place) == {"waiting": 3}
    asking = asked(bench.slurm, "scontrol")
    bench.slurm.forget(1)
    bench.slurm.set(faults=[])
    age(only_run(place))
    assert bench.states(place) == {"lost": 3}
    assert asked(bench.slurm, "scontrol") == asking + (not known)


def test_f83_what_has_failed_can_be_run_on_the_other_cluster(bench: Bench, beside: FakeSlurm) -> None:
    """F83: the records say that it has ended; from then on either cluster's tasks are unknown on the other one."""
    place = bench.workflow("a")
    (place / "flaky").touch()
    bench.esis(place, "run").ok()
    bench.slurm.run()
    assert bench.states(place) == {"done": 1, "failed": 2}
    with Login(bench, beside):
        bench.esis(place, "resubmit").ok()
        assert "ctl-b" in str(submission(place, 2)["cluster"])
        age(only_run(place))
        assert bench.states(place) == {"done": 1, "waiting": 2}
        (home,) = beside.jobs()
        assert home.pending == (1, 2)
    assert bench.states(place) == {"done": 1, "unknown": 2}
    assert bench.esis(place, "resubmit").code == 6
    assert len(bench.slurm.jobs()) == 1


def test_f83_a_lost_answer_is_not_looked_up_on_another_cluster(bench: Bench, beside: FakeSlurm) -> None:
    """F83: it isn't there, which proves nothing; at home it is adopted."""
    place = bench.workflow("a")
    bench.slurm.fail("sbatch", "lost_reply")
    bench.slurm.fail("squeue", "timeout")
    assert bench.esis(place, "run").code == 6
    with Login(bench, beside):
        refused = bench.esis(place, "run")
        assert (refused.code, "ctl-a" in refused.stderr) == (6, True)
        assert not asked(beside, "sbatch")
    assert "Slurm has it as job 1" in bench.esis(place, "run").ok().stderr
    assert len(bench.slurm.jobs()) == 1


def test_f83_a_run_is_not_marked_as_complete_where_its_cluster_was_not_asked(bench: Bench, beside: FakeSlurm) -> None:
    """F83: that one may know of a failure behind an exit status of 0."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    bench.slurm.verdict("OUT_OF_MEMORY", task=1)
    bench.slurm.run()
    with Login(bench, beside):
        assert bench.states(place) == {"done": 3}
        assert not (only_run(place) / "__esis__/complete").exists()
    assert bench.states(place) == {"done": 2, "failed": 1}


def test_f84_a_run_on_two_clusters_is_asked_for_on_both(bench: Bench, other: FakeSlurm) -> None:
    """F84: some tasks on the default cluster, others on a named one; with the variable or without it."""
    place = bench.workflow("a")
    (place / "flaky").touch()
    bench.esis(place, "run", "-m", "0").ok()
    bench.slurm.run(max_tasks=2)
    named = {"SBATCH_CLUSTERS": "b"}
    bench.slurm.set_state(1, "FAILED", [1])
    bench.slurm.set_state(1, "RUNNING", [2])
    age(only_run(place))
    bench.esis(place, "resubmit", "--failed", env=named).ok()
    assert submission(place, 2)["jobs"] == [{"id": "100", "cluster": "b"}]
    for env in ({}, named, {"SBATCH_CLUSTERS": "a"}):
        before = asked(bench.slurm, "squeue")
        shown = json.loads(bench.esis(place, "status", "--json", env=env).stdout)["states"]
        assert {state: value["count"] for state, value in shown.items()} == {"done": 1, "running": 1, "waiting": 1}
        assert asked(bench.slurm, "squeue") == before + 1
    bench.esis(place, "cancel", env=named).ok()
    assert (bench.slurm.job(1).states[2], other.job(100).states[1]) == ("CANCELLED", "CANCELLED")


def test_f84_where_the_record_does_not_name_the_default_cluster_it_is_asked_by_itself(
    bench: Bench, other: FakeSlurm
) -> None:
    """F84: records of earlier versions; the variable, which would lead elsewhere, isn't handed on to that question."""
    bench.slurm.set(accounting=True)
    place = bench.workflow("a")
    (place / "flaky").touch()
    bench.esis(place, "run", "-m", "0").ok()
    path = only_run(place) / "__esis__/submissions/0001.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "cluster": None}))
    bench.slurm.run(max_tasks=2)
    bench.slurm.set_state(1, "FAILED", [1])
    bench.slurm.set_state(1, "RUNNING", [2])
    age(only_run(place))
    named = {"SBATCH_CLUSTERS": "b"}
    assert bench.states(place) == {"done": 1, "running": 1, "failed": 1}
    bench.esis(place, "resubmit", "--failed", env=named).ok()
    before = asked(bench.slurm, "squeue")
    for env in ({}, named):
        shown = json.loads(bench.esis(place, "status", "--json", env=env).stdout)["states"]
        assert {state: value["count"] for state, value in shown.items()} == {"done": 1, "running": 1, "waiting": 1}
    assert asked(bench.slurm, "squeue") == before + 4
    assert "nothing to resubmit" in bench.esis(place, "resubmit").ok().stderr


@pytest.mark.parametrize("variable", ["SBATCH_CLUSTERS", "SLURM_CLUSTERS"])
def test_f87_steps_of_a_job_find_its_allocation_where_clusters_were_named(
    bench: Bench, other: FakeSlurm, variable: str
) -> None:
    """F87: sbatch hands its environment on; with SLURM_CLUSTERS in it every srun failed."""
    place = bench.workflow("a")
    (place / "template.sh").write_text(SRUN)
    both = {variable: "b,a"}
    bench.esis(place, "run", env=both).ok()
    assert bench.states(place) == {"waiting": 3}
    other.run()
    assert sorted(path.name for path in (only_run(place) / "cwd").glob("did.*")) == ["did.0", "did.1", "did.2"]
    assert bench.states(place) == {"done": 3}


def test_f85_a_run_that_is_reached_by_another_name_is_the_same(bench: Bench, tmp_path: Path) -> None:
    """F85: a bind mount, or a file system that is mounted twice: its jobs are its own by both."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    (tmp_path / "data").mkdir()
    with bound(bench.home, tmp_path / "data"):
        away = tmp_path / "data" / "a"
        age(only_run(place))
        assert bench.states(away) == {"waiting": 3}
        assert "nothing to resubmit" in bench.esis(away, "resubmit").ok().stderr
        assert len(bench.slurm.jobs()) == 1
        bench.esis(away, "cancel").ok()
        assert set(bench.slurm.job(1).states.values()) == {"CANCELLED"}
        bench.slurm.fail("sbatch", "lost_reply")
        bench.slurm.fail("squeue", "timeout", skip=1)
        assert bench.esis(place, "resubmit").code == 6
        assert "Slurm has it as job 2" in bench.esis(away, "run").ok().stderr
        assert len(bench.slurm.jobs()) == 2


def on_b(place: Path) -> None:
    """Let the template of a workflow name a cluster."""
    template = (place / "template.sh").read_text()
    (place / "template.sh").write_text(template.replace("#SBATCH --time=5\n", "#SBATCH --time=5\n#SBATCH -M b\n"))


@pytest.mark.parametrize("away", ["a", "b"])
def test_f86_no_job_waits_for_one_on_another_cluster(bench: Bench, other: FakeSlurm, away: str) -> None:
    """F86: there the id is a stranger's. The requirement is queued, and done when it's needed."""
    first, second = bench.workflow("a"), bench.workflow("b", requires=["a"])
    on_b({"a": first, "b": second}[away])
    for _ in range(2):
        refused = bench.esis(second, "dependency")
        assert refused.code == 3, refused.stderr
        assert "cluster a" in refused.stderr
        assert "cluster b" in refused.stderr
        assert "esis wait" in refused.stderr
        assert len(bench.slurm.jobs()) + len(other.jobs()) == 1
    for slurm in (bench.slurm, other):
        slurm.run()
    bench.esis(second, "dependency").ok()
    assert (len(bench.slurm.jobs()), len(other.jobs())) == (1, 1)
    assert not [job for slurm in (bench.slurm, other) for job in slurm.jobs() if job.dependency]


@pytest.mark.parametrize("variable", [None, "b", "a"])
def test_f86_on_one_cluster_they_wait_for_each_other(bench: Bench, other: FakeSlurm, variable: str | None) -> None:
    """F86: whoever names it; the variable outranks the templates, as with sbatch."""
    first, second = bench.workflow("a"), bench.workflow("b", requires=["a"])
    on_b(first)
    on_b(second)
    bench.esis(second, "dependency", env={"SBATCH_CLUSTERS": variable} if variable else {}).ok()
    where = bench.slurm if variable == "a" else other
    before, behind = where.jobs()
    assert behind.dependency == (("afterok", before.id, None),)


def test_f86_one_of_several_clusters_may_be_another_one(bench: Bench, other: FakeSlurm) -> None:
    """F86: sbatch chooses among them."""
    bench.workflow("a")
    second = bench.workflow("b", requires=["a"])
    refused = bench.esis(second, "dependency", env={"SBATCH_CLUSTERS": "b,a"})
    assert (refused.code, "a or b" in refused.stderr) == (3, True)
    assert (len(bench.slurm.jobs()), len(other.jobs())) == (0, 1)


@pytest.fixture
def remote(bench: Bench, other: FakeSlurm) -> Path:
    """A workflow of three arrays whose template names `b`."""
    for slurm in (bench.slurm, other):
        slurm.set(max_array_size=4)
    place = bench.workflow("away", 9)
    (place / "template.sh").write_text(TEMPLATE.replace("#SBATCH --time", "#SBATCH --clusters=b\n#SBATCH --time"))
    return place


def namesake(bench: Bench, job: int) -> JobView:
    """Submit an array of the user's own to the default cluster, which gets this id; return what it is then."""
    with bench.slurm.store.transaction() as cluster:
        cluster.next_id = job
    bench.slurm.call("sbatch", "--hold", "--array=0-3", "--wrap", "true", cwd=bench.home).check_returncode()
    return bench.slurm.job(job)


def by_hand(bench: Bench, place: Path) -> int:
    """Submit two tasks of the run by hand; return the job's id."""
    done = bench.slurm.call("sbatch", "--array=0-1", "../sbatch.sh", cwd=only_run(place) / "cwd")
    assert done.stdout.endswith(" on cluster b\n")
    return int(done.stdout.split()[3])


@pytest.mark.parametrize("room", [100, 7])
def test_f140_a_feeding_job_that_is_found_again_is_changed_on_its_own_cluster(
    bench: Bench, other: FakeSlurm, remote: Path, room: int
) -> None:
    """F140: let go again, or taken away, it and not the job of that id on the default cluster."""
    other.set(submit_limit=6)
    bench.esis(remote, "run", "--feed").ok()
    own = namesake(bench, 100)
    other.set(submit_limit=room)
    bench.esis(remote, "run", "--feed").ok()
    assert bench.slurm.job(100) == own
    assert other.job(100).states == {None: "CANCELLED" if room == 100 else "PENDING"}


@pytest.mark.parametrize("command", [["throttle", "1"], ["cancel"], ["cancel", "--tasks", "0"]])
def test_f140_a_job_by_hand_is_changed_on_the_cluster_that_has_it(
    bench: Bench, other: FakeSlurm, remote: Path, command: list[str]
) -> None:
    """F140: no record of a submission holds its id. (One array, so that the tasks of the job are known.)"""
    for slurm in (bench.slurm, other):
        slurm.set(max_array_size=1001)
    bench.esis(remote, "run").ok()
    other.run()
    job = by_hand(bench, remote)
    own = namesake(bench, job)
    bench.esis(remote, *command).ok()
    assert bench.slurm.job(job) == own
    changed = other.job(job)
    assert changed.throttle == 1 if command[0] == "throttle" else changed.states[0] == "CANCELLED"


def test_f140_where_several_clusters_were_asked_nothing_is_done_to_an_id(
    bench: Bench, other: FakeSlurm, remote: Path
) -> None:
    """F140: the same id may be another job's on the other one; what to do is told."""
    bench.esis(remote, "run").ok()
    other.run()
    job = by_hand(bench, remote)
    own, waiting = namesake(bench, job), other.job(job)
    refused = bench.esis(remote, "cancel", env={"SLURM_CLUSTERS": "a,b"})
    assert refused.code == 2
    assert f"job {job} is on one of the clusters a, b" in refused.stderr
    assert f"scancel -M <cluster> {job}" in refused.stderr
    assert (bench.slurm.job(job), other.job(job)) == (own, waiting)


@pytest.mark.parametrize("command", [["throttle", "1"], ["cancel"]])
def test_f140_where_nothing_tells_the_cluster_of_one_job_nothing_is_done_to_the_others(
    bench: Bench, other: FakeSlurm, remote: Path, command: list[str]
) -> None:
    """F140: else half of it is changed, and what is said tells of the other half alone."""
    bench.esis(remote, "run").ok()
    by_hand(bench, remote)
    before = other.jobs()
    refused = bench.esis(remote, *command, env={"SLURM_CLUSTERS": "a,b"})
    assert (refused.code, "nothing tells on which" in refused.stderr) == (2, True)
    assert other.jobs() == before


@pytest.mark.parametrize("later", [False, True])
def test_f146_arrays_are_cut_as_the_named_cluster_takes_them(bench: Bench, other: FakeSlurm, later: bool) -> None:
    """F146: the default one takes larger arrays; also where the other has become stricter since the run was built."""
    other.set(max_array_size=1001 if later else 4)
    place = bench.workflow("away", 9)
    (place / "template.sh").write_text(TEMPLATE.replace("#SBATCH --time", "#SBATCH --clusters=b\n#SBATCH --time"))
    if later:
        other.fail("sbatch", "refuse", message="sbatch: error: Requested node configuration is not available")
        assert bench.esis(place, "run").code == 5
        other.set(max_array_size=4)
    bench.esis(place, "run").ok()
    assert [len(job.states) for job in other.jobs()] == [4, 4, 1]
    assert not bench.slurm.jobs()
    assert submission(place, 1)["jobs"] == [{"id": str(job.id), "cluster": "b"} for job in other.jobs()]


def test_f146_where_sbatch_chooses_arrays_are_cut_as_each_cluster_takes_them(bench: Bench, other: FakeSlurm) -> None:
    """F146: of several named clusters the smallest limits count."""
    bench.slurm.set(max_array_size=6)
    other.set(max_array_size=5, scheduler_parameters="max_array_tasks=4")
    place = bench.workflow("away", 9)
    bench.esis(place, "run", env={"SBATCH_CLUSTERS": "b,a"}).ok()
    assert [len(job.states) for job in other.jobs()] == [4, 4, 1]


def test_f146_limits_of_which_one_cluster_told_none_are_not_noted(bench: Bench, other: FakeSlurm) -> None:
    """F146: Slurm's defaults would be taken for them from then on."""
    place = bench.workflow("away", 3)
    bench.slurm.fail("scontrol", "timeout", skip=1)
    bench.esis(place, "run", env={"SBATCH_CLUSTERS": "a,b"})
    told = json.loads((only_run(place) / "__esis__/provenance.json").read_text())
    assert told["slurm_limits"] is None
