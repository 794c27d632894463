"""Write files so that a reader sees the old content or the new one, also after a crash.

Order of every write (shown by strace in the tests): temporary file, fsync, rename, fsync of the directory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from esis.errors import CorruptState

TEMPORARY_PREFIX = ".esis-tmp-"
STATE_FILE_LIMIT = 64 * 1024 * 1024  # bytes; no state file of ESIS comes near it
CHUNK = 1024 * 1024  # bytes read or written at a time
_BUFFER = 128 * 1024  # bytes; more makes reading line by line no faster
_DECODER = json.JSONDecoder()
_SMALL = 16 * 1024  # bytes; most parameter sets and results are smaller


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`; the kernel may take only a part at a time. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view):]


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let every OSError in the block name `path`: those of write(2) and fsync(2) name nothing by themselves."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def fsync_directory(path: Path) -> None:
    """Make renames and new names inside `path` durable."""
    with naming(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def replacing(path: Path, executable: bool = False) -> Iterator[int]:
    """Give the descriptor of a new file that replaces `path`, durably, at the end of the block.

    The umask is honoured; a symbolic link at `path` is replaced, never followed. If the block fails, nothing is left
    behind. Raises OSError.
    """
    temporary = path.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{os.urandom(4).hex()}"
    with naming(path):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
                             0o777 if executable else 0o666)
    try:
        try:
            yield descriptor
            with naming(path):
                os.fsync(descriptor)
        finally:
            with naming(path):
                os.close(descriptor)
        with naming(path):
            temporary.rename(path)
    except BaseException:
        _unlink_quietly(temporary)
        raise
    fsync_directory(path.parent)


def write_atomic(path: Path, content: str | bytes, executable: bool = False) -> None:
    """Replace `path` by a file with `content`, durably; the umask is honoured.

    A symbolic link at `path` is replaced, never followed. Raises OSError; nothing is left behind then.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    with naming(path), replacing(path, executable) as descriptor:
        write_all(descriptor, data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with a stable key order, atomically."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_limited(path: Path, limit: int = STATE_FILE_LIMIT) -> bytes:
    """Return the content of a regular file. Raises OSError, and CorruptState beyond `limit` bytes.

    Opened without blocking, so that a FIFO planted at `path` can't hang the command.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        import stat

        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CorruptState(f"{path} is not a regular file")
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise CorruptState(f"{path} is larger than {limit} bytes")
    return data


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, without blocking on a FIFO. Raises OSError, CorruptState for anything else."""
    import stat

    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    stream = os.fdopen(descriptor, "rb", _BUFFER)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        stream.close()
        raise CorruptState(f"{path} is not a regular file")
    return stream


def read_at(directory: int, name: str) -> bytes:
    """Return the content of a small file in an open directory; as few system calls as can be, for many of them.

    Opened without blocking, so that a FIFO has no content. Raises OSError, CorruptState beyond STATE_FILE_LIMIT.
    """
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        data = os.read(descriptor, _SMALL)
        while more := os.read(descriptor, CHUNK):
            data += more
            if len(data) > STATE_FILE_LIMIT:
                raise CorruptState(f"{name} is larger than {STATE_FILE_LIMIT} bytes")
    finally:
        os.close(descriptor)
    return data


def parse_json(data: bytes | str) -> Any:
    """Return what json.loads does, for UTF-8 in two thirds of its time. Raises ValueError, RecursionError."""
    try:
        text = (data if isinstance(data, str) else data.decode("utf-8")).strip(" \t\n\r")
        value, end = _DECODER.raw_decode(text)
    except ValueError:
        return json.loads(data)  # another encoding, a byte order mark; or an error, which it describes
    return value if end == len(text) else json.loads(data)


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in one of ESIS's own files.

    Raises FileNotFoundError where there is none, CorruptState where it can't be read as one.
    """
    try:
        value = json.loads(read_limited(path))
    except (ValueError, RecursionError) as error:
        raise CorruptState(f"{path} is corrupt: {error}") from error
    if not isinstance(value, dict):
        raise CorruptState(f"{path} is corrupt: expected a JSON object")
    return value


def sweep_temporaries(directory: Path) -> None:
    """Remove what interrupted writes left in `directory`; call it only while holding the run's lock."""
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(TEMPORARY_PREFIX)]
    except FileNotFoundError:
        return
    for name in names:
        _unlink_quietly(directory / name)


def _unlink_quietly(path: Path) -> None:
    try:
        path.unlink()
    except OSError:
        return
