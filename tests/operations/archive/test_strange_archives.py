"""`esis verify` on archives that somebody made to hurt: it ends, within bounds, and says what is wrong (F59)."""

from __future__ import annotations

import io
import os
import shutil
import signal
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esis.operations.archive import reader
from esis.operations.archive.reader import Found, bad_name, read_archive, read_directory

zstandard = pytest.importorskip("zstandard")
TOP = "wrkdir." + "a" * 64


@contextmanager
def deadline(seconds: int = 60) -> Iterator[None]:
    """Fail, instead of going on for ever; nothing here comes near it."""

    def late(*_: object) -> None:
        raise AssertionError("it doesn't end")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read(path: Path) -> Found:
    with deadline():
        return read_archive(path, lambda name: name.endswith(".json"))


def told(path: Path) -> str:
    """Return the problems of an archive, one a line."""
    return "\n".join(f"{problem.path}: {problem.what}" for problem in read(path).problems)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE, **fields: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def sparse(size: int, stored: int = 0) -> bytes:
    """Return the header of a file of GNU's sparse type."""
    raw = bytearray(header(f"{TOP}/s", stored, tarfile.GNUTYPE_SPARSE))
    raw[483:495] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)  # type: ignore[attr-defined]  # no stub has it
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    return bytes(raw)


def pax(fields: dict[str, str], size: int = 0) -> bytes:
    info = tarfile.TarInfo(f"{TOP}/s")
    info.size = size
    info.pax_headers = fields
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


END = b"\0" * 1024
TARS: dict[str, tuple[bytes, str]] = {
    "a sparse file of an exabyte": (sparse(2**60) + END, "sparse"),
    "a sparse file that is stored as an exabyte": (sparse(2**60, 2**60) + END, "sparse"),
    "sparse by pax 0.1": (pax({"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**60)}) + END, "sparse"),
    "sparse by pax 1.0": (
        pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**60)}) + END,
        "damaged",
    ),
    "sparse by pax 0.0": (pax({"GNU.sparse.size": str(2**60), "GNU.sparse.numblocks": "1"}) + END, ""),
    "a member of an exabyte": (header(f"{TOP}/x", 2**60) + END, "damaged"),
    "one of unknown type": (header(f"{TOP}/x", 2**60, b"Z") + END, "damaged"),
    "one with a bad name": (header("../x", 2**60) + END, "damaged"),
    "one elsewhere": (header(f"{TOP}/", 0, tarfile.DIRTYPE) + header("y/x", 2**60) + END, "damaged"),
    "a negative size": (header(f"{TOP}/x", -512) + END, "size of -512"),
    "a long name of an exabyte": (header(f"{TOP}/x", 2**60, tarfile.GNUTYPE_LONGNAME) + END, "header of"),
    "a pax header of an exabyte": (header(f"{TOP}/x", 2**60, tarfile.XHDTYPE) + END, "header of"),
    "a pax header that is none": (
        header(f"{TOP}/x", 9, tarfile.XHDTYPE) + b"99999999 x".ljust(512, b"\0") + END,
        "damaged",
    ),
    "a chain of long names": (b"".join(header("x", 0, tarfile.GNUTYPE_LONGNAME) for _ in range(3000)) + END, "damaged"),
    "nothing": (b"", "damaged"),
}


@pytest.mark.parametrize("what", TARS)
def test_f59_a_tar_that_has_no_end_is_not_read_on(tmp_path: Path, what: str) -> None:
    """F59: a few hundred bytes can ask for an exabyte, in many ways."""
    data, word = TARS[what]
    path = tmp_path / "a.tar.zst"
    path.write_bytes(zstandard.ZstdCompressor().compress(data))
    assert word in told(path)


@pytest.mark.parametrize("name", ["a\udcff", "a" * 255])
def test_f59_names_that_files_can_have_are_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.tar.zst"
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", encoding="utf-8", errors="surrogateescape") as tar:
        tar.addfile(tarfile.TarInfo(f"{TOP}/{name}"))
    path.write_bytes(zstandard.ZstdCompressor().compress(plain.getvalue()))
    found = read(path)
    assert (list(found.entries), found.problems) == ([name], [])


