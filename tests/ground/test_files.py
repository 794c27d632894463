"""Files are replaced whole and durably, and nothing planted at their place is followed or waited for."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from esis import files
from esis.errors import CorruptState
from esis.files import is_directory, is_there
from esis.locks import Owner

_watching: list[list[str]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "os.rename":
        for heard in _watching:
            heard.append(f"rename to {os.fsdecode(arguments[1])}")


sys.addaudithook(_hear)  # the only way to see a rename in every supported Python: pathlib keeps its own reference


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Fail where the block hangs: a FIFO that nobody writes to blocks for ever."""
    import faulthandler

    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def test_write_replaces_the_content_and_leaves_nothing_else(tmp_path: Path) -> None:
    """The target holds exactly the new content, and no temporary file stays behind."""
    target = tmp_path / "state"
    target.write_text("old and longer")
    files.write_atomic(target, "née\n")
    assert target.read_bytes() == "née\n".encode()
    assert os.listdir(tmp_path) == ["state"]


def test_bytes_that_are_no_utf8_survive(tmp_path: Path) -> None:
    """Surrogate escapes are written as the bytes that they stand for."""
    files.write_atomic(tmp_path / "script", b"\xff\xfe#!".decode("utf-8", "surrogateescape"))
    assert (tmp_path / "script").read_bytes() == b"\xff\xfe#!"


@pytest.mark.parametrize("step", [1, 7, 4096])
def test_f06_short_writes_give_the_whole_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """F06: where the kernel takes only a part at a time, the file is complete all the same."""
    write = os.write
    data = os.urandom(3 * step + 2)
    monkeypatch.setattr(os, "write", lambda descriptor, view: write(descriptor, bytes(view)[:step]))
    files.write_atomic(tmp_path / "file", data)
    assert (tmp_path / "file").read_bytes() == data


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_f04_a_failed_write_keeps_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    """F04: on a full or broken disk the error comes through, the old content stays and no litter is left."""
    target = tmp_path / "state"
    target.write_text("old")
    written: list[int] = []

    def fail(descriptor: int, *view: bytes) -> int:
        if call == "write" and not written:  # a first part still fits
            written.append(os.pwrite(descriptor, bytes(view[0])[:2], 0))
            return written[0]
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError) as caught:
            files.write_atomic(target, "new content")
    assert caught.value.errno == number
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["state"]


def test_a_failed_rename_leaves_no_litter(tmp_path: Path) -> None:
    """Where the target can't be replaced (a directory stands there), the temporary file goes away."""
    (tmp_path / "state").mkdir()
    with pytest.raises(OSError):
        files.write_atomic(tmp_path / "state", "x")
    assert os.listdir(tmp_path) == ["state"]
    assert (tmp_path / "state").is_dir()


def test_f43_a_link_at_the_target_is_replaced_not_followed(tmp_path: Path) -> None:
    """F43: what a planted symbolic link points to is never touched."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "state").symlink_to(victim)
    files.write_atomic(tmp_path / "state", "new")
    assert victim.read_text() == "precious"
    assert not (tmp_path / "state").is_symlink()
    assert (tmp_path / "state").read_text() == "new"


def test_the_order_is_fsync_rename_fsync_of_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content is durable before the name points to it, and the name is durable when the call returns."""
    steps: list[str] = []
    fsync = os.fsync

    def seen(descriptor: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        size = os.fstat(descriptor).st_size if kind == "file" else ""
        steps.append(f"fsync {kind} {size}".rstrip())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    _watching.append(steps)
    try:
        files.write_atomic(tmp_path / "state", "12345")
    finally:
        _watching.remove(steps)
    assert steps == ["fsync file 5", f"rename to {tmp_path / 'state'}", "fsync directory"]


@pytest.mark.parametrize(
    ("mask", "executable", "expected"),
    [
        (0o077, False, 0o600),
        (0o000, False, 0o666),
        (0o022, False, 0o644),
        (0o077, True, 0o700),
        (0o000, True, 0o777),
        (0o027, True, 0o750),
    ],
)
def test_f42_the_umask_is_honoured(tmp_path: Path, mask: int, executable: bool, expected: int) -> None:
    """F42: a file is as open or as closed as the user's umask says, no more and no less."""
    with umask(mask):
        files.write_atomic(tmp_path / "file", "x", executable=executable)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == expected


def test_json_round_trip_keeps_the_order_of_keys(tmp_path: Path) -> None:
    """State files are indented JSON with a stable order, so that a diff of two shows what changed."""
    value = {"b": 1, "a": ["é", None]}
    files.write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text("utf-8")
    assert text == '{\n  "b": 1,\n  "a": [\n    "é",\n    null\n  ]\n}\n'
    assert files.read_json_object(tmp_path / "x.json") == value


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b'{"a": 1', b"[" * 100_000, b"\0" * 9])
def test_f07_garbage_in_a_state_file_is_corrupt(tmp_path: Path, content: bytes) -> None:
    """F07: an empty, cut or garbage state file is an error of its own that names the file."""
    (tmp_path / "state.json").write_bytes(content)
    with pytest.raises(CorruptState, match=r"state\.json"):
        files.read_json_object(tmp_path / "state.json")


