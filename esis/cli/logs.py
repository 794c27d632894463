"""`esis log` and `esis errors`."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import click

from esis.cli.common import json_option, pick_run, say, status_of_run, target_argument
from esis.cli.streams import is_lost
from esis.errors import BadInput, printable

if TYPE_CHECKING:
    from esis.operations.logs.of_tasks import Group


@click.command()
@click.argument("task", type=click.IntRange(min=0))
@target_argument
@click.option("-f", "--follow", is_flag=True, help="Go on as it grows, until the task has ended.")
@click.option("--grep", metavar="RE", help="Only lines that match a regular expression.")
@click.option("--path", "only_path", is_flag=True, help="Print the path of the log alone.")
def log(task: int, target: str | None, follow: bool, grep: str | None, only_path: bool) -> None:
    """Show the log of a task's latest attempt."""
    from esis.model.index_sets import format_ranges
    from esis.operations.compact import read_log
    from esis.operations.logs import of_tasks
    from esis.operations.witness.target import evidence_of

    run = pick_run(target)
    evidence = evidence_of(run)
    if task not in evidence.indices:
        raise BadInput(f"{run.label} has no task {task}", f"its tasks are {format_ranges(evidence.indices)}")
    path = of_tasks.log_of(run, evidence, task)
    if only_path:
        click.echo(path)
        return
    if str(path).startswith("/dev/"):
        raise BadInput(
            f"{run.label}: its template sends the logs to {path}, so nothing is kept of task {task}",
            "for logs, leave -o (--output) out of the #SBATCH lines, or name a file there: esis doc templates",
        )
    folded = None if path.exists() else read_log(run, path)
    if folded is None and not path.exists() and not follow:
        earlier = f"; earlier attempts left theirs in {path.parent}" if task in evidence.records else ""
        raise BadInput(f"{path}: there is no such log (yet)", f"esis status tells what became of the task{earlier}")
    try:
        pattern = re.compile(grep.encode()) if grep is not None else None
    except re.error as error:
        raise BadInput(f"{grep!r} is no regular expression: {error}") from None
    going = (lambda: not of_tasks.task_ended(run, task)) if follow else (lambda: False)
    chunks = folded if folded is not None else of_tasks.follow(path, going)
    rest = b""
    for data in chunks:
        if pattern is None:
            sys.stdout.buffer.write(data)
        else:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if pattern.search(line):
                    sys.stdout.buffer.write(line + b"\n")
        sys.stdout.flush()
        if is_lost():
            return
    if pattern is not None and rest and pattern.search(rest):
        sys.stdout.buffer.write(rest + b"\n")


@click.command()
@target_argument
@json_option
def errors(target: str | None, as_json: bool) -> None:
    """Group the failed tasks by state, reason and the last words of their logs, with one log each."""
    from esis.cli.rendering import tell_problems
    from esis.model.index_sets import format_ranges
    from esis.operations.witness.status import TaskState
    from esis.operations.witness.target import evidence_of

    run = pick_run(target)
    evidence = evidence_of(run)
    found = status_of_run(evidence)
    tell_problems(found)
    groups: list[Group] = []
    if found.indices(TaskState.FAILED, TaskState.LOST):
        from esis.operations.logs.of_tasks import group_failures

        groups = group_failures(found, evidence)
    if as_json:
        from esis.cli.json_output import show_object

        show_object(
            {
                "run": str(run.path),
                "groups": [
                    {
                        "state": group.state.value,
                        "reason": group.reason,
                        "line": group.line,
                        "count": len(group.tasks),
                        "tasks": format_ranges(group.tasks),
                        "example": str(group.example) if group.example else None,
                    }
                    for group in groups
                ],
            }
        )
        return
    for group in groups:
        head = click.style(f"{len(group.tasks)} {group.state.value}", fg="red", bold=True)
        click.echo(f"{head}  {format_ranges(group.tasks)}  {printable(group.reason)}")
        click.echo(f"    {printable(group.line) or '(nothing in the log)'}")
        hint = (
            f"(no log: there is no directory {group.missing}; let the setup script make it)"
            if group.missing
            else "(no log)"
        )
        click.echo(f"    {group.example or hint}")
    if not groups:
        say(f"{run.label}: no task failed: {found.summary()}")
