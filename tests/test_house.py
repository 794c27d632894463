"""The house keeps its shape: imports point downwards, one door for subprocesses, nothing below the roof prints."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import esis
from esis import hook
from esis.cli.main import COMMANDS
from esis.errors import ExitCode

PACKAGE = Path(esis.__file__).parent
SOURCES = sorted(path for path in PACKAGE.rglob("*.py"))
GROUND = ("digests", "environment", "errors", "files", "hook", "locks", "process", "processes", "typed", "version")
FLOORS = ("ground", "model", "schedulers and records", "operations", "cli")


# The rooms of operations, each with those that it may use; the commands' own modules beside them use all.
ROOMS = {
    "witness": set(),
    "advice": set(),
    "active": {"witness"},
    "logs": {"witness"},
    "table": {"witness"},
    "submission": {"witness"},
    "build": {"witness", "submission"},
    "archive": {"witness", "logs"},
}
EVERYWHERE = ("context", "polling")  # of operations, used by all; they use nothing


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = [name_of(path) for path in SOURCES]


def floor(module: str) -> str:
    """Return the floor of a module of esis, or "worker" or "entrance"; each module has to have one."""
    parts = module.split(".")
    if len(parts) == 1 or parts[1] == "__main__":
        return "entrance"
    if parts[1] in ("records", "schedulers"):
        return "schedulers and records"
    if parts[1] in ("model", "operations", "cli", "worker"):
        return parts[1]
    if parts[1] in GROUND:
        return "ground"
    return {"docs": "ground", "checkpoint": "worker"}.get(parts[1], f"no floor for {module}")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield what a module imports at any place, functions and type checking included, with the line."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (whole if whole in MODULES else str(node.module)), node.lineno


def in_python(code: str, *arguments: str) -> str:
    """Run code in a fresh Python where every warning is an error; return what it prints."""
    path = os.pathsep.join([str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_what_the_hook_shares_is_named_in_one_module(path: Path) -> None:
    """Variables of jobs have their names from esis/hook.py."""
    constants = {
        node.value
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    if name_of(path) != "esis.hook":
        assert [text for text in constants if re.fullmatch(r"SLURM_ESIS_\w+", text)] == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_letters_of_log_names_are_known_to_one_module(path: Path) -> None:
    """Patterns of log names are read and written by esis/model/log_pattern.py; whose they are tells log_names.py."""
    tree = ast.parse(path.read_text("utf-8"))
    prose = {
        node.body[0].value
        for node in ast.walk(tree)  # docstrings
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and isinstance(node.body[0], ast.Expr)
    }
    found = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node not in prose
        and re.search(r"%\d*[AabJjN]|%\(?\\d", node.value)
    ]
    if name_of(path) != "esis.model.log_pattern":
        assert found == (["slurm-%A_task%a.out"] if name_of(path) == "esis.records.log_names" else [])


def test_the_hook_in_the_job_has_those_names() -> None:
    text = (PACKAGE / "records" / "task.sh").read_text("utf-8")
    shared = {value for name, value in vars(hook).items() if name.endswith("_VARIABLE")}
    assert shared <= set(re.findall(r"SLURM_ESIS_\w+", text))
    assert f'"$esis_stem{hook.RESUME_SUFFIX}"' in text
    assert re.findall(r"\bexit (7\d)\b", text)[0] == str(hook.AGAIN)
    # The logs of a pack's tasks, as esis/records/log_names.py has them.
    assert "esis_logs=$esis_dir/../cwd/slurm-$esis_job\n" in text
    assert '>|"$1_task$task.out"' in text


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_point_downwards(path: Path) -> None:
    """A module imports from its own floor and from those below; who sits beside the house uses the ground alone."""
    own = floor(name_of(path))
    allowed = {"entrance": {*FLOORS, "entrance", "worker"}, "worker": {"worker", "ground"}}.get(own)
    if allowed is None:
        assert own in FLOORS, own
        allowed = set(FLOORS[: FLOORS.index(own) + 1])
    for target, line in imports(path):
        if target.split(".")[0] != "esis":
            continue
        if own == "worker" and target == "esis.model.workdir":
            continue
        assert floor(target) in allowed, f"{path}:{line}: {own} imports {target}"


def room(module: str) -> str:
    """Return the room of operations that a module is in; of those beside the rooms its own name."""
    return module.split(".")[2] if module.startswith("esis.operations.") else ""


@pytest.mark.parametrize("path", [path for path in SOURCES if room(name_of(path))], ids=name_of)
def test_rooms_use_those_that_they_may(path: Path) -> None:
    """A room of operations knows no command, and of other rooms those alone that CONTRIBUTING draws below it."""
    own = room(name_of(path))
    allowed = ROOMS.get(own, {*ROOMS, *(room(module) for module in MODULES)}) if own not in EVERYWHERE else set()
    for target, line in imports(path):
        assert room(target) in {"", own, *allowed, *(EVERYWHERE if own not in EVERYWHERE else ())}, (
            f"{path}:{line}: {own} uses {target}"
        )


def test_rooms_are_those_that_are_drawn() -> None:
    """CONTRIBUTING names each room with what it may use, and each module beside the rooms."""
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text("utf-8")
    drawn = {
        name: set(re.findall(r"`(\w+)/`", used))
        for name, used in re.findall(r"^\| `(\w+)/` \|[^|]*\|([^|]*)\|$", text, re.MULTILINE)
    }
    assert drawn == ROOMS
    beside = {path.stem for path in (PACKAGE / "operations").glob("*.py")} - {"__init__"}
    assert {name for name in beside if f"`{name}`" not in text} == set()
    assert {path.name for path in (PACKAGE / "operations").iterdir() if path.is_dir()} - {"__pycache__"} == set(ROOMS)


@pytest.mark.parametrize("path", sorted((PACKAGE / "operations" / "witness").glob("*.py")), ids=name_of)
def test_judging_writes_nothing(path: Path) -> None:
    """What is found out is written down by one module of the witnesses alone."""
    writing = {"write_atomic", "keep_verdict", "note", "rename", "unlink", "touch", "mkdir", "save"}
    called = {
        node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
    }
    assert bool(called & writing) is (path.stem == "keep")


def test_no_two_modules_need_each_other() -> None:
    """Imports at the top of modules have no cycle, on no floor."""
    graph = {}
    for path in SOURCES:
        tree = ast.parse(path.read_text("utf-8"))
        top = {(node.lineno) for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))}
        graph[name_of(path)] = {target for target, line in imports(path) if line in top and target in MODULES}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module not in done:
            for below in sorted(graph[module] - {module}):
                visit(below, (*way, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def test_workers_need_the_standard_library_alone() -> None:
    """`import esis` in a worker loads no third-party package, and nothing of the command line."""
    loaded = in_python(
        "import sys, json; before = set(sys.modules); import esis; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    names = set(json.loads(loaded))
    assert "esis" in names
    strangers = (
        {name for name in names if name.split(".")[0] not in sys.stdlib_module_names | {"esis"}}
        if hasattr(sys, "stdlib_module_names")
        else names & {"click", "jinja2", "yaml", "rich"}
    )
    assert not strangers
    assert not {name for name in names if name.startswith(("esis.cli", "esis.operations", "esis.schedulers"))}


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if floor(name_of(path)) not in ("cli", "entrance")], ids=name_of
)
def test_nothing_below_the_roof_prints_exits_or_knows_click(path: Path) -> None:
    """What a command does can be called without the command line: it returns values and raises errors."""
    tree = ast.parse(path.read_text("utf-8"))
    for target, line in imports(path):
        assert target.split(".")[0] not in ("click", "rich"), f"{path}:{line}: imports {target}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in (
                "print",
                "input",
                "exit",
                "quit",
                "sys.exit",
                "os._exit",
                "sys.stdout.write",
                "sys.stderr.write",
                "os.abort",
            ), f"{path}:{node.lineno}: calls {called}"
        if isinstance(node, ast.Raise) and node.exc is not None:
            assert "SystemExit" not in ast.unparse(node.exc), f"{path}:{node.lineno}: raises SystemExit"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_there_is_one_door_for_subprocesses(path: Path) -> None:
    """esis.process alone starts programs; the local scheduler knows the type of a child, and calls nothing."""
    module = name_of(path)
    if module == "esis.process":
        return
    tree = ast.parse(path.read_text("utf-8"))
    known = {target for target, _ in imports(path)} & {"subprocess", "pty", "multiprocessing", "asyncio.subprocess"}
    assert known <= ({"subprocess"} if module == "esis.schedulers.local" else set())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert not re.match(r"subprocess\.|os\.(system|popen|fork|exec|spawn|posix_spawn)", called), (
                f"{path}:{node.lineno}: calls {called}"
            )


def test_no_shell_is_ever_asked() -> None:
    """shell=True stands nowhere."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            assert not (isinstance(node, ast.keyword) and node.arg == "shell"), f"{path}: shell="


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"]])
def test_help_and_version_are_cheap(arguments: list[str]) -> None:
    """`esis --help` and `--version` load no command and none of the larger packages (more in tests/bench)."""
    out = in_python(
        """
import json, os, sys
from esis.cli.main import run
sys.argv = ["esis", *sys.argv[1:]]
end = os._exit
def tell(code):
    print(json.dumps(sorted(sys.modules)), flush=True)
    end(code)
os._exit = tell
run()
""",
        *arguments,
    )
    shown, _, loaded = out.rstrip("\n").rpartition("\n")
    modules = set(json.loads(loaded))
    assert shown
    assert not {name for name in modules if name.split(".")[0] in ("jinja2", "yaml", "rich", "subprocess")}
    assert {name for name in modules if name.startswith("esis")} <= {
        "esis",
        "esis.cli",
        "esis.cli.main",
        "esis.cli.streams",
        "esis.errors",
        "esis.version",
    }


