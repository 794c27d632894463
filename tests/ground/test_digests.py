"""A copy's hash is that of the copy's bytes, whoever copied them and whatever happened to the source meanwhile."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from esis import digests
from esis.digests import Stopped, copy_descriptor, hash_descriptor, in_threads

SIZE = 5 * 1024 * 1024 + 17


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a few chunks go the way of large ones."""
    monkeypatch.setattr(digests, "BESIDE", 1024)
    monkeypatch.setattr(digests, "KERNEL_CHUNK", 512 * 1024)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """A file of several chunks, and an empty one."""
    (tmp_path / "source").write_bytes(os.urandom(SIZE))
    opened = (os.open(tmp_path / "source", os.O_RDWR), os.open(tmp_path / "copy", os.O_RDWR | os.O_CREAT))
    yield opened
    for descriptor in opened:
        os.close(descriptor)


def content(descriptor: int) -> bytes:
    return os.pread(descriptor, 2 * SIZE, 0)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def partly(after: int, error: int | None) -> Callable[..., int]:
    """Return a copy_file_range that copies `after` bytes, then fails, or says that there is no more."""
    inner = os.copy_file_range
    left = [after]

    def copy(reading: int, writing: int, count: int) -> int:
        if not left[0]:
            if error is not None:
                raise OSError(error, os.strerror(error))
            return 0
        done = inner(reading, writing, min(count, left[0], 100_000))
        left[0] -= done
        return done

    return copy


@pytest.mark.parametrize(
    "copy",
    [
        None,
        partly(0, errno.ENOSYS),
        partly(0, errno.EXDEV),
        partly(0, None),
        partly(1_000_000, None),
        partly(700_001, errno.EOPNOTSUPP),
        partly(10 * SIZE, None),
    ],
    ids=["kernel", "ENOSYS", "EXDEV", "no bytes", "stops early", "fails half-way", "small pieces"],
)
def test_the_copy_is_whole_and_its_hash_is_right(
    files: tuple[int, int], copy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel can't copy, or stops early as some file systems do, the rest goes through this process."""
    if copy is not None:
        monkeypatch.setattr(os, "copy_file_range", copy)
    assert copy_descriptor(*files) == sha(content(files[0]))
    assert content(files[1]) == content(files[0])


def test_without_copy_file_range_it_works_too(files: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has it on Linux alone."""
    monkeypatch.delattr(os, "copy_file_range")
    assert copy_descriptor(*files) == sha(content(files[0])) == sha(content(files[1]))


def test_f33_the_hash_is_that_of_the_stored_bytes_when_the_source_changes_under_way(
    files: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody overwrites what was copied already, and what wasn't yet; then cuts the source short."""
    inner = os.copy_file_range
    calls: list[int] = []

    def copy(reading: int, writing: int, count: int) -> int:
        done = inner(reading, writing, count)
        calls.append(done)
        if len(calls) == 3:
            os.pwrite(files[0], b"x" * 300_000, sum(calls) - 300_000)  # copied, and not hashed yet
            os.pwrite(files[0], b"y" * 300_000, SIZE - 600_000)
            os.ftruncate(files[0], SIZE - 400_000)
        return done

    monkeypatch.setattr(os, "copy_file_range", copy)
    found = copy_descriptor(*files)
    assert len(content(files[1])) == SIZE - 400_000
    assert content(files[1]) != content(files[0])
    assert found == sha(content(files[1]))


def test_a_full_disk_is_an_error(files: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel can't write, this process could not write either."""
    monkeypatch.setattr(os, "copy_file_range", partly(1_000_000, errno.ENOSPC))
    with pytest.raises(OSError, match="No space") as caught:
        copy_descriptor(*files)
    assert caught.value.errno == errno.ENOSPC


def test_another_threads_failure_ends_a_copy(files: tuple[int, int]) -> None:
    """Neither a copy nor a hash goes on for nothing."""
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        copy_descriptor(*files, stop)
    os.lseek(files[0], 0, os.SEEK_SET)
    with pytest.raises(Stopped):
        hash_descriptor(files[0], stop)
    assert threading.active_count() == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_order_and_the_first_error_ends_the_rest(threads: int) -> None:
    """The error is that of the item, not that of those which were stopped because of it."""
    assert in_threads(lambda item, stop: item * 2, range(20), threads) == [item * 2 for item in range(20)]
    began = []

    def work(item: int, stop: threading.Event) -> int:
        began.append(item)
        if item == 2:
            raise ValueError("two")
        if item < 2 or stop.wait(30):
            return item
        raise AssertionError("nobody stopped this one")

    with pytest.raises(ValueError, match="two"):
        in_threads(work, range(1000), threads)
    assert len(began) < 20
