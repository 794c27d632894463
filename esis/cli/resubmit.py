"""`esis resubmit`."""

from __future__ import annotations

import click

from esis.cli.common import (
    feed_option,
    from_one,
    jobs_option,
    local_option,
    make_context,
    max_parallel_option,
    pick_run,
    pick_states,
    pick_tasks,
    records_option,
    say,
    signals_as_interrupts,
    states_option,
    take_over_option,
    tasks_option,
    where_option,
)

BY_TIME = "auto"
_DIGITS = 10  # of 2^31


class _KeepsDashes(click.Command):
    """Let the command see where `--` stood, behind which no word is a target."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Double it, for click takes one away."""
        if "--" in args:
            args = [*args]
            args.insert(args.index("--"), "--")
        return super().parse_args(ctx, args)


@click.command(cls=_KeepsDashes)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[WORKFLOW FILE | WRKDIR] [-- SBATCH OPTIONS]")
@click.option("--failed", is_flag=True, help="The failed tasks.")
@click.option("--lost", is_flag=True, help="The lost tasks.")
@click.option("--unsubmitted", is_flag=True, help="The tasks that were never submitted.")
@click.option("--resumable", is_flag=True, help="Only tasks that saved their state and have more to do.")
@states_option
@tasks_option
@where_option
@click.option("--max-attempts", type=from_one, metavar="N", help="Leave out tasks with N attempts.")
@click.option(
    "--scale-mem",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    help="Request X times the memory of their last submission.",
)
@click.option(
    "--scale-time",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    help="Request X times the time limit of their last submission.",
)
@click.option(
    "--tasks-per-job",
    metavar="K",
    help="Let each element of the array work through K tasks; auto: as many "
    "as fit into the time limit, by the times that tasks took.",
)
@feed_option
@max_parallel_option
@local_option
@jobs_option
@records_option
@take_over_option
def resubmit(
    arguments: tuple[str, ...],
    failed: bool,
    lost: bool,
    unsubmitted: bool,
    resumable: bool,
    states: tuple[str, ...],
    indices: str | None,
    where: str | None,
    max_attempts: int | None,
    scale_mem: float | None,
    scale_time: float | None,
    tasks_per_job: str | None,
    feed: bool,
    max_parallel: int | None,
    local: bool,
    jobs: int | None,
    no_records: bool,
    take_over: bool,
) -> None:
    """Submit tasks of a run again: the same indices and parameters, without running the setup script.

    By default everything that is neither done nor active. Active tasks are refused. Options for sbatch come behind
    `--` and outrank the template: esis resubmit -- --time=2-0 --mem=64G
    """
    from esis.cli.progress import pick_scheduler, say_submitted
    from esis.operations import resubmit as operations
    from esis.operations.run import raise_failed
    from esis.operations.witness.status import TaskState

    target, options = split_arguments(arguments)
    flags = {"failed": failed, "lost": lost, "unsubmitted": unsubmitted}
    wanted = pick_states([*states, *(name for name, given in flags.items() if given)])
    selection = operations.Selection(wanted, pick_tasks(indices), where, max_attempts, resumable)
    wishes = operations.Wishes(
        options, scale_mem, scale_time, max_parallel, pick_per_job(tasks_per_job), tasks_per_job == BY_TIME
    )
    run = pick_run(target)
    if feed and wanted != (TaskState.UNSUBMITTED,):
        raise click.UsageError("--feed goes with --unsubmitted alone: what failed again would be fed for ever")
    context = make_context(take_over=take_over, no_records=no_records, feed=feed)
    with signals_as_interrupts(), pick_scheduler(local, jobs) as scheduler:
        done = operations.resubmit(run, selection, wishes, scheduler, context)
    if done.submission is None:
        say(f"{run.label}: nothing to resubmit: {done.status.summary()}")
    else:
        say_submitted(run, done.submission)
    click.echo(run.path)
    if local:
        raise_failed(run, done.submission, None)


def pick_per_job(text: str | None) -> int | None:
    """Return the number of --tasks-per-job; None where it isn't given, or is to be found out."""
    if text is None or text == BY_TIME:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS and 1 <= int(text) < 2**31):
        raise click.UsageError(f"--tasks-per-job takes a whole number from 1 up, or {BY_TIME}")
    return int(text)


def split_arguments(arguments: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Return the target and the options for sbatch: all behind `--`, or from the first one that begins with a dash."""
    first = next((number for number, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    if first > 1:
        raise click.UsageError(f"one target at most, found: {' '.join(arguments[:first])}")
    options = arguments[first:]
    if options[:1] == ("--",):
        options = options[1:]
        if options and not options[0].startswith("-"):
            raise click.UsageError(
                f"behind -- there are options for sbatch, and {options[0]!r} is none; "
                "a workflow file or wrkdir stands before it"
            )
    return (arguments[0] if first else None), options
