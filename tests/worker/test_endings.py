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
import os, sys
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
"""
# How it goes on, in one line or some.
GOOD = {
    "end": "steps()",
    "exit": "steps(); sys.exit()",
    "0": "steps(); sys.exit(0)",
    "0, from within": "def main():\n    with steps(): sys.exit(0)\n"
    "esis.checkpoint.iterative_checkpoint.__enter__ = esis.checkpoint.iterative_checkpoint.__exit__ = lambda *a: None\n"
    "try: main()\nfinally: pass",
    "open": "c = steps(); left = open(c.get_latest('state'), 'a'); left.write('')",
    "an exception that was caught": "steps()\ntry: 1 / 0\nexcept ZeroDivisionError: pass",
    "an exit that was caught": "try: steps(); sys.exit(3)\nexcept SystemExit: pass",
    "threads": "import threading; t = threading.Thread(target=steps); t.start(); t.join()",
    "a child before it": "import subprocess; subprocess.call(['false']); steps()",
    "stopping": "import esis\nwith esis.stopping(margin=None) as stop: steps()",
    "set_OK": "c = steps(); c.set_OK(); open(c.get_latest('state'), 'w').write('10')",
}
HALF = "half = open(steps().get_latest('state'), 'w'); half.write('ha'); half.flush()\n"
SIMULATION = (
    "import subprocess; path = steps().get_latest('state'); "
    "sim = ['sh', '-c', 'printf ha >\"$1\"; kill -9 $$', '-', path]\n"
)
BAD = {
    "killed": f"{HALF}os.kill(os.getpid(), 9)",
    "a signal": f"{HALF}os.kill(os.getpid(), 15)",
    "_exit": f"{HALF}os._exit(0)",
    "exec": f"{HALF}os.execv('/bin/true', ['true'])",
    "a fork that ends well": f"{HALF}if os.fork() == 0: sys.exit(0)\nos.wait(); os.kill(os.getpid(), 9)",
    "75": f"{HALF}sys.exit(75)",
    "a word": f"{HALF}sys.exit('no')",
    "an exit that isn't sys.exit's": f"{HALF}raise SystemExit(1)",
    "the same behind one that was caught": f"{HALF}try: sys.exit(0)\nexcept SystemExit: pass\nraise SystemExit(1)",
    "True": f"{HALF}sys.exit(True)",
    "requeue": f"{HALF}import esis; esis.requeue()",
    "requeue that was caught": f"{HALF}import esis\ntry: esis.requeue()\nexcept SystemExit: pass",
    **{
        name: f"{HALF}raise {name}"
        for name in ("ValueError", "OSError", "TimeoutError", "MemoryError", "KeyboardInterrupt", "FileNotFoundError")
    },
    "an exception in the middle of a loop": HALF + "for item in (1, 2):\n    with open('/dev/null') as f: 1 / 0",
    "an exception in a thread": f"import threading\ndef save():\n    {HALF}    raise OSError\n"
    "t = threading.Thread(target=save); t.start(); t.join()",
    "an exception where an object ends": f"class Saver:\n    def __del__(self): 1 / 0\n{HALF}x = Saver(); del x",
    "a thread that goes on": f"import threading; {HALF}"
    "t = threading.Thread(target=threading.Event().wait, daemon=True); t.start()",
    "a handler that exits": f"import signal; signal.signal(15, lambda *a: sys.exit(143))\n{HALF}"
    "os.kill(os.getpid(), 15)",
    "a handler that raises": f"import signal\ndef stop(*a): raise ValueError\nsignal.signal(15, stop)\n{HALF}"
    "os.kill(os.getpid(), 15)",
    **{
        f"stopping hears {number}": "import esis\nwith esis.stopping(margin=None, signals=(2, 10, 15)):\n    "
        + HALF.replace("\n", f"; os.kill(os.getpid(), {number})")
        for number in (2, 10, 15)
    },
    "should_stop hears": f"import esis; esis.should_stop(None); {HALF}os.kill(os.getpid(), 15)",
    "a simulation that is killed": f"{SIMULATION}subprocess.run(sim, check=True)",
    "a simulation of which nobody looks": f"{SIMULATION}subprocess.call(sim)",
    "a simulation in a shell": f"{SIMULATION}os.system(f'printf ha >{{path}}; exit 1')",
    "a simulation that nobody waits for": f"{SIMULATION}p = subprocess.Popen(sim); "
    "os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOWAIT)",
    "a simulation that goes on": f"{SIMULATION}sim[2] = sim[2].replace('kill -9 $$', 'echo; read x')\n"
    "p = subprocess.Popen(sim, stdin=-1, stdout=-1); p.stdout.readline()",
    "a simulation that a signal meets, too": "import esis, subprocess\nwith esis.stopping(margin=None) as stop:\n"
    "    p = subprocess.Popen(['sh', '-c', 'printf ha >\"$1\"; echo; read x', '-', steps().get_latest('state')], "
    "stdin=-1, stdout=-1)\n    p.stdout.readline(); p.kill(); os.kill(os.getpid(), 15); p.wait()\n"
    "    if stop: esis.requeue()",
    **{
        f"a child of multiprocessing, {kind}": "import multiprocessing\n"
        f"def child():\n    {HALF.strip()}\n    {end}\n"
        f"if __name__ == '__main__':\n    p = multiprocessing.get_context('{kind.split()[0]}').Process(target=child)\n"
        "    p.start(); p.join()"
        for kind, end in (
            ("fork that fails", "raise TimeoutError"),
            ("spawn that fails", "raise TimeoutError"),
            ("spawn that exits", "sys.exit(0)"),
            ("fork that is killed", "os.kill(os.getpid(), 9)"),
        )
    },
    "a call in a pool that fails": "import multiprocessing\n"
    f"def child():\n    {HALF.strip()}\n    raise OSError\n"
    "with multiprocessing.get_context('fork').Pool(1) as pool:\n    call = pool.apply_async(child)\n"
    "    call.wait(); pool.close(); pool.join()",
    "a pool that breaks": "import multiprocessing, concurrent.futures as cf\n"
    "def child(path): open(path, 'w').write('ha'); os.kill(os.getpid(), 9)\n"
    "with cf.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('fork')) as pool:\n"
    "    pool.submit(child, steps().get_latest('state')).exception()",
    "a session by hand": "sys.ps1 = '>>> '; steps()",
}


def worker(run: RunDir, end: str, job: str = "70", how: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Let it do 5 steps, then `end`, as an attempt at a task."""
    script = run.path / "worker.py"
    script.write_text(f"{WORKER}\n{end}\n")
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{run.path}"}
    env.update({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": job})
    return subprocess.run(
        [sys.executable, *(how or [str(script)])],
        cwd=run.cwd,
        capture_output=True,
        text=True,
        check=False,
        env=env,
        stdin=script.open(),
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
    """Return those of processes that came to a good end."""
    return [name for name in os.listdir(run.checkpoints / "sum/checkpoint.opened") if name.count(",") == Writer.WORDS]


@pytest.mark.parametrize("end", list(GOOD))
def test_f281_what_a_worker_left_that_came_to_its_end_is_taken_as_it_is(run: RunDir, end: str) -> None:
    assert worker(run, GOOD[end]).stdout == "5 10\n"
    reading = checkpoint_facility.open_external(run.path).open_iterative("sum")
    assert (reading.get_iteration(), Path(reading.get_latest("state")).read_text()) == (5, "10")
    done = worker(run, "steps()", "71")
    assert (done.returncode, done.stdout) == (0, "10 45\n"), done.stderr
    assert len(marks(run)) == 1, "those of earlier processes are gone"


@pytest.mark.parametrize("end", list(BAD))
def test_f302_after_any_other_end_the_files_are_those_of_the_last_set_iteration(run: RunDir, end: str) -> None:
    """F302: a program that the worker calls may have been killed, a signal came, an exception: half files are none."""
    done = worker(run, BAD[end])
    assert done.stdout.startswith("5 10\n"), done.stderr
    assert marks(run) == []
    state = checkpoint_facility(17, overwrite_path=run.path).open_iterative("sum")
    assert (state.get_iteration(), Path(state.get_latest("state")).read_text()) == (5, "6")


@pytest.mark.parametrize("how", [("-",), ("-m", "worker"), ("-m", "cProfile", "../worker.py")])
def test_f302_however_the_script_is_run(run: RunDir, how: tuple[str, ...]) -> None:
    """F302: from standard input, as a module, inside of another one that swallows its exit."""
    assert worker(run, GOOD["end"], how=how).stdout.startswith("5 10\n")
    assert len(marks(run)) == 1
    assert worker(run, BAD["75"], "71", how).stdout.startswith("10 45\n")
    assert worker(run, BAD["ValueError"], "72", how).stdout.startswith("15 96\n")
    state = checkpoint_facility(17, overwrite_path=run.path).open_iterative("sum")
    assert (state.get_iteration(), Path(state.get_latest("state")).read_text()) == (15, "82")


def test_f302_a_file_that_can_not_be_written_out_at_the_end_is_half(run: RunDir) -> None:
    """F302: it was left open, and the disk is full when Python comes to write what it holds of it."""
    end = "import resource; left = open(steps().get_latest('state'), 'w'); left.write('x' * 100)\n"
    assert worker(run, f"{end}resource.setrlimit(resource.RLIMIT_FSIZE, (6, 6))").stdout == "5 10\n"
    assert marks(run) == []
    assert look(run) == "5 6\n"


def test_f302_what_the_worker_declared_counts_whatever_came_before(run: RunDir) -> None:
    """F302: programs that ended before set_iteration are of no matter: their files are in the copy."""
    end = "import subprocess; c = steps(); subprocess.call(['false']); c.set_iteration(6)\n"
    end += "open(c.get_latest('state'), 'w').write('15')"
    assert worker(run, end).stdout == "5 10\n"
    assert look(run) == "6 15\n"


def test_f302_an_exit_looks_as_pythons_own() -> None:
    """F302: to see how it goes, sys.exit is exchanged; what it raises says and does what it did."""
    code = (
        "import pickle, sys; from esis.checkpoint.leaving import observe; observe(); found = []\n"
        "for status in ((), (0,), (None,), (3,), ('x',), (False,)):\n"
        "    try: sys.exit(*status)\n"
        "    except SystemExit as error:\n"
        "        back = pickle.loads(pickle.dumps(error))\n"
        "        assert type(back) is SystemExit and back.args == error.args, error\n"
        "        found.append((repr(error), error.code, type(error).__module__))\n"
        "print(found)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)}
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout == (
        "[('SystemExit()', None, 'builtins'), ('SystemExit(0)', 0, 'builtins'), ('SystemExit()', None, 'builtins'), "
        "('SystemExit(3)', 3, 'builtins'), (\"SystemExit('x')\", 'x', 'builtins'), "
        "('SystemExit(False)', False, 'builtins')]\n"
    )


def test_f281_the_mark_speaks_of_what_was_still_in_pythons_hands(run: RunDir) -> None:
    """A file that is left open: what is in its buffer is on the disk before the mark, so that the look is the last."""
    assert worker(run, "left = open(steps().get_latest('state'), 'a'); left.write('0')").stdout == "5 10\n"
    for _ in range(2):
        assert look(run, "os.kill(os.getpid(), 9)") == "5 100\n"


def test_f281_one_rank_that_was_killed_is_enough(run: RunDir) -> None:
    assert worker(run, "steps()").stdout == "5 10\n"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        rank = Writer.current(True)
        rank.pid, rank.start = child.pid, 0
        child.send_signal(signal.SIGKILL)
    (run.checkpoints / "sum/checkpoint.opened" / rank.line().replace("/", "+").replace(" ", ",")).touch()
    assert worker(run, "steps()", "71").stdout == "10 41\n"


def test_f281_who_only_looked_may_be_killed_unless_something_was_written(run: RunDir) -> None:
    assert worker(run, "steps()").stdout == "5 10\n"
    assert look(run, "os.kill(os.getpid(), 9)") == "5 10\n"
    assert look(run) == "5 10\n"
    assert look(run, "open(c.get_latest('more'), 'w').write('ha'); os.kill(os.getpid(), 9)") == "5 10\n"
    assert look(run) == "5 6\n"
    assert not (run.checkpoints / "sum/storage/more").exists()
