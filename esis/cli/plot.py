"""`esis plot`."""

from __future__ import annotations

import sys

import click

from esis.cli.common import pick_run, pick_states, say, signals_as_interrupts, states_option, target_argument
from esis.cli.export import collect_here, destination, where_option


@click.command()
@target_argument
@click.option("-x", "x", required=True, metavar="NAME", help="The column along the x axis.")
@click.option("-y", "y", required=True, metavar="NAME", help="The column along the y axis.")
@click.option("--yerr", "error", metavar="NAME", help="The column with the errors of y.")
@click.option("--by", metavar="NAME", help="A line for each value of that column.")
@states_option
@where_option
@click.option("--logx", "log_x", is_flag=True, help="A logarithmic x axis.")
@click.option("--logy", "log_y", is_flag=True, help="A logarithmic y axis.")
@click.option("--title", metavar="TEXT", help="A title.")
@click.option("-o", "--output", metavar="FILE", help="Write a figure: .png, .svg or .pdf.  [default: show it here]")
def plot(
    target: str | None,
    x: str,
    y: str,
    error: str | None,
    by: str | None,
    states: tuple[str, ...],
    where: str | None,
    log_x: bool,
    log_y: bool,
    title: str | None,
    output: str | None,
) -> None:
    """Plot a column of a run's table against another one, with error bars.

    The columns are those of `esis export`. In the terminal, or as a figure in a file.
    """
    from esis.operations.table import plot as plotting
    from esis.operations.table.collect import Wanted

    form = plotting.figure_format(output) if output is not None else None
    look = plotting.Axes(x, y, by, title, log_x, log_y)
    columns = list(dict.fromkeys(name for name in (x, y, error, by) if name is not None))
    run = pick_run(target)
    with signals_as_interrupts():
        collected, _ = collect_here(run, Wanted(states=pick_states(states), where=where, columns=columns))
        with collected.frame as frame:
            series, left_out = plotting.series_of(frame, x, y, error, by)
        plotting.check_log(series, look)
        if left_out:
            say(
                f"{run.label}: left out {left_out} of {frame.count} tasks: a value is missing, not finite, or "
                f"too large to be drawn"
            )
        if output is not None and form is not None:
            with destination(output) as stream:
                plotting.save(series, look, form, stream)
            return
    width, height = _size()
    click.echo(plotting.show(series, look, width, height, colour=sys.stdout.isatty()))


def _size() -> tuple[int, int]:
    """Return columns and lines that fit the terminal; 80 and 24 in a pipe."""
    import shutil

    found = shutil.get_terminal_size((80, 25))
    return max(40, found.columns), max(12, min(found.lines - 1, found.columns // 2))
