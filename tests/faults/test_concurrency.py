"""Several processes at once, and locks of the dead and of other hosts."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esis.locks import STALE_SECONDS, Owner
from esis.processes import process_start
from tests.contract.site import BIN, until
from tests.faults.bench import REPOSITORY, Bench, only_run
from tests.faults.conftest import FULL

ROUNDS = 100 if FULL else 10


@pytest.mark.parametrize("command", ["run", "dependency", "resubmit"])
def test_f28_of_eight_at_the_same_instant_one_submits(bench: Bench, command: str) -> None:
    """F28: one submission a workflow; the others succeed or say who is at it; the files are those of one alone."""
    bench.workflow("a")
    place = bench.workflow("b", requires=["a"]) if command == "dependency" else bench.home / "a"
    if command == "resubmit":
        (place / "flaky").touch()
        bench.esis(place, "run").ok()
        bench.slurm.run()
        (only_run(place) / "mended").touch()
    bench.keep()
    bench.esis(place, command).ok()
    expected, jobs = bench.tree(), len(bench.slurm.jobs())
    for number in range(ROUNDS if command == "run" else max(3, ROUNDS // 5)):
        bench.restore()
        ends = bench.together(8, place, command)
        strange = [end for end in ends if end.code not in (0, 7)]
        assert not strange, (number, strange)
        assert 0 in {end.code for end in ends}
        for end in ends:
            assert "Traceback" not in end.stderr
            if end.code == 7:
                assert f"on {os.uname().nodename}" in end.stderr or "changes hands" in end.stderr, end.stderr
        bench.again(place, command).ok()
        assert len(bench.slurm.jobs()) == jobs, (number, ends)
        found = bench.tree()
        assert found.keys() == expected.keys(), (number, found.keys() ^ expected.keys())


@pytest.mark.parametrize("command", ["run", "dependency"])
def test_f28_who_comes_second_looks_again_under_the_lock(bench: Bench, command: str) -> None:
    """F28: the run was built and submitted between the first look and the lock: it counts as queued."""
    place = bench.workflow("a")
    child = bench.workflow("b", requires=["a"])
    other = (
        f"[ -e {bench.directory}/once ] || {{ touch {bench.directory}/once; cd {place} && "
        f"{sys.executable} -m esis run >{bench.directory}/said 2>&1; }}"
    )
    bench.wrap("scontrol", f'({other})\nexec REAL "$@"')  # asked for the version once, before the lock
    shown = bench.esis(place if command == "run" else child, command, env={"PYTHONPATH": str(REPOSITORY)}).ok()
    assert "submitted as job 1" in (bench.directory / "said").read_text()
    assert "unknown" not in shown.stderr
    assert "3 waiting" in shown.stderr
    assert len(bench.slurm.jobs()) == (1 if command == "run" else 2)


def lock_of(place: Path) -> Path:
    return only_run(place) / "__esis__/lock"


def test_f29_the_lock_of_a_killed_holder_is_taken_over_at_once(bench: Bench) -> None:
    """F29: on the same host; before it was killed it was respected, and named."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom esis.locks import hold\n"
        "with hold(Path(sys.argv[1]), 'x'):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock_of(place))],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        busy = bench.esis(place, "run")
        assert busy.code == 7
        assert f"process {holder.pid} of" in busy.stderr
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        bench.esis(place, "run").ok()
    assert not os.path.lexists(lock_of(place))


def test_f29_a_stopped_holder_is_not_dead(bench: Bench) -> None:
    """F29: SIGSTOP is not SIGKILL: the lock is respected however long it takes."""
    place = bench.workflow("a")
    (place / "setup.sh").write_text("#!/bin/sh\ntouch began; while ! [ -e ../go ]; do sleep 0.05; done\n")
    with subprocess.Popen(
        [sys.executable, "-m", "esis", "run"],
        cwd=place,
        stderr=subprocess.DEVNULL,
        env={**bench.env(), "PYTHONPATH": str(REPOSITORY)},
    ) as holder:
        until(lambda: any(place.glob("wrkdir.*/began")), 20)
        holder.send_signal(signal.SIGSTOP)
        assert bench.esis(place, "run").code == 7
        assert bench.esis(place, "run", "--take-over").code == 7
        (place / "go").touch()
        holder.send_signal(signal.SIGCONT)
        assert holder.wait(30) == 0
    assert len(bench.slurm.jobs()) == 1


