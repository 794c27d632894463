"""Show how submissions and local runs go."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from esis.cli.common import say
from esis.model.index_sets import format_ranges
from esis.model.workdir import RunDir
from esis.operations.witness.status import Done, TaskState, describe_failures
from esis.records.submissions import LOCAL, Submission

if TYPE_CHECKING:
    from esis.operations.run import DryRun
    from esis.schedulers.base import Scheduler

_SHOWN = 60  # characters of an array specification


def check_jobs(local: bool, jobs: int | None) -> None:
    """Refuse -j where nothing runs on this machine."""
    if jobs is not None and not local:
        raise click.UsageError("-j goes with --local; -m limits the tasks of an array")


@contextmanager
def pick_scheduler(local: bool, jobs: int | None) -> Iterator[Scheduler]:
    """Return Slurm, or this machine with a progress bar on a terminal."""
    check_jobs(local, jobs)
    if not local:
        from esis.schedulers.slurm import Slurm

        yield Slurm()
        return
    from esis.schedulers.local import Local, Progress

    parallel = jobs if jobs is not None else len(os.sched_getaffinity(0))
    if not sys.stderr.isatty():
        yield Local(parallel)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task("", total=None)

        def show(progress: Progress) -> None:
            text = f"{progress.running} running, {progress.done} done, {progress.failed} failed"
            bar.update(shown, total=progress.total, completed=progress.done + progress.failed, description=text)

        yield Local(parallel, show)


def show_done(done: Done) -> None:
    """Print the run's directory, and what was done, to stderr."""
    name = done.node.run.label
    if done.submission is not None:
        say_submitted(done.node.run, done.submission)
    elif done.status is not None:
        say(f"{name}: nothing to submit: {done.status.summary()}")
        failed = done.status.indices(TaskState.FAILED, TaskState.LOST)
        if failed and done.status.evidence.state is None:
            say(f"{name}: failed: {describe_failures(done.status)}")
        elif failed:
            say(f"{name}: failed: {describe_failures(done.status)}; rerun them: esis resubmit")
        unknown = done.status.indices(TaskState.UNKNOWN)
        if unknown:
            reason = done.status.tasks[unknown[0]].reason
            say(f"{name}: unknown: {format_ranges(unknown)} ({done.status.problem or reason})")
    click.echo(done.node.run.path)


def say_submitted(run: RunDir, submission: Submission) -> None:
    """Tell what was submitted, or what ran here."""
    ids = ", ".join(job.id for job in submission.jobs)
    behind = f", behind {submission.dependency}" if submission.dependency is not None else ""
    if submission.scheduler == LOCAL:
        say(f"{run.label}: ran {_count(len(submission.tasks) - len(submission.returned))} here")
    else:
        from esis.model.secrets import masked

        options = f" with {' '.join(masked(submission.options))}" if submission.options else ""
        spec = format_ranges(submission.tasks) + (f"%{submission.throttle}" if submission.throttle else "")
        spec = spec if len(spec) < _SHOWN else f"{spec[:_SHOWN]}…"
        packs = f", {submission.per_job} in a job" if submission.packed else ""
        say(f"{run.label}: submitted as job {ids}{options}: {_count(len(submission.tasks))} ({spec}){packs}{behind}")


def show_plan(plan: DryRun) -> None:
    """Print what a dry run found."""
    click.echo(f"hash: {plan.node.digest}")
    click.echo(f"run: {plan.node.run.path}{' (exists)' if plan.exists else ''}")
    click.echo(f"tasks: {plan.tasks}")
    click.echo(f"array: {plan.array}")
    click.echo("script:")
    click.echo(plan.script.encode("utf-8", "surrogateescape"), nl=False)


def _count(tasks: int) -> str:
    return "1 task" if tasks == 1 else f"{tasks} tasks"
