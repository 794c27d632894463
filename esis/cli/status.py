"""`esis status`."""

from __future__ import annotations

import sys
import time

import click

from esis.cli.common import (
    Number,
    is_indices,
    json_option,
    make_context,
    pick_run,
    pick_states,
    pick_tasks,
    say,
    states_option,
    status_of_run,
    target_argument,
    verify_option,
    where_option,
)
from esis.cli.streams import is_lost
from esis.errors import ExitCode

WATCH_SECONDS = 30.0


@click.command()
@target_argument
@click.option(
    "--tasks",
    "-t",
    "rows",
    is_flag=False,
    flag_value="",
    metavar="[INDICES]",
    help="One row per task, with its parameters; of these tasks, like 3,5-7.",
)
@click.option("--only", "indices", metavar="INDICES", help="The same as --tasks INDICES.")
@states_option
@where_option
@click.option("--group-by", metavar="NAME", help="Counts by the values of a parameter.")
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print the rows of --tasks or --group-by as CSV.")
@click.option("--watch", is_flag=True, help="Show it anew every 30 s until no task is active.")
@click.option(
    "--interval",
    type=Number(min=1),
    default=WATCH_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="Pause of --watch.",
)
@click.option("--check", is_flag=True, help="Let the exit code tell: complete, active, failed, unknown, incomplete.")
@verify_option
def status(
    target: str | None,
    rows: str | None,
    indices: str | None,
    states: tuple[str, ...],
    where: str | None,
    group_by: str | None,
    as_json: bool,
    as_csv: bool,
    watch: bool,
    interval: float,
    check: bool,
    verify: bool,
) -> int:
    """Tell the states of the tasks of a run: of a workflow's present run, or of the run in a directory.

    Each line holds a state, how many tasks are in it, which ones, and why.
    """
    from esis.cli import rendering
    from esis.cli.rendering import tell_feeding, tell_problems
    from esis.operations.witness.status import TaskState
    from esis.operations.witness.target import evidence_of

    if rows and target is None and not is_indices(rows):
        rows, target = "", rows  # the run behind --tasks without indices
    if rows and indices:
        raise click.UsageError("give --tasks INDICES or --only INDICES, not both")
    indices = indices or rows
    run = pick_run(target, verify)
    while True:
        evidence = evidence_of(run, later=True)
        found = status_of_run(evidence)
        detailed = rows is not None or as_csv or group_by is not None
        table = None
        if detailed or states or where or indices:
            from esis.operations.table.rows import choose_rows, group_rows  # more to load than the counts need

            table = choose_rows(found, evidence, pick_tasks(indices or None), pick_states(states), where)
        if watch and sys.stdout.isatty():
            click.clear()
        if group_by is not None and table is not None:
            rendering.show_table(group_rows(table, group_by), as_json, as_csv)
        elif table is not None:
            rendering.show_table([row.cells() for row in table], as_json, as_csv)
        elif as_json:
            rendering.show_json(found)
        else:
            rendering.show_status(found)
            if not found.tasks:
                say(f"{run.label}: {found.summary()}")
        tell_problems(found)
        tell_feeding(found)
        sys.stdout.flush()
        active = found.feeding or found.indices(TaskState.RUNNING, TaskState.WAITING, TaskState.UNKNOWN)
        if not watch or is_lost() or not active:
            break
        time.sleep(interval)
    if found.complete and not evidence.marked_complete:
        from esis.operations.compact import fold_if_many

        fold_if_many(run, make_context())
    if check:
        return found.exit_code
    return ExitCode.UNANSWERED if found.problem is not None and not found.complete else ExitCode.OK
