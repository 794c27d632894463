"""The hash of a workflow is a public contract: it equals an independent reading of the design, and can't drift."""

from __future__ import annotations

import faulthandler
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Union

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from esis.errors import BadInput, EsisError
from esis.model.fingerprint import hash_source, text_digest
from esis.model.requirements import resolve
from tests.users import nobody

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy

# A tree: name -> (content, executable) of a file, a link's target, or a tree below.
Tree = dict[bytes, Union[tuple[bytes, bool], bytes, "Tree"]]


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End the process where the block hangs: a FIFO that nobody writes to blocks for ever."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def write(root: bytes, tree: Tree) -> None:
    os.mkdir(root)
    for name, item in tree.items():
        path = root + b"/" + name
        if isinstance(item, dict):
            write(path, item)
        elif isinstance(item, bytes):
            os.symlink(item, path)
        else:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755 if item[1] else 0o644)
            os.write(descriptor, item[0])
            os.close(descriptor)


def digest_of(tree: Tree) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        write(os.fsencode(scratch) + b"/tree", tree)
        return hash_source(Path(scratch, "tree"))


# The design's section 3 once more, with hashlib and os alone.


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def listing_digest(root: bytes) -> str:
    lines: list[tuple[bytes, str]] = []
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, root)
            if os.path.islink(path):
                kind, content = "link", os.fsdecode(os.readlink(path))
            elif os.path.isdir(path):
                kind, content = "directory", ""
            else:
                kind = "executable" if os.stat(path).st_mode & 0o100 else "file"
                with open(path, "rb") as stream:
                    content = sha(stream.read())
            lines.append((relative, json.dumps([kind, os.fsdecode(relative), content])))
    return sha("".join(line + "\n" for _, line in sorted(lines)).encode("ascii"))


def source_digest(path: str) -> str:
    if os.path.isdir(path):
        return listing_digest(os.fsencode(path))
    with open(path, "rb") as stream:
        return sha(stream.read())


def transcription(workflow_file: str) -> tuple[str, str]:
    """Return the hashed text and the hash."""
    with open(workflow_file, "rb") as stream:
        raw = json.load(stream)
    here = os.path.dirname(workflow_file)
    lines = [
        f"{tag}:{source_digest(os.path.join(here, raw[tag]))}"
        for tag in ("setupscript", "sbatchtemplate", "workerscript", "param_generator")
    ]
    lines += [f"{stored}:{source_digest(os.path.join(here, stored))}" for stored in sorted(raw["param_includes"])]
    for stored in sorted(raw["requires"]):
        frozen = raw.get("freeze_requirements", {}).get(stored)
        lines.append(f"{stored}:{frozen or transcription(os.path.join(here, stored))[1]}")
    text = "\n".join(lines)
    return text, sha(text.encode("utf-8"))


def make_workflow(
    directory: Path,
    includes: tuple[str, ...] = (),
    requires: tuple[str, ...] = (),
    frozen: dict[str, str] | None = None,
) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("setup.sh", "template.sh", "worker.py", "generator.py"):
        (directory / name).write_bytes(f"{directory.name} {name}\n".encode() + bytes(range(256)))
    path = directory / "wf.esis.json"
    path.write_text(
        json.dumps(
            {
                "setupscript": "setup.sh",
                "sbatchtemplate": "./template.sh",
                "workerscript": "worker.py",
                "param_generator": "generator.py",
                "param_includes": list(includes),
                "requires": list(requires),
                "requires_names": {stored: f"name of {stored}" for stored in requires},
                "freeze_requirements": frozen or {},
            }
        ),
        "utf-8",
    )
    return path


