"""What a large include costs, in bytes and memory: deterministic, so that it can gate."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial

import pytest

from tests.bench import traced
from tests.bench.figure import Figure, interleaved
from tests.bench.includes import MIB, Bench, bench
from tests.bench.traced import reads_of

SIZE = 24  # MiB


@pytest.fixture
def large() -> Iterator[Bench]:
    if not traced.works():
        pytest.skip("strace is not installed, or may not trace here")
    with bench(SIZE) as made:
        made.settle()
        yield made


def include_bytes(found: dict[str, int]) -> dict[str, int]:
    """Return what was read below the source ("") and below directories named by the beginning of their names."""
    told: dict[str, int] = {}
    for name, count in found.items():
        if name.endswith("/table.bin"):
            place = next((part[:7] for part in name.split("/") if part.startswith((".esis-b", "wrkdir."))), "")
            told[place] = told.get(place, 0) + count
    return told


def test_a_new_run_reads_its_include_once(large: Bench) -> None:
    """The kernel copies it, the copy is read, each byte once; a second run by another name reads the copy alone."""
    assert include_bytes(large.bytes_read("run")) == {"": SIZE * MIB, ".esis-b": SIZE * MIB}
    assert include_bytes(large.bytes_read("run")) == {}
    for command in ("status", "list", "why"):
        assert include_bytes(large.bytes_read(command)) == {}
    (large.place / "worker.sh").write_text("#!/bin/sh\n# other\n")
    assert include_bytes(large.bytes_read("run")) == {"": SIZE * MIB, ".esis-b": SIZE * MIB}


def test_verify_reads_it_all(large: Bench) -> None:
    """The memory is left aside, and no copy is made of what is there."""
    large.esis("run")
    for command in ("run", "status", "list", "why", "dependency"):
        assert include_bytes(large.bytes_read(command, "--verify")) == {"": SIZE * MIB}


def test_without_a_memory_an_existing_run_is_found_with_one_read_and_no_copy(large: Bench) -> None:
    """A run that holds a file of that name and size may be the one: no disk is filled for nothing."""
    large.esis("run")
    shutil.rmtree(large.place / "cache")
    assert include_bytes(large.bytes_read("run")) == {"": SIZE * MIB}


def test_memory_does_not_grow_with_the_include() -> None:
    """64 MiB are enough for any size."""
    with bench(160) as made:
        assert made.esis("run").rss <= 64 * MIB


def test_strace_lines_are_understood() -> None:
    """Calls that another thread interrupted, both files of a kernel copy, errors."""
    log = "\n".join(
        [
            '12 pread64(4</tmp/a b>, "x"..., 1048576, 0) = 1048576',
            "12 read(3</x>, <unfinished ...>",
            "13 copy_file_range(3</src>, NULL, 4</dst>, NULL, 4194304, 0) = 4194304",
            '12 <... read resumed>"y"..., 10) = 10',
            "12 read(5</gone>, 0x7f, 10) = -1 EIO (Input/output error)",
            "12 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3</lib.so>, 0) = 0x7f0000000000",
        ]
    )
    assert list(reads_of(log)) == [("/tmp/a b", 1048576), ("/src", 4194304), ("/x", 10), ("/lib.so", 4096)]


def test_figures_are_medians_of_interleaved_runs() -> None:
    """One slow moment changes nothing."""
    order: list[str] = []
    times = {"a": iter([1.0, 99.0, 2.0]), "b": iter([5.0, 6.0, 7.0])}

    def take(name: str) -> float:
        order.append(name)
        return next(times[name])

    found = interleaved({name: partial(take, name) for name in times}, 3)
    assert found == {"a": 2.0, "b": 6.0}
    assert order == ["a", "b"] * 3
    assert Figure("x", 1.0, 1.0).reached
    assert not Figure("x", 1.1, 1.0).reached
    assert Figure("x", 9.0, None).reached
