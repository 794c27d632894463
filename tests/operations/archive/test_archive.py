"""Archives: reproducible, complete, judged by the ecosystem's validator, unpacked and rerun with stock tools."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from esis.errors import BadInput, EsisError, FileTrouble, TasksFailed
from esis.model.workdir import RunDir
from esis.operations.archive import make, writer
from esis.operations.archive.contents import Logs, Scope
from esis.operations.archive.crate import About, Author
from esis.operations.archive.make import check_packable
from esis.operations.archive.writer import Format
from esis.operations.witness.look import status_of
from esis.operations.witness.target import evidence_of
from esis.records.tasks import TaskRecord
from esis.schedulers.base import Snapshot
from esis.schedulers.slurm import Slurm
from tests.contract.site import FakeSite, make_workflow
from tests.operations.archive import archives
from tests.operations.archive.archives import ALICE, HOST, HOSTILE, copied, esis, make_run, pack, problems, unpack

pytest.importorskip("rocrate")
pytest.importorskip("zstandard")
pytestmark = pytest.mark.xdist_group("archive")  # one run serves all
FORMATS = [form.value for form in Format]
every_format = pytest.mark.parametrize("ending", FORMATS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A complete run; nothing here changes it."""
    return make_run(tmp_path_factory.mktemp("archive") / 'it\'s "a" home')


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run of which task 1 failed."""
    return make_run(tmp_path_factory.mktemp("failed") / "w", fail="[ $t != 1 ]")


def names(path: Path) -> list[str]:
    """Return the names in an archive in their order, relative to the run."""
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            return [name.rstrip("/") for name in archive.namelist()]
    import zstandard

    with (
        path.open("rb") as stream,
        zstandard.ZstdDecompressor().stream_reader(stream) as plain,
        tarfile.open(fileobj=plain, mode="r|") as tar,
    ):
        return [info.name.partition("/")[2] for info in tar][1:]


def content(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


# What comes out


@every_format
def test_the_same_run_gives_the_same_bytes(run: RunDir, tmp_path: Path, ending: str) -> None:
    """Also from a copy with other times and modes, at another umask, under another name of the archive."""
    first = pack(run, tmp_path / f"a{ending}")
    copy = copied(run, tmp_path / "elsewhere")
    for path in [*copy.rglob("*"), copy]:
        os.utime(path, (1, 1), follow_symlinks=False)
    before = os.umask(0o077)
    try:
        second = pack(RunDir(copy), tmp_path / f"b{ending}")
    finally:
        os.umask(before)
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()
    assert first.digest == second.digest
    assert os.listdir(tmp_path / "elsewhere") == [run.path.name]


@every_format
def test_an_archive_holds_what_is_needed_and_nothing_of_the_moment(run: RunDir, tmp_path: Path, ending: str) -> None:
    """Snapshot, what setup made, parameters, results, logs, records; no locks, claims, scratch files."""
    (run.cwd / "scratch.dat").write_text("scratch")
    try:
        pack(run, tmp_path / f"a{ending}")
    finally:
        (run.cwd / "scratch.dat").unlink()
    found = names(tmp_path / f"a{ending}")
    assert found[:-2] == sorted(found[:-2], key=lambda name: [part.encode() for part in name.split("/")])
    assert found[-2:] == ["__esis__/links.json", "manifest-sha256.txt"]
    assert set(found) >= {
        "README",
        "ro-crate-metadata.json",
        "sbatch.sh",
        "setup.sh",
        "gen.py",
        "template.sh",
        "my worker.sh",
        "built.txt",
        "tools/made",
        "tools/link",
        "includes/one.txt",
        "includes/tables/below/tool.sh",
        "includes/tables/latest",
        "parameters/parameters.2.json",
        "results/results.2.json",
        "results/results.2.m.npy",
        "cwd",
        "__checkpoints__",
        "__esis__/task.sh",
        "__esis__/wf_status",
        "__esis__/provenance.json",
        "__esis__/tasks.csv",
        "__esis__/local/srun",
        "__esis__/submissions/0001.json",
        *(f"results/{name}" for name in HOSTILE),
    }
    assert len([name for name in found if name.startswith("cwd/slurm-")]) == 3
    assert len([name for name in found if name.startswith("__esis__/tasks/")]) == 3
    assert not [name for name in found if "lock" in name or "claim" in name or "scratch" in name or "made." in name]


@every_format
def test_stock_tools_unpack_it_and_check_it(run: RunDir, tmp_path: Path, ending: str) -> None:
    """Contents, executable bits and links come out as they were, and sha256sum agrees; so does esis verify."""
    pack(run, tmp_path / f"a{ending}")
    place = unpack(tmp_path / f"a{ending}", tmp_path / "out")
    for name in ("my worker.sh", "includes/tables/below/tool.sh", "tools/made", "sbatch.sh"):
        assert os.access(place / name, os.X_OK), name
        assert (place / name).read_bytes() == (run.path / name).read_bytes()
    assert os.stat(place / "includes/one.txt").st_mode & 0o111 == 0
    assert os.readlink(place / "includes/tables/latest") == "below/tool.sh"
    assert all((place / "results" / name).read_text() == name for name in HOSTILE)
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", "manifest-sha256.txt"], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert problems(place) == []
    assert problems(tmp_path / f"a{ending}") == []
    assert (
        "the hash belongs to them"
        in subprocess.run(
            [str(archives.BIN / "esis"), "verify", str(place)], capture_output=True, text=True, check=True
        ).stderr
    )


def test_pythons_zipfile_unpacks_it_too(run: RunDir, tmp_path: Path) -> None:
    """It knows neither modes nor links; the checksums are right all the same."""
    pack(run, tmp_path / "a.zip")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(tmp_path / "a.zip"), str(tmp_path / "out")], check=True)
    done = subprocess.run(["sha256sum", "-c", "--quiet", "manifest-sha256.txt"], cwd=tmp_path / "out", check=False)
    assert done.returncode == 0


@every_format
def test_an_unpacked_run_reruns_with_its_script_alone(run: RunDir, tmp_path: Path, ending: str) -> None:
    """cd cwd, ../sbatch.sh with the variables of Slurm: the task does its work and records it."""
    pack(run, tmp_path / f"a{ending}", Scope(logs=Logs.NONE))
    place = unpack(tmp_path / f"a{ending}", tmp_path / "out")
    (place / "results/results.1.json").unlink()
    env = {
        "PATH": f"{place}/__esis__/local:{os.environ['PATH']}",
        "SLURM_ARRAY_TASK_ID": "1",
        "SLURM_ARRAY_JOB_ID": "77",
        "SLURM_JOB_ID": "78",
    }
    done = subprocess.run(["../sbatch.sh"], cwd=place / "cwd", env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "log of 1\n"), done.stderr
    assert json.loads((place / "results/results.1.json").read_text()) == {"n": 1}
    assert (place / "cwd/made.1").read_text() == "made\ntool\n"
    found = [TaskRecord.parse(name) for name in os.listdir(place / "__esis__/tasks")]
    assert [(record.task, record.code) for record in found if record is not None and record.job == "77"] == [(1, 0)]


@every_format
def test_an_unpacked_archive_packs_to_the_same_bytes(run: RunDir, tmp_path: Path, ending: str) -> None:
    """What is made for the archive is made anew, nothing is packed twice."""
    pack(run, tmp_path / f"a{ending}")
    place = unpack(tmp_path / f"a{ending}", tmp_path / run.path.name)
    pack(RunDir(place), tmp_path / f"b{ending}")
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


@every_format
def test_the_jobs_that_a_script_waited_for_are_taken_out_of_it(run: RunDir, tmp_path: Path, ending: str) -> None:
    """They are gone, and required runs aren't in the archive: a rerun mustn't wait for them. The digest still fits."""
    copy = RunDir(copied(run, tmp_path / "w"))
    record = json.loads(copy.submission(1).read_text())
    waiting = copy.script.read_text().replace("#ESIS_PRIVATE", "#SBATCH --dependency=afterok:4711")
    copy.script.write_text(waiting)
    import hashlib

    record.update(dependency="afterok:4711", script_sha256=hashlib.sha256(waiting.encode()).hexdigest())
    copy.submission(1).write_text(json.dumps(record))
    copy.requirements.write_text("0:3:/gone/wrkdir.x\n")
    pack(copy, tmp_path / f"a{ending}")
    place = unpack(tmp_path / f"a{ending}", tmp_path / "out")
    assert "dependency=" not in (place / "sbatch.sh").read_text()
    assert os.access(place / "sbatch.sh", os.X_OK)
    assert not (place / "__esis__/requirements").exists()
    assert problems(tmp_path / f"a{ending}") == problems(place) == problems(copy.path) == []


def test_the_table_tells_the_state_of_every_task(failed: RunDir, tmp_path: Path) -> None:
    pack(failed, tmp_path / "a.zip")
    rows = list(csv.DictReader(io.StringIO(content(tmp_path / "a.zip", "__esis__/tasks.csv").decode())))
    assert [(row["task"], row["state"], row["exit_code"], row["attempts"]) for row in rows] == [
        ("0", "done", "0", "1"),
        ("1", "failed", "1", "1"),
        ("2", "done", "0", "1"),
    ]
    assert all(int(row["start"]) <= int(row["end"]) for row in rows)


# The crate


def graph(path: Path) -> dict[str, dict[str, object]]:
    return {item["@id"]: item for item in json.loads(content(path, "ro-crate-metadata.json"))["@graph"]}


ABOUT = About(
    "A title",
    "What it is",
    (Author.parse("Ada Lovelace <0000-0002-1825-0097>"), Author("Bob")),
    "CC-BY-4.0",
    "2026-03-01",
)
# What is recommended and can't be known: an address of ESIS on the web, a publisher, where authors work.
UNKNOWABLE = {
    "process-run-crate-0.5_3.2",
    "process-run-crate-0.5_5.1",
    "ro-crate-1.1_22.3",
    "ro-crate-1.1_30.2",
    "ro-crate-1.1_30.3",
    "workflow-ro-crate-1.0_6.1",
    "workflow-ro-crate-1.0_6.2",
}


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], tuple[list[list[str]], int]]:
    """Return what lets roc-validator judge a crate."""
    python = Path(sys.prefix) / "crate" / "bin" / "python"
    if not python.exists():
        pytest.skip("roc-validator is not installed: ci/crate-validator .venv/crate")
    cache = tmp_path_factory.mktemp("validator") / "cache"

    def judging(path: Path) -> tuple[list[list[str]], int]:
        script = Path(__file__).with_name("crates.py")
        done = subprocess.run(
            [str(python), str(script), str(cache), str(path)], capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        assert found["skipped"] == 0
        return found["issues"], found["checks"]

    return judging


@pytest.mark.parametrize("choice", [Scope(), Scope(anonymous=True, logs=Logs.NONE)], ids=["named", "anonymous"])
@pytest.mark.parametrize("about", [ABOUT, About()], ids=["told", "untold"])
def test_the_validator_finds_nothing_to_object_to(
    run: RunDir, tmp_path: Path, judge: Callable[[Path], tuple[list[list[str]], int]], choice: Scope, about: About
) -> None:
    """Every MUST of RO-Crate and the Workflow, Process Run and Workflow Run profiles; nearly every SHOULD."""
    if choice.anonymous and about.authors:
        about = About("A title", "What it is", license="CC-BY-4.0")
    pack(run, tmp_path / "a.zip", choice, about)
    issues, checks = judge(tmp_path / "a.zip")
    assert checks > 100
    assert [issue for issue in issues if issue[0] == "REQUIRED"] == []
    untold = set() if about.authors else {"ro-crate-1.1_22.2"}
    untold |= {"process-run-crate-0.5_8.6"} if choice.anonymous else set()
    assert {issue[1] for issue in issues} <= UNKNOWABLE | untold, issues


def test_the_validator_judges_an_incomplete_run_alike(
    failed: RunDir, tmp_path: Path, judge: Callable[[Path], tuple[list[list[str]], int]]
) -> None:
    pack(failed, tmp_path / "a.zip", about=ABOUT)
    assert {issue[1] for issue in judge(tmp_path / "a.zip")[0]} <= UNKNOWABLE
    action = next(item for item in graph(tmp_path / "a.zip").values() if item["@type"] == "CreateAction")
    assert action["actionStatus"] == "http://schema.org/FailedActionStatus"
    assert action["error"] == "1: exit code 1"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"instrument"', b'"x"'),
        (b'"license"', b'"x"'),
        (b'"mainEntity"', b'"x"'),
        (b"wfrun/workflow/0.5", b"wfrun/other"),
    ],
)
def test_the_validator_would_object(
    run: RunDir, tmp_path: Path, old: bytes, new: bytes, judge: Callable[[Path], tuple[list[list[str]], int]]
) -> None:
    """The tests above can fail: each of these is required."""
    pack(run, tmp_path / "a.zip")
    place = unpack(tmp_path / "a.zip", tmp_path / "out")
    metadata = place / "ro-crate-metadata.json"
    assert old in metadata.read_bytes()
    metadata.write_bytes(metadata.read_bytes().replace(old, new))
    assert [issue for issue in judge(place)[0] if issue[0] == "REQUIRED"]


def test_the_crate_says_who_ran_what_when_and_how_it_ended(run: RunDir, tmp_path: Path) -> None:
    pack(run, tmp_path / "a.zip", about=ABOUT)
    found = graph(tmp_path / "a.zip")
    root, action = found["./"], found[f"#{run.path.name}"]
    assert (root["name"], root["description"], root["datePublished"]) == ("A title", "What it is", "2026-03-01")
    assert root["identifier"] == run.path.name
    assert root["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
    assert root["author"] == [{"@id": "https://orcid.org/0000-0002-1825-0097"}, {"@id": "#Bob"}]
    assert root["mentions"] == {"@id": action["@id"]}
    assert root["mainEntity"] == action["instrument"]
    assert str(action["startTime"]) <= str(action["endTime"])
    user = json.loads(run.provenance.read_text())["user"]
    assert found[str(action["agent"]["@id"])]["name"] == user  # type: ignore[index]
    assert found["my%20worker.sh"]["@type"] == ["File", "SoftwareSourceCode"]


def test_without_words_of_the_authors_the_crate_says_what_can_be_known(run: RunDir, tmp_path: Path) -> None:
    """The day on which the last task ended, and that no licence is stated: the same each time."""
    pack(run, tmp_path / "a.zip")
    found = graph(tmp_path / "a.zip")
    assert found["./"]["datePublished"] == str(found[f"#{run.path.name}"]["endTime"])[:10]
    assert "No licence is stated" in str(found["#license"]["description"])
    assert found["./"]["name"] == f"ESIS run {run.label} of wf.esis.json"


@pytest.mark.parametrize("about", [About(license="see the file"), About(date="1.3.2026"), About(date="2026-02-30")])
def test_a_licence_or_a_day_that_is_none_is_refused(run: RunDir, tmp_path: Path, about: About) -> None:
    with pytest.raises(BadInput):
        pack(run, tmp_path / "a.zip", about=about)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("text", ["", "<0000-0002-1825-0097>", "Ada <nowhere>", "Ada <a> <b>"])
def test_an_author_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        Author.parse(text)


# Choices


def logs_in(path: Path) -> set[str]:
    return {name.rpartition("_")[2] for name in names(path) if name.startswith("cwd/slurm-")}


def test_logs_are_a_choice(failed: RunDir, tmp_path: Path) -> None:
    found = {}
    for logs in Logs:
        pack(failed, tmp_path / "a.zip", Scope(logs=logs))
        found[logs] = logs_in(tmp_path / "a.zip")
    assert found == {Logs.ALL: {"0.out", "1.out", "2.out"}, Logs.FAILED: {"1.out"}, Logs.NONE: set()}


def test_logs_are_found_where_the_template_puts_them(run: RunDir, tmp_path: Path) -> None:
    """Also standard error of its own, in a directory beside cwd/ that setup made; they follow the same choice."""
    copy = RunDir(copied(run, tmp_path / "w"))
    record = json.loads(copy.submission(1).read_text())
    record.update(output="../logs/%A/out.%a.log", options=["-e", "err.%4a.%x.txt"])
    copy.submission(1).write_text(json.dumps(record))
    logs = f"logs/{record['jobs'][0]['id']}"
    (copy.path / logs).mkdir(parents=True)
    made = {f"{logs}/out.1.log", "cwd/err.0001.sbatch.sh.txt", f"{logs}/other"}
    for name in made:
        (copy.path / name).write_text("log")
    pack(copy, tmp_path / "a.zip")
    assert made <= set(names(tmp_path / "a.zip"))
    pack(copy, tmp_path / "a.zip", Scope(logs=Logs.NONE))
    assert made & set(names(tmp_path / "a.zip")) == {f"{logs}/other"}


def test_files_of_the_working_directory_come_by_pattern(run: RunDir, tmp_path: Path) -> None:
    (run.cwd / "plots").mkdir()
    (run.cwd / "plots" / "a.png").write_text("png")
    try:
        pack(run, tmp_path / "a.zip", Scope(logs=Logs.NONE, cwd=("made.[01]", "plots")))
    finally:
        shutil.rmtree(run.cwd / "plots")
    assert [name for name in names(tmp_path / "a.zip") if name.startswith("cwd/")] == [
        "cwd/made.0",
        "cwd/made.1",
        "cwd/plots",
        "cwd/plots/a.png",
    ]


@pytest.mark.parametrize("pattern", ["/etc/*", "../results/*", "nothing*", "", "."])
def test_a_pattern_that_leaves_or_finds_nothing_is_refused(run: RunDir, tmp_path: Path, pattern: str) -> None:
    with pytest.raises(BadInput, match="--cwd"):
        pack(run, tmp_path / "a.zip", Scope(cwd=(pattern,)))
    assert os.listdir(tmp_path) == []


def test_what_setup_made_can_stay_behind(run: RunDir, tmp_path: Path) -> None:
    pack(run, tmp_path / "a.zip", Scope(prepared=False))
    assert not {"tools", "built.txt"} & set(names(tmp_path / "a.zip"))
    assert problems(tmp_path / "a.zip") == []


def test_links_among_results_are_followed_and_what_is_no_file_is_left_out_with_a_word(
    run: RunDir, tmp_path: Path
) -> None:
    copy = RunDir(copied(run, tmp_path / "w"))
    (tmp_path / "far.dat").write_text("far")
    (copy.results / "far").symlink_to(tmp_path / "far.dat")
    (copy.results / "gone").symlink_to("nowhere")
    os.mkfifo(copy.results / "fifo")
    notes: list[str] = []
    pack(copy, tmp_path / "a.zip", notes=notes)
    assert content(tmp_path / "a.zip", "results/far") == b"far"
    assert [note.partition(": ")[2] for note in notes] == [
        "left out: results/fifo is a FIFO",
        "left out: results/gone is a link to nowhere",
    ]


@pytest.mark.parametrize("place", ["results", "parameters"])
@pytest.mark.parametrize("ending", ["zip", "tar.zst"])
def test_f164_results_that_the_setup_script_has_put_elsewhere_are_packed(
    run: RunDir, tmp_path: Path, place: str, ending: str
) -> None:
    """A link to a directory on a scratch in the place of results/; a link to one further down is left out."""
    copy = RunDir(copied(run, tmp_path / "w"))
    pack(copy, tmp_path / f"before.{ending}")
    (tmp_path / "scratch").mkdir()
    (copy.path / place).rename(tmp_path / "scratch" / place)
    (copy.path / place).symlink_to(tmp_path / "scratch" / place)
    notes: list[str] = []
    pack(copy, tmp_path / f"after.{ending}", notes=notes)
    assert notes == []
    assert names(tmp_path / f"after.{ending}") == names(tmp_path / f"before.{ending}")
    assert problems(tmp_path / f"after.{ending}") == []
    (copy.results / "round").symlink_to(".")
    pack(copy, tmp_path / f"after.{ending}", notes=notes)
    assert [note.partition(": ")[2] for note in notes] == ["left out: results/round is a link to ."]


@pytest.mark.parametrize("target", ["cwd", ".", "..", "__esis__", "__esis__/tasks"])
def test_f164_a_link_to_what_is_chosen_from_brings_no_logs_and_records_in(
    run: RunDir, tmp_path: Path, target: str
) -> None:
    """Below results/ nobody would leave the logs out, or take from ESIS's own files who made the run."""
    copy = RunDir(copied(run, tmp_path / "w"))
    shutil.rmtree(copy.results)
    copy.results.symlink_to(target)
    notes: list[str] = []
    pack(copy, tmp_path / "a.zip", notes=notes)
    assert [note.partition(": ")[2] for note in notes] == [f"left out: results is a link to {target}"]
    assert not [name for name in names(tmp_path / "a.zip") if name.startswith("results/")]