def fixture_workflow(root: Path) -> Path:
    """Make a workflow with everything that the hash knows, in directories with hostile names."""
    tree: Tree = {
        b"plain": (b"1\n", False),
        b"tool": (b"#!/bin/sh\n", True),
        b"empty": {},
        b"nested": {b"deep": {b"x": (b"", True)}},
        b"link": b"nested/deep/x",
        b"absolute": b"/somewhere/else",
        b"dir link": b"nested",
        b"new\nline": (b"", False),
        b'quo"te': (b"q", False),
        b"no utf-8 \xff": (b"u", False),
        b"-dash": (b"d", False),
        b"nested.txt": (b"sorts before nested/deep by characters, behind nested", False),
        "né".encode(): (b"", False),
    }
    write(os.fsencode(root / "common data"), tree)
    (root / "z.txt").write_bytes(b"a file\r\n")
    make_workflow(root / "far", ("../z.txt",))
    near = make_workflow(root / "near", (), ("../far/wf.esis.json",))
    make_workflow(root / "pinned")
    assert near.exists()
    return make_workflow(
        root / "it's mine",
        ("../z.txt", "../common data", "ünicode.txt", "./setup.sh"),
        ("../near/wf.esis.json", "../far/wf.esis.json", "../pinned/wf.esis.json"),
        {"../pinned/wf.esis.json": "ab" * 32},
    )


def test_the_hash_is_that_of_the_design(tmp_path: Path) -> None:
    """Hashed text and hash equal a direct reading of the design: includes, directories, requirements, pins."""
    path = fixture_workflow(tmp_path)
    (path.parent / "ünicode.txt").write_text("u")
    node = resolve(path)
    text, digest = transcription(str(path))
    assert node.status_text == text
    assert node.digest == digest
    assert node.run.path == path.parent / f"wrkdir.{digest}"
    assert "\n../pinned/wf.esis.json:" + "ab" * 32 in text
    assert len(text.splitlines()) == 4 + 4 + 3


def test_the_hash_never_drifts(tmp_path: Path) -> None:
    """For fixed files the digest is the one that it always was; finished runs depend on it."""
    make_workflow(tmp_path / "needed")
    write(
        os.fsencode(tmp_path / "data"),
        {b"a": (b"1", False), b"b": (b"2", True), b"c": {b"d": b"../a", b"e": {}}, b'\xff\n"': (b"", False)},
    )
    path = make_workflow(tmp_path / "wf", ("../data", "setup.sh"), ("../needed/wf.esis.json",))
    golden = "f7ee5e5fff02223d425c0f8f175961c0c9975033e29e53bd694711d96a6cb8bb"
    assert resolve(path).digest == golden
    assert transcription(str(path))[1] == golden


def test_what_is_not_part_of_the_hash(tmp_path: Path) -> None:
    """Name and place of the workflow file, its layout, maxparallel and times don't count."""
    path = make_workflow(tmp_path / "wf", ("setup.sh",))
    before = resolve(path).digest
    raw = json.loads(path.read_text())
    moved = tmp_path / "wf" / "other name.json"
    moved.write_text(json.dumps({**raw, "maxparallel": "77", "workdirpath": "../scratch", "status": "x"}, indent=9))
    os.utime(tmp_path / "wf" / "setup.sh", (1, 1))
    assert resolve(moved).digest == before
    (tmp_path / "wf" / "setup.sh").write_text("other")
    assert resolve(path).digest != before


def test_the_order_of_includes_in_the_file_does_not_count(tmp_path: Path) -> None:
    """Includes are sorted by their stored path."""
    first = make_workflow(tmp_path / "wf", ("setup.sh", "./worker.py", "generator.py"))
    before = resolve(first).digest
    assert resolve(make_workflow(tmp_path / "wf", ("generator.py", "setup.sh", "./worker.py"))).digest == before
    assert resolve(make_workflow(tmp_path / "wf", ("generator.py", "setup.sh", "worker.py"))).digest != before


@RELAXED
@given(st.text())
def test_texts_are_hashed_as_utf8(text: str) -> None:
    """The digest of a text is that of its UTF-8 bytes."""
    assert text_digest(text) == sha(text.encode("utf-8"))


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024 - 1, 1024 * 1024, 1024 * 1024 + 1, 3 * 1024 * 1024])
def test_files_are_hashed_whole(tmp_path: Path, size: int) -> None:
    """Reading in chunks gives the digest of the whole."""
    data = os.urandom(size)
    (tmp_path / "f").write_bytes(data)
    assert hash_source(tmp_path / "f") == sha(data)


