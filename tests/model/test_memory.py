"""Remembered hashes: right or absent. A cache that is broken, foreign or can't be written changes nothing."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from esis.model import known_digests
from esis.model.known_digests import Identity, Memory
from esis.model.sources import REMEMBERED, Source, Sources, read_sources

OLD = 1_000_000_000.0  # seconds since 1970


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, in which files count as settled at once: ctime can't be set back."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(known_digests, "SETTLED_SECONDS", -3600.0)
    return tmp_path / "cache/esis/hashes"


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(REMEMBERED))
    return path


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with each file that is read."""
    from esis import digests
    from esis.model import sources

    found: list[int] = []
    inner = digests.hash_descriptor

    def counting(descriptor: int, stop: threading.Event | None = None) -> str:
        found.append(os.fstat(descriptor).st_size)
        return inner(descriptor, stop)

    monkeypatch.setattr(sources, "hash_descriptor", counting)
    return found


def test_an_unchanged_file_is_read_once(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And again with --verify, which also corrects what is remembered."""
    read = reads(monkeypatch)
    assert [Sources().digest_of(large) for _ in range(3)] == [sha(large)] * 3
    assert len(read) == 1
    assert Sources(verify=True).digest_of(large) == sha(large)
    assert len(read) == 2


def test_a_directory_is_listed_anew_but_only_new_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small files are read each time: looking them up would not be faster."""
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True)
    for name in ("a", "below/b"):
        (tree / name).write_bytes(os.urandom(REMEMBERED + 1))
    (tree / "small").write_bytes(b"small")
    read = reads(monkeypatch)
    first = Sources().digest_of(tree)
    assert Sources().digest_of(tree) == first
    assert sorted(read) == [5, 5, REMEMBERED + 1, REMEMBERED + 1]
    (tree / "c").write_bytes(os.urandom(REMEMBERED))
    changed = Sources().digest_of(tree)
    assert changed == Sources(verify=True).digest_of(tree) != first
    (tree / "c").unlink()
    assert Sources().digest_of(tree) == first


def edit(path: Path) -> None:
    found = path.stat()
    path.write_bytes(os.urandom(found.st_size))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def exchange(path: Path) -> None:
    found = path.stat()
    other = path.with_name("other")
    other.write_bytes(os.urandom(found.st_size))
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.rename(path)


def grow(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"x")


@pytest.mark.parametrize("change", [edit, exchange, grow])
def test_a_changed_file_is_read_again_also_where_its_mtime_was_set_back(large: Path, change: object) -> None:
    """ctime, inode and size tell what mtime hides."""
    before = Sources().digest_of(large)
    assert callable(change)
    change(large)
    assert before != Sources().digest_of(large) == sha(large)


def test_what_was_just_written_is_not_remembered(large: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Racily clean: a second change within the tick of the file system's clock would not show."""
    monkeypatch.setattr(known_digests, "SETTLED_SECONDS", 3.0)
    Sources().digest_of(large)
    assert not cache.exists()
    found = os.stat(large)
    identity = Identity(1, 2, 3, found.st_mtime_ns, found.st_ctime_ns)
    assert not identity.settled(found.st_ctime + 2.9)
    assert identity.settled(found.st_ctime + 3.1)
    assert not Identity(1, 2, 3, int((found.st_ctime + 900) * 1e9), 0).settled(found.st_ctime)  # in the future


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    large: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read is then of neither state."""
    from esis import digests
    from esis.model import sources

    inner = digests.hash_descriptor

    def disturbed(descriptor: int, stop: threading.Event | None = None) -> str:
        found = inner(descriptor, stop)
        grow(large)
        return found

    monkeypatch.setattr(sources, "hash_descriptor", disturbed)
    Sources().digest_of(large)
    assert not cache.exists()


def damage(text: str, how: str) -> str:
    digest = text.splitlines()[1][:64]
    return {
        "empty": "",
        "cut": text[:-70],
        "half": text[: len(text) // 2],
        "other": "esis hashes 2\n" + text[14:],
        "flipped": text.replace(digest, "0" * 64),
        "garbage": "\0" * 300,
    }[how]


@pytest.mark.parametrize("how", ["empty", "cut", "half", "other", "flipped", "garbage", "directory", "foreign"])
def test_a_cache_that_is_not_whole_or_not_ours_is_ignored_and_replaced(
    large: Path, cache: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash is right whatever stands there, and the next time it is remembered again."""
    right = Sources().digest_of(large)
    (file,) = cache.iterdir()
    if how == "directory":
        file.unlink()
        file.mkdir()
    elif how == "foreign":
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    else:
        file.write_text(damage(file.read_text(), how))
    read = reads(monkeypatch)
    assert Sources().digest_of(large) == right
    assert len(read) == 1
    Sources().digest_of(large)
    assert len(read) == (2 if how in ("directory", "foreign") else 1)


@pytest.mark.parametrize("place", ["", "relative", "/dev/null/nowhere"])
def test_nowhere_to_remember_is_no_error(large: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """F42: no HOME, a relative path, a place that can't be made; nothing is written elsewhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", place)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.chdir(large.parent)
    assert Sources().digest_of(large) == sha(large)
    assert os.listdir(large.parent) == ["large"]


def test_the_cache_is_bounded(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of files, the last written ones; in each as many old entries as may come back."""
    monkeypatch.setattr(known_digests, "MOST_FILES", 3)
    for number in range(5):
        path = tmp_path / f"file{number}"
        path.write_bytes(os.urandom(REMEMBERED))
        Sources().digest_of(path)
        os.utime(Memory.of(path).file or "", (OLD + number, OLD + number))
    assert {file.name for file in cache.iterdir()} == {
        (Memory.of(tmp_path / f"file{number}").file or Path()).name for number in (2, 3, 4)
    }
    for _ in range(6):
        edit(path)
        Sources().digest_of(path)
    assert len((Memory.of(path).file or Path()).read_text().splitlines()) == 2 + 4


def test_several_writers_leave_a_whole_cache(tmp_path: Path) -> None:
    """The last one wins, and nothing is torn."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(40):
        (tree / str(number)).write_bytes(os.urandom(REMEMBERED))
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(Sources(verify=True).digest_of(tree))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert not Source.survey(tree).unknown
    assert read_sources([Source.survey(tree)], [None]) == found[:1]