@pytest.mark.parametrize("name", ["a" * 256, "a/" + "ä" * 128, "/".join(["a" * 200] * 25), "\ud800"])
def test_f59_names_that_no_file_can_have(name: str) -> None:
    assert bad_name(name) is not None


def test_f59_a_bomb_of_zstd_is_not_unpacked_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F59: zstd packs repetitions 30,000 times; beyond a limit nothing is read on. Behind the end of the tar, too."""
    monkeypatch.setattr(reader, "FREE", 10_000_000)
    for begin in (header(f"{TOP}/x", 10**9), header(TOP, 0, tarfile.DIRTYPE) + END):
        compressor = zstandard.ZstdCompressor().compressobj()
        path = tmp_path / "a.tar.zst"
        with path.open("wb") as stream:
            stream.write(compressor.compress(begin))
            for _ in range(200):
                stream.write(compressor.compress(b"\0" * 1_000_000))
            stream.write(compressor.flush())
        assert path.stat().st_size < 100_000
        assert "unpacks to more than" in told(path)


@pytest.mark.parametrize("limit", ["MOST_ENTRIES", "MOST_PROBLEMS"])
def test_f59_many_members_and_many_problems_take_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(reader, limit, 10)
    names = [f"{TOP}/{number if limit == 'MOST_ENTRIES' else 'same'}" for number in range(50)]
    path = tmp_path / "a.tar.zst"
    path.write_bytes(zstandard.ZstdCompressor().compress(b"".join(header(name, 0) for name in names) + END))
    found = read(path)
    if limit == "MOST_ENTRIES":
        assert len(found.entries) == 10
        assert "more than 10 entries" in found.problems[-1].what
    else:
        assert (len(found.problems), found.untold) == (10, 39)


def test_f59_what_lies_below_a_file_or_a_link_would_be_written_elsewhere(tmp_path: Path) -> None:
    """F59: `link -> /etc`, then `link/passwd`."""
    members = (
        header(f"{TOP}/link", 0, tarfile.SYMTYPE, linkname="/etc")
        + header(f"{TOP}/link/passwd", 0)
        + header(f"{TOP}/file", 0)
        + header(f"{TOP}/file/below/x", 0)
        + END
    )
    path = tmp_path / "a.tar.zst"
    path.write_bytes(zstandard.ZstdCompressor().compress(members))
    assert told(path).splitlines() == [
        "link/passwd: lies below link, which is a link",
        "file/below/x: lies below file, which is a file",
    ]


# --- zip


def zipped(path: Path, *members: tuple[str, bytes]) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path.read_bytes()


def overlapping() -> bytes:
    """Return a zip whose directory names one member a thousand times."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", b"\0" * 1_000_000)
        info = archive.getinfo("x")
        for number in range(1000):
            twin = zipfile.ZipInfo(f"x{number}")
            twin.header_offset, twin.compress_size, twin.file_size = 0, info.compress_size, info.file_size
            twin.CRC, twin.compress_type = info.CRC, info.compress_type
            archive.filelist.append(twin)
    return stream.getvalue()


def changed(old: bytes, new: bytes) -> Callable[[Path], bytes]:
    def make(path: Path) -> bytes:
        data = zipped(path, ("name", b"{}"), ("other", b"x"))
        assert old in data
        return data.replace(old, new)

    return make


def directory_of(size: int) -> Callable[[Path], bytes]:
    return lambda path: zipped(path, ("x", b""))[:-22] + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, size, 0, 0)


def flagged(path: Path) -> bytes:
    """Return a zip with a name that says it is UTF-8, and isn't."""
    return zipped(path, ("na\u00efve", b"{}")).replace("na\u00efve".encode(), b"na\xff\xffve")