nasty = st.lists(
    st.sampled_from(
        [
            b"a",
            b"b",
            b"\n",
            b'"',
            b"'",
            b"\\",
            b",",
            b"[",
            b"]",
            b" ",
            b"\xff",
            b"\xc3\xa9",
            b"e\xcc\x81",
            b"\\n",
            b'", "',
            b"file",
            b"\x01",
            b".",
        ]
    ),
    min_size=1,
    max_size=4,
)
names = nasty.map(b"".join).filter(lambda name: name not in (b".", b".."))
targets = names.filter(lambda name: not name.startswith(b"./") and b".." not in name)
leaves = st.tuples(st.sampled_from([b"", b"1", b"2\n"]), st.booleans()) | targets
trees: st.SearchStrategy[Tree] = st.recursive(
    st.dictionaries(names, leaves, max_size=3),
    lambda inner: st.dictionaries(names, leaves | inner, max_size=3),
    max_leaves=6,
)


@settings(RELAXED, max_examples=40)
@given(trees, trees)
@example({b"a": (b"", False), b"b": (b"", False)}, {b"a\nb": (b"", False)})
@example({b"a": {b"b": (b"", False)}}, {b"a": {}, b"b": (b"", False)})
@example({b"a": {}}, {b"a": (b"", False)})
@example({b"a": {}}, {})
@example({b"a": (b"", False)}, {b"a": (b"", True)})
@example({b"a": b"b"}, {b"a": (b"b", False)})
@example({b"\xff": (b"", False)}, {b"\xfe": (b"", False)})
@example({b"\xc3\xa9": (b"", False)}, {b"e\xcc\x81": (b"", False)})
@example({b"\\n": (b"", False)}, {b"\n": (b"", False)})
@example({b"l": b"\xff"}, {b"l": b"\\udcff"})
def test_two_different_trees_never_give_one_digest(one: Tree, other: Tree) -> None:
    """No name, quote, newline or byte that is no UTF-8 can imitate another listing; the same tree gives the same."""
    assume(one != other)
    first = digest_of(one)
    assert first != digest_of(other)
    assert first == digest_of(one)


@settings(RELAXED, max_examples=30)
@given(trees)
def test_a_listing_is_that_of_the_transcription(tree: Tree) -> None:
    """The digest of any directory equals an independent reading of the design."""
    with tempfile.TemporaryDirectory() as scratch:
        root = os.fsencode(scratch) + b"/tree"
        write(root, tree)
        assert hash_source(Path(scratch, "tree")) == listing_digest(root)


@pytest.mark.parametrize(("one", "other"), [(b"x", b"./x"), (b"x", b"x/"), (b"a/b", b"a//b")])
def test_links_are_told_apart_by_the_bytes_of_their_targets(one: bytes, other: bytes) -> None:
    """A link's target counts as it is stored: `x/` fails on a file where `x` does not."""
    assert digest_of({b"l": one}) != digest_of({b"l": other})