def test_every_module_imports_alone_without_warnings() -> None:
    """No module needs another one to have been imported before, and none warns (also not about its own syntax)."""
    out = in_python(
        """
import importlib, json, os, sys, traceback
# What is not of esis is imported once, here: it takes most of the time.
import click, concurrent.futures, dataclasses, datetime, hashlib, importlib.resources, platform, secrets, shlex, shutil
import socket, subprocess, tempfile, typing
failed = []
for module in sys.argv[1:]:
    assert not [name for name in sys.modules if name.startswith("esis")]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            importlib.import_module(module)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1] != 0:
        failed.append(module)
print(json.dumps(failed))
""",
        *[module for module in MODULES if module != "esis.__main__"],
    )
    assert json.loads(out) == []
    for path in SOURCES:  # what is compiled already no longer warns when it is imported
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compile(path.read_text("utf-8"), str(path), "exec")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_list_of_commands_tells_what_their_help_tells(name: str) -> None:
    """The line in `esis --help` is a short sentence, and says in the main the same as the command's own help."""
    module, function, summary = COMMANDS[name]
    command = getattr(importlib.import_module(module), function)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert re.fullmatch(r"[A-Z][^\n]{5,68}\.", summary), summary
    first = (command.help or "").strip().partition("\n\n")[0]
    words = [{word.rstrip("s") for word in re.findall(r"[a-z]{4,}", text.lower())} for text in (summary, first)]
    assert len(words[0] & words[1]) >= min(2, len(words[0])), (summary, first)


