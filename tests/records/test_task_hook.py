"""task.sh, run for real through a rendered sbatch.sh under every POSIX shell: records, fence, requirements."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esis.model.workdir import RunDir
from esis.processes import boot
from esis.records.stage import is_marked
from esis.records.task_details import read_details
from esis.records.tasks import TaskRecord
from tests.records.jobs import (
    BLOCK,
    SHELLS,
    Job,
    every_shell,
    latest,
    make_run,
    read_records,
    shebang,
    states,
    wait_for,
)

DOCS = Path(__file__).parents[2] / "esis/docs"
RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy

# --- records


HOSTILE = 'a"b\\c\n\t\x01\x7f$(touch canary)`touch canary`é%s%n\\u0041\N{SNOWMAN}{},"x": "'


@every_shell
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_start_record_tells_where_and_with_what_it_runs(tmp_path: Path, shell: str, locale: str) -> None:
    """Partition, nodes, CPUs, restart and modules, as Slurm and the modules say."""
    run = make_run(tmp_path)
    code, _, err = Job(run, "exit 0", shell).run(
        restart=2,
        LC_ALL=locale,
        SLURM_JOB_PARTITION="big-mem",
        SLURM_JOB_NODELIST="c[1-4,7]",
        SLURM_CPUS_ON_NODE="12",
        LOADEDMODULES="gcc/12.2:openmpi/4.1+cuda(default)",
    )
    assert (code, err) == (0, "")
    (record,) = read_records(run.tasks)
    details = read_details(run.tasks, record)
    assert details is not None
    assert (details.partition, details.nodes, details.cpus) == ("big-mem", "c[1-4,7]", 12)
    assert (details.kernel, details.modules) == (os.uname().release, ("gcc/12.2", "openmpi/4.1+cuda(default)"))
    assert json.loads((run.tasks / record.name).read_text())["restart"] == 2


@every_shell
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize("hostile", [HOSTILE, os.fsdecode(b'\xff\xfe\xc3"\\'), "", "08", "-1", "9" * 30, " "])
def test_a_start_record_is_json_whatever_the_environment_holds(
    tmp_path: Path, shell: str, locale: str, hostile: str
) -> None:
    """Quotes, backslashes, control characters, invalid UTF-8, numbers that are none; nothing is executed."""
    run = make_run(tmp_path)
    names = ("SLURM_JOB_PARTITION", "SLURM_JOB_NODELIST", "SLURM_CPUS_ON_NODE", "LOADEDMODULES", "SLURM_JOB_ID")
    code, _, err = Job(run, "exit 0", shell).run(variables={"LC_ALL": locale, **dict.fromkeys(names, hostile)})
    assert (code, err) == (0, "")
    (record,) = read_records(run.tasks)
    content = json.loads((run.tasks / record.name).read_bytes())
    assert list(content) == [
        "host",
        "pid",
        "job",
        "index",
        "restart",
        "partition",
        "nodes",
        "cpus",
        "kernel",
        "modules",
    ]
    assert content["cpus"] is None
    assert not {*content["modules"], *content["nodes"]} & set('"\\$`\n\t{}')
    assert not list(tmp_path.rglob("canary"))


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace here")
@pytest.mark.parametrize("shell", [name for name in ("bash", "dash") if name in SHELLS])
def test_a_start_record_costs_two_programs_at_most(tmp_path: Path, shell: str) -> None:
    """uname, and date where the shell can't tell the time: a start on a thousand nodes has to be cheap."""
    run = make_run(tmp_path)
    job = Job(run, "trap - EXIT; exit 0", shell)
    log = tmp_path / "strace"
    subprocess.run(
        ["strace", "-f", "-e", "trace=execve", "-o", str(log), str(job.spool)],
        cwd=run.cwd,
        check=True,
        env=job.environment(LOADEDMODULES='a"b', fenced="0001"),
        timeout=60,
    )
    started = [
        line.split('"')[1].rsplit("/", 1)[-1]
        for line in log.read_text().splitlines()
        if "execve(" in line and line.endswith(" = 0")
    ]
    # Of a submission's first task also what makes the fence, which the others read.
    assert started[1:] == ["uname", "ln", "readlink", *([] if shell == "bash" else ["date"])]


@every_shell
def test_a_task_records_its_start_and_its_end(tmp_path: Path, shell: str) -> None:
    """While it runs there is one file that says running, with host and PID; afterwards one with exit code and time."""
    run = make_run(tmp_path)
    job = Job(run, f"echo work; sh -c '{BLOCK}'", shell)
    before = int(time.time())
    with job.start(job.environment()) as child:
        wait_for((run.cwd / "ready").exists)
        (name,) = os.listdir(run.tasks)
        assert name.endswith(".running")
        content = json.loads((run.tasks / name).read_text())
        assert content["kernel"] == os.uname().release
        assert {**content, "host": os.uname().nodename, "pid": child.pid, "job": "78"} == content
        (run.cwd / "go").touch()
        assert child.communicate(timeout=60) == ("work\n", "")
    assert child.returncode == 0
    (record,) = read_records(run.tasks)
    assert states(run) == [(3, "0001", "77", 0, 0)]
    assert record.end is not None
    assert before <= record.start <= record.end <= time.time()


