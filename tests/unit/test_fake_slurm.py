"""The fake Slurm behaves as SLURM.md says the real one does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes import FakeSlurm, control
from tests.fakes.fake_slurm.records import array_text, parse_indices

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[FakeSlurm]:
    with FakeSlurm(tmp_path / "slurm", kill_wait=0.2) as fake:
        yield fake


@pytest.fixture
def auto(tmp_path: Path) -> Iterator[FakeSlurm]:
    with FakeSlurm(tmp_path / "slurm", auto=True, kill_wait=0.2) as fake:
        yield fake


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "a work 'dir'"
    folder.mkdir()
    return folder


def script(work: Path, body: str = "true", *directives: str, name: str = "job.sh") -> str:
    lines = ["#!/bin/sh", *(f"#SBATCH {text}" for text in directives), body, ""]
    (work / name).write_text("\n".join(lines))
    return name


def submit(slurm: FakeSlurm, work: Path, *arguments: str, env: dict[str, str] | None = None) -> int:
    done = slurm.call("sbatch", "--parsable", *arguments, cwd=work, env=env)
    assert (done.returncode, done.stderr) == (0, ""), done
    return int(done.stdout)


def squeue(slurm: FakeSlurm, *arguments: str) -> list[str]:
    done = slurm.call("squeue", "-h", *arguments)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.splitlines()


# --- submitting


def test_sbatch_prints_the_id_plain_or_parsable(slurm: FakeSlurm, work: Path) -> None:
    job = script(work)
    assert slurm.call("sbatch", job, cwd=work).stdout == "Submitted batch job 1\n"
    assert slurm.call("sbatch", "--parsable", job, cwd=work).stdout == "2\n"
    assert slurm.call("sbatch", "--version").stdout == "slurm 22.05.8\n"


def test_the_job_runs_its_spool_copy_with_the_submitters_environment_and_directory(
    slurm: FakeSlurm, work: Path
) -> None:
    show = 'echo "$0|$PWD|$MARK|$SLURM_JOB_ID|$SLURM_SUBMIT_DIR|$SLURM_RESTART_COUNT|$1"; umask'
    job = script(work, show, "-o out.txt")
    old = os.umask(0o027)
    try:
        submit(slurm, work, job, "argument one", env={"MARK": "x y"})
    finally:
        os.umask(old)
    (work / job).write_text("#!/bin/sh\nexit 9\n")
    assert slurm.run() == 1
    assert slurm.job(1).states == {None: "COMPLETED"}
    spool = slurm.job(1).script
    assert (work / "out.txt").read_text() == f"{spool}|{work}|x y|1|{work}||argument one\n0027\n"
    assert (work / "out.txt").stat().st_mode & 0o777 == 0o640


def test_every_task_of_an_array_sees_the_submitted_subset_and_gets_its_own_log(slurm: FakeSlurm, work: Path) -> None:
    show = 'echo "$SLURM_ARRAY_JOB_ID $SLURM_ARRAY_TASK_ID $SLURM_ARRAY_TASK_COUNT $SLURM_ARRAY_TASK_MIN'
    job = script(work, f'{show} $SLURM_ARRAY_TASK_MAX $SLURM_ARRAY_TASK_STEP $SLURM_JOB_ID"')
    submit(slurm, work, "-a", "1-7:3,9%2", job)
    assert slurm.run() == 4
    assert (work / "slurm-1_4.out").read_text() == "1 4 4 1 9 1 3\n"
    assert (work / "slurm-1_9.out").read_text() == "1 9 4 1 9 1 1\n", "the last task keeps the array's own id"


def test_command_line_beats_environment_beats_directives_and_directives_end_at_the_first_command(
    slurm: FakeSlurm, work: Path
) -> None:
    head = '#!/bin/sh\n\n# note\n#SBATCH -J "from script" --comment=c # remark\n#SBATCH -t 1:30:00\n'
    text = f"{head}true\n#SBATCH -p none\n"
    (work / "job.sh").write_text(text)
    form = ("-t", "all", "-o", "%j|%k|%l|%P")
    submit(slurm, work, "job.sh")
    submit(slurm, work, "job.sh", env={"SBATCH_JOB_NAME": "from env", "SBATCH_TIMELIMIT": "5"})
    submit(slurm, work, "--job-na=cli", "job.sh", env={"SBATCH_JOB_NAME": "from env"})
    assert squeue(slurm, *form) == ["from script|c|1:30:00|debug", "from env|c|5:00|debug", "cli|c|1:30:00|debug"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-a", "0-1001"], "Invalid job array specification"),
        (["-a", "5-1"], "Invalid job array specification"),
        (["-a", "1,,2"], "Invalid job array specification"),
        (["-a", "x"], "Invalid job array specification"),
        (["-a", ",".join(str(n) for n in range(0, 1000, 1)) + ",0" * 200], "or other parameter too long"),
        (["-J", "n" * 1025], "or other parameter too long"),
        (["-p", "nowhere"], "Invalid partition name specified"),
        (["-t", "soon"], "Invalid time limit specification"),
        (["-d", "afterwards:1"], "Job dependency problem"),
        (["--no-such-option"], "unrecognized option '--no-such-option'"),
        (["missing.sh"], "Unable to open file missing.sh"),
    ],
)
def test_sbatch_refuses_with_slurms_words(slurm: FakeSlurm, work: Path, arguments: list[str], message: str) -> None:
    done = slurm.call("sbatch", *arguments, script(work), cwd=work)
    assert done.returncode == 1
    assert message in done.stderr
    assert slurm.jobs() == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Batch script is empty!"),
        (b"echo hi\n", "This does not look like a batch script"),
        (b"#!/bin/sh\r\ntrue\r\n", "Batch script contains DOS line breaks"),
        (b"#!/bin/sh\n\0\n", "contain a NULL character"),
    ],
)
def test_sbatch_refuses_what_is_no_batch_script(slurm: FakeSlurm, work: Path, data: bytes, message: str) -> None:
    (work / "job.sh").write_bytes(data)
    done = slurm.call("sbatch", "job.sh", cwd=work)
    assert done.returncode == 1
    assert message in done.stderr


def test_an_empty_array_or_dependency_gives_a_plain_job_at_once(slurm: FakeSlurm, work: Path) -> None:
    job = script(work, "true", "--dependency=afterok:1", "-a 1-3")
    submit(slurm, work, "--array=", "--dependency=", job)
    assert slurm.run() == 1
    assert slurm.job(1).states == {None: "COMPLETED"}


def test_export_none_and_lists_let_slurm_variables_pass(slurm: FakeSlurm, work: Path) -> None:
    job = script(work, 'echo "$A|$B|$C|$SLURM_LEAK"; srun true')
    environment = {"A": "a", "B": "b", "SLURM_LEAK": "yes"}
    for number, export in enumerate(["ALL", "NONE", "NIL", "A,C=c d", "ALL,C=x"], 1):
        submit(slurm, work, f"--export={export}", "-o", f"{number}", job, env=environment)
    slurm.run()
    logs = [(work / str(number)).read_text() for number in range(1, 6)]
    assert logs == ["a|b||yes\n", "|||yes\n", "|||yes\n", "a||c d|yes\n", "a|b|x|yes\n"]


def test_a_job_from_inside_an_array_task_sees_that_tasks_index(slurm: FakeSlurm, work: Path) -> None:
    script(work, 'echo "[$SLURM_ARRAY_TASK_ID]"', "-o inner.txt", name="inner.sh")
    submit(slurm, work, script(work, "sbatch inner.sh", "-a 5"))
    assert slurm.run() == 2
    assert (work / "inner.txt").read_text() == "[5]\n"


def test_a_missing_log_directory_fails_the_launch_without_a_log(slurm: FakeSlurm, work: Path) -> None:
    submit(slurm, work, "-o", "no/such/log", script(work))
    slurm.run()
    task = slurm.job(1).task()
    assert (task.state, task.exit_code, task.reason) == ("FAILED", "0:53", "JobLaunchFailure")


def test_file_name_patterns_are_filled_in(slurm: FakeSlurm, work: Path) -> None:
    submit(
        slurm, work, "-a", "7", "-J", "n", "-o", "%x-%A_%3a-%u-%%.o", "-e", "%j.e", script(work, "echo o; echo e >&2")
    )
    slurm.run()
    user = squeue(slurm, "-t", "all", "-o", "%u")[0]
    assert (work / f"n-1_007-{user}-%.o").read_text() == "o\n"
    assert (work / "1.e").read_text() == "e\n"


def test_concurrent_submissions_get_different_ids_and_nothing_is_lost(slurm: FakeSlurm, work: Path) -> None:
    job = script(work)
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: submit(slurm, work, "-a", "0-2", job), range(16)))
    assert sorted(ids) == list(range(1, 17))
    assert len(squeue(slurm, "-r", "-o", "%i")) == 48
    assert len(slurm.calls("sbatch")) == 16


def test_a_killed_client_leaves_a_usable_state(slurm: FakeSlurm, work: Path) -> None:
    job = script(work)
    for delay in (0.001, 0.01, 0.02, 0.03, 0.04, 0.05):
        process = subprocess.Popen(
            ["sbatch", job], cwd=work, env=slurm.env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        process.kill()
        process.wait()
    accepted = len(slurm.jobs())
    last = submit(slurm, work, job)
    assert slurm.run() == accepted + 1
    assert slurm.job(last).states == {None: "COMPLETED"}


def test_wait_blocks_until_the_job_ended_and_returns_its_exit_code(auto: FakeSlurm, work: Path) -> None:
    done = auto.call(
        "sbatch", "-a", "0-2", script(work, "exit $SLURM_ARRAY_TASK_ID"), cwd=work, env={"SBATCH_WAIT": "1"}
    )
    assert done.returncode == 2
    assert auto.job(1).states == {0: "COMPLETED", 1: "FAILED", 2: "FAILED"}


def test_test_only_submits_nothing(slurm: FakeSlurm, work: Path) -> None:
    done = slurm.call("sbatch", "--test-only", script(work), cwd=work)
    assert (done.returncode, done.stdout) == (0, "")
    assert "to start at" in done.stderr
    assert slurm.jobs() == []


# --- asking


def test_a_remainder_is_one_row_cut_with_dots_unless_asked_otherwise(slurm: FakeSlurm, work: Path) -> None:
    job = script(work)
    submit(slurm, work, "-a", "0-9%4", job)
    submit(slurm, work, "-a", ",".join(str(n) for n in range(1, 200, 3)) + ",2%2", job)
    rows = squeue(slurm, "-o", "%i %K")
    assert rows[0] == "1_[0-9%4] 0-9%4"
    assert len(rows[1].split()[1]) == 63 + 2
    assert rows[1].endswith("...%2")
    full = slurm.call("squeue", "-h", "-j", "2", "-o", "%K", env={"SLURM_BITSTR_LEN": "0"}).stdout
    assert full.endswith(",196,199%2\n")
    assert len(squeue(slurm, "-r")) == 10 + 68


def test_array_texts_are_slurms() -> None:
    assert array_text([3, 4, 5, 9], 4, 64) == "3-5,9%4"
    assert array_text(list(range(0, 30, 5)), 0, 64) == "0-25:5"
    assert array_text([0, 5, 10], 0, 64) == "0,5,10"
    assert parse_indices("3,1-2,8-12:2") == [1, 2, 3, 8, 10, 12]


def test_one_unknown_id_is_an_error_and_among_several_it_is_left_out(slurm: FakeSlurm, work: Path) -> None:
    submit(slurm, work, script(work))
    alone = slurm.call("squeue", "-j", "99")
    assert (alone.returncode, alone.stderr) == (1, "slurm_load_jobs error: Invalid job id specified\n")
    assert squeue(slurm, "-j", "1,99", "-o", "%A|%F|%Z|%o") == [f"1|1|{work}|{work}/job.sh"]


def test_finished_jobs_are_listed_on_request_only_and_vanish_after_min_job_age(slurm: FakeSlurm, work: Path) -> None:
    submit(slurm, work, "-a", "0-1", script(work))
    slurm.run()
    assert squeue(slurm) == []
    assert squeue(slurm, "-t", "all", "-o", "%i %T %t") == ["1_0 COMPLETED CD", "1_1 COMPLETED CD"]
    slurm.purge(1, 0)
    assert squeue(slurm, "-t", "all", "-o", "%i") == ["1_1"]
    slurm.set(min_job_age=0)
    assert squeue(slurm, "-t", "all") == []
    assert slurm.call("squeue", "-j", "1").returncode == 1


def test_job_names_come_back_raw(slurm: FakeSlurm, work: Path) -> None:
    submit(slurm, work, "-J", "two\nlines, here", script(work))
    assert slurm.call("squeue", "-h", "-o", "%i|%j").stdout == "1|two\nlines, here\n"


def test_squeue_obeys_its_environment(slurm: FakeSlurm, work: Path) -> None:
    submit(slurm, work, "-a", "0-1", script(work))
    done = slurm.call("squeue", "-h", env={"SQUEUE_ARRAY": "1", "SQUEUE_FORMAT": "%i"})
    assert done.stdout == "1_0\n1_1\n"


def test_sacct_is_disabled_unless_there_is_accounting(slurm: FakeSlurm, work: Path) -> None:
    done = slurm.call("sacct", "-X")
    assert (done.returncode, done.stderr) == (1, "Slurm accounting storage is disabled\n")
    slurm.set(accounting=True)
    submit(slurm, work, "-a", "0-4%1", script(work, "exit $((SLURM_ARRAY_TASK_ID==1))"))
    slurm.run(max_tasks=2)
    slurm.purge()
    form = ["-nPX", "-j", "1", "-S", "now-1hour", "-o", "JobID,JobIDRaw,State,ExitCode,WorkDir,MaxRSS"]
    assert slurm.call("sacct", *form).stdout.splitlines() == [
        f"1_0|2|COMPLETED|0:0|{work}|",
        f"1_1|3|FAILED|1:0|{work}|",
        f"1_[2-4%1]|1|PENDING|0:0|{work}|",
    ]
    steps = slurm.call("sacct", "-nP", "-j", "1", "-o", "JobID,MaxRSS").stdout.splitlines()
    assert "1_0.batch|1024K" in steps
    slurm.set(sacct_lag=3600)
    assert slurm.call("sacct", *form).stdout == ""


def test_sacct_remembers_the_job_whose_id_was_used_again(slurm: FakeSlurm, work: Path) -> None:
    slurm.set(accounting=True)
    submit(slurm, work, script(work))
    slurm.forget(1, accounting=True)
    (work / "other").mkdir()
    script(work / "other")
    assert submit(slurm, work / "other", "job.sh") == 1
    rows = slurm.call("sacct", "-nPX", "-j", "1", "-o", "JobID,WorkDir").stdout.splitlines()
    assert rows == [f"1|{work}", f"1|{work}/other"]


# --- running


def test_the_throttle_bounds_what_runs_at_once_and_can_be_changed(auto: FakeSlurm, work: Path) -> None:
    submit(
        auto, work, "-a", "0-5%2", script(work, "touch up.$SLURM_ARRAY_TASK_ID; until [ -e go ]; do sleep 0.01; done")
    )
    auto.set(parallel=6)
    auto.wait(lambda: len(list(work.glob("up.*"))) == 2)
    assert sorted(squeue(auto, "-r", "-o", "%T %r")) == ["PENDING JobArrayTaskLimit"] * 4 + ["RUNNING None"] * 2
    assert auto.call("scontrol", "update", "jobid=1", "ArrayTaskThrottle=4").returncode == 0
    auto.wait(lambda: len(list(work.glob("up.*"))) == 4)
    (work / "go").touch()
    auto.wait_idle()
    assert set(auto.job(1).states.values()) == {"COMPLETED"}


def test_max_tasks_and_only_bound_a_run(slurm: FakeSlurm, work: Path) -> None:
    job = script(work)
    submit(slurm, work, "-a", "0-9", job)
    submit(slurm, work, "-a", "0-9", job)
    assert slurm.run(max_tasks=3) == 3
    assert slurm.run(only=2) == 10
    assert len(slurm.job(1).pending) == 7


def test_dependencies_chain_and_a_failure_leaves_the_dependant_pending_for_ever(slurm: FakeSlurm, work: Path) -> None:
    job = script(work, "exit $((SLURM_ARRAY_TASK_ID==1))")
    good, bad = submit(slurm, work, job), submit(slurm, work, "-a", "0-1", job)
    after_good = submit(slurm, work, "-d", f"afterok:{good}", job)
    after_both = submit(slurm, work, "-d", f"afterok:{after_good}:{bad}", job)
    whatever = submit(slurm, work, "-d", f"afterany:{bad},afternotok:{bad}", job)
    killed = submit(slurm, work, "-d", f"afterok:{bad}", "--kill-on-invalid-dep=yes", job)
    either = submit(slurm, work, "-d", f"afterok:{bad}?afterok:{good}", job)
    assert squeue(slurm, "-j", str(after_good), "-o", "%r %E") == [f"Dependency afterok:{good}(unfulfilled)"]
    slurm.run()
    assert squeue(slurm, "-t", "PD", "-o", "%i %r") == [f"{after_both} DependencyNeverSatisfied"]
    assert slurm.job(whatever).states == slurm.job(either).states == {None: "COMPLETED"}
    assert slurm.job(killed).states == {None: "CANCELLED"}
    assert slurm.call("scontrol", "requeue", str(bad)).returncode == 0
    slurm.verdict("COMPLETED", bad, exit_code="0:0")
    slurm.run()
    assert slurm.job(after_both).states == {None: "PENDING"}, "a requeue doesn't revive the dependant"
    assert slurm.call("scontrol", "update", f"jobid={after_both}", f"dependency=afterok:{bad}").returncode == 0
    slurm.run()
    assert slurm.job(after_both).states == {None: "COMPLETED"}


def test_a_purged_failed_parent_lifts_the_dependency(slurm: FakeSlurm, work: Path) -> None:
    parent = submit(slurm, work, script(work, "exit 1"))
    child = submit(slurm, work, "-d", f"afterok:{parent}", script(work))
    slurm.run()
    assert slurm.job(child).states == {None: "PENDING"}
    slurm.purge(parent)
    slurm.run()
    assert slurm.job(child).states == {None: "COMPLETED"}


def test_an_unknown_parent_is_dropped_before_23_02_and_refused_since(slurm: FakeSlurm, work: Path) -> None:
    child = submit(slurm, work, "-d", "afterok:77", script(work))
    assert slurm.job(child).dependency == ()
    slurm.set(version="24.11.3")
    done = slurm.call("sbatch", "-d", "afterok:77", "job.sh", cwd=work)
    assert (done.returncode, done.stderr) == (1, "sbatch: error: Batch job submission failed: Job dependency problem\n")


def test_aftercorr_pairs_equal_indices(slurm: FakeSlurm, work: Path) -> None:
    parent = submit(slurm, work, "-a", "0-2", script(work, "exit $((SLURM_ARRAY_TASK_ID==1))"))
    child = submit(slurm, work, "-a", "0-2", "-d", f"aftercorr:{parent}", script(work))
    slurm.run()
    assert slurm.job(child).states == {0: "COMPLETED", 1: "PENDING", 2: "COMPLETED"}


def test_held_jobs_wait_for_their_release(slurm: FakeSlurm, work: Path) -> None:
    submit(slurm, work, "--hold", script(work))
    assert slurm.run() == 0
    assert squeue(slurm, "-o", "%r") == ["JobHeldUser"]
    assert slurm.call("scontrol", "release", "1").returncode == 0
    assert slurm.run() == 1


def test_a_task_requeues_itself_under_its_id_and_counts_its_restarts(slurm: FakeSlurm, work: Path) -> None:
    requeue = "scontrol requeue ${SLURM_ARRAY_JOB_ID}_2; sleep 9"
    body = f'echo "$SLURM_RESTART_COUNT."; [ "$SLURM_RESTART_COUNT" ] || {{ {requeue}; }}'
    submit(slurm, work, "-a", "2", "--open-mode=append", script(work, body))
    assert slurm.run() == 2
    task = slurm.job(1).task(2)
    assert (task.state, task.raw_id, task.restarts) == ("COMPLETED", 1, 1)
    assert (work / "slurm-1_2.out").read_text() == ".\n1.\n"
    assert slurm.call("scontrol", "requeue", "1_2").returncode == 0
    slurm.set(requeue_delay=0.2)
    assert slurm.run() == 1
    assert (work / "slurm-1_2.out").read_text() == ".\n1.\n2.\n"


def test_a_job_that_refuses_requeues_keeps_its_end(slurm: FakeSlurm, work: Path) -> None:
    submit(slurm, work, "--no-requeue", script(work))
    slurm.run()
    done = slurm.call("scontrol", "requeue", "1")
    assert (done.returncode, done.stderr) == (1, "Requested operation is presently disabled for job 1\n")


def test_scancel_takes_tasks_ranges_and_states(slurm: FakeSlurm, work: Path) -> None:
    submit(slurm, work, "-a", "0-9", script(work))
    slurm.run(max_tasks=1)
    assert slurm.call("scancel", "1_[1-3,5]").returncode == 0
    assert slurm.call("scancel", "1_9").returncode == 0
    assert slurm.run(max_tasks=1) == 1
    assert slurm.job(1).states[4] == "COMPLETED"
    assert slurm.call("scancel", "-t", "PENDING", "1").returncode == 0
    rows = squeue(slurm, "-t", "all", "-r", "-o", "%i %T")
    assert rows == ["1 CANCELLED", "1_0 COMPLETED", "1_4 COMPLETED"], "what was cancelled by index has no record"
    assert [n for n, state in slurm.job(1).states.items() if state == "CANCELLED"] == [1, 2, 3, 5, 6, 7, 8, 9]
    unknown = slurm.call("scancel", "99")
    assert (unknown.returncode, unknown.stderr) == (
        1,
        "scancel: error: Kill job error on job id 99: Invalid job id specified\n",
    )


def test_an_array_cancelled_as_a_whole_keeps_its_indices_and_reason(slurm: FakeSlurm, work: Path) -> None:
    submit(slurm, work, "-a", "1-5", "-H", script(work))
    submit(slurm, work, "-a", "1-5", "-H", script(work))
    assert slurm.call("scancel", "1", "2_[2-3]").returncode == 0
    form = ("-t", "all", "-o", "%F|%K|%T|%A|%r")
    assert squeue(slurm, *form) == ["1|1-5|CANCELLED|1|JobHeldUser", "2|1,4-5|PENDING|2|JobHeldUser"]
    assert squeue(slurm, "-r", *form)[0] == "1|1|CANCELLED|1|JobHeldUser"


def test_scancel_sends_term_and_then_kill(auto: FakeSlurm, work: Path) -> None:
    body = "trap 'echo term > got' TERM; touch up; while :; do sleep 0.02; done"
    submit(auto, work, script(work, body))
    auto.wait((work / "up").exists)
    assert auto.call("scancel", "1").returncode == 0
    auto.wait_idle()
    task = auto.job(1).task()
    assert (task.state, task.exit_code) == ("CANCELLED", "0:0")
    assert (work / "got").read_text() == "term\n"


def test_pending_only_scancel_spares_what_runs(auto: FakeSlurm, work: Path) -> None:
    submit(auto, work, "-a", "0-3%1", script(work, "touch up; until [ -e go ]; do sleep 0.01; done"))
    auto.wait((work / "up").exists)
    assert auto.call("scancel", "-t", "PENDING", "1").returncode == 0
    (work / "go").touch()
    auto.wait_idle()
    assert list(auto.job(1).states.values()) == ["COMPLETED", "CANCELLED", "CANCELLED", "CANCELLED"]


def test_a_signal_and_the_time_limit_end_a_task(auto: FakeSlurm, work: Path) -> None:
    auto.set(minute=1.2)
    body = "trap 'echo usr1 > got' USR1; touch up; while :; do sleep 0.02; done"
    submit(auto, work, "-t", "1", "--signal=B:USR1@20", script(work, body))
    auto.wait_idle()
    assert auto.job(1).states == {None: "TIMEOUT"}
    assert (work / "got").read_text() == "usr1\n"


def test_an_automatic_fake_drains_the_queue_and_leaves_no_process(auto: FakeSlurm, work: Path) -> None:
    first = submit(auto, work, "-a", "0-5", script(work))
    second = submit(auto, work, "-d", f"afterok:{first}", script(work))
    auto.wait(lambda: auto.job(second).states == {None: "COMPLETED"})
    auto.wait_idle()
    assert auto.job(first).tasks[0].pid == 0


def test_closing_kills_what_still_runs(auto: FakeSlurm, work: Path) -> None:
    submit(auto, work, script(work, "touch up; sleep 60"))
    auto.wait((work / "up").exists)
    pid = auto.job(1).task().pid
    auto.close()
    auto.wait(lambda: not _lives(pid))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- faults


def test_a_lost_reply_hides_the_job_until_it_was_looked_for_often_enough(slurm: FakeSlurm, work: Path) -> None:
    slurm.fail("sbatch", "lost_reply", lookups=2)
    done = slurm.call("sbatch", "--parsable", script(work), cwd=work)
    assert (done.returncode, done.stdout) == (1, "")
    text = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n"
    assert done.stderr == text
    assert [len(squeue(slurm, "-t", "all")) for _ in range(4)] == [0, 0, 1, 1]
    assert slurm.run() == 1
    assert submit(slurm, work, "job.sh") == 2


def test_a_lost_reply_shows_up_after_a_while(auto: FakeSlurm, work: Path) -> None:
    auto.fail("sbatch", "lost_reply", seconds=0.4)
    start = time.monotonic()
    assert auto.call("sbatch", script(work), cwd=work).returncode == 1
    early = squeue(auto, "-t", "all")
    assert early == [] or time.monotonic() - start >= 0.4
    auto.wait(lambda: squeue(auto, "-t", "all") != [])
    assert time.monotonic() - start >= 0.4
    auto.wait_idle()
    assert auto.job(1).states == {None: "COMPLETED"}


def test_a_time_out_can_also_mean_that_nothing_was_accepted(slurm: FakeSlurm, work: Path) -> None:
    slurm.fail("sbatch", "timeout")
    assert "Socket timed out" in slurm.call("sbatch", script(work), cwd=work).stderr
    assert slurm.jobs() == []


@pytest.mark.parametrize("accepted", [True, False])
def test_a_hanging_sbatch_may_have_been_accepted(slurm: FakeSlurm, work: Path, accepted: bool) -> None:
    slurm.fail("sbatch", "hang", seconds=30, accepted=accepted)
    process = subprocess.Popen(["sbatch", script(work)], cwd=work, env=slurm.env())
    try:
        slurm.wait(lambda: len(slurm.jobs()) == int(accepted) and not slurm.knobs().faults)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
    finally:
        process.kill()
        process.wait()
    assert len(slurm.jobs()) == int(accepted)


def test_replies_with_noise_banners_and_clusters(slurm: FakeSlurm, work: Path) -> None:
    job = script(work)
    slurm.fail("sbatch", "banner", text="Welcome!\n1234 nodes free\n")
    assert slurm.call("sbatch", "--parsable", job, cwd=work).stdout == "Welcome!\n1234 nodes free\n1\n"
    slurm.fail("sbatch", "cluster", name="alpha")
    assert slurm.call("sbatch", "--parsable", job, cwd=work).stdout == "2;alpha\n"
    slurm.fail("sbatch", "noise")
    noisy = slurm.call("sbatch", "--parsable", job, cwd=work)
    assert (noisy.returncode, noisy.stdout) == (0, "3\n")
    assert "error" in noisy.stderr


def test_clusters_need_accounting_to_be_known(slurm: FakeSlurm, work: Path) -> None:
    job = script(work)
    assert slurm.call("sbatch", "-M", "alpha", job, cwd=work).returncode == 1
    assert slurm.call("squeue", "-M", "alpha").returncode == 1
    slurm.set(clusters=["alpha"])
    assert slurm.call("sbatch", "--parsable", "-M", "alpha", job, cwd=work).stdout == "1;alpha\n"
    assert squeue(slurm, "-M", "alpha", "-o", "%i") == ["1"]


def test_a_forgotten_job_never_runs_and_its_id_goes_to_the_next(slurm: FakeSlurm, work: Path) -> None:
    slurm.fail("sbatch", "forgotten")
    assert submit(slurm, work, script(work, "touch first")) == 1
    assert submit(slurm, work, script(work, "touch second")) == 1
    slurm.run()
    assert not (work / "first").exists()
    assert (work / "second").exists()


def test_a_submit_limit_refuses_whole_arrays(slurm: FakeSlurm, work: Path) -> None:
    slurm.set(submit_limit=5)
    submit(slurm, work, "-a", "0-2", script(work))
    done = slurm.call("sbatch", "-a", "0-2", "job.sh", cwd=work)
    assert done.returncode == 1
    assert "(job submit limit, user's size and/or time limits)" in done.stderr
    slurm.run()
    submit(slurm, work, "-a", "0-2", "job.sh")


def test_with_the_controller_down_every_client_fails(slurm: FakeSlurm, work: Path) -> None:
    submit(slurm, work, script(work))
    slurm.set(down=True)
    commands = [["sbatch", "job.sh"], ["squeue"], ["scancel", "1"], ["scontrol", "show", "config"], ["sinfo"]]
    for program, *arguments in commands:
        done = slurm.call(program, *arguments, cwd=work)
        assert done.returncode == 1, program
        assert "Unable to contact slurm controller (connect failure)" in done.stderr, program
    slurm.set(down=False)
    assert slurm.job(1).states == {None: "PENDING"}


def test_faults_of_other_clients_are_counted(slurm: FakeSlurm) -> None:
    slurm.fail("squeue", "timeout", times=2, skip=1)
    codes = [slurm.call("squeue").returncode for _ in range(4)]
    assert codes == [0, 1, 1, 0]
    slurm.set(accounting=True)
    slurm.fail("sacct", "empty")
    slurm.fail("sacct", "error", message="sacct: error: down", status=3)
    assert slurm.call("sacct").returncode == 0
    assert slurm.call("sacct").returncode == 3


def test_a_client_can_be_missing(slurm: FakeSlurm) -> None:
    environment = slurm.env({"PATH": "/nowhere"}, without=["sacct"])
    (folder,) = (part for part in environment["PATH"].split(":") if part != "/nowhere")
    assert not Path(folder, "sacct").exists()
    done = subprocess.run([f"{folder}/squeue", "-h"], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("state", ["OUT_OF_MEMORY", "TIMEOUT", "NODE_FAIL", "FROZEN_SOLID"])
def test_a_verdict_outranks_the_exit_status(slurm: FakeSlurm, work: Path, state: str) -> None:
    submit(slurm, work, "-a", "0-1", script(work))
    slurm.verdict(state, 1, 1)
    slurm.run()
    assert squeue(slurm, "-t", "all", "-o", "%K %T") == ["0 COMPLETED", f"1 {state}"]
    assert slurm.job(1).task(1).exit_code == "0:0"


def test_a_node_failure_can_requeue(slurm: FakeSlurm, work: Path) -> None:
    submit(slurm, work, script(work, 'echo "${SLURM_RESTART_COUNT-first}" >> runs'))
    slurm.verdict("NODE_FAIL", requeue=True)
    assert slurm.run() == 2
    assert (work / "runs").read_text() == "first\n1\n"
    submit(slurm, work, script(work, "touch never"))
    slurm.verdict("NODE_FAIL", 2, run=False)
    slurm.run()
    assert slurm.job(2).states == {None: "NODE_FAIL"}
    assert not (work / "never").exists()


def test_killing_a_task_is_the_end_of_its_node(auto: FakeSlurm, work: Path) -> None:
    submit(auto, work, "-a", "0-1", script(work, "touch up.$SLURM_ARRAY_TASK_ID; [ -e go ] || sleep 60"))
    auto.wait(lambda: len(list(work.glob("up.*"))) == 2)
    auto.wait(lambda: sum(bool(task.pid) for task in auto.job(1).tasks) == 2)  # noted behind the scripts' beginning
    (work / "go").touch()
    auto.kill_task(1, 0)
    auto.kill_task(1, 1, requeue=True)
    auto.wait_idle()
    assert auto.job(1).states == {0: "NODE_FAIL", 1: "COMPLETED"}
    assert auto.job(1).task(1).restarts == 1


def test_a_cancelled_task_names_the_user_in_sacct(slurm: FakeSlurm, work: Path) -> None:
    slurm.set(accounting=True)
    submit(slurm, work, "-a", "0-3%1", script(work))
    slurm.run(max_tasks=1)
    slurm.call("scancel", "1")
    rows = slurm.call("sacct", "-nPX", "-j", "1", "-o", "JobID,State").stdout.splitlines()
    assert rows == ["1_0|COMPLETED", f"1_[1-3%1]|CANCELLED by {os.getuid()}"]


def test_set_state_invents_any_state_for_many_tasks(slurm: FakeSlurm, work: Path) -> None:
    slurm.set(max_array_size=20_001, max_job_count=60_000)
    submit(slurm, work, "-a", "0-19999", script(work))
    slurm.set_state(1, "FAILED", range(0, 20_000, 2))
    rows = squeue(slurm, "-r", "-t", "F", "-o", "%K")
    assert len(rows) == 10_000
    slurm.set_state(1, "RUNNING", 1)
    assert squeue(slurm, "-t", "R", "-o", "%i") == ["1_1"]


# --- the house


def test_two_runs_at_once_are_one(slurm: FakeSlurm, work: Path) -> None:
    submit(slurm, work, script(work, "touch up; until [ -e go ]; do sleep 0.01; done; echo ran >> log"))
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(slurm.run())) for _ in range(2)]
    for thread in threads:
        thread.start()
    slurm.wait((work / "up").exists)
    (work / "go").touch()
    for thread in threads:
        thread.join()
    assert sorted(counts) == [0, 1]
    assert (work / "log").read_text() == "ran\n"


def test_a_dead_runners_tasks_are_a_dead_nodes(slurm: FakeSlurm, work: Path) -> None:
    submit(slurm, work, "--no-requeue", script(work, "touch up; sleep 60"))
    command = ["python3", "-c", "import sys; from tests.fakes.control import main; main(sys.argv[1:])"]
    process = subprocess.Popen([*command, str(slurm.state_dir), "run"], cwd=ROOT, stdout=subprocess.DEVNULL)
    slurm.wait((work / "up").exists)
    slurm.wait(lambda: bool(slurm.job(1).task().pid))  # noted a moment after the script has begun
    pid = slurm.job(1).task().pid
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert slurm.run() == 0
    assert slurm.job(1).states == {None: "NODE_FAIL"}
    slurm.wait(lambda: not _lives(pid))


def test_calls_are_recorded(slurm: FakeSlurm, work: Path) -> None:
    slurm.call("squeue", "-h", cwd=work, env={"SLURM_BITSTR_LEN": "0"})
    (call,) = slurm.calls()
    assert (call.program, call.argv, call.cwd) == ("squeue", ("-h",), str(work))
    assert call.env["SLURM_BITSTR_LEN"] == "0"
    assert slurm.calls("sbatch") == []


def test_unknown_knobs_are_refused(slurm: FakeSlurm) -> None:
    with pytest.raises(ValueError, match="min_jobage"):
        slurm.set(min_jobage=1)


def test_the_shell_interface_drives_the_same_cluster(
    slurm: FakeSlurm, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = str(slurm.state_dir)
    submit(slurm, work, "-a", "0-2", script(work))
    control.main([state, "set", "version=24.11.1", "accounting=true"])
    control.main([state, "run", "--max-tasks", "2"])
    assert capsys.readouterr().out == "2\n"
    control.main([state, "fail", "squeue", "error", "message=no"])
    assert slurm.call("squeue").stderr == "no\n"
    assert slurm.call("scontrol", "--version").stdout == "slurm 24.11.1\n"
    assert "MaxArraySize            = 1001\n" in slurm.call("scontrol", "show", "config").stdout


def test_hostile_directories_come_back_as_they_are(slurm: FakeSlurm, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/$(touch canary) \xff;'\" -x"))
    folder.mkdir()
    submit(slurm, folder, script(folder, "touch here"))
    assert squeue(slurm, "-o", "%Z") == [str(folder)]
    slurm.run()
    assert sorted(path.name for path in folder.iterdir()) == ["here", "job.sh", "slurm-1.out"]


def test_siblings_of_one_database_have_queues_of_their_own(slurm: FakeSlurm, work: Path, tmp_path: Path) -> None:
    """-M reaches them, several at a time for what asks; what names none talks to its own cluster alone."""
    job = script(work)
    with FakeSlurm(tmp_path / "other", cluster_name="other") as other:
        slurm.set(siblings={"other": str(other.state_dir)}, clusters=["fake"])
        assert slurm.call("sbatch", "--parsable", "-M", "other,fake", job, cwd=work).stdout == "1;other\n"
        assert slurm.call("sbatch", "--parsable", job, cwd=work).stdout == "1\n"
        assert (len(slurm.jobs()), len(other.jobs())) == (1, 1)
        assert squeue(slurm, "-o", "%i") == ["1"]
        both = slurm.call("squeue", "-M", "fake,other", "-o", "%i").stdout
        assert both == "CLUSTER: fake\nJOBID\n1\n\nCLUSTER: other\nJOBID\n1\n"
        assert "ClusterName             = other" in slurm.call("scontrol", "-M", "other", "show", "config").stdout
        assert slurm.call("scontrol", "show", "config", env={"SLURM_CLUSTERS": "fake,other"}).returncode == 1
        slurm.call("scancel", "-M", "other", "1").check_returncode()
        assert (slurm.job(1).states, other.job(1).states) == ({None: "PENDING"}, {None: "CANCELLED"})


def test_srun_finds_no_allocation_where_several_clusters_are_named(slurm: FakeSlurm) -> None:
    done = slurm.call("srun", "true", env={"SLURM_CLUSTERS": "a,b", "SLURM_JOB_ID": "4"})
    assert (done.returncode, "Unable to confirm allocation for job 4" in done.stderr) == (1, True)
    slurm.call("srun", "true", env={"SLURM_CLUSTERS": "a", "SLURM_JOB_ID": "4"}).check_returncode()
