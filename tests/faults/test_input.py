"""Input that can't be used: refused with one line before anything is written, and nothing ever blocks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.site import BIN
from tests.faults.bench import INJECTOR, REPOSITORY, Bench, differences, only_run, tree


def refused(bench: Bench, place: Path, *arguments: str, code: int = 2) -> str:
    """See that a command is refused with one line and changes nothing; return the line."""
    before = tree(bench.home)
    shown = bench.esis(place, *arguments)
    assert shown.code == code, shown
    assert len(shown.stderr.splitlines()) == 1, shown.stderr
    assert "Traceback" not in shown.stderr
    assert differences(before, tree(bench.home)) == []
    assert bench.slurm.calls("sbatch") == []
    return shown.stderr


def with_key(**changes: object) -> Callable[[dict[str, object]], str]:
    return lambda value: json.dumps({**value, **changes})


FILES: dict[str, tuple[Callable[[dict[str, object]], str | bytes], str]] = {
    "not JSON": (lambda value: "{'setupscript': 1", "not valid JSON"),
    "empty": (lambda value: "", "not valid JSON"),
    "bytes": (lambda value: b"\xff\xfe\x00", "not valid JSON"),
    "a list": (lambda value: "[]", "expected a JSON object"),
    "a missing key": (
        lambda value: json.dumps({key: value[key] for key in value if key != "workerscript"}),
        "'workerscript'",
    ),
    "a number for a path": (with_key(setupscript=3), "'setupscript'"),
    "null for a path": (with_key(param_generator=None), "'param_generator'"),
    "a text for a list": (with_key(param_includes="x"), "'param_includes'"),
    "a list for an object": (with_key(requires_names=[]), "'requires_names'"),
    "a limit that is none": (with_key(maxparallel="many"), "'maxparallel'"),
    "a negative limit": (with_key(maxparallel=-1), "'maxparallel'"),
    "a fraction": (with_key(maxparallel=1.5), "'maxparallel'"),
    "a huge number": (with_key(maxparallel=10**400), "'maxparallel'"),
    "a newline in a path": (with_key(workerscript="a\nb"), "'workerscript'"),
    "a name for no requirement": (with_key(requires=["../x/wf.esis.json"]), "requires_names"),
    "a requirement that is not there": (with_key(requires=["x.json"], requires_names={"x.json": "x"}), "x.json"),
    "itself required": (with_key(requires=["wf.esis.json"], requires_names={"wf.esis.json": "me"}), "cycle"),
    "the same key twice": (lambda value: '{"setupscript": "a", "setupscript": "b"}', "twice"),
    "deep nesting": (lambda value: '{"setupscript": ' + "[" * 200_000 + "]" * 200_000 + "}", "nested too deeply"),
    "a missing file": (with_key(workerscript="nowhere.sh"), "nowhere.sh"),
    "a directory for a script": (with_key(workerscript="."), "'.'"),
}


@pytest.mark.parametrize("what", FILES)
@pytest.mark.parametrize("command", ["run", "dependency", "status"])
def test_f37_a_workflow_file_that_cannot_be_used_is_told_in_one_line(bench: Bench, what: str, command: str) -> None:
    """F37: exit code 2, the file, the key, what was expected; nothing is written or submitted."""
    place = bench.workflow("a")
    file = place / "wf.esis.json"
    made, word = FILES[what]
    text = made(json.loads(file.read_text()))
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    said = refused(bench, place, command)
    assert word in said or str(place) in said
    assert len(said) < 2_000


def test_f37_a_gigabyte_is_refused_unread(bench: Bench) -> None:
    """F37: the size is limited, and so is the memory (300 MB are enough for the whole command)."""
    place = bench.workflow("a")
    os.truncate(place / "wf.esis.json", 2**30)
    done = subprocess.run(
        ["sh", "-c", 'ulimit -v 600000; exec "$0" run', str(BIN / "esis")],
        cwd=place,
        text=True,
        capture_output=True,
        env={**bench.env(), "PYTHONPATH": ""},
        check=False,
        timeout=30,
    )
    assert done.returncode == 2, done.stderr
    assert "larger than" in done.stderr
    assert len(done.stderr.splitlines()) == 1


KINDS = ("a link to nowhere", "a FIFO", "a device", "a directory", "a socket", "unreadable")


def replace(path: Path, kind: str) -> None:
    """Put something strange in a file's place."""
    path.unlink()
    if kind == "a link to nowhere":
        path.symlink_to("nowhere")
    elif kind == "a FIFO":
        os.mkfifo(path, 0o755)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a directory":
        path.mkdir()
    elif kind == "a socket":
        import socket

        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path.relative_to(Path.cwd())) if len(str(path)) < 100 else os.path.relpath(path))
    else:
        path.touch()
        path.chmod(0)


