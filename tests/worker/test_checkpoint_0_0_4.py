"""The checkpoint interface of ESIS 0.0.4: its names, values, errors and files go on working."""

from __future__ import annotations

import copy
import errno
import importlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import esis
import esis.checkpoint
from esis.checkpoint import checkpoint_facility
from esis.checkpoint.disk import seed_number, seed_text
from esis.checkpoint.restore import restore
from esis.checkpoint.writers import Writer, claim
from esis.errors import BadInput, CorruptState, EsisError, FileTrouble
from esis.model.workdir import RunDir
from esis.processes import process_start
from esis.worker.durable import sweep
from tests.mounts import bound

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy

# A generator of random numbers that takes what NumPy's old one takes.
PICKY = """
def generator(seed):
    import random
    if not 0 <= seed <= 2**32 - 1:
        raise ValueError("Seed must be between 0 and 2**32 - 1")
    return random.Random(seed)
"""

PLAIN = (
    PICKY
    + """
import json, os
import esis
task = os.environ["SLURM_ARRAY_TASK_ID"]
facility = esis.checkpoint.checkpoint_facility(17)
if not facility.has_checkpoint("conf" + task):
    cp = facility.create_checkpoint("conf" + task)
    generator(cp.get_seed_int())
    with open(cp.get_file_name("lattice"), "w") as stream:
        stream.write(f"made with {cp.get_seed_int()}")
    open(cp.get_file_name("second"), "w").close()
    if os.path.exists("die"):
        os.kill(os.getpid(), 9)
    cp.set_OK()
cp = facility.load_checkpoint("conf" + task)
print(open(cp.get_file_name("lattice")).read(), cp.get_seed())
"""
)

ITERATIVE = """
import os
from esis.checkpoint import checkpoint_facility
facility = checkpoint_facility(17)
name = "mc" + os.environ["SLURM_ARRAY_TASK_ID"]
if facility.has_iterative_checkpoint(name):
    cp = facility.open_iterative(name)
else:
    cp = facility.create_iterative_checkpoint(name)
    open(cp.get_file_name("sum"), "w").write("0")
if not facility.iterative_checkpoint_is_finished(name):
    for i in range(cp.get_iteration(), 5):
        total = int(open(cp.get_latest("sum")).read())
        with open(cp.get_file_name("sum"), "w") as stream:
            stream.write(str(total))
            stream.flush()
            if os.path.exists(f"die{i}"):
                os.remove(f"die{i}")
                stream.write("garbage")
                stream.flush()
                os.kill(os.getpid(), 9)
            stream.seek(0)
            stream.write(str(total + i))
        cp.set_iteration(i + 1)
    cp.set_OK()
    facility.set_run_OK()
print(cp.get_iteration(), open(cp.get_file_name("sum")).read(), facility.iterative_checkpoint_is_finished(name))
"""
ROOT = Path(esis.__file__).parents[1]


def worker(run: RunDir, text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", text],
        cwd=run.cwd,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "SLURM_ARRAY_TASK_ID": "3"},
    )


def facility_on(run: RunDir, base: object = 17, **more: Any) -> checkpoint_facility:
    return checkpoint_facility(base, overwrite_path=run.path, **more)


def meta_of(run: RunDir, name: str) -> dict[str, Any]:
    found = json.loads((run.checkpoints / name / "checkpoint.meta.json").read_text())
    assert isinstance(found, dict)
    return found


def made_by_0_0_4(run: RunDir, name: str, kind: str = "Checkpoint", ok: bool = True, **changes: Any) -> Path:
    """Make a checkpoint as COMPAT.md describes it; a change of None leaves a field out."""
    directory = run.checkpoints / name
    (directory / "storage").mkdir(parents=True)
    (directory / "storage" / "x").write_text(name)
    meta = {
        "__type__": kind,
        "created_on": "03.02.2022-11:12:13",
        "original_internal": "/scratch/old/x",
        "storage_rela": "storage",
        "state_OK_file": "checkpoint.ok",
        "external_storage_path": "/scratch/none",
        "workdir_name": run.path.name,
        "external_link_name": "external",
        "baseseed": 5,
        **({"iteration": 4} if kind == "IterativeCheckpoint" else {}),
        **changes,
    }
    (directory / "checkpoint.meta.json").write_text(json.dumps({k: v for k, v in meta.items() if v is not None}))
    if ok:
        (directory / "checkpoint.ok").write_text("1\n")
    return directory


