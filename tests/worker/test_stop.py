"""Stop in time: signals and the time limit, asked for and given back."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import esis
from esis.errors import BadInput, EsisError
from esis.worker import stop

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Let no test change the handlers of the others."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    assert {number: signal.getsignal(number) for number in SIGNALS} == before


def squeue(directory: Path, answer: str, code: int = 0) -> Path:
    """Put an squeue there that answers so, and notes each call."""
    directory.mkdir()
    path = directory / "squeue"
    path.write_text(f'#!/bin/sh\necho "$SLURM_TIME_FORMAT $*" >>{directory}/calls\n{answer}\nexit {code}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return directory / "calls"


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_makes_it_true_and_does_not_end_the_process(number: int) -> None:
    with esis.stopping() as flag:
        assert not flag
        os.kill(os.getpid(), number)
        assert flag
        assert flag.reason == signal.Signals(number).name


def test_handlers_that_were_there_are_called_too_and_come_back() -> None:
    heard: list[int] = []

    def mine(number: int, frame: object) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGUSR1, mine)
    try:
        with esis.stopping() as outer, esis.stopping() as inner:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert (bool(outer), bool(inner), heard) == (True, True, [signal.SIGUSR1])
        assert signal.getsignal(signal.SIGUSR1) is mine
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_f285_a_keyboard_interrupt_is_heard_as_often_as_it_comes() -> None:
    """F285: Python's own handler would raise KeyboardInterrupt in the middle of a step; behind the block it does."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with esis.stopping(signals=(signal.SIGINT,)) as outer, esis.stopping(signals=(signal.SIGINT,)) as inner:
            try:
                for _ in range(2):
                    os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                pytest.fail("the signal was not only heard")
            assert (outer.reason, inner.reason) == ("SIGINT", "SIGINT")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_f285_a_real_time_signal_has_a_name_though_python_has_none_for_it() -> None:
    numbers = {signal.SIGRTMIN: "SIGRTMIN", signal.SIGRTMIN + 1: "SIGRTMIN+1", signal.SIGRTMAX: "SIGRTMAX"}
    for number, name in numbers.items():
        with esis.stopping(signals=(number, number)) as flag:  # named twice it doesn't call itself for ever
            os.kill(os.getpid(), number)
            assert flag.reason == name
        assert signal.getsignal(number) is signal.SIG_DFL


@pytest.mark.parametrize(("number", "name"), [(signal.SIGKILL, "SIGKILL"), (0, "signal 0"), (1000, "signal 1000")])
def test_f285_what_cannot_be_heard_is_refused_and_leaves_no_handler(number: int, name: str) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(BadInput, match=f"{name} can't be heard"), esis.stopping(signals=(signal.SIGUSR1, number)):
        pass
    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_handler_set_inside_of_the_block_stays() -> None:
    def theirs(number: int, frame: object) -> None:
        """Do nothing."""

    before = signal.getsignal(signal.SIGUSR1)
    try:
        with esis.stopping() as flag:
            signal.signal(signal.SIGUSR1, theirs)
            os.kill(os.getpid(), signal.SIGUSR1)
        assert not flag
        assert signal.getsignal(signal.SIGUSR1) is theirs
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_in_another_thread_it_says_where_to_ask() -> None:
    found: list[BaseException] = []

    def ask() -> None:
        try:
            with esis.stopping():
                pass
        except EsisError as error:
            found.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert "main thread" in str(found[0])