@pytest.mark.parametrize("file", ["setup.sh", "gen.sh", "template.sh", "worker.sh", "helper.txt"])
@pytest.mark.parametrize("kind", KINDS)
def test_f38_what_is_no_readable_file_is_refused_before_anything_is_written(
    bench: Bench, kind: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F38: and it never blocks; for scripts and includes alike, at `run` and at `setup`."""
    if kind == "a directory" and file == "helper.txt":
        pytest.skip("a directory may be included")
    if kind == "unreadable" and os.getuid() == 0:
        pytest.skip("root may read everything: see the test below")
    place = bench.workflow("a")
    monkeypatch.chdir(place)
    replace(place / file, kind)
    setup = ["setup", "setup.sh", "gen.sh", "template.sh", "worker.sh", "helper.txt"]
    for arguments in (["run"], ["dependency"], setup):
        assert file in refused(bench, place, *arguments)


def test_f38_an_unreadable_file_is_refused(bench: Bench, tmp_path: Path) -> None:
    """F38: as an ordinary user; the file is named."""
    if os.getuid() != 0:
        pytest.skip("covered by the test above")
    place = bench.workflow("a")
    (place / "helper.txt").chmod(0)
    for path in (place, *place.iterdir()):
        os.chown(path, 65534, 65534)
    for path in (bench.home, *bench.home.parents):
        if path.stat().st_uid == 0 and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o011)
    code = (
        "import os, sys\nimport nursery\nnursery.preload()\nfrom esis.cli.main import run\nos.setgroups([])\n"
        "os.setgid(65534)\nos.setuid(65534)\nsys.argv = ['esis', 'run']\nrun()\n"
    )
    before = tree(place)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        env={**bench.env(), "PYTHONPATH": f"{INJECTOR}:{REPOSITORY}"},
        timeout=30,
    )
    assert done.returncode == 2, done.stderr
    assert "helper.txt" in done.stderr
    assert "ermission" in done.stderr
    assert differences(before, tree(place)) == []


@pytest.mark.parametrize("names", [("one/data.txt", "two/data.txt"), ("one/worker.sh", None)])
def test_f40_two_files_of_one_base_name_are_refused(bench: Bench, names: tuple[str, str | None]) -> None:
    """F40: two includes would overwrite each other; an include called like a script has a place of its own."""
    place = bench.workflow("a")
    for name in filter(None, names):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text("x")
    arguments = ["setup", "setup.sh", "gen.sh", "template.sh", "worker.sh", *filter(None, names)]
    if names[1] is not None:
        said = refused(bench, place, *arguments)
        assert "same base name" in said
        assert all(name in said for name in names if name)
    else:
        bench.esis(place, *arguments).ok()
        bench.esis(place, "run").ok()
        assert (only_run(place) / "includes/worker.sh").read_text() == "x"


def test_f41_a_mark_inside_a_value_stays_as_it_is(bench: Bench) -> None:
    """F41: a worker called like a mark is put in once, and not replaced again."""
    place = bench.workflow("a", 2)
    name = "TASKARRAYDEFINITION-WORKERSCRIPT.sh"
    (place / "worker.sh").rename(place / name)
    bench.esis(place, "setup", "setup.sh", "gen.sh", "template.sh", name, "helper.txt").ok()
    bench.esis(place, "run").ok()
    script = (only_run(place) / "sbatch.sh").read_text()
    assert f"../{name}\n" in script
    assert script.count("0-1%10") == 1
    bench.slurm.run()
    assert bench.states(place) == {"done": 2}


def test_f41_a_template_without_the_array_mark_is_refused(bench: Bench) -> None:
    """F41: the mark is named; nothing is written."""
    place = bench.workflow("a")
    text = (place / "template.sh").read_text().replace("TASKARRAYDEFINITION", "0-9")
    (place / "template.sh").write_text(text)
    assert "TASKARRAYDEFINITION" in refused(bench, place, "run")


@pytest.mark.parametrize(
    "change",
    [
        {"USER": None, "LOGNAME": None},
        {"HOME": None},
        {"LANG": "C", "LC_ALL": "C"},
        {"LC_ALL": "xx_XX.nonsense"},
        {"TMPDIR": "/nonexistent"},
        {"PATH": ""},
        {"PATH": None},
    ],
    ids=str,
)
def test_f42_a_poor_environment_works_or_is_told(bench: Bench, change: dict[str, str | None]) -> None:
    """F42: without USER, HOME or a locale it works; without PATH there is no sbatch, which is said."""
    place = bench.workflow("a")
    environment = bench.env()
    for name, value in change.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    done = subprocess.run(
        [sys.executable, "-m", "esis", "run"],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "PATH" in change:
        assert done.returncode == 5, done.stderr
        assert "no sbatch on PATH" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert list(place.glob("wrkdir.*")) == []
    else:
        assert done.returncode == 0, done.stderr
        assert len(bench.slurm.jobs()) == 1


@pytest.mark.parametrize("mask", ["000", "077", "0777"])
def test_f42_any_umask_works_or_is_told(bench: Bench, mask: str) -> None:
    """F42: with 000 and 077 the modes follow; one that forbids everything can't build a run, and says so."""
    place = bench.workflow("a")
    done = subprocess.run(
        ["sh", "-c", f'umask {mask}; exec "$0" -m esis run', sys.executable],
        cwd=place,
        env=bench.env(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or len(done.stderr.splitlines()) == 1, done.stderr
    if mask != "0777":
        assert done.returncode == 0
        modes = [path.stat().st_mode & 0o777 for path in only_run(place).rglob("*") if not path.is_symlink()]
        assert all(not mode & int(mask, 8) for mode in modes)
        bench.slurm.run()
        assert bench.states(place) == {"done": 3}


def test_f42_a_deleted_working_directory_is_told(bench: Bench) -> None:
    """F42: one line, no traceback."""
    place = bench.workflow("a")
    script = 'mkdir ../gone; cd ../gone; rmdir ../gone; exec "$0" -m esis run'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable], cwd=place, env=bench.env(), capture_output=True, text=True, check=False
    )
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "the present directory is gone" in done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "__esis__/lock",
        "__esis__/state.json",
        "__esis__/submissions/0001.json",
        "sbatch.sh",
        "__esis__/jobid.tx",
        "__esis__/wf_starttime",
        "__esis__/completed.state",
    ],
)
def test_f43_a_link_planted_where_a_record_goes_is_not_followed(bench: Bench, tmp_path: Path, name: str) -> None:
    """F43: its target stays untouched: the link is replaced or refused."""
    place = bench.workflow("a")
    bench.slurm.fail("sbatch", "refuse", message="Invalid account")
    assert bench.esis(place, "run").code == 5
    target = tmp_path / "precious"
    if name.endswith("lock"):
        target.mkdir()
        (target / "file").write_text("precious")
    else:
        target.write_text("precious")
    planted = only_run(place) / name
    if planted.exists():
        planted.unlink()
    planted.symlink_to(target)
    shown = bench.esis(place, "run")
    assert "Traceback" not in shown.stderr
    assert "internal error" not in shown.stderr
    if name.endswith("lock"):
        assert shown.code != 0
        assert str(planted) in shown.stderr
        assert (target / "file").read_text() == "precious"
    else:
        assert target.read_text() == "precious"
        written = not name.endswith(("state.json", "completed.state"))  # by what was left to do
        assert shown.code != 0 or not (written and planted.is_symlink())


