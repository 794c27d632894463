"""One process at a time holds a lock; it is broken only where its owner is provably dead."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from esis import locks, processes
from esis.errors import Busy, EsisError
from esis.locks import Owner, acquire, hold, holder, make_lock, release, sweep

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy
ELSEWHERE = Owner("other-node", "1234-5678/4026531836", 4242, 99, "ann", "abcd0123")


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


def dead_owner() -> Owner:
    """Return the owner that a process on this host was, which is gone and reaped."""
    child = subprocess.run(
        [sys.executable, "-c", "from esis.locks import Owner; print(Owner.current().text())"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    owner = Owner.parse(child.stdout.strip())
    assert owner is not None
    return owner


def plant(lock: Path, owner: Owner, age: float = 0.0) -> None:
    make_lock(lock, owner)
    when = time.time() - age
    os.utime(lock / owner.text(), (when, when))


# A counter file that only the lock protects; a mortal process dies at the end, while it holds the lock.
COUNT_UP = """
import os, signal, sys
from pathlib import Path
from esis.errors import Busy
from esis.locks import hold
directory, rounds, mortal = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
done = 0
while done < rounds:
    try:
        with hold(directory / "lock", "counting"):
            value = int((directory / "counter").read_text())
            (directory / "counter").write_text("")  # a second process in here would read nothing
            os.sched_yield()
            (directory / "counter").write_text(str(value + 1))
            done += 1
            if mortal and done == rounds:
                os.kill(os.getpid(), signal.SIGKILL)
    except Busy:
        os.sched_yield()