def test_no_state_file_is_not_a_corrupt_one(tmp_path: Path) -> None:
    """Absence has a meaning of its own."""
    with pytest.raises(FileNotFoundError):
        files.read_json_object(tmp_path / "state.json")


def test_many_texts_are_read_by_one_decoder() -> None:
    """To make one takes longer than to read a parameter set, and there are as many as tasks."""
    assert files.parse_json("[1]") == [1]
    called = []
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None)
    try:
        value = files.parse_json(b'{"n": 2}\n')
    finally:
        sys.setprofile(None)
    assert value == {"n": 2}
    assert "raw_decode" in called
    assert "__init__" not in called


def test_reading_is_limited(tmp_path: Path) -> None:
    """F37: a file beyond the limit is refused without being read whole; one at the limit is read."""
    path = tmp_path / "big"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)  # sparse: reading all of it would end in MemoryError
    with pytest.raises(CorruptState, match="larger than 100 bytes"):
        files.read_limited(path, 100)
    path.write_bytes(b"x" * 100)
    assert files.read_limited(path, 100) == b"x" * 100


@pytest.mark.parametrize("kind", ["fifo", "device", "directory"])
def test_f38_what_is_no_regular_file_is_refused_without_blocking(tmp_path: Path, kind: str) -> None:
    """F38: a FIFO or device planted at a state file's path can't hang the command."""
    path = {"fifo": tmp_path / "state", "device": Path("/dev/zero"), "directory": tmp_path}[kind]
    if kind == "fifo":
        os.mkfifo(path)
    with time_limit(10), pytest.raises((CorruptState, IsADirectoryError)):
        files.read_limited(path)


def test_f38_writing_over_a_fifo_does_not_block(tmp_path: Path) -> None:
    """F38: a FIFO at the target is replaced, as everything else."""
    os.mkfifo(tmp_path / "state")
    with time_limit(10):
        files.write_atomic(tmp_path / "state", "x")
    assert (tmp_path / "state").read_text() == "x"


def test_sweeping_takes_temporaries_alone(tmp_path: Path) -> None:
    """What interrupted writes left goes; users' files and links' targets stay; no directory is no error."""
    (tmp_path / f"{files.TEMPORARY_PREFIX}1-ab").write_text("half")
    (tmp_path / "kept").write_text("x")
    (tmp_path / f"{files.TEMPORARY_PREFIX}2-cd").symlink_to(tmp_path / "kept")
    files.sweep_temporaries(tmp_path)
    files.sweep_temporaries(tmp_path / "absent")
    assert os.listdir(tmp_path) == ["kept"]