def test_should_stop_listens_from_its_first_call_on_also_for_other_threads() -> None:
    """In a process of its own, as it listens for good."""
    script = """
import os, signal, threading, esis
import esis.errors
found = []
def ask():
    try:
        found.append(esis.should_stop())
    except esis.errors.EsisError as error:
        found.append(type(error).__name__)
def in_thread():
    thread = threading.Thread(target=ask); thread.start(); thread.join()
esis.task
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
in_thread()
found.append(esis.should_stop())
in_thread()
os.kill(os.getpid(), signal.SIGTERM)
found.append(esis.should_stop())
in_thread()
print(found)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(esis.__file__).parents[1])},
    )
    assert done.stdout == "['EsisError', False, False, True, True]\n"


@pytest.mark.parametrize(
    ("name", "left", "expected"),
    [
        ("SLURM_JOB_END_TIME", 1000, False),
        ("SLURM_JOB_END_TIME", 50, True),
        ("ESIS_JOB_END_TIME", 50, True),
        ("SLURM_JOB_END_TIME", -5, True),
    ],
)
def test_the_time_limit_counts_from_the_margin_on(
    monkeypatch: pytest.MonkeyPatch, name: str, left: int, expected: bool
) -> None:
    monkeypatch.setenv(name, str(int(time.time()) + left))
    with esis.stopping(margin=60) as flag, esis.stopping(margin=None) as deaf:
        assert bool(flag) is expected
        assert flag.reason == ("time limit" if expected else None)
        assert not deaf
        assert flag.remaining == pytest.approx(left, abs=5)


def test_once_true_it_stays_true(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 30))
    with esis.stopping(margin=60) as flag:
        assert flag
        flag.margin = 0
        assert flag


def test_squeue_is_asked_once_where_slurm_told_no_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of the task's own name: the bare id of the last task is that of the whole array. The index is Slurm's own."""
    calls = squeue(tmp_path / "bin", "date -d '+90 seconds' +%Y-%m-%dT%H:%M:%S")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for name, value in {
        "SLURM_ARRAY_JOB_ID": "20",
        "SLURM_ARRAY_TASK_ID": "512",
        "SLURM_ESIS_INDEX": "3",
        "SLURM_JOB_ID": "20",
    }.items():
        monkeypatch.setenv(name, value)
    with esis.stopping(margin=60) as early, esis.stopping(margin=120) as late:
        assert [bool(flag) for flag in (early, late, early, late)] == [False, True, False, True]
    assert calls.read_text() == "standard -h -j 20_3 -o %e\n"


@pytest.mark.parametrize("name", ["SQUEUE_STATES", "SQUEUE_PARTITION", "SQUEUE_USERS", "SLURM_CLUSTERS"])
def test_f47_filters_in_the_environment_hide_no_time_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """F47: squeue would leave the job out, which looks as if it had no limit."""
    squeue(tmp_path / "bin", f"[ -n \"${{{name}:-}}\" ] || date -d '+90 seconds' +%Y-%m-%dT%H:%M:%S")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "20")
    monkeypatch.setenv(name, "other")
    with esis.stopping(margin=120) as flag:
        assert flag


@pytest.mark.parametrize("answer", ["echo NONE", "echo N/A", "echo Unknown", "true"])
def test_a_job_without_a_limit_is_never_near_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str) -> None:
    squeue(tmp_path / "bin", answer)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "20")
    with esis.stopping(margin=10**9) as flag:
        assert not flag
        assert flag.remaining is None


@pytest.mark.parametrize(("answer", "code"), [("echo slurm_load_jobs error >&2", 1), ("echo gibberish", 0)])
def test_a_failed_query_is_told_and_taken_for_no_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str, code: int
) -> None:
    calls = squeue(tmp_path / "bin", answer, code)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "20")
    with esis.stopping() as flag:
        with pytest.warns(RuntimeWarning, match="can't see the time limit coming.*ESIS_JOB_END_TIME"):
            assert not flag
        assert not flag
    assert len(calls.read_text().splitlines()) == 1


def test_nobody_is_asked_outside_of_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = squeue(tmp_path / "bin", "echo 2000-01-01T00:00:00")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with esis.stopping() as flag:
        assert not flag
    stop.end_time.cache_clear()
    monkeypatch.setenv("SLURM_JOB_ID", "1790000000000001")
    monkeypatch.setenv("SLURM_ESIS_LOCAL", "1")
    with esis.stopping() as flag:
        assert not flag
    assert not calls.exists()
