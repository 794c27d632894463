"""`esis status`."""

from __future__ import annotations

import click

from esis.cli.common import find_workflow, json_option, say


@click.command()
@click.argument("target", required=False, metavar="[WORKFLOW FILE | WRKDIR]")
@json_option
def status(target: str | None, as_json: bool) -> None:
    """Count the tasks of a run by state: of a workflow's present run, or of the run in a directory.

    Each line holds a state, how many tasks are in it, which ones, and why.
    """
    import json
    from pathlib import Path

    from esis.cli.rendering import show_status
    from esis.errors import BadInput
    from esis.model.parameters import format_ranges
    from esis.model.workdir import RunDir, is_run_name
    from esis.operations.define import node_of
    from esis.operations.status import gather, statuses
    from esis.schedulers.slurm import Slurm

    if target is not None and is_run_name(Path(target).resolve().name):
        run = RunDir(Path(target).resolve())
    else:
        run = node_of(find_workflow(target)).run
    found = gather(run)
    if found is None or not found.built:
        what = "its build was interrupted" if found is not None else "there is no such run"
        raise BadInput(f"{run.path}: {what}", "esis run builds it")
    result = statuses([found], Slurm())[0]
    if result is None:
        raise BadInput(f"{run.path}: there is no such run")
    if as_json:
        click.echo(json.dumps({
            "schema": 1, "run": str(run.path), "complete": result.complete, "problem": result.problem,
            "tasks": len(result.tasks),
            "states": {state.value: {"count": count, "tasks": format_ranges(result.indices(state))}
                       for state, count in result.counts().items()},
        }, indent=2))
    else:
        show_status(result)
    if result.problem is not None:
        say(f"the queue could not be asked: {result.problem}; what is shown comes from the tasks' own records")