@every_shell
@pytest.mark.parametrize("code", [0, 255])
def test_the_exit_code_is_recorded_and_kept(tmp_path: Path, shell: str, code: int) -> None:
    """The record and Slurm see the script's own exit code."""
    run = make_run(tmp_path)
    assert Job(run, f"true\nexit {code}", shell).run()[0] == code
    assert states(run) == [(3, "0001", "77", 0, code)]


@every_shell
def test_the_status_of_the_last_command_counts(tmp_path: Path, shell: str) -> None:
    """Without `exit` the status of the last command is the script's."""
    run = make_run(tmp_path)
    assert Job(run, "sh -c 'exit 9'", shell).run()[0] == 9
    assert states(run) == [(3, "0001", "77", 0, 9)]


@every_shell
@pytest.mark.parametrize("body", ["false | true\nnosuch=$unset_variable\necho not reached", "false\necho not reached"])
def test_strict_scripts_work(tmp_path: Path, shell: str, body: str) -> None:
    """`set -euo pipefail` in the script hurts neither the hook nor the record of the failure."""
    run = make_run(tmp_path)
    pipefail = "" if shell == "dash" else "; (set -o pipefail) 2>/dev/null && set -o pipefail"
    code, out, _ = Job(run, f"set -eu{pipefail}\necho strict\n{body}", shell).run()
    assert (out, code != 0) == ("strict\n", True)
    assert states(run) == [(3, "0001", "77", 0, code)]


@every_shell
@pytest.mark.parametrize("flags", ["-eu", "-e", "-u"])
def test_the_hook_works_in_a_strict_shell(tmp_path: Path, shell: str, flags: str) -> None:
    """The first line may make the shell strict before the hook runs; also without any variable of an array."""
    if shell == "busybox":
        pytest.skip("the kernel takes one argument of an interpreter alone")
    run = make_run(tmp_path)
    job = Job(run, "echo work", first=f"{shebang(shell)} {flags}")
    assert job.run() == (0, "work\n", "")
    assert states(run) == [(3, "0001", "77", 0, 0)]
    assert job.run(task=None) == (0, "work\n", "")
    assert len(states(run)) == 1


@every_shell
def test_a_script_may_go_elsewhere(tmp_path: Path, shell: str) -> None:
    """The record of the end is found from any directory, also from one that is gone."""
    run = make_run(tmp_path)
    assert Job(run, 'mkdir "$PWD/x"; cd x; rmdir "$OLDPWD/x"; exit 4', shell).run()[0] == 4
    assert states(run) == [(3, "0001", "77", 0, 4)]


@every_shell
def test_a_script_started_elsewhere_finds_its_run(tmp_path: Path, shell: str) -> None:
    """With --chdir the hook is found through the directory of the submission."""
    run = make_run(tmp_path)
    assert Job(run, "pwd", shell).run(cwd=Path("/"))[:2] == (0, "/\n")
    assert states(run) == [(3, "0001", "77", 0, 0)]


@every_shell
def test_subshells_end_no_record(tmp_path: Path, shell: str) -> None:
    """The end of a subshell, a substitution or a background process is not the end of the task."""
    run = make_run(tmp_path)
    body = "(exit 5); x=$(exit 6); (exit 7) & wait; ls ../__esis__/tasks | grep -c running; exit 2"
    assert Job(run, body, shell).run()[:2] == (2, "1\n")
    assert states(run) == [(3, "0001", "77", 0, 2)]


@every_shell
def test_the_names_of_a_requeue_and_a_resubmission(tmp_path: Path, shell: str) -> None:
    """Restart count and submission number tell attempts apart; the array's job id names the job."""
    run = make_run(tmp_path)
    Job(run, "exit 1", shell, number=1).run()
    Job(run, "exit 2", shell, number=1).run(restart=1)
    Job(run, "exit 0", shell, number=12).run(job=99)
    assert states(run) == [(3, "0001", "77", 0, 1), (3, "0001", "77", 1, 2), (3, "0012", "99", 0, 0)]
    assert latest(read_records(run.tasks))[3].code == 0


@every_shell
def test_f23_a_map_tells_which_task_stands_at_a_position(tmp_path: Path, shell: str) -> None:
    """F23: a submission of many scattered tasks is a dense array; worker, steps and record see the task's own index."""
    run = make_run(tmp_path)
    job = Job(run, "echo $SLURM_ARRAY_TASK_ID; sh -c 'echo $SLURM_ARRAY_TASK_ID'", shell, mapped=(5, 17, 4099))
    assert job.run(task=0)[:2] == (0, "5\n5\n")
    assert job.run(task=2)[:2] == (0, "4099\n4099\n")
    assert states(run) == [(5, "0001", "77", 0, 0), (4099, "0001", "77", 0, 0)]


def test_a_map_belongs_to_its_submission(tmp_path: Path) -> None:
    """The map of another submission means nothing."""
    run = make_run(tmp_path)
    run.map(1).write_text("5\n17\n4099\n")
    assert Job(run, "echo $SLURM_ARRAY_TASK_ID", number=2).run(task=2)[:2] == (0, "2\n")


