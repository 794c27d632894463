"""All path names inside a run's directory are known to one module, and are those of the design."""

from __future__ import annotations

import ast
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import esis
from esis.model.workdir import RunDir, is_run_name

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy

DIGEST = "0123456789abcdef" * 4
LAYOUT = {
    "readme": "README",
    "script": "sbatch.sh",
    "includes": "includes",
    "parameters": "parameters",
    "results": "results",
    "cwd": "cwd",
    "checkpoints": "__checkpoints__",
    "private": "__esis__",
    "wf_status": "__esis__/wf_status",
    "workflow_definition": "__esis__/workflow_definition.json",
    "state": "__esis__/state.json",
    "provenance": "__esis__/provenance.json",
    "generator_log": "__esis__/generator.log",
    "setup_log": "__esis__/setup.log",
    "submissions": "__esis__/submissions",
    "tasks": "__esis__/tasks",
    "job_ids": "__esis__/jobid.tx",
    "start_time": "__esis__/wf_starttime",
    "completed": "__esis__/completed.state",
}


def test_the_layout_is_a_public_contract() -> None:
    """Every name of the design's drawing is where the drawing has it."""
    run = RunDir.of(Path("/x"), DIGEST)
    assert run.path == Path(f"/x/wrkdir.{DIGEST}")
    assert {name: str(getattr(run, name).relative_to(run.path)) for name in LAYOUT} == LAYOUT
    assert run.submission(1) == run.submissions / "0001.json"
    assert run.submission(12345) == run.submissions / "12345.json"
    assert run.claim(1) == run.submissions / "0001.claim"
    assert run.parameter_file(12) == run.parameters / "parameters.12.json"


def test_directories_come_parents_first() -> None:
    """They can be made in the order given."""
    run = RunDir.of(Path("/x"), DIGEST)
    made = {run.path}
    for directory in run.directories():
        assert directory.parent in made
        made.add(directory)


def test_no_two_names_meet() -> None:
    """No two parts of a run share a path."""
    run = RunDir.of(Path("/x"), DIGEST)
    names = [name for name, value in vars(RunDir).items() if isinstance(value, property)]
    paths = [path for path in (getattr(run, name) for name in names) if isinstance(path, Path)]
    assert len(paths) == len(set(paths)) >= len(LAYOUT)


def test_digest_and_label_come_from_the_name() -> None:
    """The name gives the hash back, and a label whose digits ESIS takes for a hash."""
    run = RunDir.of(Path("/x"), DIGEST)
    assert (run.digest, run.label) == (DIGEST, "wrkdir.0123456789ab")


@RELAXED
@given(st.text(alphabet="0123456789abcdefABCDEFg.\n-", max_size=70))
def test_only_whole_lower_case_hashes_name_a_run(text: str) -> None:
    """`wrkdir.` and exactly 64 lower-case hex digits; nothing shorter, longer or with a newline at the end."""
    expected = len(text) == 64 and all(character in "0123456789abcdef" for character in text)
    assert is_run_name(f"wrkdir.{text}") is expected
    assert not is_run_name(text)


def test_edges_of_run_names() -> None:
    """A newline at the end, another prefix or upper case make no run."""
    assert is_run_name(f"wrkdir.{DIGEST}")
    for name in (f"wrkdir.{DIGEST}\n", f"xwrkdir.{DIGEST}", f"wrkdir.{DIGEST.upper()}", f"wrkdir.{DIGEST}0", "wrkdir."):
        assert not is_run_name(name)


def test_no_other_module_joins_a_path_of_the_layout() -> None:
    """A name of the layout after a `/` operator stands in workdir.py alone."""
    known = {part for path in LAYOUT.values() for part in path.split("/")}
    found = []
    for source in sorted(Path(esis.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            if (
                isinstance(node, ast.BinOp)
                and isinstance(node.op, ast.Div)
                and isinstance(node.right, ast.Constant)
                and node.right.value in known
            ):
                found.append(source.name)
    assert set(found) == {"workdir.py"}
