"""Runs on disk as ESIS 0.0.4 leaves them, made by hand from what is known of them."""

from __future__ import annotations

import shutil
from pathlib import Path

from esis.model.requirements import resolve
from esis.model.workdir import RunDir
from tests.contract.site import FakeSite, Workflow

SCRIPT = """#!/bin/bash
#SBATCH --array=0-{last}
#SBATCH --time=5
srun ../worker.sh
"""
STARTED = "03.02.2022-11:12:13"


def old_run(flow: Workflow, tasks: int = 2, *, status: bool = True, started: str = STARTED) -> RunDir:
    """Make the directory of 0.0.4's run of a workflow: no state.json, no template, no completed.state, no job yet."""
    node = resolve(flow.directory / "wf.esis.json")
    run = node.run
    for directory in (run.path, run.parameters, run.cwd, run.includes, run.private):
        directory.mkdir()
    for name in ("setup.sh", "gen.py", "worker.sh"):
        shutil.copy(flow.directory / name, run.path / name)
    run.script.write_text(SCRIPT.format(last=tasks - 1))
    for task in range(tasks):
        run.parameter_file(task).write_text(f'{{"n": {task}}}')
    if status:
        run.wf_status.write_text(node.status_text)
    run.start_time.write_text(started)
    return run


def submitted(site: FakeSite, run: RunDir) -> str:
    """Submit it as 0.0.4 does, and return the job's id."""
    job = site.run(["sbatch", "--parsable", "../sbatch.sh"], run.cwd).ok().stdout.strip()
    run.job_ids.write_text(f"{job}\n")
    return job


def listing(run: RunDir) -> dict[str, bytes]:
    """Return all that is in a run."""
    return {
        str(path.relative_to(run.path)): path.read_bytes()
        for path in sorted(Path(run.path).rglob("*"))
        if path.is_file()
    }