def test_f43_a_link_planted_as_the_run_itself_is_refused(bench: Bench, tmp_path: Path) -> None:
    """F43: the place of the run is a link into somebody's directory: refused, nothing is written there."""
    place = bench.workflow("a")
    shown = bench.esis(place, "run", "--dry-run").ok().stdout
    run = Path(next(line for line in shown.splitlines() if line.startswith("run: "))[5:])
    target = tmp_path / "precious"
    target.mkdir()
    run.symlink_to(target)
    assert str(run) in refused(bench, place, "run", code=1)
    assert list(target.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["resubmit", ""],
        ["cancel", ""],
        ["run", "--local", ""],
        ["status", ""],
        ["throttle", "3", ""],
        ["compact", ""],
        ["export", "-o", ""],
        ["cancel", "--tasks", ""],
        ["", "status"],
        ["resubmit", "", "--", "--time=5"],
    ],
)
def test_f37_an_empty_argument_is_no_target(bench: Bench, arguments: list[str]) -> None:
    """F37: it is a variable of somebody's script that isn't set, and would mean the run of this directory."""
    place = bench.workflow("a")
    assert "one of the arguments is empty" in refused(bench, place, *arguments)


def test_f297_a_word_behind_the_dashes_is_no_target(bench: Bench) -> None:
    """F297: it was read as a workflow file, which isn't there, or is one."""
    place = bench.workflow("a")
    for arguments in (["--state", "done"], ["--state", "done", "a"], []):
        said = refused(bench, place, "resubmit", *arguments, "--", "worker.py")
        assert "behind -- there are options for sbatch, and 'worker.py' is none" in said
    bench.esis(place, "run").ok()
    bench.slurm.run()
    bench.esis(place, "resubmit", "--state", "done", "--").ok()
    bench.slurm.run()
    bench.esis(place, "resubmit", "--state", "done", "wf.esis.json", "--", "--time=5").ok()
    assert len(bench.slurm.jobs()) == 3


