"""`esis wait`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from esis.cli.common import Number, make_context, pick_run, say, status_of_run, target_argument
from esis.errors import ExitCode, TasksFailed

if TYPE_CHECKING:
    from esis.operations.witness.status import RunStatus

POLL_SECONDS = 30.0


@click.command()
@target_argument
@click.option(
    "--interval",
    type=Number(min=0.1),
    default=POLL_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="Pause between two looks.",
)
@click.option("--timeout", type=Number(min=0), metavar="SECONDS", help="Give up after that time.")
def wait(target: str | None, interval: float, timeout: float | None) -> int:
    """Wait until no task of a run waits or runs any more; the exit code says whether it is complete.

    While a job of `esis run --feed` is there to submit the rest, it goes on. An answer that doesn't come is asked for
    again, less and less often.
    """
    from esis.operations.polling import pause_until
    from esis.operations.witness.target import evidence_of

    run = pick_run(target)
    shown: list[str] = []
    last: list[RunStatus] = []

    def over() -> bool:
        evidence = evidence_of(run)
        found = status_of_run(evidence)
        last[:] = [found]
        text = found.summary() + (f" (the queue could not be asked: {found.problem})" if found.problem else "")
        if found.feeding:
            text += f" (job {', '.join(found.feeding)} submits the rest)"
        if shown != [text]:
            shown[:] = [text]
            say(f"{run.label}: {text}")
        passing = found.problem is not None or any(verdict.passing for verdict in found.groups)
        return found.complete or found.stuck or not (passing or found.exit_code == ExitCode.ACTIVE)

    pause_until(over, timeout, first=min(1.0, interval), longest=interval)
    if last[0].stuck:
        raise TasksFailed(
            f"{run.label}: what is left waits for a job that failed", "esis dependency revives it once that is rerun"
        )
    if last[0].complete and not last[0].evidence.marked_complete:
        from esis.operations.compact import fold_if_many  # once in the life of a run

        fold_if_many(run, make_context())
    return last[0].exit_code
