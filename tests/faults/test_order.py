"""Power loss can't be tried out, its precondition can be seen: content, then name, then directory, each durable.

SIGKILL tells nothing about the order in which things reach the disk, so strace has to show the calls.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bench.traced import calls as calls_in
from tests.contract.site import BIN
from tests.faults.bench import Bench, generator

_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)")
_DESCRIPTOR = re.compile(r"(?:\d+|AT_FDCWD)<([^>]*)>")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
RECORDS = {
    "__esis__/wf_status",
    "__esis__/workflow_definition.json",
    "__esis__/provenance.json",
    "__esis__/task.sh",
    "__esis__/completed.state",
    "README",
    "__esis__/state.json",
    "sbatch.sh",
    "__esis__/wf_starttime",
    "__esis__/submissions/0001.json",
    "__esis__/jobid.tx",
}


@dataclass(frozen=True)
class Call:
    """A successful system call of the traced esis or a child."""

    pid: int
    name: str
    paths: tuple[str, ...]
    text: str

    @property
    def path(self) -> str:
        return self.paths[0] if self.paths else ""

    @property
    def creates(self) -> bool:
        return self.name == "mkdir" or (self.name == "openat" and "O_CREAT" in self.text)


def traced(bench: Bench, place: Path, *arguments: str) -> list[Call]:
    """Return the calls of one esis command that concern files, in the order in which they were finished."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    trace = bench.directory / "trace"
    names = "openat,write,fsync,fdatasync,syncfs,rename,renameat,renameat2,mkdir,execve"
    done = subprocess.run(
        [
            "strace",
            "-f",
            "-y",
            "-s",
            "4096",
            "-qq",
            "-e",
            f"trace={names}",
            "-e",
            "signal=none",
            "-o",
            str(trace),
            str(BIN / "esis"),
            *arguments,
        ],
        cwd=place,
        env=bench.env(),
        capture_output=True,
        text=True,
        check=False,
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return list(_parse(trace.read_text(errors="replace")))


def _parse(text: str) -> Iterator[Call]:
    for pid, rest in calls_in(text):
        call = _CALL.match(rest)
        if call is None or int(call.group(3)) < 0:
            continue
        name, given = call.group(1), call.group(2)
        if name in ("write", "fsync", "fdatasync", "syncfs"):
            descriptor = _DESCRIPTOR.match(given)
            yield Call(pid, name, (descriptor.group(1),) if descriptor else (), given)
        else:
            yield Call(pid, name, tuple(_TEXT.findall(given)), given)


def first(calls: list[Call], begin: int, name: str, path: str | Path, end: int | None = None) -> int | None:
    """Return where a call with that path comes first from `begin` on."""
    for number in range(begin, len(calls) if end is None else end):
        if calls[number].name == name and calls[number].path == str(path):
            return number
    return None


def check_record(calls: list[Call], number: int) -> None:
    """The rename `number` puts a record into place: fsync of the content before it, of the directory behind it."""
    source, target = calls[number].paths
    writes = [i for i in range(number) if calls[i].name == "write" and calls[i].path == source]
    assert writes, f"{target}: nothing was written"
    assert first(calls, writes[-1], "fsync", source, number) is not None, f"{target}: renamed before the fsync"
    durable = first(calls, number, "fsync", Path(target).parent)
    assert durable is not None, f"{target}: no fsync of its directory"
    between = [
        call
        for call in calls[number + 1 : durable]
        if call.pid == calls[number].pid and (call.name in ("rename", "execve") or call.creates)
    ]
    assert not between, f"{target}: {between[0].text} before the fsync of its directory"


def renames(calls: list[Call], run: Path) -> dict[str, list[int]]:
    """Return the renames of temporary files, by the record that they make (relative to the run)."""
    found: dict[str, list[int]] = {}
    for number, call in enumerate(calls):
        if call.name == "rename" and "/.esis-tmp-" in call.path:
            target = Path(call.paths[1])
            parts = target.relative_to(run.parent).parts[1:] if run.parent in target.parents else (str(target),)
            found.setdefault("/".join(parts), []).append(number)
    return found


def execs(calls: list[Call], program: str) -> list[int]:
    return [number for number, call in enumerate(calls) if call.name == "execve" and Path(call.path).name == program]


def test_f01_every_record_of_a_run_is_made_durable_before_the_next_step(bench: Bench) -> None:
    """fsync(temporary) < rename < fsync(directory), for each record that `esis run` writes, and before it goes on."""
    place = bench.workflow("a")
    calls = traced(bench, place, "run")
    (run,) = place.glob("wrkdir.*")
    found = renames(calls, run)
    assert found.keys() == RECORDS
    for numbers in found.values():
        for number in numbers:
            check_record(calls, number)


def test_f01_nothing_is_written_into_a_record_in_place(bench: Bench) -> None:
    """Records are replaced: no file of ESIS's own but the logs and the snapshot is opened under its final name."""
    place = bench.workflow("a")
    calls = traced(bench, place, "run")
    (run,) = place.glob("wrkdir.*")
    opened = {
        str(Path(call.path).relative_to(run))
        for call in calls
        if call.name == "openat" and call.path.startswith(f"{run}/") and "O_CREAT" in call.text
    }
    assert {name for name in opened if ".esis-tmp-" not in name and "/lock" not in name} == {
        "__esis__/generator.log",
        "__esis__/setup.log",
    }


def test_f01_a_snapshot_is_durable_before_it_gets_its_name(bench: Bench) -> None:
    """Every file is fsynced behind its last write, every directory behind its last entry, then comes the rename."""
    place = bench.workflow("a")
    calls = traced(bench, place, "run")
    (run,) = place.glob("wrkdir.*")
    (published,) = [i for i, call in enumerate(calls) if call.name == "rename" and call.paths[1] == str(run)]
    staging = calls[published].path
    files: dict[str, int] = {}
    directories: dict[str, int] = {}
    for number, call in enumerate(calls[:published]):
        name = call.paths[1] if call.name == "rename" else call.path
        if not name.startswith(staging) or "/lock" in name:
            continue
        if call.name == "write" and "/.esis-tmp-" not in name:
            files[name] = number
        if (call.creates or call.name == "rename") and name != staging:
            directories[str(Path(name).parent)] = number
    assert {Path(name).name for name in files} == {"setup.sh", "gen.sh", "template.sh", "worker.sh", "helper.txt"}
    for name, number in {**files, **directories}.items():
        assert first(calls, number, "fsync", name, published) is not None, f"{name} was not durable"
    behind = first(calls, published, "fsync", place)
    assert behind is not None
    assert not [call for call in calls[published + 1 : behind] if call.creates or call.name == "execve"]


def test_f02_the_intent_is_durable_before_sbatch_starts_and_the_answer_comes_after(bench: Bench) -> None:
    """Script and intent, fsynced with their directories, then sbatch, then the answer and jobid.tx."""
    place = bench.workflow("a")
    calls = traced(bench, place, "run")
    (run,) = place.glob("wrkdir.*")
    sbatch = execs(calls, "sbatch")[0]
    found = renames(calls, run)
    intent, answer = found["__esis__/submissions/0001.json"]
    before = [found[name][-1] for name in ("sbatch.sh", "__esis__/wf_starttime", "__esis__/state.json")]
    for number in (*before, intent):
        durable = first(calls, number, "fsync", Path(calls[number].paths[1]).parent)
        assert durable is not None
        assert number < durable < sbatch, calls[number].paths[1]
    written = [call.text for call in calls if call.name == "write" and call.path == calls[intent].path]
    assert '\\"outcome\\": \\"open\\"' in written[0]
    written = [call.text for call in calls if call.name == "write" and call.path == calls[answer].path]
    assert '\\"outcome\\": \\"submitted\\"' in written[0]
    assert sbatch < answer < found["__esis__/jobid.tx"][0]


def test_f02_resubmission_keeps_the_same_order(bench: Bench) -> None:
    """Also for submission 0002; the completed mark is taken away before anything may run again."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    bench.slurm.run()
    bench.esis(place, "status").ok()
    (run,) = place.glob("wrkdir.*")
    assert (run / "__esis__/completed.state").read_text() == "1"
    calls = traced(bench, place, "resubmit", "--state", "done")
    found = renames(calls, run)
    sbatch = execs(calls, "sbatch")[0]
    intent, answer = found["__esis__/submissions/0002.json"]
    for numbers in found.values():
        for number in numbers:
            check_record(calls, number)
    assert found["__esis__/completed.state"][0] < intent < found["sbatch.sh"][0] < sbatch < answer
    assert (run / "__esis__/completed.state").read_text() == "0"


def test_f67_what_the_scripts_wrote_is_durable_before_anything_says_that_tasks_may_use_it(bench: Bench) -> None:
    """F67: after a power cut no task finds an empty parameter file, or half of what the setup script made."""
    place = bench.workflow("a")
    calls = traced(bench, place, "run")
    (run,) = place.glob("wrkdir.*")
    found = renames(calls, run)
    scripts = [number for number, call in enumerate(calls) if call.name == "execve" and Path(call.path).parent == run]
    last = max(number for number, call in enumerate(calls) if call.pid == calls[scripts[-1]].pid)
    syncs = [number for number, call in enumerate(calls) if call.name == "syncfs" and call.path == str(run)]
    prepared = found["__esis__/state.json"][-1]
    assert len(scripts) == 2
    assert len(syncs) == 1, "one call, whatever the number of files"
    assert last < syncs[0] < prepared < found["__esis__/submissions/0001.json"][0] < execs(calls, "sbatch")[0]
    written = [number for number in range(syncs[0], prepared) if calls[number].creates]
    assert [Path(calls[number].path).name[:10] for number in written] == [".esis-tmp-"], "nothing but the state itself"
    assert json.loads((run / "__esis__/state.json").read_text())["stage"] == "prepared"


def test_f23_intent_and_map_of_scattered_tasks_are_durable_before_sbatch(bench: Bench) -> None:
    """F23, F56: a job could look its index up the moment that sbatch returns; a map is never older than its record."""
    place = bench.workflow("a")
    (place / "gen.sh").write_text(generator(2000))
    bench.slurm.set(max_array_size=4001)
    bench.esis(place, "run").ok()
    (run,) = place.glob("wrkdir.*")
    bench.slurm.set_state(1, "FAILED", range(0, 2000, 2))
    scattered = ",".join(map(str, range(0, 2000, 2)))
    calls = traced(bench, place, "resubmit", "--tasks", scattered)
    found = renames(calls, run)
    for number in found["__esis__/submissions/0002.map"]:
        check_record(calls, number)
    assert found["__esis__/submissions/0002.json"][0] < found["__esis__/submissions/0002.map"][0]
    assert found["__esis__/submissions/0002.map"][0] < execs(calls, "sbatch")[0]
    assert (run / "__esis__/submissions/0002.map").read_text().split(",") == ["\n".join(scattered.split(",")) + "\n"]
