"""`esis list`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from esis.cli.common import json_option, say, verify_option
from esis.errors import ExitCode

if TYPE_CHECKING:
    from esis.operations.runs import Listed


@click.command("list")
@click.argument("path", default=".")
@click.option("-r", "--recursive", is_flag=True, help="Also those in the directories below it.")
@click.option("--by-time", is_flag=True, help="In the order of their first submission; in a pipe with its time.")
@click.option("--by-jobid", is_flag=True, help="In the order of their latest job id; in a pipe with that id.")
@click.option("--grep", is_flag=True, help="Does nothing; scripts written for 0.0.4 give it.")
@json_option
@verify_option
def list_command(
    path: str, recursive: bool, by_time: bool, by_jobid: bool, grep: bool, as_json: bool, verify: bool
) -> int:
    """List the runs in the directory PATH, the current one of each workflow marked.

    In a pipe it is one path a line; with --by-time and --by-jobid behind time or id and a tab (`-` where there is
    none). What can't be read of a damaged run is told on stderr, with exit code 1; the others are listed all the same.
    """
    from esis.operations import runs

    damaged: list[str] = []
    brief = not (by_time or by_jobid or as_json or sys.stdout.isatty())
    found = runs.list_runs(Path(path), verify, recursive, damaged.append, brief)
    if by_time:
        found = runs.by_time(found)
    if by_jobid:
        found = runs.by_job(found)
    if as_json:
        from esis.cli.json_output import show_object

        show_object(
            {
                "runs": [
                    {
                        "path": str(item.run.path),
                        "hash": item.run.digest,
                        "started": item.started,
                        "job": item.job,
                        "tasks": item.tasks,
                        "complete": item.complete,
                        "current": item.current,
                    }
                    for item in found
                ],
                "damaged": damaged,
            }
        )
    elif sys.stdout.isatty():
        _show(found)
    else:
        for item in found:
            time = _time(item.started) if by_time else ""
            click.echo(
                "".join([f"{item.job or '-'}\t" if by_jobid else f"{time}\t" if by_time else "", str(item.run.path)])
            )
    for problem in damaged:
        say(problem)
    return ExitCode.FAILURE if damaged else ExitCode.OK


def _time(started: float | None) -> str:
    """Return a time as wf_starttime holds it."""
    from esis.records.start_time import format_start_time

    return format_start_time(started) if started is not None else "-"


def _show(found: Sequence[Listed]) -> None:
    import os
    from datetime import datetime

    for item in found:
        when = datetime.fromtimestamp(item.started).strftime("%Y-%m-%d %H:%M") if item.started is not None else "-"
        mark = click.style("*", fg="green", bold=True) if item.current else " "
        state = click.style("complete", fg="green") if item.complete else "        "
        counts = f"job {item.job or '-':>8}  {item.tasks:6} tasks  {state}"
        click.echo(f"{mark} {when:16}  {counts}  {os.path.relpath(item.run.path)}")
