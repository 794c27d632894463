"""What a start loads and opens: deterministic, so that it can gate; the times are `tests.bench.startup`'s business."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from esis.cli.main import COMMANDS
from esis.version import VERSION
from tests.bench import traced
from tests.bench.includes import FILES, Bench, bench
from tests.bench.startup import Installed, install

HEAVY = {
    "jinja2",
    "yaml",
    "rich",
    "numpy",
    "pyarrow",
    "matplotlib",
    "asyncio",
    "email",
    "xml",
    "http",
    "sqlite3",
    "multiprocessing",
    "importlib.metadata",
    "tempfile",
    "secrets",
    "pydoc",
    "unittest",
}
NAMES = {"esis", "esis.__main__", "esis.errors", "esis.cli", "esis.cli.main", "esis.cli.streams"}
ENTRANCE = """
import json, os, sys
before = set(sys.modules)
end = os._exit
def tell(code):
    sys.stdout.flush()
    with open(os.environ["ESIS_LOADED"], "w") as stream:
        json.dump(sorted(set(sys.modules) - before), stream)
    end(code)
os._exit = tell
from esis.__main__ import start
try:
    start()
except SystemExit as left:  # completion
    tell(left.code)
tell(0)
"""


class Start:
    """Start the command in a fresh Python and see what it loads."""

    def __init__(self, directory: Path) -> None:
        self._told = directory / "loaded"
        self.out = ""

    def loaded(self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> set[str]:
        """Return the modules that a command loads beyond those of a bare interpreter."""
        base = {name: value for name, value in os.environ.items() if not name.startswith("_ESIS")}
        done = subprocess.run(
            [sys.executable, "-c", ENTRANCE, *arguments],
            capture_output=True,
            text=True,
            check=True,
            cwd=cwd,
            env={**base, "ESIS_LOADED": str(self._told), **(env or {})},
        )
        self.out = done.stdout
        return set(json.loads(self._told.read_text()))


@pytest.fixture
def start(tmp_path: Path) -> Start:
    return Start(tmp_path)


def of_esis(modules: set[str]) -> set[str]:
    return {name for name in modules if name.split(".")[0] == "esis"}


def heavy(modules: set[str]) -> set[str]:
    return {name for name in modules if name in HEAVY or name.split(".")[0] in HEAVY}


def test_the_version_is_told_before_anything_is_loaded(start: Start) -> None:
    """`esis --version` loads three small modules, not click, and says what click would say."""
    assert start.loaded("--version") == {"esis", "esis.version", "esis.__main__"}
    assert start.out == f"esis, version {VERSION}\n"
    slow = start.loaded("--debug", "--version")
    assert "click" in slow
    assert start.out == f"esis, version {VERSION}\n"


def test_a_version_that_nobody_can_read_is_an_error_like_any_other() -> None:
    """A full device gets the line and the exit code of the command line's one place for errors."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "esis", "--version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_help_loads_click_and_names(start: Start) -> None:
    """No command, and none of the larger packages."""
    modules = start.loaded("--help")
    assert of_esis(modules) == NAMES
    assert not heavy(modules - start.loaded("--debug", "--version"))


