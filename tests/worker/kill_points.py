"""Kill a worker at every file-system step of what it saves, and look at what the next attempt finds.

    python kill_points.py <kind> <scenario> <directory>

Kinds: kill, full, or an errno. Prints one JSON line per step: what the step was, how the child ended, what was found.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent / "faults" / "injector")]
os.environ["ESIS_FAULT_NURSERY"] = "1"

import sitecustomize  # noqa: E402  the injector; it counts nothing before it is armed

# Not for the processes that other tests start from here: theirs have to be armed.
del os.environ["ESIS_FAULT_NURSERY"]

import esis  # noqa: E402
import esis.checkpoint  # noqa: E402
from esis.errors import EsisError  # noqa: E402

FILES = ("big", "small", "sub/deep")
LIMIT = 400


def write(directory: Path, value: int) -> None:
    """Write several files through os.write, which the injector also breaks in the middle."""
    for name in FILES:
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        text = str(value).encode() * (3000 if name == "big" else 1)
        while text:
            text = text[os.write(descriptor, text) :]
        os.close(descriptor)


def read(directory: Path) -> int:
    """Return the value that all files hold; -1 where they don't belong together."""
    found = {(directory / name).read_text() for name in FILES[1:]}
    big = (directory / "big").read_text()
    (text,) = found if len(found) == 1 else ("-1",)
    return int(text) if big == text * 3000 else -1


class New:
    """esis.checkpoints."""

    def __init__(self, place: Path) -> None:
        self.task = esis.task(0, place, parameters=None)

    def save(self, value: int) -> None:
        with self.task.checkpoints(keep=2).save(step=value) as directory:
            write(directory, value)

    def load(self) -> tuple[int, int]:
        found = self.task.checkpoints().latest
        return (found.step, read(found.directory)) if found is not None else (0, 0)

    def litter(self) -> list[str]:
        kept = [str(item.number) for item in self.task.checkpoints().all()]
        return sorted(set(os.listdir(self.task.checkpoints().directory)) - set(kept[-2:]))


class Iterative:
    """An iterative checkpoint of 0.0.4, whose files are written where they stand."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def facility(self) -> Any:
        return esis.checkpoint.checkpoint_facility(1, overwrite_path=self.place)

    def save(self, value: int) -> None:
        facility = self.facility()
        found = (
            facility.open_iterative if facility.has_iterative_checkpoint("x") else facility.create_iterative_checkpoint
        )("x")
        write(Path(found.get_file_name("small")).parent, value)
        found.set_iteration(value)

    def load(self) -> tuple[int, int]:
        facility = self.facility()
        if not facility.has_iterative_checkpoint("x"):
            return (0, 0)
        found = facility.open_iterative("x")
        return found.get_iteration(), read(Path(found.get_file_name("small")).parent)

    def litter(self) -> list[str]:
        place = self.place / "__checkpoints__" / "x"
        kept = {"storage", "kept", "checkpoint.meta.json", "checkpoint.open"}
        more = [name for name in os.listdir(place / "kept") if not name.isdigit()]
        return sorted(set(os.listdir(place)) - kept) + more


class First(Iterative):
    """The same, of which nothing was kept before: each attempt begins one of a new name."""

    def save(self, value: int) -> None:
        facility = self.facility()
        name = f"x{value}"
        if facility.has_iterative_checkpoint(name):
            found = facility.open_iterative(name)  # killed after it was kept
        else:
            found = facility.create_iterative_checkpoint(name)
            write(Path(found.get_file_name("small")).parent, value)
            found.set_iteration(value)
        found.set_OK()

    def load(self) -> tuple[int, int]:
        facility = self.facility()
        value = 0
        while facility.has_iterative_checkpoint(f"x{value + 1}"):
            value += 1
        found = facility.open_iterative(f"x{value}")
        return found.get_iteration(), read(Path(found.get_file_name("small")).parent)

    def litter(self) -> list[str]:
        place = self.place / "__checkpoints__"
        kept = {"storage", "kept", "checkpoint.meta.json", "checkpoint.ok", "checkpoint.open"}
        return sorted({item for name in os.listdir(place) for item in os.listdir(place / name)} - kept)


class Plain(First):
    """Plain checkpoints of 0.0.4; what a killed worker began is begun anew under its name."""

    def save(self, value: int) -> None:
        facility = self.facility()
        if not facility.has_checkpoint(f"x{value}"):
            found = facility.create_checkpoint(f"x{value}")
            write(Path(found.get_file_name("small")).parent, value)
            found.set_OK()

    def load(self) -> tuple[int, int]:
        facility = self.facility()
        value = 0
        while facility.has_checkpoint(f"x{value + 1}"):
            value += 1
        return value, read(Path(facility.load_checkpoint(f"x{value}").get_file_name("small")).parent)


class Results:
    """esis.export over an earlier one."""

    def __init__(self, place: Path) -> None:
        self.task = esis.task(0, place, parameters=None)

    def save(self, value: int) -> None:
        self.task.export(value=value, twice=2 * value)

    def load(self) -> tuple[int, int]:
        try:
            found = json.loads(self.task.paths.result_file(0).read_text())
        except FileNotFoundError:
            return (0, 0)
        return found["value"], found["twice"] // 2

    def litter(self) -> list[str]:
        return []


SCENARIOS: dict[str, Callable[[Path], Any]] = {
    "new": New,
    "iterative": Iterative,
    "first": First,
    "plain": Plain,
    "results": Results,
}


def strike(kind: str, at: int, report: Path, work: Callable[[], None]) -> str:
    """Do the work in a child that is broken at step `at`; return how it ended."""
    child = os.fork()
    if child == 0:
        sitecustomize.arm({"ESIS_FAULT_REPORT": str(report), "ESIS_FAULT_KIND": kind, "ESIS_FAULT_AT": str(at)})
        try:
            work()
        except EsisError as error:
            os._exit(10 if error.advice or error.message else 12)
        except OSError:
            os._exit(11)
        except BaseException:
            os._exit(12)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"


def alone(work: Callable[[], Any]) -> Any:
    """Do the work in a process of its own, as attempts are; return what it gives."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return json.loads(text)


def main(kind: str, scenario: str, directory: str) -> None:
    place = Path(directory)
    (place / "run").mkdir()
    work = SCENARIOS[scenario](place / "run")
    alone(partial(work.save, 1))
    value = 1
    for at in range(1, LIMIT):
        report = place / "report"
        ended = strike(kind, at, report, partial(work.save, value + 1))
        lines = report.read_text().splitlines()
        hit = next((line for line in lines if line.startswith("HIT ")), "")
        found = alone(work.load)
        print(json.dumps({"at": at, "step": hit, "ended": ended, "before": value, "found": found}))
        if not hit:
            break
        value = found[0]
    alone(partial(work.save, value + 1))
    print(json.dumps({"last": alone(work.load), "expected": value + 1, "litter": work.litter()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
