"""How a process ended that had an iterative checkpoint of 0.0.4's open decides whether its files count as they are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from esis.checkpoint import checkpoint_facility
from esis.checkpoint.writers import Writer
from esis.model.workdir import RunDir

ROOT = Path(__file__).parents[2]

# It sets the iteration first, then writes, which went well with 0.0.4.
WORKER = """
import os, sys, signal, multiprocessing
import esis.checkpoint

def steps(count=5):
    facility = esis.checkpoint.checkpoint_facility(17)
    there = facility.has_iterative_checkpoint("sum")
    c = facility.open_iterative("sum") if there else facility.create_iterative_checkpoint("sum")
    path = c.get_latest("state")
    total = int(open(path).read()) if os.path.exists(path) else 0
    for i in range(c.get_iteration(), c.get_iteration() + count):
        total += i
        c.set_iteration(i + 1)
        with open(path, "w") as stream:
            stream.write(str(total))
    print(c.get_iteration(), total, flush=True)
    return c

if __name__ == "__main__":
    end = sys.argv[1]
    if end.startswith("child"):
        if end == "child of a pool":
            with multiprocessing.get_context("fork").Pool(1) as pool:
                pool.apply(steps, kwds={})
                pool.close()
                pool.join()
            sys.exit(75)
        child = multiprocessing.get_context(end.split()[1]).Process(target=steps)
        child.start()
        child.join()
        sys.exit(75)
    c = steps()
    if end == "open":
        left = open(c.get_latest("state"), "a")
        left.write("0")
    if end in ("ValueError", "OSError", "KeyboardInterrupt", "FileNotFoundError"):
        raise {"ValueError": ValueError, "OSError": OSError, "KeyboardInterrupt": KeyboardInterrupt,
               "FileNotFoundError": FileNotFoundError}[end]
    if end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "SIGTERM":
        os.kill(os.getpid(), signal.SIGTERM)
    if end == "_exit":
        os._exit(75)
    if end == "fork":
        if os.fork() == 0:
            sys.exit(0)
        os.wait()
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "set_OK":
        c.set_OK()
        with open(c.get_latest("state"), "w") as stream:
            stream.write("110")
    if end != "end":
        sys.exit(75)
"""


def worker(run: RunDir, end: str, job: str = "70") -> subprocess.CompletedProcess[str]:
    script = run.path / "worker.py"
    script.write_text(WORKER)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": job}
    return subprocess.run(
        [sys.executable, str(script), end], cwd=run.cwd, capture_output=True, text=True, check=False, env=env
    )


def look(run: RunDir, end: str = "") -> str:
    """Open it by hand, without a job, as for a plot; `end` is done then."""
    code = (
        "import os, sys; from esis.checkpoint import checkpoint_facility as f\n"
        "c = f(17, overwrite_path=sys.argv[1]).open_iterative('sum')\n"
        "print(c.get_iteration(), open(c.get_latest('state')).read(), flush=True)\n"
        f"{end}"
    )
    argv = [sys.executable, "-c", code, str(run.path)]
    env = {"PYTHONPATH": str(ROOT)}
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=env).stdout


def marks(run: RunDir) -> list[str]:
    return [name for name in os.listdir(run.checkpoints / "sum") if name.startswith("checkpoint.ended.")]


@pytest.mark.parametrize(
    "end", ["75", "end", "ValueError", "FileNotFoundError", "child fork", "child spawn", "child of a pool"]
)
def test_f281_what_a_process_left_that_ended_by_itself_is_taken_as_it_is(run: RunDir, end: str) -> None:
    assert worker(run, end).stdout == "5 10\n"
    reading = checkpoint_facility.open_external(run.path).open_iterative("sum")
    assert (reading.get_iteration(), Path(reading.get_latest("state")).read_text()) == (5, "10")
    done = worker(run, "75", "71")
    assert (done.returncode, done.stdout) == (75, "10 45\n"), done.stderr
    assert len(marks(run)) == 1, "those of earlier processes are gone"


@pytest.mark.parametrize("end", ["killed", "SIGTERM", "_exit", "fork", "OSError", "KeyboardInterrupt"])
def test_f281_what_was_cut_off_goes_back_to_what_was_kept(run: RunDir, end: str) -> None:
    """Also by an exception that may be that of a file which couldn't be written; a forked process says nothing."""
    assert worker(run, end).stdout.startswith("5 10\n")
    assert marks(run) == []
    state = checkpoint_facility(17, overwrite_path=run.path).open_iterative("sum")
    assert (state.get_iteration(), Path(state.get_latest("state")).read_text()) == (5, "6")


def test_f281_the_mark_speaks_of_what_was_still_in_pythons_hands(run: RunDir) -> None:
    """A file that is left open: what is in its buffer is on the disk before the mark, so that the look is the last."""
    assert worker(run, "open").stdout == "5 10\n"
    for _ in range(2):
        assert look(run, "os.kill(os.getpid(), 9)") == "5 100\n"


def test_f281_also_behind_set_ok(run: RunDir) -> None:
    assert worker(run, "set_OK").returncode == 75
    state = checkpoint_facility(17, overwrite_path=run.path).open_iterative("sum")
    assert (state.get_iteration(), Path(state.get_latest("state")).read_text()) == (5, "110")


def test_f281_one_rank_that_was_killed_is_enough(run: RunDir) -> None:
    assert worker(run, "75").stdout == "5 10\n"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        rank = Writer.current(True)
        rank.pid, rank.start = child.pid, 0
        child.send_signal(signal.SIGKILL)
    with (run.checkpoints / "sum/checkpoint.open").open("a") as mark:
        mark.write(f"{rank.line()}\n")
    assert worker(run, "75", "71").stdout == "10 41\n"


def test_f281_who_only_looked_may_be_killed_unless_something_was_written(run: RunDir) -> None:
    assert worker(run, "75").stdout == "5 10\n"
    assert look(run, "os.kill(os.getpid(), 9)") == "5 10\n"
    assert look(run) == "5 10\n"
    assert look(run, "open(c.get_latest('more'), 'w').write('ha'); os.kill(os.getpid(), 9)") == "5 10\n"
    assert look(run) == "5 6\n"
    assert not (run.checkpoints / "sum/storage/more").exists()
