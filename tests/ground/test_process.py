"""Programs are started through one door: clean environment, whole sessions ended, bounded memory."""

from __future__ import annotations

import errno
import os
import signal
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from esis.errors import EsisError
from esis.process import capture, hearing_children, run_logged, signal_session, spawn
from esis.processes import tasks_of_job

MEBIBYTE = 1024 * 1024


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


def gone(pid: int) -> bool:
    """Return whether the process has ended (an orphan may stay a zombie where nobody reaps it)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def sh(
    tmp_path: Path,
    script: str,
    timeout: float | None = 60.0,
    live: bool = False,
    started: Callable[[int], None] | None = None,
) -> tuple[int, bytes, bytes, bool, bytes]:
    """Run a script through run_logged; return code, stdout, stderr, timed_out and the log."""
    log = tmp_path / "the.log"
    done = run_logged(
        ["/bin/sh", "-c", script],
        cwd=tmp_path,
        env=dict(os.environ),
        log=log,
        timeout=timeout,
        live=live,
        started=started,
    )
    return done.code, done.stdout, done.stderr, done.timed_out, log.read_bytes()


def test_capture_keeps_the_outputs_apart(tmp_path: Path) -> None:
    """Both outputs come back as bytes, whatever they hold, with the exit status; stdin is empty."""
    done = capture(["/bin/sh", "-c", r"cat; printf '\377\n'; echo err >&2; pwd; exit 3"], cwd=tmp_path, timeout=30)
    assert (done.code, done.stderr, done.timed_out) == (3, b"err\n", False)
    assert done.stdout == b"\xff\n" + os.fsencode(tmp_path) + b"\n"


def test_capture_tells_the_signal() -> None:
    """A program that a signal ended has a negative code."""
    assert capture(["/bin/sh", "-c", "kill -KILL $$"], timeout=30).code == -signal.SIGKILL


def test_f201_who_ignores_the_end_of_children_hears_their_exit_status(tmp_path: Path) -> None:
    """F201: Python would take 0 for it. What a worker has set for its own children is there again behind it."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert capture(["sh", "-c", "exit 3"], timeout=60).code == 3
        assert sh(tmp_path, "exit 4")[0] == 4
        mask = capture(["grep", "SigIgn", "/proc/self/status"], timeout=60).stdout.split()[1]
        assert int(mask, 16) & (1 << (signal.SIGCHLD - 1)) == 0
        with hearing_children():
            assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_missing_program_is_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absence of a program is no empty answer."""
    monkeypatch.setenv("PATH", str(tmp_path))  # a directory of PATH that can't be read makes it a PermissionError
    with pytest.raises(FileNotFoundError):
        capture(["no-such-program-of-esis"], timeout=5)


def test_f39_an_argument_with_nul_is_refused() -> None:
    """F39: no argument is cut short at a NUL."""
    with pytest.raises(EsisError, match="NUL"):
        capture(["echo", "a\0b"], timeout=5)


def test_arguments_are_not_seen_by_a_shell(tmp_path: Path) -> None:
    """F39: an argument arrives as it is; the canary is never created."""
    hostile = f"$(touch {tmp_path}/canary); `touch {tmp_path}/canary` 'a\" \n*"
    assert capture(["printf", "%s", hostile], timeout=30).stdout == os.fsencode(hostile)
    assert os.listdir(tmp_path) == []


def test_f13_a_time_out_ends_the_whole_session(tmp_path: Path) -> None:
    """F13: after the time-out nothing of the program runs on, also a grandchild that ignores SIGTERM."""
    script = "(trap '' TERM; echo start; exec tail -f /dev/null) & echo $! > pid; wait"
    done = capture(["/bin/sh", "-c", script], cwd=tmp_path, timeout=0.3)
    assert done.timed_out
    assert done.stdout == b"start\n"
    wait_for(lambda: gone(int((tmp_path / "pid").read_text())))


def test_f34_a_time_out_ends_what_has_a_group_of_its_own(tmp_path: Path) -> None:
    """F34, F36: a script's `timeout`, or its job control, makes process groups; they are of its session."""
    for number, script in enumerate(["timeout 600 tail -f /dev/null &", "set -m; tail -f /dev/null &"]):
        sh(tmp_path, f"{script} echo $! > pid.{number}; wait", timeout=0.3)
        wait_for(lambda number=number: gone(int((tmp_path / f"pid.{number}").read_text())))  # type: ignore[misc]


def test_f34_a_script_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """F34, F36: its directory is built anew, and what writes there would write beside the next script."""
    code, *_ = sh(tmp_path, "set -m; tail -f /dev/null & echo $! > pid; exit 3")
    assert code == 3
    wait_for(lambda: gone(int((tmp_path / "pid").read_text())))


def test_every_program_has_a_session_of_its_own(tmp_path: Path) -> None:
    """A Ctrl-C at the terminal reaches ESIS alone: a killed sbatch client may leave an accepted job behind."""
    sessions: list[int] = []
    sh(tmp_path, "read x < /proc/$$/stat; sleep 0.05", started=lambda pid: sessions.append(os.getsid(pid) - pid))
    assert sessions == [0]


def test_the_log_holds_both_outputs_in_their_order(tmp_path: Path) -> None:
    """Everything that a script says reaches the log byte for byte, invalid UTF-8 too; the outputs come back apart."""
    code, stdout, stderr, timed_out, log = sh(tmp_path, r"printf '3\377\n'; sleep 0.1; printf 'e\200\n' >&2; exit 5")
    assert (code, stdout, stderr, timed_out) == (5, b"3\xff\n", b"e\x80\n", False)
    assert log == b"3\xff\ne\x80\n"


