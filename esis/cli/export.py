"""`esis export`."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from esis.cli.common import (
    pick_run,
    pick_states,
    pick_tasks,
    say,
    signals_as_interrupts,
    states_option,
    status_of_run,
    target_argument,
    tasks_option,
)
from esis.cli.streams import Failing
from esis.errors import BadInput, ExitCode

if TYPE_CHECKING:
    from esis.model.workdir import RunDir
    from esis.operations.table.collect import Collected, Wanted
    from esis.operations.witness.status import RunStatus

FORMATS = ("csv", "jsonl", "parquet")
where_option = click.option(
    "--where",
    metavar="CONDITION",
    help="Tasks whose parameters and results fulfil a condition, like 'T>2 and energy<0'.",
)


@click.command()
@target_argument
@click.option("-o", "--output", metavar="FILE", help="Write to a file, which is replaced once all is written.")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), help="The format.  [default: by the ending of FILE, else csv]"
)
@tasks_option
@states_option
@where_option
@click.option("--columns", metavar="NAMES", help="These columns in this order, like T,energy,a.b.")
@click.option("--long", "as_long", is_flag=True, help="A row for each value: task, name, value.")
@click.option(
    "--requirements",
    "keys",
    multiple=True,
    metavar="[NAME:]KEY",
    help="Join the parameters of required runs that have the same value of a parameter KEY.",
)
@click.option("--strict", is_flag=True, help="Tasks without results are an error; nothing is written.")
def export(
    target: str | None,
    output: str | None,
    form: str | None,
    indices: str | None,
    states: tuple[str, ...],
    where: str | None,
    columns: str | None,
    as_long: bool,
    keys: tuple[str, ...],
    strict: bool,
) -> int:
    """Write the tasks of a run as one table: parameters, state and results, a row per task.

    CSV, JSON Lines or Parquet, to standard output or to a file.
    """
    from esis.operations.table.collect import Wanted
    from esis.operations.table.formats import format_of, writer_of
    from esis.operations.table.frame import Long
    from esis.operations.table.join import joins_of

    form = form or (format_of(output) if output is not None else FORMATS[0])
    if output is None and form == "parquet" and sys.stdout.isatty():
        raise BadInput("Parquet is nothing to look at on a terminal", "give a file with -o")
    write = writer_of(form)
    run = pick_run(target)
    request = Wanted(
        pick_tasks(indices),
        pick_states(states),
        where,
        pick_columns(columns),
        joins_of(run, keys) if keys else (),
        strict,
    )
    with signals_as_interrupts():
        collected, status = collect_here(run, request)
        with collected.frame as frame, destination(output) as stream:
            write(Long(frame) if as_long else frame, stream)
    if collected.without_results:
        say(f"{run.label}: no results of tasks {collected.without_results}")
    return int(
        ExitCode.UNANSWERED
        if status is not None and status.problem is not None and not status.complete
        else ExitCode.OK
    )


def pick_columns(text: str | None) -> Sequence[str] | None:
    """Return the names of --columns; None where it isn't given. Raises BadInput."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if "" in names or len(set(names)) < len(names):
        raise BadInput(f"--columns {text!r} holds an empty name, or one twice", "write it like T,energy,a.b")
    return names


def collect_here(run: RunDir, request: Wanted) -> tuple[Collected, RunStatus | None]:
    """Collect a run's tasks, asking Slurm only if the request needs it, with a bar if it is watched."""
    from esis.cli.rendering import tell_problems
    from esis.operations.table.collect import collect, find_out

    source = find_out(run, request, status_of_run)
    if source.status is not None:
        tell_problems(source.status)
    with _bar(len(source.indices)) as progress:
        return collect(source, request, progress), source.status


class _bar:  # noqa: N801  used as a function
    """Show how far it is, if somebody looks at stderr and it takes a while."""

    _SHOWN_FROM = 5000  # tasks; fewer are read before a bar could be seen

    def __init__(self, total: int) -> None:
        self._total = total

    def __enter__(self) -> _bar:
        self._progress = None
        if self._total >= self._SHOWN_FROM and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._progress = Progress(console=Console(stderr=True), transient=True)
            self._bar = self._progress.add_task("reading", total=self._total)
            self._progress.start()
        return self

    def __call__(self, done: int) -> None:
        if self._progress is not None:
            self._progress.update(self._bar, completed=done)

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()


@contextmanager
def destination(output: str | None) -> Iterator[BinaryIO]:
    """Give the stream to write to; a file appears, whole, at the end of the block, or not at all."""
    import os

    from esis.files import naming
    from esis.files import output as output_file

    if output is None or output == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    given = Path(output)
    own = _own_descriptor(output)
    if own is not None:
        with naming(given, others=True), io.BufferedWriter(Failing.on(own)) as stream:
            yield stream
        return
    if given.exists() and not given.is_file():
        with naming(given, others=True), given.open("wb") as stream:  # /dev/null; what /dev/stdout leads to has no name
            yield stream
        return
    path = Path(os.path.realpath(output))  # what a link points to is replaced, not the link
    with output_file(path) as descriptor, os.fdopen(descriptor, "wb", closefd=False) as stream:
        yield stream


def _own_descriptor(output: str) -> int | None:
    """Return which open file of this process a name like /dev/stdout leads to; None where it is another one.

    Its file, by its name, would be replaced by another one: what `>>` was to append to would be gone.
    """
    import os

    own = os.path.realpath("/proc/self/fd")
    place = Path(output)
    for _ in range(40):  # as many links as Linux follows
        if place.name.isdecimal() and os.path.realpath(place.parent) == own:
            return int(place.name)
        try:
            place = place.parent / place.readlink()
        except OSError:
            return None
    return None
