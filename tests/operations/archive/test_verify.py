"""`esis verify` finds every kind of tampering, in archives, unpacked archives and runs, and never writes anything."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from esis.errors import BadInput, CorruptState
from esis.model import manifest
from esis.model.fingerprint import text_digest
from esis.model.workdir import RunDir
from esis.operations.archive.reader import bad_name
from tests.operations.archive.archives import HOSTILE, copied, esis, make_run, pack, problems, unpack

pytest.importorskip("rocrate")
zstandard = pytest.importorskip("zstandard")
pytestmark = pytest.mark.xdist_group("verify")
every_format = pytest.mark.parametrize("ending", [".zip", ".tar.zst"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return make_run(tmp_path_factory.mktemp("verify") / "w")


def change(path: Path) -> None:
    """Change one byte and keep size and times."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def forge(place: Path, *names: str) -> None:
    """Bring the manifest in line with what is there, as a careful forger does."""
    lines = manifest.parse((place / "manifest-sha256.txt").read_bytes())
    import hashlib

    for name in names:
        lines[name] = hashlib.sha256((place / name).read_bytes()).hexdigest()
    (place / "manifest-sha256.txt").write_bytes(b"".join(manifest.line(value, name) for name, value in lines.items()))


Tampering = tuple[Callable[[Path], object], set[tuple[str, str]]]
IN_BOTH: dict[str, Tampering] = {
    "script": (
        lambda run: change(run / "my worker.sh"),
        {("my worker.sh", "was changed: the hash is made of another workerscript")},
    ),
    "generator": (
        lambda run: change(run / "gen.py"),
        {("gen.py", "was changed: the hash is made of another param_generator")},
    ),
    "script gone": (lambda run: (run / "setup.sh").unlink(), {("setup.sh", "is missing")}),
    "include": (
        lambda run: change(run / "includes/one.txt"),
        {("includes/one.txt", "was changed: the hash is made of another lib/one.txt")},
    ),
    "file in an included directory": (
        lambda run: change(run / "includes/tables/a.txt"),
        {("includes/tables", "was changed: the hash is made of another lib/tables")},
    ),
    "file added to an included directory": (
        lambda run: (run / "includes/tables/more").write_text(""),
        {("includes/tables", "was changed: the hash is made of another lib/tables")},
    ),
    "executable bit in an included directory": (
        lambda run: (run / "includes/tables/below/tool.sh").chmod(0o644),
        {("includes/tables", "was changed: the hash is made of another lib/tables")},
    ),
    "link in an included directory": (
        lambda run: ((run / "includes/tables/latest").unlink(), (run / "includes/tables/latest").symlink_to("a.txt")),
        {("includes/tables", "was changed: the hash is made of another lib/tables")},
    ),
    "sbatch.sh": (
        lambda run: (run / "sbatch.sh").write_text("#!/bin/sh\n"),
        {("sbatch.sh", "was changed: it is not what __esis__/submissions/0001.json was submitted with")},
    ),
    "submission": (
        lambda run: (run / "__esis__/submissions/0001.json").write_text("{}"),
        {("__esis__/submissions/0001.json", "__esis__/submissions/0001.json is corrupt: key 'schema' is missing")},
    ),
    "no wf_status": (
        lambda run: (run / "__esis__/wf_status").unlink(),
        {("__esis__/wf_status", "is missing, so nothing says what the hash is made of")},
    ),
    "no definition": (
        lambda run: (run / "__esis__/workflow_definition.json").unlink(),
        {("__esis__/workflow_definition.json", "is missing, so the hash can't be computed again")},
    ),
    "script is a link": (
        lambda run: ((run / "gen.py").unlink(), (run / "gen.py").symlink_to("setup.sh")),
        {("gen.py", "is a link to setup.sh, and was a file or a directory")},
    ),
}