def test_f34_memory_is_bounded_for_endless_output(tmp_path: Path) -> None:
    """F34: of 64 MiB of output one is kept in memory, all of it in the log."""
    tracemalloc.start()
    try:
        code, stdout, stderr, _, log = 0, b"", b"", False, tmp_path / "the.log"
        done = run_logged(
            ["/bin/sh", "-c", f"head -c {64 * MEBIBYTE} /dev/zero; echo err >&2"],
            cwd=tmp_path,
            env=dict(os.environ),
            log=log,
            timeout=60,
        )
        code, stdout, stderr = done.code, done.stdout, done.stderr
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (code, stderr) == (0, b"err\n")
    assert stdout == b"\0" * MEBIBYTE
    assert log.stat().st_size == 64 * MEBIBYTE + 4
    assert peak < 8 * MEBIBYTE


def test_f34_a_process_left_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    """F34: a daemon that the script starts keeps the pipe open; the script has ended all the same."""
    code, stdout, _, timed_out, log = sh(tmp_path, "echo 3; sleep 600 2>/dev/null & echo $! > pid")
    pid = int((tmp_path / "pid").read_text())
    try:
        assert (code, stdout, timed_out, log) == (0, b"3\n", False, b"3\n")
        assert not gone(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_f34_a_hanging_script_is_ended_with_its_session(tmp_path: Path) -> None:
    """F34, F36: the time-out ends the script and what it started; what it said by then is kept."""
    code, stdout, _, timed_out, log = sh(tmp_path, "echo said; sleep 600 & echo $! > pid; wait", timeout=0.3)
    assert (code, stdout, timed_out, log) == (-signal.SIGTERM, b"said\n", True, b"said\n")
    wait_for(lambda: gone(int((tmp_path / "pid").read_text())))


def test_an_interrupt_ends_the_script(tmp_path: Path) -> None:
    """A Ctrl-C while a script runs ends the script's session and comes through."""
    pids: list[int] = []

    def interrupt(pid: int) -> None:
        pids.append(pid)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sh(tmp_path, "sleep 600", started=interrupt)
    wait_for(lambda: gone(pids[0]))


@pytest.mark.parametrize("size", [2, MEBIBYTE])
def test_f04_a_log_that_cannot_be_written_is_an_error(tmp_path: Path, size: int) -> None:
    """F04: a full disk under the log is reported, and the script is not stuck on a full pipe meanwhile."""
    with pytest.raises(OSError) as caught:
        run_logged(
            ["/bin/sh", "-c", f"head -c {size} /dev/zero"],
            cwd=tmp_path,
            env=dict(os.environ),
            log=Path("/dev/full"),
            timeout=30,
        )
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == "/dev/full"


def test_live_output_is_shown_as_it_comes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With `live` both outputs go to stderr, so that stdout stays data; without, nothing is shown."""
    sh(tmp_path, "echo out; echo err >&2", live=True)
    shown = capfd.readouterr()
    assert (shown.out, sorted(shown.err.splitlines())) == ("", ["err", "out"])
    sh(tmp_path, "echo out; echo err >&2")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("append", "expected"), [(True, b"old\nout\nerr\n"), (False, b"out\nerr\n")])
def test_a_task_writes_into_its_files(tmp_path: Path, append: bool, expected: bytes) -> None:
    """A task's log is truncated or appended to as its open mode says; one file may take both outputs."""
    log = tmp_path / "log"
    log.write_text("old\n")
    child = spawn(
        ["/bin/sh", "-c", "echo out; echo err >&2"], cwd=tmp_path, env={}, stdout=log, stderr=None, append=append
    )
    assert child.wait(30) == 0
    assert log.read_bytes() == expected


def test_a_task_may_have_two_files(tmp_path: Path) -> None:
    """With a file for stderr the two outputs stay apart."""
    child = spawn(
        ["/bin/sh", "-c", "echo out; echo err >&2"],
        cwd=tmp_path,
        env={},
        stdout=tmp_path / "o",
        stderr=tmp_path / "e",
        append=False,
    )
    child.wait(30)
    assert ((tmp_path / "o").read_bytes(), (tmp_path / "e").read_bytes()) == (b"out\n", b"err\n")


def test_signalling_a_session_that_is_gone_is_no_error(tmp_path: Path) -> None:
    """A child that ended meanwhile needs no signal."""
    child = spawn(["/bin/sh", "-c", ":"], cwd=tmp_path, env={}, stdout=tmp_path / "o", stderr=None, append=False)
    child.wait(30)
    signal_session(child, signal.SIGTERM)
    assert child.returncode == 0


def test_the_tasks_of_a_job_are_those_of_its_processes(tmp_path: Path) -> None:
    """A worker may give its programs another index, or none."""
    children = [
        spawn(
            ["/bin/sleep", "30"],
            cwd=tmp_path,
            env={"SLURM_ARRAY_JOB_ID": "1764284474000001", "SLURM_ARRAY_TASK_ID": index},
            stdout=tmp_path / "log",
            stderr=None,
            append=True,
        )
        for index in ("3", "", "none", "12")
    ]
    try:
        wait_for(lambda: tasks_of_job("1764284474000001") == {3: children[0].pid, 12: children[3].pid})
    finally:
        for child in children:
            signal_session(child, signal.SIGKILL)
            child.wait()
    assert not tasks_of_job("1764284474000001")