def test_a_plain_job_has_no_task_and_no_record(tmp_path: Path) -> None:
    """`sbatch --array= ../sbatch.sh` typed by hand works; there is no task to record."""
    run = make_run(tmp_path)
    env = Job(run, "echo work").environment(task=None)
    del env["SLURM_ARRAY_JOB_ID"]
    with Job(run, "echo work").start(env) as child:
        assert child.communicate(timeout=30) == ("work\n", "")
    assert (child.returncode, states(run)) == (0, [])


@every_shell
def test_jobs_that_a_task_submits_are_not_fenced_by_it(tmp_path: Path, shell: str) -> None:
    """The variable that fences a job is not passed on; of the rest two are for the worker, one for the hook itself."""
    run = make_run(tmp_path)
    code, out, _ = Job(run, "env | grep -i esis | cut -d= -f1", shell).run(fenced="0001")
    passed_on = ["SLURM_ESIS_INDEX", "SLURM_ESIS_INSIDE", "SLURM_ESIS_RECORD"]
    assert (code, sorted(out.split())) == (0, ["ESIS_REQUIREMENT_WAIT", *passed_on])


# --- signals


@every_shell
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_a_signal_is_never_a_success(tmp_path: Path, shell: str, number: int, code: int) -> None:
    """A signal that reaches the shell while a foreground child runs, which then ends with 0, is told by the code."""
    run = make_run(tmp_path)
    assert Job(run, f"sh -c '{BLOCK}'\necho next", shell).interrupted(number) == code
    assert states(run) == [(3, "0001", "77", 0, code)]


@pytest.mark.parametrize(
    "number",
    [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGALRM, signal.SIGUSR2, signal.SIGXCPU],
)
def test_no_signal_is_a_success(tmp_path: Path, number: int) -> None:
    """Every signal that a script may be sent and can hear gives 128 and its number."""
    run = make_run(tmp_path)
    assert Job(run, f"sh -c '{BLOCK}'\necho next", first="#!/bin/sh").interrupted(number) == 128 + number
    assert states(run) == [(3, "0001", "77", 0, 128 + number)]


@every_shell
def test_a_signal_during_the_last_command_is_no_success(tmp_path: Path, shell: str) -> None:
    """No shell may replace itself by the script's last command: the record would never end."""
    run = make_run(tmp_path)
    assert Job(run, f"sh -c '{BLOCK}'", shell).interrupted(signal.SIGTERM) == 143
    assert states(run) == [(3, "0001", "77", 0, 143)]


@every_shell
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_whole_job_is_recorded(tmp_path: Path, shell: str, number: int) -> None:
    """Slurm signals all processes of a step: the child dies, and the shell records the signal, not the child's end."""
    run = make_run(tmp_path)
    code = Job(run, f"sh -c '{BLOCK}'; true", shell).interrupted(number, group=True)
    assert code == 128 + number
    assert states(run) == [(3, "0001", "77", 0, code)]


@every_shell
def test_a_signal_during_wait_is_recorded_at_once(tmp_path: Path, shell: str) -> None:
    """`srun … & wait` lets the shell act at once; the record does not wait for the child."""
    run = make_run(tmp_path)
    job = Job(run, f"sh -c '{BLOCK}' & wait\nexit 0", shell)
    with job.start(job.environment()) as child:
        wait_for((run.cwd / "ready").exists)
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait(20) == 143
    assert states(run) == [(3, "0001", "77", 0, 143)]


@every_shell
def test_a_killed_job_stays_running(tmp_path: Path, shell: str) -> None:
    """After SIGKILL, the end of a node or a full disk nothing can be written: the record never says exit0."""
    run = make_run(tmp_path)
    assert Job(run, f"sh -c '{BLOCK}'", shell).interrupted(signal.SIGKILL) == -signal.SIGKILL
    assert states(run) == [(3, "0001", "77", 0, None)]


@every_shell
def test_a_trap_of_the_script_replaces_ours(tmp_path: Path, shell: str) -> None:
    """The script's own handling of a signal wins, and its exit code is recorded."""
    run = make_run(tmp_path)
    assert Job(run, f"trap 'exit 99' TERM\nsh -c '{BLOCK}'; true", shell).interrupted(signal.SIGTERM) == 99
    assert states(run) == [(3, "0001", "77", 0, 99)]


@every_shell
def test_an_exit_trap_of_the_script_leaves_the_record_running(tmp_path: Path, shell: str) -> None:
    """Without the record's end the task is never counted as done by its record; exit code and trap are the script's."""
    run = make_run(tmp_path)
    assert Job(run, "trap 'echo bye' EXIT\nexit 3", shell).run()[:2] == (3, "bye\n")
    assert states(run) == [(3, "0001", "77", 0, None)]


