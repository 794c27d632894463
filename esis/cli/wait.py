"""`esis wait`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from esis.cli.common import make_context, say
from esis.cli.targets import pick_run, target_argument
from esis.errors import ExitCode, TasksFailed

if TYPE_CHECKING:
    from esis.operations.witness.status import RunStatus

POLL_SECONDS = 30.0


@click.command()
@target_argument
@click.option("--interval", type=click.FloatRange(min=0.1), default=POLL_SECONDS, show_default=True, metavar="SECONDS",
              help="Pause between two looks.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Give up after that time.")
def wait(target: str | None, interval: float, timeout: float | None) -> int:
    """Wait until no task of a run waits or runs any more; the exit code says whether it is complete.

    While a job of `esis run --feed` is there to submit the rest, it goes on. An answer that doesn't come is asked for
    again, less and less often.
    """
    from esis.cli.rendering import check_code
    from esis.operations.compact import fold_if_many
    from esis.operations.polling import pause_until
    from esis.operations.witness.keep import look_and_keep
    from esis.operations.witness.target import evidence_of
    from esis.schedulers.slurm import Slurm

    run = pick_run(target)
    slurm = Slurm()
    shown: list[str] = []
    last: list[RunStatus] = []

    def over() -> bool:
        evidence = evidence_of(run)
        found = look_and_keep(evidence, slurm)
        last[:] = [found]
        text = found.summary() + (f" (the queue could not be asked: {found.problem})" if found.problem else "")
        if found.feeding:
            text += f" (job {', '.join(found.feeding)} submits the rest)"
        if shown != [text]:
            shown[:] = [text]
            say(f"{run.label}: {text}")
        passing = found.problem is not None or any(verdict.passing for verdict in found.groups)
        return found.complete or stuck(found) or not (passing or check_code(found) is ExitCode.ACTIVE)

    pause_until(over, timeout, first=min(1.0, interval), longest=interval)
    if stuck(last[0]):
        raise TasksFailed(f"{run.label}: what is left waits for a job that failed",
                          "esis dependency revives it once that is rerun")
    if last[0].complete and not last[0].evidence.marked_complete:
        fold_if_many(run, make_context())
    return int(check_code(last[0]))


def stuck(status: RunStatus) -> bool:
    """Return whether the tasks that are left wait for something that can't happen any more."""
    from esis.operations.chain import NEVER
    from esis.operations.witness.judge import ACTIVE_STATES

    left = [verdict for verdict in status.groups if verdict.state in ACTIVE_STATES]
    return bool(left) and all(item.reason == NEVER for item in left)
