"""`esis wait`."""

from __future__ import annotations

import sys

import click

from esis.cli.common import say
from esis.cli.targets import pick_run, target_argument
from esis.errors import ExitCode

POLL_SECONDS = 30.0


@click.command()
@target_argument
@click.option("--interval", type=click.FloatRange(min=0.1), default=POLL_SECONDS, show_default=True, metavar="SECONDS",
              help="Pause between two looks.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Give up after that time.")
def wait(target: str | None, interval: float, timeout: float | None) -> int:
    """Wait until no task of a run waits or runs any more; the exit code says whether it is complete.

    An answer that doesn't come is asked for again, less and less often.
    """
    from esis.cli.rendering import check_code
    from esis.operations.status import RunStatus, ask, status_of_asked
    from esis.operations.target import evidence_of
    from esis.operations.waiting import pause_until
    from esis.schedulers.slurm import Slurm

    run = pick_run(target)
    slurm = Slurm()
    shown: list[str] = []
    last: list[RunStatus] = []

    def over() -> bool:
        evidence = evidence_of(run)
        found = status_of_asked(evidence, ask([evidence], slurm))
        last[:] = [found]
        text = found.summary() + (f" (the queue could not be asked: {found.problem})" if found.problem else "")
        if shown != [text]:
            shown[:] = [text]
            say(f"{run.label}: {text}")
        passing = found.problem is not None or any(item.passing for item in found.tasks.values())
        return found.complete or not (passing or check_code(found) is ExitCode.ACTIVE)

    pause_until(over, timeout, first=min(1.0, interval), longest=interval)
    sys.stderr.flush()
    return int(check_code(last[0]))