@every_shell
@pytest.mark.parametrize("code", [0, 3])
def test_an_exit_trap_can_end_the_record(tmp_path: Path, shell: str, code: int) -> None:
    """The line that task.sh advises: esis_end in the script's own trap writes the record."""
    run = make_run(tmp_path)
    trap = 'trap \'esis_code=$?; rm -rf "$scratch"; esis_end "$esis_code" || esis_code=75; exit "$esis_code"\' EXIT'
    assert trap in run.task_hook.read_text(), "what is tested is what is advised"
    assert Job(run, f"scratch=scratch; mkdir $scratch\n{trap}\nexit {code}", shell).run()[0] == code
    assert states(run) == [(3, "0001", "77", 0, code)]
    assert os.listdir(run.cwd) == []


@every_shell
@pytest.mark.parametrize("end", ["", '""', "failed", "-1", "1x", "'$?'", "9999999999999999"])
@pytest.mark.parametrize(
    "how", ["trap 'rm -f x; esis_end {}' EXIT", "set -e; true; esis_end {}", "set -u; esis_end {}"]
)
def test_f255_an_end_without_a_number_is_none_that_anybody_takes_for_good(
    tmp_path: Path, shell: str, how: str, end: str
) -> None:
    """F255: the record can be read, it is 75, and the log says why."""
    run = make_run(tmp_path)
    _, _, err = Job(run, how.replace("{}", end.replace("'", "'\\''") if "trap" in how else end), shell).run()
    assert [state[-1] for state in states(run)] == [75]
    assert "which is no number, so this task is not done" in err


@every_shell
def test_a_record_ends_once(tmp_path: Path, shell: str) -> None:
    """esis_end called twice, or by the script and then by the trap, writes one end: the first."""
    run = make_run(tmp_path)
    assert Job(run, "esis_end 5; esis_end 6; exit 0", shell).run()[0] == 0
    assert states(run) == [(3, "0001", "77", 0, 5)]


@every_shell
def test_exec_leaves_the_record_running(tmp_path: Path, shell: str) -> None:
    """A script that replaces itself has no shell that could record its end: it is never recorded as done."""
    run = make_run(tmp_path)
    assert Job(run, "exec sh -c 'exit 0'", shell).run()[0] == 0
    assert states(run) == [(3, "0001", "77", 0, None)]


# --- whatever goes wrong, the job runs on


@every_shell
@pytest.mark.parametrize("flags", ["set +e", "set -eu"])
def test_without_esis_the_job_runs_on(tmp_path: Path, shell: str, flags: str) -> None:
    """Somebody deleted __esis__ before a job by hand started: no records, no message, the script's exit code."""
    run = make_run(tmp_path)
    job = Job(run, f"{flags}\necho work; exit 6", shell)
    shutil.rmtree(run.private)
    assert job.run() == (6, "work\n", "")


@every_shell
@pytest.mark.parametrize("flags", ["set +e", "set -eu"])
def test_esis_may_vanish_while_the_job_runs(tmp_path: Path, shell: str, flags: str) -> None:
    """__esis__ deleted under way: the job goes on, says so once at its end, and keeps its exit code."""
    run = make_run(tmp_path)
    code, out, err = Job(run, f"{flags}\nrm -r ../__esis__; echo work; exit 6", shell).run()
    assert (code, out) == (6, "work\n")
    assert err.startswith("ESIS: can't write the record of this task's end into ")
    assert err.count("\n") == 1


@every_shell
@pytest.mark.parametrize("kind", ["missing", "a file", "read-only"])
@pytest.mark.parametrize("strict", [False, True])
def test_records_that_cannot_be_written_are_no_failure(tmp_path: Path, shell: str, kind: str, strict: bool) -> None:
    """The tasks' directory can't be written to: one message, no record, and the job runs on."""
    run = make_run(tmp_path)
    if kind == "read-only" and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    run.tasks.rmdir()
    if kind == "a file":
        run.tasks.write_text("")
    elif kind == "read-only":
        run.tasks.mkdir(mode=0o555)
    first = f"{shebang(shell)} -eu" if strict and shell != "busybox" else None
    code, out, err = Job(run, "echo work; exit 6", shell, first=first).run()
    assert (code, out) == (6, "work\n")
    assert "ESIS: can't write the record of this task's start into " in err
    assert err.count("ESIS") == 1
    assert not run.tasks.is_dir() or os.listdir(run.tasks) == []


@every_shell
def test_f09_a_full_disk_is_no_failure_and_no_success(tmp_path: Path, shell: str) -> None:
    """F09: where nothing can be written any more there is a message, no half record, and the job runs on."""
    run = make_run(tmp_path)
    job = Job(run, "echo work; exit 0", shell)

    def full() -> None:
        # Writing beyond the limit fails as on a full disk, once the signal that goes with it is ignored.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    done = subprocess.run(
        [str(job.spool)],
        cwd=run.cwd,
        env=job.environment(),
        text=True,
        capture_output=True,
        preexec_fn=full,
        restore_signals=False,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "work\n")
    assert "ESIS: can't write the record of this task's start into " in done.stderr
    assert states(run) == []


# --- the fence


