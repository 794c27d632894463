"""Turn results into text: plain and stable in a pipe, with colour and bars on a terminal."""

from __future__ import annotations

import sys

import click

from esis.model.parameters import format_ranges
from esis.operations.status import RunStatus, TaskState

_COLOURS = {
    TaskState.DONE: "green", TaskState.RUNNING: "cyan", TaskState.WAITING: "blue", TaskState.UNSUBMITTED: "white",
    TaskState.FAILED: "red", TaskState.LOST: "magenta", TaskState.UNKNOWN: "yellow",
}
_BAR = 40  # characters


def show_status(status: RunStatus) -> None:
    """Print the run's path, then a line per state and reason: state, count, indices, reason."""
    click.echo(status.run.path)
    terminal = sys.stdout.isatty()
    if terminal and status.tasks:
        click.echo(_bar(status))
    rows: dict[tuple[TaskState, str], list[int]] = {}
    for task, item in sorted(status.tasks.items()):
        rows.setdefault((item.state, item.reason), []).append(task)
    order = list(TaskState)
    for (state, reason), tasks in sorted(rows.items(), key=lambda row: (order.index(row[0][0]), row[0][1])):
        fields = [state.value, str(len(tasks)), format_ranges(tasks), reason]
        if terminal:
            word = click.style(f"{state.value:12}", fg=_COLOURS[state])
            click.echo(f"{word} {len(tasks):7}  {format_ranges(tasks)}{'  ' + reason if reason else ''}")
        else:
            click.echo("\t".join(fields).rstrip("\t"))


def _bar(status: RunStatus) -> str:
    counts = status.counts()
    total = len(status.tasks)
    parts = []
    drawn = 0
    seen = 0
    for state, count in counts.items():
        seen += count
        width = round(_BAR * seen / total) - drawn
        drawn += width
        parts.append(click.style("█" * width, fg=_COLOURS[state]))
    return "".join(parts)