def dead_writer() -> Writer:
    """Describe a process of this machine that has ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        writer = Writer.current()
        writer.pid, writer.start = child.pid, process_start(child.pid) or 0
        child.communicate(b"\n")
    return writer


def mark_of(writer: Writer) -> str:
    return writer.line().replace("/", "+").replace(" ", ",")


def marks(run: RunDir, name: str) -> list[str]:
    return sorted(os.listdir(run.checkpoints / name / "checkpoint.opened"))


def joined_by(run: RunDir, name: str, *writers: Writer) -> None:
    for writer in writers:
        (run.checkpoints / name / "checkpoint.opened" / mark_of(writer)).touch()


def opened_by(run: RunDir, name: str, *writers: Writer) -> None:
    """Let these have it open, and nobody else."""
    place = run.checkpoints / name / "checkpoint.opened"
    for mark in place.iterdir():
        mark.unlink()
    joined_by(run, name, *writers)


def opened_by_a_dead_process(run: RunDir, name: str) -> None:
    opened_by(run, name, dead_writer())


# --- how it is imported


def test_its_modules_can_be_imported() -> None:
    """`esis.checkpoint`, and by their own names the facility and the checkpoints."""
    assert importlib.import_module("esis.checkpoint.facility").checkpoint_facility is checkpoint_facility
    assert importlib.import_module("esis.checkpoint.checkpoint").iterative_checkpoint
    assert esis.checkpoint.checkpoint_facility is checkpoint_facility
    for text in (
        "import esis; esis.checkpoint.checkpoint_facility",
        "import esis.checkpoint.facility as f; f.checkpoint_facility",
        "from esis.checkpoint.checkpoint import checkpoint, iterative_checkpoint",
        "import esis; esis.checkpoint.checkpoint.checkpoint",
    ):
        subprocess.run([sys.executable, "-c", text], env={"PYTHONPATH": str(ROOT)}, check=True)


# --- seeds


@pytest.mark.parametrize(
    ("base", "name", "text", "number"),
    [
        (17, "conf3", "17conf3", 17 + 99 + 111 + 110 + 102 + 51),
        (0, "", "0", 0),
        (5, "a", "5a", 102),
        ("ab", "c", "abc", 97 + 98 + 99),
        ("", "b", "b", 98),
        (-3, "b", "-3b", 95),
    ],
)
def test_seeds_are_those_of_0_0_4(base: int | str, name: str, text: str, number: int) -> None:
    """Base seed and name joined; base seed (of a text: its code points) and the code points of the name added up."""
    assert (seed_text(base, name, None), seed_number(base, name, None)) == (text, number)
    assert (seed_text(base, name, 7), seed_number(base, name, 7)) == (text + "7", number + 7)


@RELAXED
@given(st.integers(0, 2**31) | st.text(max_size=30), st.text(min_size=1, max_size=200), st.integers(0, 2**30))
def test_seeds_are_sums_whatever_the_names(base: int | str, name: str, iteration: int) -> None:
    """They fit a generator of 32 bits where 0.0.4's did, and each iteration's is the next number."""
    expected = (base if isinstance(base, int) else sum(ord(c) for c in base)) + sum(ord(c) for c in name)
    assert seed_number(base, name, None) == expected
    assert seed_number(base, name, iteration) == expected + iteration
    assert seed_text(base, name, iteration) == str(base) + name + str(iteration)


def test_a_checkpoint_tells_its_seeds_and_they_follow_the_iteration(run: RunDir) -> None:
    facility = facility_on(run)
    plain = facility.create_checkpoint("a")
    assert (plain.get_seed(), plain.get_seed_int()) == ("17a", 17 + 97)
    state = facility.create_iterative_checkpoint("b")
    assert (state.get_seed(), state.get_seed_int()) == ("17b0", 17 + 98)
    state.set_iteration(12)
    assert (state.get_seed(), state.get_seed_int()) == ("17b12", 17 + 98 + 12)
    text = facility_on(run, "ab").create_checkpoint("c")
    assert (text.get_seed(), text.get_seed_int()) == ("abc", 97 + 98 + 99)


def test_base_seed_and_iteration_are_those_of_the_checkpoint_itself(run: RunDir) -> None:
    """Whatever facility loads it, also where somebody wrote other ones into its file."""
    facility = facility_on(run, 17)
    facility.create_checkpoint("p").set_OK()
    facility.create_iterative_checkpoint("i").set_iteration(3)
    for other in (facility_on(run, 99), facility_on(run, "text"), checkpoint_facility.open_external(run.path)):
        assert other.load_checkpoint("p").get_seed_int() == 17 + ord("p")
        assert (other.open_iterative("i").get_iteration(), other.open_iterative("i").get_seed()) == (3, "17i3")
    for name, changes in (("p", {"baseseed": "ab"}), ("i", {"baseseed": 8, "iteration": 21})):
        path = run.checkpoints / name / "checkpoint.meta.json"
        path.write_text(json.dumps({**meta_of(run, name), **changes}))
    assert facility.load_checkpoint("p").get_seed() == "abp"
    assert facility.open_iterative("i").get_seed() == "8i21"


@pytest.mark.parametrize("base", [1.5, None, b"x", [1]])
def test_a_base_seed_is_a_whole_number_or_a_text(run: RunDir, base: object) -> None:
    with pytest.raises(ValueError, match="is no base seed"):
        facility_on(run, base)


def test_a_whole_number_of_numpy_is_one(run: RunDir) -> None:
    class Number:
        def __index__(self) -> int:
            return 12

    facility_on(run, Number()).create_checkpoint("a").set_OK()
    assert meta_of(run, "a")["baseseed"] == 12


# --- plain ones


def test_a_plain_checkpoint_is_there_once_it_is_ok(run: RunDir) -> None:
    """A worker that was killed before set_OK begins it anew."""
    (run.cwd / "die").touch()
    assert worker(run, PLAIN).returncode == -signal.SIGKILL
    directory = run.checkpoints / "conf3"
    assert sorted(os.listdir(directory)) == ["checkpoint.begun", "checkpoint.meta.json", "storage"]
    assert not facility_on(run).has_checkpoint("conf3")
    (run.cwd / "die").unlink()
    first = worker(run, PLAIN)
    assert (first.returncode, first.stdout) == (0, "made with 490 17conf3\n"), first.stderr
    assert sorted(os.listdir(directory)) == ["checkpoint.meta.json", "checkpoint.ok", "storage"]
    assert sorted(os.listdir(directory / "storage")) == ["lattice", "second"]
    (directory / "storage" / "lattice").write_text("kept")
    assert worker(run, PLAIN).stdout == "kept 17conf3\n"


def test_one_name_is_created_once(run: RunDir) -> None:
    """ValueError where there is a complete one, and where a living process makes it; what a dead one left is free."""
    facility = facility_on(run)
    made = facility.create_checkpoint("a")
    Path(made.get_file_name("f")).write_text("mine")
    for again in (facility, facility_on(run)):
        for create in (again.create_checkpoint, again.create_iterative_checkpoint):
            with pytest.raises(ValueError, match="being made by process"):
                create("a")
    assert Path(made.get_file_name("f")).read_text() == "mine"
    made.set_OK()
    for create in (facility.create_checkpoint, facility.create_iterative_checkpoint):
        with pytest.raises(ValueError, match="there is a complete checkpoint a"):
            create("a")
    child = os.fork()
    if child == 0:
        Path(facility.create_checkpoint("b").get_file_name("half")).write_text("ha")
        os._exit(0)
    os.waitpid(child, 0)
    anew = facility.create_checkpoint("b")
    assert os.listdir(Path(anew.get_file_name("x")).parent) == []


@pytest.mark.parametrize(
    ("theirs", "mine", "running", "free"),
    [
        ("3.1.70.0.1700000000", "3.1.70.0.1700000000", True, False),  # another rank of one attempt
        ("3.1.70.0.1700000000", "4.1.70.0.1700000000", True, False),  # another task
        ("3.0.70.0", "4.1.70.0.1700000000", False, False),  # the same, and it writes no records
        ("3.1.70.0.1700000000", "", True, False),  # by hand on the login node
        ("", "", False, False),
        ("3.1.70.0.1700000000", "3.2.88.0.1700000900", True, True),  # resubmitted
        ("3.1.70.0.1700000000", "4.1.70.0.1700000000", False, True),  # its end is recorded
        ("3.1.70.0.1700000000", "", False, True),
    ],
)
def test_f160_what_a_process_on_another_machine_makes_is_not_begun_anew_under_its_hands(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, theirs: str, mine: str, running: bool, free: bool
) -> None:
    """Two tasks that need one thing, or ranks: one set_OK would declare a mixture of both their files complete."""
    for name, create in (
        ("a", facility_on(run).create_checkpoint),
        ("b", facility_on(run).create_iterative_checkpoint),
    ):
        Path(create(name).get_file_name("f")).write_text("theirs")
        writer = Writer.current()
        writer.host, writer.attempt, writer.writes = "elsewhere", theirs, True
        (run.checkpoints / name / "checkpoint.begun").write_text(f"{writer.line()}\n")
    run.tasks.mkdir(exist_ok=True)
    if running:
        (run.tasks / f"{theirs}.running").touch()
    if mine:
        monkeypatch.setenv("SLURM_ESIS_RECORD", str(run.tasks / mine))
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", mine.split(".")[2])
    facility = facility_on(run)
    assert facility.has_iterative_checkpoint("b") is not free
    for name, create in (("a", facility.create_checkpoint), ("b", facility.create_iterative_checkpoint)):
        if free:
            assert os.listdir(Path(create(name).get_file_name("x")).parent) == []
            continue
        with pytest.raises(ValueError, match="on elsewhere; if that is gone: remove "):
            create(name)
        assert (run.checkpoints / name / "storage" / "f").read_text() == "theirs"


RACE = """
import sys
import esis.checkpoint
facility = esis.checkpoint.checkpoint_facility(1)
for number in range(20):
    input()
    try:
        with open(facility.create_checkpoint(f"{sys.argv[1]}{number}").get_file_name("f"), "w") as stream:
            stream.write(sys.argv[2])
        print("made", flush=True)
    except ValueError:
        print("refused", flush=True)