def test_an_include_that_is_a_link_is_read(tmp_path: Path) -> None:
    """What a script or include itself is a link to is what counts, a file or a directory."""
    (tmp_path / "f").write_text("x")
    (tmp_path / "lf").symlink_to("f")
    write(os.fsencode(tmp_path / "d"), {b"a": (b"", False)})
    (tmp_path / "ld").symlink_to("d")
    assert hash_source(tmp_path / "lf") == sha(b"x")
    assert hash_source(tmp_path / "ld") == hash_source(tmp_path / "d")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("fifo", "is a FIFO"),
        ("device", "is a character device"),
        ("socket", "can't read"),
        ("dangling", "No such file"),
        ("absent", "No such file"),
        ("loop", "symbolic link"),
        ("link to a fifo", "is a FIFO"),
    ],
)
def test_f38_what_is_no_file_is_refused_without_blocking(tmp_path: Path, kind: str, expected: str) -> None:
    """F38: a FIFO, device, socket, link to nowhere or in a circle is refused at once, and named."""
    import socket

    path = Path("/dev/null") if kind == "device" else tmp_path / "x"
    with socket.socket(socket.AF_UNIX) as server:
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "link to a fifo":
            os.mkfifo(tmp_path / "f")
            path.symlink_to("f")
        elif kind == "socket":
            here = os.getcwd()
            os.chdir(tmp_path)  # a socket's path may have 107 bytes
            server.bind("x")
            os.chdir(here)
        elif kind == "dangling":
            path.symlink_to("nowhere")
        elif kind == "loop":
            path.symlink_to("x")
        with time_limit(10), pytest.raises(BadInput, match=expected) as caught:
            hash_source(path)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_f38_what_cannot_be_copied_in_a_directory_is_refused(tmp_path: Path, kind: str) -> None:
    """F38: a FIFO or socket inside of an included directory is refused without being opened, and named."""
    import socket

    (tmp_path / "d" / "sub").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as server:
        if kind == "fifo":
            os.mkfifo(tmp_path / "d" / "sub" / "odd")
        else:
            here = os.getcwd()
            os.chdir(tmp_path / "d" / "sub")
            server.bind("odd")
            os.chdir(here)
        with time_limit(10), pytest.raises(BadInput, match=f"sub/odd is a {kind}|sub/odd is a {kind.upper()}"):
            hash_source(tmp_path / "d")


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_f38_what_is_unreadable_is_refused(kind: str, inside: bool) -> None:
    """F38: a file or directory that the user may not read is named, also inside of an included directory."""
    with tempfile.TemporaryDirectory() as scratch:  # pytest's own directories are closed to other users
        root = Path(scratch)
        root.chmod(0o755)
        path = root / "x"
        if kind == "file":
            path.write_text("secret")
        else:
            path.mkdir()
        path.chmod(0)
        with nobody(), pytest.raises(BadInput, match=rf"can't read (the directory )?{root}/x: Permission denied"):
            hash_source(root if inside else path)
        path.chmod(0o700)


@pytest.mark.parametrize("target", ["..", "../x", "../d/inside", "sub/../../x", "nowhere/../../../x"])
def test_f38_a_relative_link_that_leaves_the_include_is_refused(tmp_path: Path, target: str) -> None:
    """F38: the copy of the directory would hold a link to nowhere; the message says what to do instead."""
    write(os.fsencode(tmp_path / "d"), {b"inside": (b"", False), b"sub": {}, b"l": os.fsencode(target)})
    with pytest.raises(BadInput, match="outside of the included directory") as caught:
        hash_source(tmp_path / "d")
    assert "d/l is a link to" in caught.value.message
    assert caught.value.advice is not None


@pytest.mark.parametrize("target", ["../inside", "..", ".", "/etc/passwd", "nowhere", "../sub/../inside"])
def test_other_links_are_kept(tmp_path: Path, target: str) -> None:
    """Links within the include, to absolute places and to nothing are included as what they are."""
    write(os.fsencode(tmp_path / "d"), {b"inside": (b"", False), b"sub": {b"l": os.fsencode(target)}})
    assert hash_source(tmp_path / "d") == listing_digest(os.fsencode(tmp_path / "d"))


def test_a_link_is_never_entered(tmp_path: Path) -> None:
    """A link to a directory is a link: a circle of them ends, and what is elsewhere doesn't count."""
    write(os.fsencode(tmp_path / "d"), {b"self": b".", b"out": os.fsencode(tmp_path / "o")})
    (tmp_path / "o").mkdir()
    before = hash_source(tmp_path / "d")
    (tmp_path / "o" / "new").write_text("")
    assert hash_source(tmp_path / "d") == before


def test_f39_a_name_that_is_too_long_is_bad_input(tmp_path: Path) -> None:
    """F39: a name that no file can have is refused as input, as one that is absent."""
    with pytest.raises(EsisError):
        hash_source(tmp_path / ("x" * 300))
