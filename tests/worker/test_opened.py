"""Each process that has an iterative checkpoint of 0.0.4's open has a mark of its own; none loses another's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from esis.checkpoint import checkpoint_facility
from esis.checkpoint.opened import OPENED, Mark, declare, enter, marks, may_put_back
from esis.checkpoint.writers import Writer
from esis.model.workdir import RunDir
from esis.processes import process_start

ROOT = Path(__file__).parents[2]
# A rank opens it, and another one does so between its look and its mark; the second one is cut off.
RANK = """
import os, subprocess, sys
from esis.checkpoint import checkpoint_facility, facility

def rank(name, end):
    state = checkpoint_facility(17).open_iterative("a")
    file = open(state.get_latest(name), "w")
    file.write(end)
    file.flush()
    return file

def meanwhile(*arguments, **options):
    facility.enter = enter
    subprocess.run([sys.executable, __file__, "second"])
    enter(*arguments, **options)

if sys.argv[1:]:
    rank("second", "ha")
    os.kill(os.getpid(), 9)
enter, facility.enter = facility.enter, meanwhile
rank("first", "good 2")
"""


def processes(run: RunDir, name: str = "a") -> list[str]:
    return sorted(os.listdir(run.checkpoints / name / OPENED))


def join(run: RunDir, writer: Writer, look: str = "") -> str:
    place = run.checkpoints / "a" / OPENED
    place.mkdir(parents=True, exist_ok=True)
    name = writer.line().replace("/", "+").replace(" ", ",") + (look and f",{look}")
    (place / name).touch()
    return name


def dead(number: int, writes: bool = True) -> Writer:
    """Describe one of many processes that have ended: this one's, at other times."""
    writer = Writer.current(writes)
    writer.start += number
    return writer


def living(pid: int) -> Writer:
    writer = Writer.current(True)
    writer.pid, writer.start = pid, process_start(pid) or 0
    return writer


def test_f303_ranks_that_open_it_together_all_leave_a_mark(run: RunDir) -> None:
    """F303: one that was cut off is noticed, whoever came between its look and its mark."""
    facility = checkpoint_facility(17, overwrite_path=run.path)
    state = facility.create_iterative_checkpoint("a")
    for name in ("first", "second"):
        Path(state.get_latest(name)).write_text("good 1")
    state.set_iteration(1)
    for mark in processes(run):
        (run.checkpoints / "a" / OPENED / mark).unlink()
    join(run, dead(1))
    script = run.path / "rank.py"
    script.write_text(RANK)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": "70"}
    done = subprocess.run([sys.executable, script], cwd=run.cwd, capture_output=True, text=True, check=False, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert [(mark.writer.writes, mark.look != "") for mark in marks(run.checkpoints / "a")] in (
        [(True, True), (True, False)],
        [(True, False), (True, True)],
    )
    state = facility.open_iterative("a")
    assert [Path(state.get_latest(name)).read_text() for name in ("first", "second")] == ["good 1", "good 1"]


def test_f303_who_begins_alone_takes_away_what_it_found_and_nothing_else(run: RunDir) -> None:
    directory = run.checkpoints / "a"
    join(run, dead(1))
    known = marks(directory)
    since = join(run, dead(2))
    assert may_put_back(directory, known)
    enter(directory, known, alone=True)
    (own,) = set(processes(run)) - {since}
    assert Mark.parse(own).writer.is_same(Writer.current())
    declare(directory)
    (own,) = set(processes(run)) - {since}
    assert Mark.parse(own).writer.writes
    declare(directory)
    assert len(processes(run)) == 2


def test_f303_a_look_comes_from_the_server_and_leaves_nothing(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """F303: NFS shows a listing of a minute ago, but not to who has just changed it; a kill may leave that change."""
    directory = run.checkpoints / "a"
    mark = join(run, dead(1))
    (directory / OPENED / ".esis-tmp-probe-1-ab").touch()
    changed: list[Path] = []
    monkeypatch.setattr("esis.checkpoint.opened.refresh", changed.append)
    known = marks(directory, fresh=True)
    assert ([item.name for item in known], changed) == ([mark], [directory / OPENED])
    enter(directory, known, alone=True)
    assert len(processes(run)) == 1


def test_f303_a_listing_that_misses_all_is_repeated(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """F303: a mark came, and those before it went, while the directory was read."""
    directory = run.checkpoints / "a"
    join(run, dead(1))
    listings = [[], processes(run)]
    monkeypatch.setattr("esis.checkpoint.opened.names_in", lambda directory: listings.pop(0))
    assert len(marks(directory)) == 1


def test_f303_thousands_of_ranks_cost_a_listing_each(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """F303: no rank's mark is read, and none is dropped while the ranks may live."""
    directory = run.checkpoints / "a"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    for number in range(2000):
        rank = dead(number)
        rank.host = f"node{number // 100}"
        join(run, rank)
    seen: list[str] = []

    def see(event: str, arguments: tuple[object, ...]) -> None:
        if seen and event in ("open", "os.listdir", "os.scandir") and OPENED in str(arguments[0]):
            seen.append(event)

    sys.addaudithook(see)
    seen.append("begin")
    known = marks(directory)
    assert not may_put_back(directory, known)
    enter(directory, known, alone=False)
    del seen[0]
    assert len(seen) <= 3, "a listing, its own mark, the sync"
    seen.clear()
    assert len(processes(run)) == 2001
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    known = [mark for mark in marks(directory) if not mark.writer.is_same(Writer.current())]
    assert may_put_back(directory, known)
    enter(directory, known, alone=True)
    assert len(processes(run)) <= 2


@pytest.mark.parametrize("writes", [True, False])
def test_f303_marks_of_many_that_have_come_and_gone_do_not_pile_up(run: RunDir, writes: bool) -> None:
    """F303: a worker that goes on calls a program for each step; one that was cut off is still known of."""
    directory = run.checkpoints / "a"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as worker:
        stays = {join(run, living(worker.pid))}
        for number in range(1, 121):
            join(run, dead(number, writes=number % 2 == 0), "look" if number % 3 else "")
        written = [mark for mark in marks(directory) if mark.writer.writes]
        known = marks(directory)
        assert not may_put_back(directory, known)
        enter(directory, known, alone=False, writes=writes)
        worker.communicate(b"\n")
    left = marks(directory)
    assert stays < {mark.name for mark in left}
    cut_off = [mark for mark in left if not mark.look and mark.name not in stays]
    others = [mark for mark in cut_off if not mark.writer.is_same(Writer.current())]
    if writes:
        assert (len(left), len(others)) == (3, 1)
        assert others[0].writer.writes
    else:
        assert len(others) == 1 + len([mark for mark in written if not mark.look]) - len(stays)
        assert {mark.name for mark in written} < {mark.name for mark in left}, (
            "who looks leaves what tells of the others"
        )