ZIPS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "a name that is no UTF-8": (flagged, "damaged"),
    "an empty name": (changed(b"name", b"\0ame"), "is no name"),
    "an absolute name": (lambda path: zipped(path, ("/etc/x", b"")), "absolute path"),
    "a name that leaves": (lambda path: zipped(path, ("a/../../x", b"")), "leaves the archive"),
    "a name that is too long": (lambda path: zipped(path, ("x" * 300, b"")), "longer than a name can be"),
    "members that overlap": (lambda path: overlapping(), "overlap"),
    "an unknown compression": (changed(b"\x14\0\0\0\0\0", b"\x14\0\0\0\x63\0"), "compressed in a way"),
    "encrypted": (changed(b"\x14\0\0\0\0\0", b"\x14\0\1\0\0\0"), "damaged"),
    "a directory of gigabytes": (directory_of(2**32 - 2), "damaged"),
    "the same name twice": (lambda path: zipped(path, ("a", b""), ("b", b"")).replace(b"b", b"a"), "is there twice"),
    "a file and what lies below it": (lambda path: zipped(path, ("a", b""), ("a/b", b"")), "lies below a"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("what", ZIPS)
def test_f59_a_strange_zip_is_a_problem_and_no_internal_error(tmp_path: Path, what: str) -> None:
    make, word = ZIPS[what]
    path = tmp_path / "a.zip"
    path.write_bytes(make(path))
    assert word in told(path)


def test_f59_a_zip_of_a_terabyte_of_nothing_is_not_read_into_memory(tmp_path: Path) -> None:
    """F59: the end of a sparse file tells of a directory of a terabyte."""
    path = tmp_path / "a.zip"
    size = 2**40
    with path.open("wb") as stream:
        stream.truncate(size)
        stream.seek(size)
        stream.write(struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2**40 // 46, 2**40 // 46, size, 0))
        stream.write(struct.pack("<4sLQL", b"PK\6\7", 0, size, 1))
        stream.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))
    from esis.errors import CorruptState

    with deadline(), pytest.raises(CorruptState, match="sparse file"):
        read_archive(path, lambda name: True)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
@pytest.mark.parametrize("ending", [".zip", ".tar.zst"])
def test_f59_no_damage_gives_anything_but_problems(
    tmp_path_factory: pytest.TempPathFactory, ending: str, data: st.DataObject
) -> None:
    """F59: bytes that are changed, taken out or put in, in the archive itself and below its compression."""
    path = tmp_path_factory.getbasetemp() / f"damaged{ending}"
    if ending == ".zip":
        raw = bytearray(zipped(path, ("a/", b""), ("a/x.json", b"{}"), ("n" * 20, b"y" * 50)))
    else:
        raw = bytearray(
            header(f"{TOP}/", 0, tarfile.DIRTYPE)
            + header(f"{TOP}/x.json", 2)
            + b"{}".ljust(512, b"\0")
            + pax({"mtime": "1.5", "path": f"{TOP}/n"})
            + header(f"{TOP}/l", 0, tarfile.SYMTYPE)
            + END
        )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    path.write_bytes(bytes(raw) if ending == ".zip" else zstandard.ZstdCompressor().compress(bytes(raw)))
    read(path)


# --- directories


def test_f59_in_a_directory_every_piece_that_can_not_be_read_is_named_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # and back in the end
    root = tmp_path / "run"
    (root / "deep").mkdir(parents=True)
    (root / "a.json").write_text("{}")
    (root / "z").write_text("z")
    os.mkfifo(root / "fifo")
    (root / "zero").symlink_to("/dev/zero")
    (root / "hollow").touch()
    os.truncate(root / "hollow", 2**43)
    inner = root / "deep"
    for _ in range(300):  # deeper than a path may be long
        os.chdir(inner)
        os.mkdir("d" * 20)
        inner = Path("d" * 20)
    os.chdir(tmp_path)
    with deadline():
        found = read_directory(root, lambda name: True)
    shutil.rmtree(root / "deep")
    problems = {problem.path.partition("/")[0]: problem.what for problem in found.problems}
    assert problems["fifo"] == "is a FIFO"
    assert "sparse" in problems["hollow"]
    assert "can't be read" in problems["deep"]
    assert found.entries["zero"].target == "/dev/zero"
    assert found.entries["z"].digest
    assert found.contents["a.json"] == b"{}"
