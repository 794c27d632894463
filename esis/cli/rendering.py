"""Turn results into text: plain and stable in a pipe, with colour, bars and tables on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from esis.cli.common import say
from esis.errors import printable
from esis.model.index_sets import format_ranges
from esis.operations.witness.status import RunStatus, TaskState

COLOURS = {
    TaskState.DONE: "green",
    TaskState.RUNNING: "cyan",
    TaskState.WAITING: "blue",
    TaskState.UNSUBMITTED: "white",
    TaskState.FAILED: "red",
    TaskState.LOST: "magenta",
    TaskState.UNKNOWN: "yellow",
}
_BAR = 40  # characters
_CELL = 200  # characters of a value in a table on a terminal


def show_status(status: RunStatus) -> None:
    """Print the run's path, then a line per state and reason: state, count, indices, reason."""
    click.echo(status.run.path)
    terminal = sys.stdout.isatty()
    if terminal and status.tasks:
        click.echo(f"{_bar(status)}  {_progress(status)}")
    for (state, said), tasks in status.by_reason().items():
        reason = printable(said)
        if terminal:
            word = click.style(f"{state.value:12}", fg=COLOURS[state])
            click.echo(f"{word} {len(tasks):7}  {format_ranges(tasks)}{'  ' + reason if reason else ''}")
        else:
            click.echo("\t".join([state.value, str(len(tasks)), format_ranges(tasks), reason]).rstrip("\t"))


def show_json(status: RunStatus) -> None:
    """Print a run's status as JSON."""
    from esis.cli.json_output import show_object

    left, elapsed = status.remaining(), status.elapsed(time.time())
    reasons: dict[TaskState, dict[str, Sequence[int]]] = {}
    for (state, reason), tasks in status.by_reason().items():
        if reason:
            reasons.setdefault(state, {})[reason] = tasks
    show_object(
        {
            "run": str(status.run.path),
            "complete": status.complete,
            "problem": status.problem,
            "accounting_problem": status.accounting_problem,
            "tasks": len(status.tasks),
            "active_jobs": list(status.active_jobs),
            "feeding_jobs": list(status.feeding),
            "elapsed_seconds": round(elapsed) if elapsed is not None else None,
            "remaining_seconds": round(left) if left is not None else None,
            "states": {
                state.value: {
                    "count": count,
                    "tasks": format_ranges(status.indices(state)),
                    "reasons": {
                        reason: format_ranges(tasks) for reason, tasks in sorted(reasons.get(state, {}).items())
                    },
                }
                for state, count in status.counts().items()
            },
        }
    )


def show_table(rows: Sequence[Mapping[str, Any]], to_json: bool = False, to_csv: bool = False) -> None:
    """Print rows as a table on a terminal, else as tab-separated lines with a header; or as CSV or JSON.

    Long values are cut in the table alone: all else is for programs.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if to_json:
        from esis.cli.json_output import show_object

        show_object({"rows": [dict(row) for row in rows]})
        return
    cells = [[_cell(row.get(name)) for name in columns] for row in rows]
    if to_csv:
        import csv

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(map(_valid, columns))
        writer.writerows(map(_valid, line) for line in cells)
    elif not sys.stdout.isatty():
        for line in [columns, *cells]:
            click.echo("\t".join(printable(cell) for cell in line))
    else:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in columns:
            table.add_column(Text(name))
        for line in cells:
            table.add_row(*(Text(printable(_cut(cell)), style=_style(cell)) for cell in line))
        Console().print(table)


def tell_problems(status: RunStatus) -> None:
    """Say which witnesses couldn't be asked, and how old the word of those is that were."""
    if status.problem is not None:
        last = status.last_word()
        age = f", the latest {max(0.0, time.time() - last):.0f} s old" if last else ""
        say(
            f"{status.run.label}: the queue could not be asked ({status.problem}); what is shown is from the tasks' "
            f"own records{age}"
        )
    if status.accounting_problem is not None:
        too = " either" if status.problem is not None else ""
        say(f"{status.run.label}: the accounting could not be asked{too} ({status.accounting_problem})")


def tell_feeding(status: RunStatus) -> None:
    """Say which job submits the tasks that are not submitted yet, or that none does any more."""
    run, held = status.run.label, [seen.job for seen in status.feeders if seen.job not in status.feeding]
    if status.feeding:
        say(f"{run}: job {', '.join(status.feeding)} submits the rest")
    elif not status.indices(TaskState.UNSUBMITTED):
        if status.held_feeders:
            idle = ", ".join(status.held_feeders)
            say(f"{run}: job {idle} was to submit the rest, and there is none; esis run takes it away")
    elif not status.evidence.fed or status.problem is not None:
        return
    elif held:
        say(f"{run}: job {', '.join(held)} would submit the rest, but it is held; scontrol release {held[0]}")
    else:
        say(f"{run}: no job submits the rest any more; esis run --feed goes on")


def _progress(status: RunStatus) -> str:
    from esis.schedulers.units import show_duration

    done = len(status.indices(TaskState.DONE))
    left, elapsed = status.remaining(), status.elapsed(time.time())
    return "".join(
        [
            f"{done}/{len(status.tasks)}",
            f" in {show_duration(elapsed)}" if elapsed is not None else "",
            f", about {show_duration(left)} left" if left is not None else "",
        ]
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return value
    from esis.cli.json_output import as_json

    return as_json(value, sort_keys=True)


def _cut(cell: str) -> str:
    return cell if len(cell) <= _CELL else cell[: _CELL - 1] + "…"


def _valid(cell: str) -> str:
    """Return text that UTF-8 can hold, as esis export writes it."""
    return cell.encode("utf-8", "backslashreplace").decode("utf-8")


def _style(cell: str) -> str:
    try:
        return COLOURS[TaskState(cell)]
    except ValueError:
        return ""


def _bar(status: RunStatus) -> str:
    total = len(status.tasks)
    parts = []
    drawn = seen = 0
    for state, count in status.counts().items():
        seen += count
        width = round(_BAR * seen / total) - drawn
        drawn += width
        parts.append(click.style("█" * width, fg=COLOURS[state]))
    return "".join(parts)
