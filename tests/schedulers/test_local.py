"""`esis run --local` is the same run on this machine: same script, variables, records, logs."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from esis.files import TEMPORARY_PREFIX
from esis.locks import user_name
from esis.model.template import Values, render
from esis.model.workdir import RunDir
from esis.process import signal_session
from esis.records.submissions import Array, Job, Outcome, Submission
from esis.records.tasks import read_records
from esis.schedulers import local
from esis.schedulers.base import Answer
from esis.schedulers.directives import Options
from esis.schedulers.local import Local, Progress, environment, installed_srun, log_name

SRUN = Path(local.__file__).parent / "bin" / "srun"


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def make_run(directory: Path, body: str, header: str = "", first: str = "#!/bin/sh") -> RunDir:
    """Make a run's directory as far as its tasks need it."""
    run = RunDir.of(directory, "ab" * 32)
    for path in (run.path, *run.directories()):
        path.mkdir()
    run.task_hook.write_text(resources.files("esis.records").joinpath("task.sh").read_text("utf-8"))
    text = f"{first}\n#SBATCH --array=TASKARRAYDEFINITION\n{header}{body}\n"
    run.script.write_text(render(text, "t.sh", Values("0-9", "w", 1)).text)
    run.script.chmod(0o755)
    return run


def submission(*tasks: int, number: int = 1) -> Submission:
    return Submission(number, "local", tasks, (Array("x", 0, len(tasks)),), "ab", time.time(), "owner", True)


def codes(run: RunDir) -> dict[int, int | None]:
    return {task: record.code for task, record in read_records(run).items()}


# --- options and log names


@pytest.mark.parametrize(
    ("directives", "expected"),
    [
        ([], Options()),
        (["-o x.out"], Options(output="x.out")),
        (["-ox.out"], Options(output="x.out")),
        (["--output=x.out"], Options(output="x.out")),
        (["--output x.out"], Options(output="x.out")),
        (["--output='a b.out' # c"], Options(output="a b.out")),
        (["-o a", "-o b"], Options(output="b")),
        (["-e err -J name -D sub"], Options(error="err", job_name="name", directory="sub")),
        (["--error=err --job-name=name --chdir=sub"], Options(error="err", job_name="name", directory="sub")),
        (["-c 4 -n2"], Options(cpus="4", ntasks="2")),
        (["--cpus-per-task=4", "--ntasks 2"], Options(cpus="4", ntasks="2")),
        (["--open-mode=append"], Options(append=True)),
        (["--open-mode=truncate"], Options(append=False)),
        (["--mem=3G --time=1 -p x --exclusive"], Options()),
        (["--comment='-o no'"], Options()),
        (["-o"], Options(output="")),
    ],
)
def test_options_of_a_script(directives: list[str], expected: Options) -> None:
    """The few options that mean something here are read as sbatch reads them; the last of a kind counts."""
    script = "#!/bin/sh\n" + "".join(f"#SBATCH {line}\n" for line in directives) + "true\n#SBATCH -o never\n"
    assert Options.of(script) == expected


def test_given_options_outrank_the_script() -> None:
    """As with sbatch, the command line wins."""
    assert Options.of("#!/bin/sh\n#SBATCH -o a -c 2\n", ["--output=b", "-J", "x"]) == Options(
        output="b", cpus="2", job_name="x"
    )


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("slurm-%A_%a.out", "slurm-100_7.out"),
        ("%j", "108"),
        ("%J", "108"),
        ("%x-%a", "job name-7"),
        ("%4a", "0007"),
        ("%03a", "007"),
        ("%1a", "7"),
        ("%10A", "0000000100"),
        ("%%a", "%a"),
        ("%%%a", "%7"),
        ("%n.%t.%s", "0.0.batch"),
        ("%q", "%q"),
        ("100%", "100%"),
        ("logs/%a/x", "logs/7/x"),
        ("%4x", "job name"),
        ("%u", None),
        ("%N", None),
        ("%b", "7"),
        ("%3b", "007"),
        ("%r", "0"),
        ("%S", "%S"),
        ("%99a", "0000000007"),
        (r"a\\%j", "a%j"),
    ],
)
def test_log_names(pattern: str, expected: str | None) -> None:
    """File name patterns are expanded as sbatch(1) describes them; what is none stays as it is."""
    found = log_name(pattern, 100, 108, 7, Options(job_name="job name"))
    if expected is None:
        expected = user_name(os.getuid()) if pattern == "%u" else socket.gethostname().partition(".")[0]
    assert found == expected


