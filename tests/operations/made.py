"""Make runs on disk as a finished scan leaves them, without running one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from esis.model.parametersets import write_index
from esis.model.workdir import RunDir
from esis.records import stage, submissions
from esis.records.stage import Stage, State
from esis.records.submissions import Array, Job, Outcome, Submission

DONE = 1700000000  # when the first task started, seconds since 1970


def make_run(
    parent: Path,
    parameters: Sequence[Any],
    results: Mapping[int, Any],
    *,
    digest: str = "a" * 64,
    lines: bool = False,
    exit_codes: Mapping[int, int] | None = None,
    complete: bool = True,
    records: bool = True,
) -> RunDir:
    """Make a run with these parameter sets and results, in one form or the other."""
    run = RunDir.of(parent, digest)
    for directory in (run.path, *run.directories()):
        directory.mkdir(parents=True)
    if lines:
        run.parameters_lines.write_text("".join(json.dumps(item) + "\n" for item in parameters))
        write_index(run.parameters_lines)
        run.results_lines.write_text(
            "".join(json.dumps({"task": task, "results": results[task]}) + "\n" for task in sorted(results))
        )
    else:
        for task, item in enumerate(parameters):
            run.parameter_file(task).write_text(json.dumps(item))
        for task, item in results.items():
            run.result_file(task).write_text(json.dumps(item))
    stage.save(run, State(Stage.PREPARED, 0, len(parameters), 10))
    run.completed.write_text("1" if complete else "0")
    if records:
        for task in range(len(parameters)):
            code = (exit_codes or {}).get(task, 0)
            (run.tasks / f"{task}.0001.77.0.{DONE}.exit{code}.{DONE + task}").write_text(
                json.dumps({"host": f"node{task % 3}", "pid": 1, "job": "78"}) + "\n"
            )
        everything = f"0-{len(parameters) - 1}"
        submissions.save(
            run,
            Submission(
                number=1,
                scheduler="local",
                tasks=range(len(parameters)),
                arrays=(Array(everything, 0, len(parameters)),),
                script_digest="",
                created=float(DONE),
                owner="",
                records=True,
                outcome=Outcome.SUBMITTED,
                jobs=(Job("77"),),
                answered=float(DONE),
            ),
        )
    return run