@every_shell
def test_f16_one_job_of_a_submission_does_the_work(tmp_path: Path, shell: str) -> None:
    """F16: of two arrays of one submission the first to start works; the tasks of the other step aside with 0."""
    run = make_run(tmp_path)
    job = Job(run, "echo work", shell)
    assert job.run(task=0, job=77, fenced="0001") == (0, "work\n", "")
    code, out, err = job.run(task=1, job=88, fenced="0001")
    assert (code, out) == (0, "")
    assert err == "ESIS: job 77 does the work of this submission; job 88 steps aside\n"
    assert job.run(task=1, job=77, fenced="0001") == (0, "work\n", "")
    assert states(run) == [(0, "0001", "77", 0, 0), (1, "0001", "77", 0, 0)]
    assert os.readlink(run.claim(1)) == "77"


@every_shell
def test_f21_a_requeued_job_works(tmp_path: Path, shell: str) -> None:
    """F21: the same job id comes back after a requeue: it holds the claim already."""
    run = make_run(tmp_path)
    job = Job(run, "echo work; exit 0", shell)
    for restart in range(3):
        assert job.run(restart=restart, fenced="0001") == (0, "work\n", "")
    assert states(run) == [(3, "0001", "77", restart, 0) for restart in range(3)]


@every_shell
def test_a_submission_by_hand_works(tmp_path: Path, shell: str) -> None:
    """`sbatch ../sbatch.sh` isn't fenced, and claims nothing."""
    run = make_run(tmp_path)
    job = Job(run, "echo work", shell)
    assert job.run(job=99) == (0, "work\n", "")
    assert not os.path.lexists(run.claim(1))
    job.run(job=77, fenced="0001")
    assert job.run(job=99) == (0, "work\n", "")


def test_another_submission_is_fenced_by_itself(tmp_path: Path) -> None:
    """Each submission has a claim of its own."""
    run = make_run(tmp_path)
    Job(run, "echo work", number=1).run(job=77, fenced="0001")
    assert Job(run, "echo work", number=2).run(job=88, fenced="0002") == (0, "work\n", "")
    assert (os.readlink(run.claim(1)), os.readlink(run.claim(2))) == ("77", "88")


@every_shell
def test_f16_two_arrays_at_the_same_instant(tmp_path: Path, shell: str) -> None:
    """F16: twelve tasks of two arrays start at once: six work, and they are of one array."""
    run = make_run(tmp_path)
    job = Job(run, "echo work", shell)
    starts = [(task, number) for task in range(6) for number in (77, 88)]
    with ThreadPoolExecutor(len(starts)) as pool:
        results = list(pool.map(lambda start: job.run(start[0], start[1], fenced="0001"), starts))
    assert {code for code, _, _ in results} == {0}
    winner = os.readlink(run.claim(1))
    assert {start for start, result in zip(starts, results) if result[1]} == {(n, int(winner)) for n in range(6)}
    assert states(run) == [(task, "0001", winner, 0, 0) for task in range(6)]


# --- signals for the worker, and tasks that want to go on

SAVING = """\
trap 'echo saved >saved; exit 75' USR1 TERM
: >ready
n=0; while [ $n -lt 400 ]; do sleep 0.05; n=$((n + 1)); done
exit 9
"""


def signalled(job: Job, number: signal.Signals) -> int:
    """Send a signal to the script alone once its worker is ready; return its exit code."""
    with job.start(job.environment()) as child:
        wait_for((job.run_dir.cwd / "ready").exists)
        child.send_signal(number)
        child.communicate(timeout=60)
    return child.returncode


@every_shell
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
@pytest.mark.parametrize("options", ["", "set -eu\n"])
def test_a_signal_for_the_script_reaches_the_worker_in_the_background(
    tmp_path: Path, shell: str, options: str, number: signal.Signals
) -> None:
    """Preemption and --signal=B:USR1: the worker saves, and its exit status becomes that of the script."""
    if shell == "ksh" and options:
        pytest.skip("ksh under set -e ends at a signal during wait, without running its trap")
    run = make_run(tmp_path)
    (run.path / "w").write_text(f"#!/bin/sh\n{SAVING}")
    (run.path / "w").chmod(0o755)
    assert signalled(Job(run, f"{options}../w &\nwait $!\necho behind >behind", shell), number) == 75
    assert (run.cwd / "saved").read_text() == "saved\n"
    assert not (run.cwd / "behind").exists()
    assert states(run) == [(3, "0001", "77", 0, 75)]


# As if the shell came to nothing else until its worker has ended: some hear of that themselves, and forget the process.
LATE = """\
kill() {
    command kill "$@" || return 1
    case $1 in -s)
        while command kill -0 "$3" 2>/dev/null && ! grep -q ') Z' "/proc/$3/stat"; do sleep 0.02; done
        sleep 0.02;;
    esac
}
"""


@every_shell
def test_f234_a_worker_that_saves_at_once_and_is_gone_has_its_status_heard(tmp_path: Path, shell: str) -> None:
    """Else its script ends as by the signal, and is failed, where the worker asked to come again."""
    run = make_run(tmp_path)
    (run.path / "w").write_text(f"#!/bin/sh\n{SAVING}")
    (run.path / "w").chmod(0o755)
    assert signalled(Job(run, f"{LATE}../w &\nwait $!\necho behind >behind", shell), signal.SIGUSR1) == 75
    assert not (run.cwd / "behind").exists()
    assert states(run) == [(3, "0001", "77", 0, 75)]