def test_readers_see_the_old_or_the_new_content(tmp_path: Path) -> None:
    """A reader beside a writer never sees a part of a file, nor its absence."""
    target = tmp_path / "state"
    contents = [b"a" * 50_000, b"b" * 70_000]
    files.write_atomic(target, contents[0])
    done = threading.Event()

    def write() -> None:
        for number in range(60):
            files.write_atomic(target, contents[number % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = {target.read_bytes()}
    while not done.is_set():
        seen.add(target.read_bytes())
    writer.join()
    assert seen <= set(contents)


@pytest.mark.parametrize("kind", ["fifo", "device", "directory", "socket", "loop", "exabyte"])
def test_f58_whatever_stands_at_a_path_reading_it_ends_and_names_it(tmp_path: Path, kind: str) -> None:
    """F58: no reader of files blocks, or reads what has no end."""
    path = tmp_path / "state"
    make: Mapping[str, Callable[[], object]] = {
        "fifo": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "directory": path.mkdir,
        "socket": lambda: socket.socket(socket.AF_UNIX).bind(str(path)) if len(str(path)) < 100 else os.mkfifo(path),
        "loop": lambda: path.symlink_to("state"),
        "exabyte": lambda: (path.touch(), os.truncate(path, 2**42)),
    }
    make[kind]()
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        for read in (lambda: files.open_regular(path), lambda: files.read_at(directory, "state", tmp_path)):
            with time_limit(10), pytest.raises((CorruptState, OSError)) as error:
                read()
            assert str(path) in str(error.value)
    finally:
        os.close(directory)


def test_f58_a_small_sparse_file_and_a_large_full_one_are_read(tmp_path: Path) -> None:
    """Only what is both huge and empty is nothing that anybody wrote."""
    path = tmp_path / "x"
    path.touch()
    os.truncate(path, 10_000_000)
    assert not files.is_hollow(path.stat())
    assert len(files.read_limited(path)) == 10_000_000
    full = os.stat_result([0, 0, 0, 0, 0, 0, 2**40, 0, 0, 0], {"st_blocks": 2**40 // 512})
    assert not files.is_hollow(full)


def test_f58_what_is_longer_than_one_read_is_whole(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    for size in (0, 1, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 3_000_000):
        (tmp_path / "x").write_bytes(os.urandom(size))
        assert files.read_at(directory, "x", tmp_path) == (tmp_path / "x").read_bytes()
    os.close(directory)


@pytest.mark.parametrize("way", ["syncfs", "each"])
def test_f67_a_tree_is_synced_with_one_call_or_file_by_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """F67: where there is no syncfs every file and every directory is synced by itself, links are left alone."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/x", "a/b/y", "z"):
        (tmp_path / name).write_text("x")
    (tmp_path / "a" / "link").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "fifo")
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    if way == "each":
        monkeypatch.setattr(files, "_syncfs", lambda descriptor: False)
    with time_limit(30):
        files.sync_tree(tmp_path)
    everything = [tmp_path, tmp_path / "a", tmp_path / "a/b", *(tmp_path / name for name in ("a/x", "a/b/y", "z"))]
    assert sorted(synced) == ([] if way == "syncfs" else sorted(map(str, everything)))


def test_f67_a_disk_that_can_not_take_it_is_an_error_with_the_path(tmp_path: Path) -> None:
    """F67: errors of syncfs aren't lost."""
    with pytest.raises(OSError, match="Bad file") as error:
        files._syncfs(10_000)
    assert error.value.errno == errno.EBADF


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENAMETOOLONG])
@pytest.mark.parametrize("ask", [is_there, is_directory])
def test_f75_who_cannot_look_does_not_say_that_nothing_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Path], bool], number: int
) -> None:
    """F75: os.path.lexists would, and Path.exists does from Python 3.14 on."""

    def refuse(path: object, **options: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "lstat", refuse)
    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(OSError, match=os.strerror(number)):
        ask(tmp_path)


def test_f75_what_is_there(tmp_path: Path) -> None:
    """F75: links count by themselves as names, and by what they lead to as directories."""
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to(".")
    found = {
        name: (is_there(tmp_path / name), is_directory(tmp_path / name))
        for name in ("file", "loop", "link", ".", "nothing", "file/x")
    }
    assert found == {
        "file": (True, False),
        "loop": (True, False),
        "link": (True, True),
        ".": (True, True),
        "nothing": (False, False),
        "file/x": (False, False),
    }


KILLED = """
import os, signal, sys
from pathlib import Path
from esis.files import output
with output(Path(sys.argv[1])) as descriptor:
    os.write(descriptor, b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_command_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """Only where its name proves that nobody writes it any more: not that of a living process, or of another host."""
    path = tmp_path / "a.zip"
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode == -9
    (left,) = tmp_path.iterdir()
    owner = Owner.parse(left.name[len(files.TEMPORARY_PREFIX) :])
    assert owner is not None
    others = [
        f"{files.TEMPORARY_PREFIX}{name}"
        for name in (
            replace(owner, host="elsewhere").text(),
            replace(owner, boot="another").text(),
            Owner.current().text(),
            "4194305-0123abcd",
        )
    ]
    for name in others:
        (tmp_path / name).write_text("somebody's")
    with files.output(path) as descriptor:
        assert not left.exists()
        os.write(descriptor, b"whole")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([*others, "a.zip"])
    assert path.read_bytes() == b"whole"


def test_an_error_of_an_output_names_a_file(tmp_path: Path) -> None:
    """That of the output unless it is told that it was another one."""
    for given, named in ((None, str(tmp_path / "a")), ("b", "b")):
        with pytest.raises(OSError, match="No space") as caught, files.output(tmp_path / "a"):
            raise OSError(errno.ENOSPC, "No space left on device", given)
        assert caught.value.filename == named
    assert list(tmp_path.iterdir()) == []