# --- the stand-in for srun


def srun(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [str(SRUN), *arguments], capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]}
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--",
        "-n 4 -c2 --mem=3G --exclusive --cpus-per-task 2",
        "-n4 -N 1 -u",
        "-l -u -n 2",
        "-lu -n2",
        "--ntasks=2",
        "--ntasks 2 --",
        "--label --unbuffered",
        "--overlap --exact",
        "-K -k",
        "-K1",
        "--kill-on-bad-exit=1",
        "--mpi=none",
        "--mpi none",
        "--cpu-bind cores",
        "--gres gpu:1",
        "-t 5 -p x",
        "-o out.txt -e err.txt",
        "--exclusive=user",
        "-Q -v -vv",
        "--pty --",
        "-J name",
        "-w node1",
        "--hint=nomultithread",
        "-O -s -X -E",
    ],
)
def test_srun_skips_its_options(options: str) -> None:
    """Options of srun, with and without values, are left out; the command keeps all of its own."""
    show = ("sh", "-c", 'printf "%s\\n" "$@"', "argv0")
    own = ("-x", "--y", "-n", "3", "--", "a b", "", "*")
    code, out, err = srun(*options.split(), *show, *own)
    assert (code, err) == (0, ""), err
    assert out.split("\n")[:-1] == list(own)


@pytest.mark.parametrize("options", ["--bcast", "--compress", "--x11", "--test-only"])
def test_srun_knows_all_options_without_a_value(options: str) -> None:
    """Also those options of srun whose value may be left out."""
    assert srun(*options.split(), "echo", "out")[1] == "out\n"


def test_srun_is_one_task_of_a_step() -> None:
    """The command runs once, in place, with the variables of a step's only task, and its exit code comes back."""
    script = 'echo "$SLURM_PROCID $SLURM_LOCALID $SLURM_NODEID $SLURM_STEP_ID"; exit 9'
    assert srun("-n", "4", "sh", "-c", script) == (9, "0 0 0 0\n", "")


@pytest.mark.parametrize("arguments", [[], ["-n", "4"], ["--"], ["--exclusive"]])
def test_srun_without_a_command_fails(arguments: list[str]) -> None:
    """As the real one, with a word about what is missing."""
    code, out, err = srun(*arguments)
    assert (code, out) == (1, "")
    assert "no command" in err


def test_srun_is_put_into_the_run(tmp_path: Path) -> None:
    """It is executable, and nothing is left beside it, also of one that was killed; a second time nothing happens."""
    run = make_run(tmp_path, "true")
    run.local_bin.mkdir()
    (run.local_bin / f"{TEMPORARY_PREFIX}1-2").touch()
    with installed_srun(run) as programs:
        assert programs == run.local_bin
    before = (run.local_bin / "srun").stat()
    with installed_srun(run):
        pass
    assert os.listdir(run.local_bin) == ["srun"]
    assert (run.local_bin / "srun").stat() == before
    assert stat.S_IMODE(before.st_mode) == 0o755
    assert (run.local_bin / "srun").read_bytes() == SRUN.read_bytes()