def test_an_anonymous_archive_tells_no_user_host_or_path(run: RunDir, tmp_path: Path) -> None:
    """In none of ESIS's own files, whatever was recorded; and it can still be verified."""
    home = tmp_path / ALICE
    copy = RunDir(copied(run, home))
    secret = f"{ALICE} {HOST} {home}"
    for path in [copy.provenance, copy.submission(1), *copy.tasks.iterdir()]:
        raw = json.loads(path.read_text())
        for key in set(raw) & {
            "user",
            "host",
            "workflow_file",
            "python_executable",
            "virtual_environment",
            "owner",
            "message",
            "nodes",
            "conda_environment",
        }:
            raw[key] = secret
        raw.update({key: [secret] for key in set(raw) & {"argv"}})
        if "options" in raw:
            raw.update(
                options=["--time=5", f"--mail-user={ALICE}@{HOST}"],
                output=f"{home}/%a.out",
                provenance={**raw["provenance"], "user": ALICE, "host": HOST},
            )
        if "git" in raw:
            raw["git"] = {"commit": "c0ffee", "dirty": False}
        path.write_text(json.dumps(raw))
    copy.generator_log.write_text(secret)
    copy.readme.write_text(secret)
    (copy.path / "built.txt").write_bytes(b"x" * (1 << 20) + str(copy.path).encode())
    (copy.private / "something-new").write_text(secret)
    packed = pack(copy, tmp_path / "a.zip", Scope(logs=Logs.NONE, anonymous=True))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        own = [
            info
            for info in archive.infolist()
            if info.filename.startswith("__esis__/")
            or info.filename in ("README", "ro-crate-metadata.json", "manifest-sha256.txt", "sbatch.sh")
        ]
        assert len(own) > 15
        for info in own:
            data = archive.read(info)
            for word in (ALICE, HOST, str(home), str(tmp_path), "c0ffee", os.uname().nodename + '"'):
                assert word.encode() not in data, (info.filename, word)
                assert word not in info.filename
        submission = json.loads(archive.read("__esis__/submissions/0001.json"))
        assert (submission["options"], submission["tasks"], submission["output"]) == (["--time=5"], "0-2", "%a.out")
        assert json.loads(archive.read("__esis__/provenance.json"))["python"]
    assert packed.telling == ("built.txt",)  # the setup script wrote where it was; that is the user's
    assert problems(tmp_path / "a.zip") == []