@every_shell
def test_a_worker_that_ends_well_after_a_signal_is_not_done(tmp_path: Path, shell: str) -> None:
    """What the script does behind its worker was not done."""
    run = make_run(tmp_path)
    (run.path / "w").write_text("#!/bin/sh\n" + SAVING.replace("exit 75", "exit 0"))
    (run.path / "w").chmod(0o755)
    assert signalled(Job(run, "../w &\nwait $!\necho behind >behind", shell), signal.SIGUSR1) == 138
    assert states(run) == [(3, "0001", "77", 0, 138)]


@every_shell
@pytest.mark.parametrize(
    "body",
    [
        "exit 75",
        "exit 0",
        "set -eu; sh -c 'exit 75'",
        "trap 'esis_end $?' EXIT; exit 75",
        'PATH="$PATH:/nowhere"; exit 0',
    ],
)
def test_a_marker_makes_the_record_resumable(tmp_path: Path, shell: str, body: str) -> None:
    """Whatever the script ends with: never done, never with 0."""
    run = make_run(tmp_path)
    code, _, err = Job(run, f': >"$SLURM_ESIS_RECORD.resume"\n{body}', shell).run()
    assert code == 75
    assert "task 3 saved its state and has more to do" in err
    (record,) = read_records(run.tasks)
    assert (record.resumable, record.code, record.ended, record.task) == (True, 75, True, 3)
    assert os.listdir(run.tasks) == [record.name]


@every_shell
def test_a_script_that_starts_its_worker_again_takes_the_marker_away_before(tmp_path: Path, shell: str) -> None:
    """What the last of them did counts then: the line of `esis doc requeue`."""
    run = make_run(tmp_path)
    (line,) = re.findall(r"^ {4}(rm -f .*\.resume.*)$", (DOCS / "requeue.md").read_text("utf-8"), re.MULTILINE)
    worker = f'set -eu; {line}; : >"$SLURM_ESIS_RECORD.resume"; {line}'
    code, _, _ = Job(run, worker, shell).run()
    assert code == 0
    (record,) = read_records(run.tasks)
    assert record.code == 0
    assert os.listdir(run.tasks) == [record.name]


@every_shell
def test_the_worker_knows_slurms_own_index(tmp_path: Path, shell: str) -> None:
    """Position 1 of the map is task 9: who requeues has to name position 1."""
    run = make_run(tmp_path)
    job = Job(
        run, 'env | grep "^SLURM_ESIS_[^I]\\|^SLURM_ESIS_INDEX\\|^SLURM_ARRAY_TASK_ID" | sort', shell, mapped=(4, 9)
    )
    code, out, _ = job.run(1)
    (record,) = read_records(run.tasks)
    stem = record.name.partition(".exit")[0]
    assert (code, out) == (0, f"SLURM_ARRAY_TASK_ID=9\nSLURM_ESIS_INDEX=1\nSLURM_ESIS_RECORD={run.tasks / stem}\n")


@every_shell
def test_a_resumable_task_completes_no_requirement(tmp_path: Path, shell: str) -> None:
    run = make_run(tmp_path)
    other = other_run(tmp_path, "0.0001.7.0.100.exit0.101", "0.0002.8.0.200.resumable.201", "1.0001.7.0.100.exit0.101")
    required(run, 2, other.path)
    assert Job(run, "echo work", shell).run()[0] == 75


# --- requirements


def required(run: RunDir, count: int, path: Path) -> None:
    run.requirements.write_text(f"0:{count - 1}:{path}\n")


def other_run(tmp_path: Path, *records: str, completed: str = "0", digest: str = "cd" * 32) -> RunDir:
    run = make_run(tmp_path, digest)
    run.completed.write_text(completed)
    for name in records:
        (run.tasks / name).touch()
    return run


@every_shell
@pytest.mark.parametrize(
    ("completed", "records"),
    [
        ("1\n", []),
        ("1", ["7.0001.7.0.100.exit1.101"]),
        (
            "0",
            ["0.0001.7.0.100.exit1.101", "0.0001.7.1.200.exit0.201", "1.0001.7.0.100.exit0.101", ".2.0001.7.0.100.99"],
        ),
    ],
)
def test_f27_work_starts_behind_a_complete_run(tmp_path: Path, shell: str, completed: str, records: list[str]) -> None:
    """F27: the latest record of each task says exit0; without a record of any of them completed.state holds 1."""
    run = make_run(tmp_path)
    required(run, 2, other_run(tmp_path, *records, completed=completed).path)
    assert Job(run, "echo work", shell).run() == (0, "work\n", "")
    assert states(run) == [(3, "0001", "77", 0, 0)]