def test_every_command_has_a_module_of_its_own_family() -> None:
    """What stands in esis/cli and is a command is in the list, and the list holds nothing else."""
    found = set()
    for path in sorted((PACKAGE / "cli").glob("*.py")):
        if path.stem in ("__init__", "main"):
            continue
        module = importlib.import_module(f"esis.cli.{path.stem}")
        found |= {
            (module.__name__, name)
            for name, value in vars(module).items()
            if isinstance(value, click.Command) and name != "cli"
        }
    assert found == {(module, function) for module, function, _ in COMMANDS.values()}


def test_every_exit_code_is_documented() -> None:
    """`esis doc exit-codes` names each code with its number, and no other."""
    page = PACKAGE / "docs" / "exit-codes.md"
    if not page.exists():
        pytest.skip("the page is not written yet")
    rows = re.findall(r"^\|\s*(\d+)\s*\|\s*([A-Z_]+)\s*\|", page.read_text("utf-8"), re.MULTILINE)
    assert {(int(number), name) for number, name in rows} == {(code, name) for name, code in ExitCode.all().items()}
    assert len(rows) == len(ExitCode.all())


def test_modules_stay_small() -> None:
    """To be avoided, seen in this field: thousand-line modules."""
    sizes = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in SOURCES}
    assert {name: size for name, size in sizes.items() if size > 400} == {}


def test_no_module_keeps_mutable_state() -> None:
    """No list, dict or set is assigned at the top of a module, and nothing says `global`."""
    for path in SOURCES:
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            assert not isinstance(node, ast.Global), f"{path}:{node.lineno}: global"
        for node in tree.body:
            value = getattr(node, "value", None)
            if not isinstance(value, (ast.List, ast.Dict, ast.Set)):
                continue
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            constant = all(name == "__all__" or name.lstrip("_").isupper() for name in names)
            assert constant, f"{path}:{node.lineno}: {names}"
