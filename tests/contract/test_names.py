"""Hostile names of files and directories: quoted right, or refused at setup with a reason (F39)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contract.site import SETUP, TEMPLATE, Site, Workflow, generator

NAMES = [
    "two words",
    "it's",
    'say "hi"',
    "semi;colon",
    "$(touch canary)",
    "`touch canary`",
    "$HOME",
    "-n",
    "--help",
    "grüße",
    "日本",
    "a&b|c>d",
    "100%A",
    "back\\slash",
    "*",
    "#hash",
    "WORKERSCRIPT",
    "tab\there",
    "(x)",
    "~",
]
WORKER = """#!/bin/sh
cat "../parameters/parameters.$SLURM_ARRAY_TASK_ID.json" >"seen.$SLURM_ARRAY_TASK_ID"
"""


def arrange(site: Site, directory: str, setup: str, gen: str, template: str, worker: str, include: str) -> Workflow:
    """Write a workflow whose files have these names."""
    site.run(["mkdir", "-p", "--", f"./{directory}"], site.home).ok()
    flow = Workflow(site, site.home / directory)
    flow.write(setup, SETUP)
    flow.write(gen, generator(2, f"assert open({'../includes/' + include!r}).read() == 'included'"))
    flow.write(template, TEMPLATE)
    flow.write(worker, WORKER)
    flow.write(include, "included", executable=False)
    return flow


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_work_or_are_refused_at_setup(site: Site, name: str) -> None:
    """A name for every file and the directory: the run works, and no canary is ever made."""
    flow = arrange(
        site, f"{name} dir", f"{name}.setup", f"{name}.gen", f"{name}.sbatch", f"{name}.worker", f"{name}.inc"
    )
    flow.esis("setup", "--", f"{name}.setup", f"{name}.gen", f"{name}.sbatch", f"{name}.worker", f"{name}.inc").ok()
    flow.esis("run").ok()
    site.settle()
    assert flow.states() == {"done": 2}
    run = flow.only_run()
    assert json.loads((run / "cwd/seen.1").read_text()) == {"n": 1, "square": 1}
    assert not list(site.home.rglob("canary"))


@pytest.mark.parametrize("name", ["two words", "$(touch canary)", "-n", 'it\'s "x"'])
def test_hostile_names_work_on_this_machine_and_in_chains(site: Site, name: str) -> None:
    """The same with --local, as a requirement, and for the workflow file itself."""
    flow = arrange(
        site, f"{name} dir", f"{name}.setup", f"{name}.gen", f"{name}.sbatch", f"{name}.worker", f"{name}.inc"
    )
    file = f"./{name}.json"
    flow.esis(
        "setup", "-o", file, "--", f"{name}.setup", f"{name}.gen", f"{name}.sbatch", f"{name}.worker", f"{name}.inc"
    ).ok()
    after = arrange(site, f"{name} after", "s", "g", "t", "w", "i")
    after.esis("setup", "s", "g", "t", "w", "i").ok()
    after.esis("require", f"../{name} dir/{name}.json", name if not name.startswith("-") else "minus").ok()
    after.esis("dependency", "--local").ok()
    assert after.states() == {"done": 2}
    assert not list(site.home.rglob("canary"))


@pytest.mark.parametrize("name", ["new\nline", "carriage\rreturn"])
def test_a_newline_in_a_name_is_refused_at_setup(site: Site, name: str) -> None:
    """No path of a workflow may hold one; nothing is written."""
    flow = arrange(site, "plain", "s", "g", "t", name, "i")
    refused = flow.esis("setup", "s", "g", "t", name, "i")
    assert refused.code == 2
    assert "newline" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not (flow.directory / "wf.esis.json").exists()


def test_a_name_of_255_bytes_works(site: Site) -> None:
    """The longest name that file systems take."""
    name = "w" * 255
    flow = arrange(site, "long", "s", "g", "t", name, "i")
    flow.esis("setup", "s", "g", "t", name, "i").ok()
    flow.esis("run").ok()
    site.settle()
    assert flow.states() == {"done": 2}


def test_a_name_that_is_no_utf8_is_refused_at_setup(tmp_path: Path) -> None:
    """A workflow file is UTF-8, so it can't hold such a path."""
    import os
    import subprocess

    from tests.contract.site import BIN

    worker = os.fsencode(tmp_path) + b"/w\xff"
    with open(worker, "w") as stream:
        stream.write(WORKER)
    for name, text in (("s", SETUP), ("g", generator(1)), ("t", TEMPLATE)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [os.fsencode(BIN / "esis"), b"setup", b"s", b"g", b"t", b"w\xff"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert b"UTF-8" in done.stderr
    assert not (tmp_path / "wf.esis.json").exists()