@pytest.mark.parametrize("name", IN_BOTH)
def test_tampering_with_the_snapshot_is_found_in_a_run(run: RunDir, tmp_path: Path, name: str) -> None:
    tamper, expected = IN_BOTH[name]
    copy = copied(run, tmp_path / "w")
    assert problems(copy) == []
    tamper(copy)
    assert set(problems(copy)) == expected


@pytest.mark.parametrize("name", IN_BOTH)
def test_tampering_with_the_snapshot_is_found_though_the_manifest_was_forged(
    run: RunDir, tmp_path: Path, name: str
) -> None:
    """The hash doesn't belong to the snapshot any more, whatever the checksums say; they say so, too, unforged."""
    tamper, expected = IN_BOTH[name]
    pack(run, tmp_path / "a.tar.zst")
    place = unpack(tmp_path / "a.tar.zst", tmp_path / "out")
    tamper(place)
    found = set(problems(place))
    assert found >= expected
    changed = [path for path, what in found if what == "was changed" and (place / path).is_file()]
    assert len(changed) == (
        1
        if name in ("script", "generator", "include", "file in an included directory", "sbatch.sh", "submission")
        else 0
    )
    forge(place, *changed)
    assert set(problems(place)) >= expected


def test_a_hash_that_was_changed_is_found(run: RunDir, tmp_path: Path) -> None:
    """The text no longer gives the name, or no longer the snapshot."""
    copy = copied(run, tmp_path / "w")
    text = (copy / "__esis__/wf_status").read_text()
    (copy / "__esis__/wf_status").write_text(text.replace("lib/one.txt:", "lib/two.txt:"))
    assert {what.partition(":")[0] for _, what in problems(copy)} == {
        "was changed",
        "says nothing about lib/one.txt",
        "speaks of 'lib/two.txt', which the workflow file does not name",
    }
    lines = text.split("\n")
    (copy / "__esis__/wf_status").write_text("\n".join(reversed(lines)))
    assert ("__esis__/wf_status", "was changed: its lines are in another order") in problems(copy)


def test_a_run_under_another_name_is_found(run: RunDir, tmp_path: Path) -> None:
    copy = copied(run, tmp_path / "w")
    other = copy.with_name("wrkdir." + "0" * 64)
    copy.rename(other)
    assert problems(other) == [
        ("__esis__/wf_status", "was changed: its SHA-256 is not the hash that the name of the directory tells")
    ]


def test_a_whole_run_that_was_made_to_fit_has_another_name(run: RunDir, tmp_path: Path) -> None:
    """Who changes a script and all that depends on it gets another hash: that is what it is for."""
    copy = copied(run, tmp_path / "w")
    change(copy / "gen.py")
    text = (copy / "__esis__/wf_status").read_text()
    import hashlib

    old = next(line for line in text.split("\n") if line.startswith("param_generator:"))
    new = "param_generator:" + hashlib.sha256((copy / "gen.py").read_bytes()).hexdigest()
    (copy / "__esis__/wf_status").write_text(text.replace(old, new))
    assert problems(copy) != []
    renamed = copy.with_name("wrkdir." + text_digest(text.replace(old, new)))
    copy.rename(renamed)
    assert problems(renamed) == []


def test_parameter_sets_that_came_or_went_are_found_in_a_run(run: RunDir, tmp_path: Path) -> None:
    copy = copied(run, tmp_path / "w")
    (copy / "parameters/parameters.1.json").rename(copy / "parameters/parameters.7.json")
    assert problems(copy) == [
        ("parameters/parameters.1.json", "is missing"),
        ("parameters/parameters.7.json", "was added: there is no such task"),
    ]