def foreign_lock(place: Path, age: float) -> Owner:
    """Put a lock of another host beside a run that is built."""
    here = Owner.current()
    owner = Owner("elsewhere", "0000/1", 4711, 1, "carol", "00000000")
    assert owner.host != here.host
    entry = lock_of(place) / owner.text()
    entry.parent.mkdir()
    entry.touch()
    os.utime(entry, (time.time() - age, time.time() - age))
    return owner


@pytest.mark.parametrize("command", [["run"], ["resubmit"]])
def test_f30_a_fresh_lock_of_another_host_is_respected(bench: Bench, command: list[str]) -> None:
    """F30: owner and age are named, with and without --take-over; nothing is changed."""
    place = bench.workflow("a")
    (place / "flaky").touch()
    bench.esis(place, "run").ok()
    bench.slurm.run()
    owner = foreign_lock(place, 300)
    for extra in ([], ["--take-over"]):
        busy = bench.esis(place, *command, *extra)
        assert busy.code == 7
        assert "process 4711 of carol on elsewhere" in busy.stderr
        assert "300 s ago" in busy.stderr or "301 s ago" in busy.stderr
    assert [path.name for path in lock_of(place).iterdir()] == [owner.text()]
    assert len(bench.slurm.jobs()) == 1


def test_f30_a_stale_lock_of_another_host_is_taken_over_on_request(bench: Bench) -> None:
    """F30: after 15 minutes of silence; without the option it is respected and the option is named."""
    place = bench.workflow("a")
    (place / "flaky").touch()
    bench.esis(place, "run").ok()
    bench.slurm.run()
    foreign_lock(place, STALE_SECONDS + 60)
    busy = bench.esis(place, "resubmit")
    assert busy.code == 7
    assert "--take-over" in busy.stderr
    bench.esis(place, "resubmit", "--take-over").ok()
    assert len(bench.slurm.jobs()) == 2
    assert not os.path.lexists(lock_of(place))


def test_f31_a_lock_that_another_user_left_is_not_removed(bench: Bench) -> None:
    """F31: a living process of another user holds it: named, refused, untouched."""
    if os.getuid() != 0:
        pytest.skip("only root can give a lock away")
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    here = Owner.current()
    with subprocess.Popen(["sleep", "60"]) as living:
        owner = Owner(here.host, here.boot, living.pid, process_start(living.pid) or 0, "mallory", "00000000")
        entry = lock_of(place) / owner.text()
        entry.parent.mkdir()
        entry.touch()
        os.chown(entry.parent, 65534, 65534)
        os.chown(entry, 65534, 65534)
        busy = bench.esis(place, "run")
        living.kill()
    assert busy.code == 7
    assert "mallory" in busy.stderr
    assert entry.exists()


@pytest.mark.parametrize("command", ["setup", "require", "freeze", "unfreeze"])
def test_f143_what_somebody_else_writes_into_a_workflow_file_stays(bench: Bench, command: str) -> None:
    """F143: whoever would write over it says so, up to the very last moment, and writes it when it is repeated."""
    for name in ("a", "b", "c"):
        bench.workflow(name)
    place = bench.workflow("d", requires=["b"])
    bench.esis(bench.home / "b", "run").ok()
    pin = ["freeze-requirement", "b", only_run(bench.home / "b").name]
    if command == "unfreeze":
        bench.esis(place, *pin).ok()
    argv = {
        "setup": ["setup", "-m", "3", "setup.sh", "gen.sh", "template.sh", "worker.sh"],
        "require": ["require", "../a/wf.esis.json", "a"],
        "freeze": pin,
        "unfreeze": ["freeze-requirement", "b", "--unfreeze"],
    }[command]
    bench.keep()
    steps = bench.broken(place, argv, "count", 0).steps
    last = next(at for at, step in enumerate(steps, 1) if step.startswith("os.rename"))
    edited = (place / "wf.esis.json").read_text()
    other = {"ESIS_FAULT_MEANWHILE": f"{shlex.quote(str(BIN / 'esis'))} require ../c/wf.esis.json c >&2"}
    for at in range(1, last):
        bench.restore()
        held_up = bench.broken(place, argv, "meanwhile", at, other)
        assert held_up.result.code == 7, (held_up.hit, held_up.result)
        assert "was changed by another process meanwhile" in held_up.result.stderr
        assert '"../c/wf.esis.json": "c"' in (place / "wf.esis.json").read_text()
        bench.esis(place, *argv).ok()
        both = json.loads((place / "wf.esis.json").read_text())
        assert both["requires_names"].pop("../c/wf.esis.json") == "c"
        both["requires"].remove("../c/wf.esis.json")
        assert both == json.loads(edited)
    assert last > 1