@every_shell
@pytest.mark.parametrize(
    "records",
    [
        [],
        ["0.0001.7.0.100.exit0.101", "1.0001.7.0.100.running"],
        ["0.0001.7.0.100.exit0.101", "1.0001.7.0.100.exit0.101", "1.0002.9.0.300.running"],
    ],
)
def test_f26_work_never_starts_behind_an_incomplete_run(tmp_path: Path, shell: str, records: list[str]) -> None:
    """F26: a missing, running or failed task, or a later attempt under way: the job ends with 75 and names the run."""
    run = make_run(tmp_path)
    other = other_run(tmp_path, *records)
    required(run, 2, other.path)
    for fenced, left in ((None, []), ("0001", [(3, "0001", "77", 0, 75)])):  # by hand: what it did before stands
        code, out, err = Job(run, "echo work", shell).run(fenced=fenced)
        assert (code, out) == (75, "")
        assert f"ESIS: the required run {other.path} is not complete" in err
        assert states(run) == left


@every_shell
def test_f26_every_requirement_counts(tmp_path: Path, shell: str) -> None:
    """F26: with several requirements the one that isn't complete is named; a path may hold anything but a newline."""
    run = make_run(tmp_path)
    done = other_run(tmp_path, completed="1")
    hostile = tmp_path / " a|b:c\\n*? %s ' \" $(touch canary)`touch canary` "
    hostile.mkdir()
    open_run = other_run(hostile)
    run.requirements.write_text(f"0:2:{done.path}\n0:0:{open_run.path}")  # no newline at the end
    job = Job(run, "echo work", shell)
    code, out, err = job.run()
    assert (code, out) == (75, "")
    assert str(open_run.path) in err
    assert str(done.path) not in err
    (open_run.tasks / "0.0001.7.0.100.exit0.101").touch()
    assert job.run(restart=1)[:2] == (0, "work\n")
    assert not list(tmp_path.rglob("canary"))


@every_shell
def test_a_required_run_that_is_gone_is_not_complete(tmp_path: Path, shell: str) -> None:
    """F26: a run that somebody deleted proves nothing."""
    run = make_run(tmp_path)
    required(run, 1, tmp_path / "gone")
    assert Job(run, "echo work", shell).run()[:2] == (75, "")


def test_f27_a_run_that_becomes_complete_is_waited_for(tmp_path: Path) -> None:
    """F27: listings of network file systems may be old: the job looks again before it gives up."""
    run = make_run(tmp_path)
    other = other_run(tmp_path)
    required(run, 1, other.path)
    tools = tmp_path / "tools"
    tools.mkdir()
    # The pause between two looks is when the other run becomes complete.
    (tools / "sleep").write_text(f'#!/bin/sh\necho "$1" >>pauses\n: >"$1" && echo 1 >"$COMPLETED"\nexit 0 # {other}\n')
    (tools / "sleep").chmod(0o755)
    code, out, _ = Job(run, "echo work").run(
        ESIS_REQUIREMENT_WAIT="75", COMPLETED=str(other.completed), PATH=f"{tools}:{os.environ['PATH']}"
    )
    assert (code, out) == (0, "work\n")
    assert (run.cwd / "pauses").read_text() == "5\n"


@st.composite
def attempts(draw: st.DrawFn) -> list[TaskRecord]:
    """Draw the records of a run: per task some attempts, in the order of time as far as one job is concerned."""
    found: list[TaskRecord] = []
    for task in range(draw(st.integers(1, 4))):
        starts = draw(st.lists(st.sampled_from([9, 10, 99, 100, 101, 1000]), unique=True, max_size=5).map(sorted))
        restarts: dict[tuple[int, str], int] = {}
        for start in starts:
            key = draw(st.sampled_from([1, 2, 9999, 10000])), draw(st.sampled_from(["7", "10", "1790000000000001"]))
            restarts[key] = restarts.get(key, -1) + draw(st.sampled_from([1, 1, 9, 10]))
            record = TaskRecord(task, key[0], key[1], restarts[key], start)
            end = record._replace(code=draw(st.sampled_from([0, 0, 1, 75])), end=start + 1)
            told = [record._replace(end=start + 1, verdict=word) for word in ("COMPLETED", "TIMEOUT", "CANCELLED")]
            note = record._replace(end=start, verdict="CANCELLED")
            again = record._replace(code=draw(st.sampled_from([0, 3])), end=start + draw(st.sampled_from([1, 2])))
            ends = [
                [record],
                [end],
                [end],
                [record, end],
                [end._replace(code=75, resumable=True)],
                [end, again],
                [note],
                [note, end],
                [note, record],
                *([word] for word in told),
                *([word, end] for word in told),
            ]
            found += draw(st.sampled_from(ends).flatmap(st.permutations))
    return found


def awk_programs() -> list[str]:
    """Return the implementations of awk that are here: jobs run on whatever a site has."""
    return [name for name in ("mawk", "gawk", "original-awk", "busybox") if shutil.which(name)] or ["awk"]


