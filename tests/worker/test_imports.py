"""What `import esis` costs a worker, and what it needs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import esis

PACKAGE = Path(esis.__file__).parent
BARE = [sys.executable, "-I", "-S", "-c"]
ALLOWED = re.compile(
    r"esis(\.(errors|files|hook|process|processes|checkpoint(\.\w+)?|model|model\.workdir|worker(\.\w+)?))?\Z"
)
# What the whole of the interface is used for, in a process of its own.
USE = """
import sys
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
import esis
import os, pathlib, tempfile, json
place = pathlib.Path(tempfile.mkdtemp())
task = esis.task(0, place, parameters={"a": 1})
task.seed, task.stream("x"), task.attempt, task.parameters
task.export(x=1); task.export_array("y", [1.0])
with task.checkpoints().save(step=1) as directory:
    (directory / "state").write_text("s")
assert task.checkpoints().latest.step == 1
facility = esis.checkpoint.checkpoint_facility(1, overwrite_path=place)
facility.create_checkpoint("c").set_OK()
facility.create_iterative_checkpoint("i").set_iteration(1)
facility.set_run_OK()
with esis.stopping() as stop:
    assert not stop
esis.should_stop()
os.environ.update(SLURM_JOB_ID="1", PATH="/nowhere")
try:
    esis.requeue()
except esis.Requeued as end:
    assert end.how == "nothing"
import shutil
shutil.rmtree(place)
print(json.dumps(sorted(name for name in set(sys.modules) - before)))
"""


def modules(*argv: str) -> list[str]:
    done = subprocess.run([*BARE, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = json.loads(done.stdout)
    assert isinstance(names, list)
    return names


def listed_files() -> list[str]:
    """Return the files that `esis doc workers` says are enough."""
    text = (PACKAGE / "docs" / "workers.md").read_text("utf-8")
    found = re.search(r"^    tar -C .*? -c((?: \\\n +|[^\n])*) \| tar -x -C (\S+)$", text, re.MULTILINE)
    assert found is not None
    return [word for word in found.group(1).replace("\\\n", " ").split() if word.startswith("esis/")]


def test_the_whole_interface_needs_the_standard_library_alone() -> None:
    """Nothing else can even be imported here: -S leaves out site-packages."""
    names = modules(USE, str(PACKAGE.parent))
    assert [name for name in names if name.startswith("esis") and not ALLOWED.match(name)] == []
    if sys.version_info >= (3, 10):
        assert {name.split(".")[0] for name in names} - {"esis"} <= sys.stdlib_module_names
    # Every public name was imported in some way.
    assert {name for name in names if name.startswith("esis.worker.")} == {
        f"esis.worker.{path.stem}" for path in (PACKAGE / "worker").glob("*.py") if path.stem != "__init__"
    } - {"esis.worker.parameters"}


def test_a_copy_of_its_files_is_enough(tmp_path: Path) -> None:
    """The files that `esis doc workers` lists, in an otherwise empty directory, and a Python without site-packages."""
    for name in listed_files():
        source, target = PACKAGE.parent / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    names = modules(USE, str(tmp_path))
    assert "esis.worker.task" in names
    (tmp_path / "run" / "parameters").mkdir(parents=True)
    (tmp_path / "run" / "parameters" / "parameters.0.json").write_text('{"beta": 1}')
    shown = subprocess.run(
        [
            *BARE,
            "import sys; sys.path.insert(0, sys.argv[1]); import esis; "
            "print(esis.task(0, sys.argv[2]).parameters, esis.__file__)",
            str(tmp_path),
            str(tmp_path / "run"),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown == f"{{'beta': 1}} {tmp_path}/esis/__init__.py\n"


def test_importing_esis_alone_imports_next_to_nothing() -> None:
    code = "import sys, json; sys.path.insert(0, sys.argv[1]); b = set(sys.modules); import esis; n = set(sys.modules)"
    names = modules(f"{code}; print(json.dumps(sorted(n - b)))", str(PACKAGE.parent))
    assert [name for name in names if name not in ("json", "__future__")] == ["esis"]


def test_a_checkpoint_that_is_only_imported_leaves_out_what_takes_long() -> None:
    """Each takes a good part of Python's own start, and files on a network; with the first use they may come."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import esis.checkpoint; names = sorted(sys.modules)"
    names = modules(f"{code}; import json; print(json.dumps(names))", str(PACKAGE.parent))
    assert "esis.checkpoint.facility" in names
    heavy = {"re", "json", "pathlib", "enum", "typing", "dataclasses", "hashlib", "shutil", "subprocess", "urllib"}
    assert not heavy.intersection(names)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = esis.nothing
    for name in esis.__all__:
        assert getattr(esis, name) is not None


BASE = {"esis", "esis.errors", "esis.hook", "esis.model", "esis.model.workdir", "esis.worker", "esis.worker.task"}
FILES = {
    "esis.files",
    "esis.processes",
    *(f"esis.worker.{name}" for name in ("attempts", "checkpoints", "durable", "objects")),
}


@pytest.mark.parametrize(
    ("code", "own"),
    [
        ("esis.task", BASE),
        ("esis.task(0, '/tmp', parameters={}).seed", BASE | {"esis.worker.seeds"}),
        (
            "esis.task(0, '/tmp', parameters={}).checkpoints()",
            BASE | FILES - {"esis.processes", "esis.worker.attempts"},
        ),
        (
            "esis.checkpoint.checkpoint_facility(1, overwrite_path='/tmp').has_checkpoint('a')",
            BASE
            | FILES
            | {"esis.checkpoint"}
            | {
                f"esis.checkpoint.{name}"
                for name in ("checkpoint", "disk", "endings", "facility", "opened", "restore", "writers")
            },
        ),
    ],
)
def test_the_first_use_imports_what_it_needs(code: str, own: set[str]) -> None:
    """What each costs in time stands in `make bench`: nothing here depends on the machine."""
    before = (
        "import sys, json, os, pathlib, contextlib, hashlib, importlib; sys.path.insert(0, sys.argv[1]); "
        "b = set(sys.modules)"
    )
    names = modules(
        f"{before}; import esis; {code}; print(json.dumps(sorted(set(sys.modules) - b)))", str(PACKAGE.parent)
    )
    assert set(names) - own <= {"__future__", "atexit", "collections.abc", "time"}
    assert own <= set(names)