"""


@pytest.mark.parametrize("left", [False, True])
def test_f161_of_processes_that_begin_one_at_the_same_moment_one_does(run: RunDir, left: bool) -> None:
    """Also where a killed one has left it; the others get the ValueError that they got from 0.0.4."""
    dead = dead_writer().line()
    for number in range(20) if left else ():
        facility_on(run).create_checkpoint(f"c{number}")
        (run.checkpoints / f"c{number}" / "checkpoint.begun").write_text(f"{dead}\n")
    argv = [sys.executable, "-c", RACE, "c"]
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": run.cwd, "text": True, "bufsize": 1}
    env = {"PYTHONPATH": str(ROOT)}
    racers = [subprocess.Popen([*argv, str(which)], env=env, **pipe) for which in range(3)]  # type: ignore[call-overload]
    for number in range(20):
        for racer in racers:
            racer.stdin.write("\n")
        said = [racer.stdout.readline().strip() for racer in racers]
        assert sorted(said) == ["made", "refused", "refused"]
        assert (run.checkpoints / f"c{number}" / "storage" / "f").read_text() == str(said.index("made"))
        assert not [name for name in os.listdir(run.checkpoints / f"c{number}") if name.startswith(".esis-tmp-")]
    for racer in racers:
        racer.communicate()


def test_f161_a_slow_one_takes_nothing_from_one_that_was_faster(run: RunDir) -> None:
    """It had judged what a killed process left; by now a living one makes it, or has completed it."""
    directory = run.checkpoints / "a"
    facility_on(run).create_checkpoint("a")
    judged = [dead_writer()]
    mark = (directory / "checkpoint.begun").read_text()
    assert not claim(directory, judged)
    assert (directory / "checkpoint.begun").read_text() == mark
    assert not claim(directory, [])
    assert sorted(os.listdir(directory)) == ["checkpoint.begun", "checkpoint.meta.json", "storage"]


@pytest.mark.parametrize("links", [True, False])
def test_f161_a_mark_that_was_taken_from_a_faster_one_is_put_back(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """He was faster after the last look; also on a file system without hard links."""
    directory = run.checkpoints / "a"
    facility_on(run).create_checkpoint("a")
    mark, faster = directory / "checkpoint.begun", (directory / "checkpoint.begun").read_text()
    judged = dead_writer()
    mark.write_text(f"{judged.line()}\n")
    rename = Path.rename

    def late(path: Path, target: Path) -> Path:
        if path == mark:
            mark.write_text(faster)
        return rename(path, target)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no hard links")

    monkeypatch.setattr(Path, "rename", late)
    if not links:
        monkeypatch.setattr(os, "link", refuse)
    assert not claim(directory, [judged])
    assert mark.read_text() == faster
    assert sorted(os.listdir(directory)) == ["checkpoint.begun", "checkpoint.meta.json", "storage"]


def test_f161_the_mark_is_there_again_where_it_was_swept_from_a_slow_ones_hands(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a kill would leave half a file that counts as something to go on from."""
    mark = run.checkpoints / "a" / "checkpoint.begun"

    def taken(directory: Path) -> None:
        mark.rename(directory / ".esis-tmp-1-ab")
        sweep(directory)

    monkeypatch.setattr("esis.checkpoint.facility.sweep", taken)
    facility_on(run).create_iterative_checkpoint("a")
    assert Writer.parse(mark.read_text()).is_same(Writer.current())