@pytest.mark.parametrize("awk", awk_programs())
@settings(RELAXED, max_examples=6)
@given(st.lists(attempts(), min_size=8, max_size=16))
def test_the_job_and_esis_agree_on_what_is_complete(
    tmp_path_factory: pytest.TempPathFactory, awk: str, runs: list[list[TaskRecord]]
) -> None:
    """The awk program in task.sh and esis.records.tasks.TaskRecords judge any set of records alike, with any awk."""
    scratch = tmp_path_factory.mktemp("agree")
    hook = make_run(scratch).task_hook
    expected, words = [], []
    for number, found in enumerate(runs):
        directory = scratch / str(number) / "__esis__" / "tasks"
        directory.mkdir(parents=True)
        for record in found:
            (directory / record.name).touch()
        done = {record.task for record in latest(read_records(directory)).values() if record.done}
        for first, last in ((0, 0), (1, 1), (0, 1), (1, 3), (0, 3)):
            words.append(f"{first} {last} {number}")
            expected.append(done >= set(range(first, last + 1)))
    tools = scratch / "tools"
    tools.mkdir()
    (tools / "awk").symlink_to(shutil.which(awk) or awk)
    script = (
        '. "$esis_hook"\nwhile read -r first last run; do\n'
        'esis_is_complete "$first" "$last" "$run" && echo True || echo False; done'
    )
    answer = subprocess.run(
        ["sh", "-c", script],
        input="\n".join(words) + "\n",
        cwd=scratch,
        text=True,
        check=True,
        capture_output=True,
        env={"PATH": f"{tools}:{os.environ['PATH']}", "esis_hook": str(hook), "esis_submission": "0001"},
    )
    assert answer.stdout.split() == [str(item) for item in expected], (words, runs)


@pytest.mark.parametrize(
    "name",
    ["0.0001.7.0.100.exit0.101.bak", "0.0001.7.0.100.exit0.101~", "0.0001.7.0.100.exit0", "0.0001.7.0.100.exit0."],
)
def test_what_is_no_record_completes_nothing(tmp_path: Path, name: str) -> None:
    """A copy or a cut name in the directory is no record for ESIS, so it can't complete a requirement for the job."""
    run = make_run(tmp_path)
    other = other_run(tmp_path, name)
    assert read_records(other.tasks) == []
    required(run, 1, other.path)
    assert Job(run, "echo work").run()[0] == 75


def test_tasks_beyond_the_run_complete_nothing(tmp_path: Path) -> None:
    """`sbatch --array=0-2,5` by hand records a task 5 that the run doesn't have; it can't stand in for a failed one."""
    run = make_run(tmp_path)
    other = other_run(tmp_path, "0.0001.7.0.100.exit0.101", "1.0001.7.0.100.exit1.101", "5.0001.8.0.200.exit0.201")
    required(run, 2, other.path)
    assert Job(run, "echo work").run()[0] == 75


def test_what_is_marked_complete_is_complete(tmp_path: Path) -> None:
    """By ESIS, or by hand in spite of a record; an empty mark says nothing, nor does a directory of that name."""
    run = make_run(tmp_path)
    other = other_run(tmp_path, "0.0001.7.0.100.exit1.101")
    required(run, 1, other.path)
    assert Job(run, "echo work").run()[0] == 75
    other.complete_mark.write_text("")
    assert Job(run, "echo work").run()[0] == 75
    for text in ("by hand\n", f"by hand: {'checked by me, ' * 500}\n", "\n \nby hand", "\0\0by hand"):
        other.complete_mark.write_text(text)
        assert is_marked(other), text
        assert Job(run, "echo work").run()[:2] == (0, "work\n"), text
    for text in ("\n", "\0" * 9999, " \n\nesis 0.1.0 run=another\n"):
        other.complete_mark.write_text(text)
        assert not is_marked(other), text
        assert Job(run, "echo work").run()[0] == 75, text
    other.complete_mark.unlink()
    other.complete_mark.mkdir()
    assert Job(run, "echo work").run()[0] == 75


@pytest.mark.parametrize("shell", SHELLS)
def test_f65_a_local_task_tells_when_its_process_started(tmp_path: Path, shell: str) -> None:
    """F65: the number alone may be another process by now. Of Slurm's tasks nobody needs it."""
    run = make_run(tmp_path)
    body = """echo "$$ $(sed 's/.*) //' "/proc/$$/stat" | cut -d ' ' -f 20)\""""
    _, out, _ = Job(run, body, shell).run(SLURM_ESIS_LOCAL="1", SLURM_CLUSTER_NAME="local")
    (record,) = read_records(run.tasks)
    details = read_details(run.tasks, record)
    assert details is not None
    assert [details.pid, details.started] == list(map(int, out.split()))
    assert details.boot == ""
    Job(run, "true", shell).run(SLURM_ARRAY_JOB_ID="8")
    assert {json.loads(path.read_text()).get("started") for path in run.tasks.iterdir()} == {None, details.started}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("around", ["", "55"])
def test_f108_a_task_begun_by_hand_tells_in_which_boot_its_process_is_one(
    tmp_path: Path, shell: str, around: str
) -> None:
    """F108: Slurm can't tell of it later, and no local run either; `around`: the allocation in which it was typed."""
    run = make_run(tmp_path)
    _, out, _ = Job(run, 'echo "$$"', shell).run(SLURM_JOB_ID=around, SLURM_ARRAY_TASK_COUNT="")
    (record,) = read_records(run.tasks)
    details = read_details(run.tasks, record)
    assert details is not None
    assert (details.pid, details.boot) == (int(out), boot())
    assert details.started > 0