IN_ARCHIVES: dict[str, Tampering] = {
    "result": (lambda run: change(run / "results/results.1.json"), {("results/results.1.json", "was changed")}),
    "result with a hostile name": (
        lambda run: change(run / "results" / HOSTILE[2]),
        {(f"results/{HOSTILE[2]}", "was changed")},
    ),
    "result gone": (
        lambda run: (run / "results/results.2.m.npy").unlink(),
        {("results/results.2.m.npy", "is missing")},
    ),
    "result added": (
        lambda run: (run / "results/results.3.json").write_text("{}"),
        {("results/results.3.json", "was added")},
    ),
    "renamed": (
        lambda run: (run / "results/results.1.json").rename(run / "results/results.9.json"),
        {("results/results.1.json", "is missing"), ("results/results.9.json", "was added")},
    ),
    "record": (lambda run: change(next((run / "__esis__/tasks").glob("1.*"))), set()),
    "link added": (lambda run: (run / "results/l").symlink_to("results.1.json"), {("results/l", "was added")}),
    "link changed": (
        lambda run: ((run / "tools/link").unlink(), (run / "tools/link").symlink_to("/bin/sh")),
        {("tools/link", "was changed: it is a link to /bin/sh")},
    ),
    "link gone": (lambda run: (run / "tools/link").unlink(), {("tools/link", "is missing, or no link to made")}),
    "file became a directory": (
        lambda run: ((run / "built.txt").unlink(), (run / "built.txt").mkdir()),
        {("built.txt", "is a directory, and was a file")},
    ),
    "no manifest in it": (
        lambda run: (run / "manifest-sha256.txt").write_text("nonsense\n"),
        {("manifest-sha256.txt", "line 1 of the manifest is no checksum: b'nonsense'")},
    ),
    "another identifier": (
        lambda run: (run / "ro-crate-metadata.json").write_text(
            json.dumps({"@graph": [{"@id": "./", "identifier": "wrkdir." + "1" * 64}]})
        ),
        {("__esis__/wf_status", "was changed: its SHA-256 is not the hash that ro-crate-metadata.json tells")},
    ),
    "no crate": (
        lambda run: (run / "ro-crate-metadata.json").unlink(),
        {
            ("ro-crate-metadata.json", "is missing"),
            ("ro-crate-metadata.json", "is missing, or doesn't say which run this is"),
        },
    ),
}


@every_format
@pytest.mark.parametrize("name", IN_ARCHIVES)
def test_tampering_with_an_archive_is_found(run: RunDir, tmp_path: Path, name: str, ending: str) -> None:
    """Unpacked, changed, and packed again by somebody else's tool: both forms show it."""
    tamper, expected = IN_ARCHIVES[name]
    pack(run, tmp_path / f"a{ending}")
    place = unpack(tmp_path / f"a{ending}", tmp_path / "out")
    tamper(place)
    found = problems(place)
    assert set(found) >= expected
    assert found
    repack(place, tmp_path / f"b{ending}", run.path.name)
    again = problems(tmp_path / f"b{ending}")
    assert sorted(again) == sorted(found)


def repack(place: Path, target: Path, prefix: str) -> None:
    """Pack a directory with the standard library, not with ESIS."""
    paths = sorted(place.rglob("*"))
    if target.name.endswith(".zip"):
        with zipfile.ZipFile(target, "w") as archive:
            for path in paths:
                mode = path.lstat().st_mode
                name = str(path.relative_to(place))
                info = zipfile.ZipInfo(f"{name}/" if stat.S_ISDIR(mode) else name)
                info.external_attr = mode << 16
                link = stat.S_ISLNK(mode)
                archive.writestr(
                    info, b"" if stat.S_ISDIR(mode) else os.fsencode(os.readlink(path)) if link else path.read_bytes()
                )
        return
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        tar.add(place, prefix)
    target.write_bytes(zstandard.ZstdCompressor().compress(plain.getvalue()))


@every_format
@pytest.mark.parametrize("where", [0.1, 0.5, 0.9, 0.95])
def test_a_damaged_archive_is_told_in_one_line_each_never_by_a_traceback(
    run: RunDir, tmp_path: Path, ending: str, where: float
) -> None:
    """A flipped bit, a cut-off end, another format."""
    pack(run, tmp_path / f"a{ending}")
    data = (tmp_path / f"a{ending}").read_bytes()
    at = int(len(data) * where)
    if ending == ".zip":  # much of its headers is there twice, and only once looked at
        with zipfile.ZipFile(tmp_path / "a.zip") as archive:
            info = archive.getinfo("ro-crate-metadata.json")
            at = info.header_offset + 30 + len(info.filename) + int(info.compress_size * where)
    for bad in (data[:at], data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]):
        (tmp_path / f"b{ending}").write_bytes(bad)
        message = esis(tmp_path, "verify", f"b{ending}", code=1)
        assert "problem" in message
        assert "internal error" not in message


