"""Hold the arguments and options that several commands share, each named once, and turn them into what they mean."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, TypeVar

import click

from esis.errors import printable

if TYPE_CHECKING:
    from esis.model.workdir import RunDir
    from esis.operations.context import Context
    from esis.operations.witness.evidence import Evidence
    from esis.operations.witness.status import RunStatus, TaskState

_LONGEST_GRACE = 24 * 3600.0  # s; a command that waits longer for one answer waits in vain

F = TypeVar("F", bound=Callable[..., Any])


class Number(click.FloatRange):
    """Take a number in a range, and no NaN or infinity: neither is a time to wait, nor a factor."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number. Raises click.BadParameter."""
        found = float(super().convert(value, param, ctx))
        if found != found or abs(found) == float("inf"):
            self.fail(f"{value!r} is no number that can be worked with.", param, ctx)
        return found


# What the workflow file takes, too. Slurm counts modulo 2^32: it would read 4294967297 as 1.
at_a_time = click.IntRange(min=0, max=2**31 - 1)
from_one = click.IntRange(min=1, max=2**31 - 1)

workflow_argument = click.argument("workflow_file", required=False, metavar="[WORKFLOW FILE]")
target_argument = click.argument("target", required=False, metavar="[WORKFLOW FILE | WRKDIR]")
tasks_option = click.option("--tasks", "-t", "indices", metavar="INDICES", help="Task indices, like 3,5-7.")
where_option = click.option(
    "--where", metavar="CONDITION", help="Tasks whose parameters fulfil a condition, like 'beta>5 and L==64'."
)
states_option = click.option(
    "--state", "states", multiple=True, metavar="STATE", help="Tasks in that state; can be given several times."
)
workflow_out_option = click.option(
    "-o", "--workflow-out", metavar="FILE", help="The workflow file to write.  [default: wf.esis.json]"
)
workflow_rewritten_option = click.option(
    "-o", "--workflow-out", metavar="FILE", help="The workflow file to write.  [default: the one that is read]"
)
max_parallel_option = click.option(
    "-m", "--max-parallel", type=at_a_time, metavar="N", help="At most N tasks at a time; 0: no limit."
)
local_option = click.option("--local", is_flag=True, help="Run the tasks on this machine, without Slurm.")
jobs_option = click.option(
    "-j",
    "--jobs",
    type=from_one,
    metavar="N",
    help="With --local: at most N tasks at a time.  [default: the number of cores]",
)
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Show the output of generator and setup script as it comes."
)
timeout_option = click.option(
    "--script-timeout",
    type=Number(min=0, min_open=True),
    metavar="SECONDS",
    help="End the generator or the setup script after that time.",
)
take_over_option = click.option(
    "--take-over", is_flag=True, help="Take over the lock of another host that gave no sign of life for 15 minutes."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
verify_option = click.option(
    "--verify", is_flag=True, help="Read the workflow's files whole, also those whose hash is remembered."
)


records_option = click.option(
    "--no-task-records",
    "no_records",
    is_flag=True,
    help="Leave the lines out of sbatch.sh by which tasks record their start and end.",
)


feed_option = click.option(
    "--feed", is_flag=True, help="Let a job submit what a limit of Slurm leaves over; where compute nodes may submit."
)


def submitting_options(command: F) -> F:
    """Add what commands have in common that build runs and submit."""
    for option in (
        verify_option,
        take_over_option,
        records_option,
        timeout_option,
        verbose_option,
        jobs_option,
        local_option,
        max_parallel_option,
    ):
        command = option(command)
    return workflow_argument(command)


def say(message: str) -> None:
    """Tell the user something, on stderr."""
    click.echo(f"esis: {printable(message)}", err=True)


def find_workflow(given: str | None) -> Path:
    """Return the workflow file that an argument means, telling about 0.0.4's name."""
    from esis.model.workflow import locate

    path, note = locate(given)
    if not os.path.lexists(path):
        from esis.operations.witness.target import check_no_run

        check_no_run(given)
    if note is not None:
        say(note)
    return path


def pick_run(target: str | None, verify: bool = False) -> RunDir:
    """Return the run of a workflow file (by default the one here), of a wrkdir, or around this directory."""
    from esis.operations.witness.target import find_run, run_at, run_called

    run = run_at(Path()) if target is None else run_called(target)
    return run if run is not None else find_run(find_workflow(target), verify)


def status_of_run(evidence: Evidence) -> RunStatus:
    """Judge a run, asking Slurm if it may have more to say, and write down what was found out."""
    from esis.operations.witness.status import complete_status

    if evidence.marked_complete:
        return complete_status(evidence)  # what asks Slurm isn't even loaded
    from esis.operations.witness.keep import look_and_keep
    from esis.schedulers.slurm import Slurm

    return look_and_keep(evidence, Slurm())


def pick_tasks(indices: str | None) -> tuple[int, ...] | None:
    """Return the indices of --tasks; None where it isn't given."""
    from esis.model.index_sets import parse_ranges

    return tuple(parse_ranges(indices)) if indices is not None else None


def is_indices(text: str) -> bool:
    """Return whether a text means task indices rather than a file or a run."""
    return not text.strip("0123456789,- ")


def pick_states(names: Sequence[str]) -> tuple[TaskState, ...]:
    """Return the states of --state."""
    from esis.operations.witness.conditions import state_called

    return tuple(state_called(name) for name in names)


def make_context(
    verbose: bool = False,
    script_timeout: float | None = None,
    take_over: bool = False,
    no_records: bool = False,
    feed: bool = False,
) -> Context:
    """Return what operations need of the command line."""
    from esis.errors import BadInput
    from esis.operations.context import Context

    grace = os.environ.get("ESIS_LOOKUP_GRACE")
    try:
        seconds = float(grace) if grace else None
    except ValueError:
        seconds = -1.0
    if seconds is not None and not 0 <= seconds <= _LONGEST_GRACE:
        raise BadInput(f"ESIS_LOOKUP_GRACE={grace!r} is no number of seconds up to a day", "unset it")
    return Context(
        say=say,
        argv=tuple(sys.argv),
        live=verbose,
        script_timeout=script_timeout,
        take_over=take_over,
        records=not no_records,
        grace=seconds,
        feed=feed,
    )


@contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP as Ctrl-C during the block, so that local tasks are ended and given back.

    One that is ignored stays so: that is what nohup does.
    """

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