@pytest.mark.parametrize("first", ["#!/bin/sh", "#!/bin/bash -l"])
@pytest.mark.parametrize("name", ["plain", "12:30:00"])
def test_srun_is_the_stand_in_wherever_the_run_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, name: str
) -> None:
    """A login shell sets PATH anew, and PATH can't name a directory with a colon: neither may lead to Slurm's srun."""
    home, slurm, temporary = tmp_path / "home", tmp_path / "slurm", tmp_path / "tmp"
    for path in (home, slurm, temporary, tmp_path / name):
        path.mkdir()
    (slurm / "srun").write_text("#!/bin/sh\necho that of Slurm\n")
    (slurm / "srun").chmod(0o755)
    (home / ".bash_profile").write_text(f"PATH='{slurm}':$PATH\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    run = make_run(tmp_path / name, "srun echo the stand-in\necho ${SLURM_ESIS_PATH-gone}", "#SBATCH -o log\n", first)
    Local(1).submit(run, submission(0), 0, lambda job: None)
    assert (run.cwd / "log").read_text() == "the stand-in\ngone\n"
    assert os.listdir(temporary) == []


# --- tasks


def test_the_environment_of_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task sees what Slurm sets in a batch script, and nothing of an enclosing job."""
    monkeypatch.setenv("SLURM_RESTART_COUNT", "5")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "5")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    run = RunDir.of(tmp_path, "ab" * 32)
    env = environment(run, submission(3, 5, 9), 100, 1, Options(cpus="4", ntasks="2", job_name="x"), run.local_bin)
    assert {name: env[name] for name in env if name.startswith("SLURM_")}.items() >= {
        "SLURM_ARRAY_JOB_ID": "100",
        "SLURM_ARRAY_TASK_ID": "5",
        "SLURM_ARRAY_TASK_COUNT": "3",
        "SLURM_ARRAY_TASK_MIN": "3",
        "SLURM_ARRAY_TASK_MAX": "9",
        "SLURM_JOB_ID": "102",
        "SLURM_JOB_NAME": "x",
        "SLURM_SUBMIT_DIR": str(run.cwd),
        "SLURM_CPUS_PER_TASK": "4",
        "SLURM_NTASKS": "2",
        "SLURM_ESIS_SUBMISSION": "0001",
    }.items()
    assert not {"SLURM_RESTART_COUNT", "SLURM_MEM_PER_CPU"} & set(env)
    assert env["OMP_NUM_THREADS"] == "3"
    assert env["PATH"].startswith(f"{run.local_bin}:")
    plain = environment(run, submission(3), 100, 0, Options(), run.local_bin)
    assert not {"SLURM_CPUS_PER_TASK", "SLURM_NTASKS"} & set(plain)


def test_tasks_run_as_in_a_job(tmp_path: Path) -> None:
    """Working directory, logs, srun and records are those of a job; the answer is an acknowledged submission."""
    run = make_run(
        tmp_path, 'echo "$SLURM_ARRAY_TASK_ID in $(pwd)"; echo err >&2\nsrun -n1 sh -c "exit $SLURM_ARRAY_TASK_ID"'
    )
    told: list[Job] = []
    answer = Local(2).submit(run, submission(0, 3, 7), 0, told.append)
    assert (answer.outcome, answer.returned, len(told)) == (Outcome.SUBMITTED, (), 1)
    assert codes(run) == {0: 0, 3: 3, 7: 7}
    logs = {path.name: path.read_text() for path in run.cwd.iterdir()}
    assert logs == {f"slurm-{told[0].id}_{task}.out": f"{task} in {run.cwd}\nerr\n" for task in (0, 3, 7)}
    assert os.readlink(run.claim(1)) == told[0].id


@pytest.mark.parametrize("parallel", [1, 3])
def test_no_more_tasks_run_at_a_time_than_allowed(tmp_path: Path, parallel: int) -> None:
    """The limit is reached and never passed, as the tasks themselves and the progress see it."""
    # Each task waits until as many live as may; the last ones see that all the others have ended.
    run = make_run(
        tmp_path,
        f""": >../results/live.$SLURM_ARRAY_TASK_ID
while [ "$(ls ../results | grep -c live)" -lt {parallel} ] && [ "$(ls ../results | wc -l)" -lt 6 ]; do sleep 0.01; done
ls ../results | grep -c live
mv ../results/live.$SLURM_ARRAY_TASK_ID ../results/done.$SLURM_ARRAY_TASK_ID""",
    )
    seen: list[Progress] = []
    Local(parallel, seen.append).submit(run, submission(*range(6)), 0, lambda job: None)
    counts = [int(path.read_text()) for path in run.cwd.iterdir()]
    assert len(counts) == 6
    assert max(counts) <= parallel
    assert max(progress.running for progress in seen) <= parallel
    assert seen[-1] == Progress(total=6, running=0, done=6, failed=0)
    assert sorted(progress.done for progress in seen) == [progress.done for progress in seen]


def test_two_tasks_really_run_at_once(tmp_path: Path) -> None:
    """Two tasks that wait for each other end."""
    run = make_run(
        tmp_path, ': >"ready.$SLURM_ARRAY_TASK_ID"\nwhile [ ! -e ready.0 ] || [ ! -e ready.1 ]; do sleep 0.01; done'
    )
    Local(2).submit(run, submission(0, 1), 0, lambda job: None)
    assert codes(run) == {0: 0, 1: 0}


def test_failures_are_counted(tmp_path: Path) -> None:
    """The progress tells failed tasks from those that are done."""
    run = make_run(tmp_path, "exit $SLURM_ARRAY_TASK_ID")
    seen: list[Progress] = []
    Local(4, seen.append).submit(run, submission(0, 1, 2), 0, lambda job: None)
    assert seen[-1] == Progress(3, 0, 1, 2)


@pytest.mark.parametrize(
    ("first", "body", "expected"),
    [
        ("#!/bin/sh", "trap 'echo mine' EXIT; exit 4", 4),
        ("#!/bin/sh", "exec sh -c 'exit 5'", 5),
        ("#!/bin/sh", "kill -KILL $$", 137),
        ("#!/usr/bin/env python3", "raise SystemExit(6)", 6),
        ("#!/no/such/shell", "true", 53),
    ],
)
def test_what_a_job_cannot_record_is_recorded_for_it(tmp_path: Path, first: str, body: str, expected: int) -> None:
    """With its own trap, replaced, killed, no shell script, not even started: the end is known here."""
    run = make_run(tmp_path, body, first=first)
    Local(1).submit(run, submission(2), 0, lambda job: None)
    assert codes(run) == {2: expected}


def test_a_missing_log_directory_fails_the_task(tmp_path: Path) -> None:
    """As with Slurm: no log, the work isn't started, and the code is Slurm's 53."""
    run = make_run(tmp_path, ": >../results/ran", header="#SBATCH -o no/such/dir.out\n")
    Local(1).submit(run, submission(0), 0, lambda job: None)
    assert codes(run) == {0: 53}
    assert os.listdir(run.results) == []


def test_options_of_the_submission_count(tmp_path: Path) -> None:
    """Options that were given at submission outrank the script's, as with sbatch."""
    run = make_run(tmp_path, "echo x", header="#SBATCH -o a.out\n")
    Local(1).submit(run, submission(0)._replace(options=("-o", "b_%a.out")), 0, lambda job: None)
    assert os.listdir(run.cwd) == ["b_0.out"]


def test_the_id_is_told_before_any_task_starts(tmp_path: Path) -> None:
    """The record of the submission is complete when the first task runs."""
    run = make_run(tmp_path, "cat ../results/told")

    def told(job: Job) -> None:
        (run.results / "told").write_text(job.id)

    Local(1).submit(run, submission(0), 0, told)
    (log,) = run.cwd.iterdir()
    assert log.read_text() in log.name


# --- interrupts


def make_workflow(directory: Path, tasks: int) -> None:
    files = {
        "setup.sh": "#!/bin/sh\n",
        "gen.sh": f"#!/bin/sh\nfor n in $(seq 0 {tasks - 1}); do echo '{{}}' >parameters.$n.json; done; echo {tasks}\n",
        "template.sh": "#!/bin/sh\n#SBATCH --array=TASKARRAYDEFINITION\nsrun -n1 WORKERSCRIPT\n",
        "worker.sh": "#!/bin/sh\n: >../results/pid.$SLURM_ARRAY_TASK_ID.$$\n"
        "while [ ! -e ../results/go ]; do sleep 0.01; done\n",
    }
    for name, text in files.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    (directory / "wf.esis.json").write_text(
        json.dumps(
            {
                "setupscript": "setup.sh",
                "param_generator": "gen.sh",
                "sbatchtemplate": "template.sh",
                "workerscript": "worker.sh",
            }
        )
    )


def heed_signals() -> None:
    # A shell without job control starts background jobs with SIGINT ignored, and that is inherited.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def ignore_hangups() -> None:
    """Do what nohup does."""
    heed_signals()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@contextmanager
def start(directory: Path, before: Callable[[], None] = heed_signals) -> Iterator[subprocess.Popen[str]]:
    """Start a local run; neither it nor its tasks outlive the block where a test fails."""
    with subprocess.Popen(
        [sys.executable, "-m", "esis", "run", "--local", "-j", "2"],
        cwd=directory,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=before,
    ) as child:
        try:
            yield child
        except BaseException:
            for path in directory.glob("wrkdir.*/results"):
                (path / "go").touch()
            child.kill()
            raise


@pytest.mark.parametrize("nohup", [True, False])
def test_f64_a_run_under_nohup_outlives_its_terminal(tmp_path: Path, nohup: bool) -> None:
    """F64: a SIGHUP that is ignored stays so, for the tasks too; one that isn't gives them back."""
    make_workflow(tmp_path, 4)
    with start(tmp_path, ignore_hangups if nohup else heed_signals) as child:
        wait_for(lambda: len(list(tmp_path.glob("wrkdir.*/results/pid.*"))) == 2)
        (path,) = tmp_path.glob("wrkdir.*")
        child.send_signal(signal.SIGHUP)
        if nohup:
            for item in (path / "results").glob("pid.*"):
                os.kill(int(item.name.rpartition(".")[2]), signal.SIGHUP)
            (path / "results/go").touch()
        _, err = child.communicate(timeout=60)
    assert child.returncode == (0 if nohup else 130), err
    assert codes(RunDir(path)) == dict.fromkeys(range(4), 0) if nohup else "the same command goes on" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_its_tasks_and_can_go_on(tmp_path: Path, number: int) -> None:
    """Ctrl-C ends the children and gives them back; the same command goes on, and the run is complete in the end."""
    make_workflow(tmp_path, 4)
    with start(tmp_path) as first:
        wait_for(lambda: len(list(tmp_path.glob("wrkdir.*/results/pid.*"))) == 2)
        (path,) = tmp_path.glob("wrkdir.*")
        run = RunDir(path)
        pids = [int(item.name.rpartition(".")[2]) for item in run.results.glob("pid.*")]
        first.send_signal(number)
        _, err = first.communicate(timeout=30)
    assert first.returncode == 130
    assert "the same command goes on" in err
    assert "Traceback" not in err
    assert all(gone(pid) for pid in pids)
    assert not any(code == 0 for code in codes(run).values())
    assert run.completed.read_text().strip() == "0"
    (run.results / "go").touch()
    with start(tmp_path) as second:
        out, err = second.communicate(timeout=60)
    assert (second.returncode, out) == (0, f"{run.path}\n"), err
    assert codes(run) == dict.fromkeys(range(4), 0)
    with start(tmp_path) as third:
        _, err = third.communicate(timeout=60)
    assert third.returncode == 0
    assert "nothing to submit" in err
    assert run.completed.read_text().strip() == "1"


def test_a_task_that_ignores_the_signal_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After KillWait what still runs is killed, with all its processes, and given back."""
    monkeypatch.setattr(local, "KILL_WAIT_SECONDS", 0.1)
    run = make_run(
        tmp_path,
        "trap '' TERM\necho $$ >../results/pid\n"
        "sh -c \"trap '' TERM; echo \\$\\$ >../results/child; while :; do sleep 0.01; done\"",
    )
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        wait_for(lambda: (run.results / "child").exists() and (run.results / "child").read_text() != "")
        signal.pthread_kill(main, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    helper = threading.Thread(target=interrupt)
    helper.start()
    try:
        answer = Local(1).submit(run, submission(0, 1), 0, lambda job: None)
    finally:
        helper.join()
        signal.signal(signal.SIGINT, before)
    assert answer.returned == (0, 1)
    for name in ("pid", "child"):
        wait_for(lambda name=name: gone(int((run.results / name).read_text())))  # type: ignore[misc]
    assert codes(run) == {0: None}


# What makes a process group of its own, in the session of its task.
GROUPS = ["timeout 600 {}", "set -m; {} & wait"]


@pytest.mark.parametrize("worker", GROUPS)
def test_what_has_a_process_group_of_its_own_is_ended_with_its_task(tmp_path: Path, worker: str) -> None:
    """GNU timeout makes one, shells with job control do: unseen, the work would go on, and be done twice."""
    endless = tmp_path / "endless.sh"
    endless.write_text("#!/bin/sh\necho $$ >../results/pid\nexec tail -f /dev/null\n")
    endless.chmod(0o755)
    run = make_run(tmp_path, worker.format(endless), first="#!/bin/bash")
    assert interrupted_when(run, run.results / "pid").returned == (0,)
    wait_for(lambda: gone(int((run.results / "pid").read_text())))
    assert codes(run)[0] != 0


def test_what_a_script_leaves_in_the_background_ends_with_it(tmp_path: Path) -> None:
    """As in Slurm: a task that is done doesn't go on writing."""
    run = make_run(tmp_path, "set -m; tail -f /dev/null & echo $! >../results/pid", first="#!/bin/bash")
    Local(1).submit(run, submission(0), 0, lambda job: None)
    assert codes(run) == {0: 0}
    wait_for(lambda: gone(int((run.results / "pid").read_text())))


def interrupted_when(run: RunDir, path: Path) -> Answer:
    """Run task 0 here, and interrupt it once a file is there and not empty."""
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        wait_for(lambda: path.exists() and path.read_text() != "")
        signal.pthread_kill(main, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    helper = threading.Thread(target=interrupt)
    helper.start()
    try:
        return Local(1).submit(run, submission(0), 0, lambda job: None)
    finally:
        helper.join()
        signal.signal(signal.SIGINT, before)


def test_a_task_that_ends_well_while_it_is_stopped_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that still finishes its work within KillWait is not run again."""
    monkeypatch.setattr(local, "KILL_WAIT_SECONDS", 20.0)
    run = make_run(
        tmp_path,
        "trap ': >../results/stopped' TERM\n: >../results/ready\n"
        "while [ ! -e ../results/stopped ]; do sleep 0.01; done\nexit 0",
    )
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        wait_for((run.results / "ready").exists)
        signal.pthread_kill(main, signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    try:
        answer = Local(1).submit(run, submission(0, 1), 0, lambda job: None)
    finally:
        helper.join()
        signal.signal(signal.SIGINT, before)
    assert answer.returned == (1,)
    assert codes(run) == {0: 0}


def test_an_interrupt_while_the_first_tasks_start_ends_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C that comes as soon as a task runs is heard as any later one: the task is ended and given back."""
    run = make_run(tmp_path, ": >../results/ready; while [ ! -e ../results/go ]; do sleep 0.01; done")

    class Hasty(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **more: Any) -> Future[Any]:
            future = super().submit(*arguments, **more)
            if not (run.results / "ready").exists():
                wait_for((run.results / "ready").exists)
                signal.raise_signal(signal.SIGINT)
            return future

    monkeypatch.setattr(local, "ThreadPoolExecutor", Hasty)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        answer = Local(1).submit(run, submission(0, 1), 0, lambda job: None)
    except KeyboardInterrupt:
        pytest.fail("the interrupt went through, and the task runs on")
    finally:
        signal.signal(signal.SIGINT, before)
        (run.results / "go").touch()
    assert answer.returned == (0, 1)


def test_signalling_an_ended_task_is_no_error(tmp_path: Path) -> None:
    """A task may end while it is being stopped."""
    child = subprocess.Popen(["true"], start_new_session=True)
    child.wait()
    signal_session(child, signal.SIGTERM)
    assert child.returncode == 0
