"""Jobs of a run of which it isn't plain what they hold, and cancellations that meet what somebody else submits."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from esis.locks import hold
from tests.contract.site import BIN, until
from tests.faults.bench import REPOSITORY, TEMPLATE, Bench, only_run
from tests.faults.test_disk import age

TASKS, SIZE = 25, 11  # three arrays: tasks 0 to 10, 11 to 21, 22 to 24
WORKER = """#!/bin/sh
echo "$SLURM_ARRAY_JOB_ID" >>"../../did.$SLURM_ARRAY_TASK_ID"
[ -e ../../mended ] || exit 3
touch "../../begun.$SLURM_ARRAY_JOB_ID.$SLURM_ARRAY_TASK_ID"
while [ -e ../../slow ]; do sleep 0.05; done
"""


def control(bench: Bench) -> str:
    """Return the command that lets the fake do something, for a shell."""
    state = shlex.quote(str(bench.directory / "slurm"))
    return f"PYTHONPATH={shlex.quote(str(REPOSITORY))} {shlex.quote(sys.executable)} -m tests.fakes.control {state}"


@contextmanager
def running(bench: Bench, place: Path, job: int, *tasks: int) -> Iterator[None]:
    """Let tasks of a job run during the block."""
    (place / "mended").touch()
    (place / "slow").touch()
    command = ["sh", "-c", f"exec env {control(bench)} run --only {job} --parallel {len(tasks)}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as runner:
        try:
            until(lambda: all((place / f"begun.{job}.{task}").exists() for task in tasks), 30)
            yield
        finally:
            (place / "slow").unlink()
            runner.wait(60)


def failed(bench: Bench, tasks: int, size: int = 0) -> Path:
    """Return a workflow all of whose tasks have failed, and that Slurm has forgotten."""
    if size:
        bench.slurm.set(max_array_size=size)
    place = bench.workflow("a", tasks, worker=WORKER)
    bench.esis(place, "run", "-m", "0").ok()
    bench.slurm.run(parallel=4)
    bench.slurm.purge()
    assert bench.states(place) == {"failed": tasks}
    return place


def by_hand(bench: Bench, place: Path, *options: str, env: dict[str, str] | None = None) -> int:
    done = bench.slurm.call("sbatch", "--parsable", *options, "../sbatch.sh", cwd=only_run(place) / "cwd", env=env)
    return int(done.stdout)


def cancelled(bench: Bench, job: int) -> list[int | None]:
    return [index for index, state in bench.slurm.job(job).states.items() if state == "CANCELLED"]


def times(place: Path, *tasks: int) -> list[int]:
    """Return how often each task was at work."""
    files = [place / f"did.{task}" for task in tasks]
    return [len(file.read_text().split()) if file.exists() else 0 for file in files]


OLD_PATH = """for word; do
    shift
    case $word in */__esis__/*/sbatch.sh) word=${word%%/__esis__/*}/__esis__/../sbatch.sh ;; esac
    set -- "$@" "$word"
done
"""


@pytest.fixture
def told() -> str:
    """Return what lets the path of a job's script tell as little as in 0.1.0, if anything."""
    return ""


@pytest.fixture
def cut(bench: Bench, told: str) -> Path:
    """A run of three arrays whose esis was killed when Slurm had taken the second one."""
    bench.slurm.set(max_array_size=SIZE)
    place = bench.workflow("a", TASKS, worker=WORKER)
    (place / "mended").touch()
    count = shlex.quote(str(bench.directory / "sent"))
    bench.wrap("sbatch", f'{told}REAL "$@"; echo >>{count}; [ "$(wc -l <{count})" != 2 ] || kill -9 "$PPID"')
    assert bench.esis(place, "run").code == -signal.SIGKILL
    bench.unwrap()
    return place


def test_f179_an_array_whose_id_was_lost_tells_which_one_it_is(bench: Bench, cut: Path) -> None:
    """F179: by the path of its script."""
    shown = bench.esis(cut, "status").stdout
    assert "waiting\t22\t0-21" in shown
    assert "unknown\t3\t22-24" in shown
    assert "cancelled: 14\n" in bench.esis(cut, "cancel", "--tasks", "14").ok().stderr
    assert (cancelled(bench, 1), cancelled(bench, 2)) == ([], [3])
    assert "cancelled: 0-13, 15-21" in bench.esis(cut, "cancel").ok().stderr.replace(",15", ", 15")


@pytest.mark.parametrize("told", [OLD_PATH])
def test_f77_an_array_whose_id_was_lost_is_not_taken_for_the_first_one(bench: Bench, cut: Path) -> None:
    """F77: its tasks are unknown until it is adopted, and cancelling others leaves it alone."""
    shown = bench.esis(cut, "status").stdout
    assert "waiting\t11\t0-10" in shown
    assert "unknown\t14\t11-24\tjob 2 waits, and may hold it" in shown
    refused = bench.esis(cut, "cancel", "--tasks", "14")
    assert (refused.code, "job 2 waits" in refused.stderr) == (2, True)
    bench.esis(cut, "cancel", "--tasks", "3").ok()
    assert (cancelled(bench, 1), cancelled(bench, 2)) == ([3], [])
    bench.esis(cut, "run").ok()
    assert bench.states(cut) == {"waiting": 24, "failed": 1}
    bench.slurm.run(parallel=4)
    assert bench.states(cut) == {"done": 24, "failed": 1}
    assert times(cut, 3, 14, 24) == [0, 1, 1]


@pytest.mark.parametrize("told", ["", OLD_PATH])
def test_f77_a_task_that_has_begun_tells_which_array_it_is(bench: Bench, cut: Path) -> None:
    """F77: then all of its tasks are known."""
    with running(bench, cut, 2, 11):
        assert bench.states(cut) == {"running": 1, "waiting": 21, "unknown": 3}
        bench.esis(cut, "cancel", "--tasks", "14").ok()
        assert cancelled(bench, 2) == [3]


@pytest.mark.parametrize("told", [OLD_PATH])
def test_f77_esis_cancel_alone_names_a_job_whose_tasks_nobody_knows(bench: Bench, cut: Path) -> None:
    """F77: and cancels it."""
    said = bench.esis(cut, "cancel").ok().stderr
    assert "cancelled: 0-10" in said
    assert "cancelled: job 2, of which nobody knew the tasks" in said
    assert {state for job in bench.slurm.jobs() for state in job.states.values()} == {"CANCELLED"}
    assert bench.esis(cut, "cancel").code == 2


def test_f78_a_rerun_by_hand_has_the_script_that_was_there_before_it(bench: Bench) -> None:
    """F78: it waits while others are submitted in packs; its tasks aren't those of packs, nor submitted beside."""
    place = failed(bench, 40)
    job = by_hand(bench, place, "--array=1,3")
    bench.esis(place, "resubmit", "--tasks", "10-39", "--tasks-per-job", "10").ok()
    assert bench.states(place) == {"waiting": 32, "failed": 8}
    assert "8 tasks" in bench.esis(place, "resubmit").ok().stderr
    bench.esis(place, "cancel", "--tasks", "20-29").ok()
    assert cancelled(bench, job) == []
    bench.esis(place, "cancel", "--tasks", "3").ok()
    assert cancelled(bench, job) == [3]
    (place / "mended").touch()
    bench.slurm.run(parallel=4)
    assert bench.states(place) == {"done": 29, "failed": 11}
    assert times(place, 0, 1, 3, 10, 20) == [2, 2, 1, 2, 1]


def test_f78_a_rerun_by_hand_that_runs_is_no_pack(bench: Bench) -> None:
    """F78: its record tells which script it runs."""
    place = failed(bench, 40)
    job = by_hand(bench, place, "--array=1,3")
    with running(bench, place, job, 1, 3):
        bench.esis(place, "resubmit", "--tasks", "10-39", "--tasks-per-job", "10").ok()
        age(only_run(place))
        shown = bench.esis(place, "status").stdout
        assert "running\t2\t1,3" in shown
        assert "its job runs" not in shown
        assert bench.states(place) == {"waiting": 30, "running": 2, "failed": 8}


def test_f78_packs_by_hand_behind_a_resubmission_are_packs(bench: Bench) -> None:
    """F78: what came behind a submission runs its script; done by the first job, its tasks wait all the same."""
    place = failed(bench, 12)
    bench.esis(place, "resubmit", "--tasks-per-job", "2").ok()
    bench.slurm.run(parallel=4)
    assert bench.states(place) == {"failed": 12}
    by_hand(bench, place, "--array=3")
    assert "waiting\t2\t6-7" in bench.esis(place, "status").stdout
    assert "10 tasks" in bench.esis(place, "resubmit").ok().stderr


def test_f78_what_may_be_another_array_protects_all_that_it_may_hold(bench: Bench) -> None:
    """F78: the documented command for another array; its tasks aren't submitted beside, and run once."""
    place = failed(bench, TASKS, SIZE)
    (place / "mended").touch()
    job = by_hand(bench, place, "--array=0-10", env={"SLURM_ESIS_OFFSET": "11"})
    shown = bench.esis(place, "status").stdout
    assert f"unknown\t{TASKS}\t0-24\tjob {job} waits, and may hold it" in shown
    said = bench.esis(place, "resubmit").ok().stderr
    assert "nothing to resubmit" in said
    assert f"job {job} waits" in said
    bench.slurm.run(parallel=4)
    assert bench.states(place) == {"done": 11, "failed": 14}
    assert times(place, 0, 11, 21, 22) == [1, 2, 2, 1]


def test_f78_one_element_that_has_begun_tells_the_array_of_all(bench: Bench) -> None:
    """F78: then the others wait for certain, and can be cancelled by their numbers."""
    place = failed(bench, TASKS, SIZE)
    job = by_hand(bench, place, "--array=0-10%1", env={"SLURM_ESIS_OFFSET": "11"})
    (place / "mended").touch()
    with running(bench, place, job, 11):
        assert bench.states(place) == {"running": 1, "waiting": 10, "failed": 14}
        bench.esis(place, "cancel", "--tasks", "13").ok()
        assert cancelled(bench, job) == [2]


def meanwhile(bench: Bench, place: Path, program: str, command: str) -> None:
    """Let something happen once, just before the next answer of a client."""
    once = shlex.quote(str(bench.directory / "meanwhile"))
    esis = shlex.quote(str(BIN / "esis"))
    inner = command.replace("ESIS", f"cd {shlex.quote(str(place))} && {esis}").replace("CONTROL", control(bench))
    bench.wrap(program, f'[ -e {once} ] || {{ : >{once}; ( {inner} ) >{once} 2>&1; }}\nexec REAL "$@"')


def test_f79_a_cancellation_ends_what_was_there_when_it_was_asked(bench: Bench) -> None:
    """F79: the same tasks are submitted again, in packs, while it waits for its end: that stays."""
    place = failed(bench, 40)
    bench.esis(place, "resubmit", "--tasks", "1-2").ok()
    job = bench.slurm.jobs()[-1].id
    resubmit = "ESIS resubmit --tasks 1-2,10-39 --tasks-per-job 8"
    bench.wrap(
        "scancel",
        f'REAL "$@"; cd {shlex.quote(str(place))}; {resubmit.replace("ESIS", str(BIN / "esis"))} >/dev/null 2>&1',
    )
    assert "cancelled: 1-2" in bench.esis(place, "cancel", "--tasks", "1-2").ok().stderr
    bench.unwrap()
    later = bench.slurm.jobs()[-1]
    assert later.id > job
    assert set(later.states.values()) == {"PENDING"}
    assert len(bench.slurm.calls("scancel")) == 1
    assert bench.states(place) == {"waiting": 32, "failed": 8}


def test_f231_what_is_submitted_while_cancel_reads_is_cancelled_as_what_it_is(bench: Bench) -> None:
    """F231: the queue shows a job of a submission that came after the run was read: its tasks are named, and noted."""
    place = failed(bench, 4)
    meanwhile(bench, place, "squeue", "ESIS resubmit --tasks 1-2")
    done = bench.esis(place, "cancel").ok()
    bench.unwrap()
    assert "cancelled: 1-2" in done.stderr
    assert "nobody knew" not in done.stderr
    assert set(bench.slurm.jobs()[-1].states.values()) == {"CANCELLED"}
    bench.slurm.purge()
    assert bench.states(place) == {"failed": 4}


@pytest.mark.parametrize("they_run", [True, False])
def test_f79_a_cancellation_is_noted_of_its_own_attempt(bench: Bench, they_run: bool) -> None:
    """F79: while its last look is asking sacct the tasks are submitted again, and may even end well: that counts."""
    bench.slurm.set(accounting=True)
    place = bench.workflow("a", worker=WORKER)
    bench.esis(place, "run").ok()
    (place / "mended").touch()
    # Behind the second in which they began: of two attempts in one second the higher id is the later one.
    ended = '; CONTROL run --parallel 3; now=$(date +%s); while [ "$(date +%s)" = "$now" ]; do :; done'
    meanwhile(bench, place, "sacct", "ESIS resubmit" + (ended if they_run else ""))
    bench.esis(place, "cancel").ok()
    bench.unwrap()
    assert not list((only_run(place) / "__esis__/tasks").glob("*.0002.1.*"))
    assert bench.states(place) == ({"done": 3} if they_run else {"waiting": 3})
    bench.slurm.run()
    assert bench.states(place) == {"done": 3}
    assert times(place, 0, 1, 2) == [1, 1, 1]


def test_f79_what_never_began_is_still_noted(bench: Bench) -> None:
    """F79: of a task that failed before, too; Slurm keeps no trace of it."""
    place = failed(bench, 3)
    bench.esis(place, "resubmit").ok()
    bench.esis(place, "cancel", "--tasks", "1").ok()
    bench.slurm.purge()
    age(only_run(place))
    assert "failed\t1\t1\tCANCELLED" in bench.esis(place, "status").stdout


def test_f79_what_waits_in_a_pack_that_runs_is_left_by_pending(bench: Bench) -> None:
    """F79: `esis cancel --pending` is done with what waits in the queue; nobody is told to end a process."""
    place = bench.workflow("a", 4, worker=WORKER)
    workflow = json.loads((place / "wf.esis.json").read_text())
    (place / "wf.esis.json").write_text(json.dumps({**workflow, "tasks_per_job": 2}))
    bench.esis(place, "run", "-m", "0").ok()
    with running(bench, place, 1, 0):
        assert "cancelled: 2-3\n" in bench.esis(place, "cancel", "--pending").ok().stderr
        refused = bench.esis(place, "cancel", "--pending")
        assert refused.code == 2
        assert refused.stderr.endswith("there is nothing to cancel: 1 running, 1 waiting, 2 failed\n")


def test_f80_slurms_tasks_are_cancelled_behind_a_local_resubmission(bench: Bench) -> None:
    """F80: the latest submission was a local one, which has ended; what waits is Slurm's."""
    place = failed(bench, 6)
    assert bench.esis(place, "resubmit", "--local", "--tasks", "0-1").code == 8
    by_hand(bench, place, "--array=2-5")
    assert bench.states(place) == {"waiting": 4, "failed": 2}
    bench.esis(place, "cancel", "--tasks", "5").ok()
    bench.esis(place, "cancel", "--pending").ok()
    assert set(bench.slurm.jobs()[-1].states.values()) == {"CANCELLED"}
    refused = bench.esis(place, "cancel")
    assert (refused.code, "nothing to cancel" in refused.stderr) == (2, True)


def test_f80_a_local_resubmission_waits_for_slurms_tasks(bench: Bench) -> None:
    """F80: as `esis run --local` does: which of them a later command means would be anybody's guess."""
    place = failed(bench, 6)
    bench.esis(place, "resubmit", "--tasks", "2-5").ok()
    refused = bench.esis(place, "resubmit", "--local", "--tasks", "0-1")
    assert (refused.code, "2-5 are still waiting or running" in refused.stderr) == (1, True)
    assert len(list((only_run(place) / "__esis__/submissions").glob("*.json"))) == 2


@contextmanager
def local(bench: Bench, place: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run tasks on this machine during the block, until they are told to end."""
    (place / "mended").touch()
    (place / "slow").touch()
    command = [str(BIN / "esis"), *arguments]
    with subprocess.Popen(command, cwd=place, env=bench.env(), stderr=subprocess.PIPE, text=True) as started:
        try:
            until(lambda: len(list(place.glob("wrkdir.*/__esis__/tasks/*.running"))) == 1, 30)
            yield started
        finally:
            (place / "slow").unlink()
            started.kill()


def test_f80_both_are_ended_where_both_are_at_work(bench: Bench) -> None:
    """F80: a living local run is interrupted, and a rerun by hand cancelled."""
    place = failed(bench, 3)
    with local(bench, place, "resubmit", "--local", "--tasks", "0") as started:
        by_hand(bench, place, "--array=2")
        assert bench.states(place) == {"running": 1, "waiting": 1, "failed": 1}
        assert "cancelled: 2" in bench.esis(place, "cancel", "--tasks", "2").ok().stderr
        assert bench.states(place) == {"running": 1, "failed": 2}
        by_hand(bench, place, "--array=0,2")
        assert "cancelled: 0,2" in bench.esis(place, "cancel").ok().stderr
        assert started.wait(30) == 130
    assert bench.slurm.jobs()[-1].states == {0: "CANCELLED", 2: "CANCELLED"}
    assert bench.states(place) == {"unsubmitted": 1, "failed": 2}


def test_f166_a_copy_of_a_run_ends_no_local_run_of_the_first(bench: Bench) -> None:
    """It names the same living process, by host, number and start; that one has the first run's directory open."""
    place = bench.workflow("a", 1, worker=WORKER)
    with local(bench, place, "run", "--local") as started:
        shutil.copytree(place, bench.home / "copy", symlinks=True)
        refused = bench.esis(bench.home / "copy", "cancel")
        assert (refused.code, "if this is a copy of the run: cancel that one" in refused.stderr) == (2, True)
        assert started.poll() is None
        assert "cancelled: 0" in bench.esis(place, "cancel").ok().stderr
        assert started.wait(30) == 130


def test_f80_the_number_of_a_local_run_is_no_job_of_slurms(bench: Bench) -> None:
    """F80: esis was killed, its task goes on: its process is named, and Slurm is asked nothing."""
    place = bench.workflow("a", 1, worker=WORKER)
    with local(bench, place, "run", "--local") as started:
        started.kill()
        started.wait(30)
        assert bench.states(place) == {"running": 1}
        (record,) = (only_run(place) / "__esis__/tasks").glob("*.running")
        refused = bench.esis(place, "cancel")
        assert refused.code == 2
        assert "task 0: process " in refused.stderr
        process = int(refused.stderr.partition("task 0: process ")[2].split()[0])
        assert f'"pid": {process}' in record.read_text()
        assert os.getsid(process) == process
        throttled = bench.esis(place, "throttle", "1")
        assert (throttled.code, "no array of it is queued" in throttled.stderr) == (2, True)
        assert bench.slurm.calls("scancel") == []
        os.killpg(process, signal.SIGKILL)


def holding(bench: Bench) -> Path:
    """Return a workflow of two tasks whose shell waits, while there is a file `held`, before it reads its script."""
    place = bench.workflow("a", 2, worker=WORKER)
    shell = place / "bash"
    shell.write_text(
        f"#!/bin/sh\n: >{shlex.quote(str(place))}/begun\n"
        f'while [ -e {shlex.quote(str(place))}/held ]; do sleep 0.05; done\nexec bash "$@"\n'
    )
    shell.chmod(0o755)
    (place / "template.sh").write_text(TEMPLATE.replace("#!/bin/bash", f"#!{shell}"))
    return place


def killed_at_once(bench: Bench, place: Path, *command: str) -> None:
    """Kill a local run when it has started a task, whose shell waits then."""
    (place / "held").touch()
    (place / "begun").unlink(missing_ok=True)
    with subprocess.Popen(
        [str(BIN / "esis"), *command, "--local", "-j", "1"], cwd=place, env=bench.env(), stderr=subprocess.DEVNULL
    ) as started:
        until((place / "begun").exists, 30)
        started.kill()


def test_f147_a_task_that_a_killed_local_run_had_just_started_is_not_started_again(bench: Bench) -> None:
    """F147: its shell hasn't come to writing a record yet; its environment tells whose it is."""
    place = holding(bench)
    (place / "mended").touch()
    killed_at_once(bench, place, "run")
    assert not list(only_run(place).glob("__esis__/tasks/*"))
    assert bench.states(place) == {"running": 1, "unsubmitted": 1}
    refused = bench.esis(place, "run", "--local")
    assert (refused.code, "tasks 0 are still waiting or running" in refused.stderr) == (1, True), refused
    (place / "held").unlink()
    until(lambda: bench.states(place) == {"done": 1, "unsubmitted": 1}, 30)
    bench.esis(place, "run", "--local").ok()
    assert bench.states(place) == {"done": 2}
    assert times(place, 0, 1) == [1, 1]


def test_f147_of_a_second_attempt_that_had_just_begun_nothing_of_the_first_is_told(bench: Bench) -> None:
    """F147: the number of the first one's process may be anybody's by now."""
    place = holding(bench)
    assert bench.esis(place, "run", "--local").code == 8
    pids = [json.loads(path.read_text())["pid"] for path in only_run(place).glob("__esis__/tasks/*")]
    killed_at_once(bench, place, "resubmit")
    assert bench.states(place) == {"running": 1, "unsubmitted": 1}
    rows = json.loads(bench.esis(place, "status", "--tasks", "--json").ok().stdout)["rows"]
    assert [row["elapsed"] for row in rows] == [None, None]
    told = bench.esis(place, "cancel").stderr
    process = int(told.partition("task 0: process ")[2].split()[0])
    assert len(pids) == 2
    assert process not in pids
    assert os.getsid(process) == process
    os.killpg(process, signal.SIGKILL)
    until(lambda: bench.states(place) == {"unsubmitted": 2}, 30)


@pytest.mark.parametrize("around", [{}, {"SLURM_JOB_ID": "55"}])
def test_f108_a_task_by_hand_without_slurm_is_judged_by_its_process(bench: Bench, around: Mapping[str, str]) -> None:
    """F108: it runs as long as its process does, then it is lost; Slurm isn't asked to end it; elsewhere: unknown."""
    place = failed(bench, 2)
    bench.esis(place, "resubmit", "--tasks", "1").ok()
    now = {"esis.operations.witness.judge.GRACE_SECONDS": 0}

    def task() -> list[str]:
        shown = json.loads(bench.esis(place, "status", "--json", "--tasks", "0", patch=now).ok().stdout)
        return [shown["rows"][0][key] for key in ("state", "reason")]

    with by_hand_without_slurm(bench, place, around) as shell:
        assert task() == ["running", f"by hand, process {shell.pid} on {os.uname().nodename}"]
        (record,) = (only_run(place) / "__esis__/tasks").glob("*.running")
        assert bench.esis(place, "resubmit", "--tasks", "0").code == 2
        refused = bench.esis(place, "cancel", "--tasks", "0")
        assert (refused.code, f"process {shell.pid}" in refused.stderr) == (2, True)
        both = bench.esis(place, "cancel", patch={"esis.operations.cancel._SETTLE_SECONDS": 0})
        assert (both.code, "cancelled: 1" in both.stderr, "still active: 0" in both.stderr) == (6, True, True)
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait(30)
        assert task() == ["lost", "its local process is gone"]
        record.write_text(record.read_text().replace('"boot": "', '"boot": "another-'))
        assert task()[0] == "unknown"


@contextmanager
def by_hand_without_slurm(
    bench: Bench, place: Path, around: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run task 0 during the block as `esis doc by-hand` says; `around`: variables of an allocation."""
    (place / "mended").touch()
    (place / "slow").touch()
    env = {**bench.env(), "SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_JOB_ID": "1700000000", **(around or {})}
    with subprocess.Popen(
        ["bash", "../sbatch.sh"], cwd=only_run(place) / "cwd", env=env, start_new_session=True
    ) as shell:
        try:
            until(lambda: (place / "begun.1700000000.0").exists(), 30)
            yield shell
        finally:
            (place / "slow").unlink()
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)


@pytest.mark.parametrize("patient", [True, False])
def test_f109_a_submission_under_way_is_cancelled_with_all_its_arrays(bench: Bench, patient: bool) -> None:
    """F109: `esis cancel` waits until they are sent; where that takes too long it says who goes on (exit code 6)."""
    bench.slurm.set(max_array_size=SIZE)
    place = bench.workflow("a", TASKS, worker=WORKER)
    sent, go = (shlex.quote(str(bench.directory / name)) for name in ("sent", "go"))
    bench.wrap(
        "sbatch", f'echo >>{sent}; while [ "$(wc -l <{sent})" = 2 ] && ! [ -e {go} ]; do sleep 0.05; done; REAL "$@"'
    )
    command = [str(BIN / "esis")]
    with subprocess.Popen([*command, "run"], cwd=place, env=bench.env(), stderr=subprocess.DEVNULL) as sender:
        until(lambda: (bench.directory / "sent").exists() and len((bench.directory / "sent").read_text()) == 2, 30)
        if not patient:
            done = bench.esis(place, "cancel", patch={"esis.operations.cancel._SETTLE_SECONDS": 0})
            assert (done.code, f"process {sender.pid}" in done.stderr) == (6, True)
            assert len(bench.slurm.jobs()) == 1
            (bench.directory / "go").touch()
        else:
            with subprocess.Popen([*command, "cancel"], cwd=place, env=bench.env(), stderr=subprocess.DEVNULL) as ends:
                (bench.directory / "go").touch()
                assert ends.wait(60) == 0
        assert sender.wait(60) == 0
    if patient:
        assert [set(job.states.values()) for job in bench.slurm.jobs()] == [{"CANCELLED"}] * 3
    else:
        assert bench.states(place)["waiting"] == TASKS - SIZE


def test_f109_who_is_building_a_run_is_named(bench: Bench) -> None:
    """F109: there is nothing to cancel yet, and that isn't all there is to say."""
    place = failed(bench, 2)
    with hold(only_run(place) / "__esis__/lock", "a test"):
        refused = bench.esis(place, "cancel")
    assert (refused.code, f"process {os.getpid()}" in refused.stderr) == (2, True)


@pytest.mark.parametrize("version", ["22.05.8", "24.11.5"])
@pytest.mark.parametrize("alive", [True, False])
def test_f141_nothing_is_queued_behind_the_number_of_a_local_run(bench: Bench, version: str, alive: bool) -> None:
    """F141: of a pinned run that is run on a machine, or of one whose local run was killed; one task waits still."""
    bench.slurm.set(version=version)
    place = bench.workflow("a", 2, worker=WORKER)
    dependant = bench.workflow("b", requires=["a"])
    with local(bench, place, "run", "--local", "-j", "1") as started:
        if alive:
            bench.esis(dependant, "freeze-requirement", "a", only_run(place).name).ok()
        else:
            started.kill()
            started.wait(30)
        refused = bench.esis(dependant, "dependency")
        assert refused.code == 3
        tasks = "0-1" if alive else "0"
        assert f"tasks {tasks} wait or run on a machine" in refused.stderr
        assert f"esis wait {only_run(place)}" in refused.stderr
        assert not any(job.dependency for job in bench.slurm.jobs())
    until(lambda: not list(only_run(place).glob("__esis__/tasks/*.running")), 30)
    if alive:
        bench.again(place, "run", "--local").ok()
    else:
        bench.slurm.run()
    bench.esis(dependant, "dependency").ok()
    assert bench.slurm.jobs()[-1].dependency == ()
    bench.slurm.run()
    assert bench.states(dependant) == {"done": 3}
    assert times(place, 0, 1) == [1, 1]


def test_f141_what_is_wanted_itself_may_run_anywhere(bench: Bench) -> None:
    """F141: nothing is queued behind it, so that a task by hand without Slurm is no reason to refuse."""
    place = failed(bench, 2)
    (place / "mended").touch()
    bench.esis(place, "resubmit", "--tasks", "1").ok()
    bench.slurm.run()
    with by_hand_without_slurm(bench, place):
        assert bench.states(place) == {"running": 1, "done": 1}
        assert "nothing to submit" in bench.esis(place, "dependency").ok().stderr


@pytest.mark.parametrize("accounting", [True, False])
def test_f81_an_attempt_that_never_began_says_nothing_of_the_one_before(bench: Bench, accounting: bool) -> None:
    """F81: a done task is requeued, and cancelled before it starts again: by scancel, or by esis."""
    bench.slurm.set(accounting=accounting)
    place = bench.workflow("a", worker=WORKER)
    (place / "mended").touch()
    bench.esis(place, "run").ok()
    bench.slurm.run()
    for command in (["scancel", "1_1"], None):
        for word in ("requeue", "hold"):
            bench.slurm.call("scontrol", word, "1_1").check_returncode()
        (only_run(place) / "__esis__/complete").unlink(missing_ok=True)
        assert bench.states(place) == {"done": 2, "waiting": 1}
        if command is None:
            bench.esis(place, "cancel", "--tasks", "1").ok()
        else:
            bench.slurm.call(*command).check_returncode()
        assert bench.slurm.job(1).states[1] == "CANCELLED"
        assert bench.states(place) == {"done": 3}
        assert len(list((only_run(place) / "__esis__/tasks").glob("*.exit0.*"))) == 3


def test_f81_one_that_ran_outranks_the_end_that_it_recorded(bench: Bench) -> None:
    """F81: cancelled while it ran, however short; and TIMEOUT of an attempt of no time at all."""
    place = bench.workflow("a", 2, worker=WORKER)
    (place / "mended").touch()
    bench.esis(place, "run").ok()
    bench.slurm.verdict("TIMEOUT", task=1)
    bench.slurm.run()
    assert bench.states(place) == {"done": 1, "failed": 1}


@pytest.mark.parametrize("how", ["requeued", "by hand", "squeue fails"])
def test_f82_done_tasks_are_submitted_again_only_where_they_do_not_wait(bench: Bench, how: str) -> None:
    """F82: the run is marked as complete, and the queue is asked all the same."""
    place = bench.workflow("a", worker=WORKER)
    (place / "mended").touch()
    bench.esis(place, "run").ok()
    bench.slurm.run()
    assert bench.states(place) == {"done": 3}
    if how == "requeued":
        bench.slurm.call("scontrol", "requeue", "1_1").check_returncode()
    elif how == "by hand":
        by_hand(bench, place, "--hold", "--array=1")
    else:
        bench.slurm.fail("squeue", "error")
    jobs = len(bench.slurm.jobs())
    left = bench.esis(place, "resubmit", "--state", "done", "--tasks", "1")
    assert left.code == (6 if how == "squeue fails" else 0), left.stderr
    assert len(bench.slurm.jobs()) == jobs
    assert (only_run(place) / "__esis__/complete").exists()
    bench.esis(place, "resubmit", "--state", "done", "--tasks", "0,2").ok()
    assert len(bench.slurm.jobs()) == jobs + 1


def test_f82_a_run_declared_complete_by_hand_is_taken_at_its_word(bench: Bench) -> None:
    """F82: its failed tasks are done, so that all of them can be repeated."""
    place = failed(bench, 3)
    (only_run(place) / "__esis__/complete").write_text("by hand: good enough\n")
    assert "nothing to resubmit" in bench.esis(place, "resubmit").ok().stderr
    by_hand(bench, place, "--hold", "--array=1")
    assert "nothing to resubmit" in bench.esis(place, "resubmit", "--state", "done", "--tasks", "1").ok().stderr
    assert "1 task" in bench.esis(place, "resubmit", "--state", "done", "--tasks", "2").ok().stderr
    assert bench.states(place) == {"waiting": 2, "failed": 1}


def test_f172_what_is_queued_by_hand_before_all_else_is_seen(bench: Bench) -> None:
    """Of a run that is built and that no submission names, as a kill leaves it."""
    place = bench.workflow("a", 2)
    bench.slurm.fail("sbatch", "refuse", message="Invalid account")
    assert bench.esis(place, "run").code == 5
    run = only_run(place)
    (run / "__esis__/submissions/0001.json").unlink()
    assert bench.states(place) == {"unsubmitted": 2}
    assert bench.slurm.call("sbatch", "../sbatch.sh", cwd=run / "cwd").returncode == 0
    assert bench.states(place) == {"waiting": 2}
    bench.esis(place, "run").ok()
    assert len(bench.slurm.jobs()) == 1


def test_f170_what_is_queued_by_hand_is_not_submitted_while_squeue_fails(bench: Bench) -> None:
    """Also where Slurm has taken nothing of the run from ESIS, so far."""
    place = bench.workflow("a", 2)
    bench.slurm.fail("sbatch", "refuse", message="Invalid account")
    assert bench.esis(place, "run").code == 5
    assert bench.slurm.call("sbatch", "../sbatch.sh", cwd=only_run(place) / "cwd").returncode == 0
    bench.slurm.fail("squeue", "timeout")
    left = bench.esis(place, "run")
    assert left.code == 6, left.stderr
    assert "nothing was submitted" in left.stderr
    bench.esis(place, "run").ok()
    assert len(bench.slurm.jobs()) == 1