def complete(start: Start, words: str, at: int, shell: str = "bash") -> set[str]:
    return start.loaded(env={"_ESIS_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)})


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_of_commands_loads_names_alone(start: Start, shell: str) -> None:
    """The list of commands is enough."""
    modules = complete(start, "esis re", 1, shell)
    assert {name for name in COMMANDS if name.startswith("re")} <= set(start.out.replace(",", "\n").split("\n"))
    assert of_esis(modules) == NAMES
    assert "plain,--debug" in (complete(start, "esis --", 1), start.out)[1]


@pytest.mark.parametrize("name", list(COMMANDS))
def test_completion_of_options_loads_no_work(start: Start, name: str) -> None:
    """A command's module says its options and loads nothing that does the work."""
    modules = complete(start, f"esis {name} --", 2)
    assert "plain,--help" in start.out
    assert not {loaded for loaded in of_esis(modules) - NAMES if not loaded.startswith("esis.cli.")}
    assert not modules & {"esis.cli.rendering", "esis.cli.progress"}
    assert not heavy(modules - start.loaded("--help"))


def test_status_loads_what_it_needs(start: Start) -> None:
    """Neither what builds runs nor any package but click; in a pipe nothing is drawn."""
    with bench(1) as made:
        made.esis("run")
        modules = start.loaded("status", env=made.environment, cwd=made.place)
    assert "\nwaiting\t1\t0\t" in start.out
    assert "esis.schedulers.slurm" in modules
    unneeded = (
        "operations.build",
        "operations.submission",
        "operations.table",
        "operations.run",
        "operations.chain",
        "operations.workflow_files",
        "records.provenance",
        "cli.progress",
        "schedulers.local",
    )
    assert not [name for name in modules if name.startswith(tuple(f"esis.{name}" for name in unneeded))]
    assert not heavy(modules)
    assert not modules & {"concurrent.futures", "logging"}


@contextmanager
def complete_run() -> Iterator[Bench]:
    """Make a run that is complete, of a workflow without includes."""
    with bench(1) as made:
        made.include.unlink()
        (made.place / "wf.esis.json").unlink()
        made.esis("setup", *FILES)
        made.esis("run", "--local")
        yield made


LIGHT = ("status", "list", "errors", "wait", "run")  # the commands that people repeat
ASKING = {
    "esis.schedulers.slurm",
    "esis.process",
    "esis.operations.witness.judge",
    "esis.operations.run",
    "subprocess",
    "shutil",
    "hashlib",
    "dataclasses",
    "esis.locks",
    "esis.records.tasks",
    "csv",
    "bisect",
    "select",
}


@pytest.mark.parametrize("command", LIGHT)
def test_of_a_complete_run_is_told_without_what_asks_slurm(start: Start, command: str) -> None:
    """What is known needs neither Slurm's client nor what judges, builds or submits."""
    with complete_run() as made:
        modules = start.loaded(command, env=made.environment, cwd=made.place)
    assert not modules & ASKING
    assert len(of_esis(modules)) <= 36, sorted(of_esis(modules))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The command as pip installs it, not editable."""
    if not traced.works():
        pytest.skip("strace is not installed, or may not trace here")
    return install(tmp_path_factory.mktemp("installed"))


@pytest.mark.xdist_group("packaging")
def test_starting_opens_few_files(installed: Installed) -> None:
    """`esis --help` opens at most 15 files more than the smallest click program, `--version` 8 more than Python."""
    smallest = installed.opened([installed.smallest, "--help"])
    assert any("click" in name for name in smallest)
    assert len(installed.opened([installed.esis, "--help"])) <= len(smallest) + 15
    version = installed.opened([installed.esis, "--version"])
    own = [name for name in version if "/esis/" in name]
    assert 0 < len(own) <= 4, own
    assert not [name for name in version if "click" in name]


@pytest.mark.xdist_group("packaging")
@pytest.mark.parametrize("command", LIGHT)
def test_repeated_commands_open_few_files(installed: Installed, command: str) -> None:
    """Of a complete run they open at most 60 files more than `import click`, in at most 400 calls with a path."""
    click = [installed.python, "-c", "import click"]
    with complete_run() as made:
        before = traced.opened(click, made.place), traced.with_paths(click, made.place)
        own = traced.opened([installed.esis, command], made.place, made.environment, alone=True)
        calls = traced.with_paths([installed.esis, command], made.place, made.environment)
    assert len(own) - len(before[0]) <= 60, own
    assert len(calls) - len(before[1]) <= 400, calls


def test_files_beside_the_command_are_not_taken_for_modules(installed: Installed, tmp_path: Path) -> None:
    """A csv.py or json.py of the user's, where a command is started or lies, isn't the standard library's."""
    for name in ("csv", "json", "dataclasses", "pathlib"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not meant')\n")
    link = tmp_path / "esis"
    link.symlink_to(installed.esis)
    for argv in ([str(link)], [installed.python, str(link)], [installed.esis]):
        done = subprocess.run([*argv, "list", "."], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), argv
