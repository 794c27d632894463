"""Write files so that a reader sees the old content or the new one, also after a crash; read what may be damaged.

Order of every write (shown by strace in the tests): temporary file, fsync, rename, fsync of the directory.

Whatever stands at the path of a file (a FIFO, a device, an exabyte of nothing), reading it ends and takes bounded
memory. `esis.typed` reads ESIS's own JSON.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from functools import cache

from esis.errors import CorruptState

TYPE_CHECKING = False  # typing itself is never imported: workers pay for each module
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from json import JSONDecoder
    from pathlib import Path
    from typing import Any, BinaryIO

TEMPORARY_PREFIX = ".esis-tmp-"
PROBE_PREFIX = f"{TEMPORARY_PREFIX}probe-"
STATE_FILE_LIMIT = 64 * 1024 * 1024  # bytes; no state file of ESIS comes near it
# Bytes of a line of folded results: those of the largest file with the task around them, and the blanks that 0.1.0 put
# between values.
LINE_LIMIT = 2 * STATE_FILE_LIMIT
CHUNK = 1024 * 1024  # bytes read or written at a time
_NOT_FOR_THIS = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)  # what isn't made for it says so
_BUFFER = 128 * 1024  # bytes; more makes reading line by line no faster
_SMALL = 16 * 1024  # bytes; most parameter sets and results are smaller
_HOLLOW = 64 * 1024**3  # bytes; a larger file that takes hardly any room on the disk is nothing that anybody wrote


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`; the kernel may take only a part at a time. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_lines(descriptor: int, lines: Iterable[bytes]) -> None:
    """Write lines, many at a time where they are short. Raises OSError."""
    batch: list[bytes] = []
    size = 0
    for line in lines:
        batch += (line, b"\n")
        size += len(line) + 1
        if size >= CHUNK:
            write_all(descriptor, b"".join(batch))
            batch.clear()
            size = 0
    write_all(descriptor, b"".join(batch))


@contextmanager
def naming(path: Path, others: bool = False) -> Iterator[None]:
    """Let every OSError in the block name `path`: those of write(2) and fsync(2) name nothing by themselves.

    `others`: what names another file goes on doing so.
    """
    try:
        yield
    except OSError as error:
        error.filename = (error.filename if others else None) or str(path)
        raise


def is_there(path: Path) -> bool:
    """Return whether anything has that name. Raises OSError where nobody can tell.

    os.path.lexists says no for every error, Path.exists does from Python 3.14 on: a server that is away would make a
    run one that was never there.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def is_directory(path: Path) -> bool:
    """Return whether a directory is there, perhaps behind links. Raises OSError where nobody can tell."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def refresh(directory: Path) -> None:
    """Let the next listing of a directory come from the server, as far as its owner asks.

    A client of NFS may show one that is a minute old (acdirmax), but not to who has just changed the directory.
    """
    name = directory / f"{PROBE_PREFIX}{os.getpid()}-{os.urandom(4).hex()}"
    try:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        name.unlink()
    except OSError:
        return  # somebody else's, or a full disk


def fsync_directory(path: Path) -> bool:
    """Make renames and new names inside `path` durable; False where the file system syncs no directories.

    Some of FUSE don't: when a name lasts is up to them there, and nobody could do more. A file that can't be synced is
    an error everywhere.
    """
    with naming(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _NOT_FOR_THIS:
                raise
            return False
        finally:
            os.close(descriptor)
    return True


@contextmanager
def replacing(
    path: Path, executable: bool = False, check: Callable[[], None] | None = None, name: str | None = None
) -> Iterator[int]:
    """Give the descriptor of a new file that replaces `path`, durably, at the end of the block.

    The umask is honoured; a symbolic link at `path` is replaced, never followed. If the block fails, or `check`, which
    is called at the last moment, nothing is left behind. Until then its name ends with `name`. Raises OSError.
    """
    temporary = path.parent / (TEMPORARY_PREFIX + (name or f"{os.getpid()}-{os.urandom(4).hex()}"))
    with naming(path):
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o777 if executable else 0o666
        )
    try:
        try:
            yield descriptor
            with naming(path):
                os.fsync(descriptor)
        finally:
            with naming(path):
                os.close(descriptor)
        if check is not None:
            check()
        try:
            with naming(path):
                temporary.rename(path)
        except FileNotFoundError:
            if check is not None:
                check()  # whoever took over has swept it
            raise
    except BaseException:
        _unlink_quietly(temporary)
        raise
    fsync_directory(path.parent)


def write_atomic(
    path: Path, content: str | bytes, executable: bool = False, check: Callable[[], None] | None = None
) -> None:
    """Replace `path` by a file with `content`, durably; the umask is honoured.

    A symbolic link at `path` is replaced, never followed. Raises OSError; nothing is left behind then.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    with naming(path), replacing(path, executable, check) as descriptor:
        write_all(descriptor, data)