def test_anonymous_is_refused_where_the_hash_itself_tells(run: RunDir, tmp_path: Path) -> None:
    copy = RunDir(copied(run, tmp_path / "w"))
    copy.workflow_definition.write_text(copy.workflow_definition.read_text().replace("lib/one.txt", "/home/a/one.txt"))
    with pytest.raises(BadInput, match=r"/home/a/one\.txt tells who"):
        pack(copy, tmp_path / "a.zip", Scope(anonymous=True))
    with pytest.raises(BadInput, match="contradict"):
        pack(run, tmp_path / "a.zip", Scope(anonymous=True), ABOUT)


# Which runs


def check(run: RunDir, incomplete: bool = False) -> None:
    evidence = evidence_of(run)
    check_packable(evidence, status_of(evidence, Snapshot()), Slurm(), incomplete)


def test_an_incomplete_run_needs_a_word(failed: RunDir, tmp_path: Path) -> None:
    with pytest.raises(TasksFailed, match="--incomplete"):
        check(failed)
    check(failed, incomplete=True)
    message = esis(tmp_path, "archive", str(failed.path), "-o", "a.zip", code=8)
    assert "is not complete: 2 done, 1 failed" in message
    assert os.listdir(tmp_path) == []
    digest, name = esis(tmp_path, "archive", str(failed.path), "-o", "a.zip", "--incomplete").split()
    assert (name, len(digest)) == ("a.zip", 64)