"""


def test_f28_f29_eight_processes_exclude_each_other(tmp_path: Path) -> None:
    """F28, F29: of eight processes one is inside at a time, also while holders are killed; no count is lost."""
    (tmp_path / "counter").write_text("0")
    rounds = 25
    children = [
        subprocess.Popen([sys.executable, "-c", COUNT_UP, str(tmp_path), str(rounds), str(number < 3)])
        for number in range(8)
    ]
    assert sorted(child.wait(60) for child in children) == [-9, -9, -9, 0, 0, 0, 0, 0]
    assert (tmp_path / "counter").read_text() == str(8 * rounds)
    with hold(tmp_path / "lock", "the end"):
        pass
    sweep(tmp_path / "lock")
    assert os.listdir(tmp_path) == ["counter"]


def test_f29_a_killed_holder_is_replaced_without_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F29: the lock of a process that was killed on this host is taken over at once, without being asked to."""
    lock = tmp_path / "lock"
    code = (
        f"import time; from pathlib import Path; from esis.locks import hold\n"
        f"with hold(Path({str(lock)!r}), 'x'): print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(Busy, match=f"process {child.pid} "), hold(lock, "x"):
            pass
        child.kill()
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits"))
    with hold(lock, "x") as owner:
        assert os.listdir(lock) == [owner.text()]


def test_a_zombie_holds_nothing(tmp_path: Path) -> None:
    """A process that has ended and was not waited for yet counts as dead."""
    code = "from esis.locks import Owner; print(Owner.current().text(), flush=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        owner = Owner.parse(child.stdout.readline().strip())
        assert owner is not None
        wait_for(lambda: processes.is_zombie(child.pid))
        assert owner.is_dead()


def test_f30_a_fresh_lock_of_another_host_is_respected(tmp_path: Path) -> None:
    """F30: who holds it, where, with which PID, and how long ago it gave a sign of life stand in the message."""
    lock = tmp_path / "lock"
    plant(lock, ELSEWHERE, age=125)
    for take_over in (False, True):
        with pytest.raises(Busy) as caught, hold(lock, "wrkdir.abc", take_over=take_over):
            pass
        text = str(caught.value)
        assert "wrkdir.abc" in text
        assert "process 4242 of ann on other-node" in text
        assert re.search(r"12[4-9] s ago", text)
    assert os.listdir(tmp_path) == ["lock"]
    assert os.listdir(lock) == [ELSEWHERE.text()]


def test_f30_a_stale_lock_of_another_host_is_taken_over_on_request_only(tmp_path: Path) -> None:
    """F30: silence alone proves no death; the message names the option that breaks the lock."""
    lock = tmp_path / "lock"
    plant(lock, ELSEWHERE, age=locks.STALE_SECONDS + 30)
    with pytest.raises(Busy, match=r"--take-over"), hold(lock, "x"):
        pass
    with hold(lock, "x", take_over=True) as owner:
        assert os.listdir(lock) == [owner.text()]


@pytest.mark.parametrize(
    ("change", "dead"),
    [
        ({}, False),
        ({"pid": 2**22 + 17, "started": 1}, True),  # beyond the largest PID that Linux gives
        ({"started": 1}, True),  # the PID was used again
        ({"boot": "another-boot/1"}, False),  # booted since, or another machine of that name
        ({"boot": "unknown"}, False),
        ({"boot": "{boot}/1"}, False),  # another PID name space: a container beside us
        ({"host": "other-node", "pid": 2**22 + 17}, False),
    ],
)
def test_death_is_believed_only_where_it_is_certain(change: dict[str, object], dead: bool) -> None:
    """A PID says nothing on another host or in another name space, and nothing alone: its start time belongs to it."""
    here = Owner.current()
    if str(change.get("boot", "")).startswith("{boot}"):
        change = {"boot": here.boot.partition("/")[0] + "/1"}
    assert replace(here, **change).is_dead() is dead  # type: ignore[arg-type]


def test_f65_where_no_boot_is_known_nobody_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines without /proc would both call their boot unknown."""
    monkeypatch.setattr(locks, "boot", lambda: "unknown")
    assert not replace(Owner.current(), pid=2**22 + 17, started=1).is_dead()


# Ended by the kernel: Python's own handler would be heard behind the read if the signal came just before it.
WAITING = """\
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    "change", [{"host": "other-node"}, {"boot": "another-boot/1"}, {"boot": "{boot}/1"}, {"started": 1}, {"started": 0}]
)
@pytest.mark.parametrize("handles", [True, False])
def test_f65_a_process_is_signalled_only_if_it_is_certainly_the_one(
    change: dict[str, object], handles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F65: the number alone, or the host's name, may mean somebody else; kernels without pidfd_open do it, too."""
    if not handles:
        monkeypatch.setattr(os, "pidfd_open", lambda pid: (_ for _ in ()).throw(OSError(errno.ENOSYS, "")))
    here = Owner.current()
    if str(change.get("boot", "")).startswith("{boot}"):
        change = {"boot": here.boot.partition("/")[0] + "/1"}
    with subprocess.Popen([sys.executable, "-c", WAITING], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        owner = replace(here, pid=child.pid, started=processes.process_start(child.pid) or 0)
        assert not replace(owner, **change).interrupt()  # type: ignore[arg-type]
        assert child.poll() is None
        assert owner.interrupt()
        assert child.wait() != 0
        assert not owner.interrupt()


def test_a_sign_of_life_in_the_future_is_none(tmp_path: Path) -> None:
    """A clock was wrong: else nobody could take the lock over until then. A living owner renews it every minute."""
    lock = tmp_path / "lock"
    plant(lock, ELSEWHERE, age=-10 * 365 * 86400)
    with pytest.raises(Busy), hold(lock, "x"):
        pass
    with hold(lock, "x", take_over=True) as owner:
        assert os.listdir(lock) == [owner.text()]


def test_a_process_that_is_stopped_hears_of_the_interrupt() -> None:
    """Else `esis cancel` of a local run in the background would wait a minute for nothing."""
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
        assert replace(Owner.current(), pid=child.pid, started=processes.process_start(child.pid) or 0).interrupt()
        assert child.wait() != 0


def test_a_lock_is_not_entered_twice_by_one_process(tmp_path: Path) -> None:
    """The same process is busy with itself, so that two threads or calls exclude each other too."""
    with hold(tmp_path / "lock", "x"), pytest.raises(Busy, match=str(os.getpid())), hold(tmp_path / "lock", "x"):
        pass
    assert os.listdir(tmp_path) == []


def test_an_empty_directory_is_a_free_lock(tmp_path: Path) -> None:
    """A holder that was killed between its two steps of release leaves a lock that anybody can take."""
    (tmp_path / "lock").mkdir()
    with hold(tmp_path / "lock", "x") as owner:
        assert os.listdir(tmp_path / "lock") == [owner.text()]


@pytest.mark.parametrize("kind", ["link to a directory", "link to nowhere", "file", "fifo"])
def test_f43_what_is_planted_at_the_lock_is_refused(tmp_path: Path, kind: str) -> None:
    """F43: a planted link or file is refused and its target untouched, and nothing is left beside it."""
    target = tmp_path / "target"
    target.mkdir()
    (target / "precious").write_text("kept")
    place = tmp_path / "place"
    place.mkdir()
    lock = place / "lock"
    if kind == "file":
        lock.write_text("mine")
    elif kind == "fifo":
        os.mkfifo(lock)
    else:
        lock.symlink_to(target if kind == "link to a directory" else "nowhere")
    before = lock.lstat()
    with pytest.raises(EsisError, match=r"no lock of ESIS|is no directory"), hold(lock, "x", take_over=True):
        pass
    assert lock.lstat() == before
    assert [(path.name, path.read_text()) for path in target.iterdir()] == [("precious", "kept")]
    assert os.listdir(place) == ["lock"]


@pytest.mark.parametrize("name", ["precious", "a,b,c,d,e,f", ",,1,2,,,"])
def test_f43_a_foreign_file_in_the_lock_is_refused(tmp_path: Path, name: str) -> None:
    """F43: what ESIS did not write is named and left alone, even with --take-over."""
    lock = tmp_path / "lock"
    lock.mkdir()
    (lock / name).write_text("kept")
    os.utime(lock / name, (0, 0))
    with pytest.raises(EsisError, match=re.escape(name)), hold(lock, "x", take_over=True):
        pass
    assert (lock / name).read_text() == "kept"
    assert os.listdir(tmp_path) == ["lock"]


def test_f76_whoever_lost_its_lock_finds_out(tmp_path: Path) -> None:
    """F76: who took it over is named; before, nothing is said."""
    lock = tmp_path / "lock"
    first = Owner.current()
    acquire(lock, first, "x")
    locks.require(lock, "wrkdir.abc")
    (lock / first.text()).unlink()
    with pytest.raises(Busy, match=r"wrkdir\.abc: another process took it over"):
        locks.require(lock, "wrkdir.abc")
    (lock / ELSEWHERE.text()).touch()
    with pytest.raises(Busy, match=r"wrkdir\.abc: process 4242 of ann on other-node took it over"):
        locks.still(lock, "wrkdir.abc")()
    (lock / ELSEWHERE.text()).unlink()
    lock.rmdir()
    with pytest.raises(Busy):
        locks.require(lock, "wrkdir.abc")


def test_f76_an_entry_that_only_a_cache_still_shows_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F76: a client of NFS may list a directory as it was a minute ago; the server is asked for the entry itself."""
    lock = tmp_path / "lock"
    first = Owner.current()
    acquire(lock, first, "x")
    (lock / first.text()).unlink()
    monkeypatch.setattr(os, "listdir", lambda place: [first.text()])
    with pytest.raises(Busy):
        locks.require(lock, "x")


def test_releasing_a_lost_lock_is_harmless(tmp_path: Path) -> None:
    """Whoever lost the lock to a take-over leaves the new holder's entry alone when it ends."""
    lock = tmp_path / "lock"
    first, second = Owner.current(), Owner.current()
    acquire(lock, first, "x")
    (lock / first.text()).unlink()  # what a take-over does
    acquire(lock, second, "x")
    release(lock, first)
    assert os.listdir(lock) == [second.text()]
    assert holder(lock) == Owner.parse(second.text())
    release(lock, second)
    release(lock, second)
    assert os.listdir(tmp_path) == []


def test_the_lock_is_released_on_errors_too(tmp_path: Path) -> None:
    """An exception in the block leaves no lock behind."""
    with pytest.raises(KeyboardInterrupt), hold(tmp_path / "lock", "x"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_the_holder_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a lock is held, its entry's time is renewed, so that other hosts see that the holder lives."""
    monkeypatch.setattr(locks, "HEARTBEAT_SECONDS", 0.01)
    with hold(tmp_path / "lock", "x") as owner:
        entry = tmp_path / "lock" / owner.text()
        for _ in range(2):
            os.utime(entry, (1, 1))
            wait_for(lambda: entry.stat().st_mtime > time.time() - 60)


def test_f224_a_file_server_that_fails_once_does_not_silence_the_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F224: else another host would take over after a quarter of an hour, though the holder is at work."""
    failed: list[object] = []
    utime = os.utime

    def failing(path: Path, times: tuple[float, float] | None = None) -> None:
        if times is None and not failed:
            failed.append(path)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        utime(path, times)

    monkeypatch.setattr(locks, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(os, "utime", failing)
    with hold(tmp_path / "lock", "x") as owner:
        entry = tmp_path / "lock" / owner.text()
        os.utime(entry, (1, 1))
        wait_for(lambda: entry.stat().st_mtime > time.time() - 60)
    assert failed


def test_the_heart_stops_where_the_lock_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a take-over the former holder renews nothing, and ends without an error."""
    monkeypatch.setattr(locks, "HEARTBEAT_SECONDS", 0.01)
    lock = tmp_path / "lock"
    with hold(lock, "x") as owner:
        (lock / owner.text()).unlink()
        plant(tmp_path / "new", ELSEWHERE, age=500)
        (tmp_path / "new").rename(lock)
    assert os.listdir(lock) == [ELSEWHERE.text()]
    assert (lock / ELSEWHERE.text()).stat().st_mtime < time.time() - 400


def test_sweep_takes_what_the_dead_left_and_nothing_else(tmp_path: Path) -> None:
    """Locks that a process had made aside when it was killed go; those of the living, of other hosts and files stay."""
    lock = tmp_path / "lock"
    alive = Owner.current()
    for owner in (dead_owner(), alive, ELSEWHERE):
        make_lock(tmp_path / f"lock.{owner.text()}", owner)
    (tmp_path / "lock.txt").write_text("mine")
    sweep(lock)
    sweep(tmp_path / "absent" / "lock")
    assert sorted(os.listdir(tmp_path)) == sorted([f"lock.{alive.text()}", f"lock.{ELSEWHERE.text()}", "lock.txt"])


def test_holder_names_the_living_only(tmp_path: Path) -> None:
    """A free lock, an empty one and that of a dead process have no holder; one of another host has."""
    assert holder(tmp_path / "lock") is None
    plant(tmp_path / "lock", dead_owner())
    assert holder(tmp_path / "lock") is None
    plant(tmp_path / "other", ELSEWHERE)
    assert holder(tmp_path / "other") == ELSEWHERE


@RELAXED
@given(host=st.text(max_size=60), user=st.text(max_size=40), pid=st.integers(0, 2**22), started=st.integers(0, 2**63))
def test_an_owner_survives_its_file_name(host: str, user: str, pid: int, started: int) -> None:
    """Whatever a host or user is called, the owner's file name is one name and gives the same owner back."""
    try:
        text = Owner(host, "boot/1", pid, started, user, "ab").text()
    except UnicodeEncodeError:
        return  # a lone surrogate: no host and no user is called so
    assert not set("/\0\n") & set(text)
    assert Owner.parse(text) == Owner(host, "boot/1", pid, started, user, "ab")


@RELAXED
@given(st.text())
@example("host,boot,²,²,user,nonce")
def test_any_name_can_be_judged(name: str) -> None:
    """F43: a planted name is an owner or it is not; it never raises."""
    assert Owner.parse(name) is None or isinstance(Owner.parse(name), Owner)


def test_this_host_is_the_one_that_python_names() -> None:
    """The owner names this host, process and user, and is alive."""
    owner = Owner.current()
    assert (owner.host, owner.pid) == (socket.gethostname(), os.getpid())
    assert not owner.is_dead()
    assert processes.process_alive(os.getpid(), 0)
    assert locks.user_name(3_999_999_999) == "3999999999"