@every_format
def test_what_is_no_archive_at_all(tmp_path: Path, ending: str) -> None:
    for content in (b"", b"x" * 5000):
        (tmp_path / f"a{ending}").write_bytes(content)
        assert "internal error" not in esis(tmp_path, "verify", f"a{ending}", code=1)
    assert "there is no" in esis(tmp_path, "verify", f"b{ending}", code=2)


@every_format
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("../evil", "leaves the archive"),
        ("a/../../evil", "leaves the archive"),
        ("/etc/evil", "is an absolute path"),
        ("a//b", "is no plain path"),
        ("./a", "is no plain path"),
    ],
)
def test_names_that_leave_an_archive_are_problems_and_nothing_is_written(
    run: RunDir, tmp_path: Path, ending: str, name: str, what: str
) -> None:
    pack(run, tmp_path / f"a{ending}")
    if ending == ".zip":
        with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
            archive.writestr(name, "evil")
    else:
        raw = zstandard.ZstdDecompressor().stream_reader((tmp_path / "a.tar.zst").read_bytes()).read()
        plain = io.BytesIO(raw)
        with tarfile.open(fileobj=plain, mode="a") as tar:
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"evil"))
        (tmp_path / "a.tar.zst").write_bytes(zstandard.ZstdCompressor().compress(plain.getvalue()))
    assert (name, what) in problems(tmp_path / f"a{ending}")
    assert not list(tmp_path.parent.rglob("evil"))


@pytest.mark.parametrize("name", ["", "a\0b", "/", "..", "a/..", "a/./b"])
def test_names_that_are_none(name: str) -> None:
    assert bad_name(name) is not None


@pytest.mark.parametrize("name", ["a", "a/b/", "..a", "a..", "a/...", "-x", "a b", "é"])
def test_names_that_are_good(name: str) -> None:
    assert bad_name(name) is None


