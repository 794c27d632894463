"""What workers save, in each way, with a look at what is there: a number that all of it has to agree on."""

from __future__ import annotations

import json
import os
import struct
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import esis
import esis.checkpoint

FILES = ("big", "small", "sub/deep")
_LONG = 500  # numbers in an array


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


class Failed(Exception):
    """Report that an attempt ended with an error, in its words."""


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
        kept = {"storage", "kept", "checkpoint.meta.json", "checkpoint.opened"}
        more = [name for name in os.listdir(place / "kept") if not name.isdigit()]
        more += os.listdir(place / "checkpoint.opened")[1:]
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

    def latest(self, has: Callable[[str], bool]) -> int:
        """Return the last one that is there, 0: none is."""
        value = 0
        while has(f"x{value + 1}"):
            value += 1
        return value

    def load(self) -> tuple[int, int]:
        facility = self.facility()
        value = self.latest(facility.has_iterative_checkpoint)
        if value == 0:
            return (0, 0)
        found = facility.open_iterative(f"x{value}")
        return found.get_iteration(), read(Path(found.get_file_name("small")).parent)

    def litter(self) -> list[str]:
        place = self.place / "__checkpoints__"
        kept = {"storage", "kept", "checkpoint.meta.json", "checkpoint.ok", "checkpoint.opened"}
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
        value = self.latest(facility.has_checkpoint)
        if value == 0:
            return (0, 0)
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


class Arrays(Results):
    """esis.export_array: a file, and its name in the results."""

    def save(self, value: int) -> None:
        self.task.export_array("series", [value] * _LONG)

    def load(self) -> tuple[int, int]:
        try:
            name = json.loads(self.task.paths.result_file(0).read_text())["series"]
        except FileNotFoundError:
            return (0, 0)
        content = self.task.paths.result_file(0).with_name(name).read_bytes()
        values = {value for (value,) in struct.iter_unpack("=q", content[-8 * _LONG :])}
        (value,) = values if len(values) == 1 and content[1:6] == b"NUMPY" else {-1}
        return value, value


SCENARIOS: dict[str, Callable[[Path], Any]] = {
    "new": New,
    "iterative": Iterative,
    "first": First,
    "plain": Plain,
    "results": Results,
    "arrays": Arrays,
}


def alone(work: Callable[[], Any]) -> Any:
    """Do the work in a process of its own, as attempts are; return what it gives. Raises Failed where it fails."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            try:
                told = {"given": work()}
            except BaseException:
                told = {"failed": traceback.format_exc()}
            os.write(writing, json.dumps(told).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        told = json.loads(stream.read())
    os.waitpid(child, 0)
    if "failed" in told:
        raise Failed(told["failed"])
    return told["given"]