@pytest.mark.parametrize("number", ["2147483648", "4294967297", "9223372036854775808", "1" + "0" * 5000])
@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "-m", "{}"],
        ["resubmit", "-m", "{}"],
        ["throttle", "{}"],
        ["resubmit", "--tasks-per-job", "{}"],
        ["setup", "-m", "{}", "setup.sh", "gen.sh", "template.sh", "worker.sh"],
    ],
)
def test_f133_a_number_that_nobody_reads_again_is_not_written(bench: Bench, arguments: list[str], number: str) -> None:
    """F133: Slurm reads them modulo 2^32, and the record or the workflow file couldn't be read any more."""
    refused(bench, bench.workflow("a"), *(word.format(number) for word in arguments))


def test_f63_nothing_is_said_of_what_is_kept_where_nothing_is_submitted(bench: Bench) -> None:
    """F63: only a submission keeps options."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    shown = bench.esis(place, "resubmit", "--", "--export=ALL,TOKEN=x").ok()
    assert "nothing to resubmit" in shown.stderr
    assert "kept" not in shown.stderr


def test_every_command_has_a_description_without_docstrings(bench: Bench) -> None:
    """Python takes them away under -OO."""
    shown = subprocess.run(
        [sys.executable, "-OO", "-m", "esis", "status", "--help"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Tell the states of the tasks of a run." in shown.stdout


def test_f37_the_name_of_a_requirement_can_be_written(bench: Bench) -> None:
    """F37: bytes that are no UTF-8 would make a workflow file that nobody can read."""
    bench.workflow("b")
    assert "can't be the name of a requirement" in refused(
        bench, bench.workflow("a"), "require", "../b/wf.esis.json", "\udce4"
    )


def test_f37_a_runs_copy_of_its_workflow_file_is_no_requirement(bench: Bench) -> None:
    """F37: the files that it names aren't beside it, so no command could use it."""
    required = bench.workflow("b")
    bench.esis(required, "run").ok()
    copy = only_run(required) / "__esis__/workflow_definition.json"
    place = bench.workflow("a")
    done = bench.esis(place, "require", str(copy), "b")
    assert (done.code, "a run's copy" in done.stderr) == (2, True), done
    assert json.loads((place / "wf.esis.json").read_text())["requires"] == []


@pytest.mark.parametrize("command", ["status", "resubmit", "cancel", "compact", "verify"])
def test_f37_a_run_that_is_not_there_is_not_called_an_old_one(bench: Bench, command: str) -> None:
    """F37: nor a workflow file."""
    place = bench.workflow("a")
    assert "there is no" in refused(bench, place, command)
    assert "there is no run wrkdir.00 here" in refused(bench, place, command, "wrkdir.00")


def test_f192_a_path_that_no_command_reads_again_is_not_stored(bench: Bench) -> None:
    """F192: a workflow file that requires one in a directory with a newline in its name was of no use any more."""
    place, other = bench.workflow("b"), bench.workflow("a").rename(bench.home / "a\nb")
    before = (place / "wf.esis.json").read_bytes()
    assert bench.esis(place, "require", f"../{other.name}/wf.esis.json", "a").code == 2
    files = ("setup.sh", "gen.sh", "template.sh", "worker.sh")
    assert bench.esis(place, "setup", *files, "--workdir-path", "x\ny").code == 2
    assert (place / "wf.esis.json").read_bytes() == before
