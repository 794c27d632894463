"""`esis cancel` and `esis throttle`."""

from __future__ import annotations

import click

from esis.cli.common import at_a_time, pick_run, pick_tasks, say, target_argument, tasks_option
from esis.errors import SlurmUnanswered


@click.command()
@target_argument
@tasks_option
@click.option("--pending", is_flag=True, help="Only those that wait; running ones go on.")
def cancel(target: str | None, indices: str | None, pending: bool) -> None:
    """Cancel the tasks of a run that wait or run (all, or --tasks), and see that they are gone.

    Without --tasks also the job of `esis run --feed`, which would submit the rest. The tasks of a run on this machine
    are ended as by Ctrl-C.
    """
    from esis.model.index_sets import format_ranges
    from esis.operations.cancel import cancel as operation
    from esis.schedulers.slurm import Slurm

    run = pick_run(target)
    done = operation(run, pick_tasks(indices), pending, Slurm())
    cancelled = sorted({*done.gone}.difference(done.done))
    if cancelled:
        say(f"{run.label}: cancelled: {format_ranges(cancelled)}")
    if done.done:
        say(f"{run.label}: done all the same: {format_ranges(done.done)}")
    if done.feeders:
        say(f"{run.label}: cancelled: job {', '.join(done.feeders)}, which would have submitted the rest")
    if done.strangers:
        say(f"{run.label}: cancelled: job {', '.join(done.strangers)}, of which nobody knew the tasks")
    if done.feeding and indices is not None:
        say(
            f"{run.label}: job {', '.join(done.feeding)} goes on to submit the rest; esis cancel without --tasks ends "
            "it, too"
        )
    left = [format_ranges(done.left)] if done.left else []
    if done.feeding and indices is None:
        left.append(f"job {', '.join(done.feeding)}, which submits the rest")
    if done.sender is not None:
        left.append(f"what {done.sender} is submitting")
    if done.strangers_left:
        left.append(f"job {', '.join(done.strangers_left)}")
    if left:
        raise SlurmUnanswered(
            f"{run.label}: still active: {', and '.join(left)}" + (f": {done.problem}" if done.problem else ""),
            "they may take a while to end; esis status tells",
        )


@click.command()
@click.argument("limit", type=at_a_time, metavar="N")
@target_argument
def throttle(limit: int, target: str | None) -> None:
    """Let at most N tasks (of packs: N packs) of the queued arrays of a run be active at a time; 0: no limit."""
    from esis.operations.throttle import throttle as operation
    from esis.schedulers.slurm import Slurm

    run = pick_run(target)
    jobs, together, packed = operation(run, limit, Slurm())
    shown = max(limit, together) if limit else "any number of"
    what = "packs of tasks" if packed else "tasks"
    say(f"{run.label}: {shown} {what} at a time now, in job {', '.join(jobs)}")
    if 0 < limit < together:
        say(f"{run.label}: not {limit}: each of the {together} arrays that may run together keeps one at least")
