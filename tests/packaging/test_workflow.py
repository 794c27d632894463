"""The hosted CI runs what anybody can run here, on each supported Python, with few rights and an end."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
PROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
OWN_SETTINGS = {"PYTHON"}  # variables of the Makefile that a call may set
ACTIONS = re.compile(r"actions/(checkout|setup-python)@v\d+")


def load(path: Path) -> dict[Any, Any]:
    loaded = yaml.safe_load(path.read_text("utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def jobs() -> list[Any]:
    return [
        pytest.param(job, id=f"{path.stem}-{name}") for path in WORKFLOWS for name, job in load(path)["jobs"].items()
    ]


def targets() -> set[str]:
    """Return the targets of the Makefile that are no files."""
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert phony is not None
    return set(phony.group(1).split())


@pytest.mark.parametrize("job", jobs())
def test_a_step_calls_a_target_or_a_script_of_this_repository(job: dict[str, Any]) -> None:
    """Nothing else: what CI needs is installed by ci/*, for everybody alike."""
    for step in job["steps"]:
        assert set(step) <= {"uses", "with", "run"}
        if "uses" in step:
            assert ACTIONS.fullmatch(step["uses"]), step["uses"]
            continue
        program, *rest = step["run"].split()
        if program == "make":
            settings = {word.partition("=")[0] for word in rest if "=" in word}
            assert settings <= OWN_SETTINGS
            assert {word for word in rest if "=" not in word} <= targets()
        else:
            assert os.access(ROOT / program, os.X_OK), program
            assert (ROOT / program).parent.name in ("ci", ".ci")
            assert rest == []


@pytest.mark.parametrize("job", jobs())
def test_a_job_ends_and_keeps_no_credentials(job: dict[str, Any]) -> None:
    assert 0 < job["timeout-minutes"] <= 180
    assert "permissions" not in job
    checkouts = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
    assert [step["with"] for step in checkouts] == [{"persist-credentials": False}]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_read_alone_and_replaces_its_like(path: Path) -> None:
    """It knows no secrets, and pull requests of strangers don't run with the rights of the repository."""
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert "github.ref" in workflow["concurrency"]["group"]
    assert "pull_request_target" not in workflow[True]  # YAML 1.1 reads `on` as true
    assert "secrets." not in path.read_text("utf-8")


def test_each_supported_python_is_tested() -> None:
    """Those of the classifiers, the first of which is the oldest that pip lets through; .ci/run is a job, too."""
    made = load(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    tested = made["unit"]["strategy"]["matrix"]["python"]
    assert tested == re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PROJECT)
    assert re.findall(r'^requires-python = ">=(.*)"$', PROJECT, re.MULTILINE) == tested[:1]
    assert [step["run"] for step in made["cluster"]["steps"] if "run" in step] == [".ci/run"]