def test_a_run_with_active_tasks_is_refused(site: FakeSite) -> None:
    """Waiting and running ones, with or without --incomplete; unsubmitted ones need --incomplete."""
    flow = make_workflow(site, "w")
    flow.esis("run").ok()
    for word in ((), ("--incomplete",)):
        refused = flow.esis("archive", "-o", "../a.zip", *word)
        assert refused.code == 9, refused.stderr
        assert "tasks 0-2 wait or run" in refused.stderr
    site.slurm.fail("squeue", "error", times=None, message="slurm_load_jobs error: Unable to contact slurm controller")
    refused = flow.esis("archive", "-o", "../a.zip", "--incomplete")
    assert refused.code in (6, 9), refused.stderr
    site.slurm.set(faults=[])
    flow.esis("cancel").ok()
    refused = flow.esis("archive", "-o", "../a.zip")
    assert refused.code in (8, 10), refused.stderr
    flow.esis("archive", "-o", "../a.zip", "--incomplete").ok()
    assert not [name for name in os.listdir(site.home) if name.startswith(".esis-tmp")]


def test_a_complete_run_that_somebody_reruns_by_hand_is_refused(site: FakeSite) -> None:
    flow = make_workflow(site, "w")
    flow.esis("run").ok()
    site.slurm.run()
    flow.esis("wait").ok()
    run = RunDir(flow.only_run())
    site.run(["sbatch", "--array=1", "../sbatch.sh"], run.cwd).ok()
    (run.tasks / "1.0001.99.0.9999999999.running").write_text("{}")
    refused = flow.esis("archive", "-o", "../a.zip")
    assert refused.code == 9, refused.stderr