def test_f169_what_another_rank_copies_while_files_are_put_back_is_left_alone(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both had found nobody at it; one is through, and sets an iteration, while the other still compares files."""
    facility_on(run).create_iterative_checkpoint("a").set_iteration(1)
    opened_by_a_dead_process(run, "a")

    def slow(*places: Path) -> None:
        (run.checkpoints / "a/kept/.esis-tmp-1-ab").mkdir()
        restore(*places)

    monkeypatch.setattr("esis.checkpoint.facility.restore", slow)
    (run.checkpoints / "a/kept/.esis-tmp-1-cd").mkdir()
    facility_on(run).open_iterative("a")
    assert sorted(os.listdir(run.checkpoints / "a/kept")) == [".esis-tmp-1-ab", "1"]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_f211_a_facility_and_its_checkpoints_can_be_given_to_the_processes_of_a_pool(
    run: RunDir, again: Callable[[Any], Any]
) -> None:
    facility = facility_on(run)
    plain = again(again(facility).create_checkpoint("conf"))
    plain.set_OK()
    assert facility.has_checkpoint("conf")
    assert plain.get_seed() == "17conf"
    again(facility.create_iterative_checkpoint("mc")).set_iteration(3)
    assert again(again(facility).open_external(run.path).open_iterative("mc")).get_iteration() == 3


def test_one_that_is_not_ok_can_be_loaded_and_completed(run: RunDir) -> None:
    facility = facility_on(run)
    Path(facility.create_checkpoint("a").get_file_name("f")).write_text("half")
    loaded = facility.load_checkpoint("a")
    assert Path(loaded.get_file_name("f")).read_text() == "half"
    loaded.set_OK()
    assert facility.has_checkpoint("a")
    assert (run.checkpoints / "a" / "checkpoint.ok").read_text() == "1\n"


# --- iterative ones


@pytest.mark.parametrize("dies", [[], [0], [3], [1, 2, 4]])
def test_an_iterative_one_goes_on_where_it_was(run: RunDir, dies: list[int]) -> None:
    """Also where the worker was killed while it wrote over its own state."""
    for number in dies:
        (run.cwd / f"die{number}").touch()
    codes = [worker(run, ITERATIVE).returncode for _ in dies]
    assert codes == [-signal.SIGKILL] * len(dies)
    done = worker(run, ITERATIVE)
    assert (done.returncode, done.stdout) == (0, "5 10 True\n"), done.stderr
    assert worker(run, ITERATIVE).stdout == "5 10 True\n"
    directory = run.checkpoints / "mc3"
    assert (directory / "storage" / "sum").read_text() == "10"
    assert (directory / "checkpoint.ok").read_text() == "1\n"
    assert meta_of(run, "mc3")["iteration"] == 5
    assert run.completed.read_text().strip() == "1"


def test_one_exists_from_its_creation_on_unless_its_maker_died_before_anything_was_kept(run: RunDir) -> None:
    """There would be nothing to go on from: what it left may be half a file."""
    facility = facility_on(run)
    assert not facility.has_iterative_checkpoint("a")
    facility.create_iterative_checkpoint("a")
    assert facility_on(run).has_iterative_checkpoint("a")
    assert facility_on(run).open_iterative("a").get_iteration() == 0
    (run.cwd / "die0").touch()
    assert worker(run, ITERATIVE).returncode == -signal.SIGKILL
    assert not facility.has_iterative_checkpoint("mc3")
    assert facility.open_iterative("mc3").get_iteration() == 0  # who insists gets it as it is
    (run.cwd / "die3").touch()
    assert worker(run, ITERATIVE).returncode == -signal.SIGKILL
    assert facility.has_iterative_checkpoint("mc3")
    for create in (facility.create_iterative_checkpoint, facility.create_checkpoint):
        with pytest.raises(ValueError, match="open_iterative opens it"):
            create("mc3")


RANK = """
import sys
import esis.checkpoint
rank = sys.argv[1]
state = esis.checkpoint.checkpoint_facility(1).open_iterative("a")
for step in range(1, 21):
    input()
    with open(state.get_latest(rank), "w") as stream:
        stream.write(str(step))
    print("written", flush=True)
    input()
    state.set_iteration(step)
    print(state.get_iteration(), flush=True)
input()
state.set_OK()
print("ok", flush=True)
"""


def test_f169_all_ranks_may_set_the_iteration_at_the_same_moment(run: RunDir) -> None:
    """They did with 0.0.4. What a killed attempt has left half-way goes when the next one opens it."""
    facility_on(run).create_iterative_checkpoint("a").set_iteration(0)
    opened_by_a_dead_process(run, "a")
    (run.checkpoints / "a/kept/.esis-tmp-1-ab").mkdir()
    argv = [sys.executable, "-c", RANK]
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": run.cwd, "text": True, "bufsize": 1}
    env = {"PYTHONPATH": str(ROOT)}
    ranks = [subprocess.Popen([*argv, str(rank)], env=env, **pipe) for rank in range(3)]  # type: ignore[call-overload]

    def all_say() -> list[str]:
        for rank in ranks:
            rank.stdin.write("\n")
        return [rank.stdout.readline().strip() for rank in ranks]

    for step in range(1, 21):
        assert all_say() == ["written"] * 3
        assert all_say() == [str(step)] * 3
        (number,) = os.listdir(run.checkpoints / "a/kept")
        assert {path.read_text() for path in (run.checkpoints / "a/kept" / number / "storage").iterdir()} == {str(step)}
    assert all_say() == ["ok"] * 3
    for rank in ranks:
        rank.communicate()
    assert facility_on(run).iterative_checkpoint_is_finished("a")
    assert facility_on(run).open_iterative("a").get_iteration() == 20


def test_f167_the_end_of_a_forked_process_is_not_that_of_the_maker(run: RunDir) -> None:
    """It runs what was registered for the end, too; what the maker leaves when it is killed is half a file."""
    code = """
import os, signal, sys
import esis.checkpoint
esis.checkpoint.checkpoint_facility(1).create_iterative_checkpoint("a")
child = os.fork()
if child == 0:
    sys.exit(0)
os.waitpid(child, 0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=run.cwd, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not facility_on(run).has_iterative_checkpoint("a")


def test_one_is_finished_once_set_ok_was_called(run: RunDir) -> None:
    facility = facility_on(run)
    assert not facility.iterative_checkpoint_is_finished("a")
    state = facility.create_iterative_checkpoint("a")
    state.set_iteration(2)
    assert not facility.iterative_checkpoint_is_finished("a")
    facility.set_run_OK()  # says nothing of a checkpoint
    assert not facility.iterative_checkpoint_is_finished("a")
    state.set_OK()
    assert facility_on(run, 4).iterative_checkpoint_is_finished("a")
    facility.create_checkpoint("plain").set_OK()
    assert not facility.iterative_checkpoint_is_finished("plain")
    assert not facility.has_iterative_checkpoint("plain")
    assert facility.load_checkpoint("a").get_seed() == "17a2"


def test_get_latest_is_the_path_of_get_file_name(run: RunDir, tmp_path: Path) -> None:
    state = facility_on(run, external_storage_path=tmp_path / "large").create_iterative_checkpoint("a")
    for external in (False, True):
        assert state.get_latest("f", external) == state.get_file_name("f", store_external=external)


# --- the run


@pytest.mark.parametrize("checkpoints", [True, False])
def test_set_run_ok_marks_the_run_without_an_argument(run: RunDir, checkpoints: bool) -> None:
    """Also without any checkpoint, and from the working directory alone."""
    text = "import esis.checkpoint as c; f = c.checkpoint_facility(1); "
    text += "f.create_iterative_checkpoint('x'); " if checkpoints else ""
    run.completed.write_text("0")
    done = worker(run, text + "f.set_run_OK()")
    assert done.returncode == 0, done.stderr
    assert run.completed.read_text().strip() == "1"
    assert not (run.checkpoints / "x" / "checkpoint.ok").exists()


def test_the_run_is_the_one_around_the_working_directory(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """ValueError outside of one; a job knows its run wherever its worker goes; any wrkdir.* will do."""
    monkeypatch.chdir(run.cwd)
    assert checkpoint_facility.get_workdir() == str(run.path)
    deep = run.cwd / "wrkdir.scratch"
    deep.mkdir()
    monkeypatch.chdir(deep)
    assert checkpoint_facility(1).get_workdir() == str(run.path)
    monkeypatch.setenv("SLURM_SUBMIT_DIR", "/")
    monkeypatch.chdir(tmp_path)
    for call in (checkpoint_facility.get_workdir, lambda: checkpoint_facility(1)):
        with pytest.raises(ValueError, match="not inside of a run"):
            call()
    monkeypatch.setenv("SLURM_SUBMIT_DIR", str(run.cwd))
    assert checkpoint_facility.get_workdir() == str(run.path)
    (tmp_path / "wrkdir.test").mkdir()
    monkeypatch.chdir(tmp_path / "wrkdir.test")
    assert checkpoint_facility.get_workdir() == str(tmp_path / "wrkdir.test")
    checkpoint_facility(1).create_checkpoint("a").set_OK()
    assert (tmp_path / "wrkdir.test/__checkpoints__/a/checkpoint.ok").exists()


def test_overwrite_path_is_a_run_that_may_have_no_checkpoints_yet(tmp_path: Path) -> None:
    place = tmp_path / "wrkdir.mine"
    place.mkdir()
    facility = checkpoint_facility("s", overwrite_path=str(place))
    assert not facility.has_checkpoint("a")
    assert os.listdir(place) == []
    facility.create_checkpoint("a").set_OK()
    assert (place / "__checkpoints__/a/storage").is_dir()
    facility.set_run_OK()
    assert (place / "__esis__/completed.state").read_text().strip() == "1"


def test_a_requirement_is_read_and_not_written(run: RunDir, tmp_path: Path) -> None:
    worker(run, PLAIN)
    worker(run, ITERATIVE)
    for opened in (
        checkpoint_facility.open_external(run.path),
        checkpoint_facility(5, overwrite_path=tmp_path).open_external(str(run.path)),
    ):
        assert opened.has_checkpoint("conf3")
        assert not opened.has_checkpoint("conf4")
        plain, state = opened.load_checkpoint("conf3"), opened.open_iterative("mc3")
        assert plain.get_seed_int() == 490
        assert Path(plain.get_file_name("lattice")).read_text().startswith("made with")
        assert (state.get_iteration(), Path(state.get_file_name("sum")).read_text()) == (5, "10")
    external = checkpoint_facility.open_external(run.path)
    for action in (
        lambda: external.create_checkpoint("new"),
        lambda: external.create_iterative_checkpoint("new"),
        lambda: external.load_checkpoint("conf3").set_OK(),
        external.set_run_OK,
        lambda: external.open_iterative("mc3").set_iteration(6),
    ):
        with pytest.raises(BadInput, match="to be read"):
            action()
    nothing = checkpoint_facility.open_external(tmp_path)
    assert not nothing.has_checkpoint("conf3")


def test_a_run_that_is_not_there_is_a_file_not_found_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "nowhere", str(tmp_path / "file")):
        with pytest.raises(FileNotFoundError, match="there is no run") as caught:
            checkpoint_facility.open_external(path)
        assert isinstance(caught.value, EsisError)
        assert (caught.value.errno, caught.value.filename) == (2, str(path))


def test_a_half_written_requirement_is_read_as_of_its_last_iteration(run: RunDir) -> None:
    (run.cwd / "die3").touch()
    assert worker(run, ITERATIVE).returncode == -signal.SIGKILL
    state = checkpoint_facility.open_external(run.path).open_iterative("mc3")
    assert (state.get_iteration(), Path(state.get_file_name("sum")).read_text()) == (3, "3")
    assert "garbage" in (run.checkpoints / "mc3" / "storage" / "sum").read_text()


# --- large files


def test_large_files_are_below_the_storage_and_the_name_of_the_run(run: RunDir, tmp_path: Path) -> None:
    """Reached through a link, made on first use; the checkpoints themselves stay in the run."""
    root = tmp_path / "large"
    facility = facility_on(run, external_storage_path=str(root))
    made = facility.create_checkpoint("a")
    assert not root.exists()
    assert not (run.checkpoints / "a" / "external").is_symlink()
    path = Path(made.get_file_name("big", store_external=True))
    assert path.parent == run.checkpoints / "a" / "external"
    assert path.parent.is_symlink()
    assert root / run.path.name in path.resolve().parents
    path.write_text("large")
    assert made.get_external_storage_path() == str(root)
    assert made.get_file_name("big") == str(run.checkpoints / "a" / "storage" / "big")
    made.set_OK()
    loaded = checkpoint_facility(3, overwrite_path=run.path).load_checkpoint("a")
    assert Path(loaded.get_file_name("big", True)).read_text() == "large"
    assert loaded.get_external_storage_path() == str(root)
    assert (
        Path(checkpoint_facility.open_external(run.path).load_checkpoint("a").get_file_name("big", True)).read_text()
        == "large"
    )
    other = facility.create_iterative_checkpoint("b")
    assert not Path(other.get_file_name("big", True)).exists(), "each checkpoint has its own"
    Path(other.get_file_name("big", True)).write_text("another")
    assert path.read_text() == "large"


def test_runs_and_checkpoints_that_share_a_storage_share_no_names(tmp_path: Path) -> None:
    for name in ("wrkdir.one", "wrkdir.two"):
        (tmp_path / name).mkdir()
        facility = checkpoint_facility(1, str(tmp_path / "large"), tmp_path / name)
        assert not facility.has_checkpoint("a")
        made = facility.create_checkpoint("a")
        path = Path(made.get_file_name("big", True))
        assert not path.exists()
        path.write_text(name)
        made.set_OK()


def test_without_a_storage_the_first_use_is_an_error_and_the_environment_may_choose(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never the import, nor what needs no large files."""
    monkeypatch.delenv("ESIS_EXTERNAL_STORAGE", raising=False)
    made = facility_on(run).create_checkpoint("a")
    for call in (made.get_external_storage_path, lambda: made.get_file_name("big", store_external=True)):
        with pytest.raises(ValueError, match="ESIS_EXTERNAL_STORAGE"):
            call()
    monkeypatch.setenv("ESIS_EXTERNAL_STORAGE", str(tmp_path / "chosen"))
    Path(made.get_file_name("big", store_external=True)).touch()
    assert list((tmp_path / "chosen" / run.path.name).rglob("big"))
    made.set_OK()
    assert meta_of(run, "a")["external_storage_path"] == str(tmp_path / "chosen")


def test_what_a_killed_attempt_left_outside_is_gone_when_it_is_begun_anew(run: RunDir, tmp_path: Path) -> None:
    facility = facility_on(run, external_storage_path=tmp_path)
    child = os.fork()
    if child == 0:
        Path(facility.create_checkpoint("a").get_file_name("big", True)).write_text("half")
        os._exit(0)
    os.waitpid(child, 0)
    anew = facility.create_checkpoint("a")
    assert not (run.checkpoints / "a" / "external").exists()
    assert not Path(anew.get_file_name("big", True)).exists()


def test_begun_anew_a_checkpoint_takes_nothing_from_one_whose_name_goes_on(run: RunDir, tmp_path: Path) -> None:
    """`a/b` is a name like another: its large files lie below those of `a`."""
    facility = facility_on(run, external_storage_path=tmp_path)
    inner = facility.create_checkpoint("a/b")
    kept = Path(inner.get_file_name("big", True))
    kept.write_text("whole")
    inner.set_OK()
    child = os.fork()
    if child == 0:
        half = Path(facility.create_checkpoint("a").get_file_name("sub/big", True))
        half.parent.mkdir()
        half.write_text("half")
        os._exit(0)
    os.waitpid(child, 0)
    assert not Path(facility.create_checkpoint("a").get_file_name("sub/big", True)).exists()
    assert kept.read_text() == "whole"


def test_a_copy_of_a_run_leaves_the_large_files_of_the_first_alone(tmp_path: Path) -> None:
    """One hash, one name, one place below the same root: the copy is told, and nothing is removed or written over."""
    places = [tmp_path / name / "wrkdir.same" for name in ("one", "two")]
    for place in places:
        place.mkdir(parents=True)
    first, second = (checkpoint_facility(1, str(tmp_path / "large"), place) for place in places)
    made = first.create_checkpoint("a")
    kept = Path(made.get_file_name("big", True))
    kept.write_text("whole")
    made.set_OK()
    with pytest.raises(ValueError, match=r"one/wrkdir\.same"):
        second.create_checkpoint("a").get_file_name("big", True)
    assert kept.read_text() == "whole"
    apart = checkpoint_facility(1, str(tmp_path / "other"), places[1])
    Path(apart.create_checkpoint("b").get_file_name("big", True)).write_text("of the second")
    places[0].parent.rename(tmp_path / "moved")  # a run that was moved goes on with its own
    moved = checkpoint_facility(1, str(tmp_path / "large"), tmp_path / "moved/wrkdir.same")
    assert Path(moved.load_checkpoint("a").get_file_name("big", True)).read_text() == "whole"


def test_f123_the_link_of_a_copied_run_leads_nobody_to_the_large_files_of_the_first(tmp_path: Path) -> None:
    """What is complete can be read through it, nothing is written over; a run that was moved goes on."""
    places = [tmp_path / name / "wrkdir.same" for name in ("one", "two")]
    places[0].mkdir(parents=True)
    first = checkpoint_facility(1, str(tmp_path / "large"), places[0])
    done, going_on = first.create_checkpoint("done"), first.create_iterative_checkpoint("mc")
    for made in (done, going_on):
        Path(made.get_file_name("big", True)).write_text("whole")
    done.set_OK()
    going_on.set_iteration(1)
    shutil.copytree(places[0], places[1], symlinks=True)
    second = checkpoint_facility(1, str(tmp_path / "large"), places[1])
    assert Path(second.load_checkpoint("done").get_file_name("big", True)).read_text() == "whole"
    reader = checkpoint_facility.open_external(places[1])
    assert Path(reader.open_iterative("mc").get_file_name("big", True)).read_text() == "whole"
    with pytest.raises(ValueError, match=r"one/wrkdir\.same") as refused:
        second.open_iterative("mc").get_file_name("big", True)
    assert str(places[1] / "__checkpoints__/mc/external") in str(refused.value)
    link = places[1] / "__checkpoints__/mc/external"
    shutil.copytree(os.path.realpath(link), tmp_path / "apart")
    link.unlink()
    link.symlink_to(tmp_path / "apart")
    Path(second.open_iterative("mc").get_file_name("big", True)).write_text("of the second")
    assert Path(going_on.get_file_name("big", True)).read_text() == "whole"
    places[0].parent.rename(tmp_path / "moved")
    moved = checkpoint_facility(1, None, tmp_path / "moved/wrkdir.same")
    assert Path(moved.open_iterative("mc").get_file_name("big", True)).read_text() == "whole"


def test_f123_large_files_can_be_written_again_where_the_scratch_was_cleared(run: RunDir, tmp_path: Path) -> None:
    state = facility_on(run, external_storage_path=tmp_path / "large").create_iterative_checkpoint("a")
    Path(state.get_file_name("big", True)).write_text("1")
    state.set_iteration(1)
    shutil.rmtree(tmp_path / "large")
    opened_by_a_dead_process(run, "a")
    again = facility_on(run).open_iterative("a")
    assert not Path(again.get_file_name("big", True)).exists()
    Path(again.get_file_name("big", True)).write_text("2")


def test_whose_large_files_they_are_is_looked_up_once(run: RunDir, tmp_path: Path) -> None:
    """Workers ask for the path in each iteration, and there are many of them on one file system."""
    facility_on(run, external_storage_path=tmp_path / "large").create_iterative_checkpoint("a").get_file_name("b", True)
    state = facility_on(run).open_iterative("a")
    state.get_file_name("b", True)
    called = []
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None)
    try:
        state.get_file_name("b", True)
    finally:
        sys.setprofile(None)
    assert "_external" in called
    assert not {"check_external", "read_limited"}.intersection(called)


def test_a_place_for_checkpoints_that_leads_nowhere_is_no_other_process(run: RunDir, tmp_path: Path) -> None:
    run.checkpoints.rmdir()
    run.checkpoints.symlink_to(tmp_path / "cleared")
    with pytest.raises(FileTrouble, match="beginning the checkpoint a") as refused:
        facility_on(run).create_checkpoint("a")
    assert str(run.checkpoints) in str(refused.value)


def test_reading_a_requirement_makes_no_link_in_it(run: RunDir, tmp_path: Path) -> None:
    facility_on(run, external_storage_path=tmp_path / "large").create_checkpoint("a").set_OK()
    found = checkpoint_facility.open_external(run.path).load_checkpoint("a").get_file_name("big", True)
    assert run.path.name in found
    assert not (run.checkpoints / "a" / "external").is_symlink()
    assert not (tmp_path / "large").exists()


# --- on disk


@pytest.mark.parametrize("kind", ["Checkpoint", "IterativeCheckpoint"])
def test_the_files_are_those_of_0_0_4(run: RunDir, kind: str) -> None:
    facility = facility_on(run, external_storage_path="/scratch/me")
    made: Any = (facility.create_checkpoint if kind == "Checkpoint" else facility.create_iterative_checkpoint)("a")
    directory = run.checkpoints / "a"
    for _ in range(2):
        meta = meta_of(run, "a")
        assert set(meta) == {
            "__type__",
            "created_on",
            "original_internal",
            "storage_rela",
            "state_OK_file",
            "external_storage_path",
            "workdir_name",
            "external_link_name",
            "baseseed",
            *(["iteration"] if kind == "IterativeCheckpoint" else []),
        }
        assert (meta["__type__"], meta["baseseed"], meta["storage_rela"]) == (kind, 17, "storage")
        assert (meta["state_OK_file"], meta["external_link_name"]) == ("checkpoint.ok", "external")
        assert (meta["workdir_name"], meta["external_storage_path"]) == (run.path.name, "/scratch/me")
        assert meta.get("iteration", 0) == 0
        made.set_OK()
    assert Path(made.get_file_name("f")).parent == directory / "storage"
    assert (directory / "checkpoint.ok").read_bytes() == b"1\n"
    more = {"kept", "checkpoint.opened"}  # of an iterative one
    assert set(os.listdir(directory)) - more == {"storage", "checkpoint.meta.json", "checkpoint.ok"}


def test_directories_that_0_0_4_made_are_loaded(run: RunDir) -> None:
    made_by_0_0_4(run, "done")
    made_by_0_0_4(run, "half", ok=False)
    made_by_0_0_4(run, "mc", "IterativeCheckpoint", ok=False)
    made_by_0_0_4(run, "end", "IterativeCheckpoint", baseseed="ab")
    facility = facility_on(run, 1)
    assert [facility.has_checkpoint(name) for name in ("done", "half", "mc", "end")] == [True, False, False, True]
    assert [facility.has_iterative_checkpoint(name) for name in ("done", "half", "mc", "end")] == [
        False,
        False,
        True,
        True,
    ]
    assert [facility.iterative_checkpoint_is_finished(name) for name in ("done", "mc", "end")] == [False, False, True]
    for name in ("done", "half"):
        loaded = facility.load_checkpoint(name)
        assert (loaded.get_seed(), Path(loaded.get_file_name("x")).read_text()) == (f"5{name}", name)
    assert facility.open_iterative("end").get_seed() == "abend4"
    state = facility.open_iterative("mc")
    assert (state.get_iteration(), Path(state.get_file_name("x")).read_text()) == (4, "mc")
    assert state.get_seed_int() == 5 + ord("m") + ord("c") + 4
    for create in (facility.create_iterative_checkpoint, facility.create_checkpoint):
        with pytest.raises(ValueError, match="open_iterative"):
            create("mc")
    state.set_iteration(5)
    assert facility_on(run, 2).open_iterative("mc").get_seed() == "5mc5"
    assert meta_of(run, "mc")["created_on"] == "03.02.2022-11:12:13"
    assert os.listdir(Path(facility.create_checkpoint("half").get_file_name("f")).parent) == []


@pytest.mark.parametrize(
    "missing",
    [
        "__type__",
        "created_on",
        "original_internal",
        "storage_rela",
        "state_OK_file",
        "external_storage_path",
        "workdir_name",
        "external_link_name",
        "baseseed",
        "iteration",
    ],
)
def test_old_ones_with_a_field_missing_are_loaded(run: RunDir, missing: str) -> None:
    """What they lack comes from the facility, or is what a new one has."""
    made_by_0_0_4(run, "p", "Checkpoint", True, **{missing: None})
    made_by_0_0_4(run, "i", "IterativeCheckpoint", True, **{missing: None})
    facility = facility_on(run, 8)
    base = 8 if missing == "baseseed" else 5
    assert facility.has_checkpoint("p")
    assert facility.load_checkpoint("p").get_seed() == f"{base}p"
    state = facility.open_iterative("i")
    assert state.get_seed() == f"{base}i{0 if missing == 'iteration' else 4}"
    state.set_iteration(9)
    assert facility_on(run, 3).open_iterative("i").get_iteration() == 9


def test_an_older_checkpoint_than_its_meta_data_counts_as_it_is(run: RunDir) -> None:
    """0.0.4 went on with one of ours: it makes no copies, so its files are the latest."""
    state = facility_on(run).create_iterative_checkpoint("a")
    Path(state.get_file_name("f")).write_text("ours")
    state.set_iteration(3)
    Path(state.get_file_name("f")).write_text("its")
    (run.checkpoints / "a/checkpoint.meta.json").write_text(json.dumps({**meta_of(run, "a"), "iteration": 8}))
    again = facility_on(run).open_iterative("a")
    assert (again.get_iteration(), Path(again.get_file_name("f")).read_text()) == (8, "its")
    again.set_iteration(9)
    Path(again.get_file_name("f")).write_text("half")
    assert Path(facility_on(run).open_iterative("a").get_file_name("f")).read_text() == "half"  # it lives
    opened_by_a_dead_process(run, "a")
    last = facility_on(run).open_iterative("a")
    assert (last.get_iteration(), Path(last.get_file_name("f")).read_text()) == (9, "its")


@pytest.mark.parametrize("readonly", [True, False])
def test_f122_one_of_ours_that_0_0_4_has_finished_counts_as_it_is(run: RunDir, readonly: bool) -> None:
    """It goes on at our last iteration, writes the result, and calls set_OK: no iteration tells of that."""
    state = facility_on(run).create_iterative_checkpoint("a")
    Path(state.get_file_name("f")).write_text("6")
    state.set_iteration(6)
    opened_by_a_dead_process(run, "a")
    (run.checkpoints / "a/storage/result").write_text("of a week")
    (run.checkpoints / "a/checkpoint.ok").write_text("1\n")
    facility = checkpoint_facility.open_external(run.path) if readonly else facility_on(run)
    assert facility.iterative_checkpoint_is_finished("a")
    again = facility.open_iterative("a")
    assert (again.get_iteration(), Path(again.get_latest("result")).read_text()) == (6, "of a week")
    assert (run.checkpoints / "a/storage/result").exists()


def test_f122_work_behind_the_end_goes_back_to_what_was_kept(run: RunDir) -> None:
    """Ours says with what it keeps whether that is finished, so half a file isn't taken for 0.0.4's last one."""
    state = facility_on(run).create_iterative_checkpoint("a")
    Path(state.get_file_name("f")).write_text("6")
    state.set_iteration(6)
    state.set_OK()
    for step, text in ((None, "6"), (7, "7")):
        again = facility_on(run).open_iterative("a")
        Path(again.get_file_name("f")).write_text(text)
        if step is not None:
            again.set_iteration(step)
        Path(again.get_file_name("f")).write_text("half")
        opened_by_a_dead_process(run, "a")
        assert Path(facility_on(run).open_iterative("a").get_file_name("f")).read_text() == text


@pytest.mark.parametrize("text", ["", "{", "[]", "\0", '{"__type__": "IterativeCheckpoint", "iteration": "x"}'])
def test_f07_damaged_meta_data_are_named_and_never_taken_for_iteration_0(run: RunDir, text: str) -> None:
    """F07: what was kept still tells; without that nothing begins anew by itself."""
    directory = made_by_0_0_4(run, "a", "IterativeCheckpoint", ok=False)
    (directory / "checkpoint.meta.json").write_text(text)
    with pytest.raises(CorruptState, match=r"checkpoint\.meta\.json"):
        facility_on(run).open_iterative("a")
    state = facility_on(run).create_iterative_checkpoint("b")
    state.set_iteration(6)
    (run.checkpoints / "b/checkpoint.meta.json").write_text(text)
    if "iteration" not in text:
        assert facility_on(run).open_iterative("b").get_iteration() == 6


def test_a_mark_that_holds_another_word_is_no_ok(run: RunDir) -> None:
    directory = made_by_0_0_4(run, "a")
    for text, ok in (("0\n", False), ("1", True), ("1\n", True), ("", True), ("no", False)):
        (directory / "checkpoint.ok").write_text(text)
        assert facility_on(run).has_checkpoint("a") is ok, text


def test_a_mark_without_files_is_no_checkpoint_and_none_of_the_next_one(run: RunDir) -> None:
    """Somebody removed the files to save room: what is begun then isn't complete before set_OK."""
    directory = made_by_0_0_4(run, "a")
    (directory / "storage" / "x").unlink()
    (directory / "storage").rmdir()
    facility = facility_on(run)
    assert not facility.has_checkpoint("a")
    with pytest.raises(ValueError, match="has_checkpoint tells"):
        facility.load_checkpoint("a")
    made = facility.create_checkpoint("a")
    assert not facility.has_checkpoint("a")
    made.set_OK()
    assert facility.has_checkpoint("a")


def test_f58_a_fifo_in_the_place_of_a_mark_hangs_nobody(run: RunDir) -> None:
    """F58: special files are read without blocking, and are no marks."""
    directory = made_by_0_0_4(run, "a", ok=False)
    os.mkfifo(directory / "checkpoint.ok")
    os.mkfifo(directory / "checkpoint.begun")
    assert not facility_on(run).has_checkpoint("a")


# --- names and errors


@pytest.mark.parametrize("name", ["", "..", "a/../../b", "/etc/x", "x\0"])
def test_a_name_stays_inside_of_its_directory(tmp_path: Path, name: str) -> None:
    facility = checkpoint_facility(1, overwrite_path=tmp_path)
    with pytest.raises(BadInput, match="can't be the name"):
        facility.create_checkpoint(name)
    with pytest.raises(ValueError, match="can't be the name"):
        facility.create_checkpoint("ok").get_file_name(name)


def test_what_is_not_there_is_a_value_error_that_says_how_to_ask(run: RunDir) -> None:
    facility = facility_on(run)
    for kind in (ValueError, BadInput):
        with pytest.raises(kind, match="has_checkpoint"):
            facility.load_checkpoint("x")
        with pytest.raises(kind, match="has_iterative_checkpoint"):
            facility.open_iterative("x")
    facility.create_checkpoint("plain").set_OK()
    with pytest.raises(ValueError, match="has_iterative_checkpoint"):
        facility.open_iterative("plain")


def test_an_iterative_checkpoint_exists_once_its_maker_has_ended_by_itself(run: RunDir) -> None:
    """Also without set_iteration; its files are as they were left. One that was killed is begun anew."""
    script = (
        "import os, sys\n"
        "from esis.checkpoint import checkpoint_facility\n"
        "f = checkpoint_facility(1)\n"
        "there = f.has_iterative_checkpoint('c')\n"
        "c = f.open_iterative('c') if there else f.create_iterative_checkpoint('c')\n"
        "path = c.get_latest('sum')\n"
        "value = int(open(path).read()) + 1 if os.path.exists(path) else 1\n"
        "open(path, 'w').write(str(value))\n"
        "print(there, value, flush=True)\n"
        "if sys.argv[1:]: os.kill(os.getpid(), 9)\n"
    )

    def step(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", script, *arguments], cwd=run.cwd, capture_output=True, text=True, check=False
        ).stdout.strip()

    assert step("killed") == "False 1"
    assert step() == "False 1"
    assert step() == "True 2"
    assert step("killed") == "True 3"
    assert step() == "True 4"


# --- who else has it open


@pytest.fixture
def half(run: RunDir) -> Path:
    """Keep iteration 1 of a checkpoint, and write half of the next one; return the file."""
    state = facility_on(run).create_iterative_checkpoint("a")
    place = Path(state.get_file_name("f"))
    place.write_text("kept")
    state.set_iteration(1)
    place.write_text("half")
    place.with_name("more").mkdir()
    return place


def look(run: RunDir) -> tuple[int, str]:
    state = facility_on(run).open_iterative("a")
    return state.get_iteration(), Path(state.get_file_name("f")).read_text()


def test_a_look_from_another_process_leaves_the_files_of_a_living_writer(run: RunDir, half: Path) -> None:
    """A second open_iterative, as for a plot, deleted nothing with 0.0.4 either."""
    code = (
        "import sys; from esis.checkpoint import checkpoint_facility as f\n"
        "state = f(17, overwrite_path=sys.argv[1]).open_iterative('a')\n"
        "print(state.get_iteration(), open(state.get_latest('f')).read())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run.path)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "1 half\n"
    assert (half.read_text(), half.with_name("more").is_dir()) == ("half", True)
    assert facility_on(run).open_iterative("a").get_iteration() == 1


LOOK = (
    "import sys; from esis.checkpoint import checkpoint_facility as f; "
    "state = f(17, overwrite_path=sys.argv[1]).open_iterative('a'); "
    "print(state.get_iteration(), open(state.get_latest('f')).read())"
)


@pytest.mark.parametrize("in_task", [False, True])
def test_many_looks_leave_the_files_of_a_living_writer(run: RunDir, half: Path, in_task: bool) -> None:
    """Also where those who looked have ended since: the writer lives. So with other tasks' processes."""
    own = {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3"} if in_task else {}
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", LOOK, str(run.path)],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONPATH": str(ROOT), **own},
        )
        assert done.stdout == "1 half\n"
    assert half.read_text() == "half"


def test_it_goes_back_once_all_who_wrote_have_ended(run: RunDir, half: Path) -> None:
    """The ranks of an attempt; one of them lived longer than the first."""
    dead = [dead_writer() for _ in range(2)]
    opened_by(run, "a", dead[0], Writer.current(True), dead[1])
    assert look(run) == (1, "half")
    opened_by(run, "a", *dead)
    assert look(run) == (1, "kept")
    assert marks(run, "a") == [mark_of(Writer.current())]


def test_a_notebook_that_stays_open_keeps_no_task_from_what_was_kept(
    run: RunDir, half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It only looks; a worker by hand can't know that, and leaves the files alone."""
    opened_by_a_dead_process(run, "a")
    with subprocess.Popen(
        [sys.executable, "-c", f"{LOOK}; input()", str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT)},
    ) as notebook:
        assert notebook.stdout is not None
        notebook.stdout.readline()
        half.write_text("half again")
        assert look(run) == (1, "half again")
        (run.checkpoints / "a" / "checkpoint.opened" / mark_of(Writer.current())).unlink()
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
        assert look(run) == (1, "kept")
        notebook.communicate(b"\n")


def test_who_only_looked_sees_what_was_kept_once_a_writer_has_died(run: RunDir, half: Path) -> None:
    opened_by_a_dead_process(run, "a")
    assert look(run) == (1, "kept")
    half.write_text("mine")
    assert look(run) == (1, "mine")  # this process may be writing
    joined_by(run, "a", dead_writer())
    assert look(run) == (1, "kept")
    facility_on(run).open_iterative("a").set_iteration(2)
    half.write_text("more")
    joined_by(run, "a", dead_writer())
    assert look(run) == (2, "more")  # it has shown that it writes


def test_without_records_slurm_names_the_attempts(run: RunDir, half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A requeued task goes on from what was kept, on whatever node; another task leaves the files alone."""
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    writer = Writer.current()
    assert writer.writes
    writer.host = "elsewhere"
    opened_by(run, "a", writer)
    assert look(run) == (1, "half")  # another rank
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    assert look(run) == (1, "half")
    opened_by(run, "a", writer)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert look(run) == (1, "kept")


def test_the_files_go_back_to_what_was_kept_where_the_writer_is_dead(run: RunDir, half: Path) -> None:
    kept = half.stat().st_ino
    opened_by_a_dead_process(run, "a")
    assert look(run) == (1, "kept")
    assert half.stat().st_ino != kept
    assert os.listdir(half.parent) == ["f"]
    half.write_text("next")
    assert look(run) == (1, "next")  # this process has it open now


def test_what_was_kept_is_not_written_again_where_it_is_there(run: RunDir, half: Path) -> None:
    """Many tasks may read one checkpoint at once: nobody takes a file away under the others."""
    half.write_text("kept")
    (half.parent / "link").symlink_to("f")
    facility_on(run).open_iterative("a").set_iteration(2)
    before = half.stat()
    for change in (lambda: None, lambda: (half.parent / "link").unlink(), lambda: (half.parent / "f2").write_text("")):
        change()
        opened_by_a_dead_process(run, "a")
        assert look(run) == (2, "kept")
        assert sorted(os.listdir(half.parent)) == ["f", "link", "more"]
        assert (half.stat().st_ino, half.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    ("theirs", "mine", "found"),
    [
        ("3.1.70.0.1700000000", "3.1.70.1.1700000900", "kept"),  # requeued onto another node
        ("3.1.70.0.1700000000", "3.2.88.0.1700000900", "kept"),  # resubmitted
        ("", "3.1.70.1.1700000900", "kept"),  # tried by hand somewhere, then submitted
        ("3.1.70.0.1700000000", "3.1.70.0.1700000000", "half"),  # another rank of one attempt
        ("3.1.70.0.1700000000", "4.1.70.0.1700000000", "half"),  # another task
        ("3.1.70.0.1700000000", "", "half"),  # a look from the login node
        ("", "", "half"),
    ],
)
def test_of_a_writer_on_another_machine_only_a_later_attempt_takes_the_files_back(
    run: RunDir, half: Path, monkeypatch: pytest.MonkeyPatch, theirs: str, mine: str, found: str
) -> None:
    writer = Writer.current()
    writer.host, writer.attempt, writer.writes = "elsewhere", theirs, True
    opened_by(run, "a", writer)
    if mine:
        monkeypatch.setenv("SLURM_ESIS_RECORD", str(run.tasks / mine))
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", mine.split(".")[2])
    assert look(run) == (1, found)
    assert (half.read_text(), half.with_name("more").is_dir()) == (found, found == "half")


@pytest.mark.parametrize("text", ["", "\0", "x", "a b c d e f", "h 1 2"])
def test_a_mark_that_cannot_be_read_is_no_living_writer_of_this_machine(run: RunDir, half: Path, text: str) -> None:
    """It doesn't tell that he is dead either. Neither one of 0.1.0's."""
    opened_by(run, "a")
    (run.checkpoints / "a" / "checkpoint.open").write_text(text)
    assert look(run) == (1, "half")
    (run.checkpoints / "a" / "checkpoint.open").unlink()
    opened_by(run, "a")
    (run.checkpoints / "a" / "checkpoint.opened" / (text.replace(" ", ",").replace("\0", "") or "y")).touch()
    assert look(run) == (1, "half")


def test_f303_the_marks_of_0_1_0_are_understood(run: RunDir, half: Path) -> None:
    """F303: all in one file, a line each, and of the versions behind it what tells of ends."""
    old = run.checkpoints / "a" / "checkpoint.open"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as living:
        writer = Writer.current(True)
        writer.pid, writer.start = living.pid, process_start(living.pid) or 0
        opened_by(run, "a")
        old.write_text(f"{dead_writer().line()}\n{writer.line()}\n")
        assert look(run) == (1, "half")
        assert len(old.read_text().splitlines()) == 2, "nobody has begun alone"
        living.communicate(b"\n")
    opened_by(run, "a")
    old.with_name("checkpoint.ended.12-ab").write_text(f"{writer.line()}\n0123\n")
    assert look(run) == (1, "kept")
    assert sorted(os.listdir(old.parent)) == ["checkpoint.meta.json", "checkpoint.opened", "kept", "storage"]


def test_f286_names_may_be_paths(run: RunDir) -> None:
    """F286: 0.0.4 joined them to a path."""
    facility = facility_on(run)
    made = facility.create_checkpoint(Path("a/b"))  # type: ignore[arg-type]
    assert made.get_file_name(Path("x/y")) == str(run.checkpoints / "a/b/storage/x/y")
    assert (made.get_seed(), made.get_seed_int()) == ("17a/b", 17 + sum(map(ord, "a/b")))
    made.set_OK()
    assert facility.load_checkpoint("a/b").get_file_name("x") == made.get_file_name(Path("x"))
    state = facility.create_iterative_checkpoint("mc")
    assert state.get_latest(Path("x")) == state.get_file_name("x")
    for name in (Path("../x"), Path("/x"), Path(), b"x", 5, None):
        with pytest.raises(ValueError, match="can't be the name"):
            made.get_file_name(name)  # type: ignore[arg-type]


def test_f286_a_run_that_cannot_be_written_to_is_opened_to_be_read(run: RunDir, tmp_path: Path) -> None:
    """F286: the error says by which call."""
    facility_on(run).create_iterative_checkpoint("mc").set_iteration(3)
    opened_by(run, "mc", dead_writer())
    place = tmp_path / run.path.name
    place.mkdir()
    with bound(run.path, place, read_only=True):
        closed = checkpoint_facility(1, overwrite_path=place)
        for act in (lambda: closed.open_iterative("mc"), lambda: closed.create_checkpoint("a"), closed.set_run_OK):
            with pytest.raises(FileTrouble, match=r"EROFS.*open_external\(path\) opens a run to be read"):
                act()
        assert checkpoint_facility.open_external(place).open_iterative("mc").get_iteration() == 3


def test_f286_a_storage_for_large_files_that_is_gone_is_told_with_what_next(run: RunDir, tmp_path: Path) -> None:
    gone = tmp_path / "scratch"
    facility = facility_on(run, external_storage_path=gone / "large")
    for name in ("a", "b"):
        facility.create_checkpoint(name)
    facility.load_checkpoint("b").get_file_name("big", True)
    shutil.rmtree(gone)
    gone.write_text("no directory any more")
    with pytest.raises(FileTrouble, match=r"scratch.*; give another external_storage_path, or ESIS_EXTERNAL_STORAGE"):
        facility.load_checkpoint("a").get_file_name("big", True)
    with pytest.raises(FileTrouble, match=r"scratch.*; see that their storage is there"):
        facility.load_checkpoint("b").get_file_name("big", True)