def test_a_second_file_of_a_name_a_device_and_a_hard_link_are_problems(run: RunDir, tmp_path: Path) -> None:
    """What one tool shows and another one unpacks."""
    pack(run, tmp_path / "a.tar.zst")
    raw = zstandard.ZstdDecompressor().stream_reader((tmp_path / "a.tar.zst").read_bytes()).read()
    plain = io.BytesIO(raw)
    with tarfile.open(fileobj=plain, mode="a") as tar:
        for name, kind in (("gen.py", tarfile.REGTYPE), ("dev", tarfile.CHRTYPE), ("hard", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(f"{run.path.name}/{name}")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        tar.addfile(tarfile.TarInfo("elsewhere/x"))
    (tmp_path / "a.tar.zst").write_bytes(zstandard.ZstdCompressor().compress(plain.getvalue()))
    assert set(problems(tmp_path / "a.tar.zst")) == {
        ("gen.py", "is there twice"),
        ("dev", "is a hard link or a device"),
        ("hard", "is a hard link or a device"),
        ("elsewhere/x", f"lies outside of {run.path.name}/"),
    }


def test_a_tar_under_the_name_of_another_run_is_found(run: RunDir, tmp_path: Path) -> None:
    pack(run, tmp_path / "a.tar.zst")
    place = unpack(tmp_path / "a.tar.zst", tmp_path / "out")
    other = "wrkdir." + "2" * 64
    repack(place, tmp_path / "b.tar.zst", other)
    assert problems(tmp_path / "b.tar.zst") == [(other, "is not the run that ro-crate-metadata.json describes")]
    place.rename(place.with_name(other))
    assert problems(place.with_name(other)) == [(other, "is not the run that ro-crate-metadata.json describes")]
    place.with_name(other).rename(place.with_name("any other name"))
    assert problems(place.with_name("any other name")) == []


def test_verify_changes_nothing(run: RunDir, tmp_path: Path) -> None:
    copy = copied(run, tmp_path / "w")

    def seen() -> list[tuple[str, int]]:
        return [(str(path), path.lstat().st_mtime_ns) for path in sorted(tmp_path.rglob("*"))]

    pack(RunDir(copy), tmp_path / "a.zip")
    before = seen()
    assert problems(copy) == problems(tmp_path / "a.zip") == []
    assert seen() == before


def test_f124_a_look_at_an_unpacked_archive_is_no_problem(run: RunDir, tmp_path: Path) -> None:
    """`esis status` notes there that it found the run complete; another word in that place is told."""
    pack(RunDir(copied(run, tmp_path / "w")), tmp_path / "a.tar.zst")
    place = unpack(tmp_path / "a.tar.zst", tmp_path / "out")
    esis(place, "status")
    mark = RunDir(place).complete_mark
    assert mark.read_text().startswith("esis ")
    assert problems(place) == []
    mark.write_text("by hand\n")
    assert problems(place) == [("__esis__/complete", "was added")]


def test_f215_what_python_leaves_in_an_included_directory_is_no_change(run: RunDir, tmp_path: Path) -> None:
    """The generator imports from there, and tasks do; nothing else may come, and no module may change."""
    copy = RunDir(copied(run, tmp_path / "w"))
    for directory in ("tables", "tables/below"):
        (copy.includes / directory / "__pycache__").mkdir()
        (copy.includes / directory / "__pycache__" / "m.cpython-311.pyc").write_bytes(b"made")
    pack(copy, tmp_path / "a.zip")
    assert (problems(copy.path), problems(tmp_path / "a.zip")) == ([], [])
    changed = [("includes/tables", "was changed: the hash is made of another lib/tables")]
    change(copy.includes / "tables/a.txt")
    assert problems(copy.path) == changed
    change(copy.includes / "tables/a.txt")
    (copy.includes / "tables/m.py").touch()
    assert problems(copy.path) == changed


def test_the_command_prints_a_line_for_each_problem_and_json(run: RunDir, tmp_path: Path) -> None:
    """Exit code 0 or 1; a run is found from inside of it, an archive by its name."""
    copy = copied(run, tmp_path / "w")
    report = json.loads(esis(copy / "cwd", "verify", "--json"))
    assert (report["kind"], report["ok"], report["problems"]) == ("run", True, [])
    assert report["hash"] == copy.name[len("wrkdir.") :]
    change(copy / "gen.py")
    (copy / "setup.sh").unlink()
    assert "2 problems" in esis(tmp_path, "verify", str(copy), code=1)
    assert "there is no" in esis(tmp_path, "verify", str(tmp_path / "nothing"), code=2)


def test_a_run_of_another_version_without_definition_is_told(tmp_path: Path) -> None:
    place = tmp_path / ("wrkdir." + "3" * 64)
    (place / "__esis__").mkdir(parents=True)
    assert ("__esis__/wf_status", "is missing, so nothing says what the hash is made of") in problems(place)
    shutil.rmtree(place / "__esis__")
    with pytest.raises(BadInput):
        problems(place)


@pytest.mark.parametrize("data", [b"x\n", b"0" * 64 + b" f\n", b"0" * 64 + b"  f\n" + b"1" * 64 + b"  f\n"])
def test_a_manifest_that_is_none_is_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptState):
        manifest.parse(data)


@pytest.mark.parametrize("name", [*HOSTILE, "a\nb", "a\\nb", "\\", "\\\n\r", os.fsdecode(b"\xff")])
def test_names_come_through_a_manifest(name: str) -> None:
    digest = "ab" * 32
    assert manifest.parse(manifest.line(digest, name) + manifest.line(digest, "next")) == {name: digest, "next": digest}