# Trouble


@pytest.mark.parametrize("name", ["a.tar.gz", "a", ".zip", "a.tar"])
def test_another_ending_is_refused(run: RunDir, tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="has to end in"):
        pack(run, tmp_path / name)


def test_an_archive_is_not_written_into_its_run(run: RunDir) -> None:
    with pytest.raises(BadInput, match="lies in the run itself"):
        pack(run, run.cwd / "a.zip")


@every_format
@pytest.mark.parametrize("where", ["read", "fsync", "rename"])
def test_nothing_is_left_behind_on_an_error_and_the_old_archive_stays(
    run: RunDir, tmp_path: Path, ending: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / f"a{ending}"
    output.write_text("old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if where == "read":
        monkeypatch.setattr(writer.Hashing, "read", fail)
    elif where == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(FileTrouble, match="ENOSPC"):
        pack(run, output)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == [output.name]
    assert output.read_text() == "old"


# Signals the process at the moment when it is about to give the archive its name.
SIGNALLING = """
import os, sys
def hear(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith(".zip"):
        os.kill(os.getpid(), int(os.environ["TEST_SIGNAL"]))
sys.addaudithook(hear)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_an_interrupted_archive_leaves_nothing_for_long(run: RunDir, tmp_path: Path, number: signal.Signals) -> None:
    """A killed one can't tidy up; the next one there does it."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(SIGNALLING)
    (tmp_path / "out").mkdir()
    killed = number is signal.SIGKILL
    env = {"PYTHONPATH": str(tmp_path / "hook"), "TEST_SIGNAL": str(int(number))}
    told = esis(tmp_path / "out", "archive", str(run.path), "-o", "a.zip", code=-9 if killed else 130, env=env)
    assert killed or told.endswith("esis: interrupted\n")
    assert len(os.listdir(tmp_path / "out")) == killed
    esis(tmp_path / "out", "archive", str(run.path), "-o", "a.zip")
    assert os.listdir(tmp_path / "out") == ["a.zip"]


def test_an_error_names_the_file_that_it_is_about(run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive where the disk is full: write(2) names nothing."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer.ZipWriter, "file", fail)
    with pytest.raises(FileTrouble, match=f"{tmp_path}/a.zip: No space left"):
        pack(run, tmp_path / "a.zip")


@pytest.mark.parametrize("delta", [-1, 1])
def test_a_file_that_changes_meanwhile_is_an_error(delta: int) -> None:
    reader = writer.Hashing(io.BytesIO(b"x" * 10), 10 - delta, "f")
    with pytest.raises(EsisError, match="while it was being packed"):
        while reader.read(4):
            pass
        reader.digest()
        raise AssertionError


def test_a_run_that_goes_on_meanwhile_is_an_error(run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = RunDir(copied(run, tmp_path / "w"))
    finish = make._Writer.finish

    def meanwhile(self: make._Writer, ended: RunDir) -> None:
        (copy.tasks / "1.0001.999.0.9999999999.running").write_text("{}")
        finish(self, ended)

    monkeypatch.setattr(make._Writer, "finish", meanwhile)
    with pytest.raises(EsisError, match="changed while it was being packed"):
        pack(copy, tmp_path / "a.zip")
    assert sorted(os.listdir(tmp_path)) == ["w"]


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"new\nline", b"a\\b\nc", b"tab\t", b"cr\r"])
def test_a_name_that_a_zip_would_spoil_needs_a_tar(run: RunDir, tmp_path: Path, raw: bytes) -> None:
    """No UTF-8; control characters, which unzip takes away. A tar holds any name, and so does its manifest."""
    copy = RunDir(copied(run, tmp_path / "w"))
    (copy.results / os.fsdecode(raw)).write_text("bytes")
    with pytest.raises(BadInput, match=r"use \.tar\.zst"):
        pack(copy, tmp_path / "a.zip")
    pack(copy, tmp_path / "a.tar.zst")
    assert problems(tmp_path / "a.tar.zst") == []
    place = unpack(tmp_path / "a.tar.zst", tmp_path / "out")
    assert raw in os.listdir(os.fsencode(place / "results"))
    subprocess.run(["sha256sum", "-c", "--quiet", "manifest-sha256.txt"], cwd=place, check=True)
    assert problems(place) == []


@pytest.mark.parametrize(("package", "arguments"), [("rocrate", ["-o", "a.zip"]), ("zstandard", ["-o", "a.tar.zst"])])
def test_without_the_extra_the_message_names_it(
    run: RunDir, tmp_path: Path, package: str, arguments: list[str]
) -> None:
    """And `esis verify` of a zip needs neither."""
    pack(run, tmp_path / "b.zip")
    hiding = tmp_path / "hiding"
    hiding.mkdir()
    (hiding / f"{package}.py").write_text("raise ImportError('hidden')\n")
    env = {"PYTHONPATH": str(hiding)}
    message = esis(tmp_path, "archive", str(run.path), *arguments, code=2, env=env)
    assert f"the Python package {package}" in message
    assert "pip install 'esis-slurm[archive]'" in message
    esis(tmp_path, "verify", "b.zip", env=env)


@every_format
def test_a_big_file_is_streamed(run: RunDir, tmp_path: Path, ending: str) -> None:
    """Packing and verifying 100 MB takes no more memory than writing nearly nothing, but for a few buffers."""
    copy = RunDir(copied(run, tmp_path / "w"))
    pattern = random.Random(1).randbytes(1 << 20)
    used = []
    for megabytes in (1, 100):
        with (copy.results / "big").open("wb") as stream:
            for _ in range(megabytes):
                stream.write(pattern)
        for command in (["archive", str(copy.path), "-o", f"a{ending}"], ["verify", f"a{ending}"]):
            code = (
                "import resource, sys\nfrom esis.cli.main import guarded\ncode = guarded(sys.argv[1:], False)\n"
                "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)\nsys.exit(code)"
            )
            done = subprocess.run(
                [sys.executable, "-c", code, *command], cwd=tmp_path, capture_output=True, text=True, check=True
            )
            used.append(int(done.stderr.splitlines()[-1]))
    small, large = used[:2], used[2:]
    assert all(more - less < 40 * 1024 for less, more in zip(small, large)), used  # KiB


def test_modes_and_times_in_a_zip_are_fixed(run: RunDir, tmp_path: Path) -> None:
    pack(run, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        infos = archive.infolist()
    assert len({info.date_time for info in infos}) == 1
    assert {oct(stat.S_IMODE(info.external_attr >> 16)) for info in infos} == {"0o644", "0o755", "0o777"}
    assert {stat.S_IFMT(info.external_attr >> 16) for info in infos} == {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}