def write_json(path: Path, value: Any, check: Callable[[], None] | None = None) -> None:
    """Write `value` as indented JSON with a stable key order, atomically.

    Bytes of names and arguments that are no UTF-8 (surrogates) become JSON's own escapes and come back as they were.
    """
    import json  # draws in re: whoever only asks whether something is there doesn't need it

    content = (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
    write_atomic(path, content, check=check)


def read_limited(path: Path, limit: int = STATE_FILE_LIMIT) -> bytes:
    """Return the content of a regular file. Raises OSError, and CorruptState beyond `limit` bytes.

    Opened without blocking, so that a FIFO planted at `path` can't hang the command.
    """
    with open_regular(path, whole=False) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise CorruptState(f"{path} is larger than {limit} bytes")
    return data


def open_regular(path: Path, whole: bool = True) -> BinaryIO:
    """Open a regular file for reading, without blocking on a FIFO. Raises OSError, CorruptState for anything else.

    `whole`: it is to be read to its end, so that it mustn't be hollow.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        check_regular(descriptor, str(path), whole)
        return os.fdopen(descriptor, "rb", _BUFFER)
    except BaseException:
        os.close(descriptor)
        raise


def check_regular(descriptor: int, name: str, whole: bool = True) -> int:
    """Return the size of an open file. Raises CorruptState unless it is regular, and readable to its end if `whole`."""
    import stat

    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise CorruptState(f"{name} is not a regular file")
    if whole and is_hollow(found):
        raise CorruptState(f"{name} is a sparse file of {found.st_size} bytes, which nobody can read to its end")
    return found.st_size


def is_hollow(found: os.stat_result) -> bool:
    """Return whether a file is huge and takes hardly any room: truncate(1) makes an exabyte in no time."""
    return found.st_size > _HOLLOW and found.st_blocks * 512 < found.st_size // 1000


def read_at(directory: int, name: str, place: Path) -> bytes:
    """Return the content of a small file in the open directory `place`; as few system calls as can be, for many.

    Opened without blocking. Raises OSError, CorruptState for what is no regular file or beyond STATE_FILE_LIMIT; both
    name the path.
    """
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=directory)
        try:
            size = check_regular(descriptor, name)
            data = os.read(descriptor, _SMALL)
            return data if len(data) == size else data + _rest(descriptor, name)
        finally:
            os.close(descriptor)
    except OSError as error:
        error.filename = str(place / name)
        raise
    except CorruptState as error:
        raise CorruptState(f"{place}/{error.message}") from None


def _rest(descriptor: int, name: str) -> bytes:
    parts: list[bytes] = []
    size = _SMALL
    while more := os.read(descriptor, CHUNK):
        parts.append(more)
        size += len(more)
        if size > STATE_FILE_LIMIT:
            raise CorruptState(f"{name} is larger than {STATE_FILE_LIMIT} bytes")
    return b"".join(parts)


def parse_json(data: bytes | str) -> Any:
    """Return what json.loads does, for UTF-8 in two thirds of its time. Raises ValueError, RecursionError."""
    try:
        text = (data if isinstance(data, str) else data.decode("utf-8")).strip(" \t\n\r")
        value, end = _decoder().raw_decode(text)
        if end == len(text):
            return value
    except ValueError:  # another encoding, a byte order mark; or an error, which json.loads describes
        pass
    import json

    return json.loads(data)


@cache
def _decoder() -> JSONDecoder:
    """Return the decoder: to make it takes longer than to read a small text."""
    from json import JSONDecoder

    return JSONDecoder()


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file that workers may have written, whatever numbers Python puts into it.

    Raises FileNotFoundError where there is none, CorruptState where it can't be read as one.
    """
    import json

    try:
        value = json.loads(read_limited(path))
    except (ValueError, RecursionError) as error:
        raise CorruptState(f"{path} is corrupt: {error}") from error
    if not isinstance(value, dict):
        raise CorruptState(f"{path} is corrupt: expected a JSON object")
    return value


def sync_tree(root: Path) -> None:
    """Make durable what other programs wrote below `root`: contents and names. Raises OSError.

    syncfs(2) is one call, whatever the number of files: a hundred thousand of them took it 1.1 s where fsync(2) of each
    took 17 s. sync(2) would wait for every file system of the machine, also for a dead one. Where there is no syncfs
    each file is synced by itself.
    """
    with naming(root):
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            whole = _syncfs(descriptor)
        finally:
            os.close(descriptor)
    if not whole:
        _sync_each(root)


def _syncfs(descriptor: int) -> bool:
    """Sync the file system of an open file; False where this system can't. Raises OSError."""
    import ctypes

    try:
        call = ctypes.CDLL(None, use_errno=True).syncfs
    except (AttributeError, OSError):
        return False
    if call(descriptor) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NOT_FOR_THIS:
        return False
    raise OSError(number, os.strerror(number))


def _sync_each(root: Path) -> None:
    """Sync every file and directory below `root`; links are names, and those are their directory's."""
    import stat

    pending = [root]
    while pending:
        place = pending.pop()
        for name in os.listdir(place):
            path = place / name
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                pending.append(path)
            elif stat.S_ISREG(mode):
                with naming(path):
                    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                    try:
                        os.fsync(descriptor)
                    finally:
                        os.close(descriptor)
        fsync_directory(place)


def names_in(directory: Path) -> list[str]:
    """Return what is in a directory, in no order; nothing where there is none. Raises OSError."""
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def sweep_temporaries(directory: Path) -> None:
    """Remove what interrupted writes left in `directory`; call it only while holding the run's lock."""
    for name in [name for name in names_in(directory) if name.startswith(TEMPORARY_PREFIX)]:
        _unlink_quietly(directory / name)


@contextmanager
def output(path: Path) -> Iterator[int]:
    """Do what `replacing` does, for a file that a user names, in a directory of theirs, where nobody holds a lock.

    What a killed command of this kind left there, perhaps of any size, is removed if that process surely is no more:
    its name tells. Each OSError names a file.
    """
    from esis.locks import Owner

    for name in _temporaries(path.parent):
        owner = Owner.parse(name[len(TEMPORARY_PREFIX) :])
        if owner is not None and owner.is_dead():
            _unlink_quietly(path.parent / name)
    with naming(path, others=True), replacing(path, name=Owner.current().text()) as descriptor:
        yield descriptor


def _temporaries(directory: Path) -> list[str]:
    try:
        return [name for name in os.listdir(directory) if name.startswith(TEMPORARY_PREFIX)]
    except OSError:
        return []


def _unlink_quietly(path: Path) -> None:
    try:
        path.unlink()
    except OSError:
        return
