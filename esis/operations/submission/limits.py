"""Know how large an array Slurm takes: as it was noted when the run was built, until Slurm refuses one for its size.

Then a site has changed its limits since, or the run goes on at another cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from esis.errors import SlurmRefused
from esis.files import is_there
from esis.model.limits import Limits
from esis.model.template import read_template
from esis.model.workdir import RunDir
from esis.records import provenance
from esis.schedulers.base import Scheduler
from esis.schedulers.directives import chosen_clusters

_ABOUT_ARRAYS = "invalid job array specification"
_ABOUT_DEPENDENCIES = "job dependency problem"


class ArrayRefused(SlurmRefused):
    """Report that Slurm doesn't take an array as it is cut; nothing of its submission is queued."""


class DependencyRefused(SlurmRefused):
    """Report that Slurm doesn't know what a job was to wait behind (any more); from 23.02 on it refuses that."""


def known_limits(run: RunDir, scheduler: Scheduler) -> Limits | None:
    """Return the limits that were noted last, else ask for them."""
    noted = provenance.read(run).limits if scheduler.queue is not None else None
    return noted if noted is not None else asked_limits(run.script, scheduler)


def asked_limits(script: Path, scheduler: Scheduler) -> Limits | None:
    """Ask for the limits where a script, or its template, is sent; if it is gone, where others are. Raises BadInput."""
    named = scheduler.queue is not None and is_there(script)
    return scheduler.limits(chosen_clusters(read_template(script)) if named else ())


def new_limits(run: RunDir, used: Limits, scheduler: Scheduler, check: Callable[[], None]) -> Limits | None:
    """Ask for the limits and note them, if `check` raises nothing at the last moment; None where they aren't new.

    Raises OSError.
    """
    found = asked_limits(run.script, scheduler)
    if found is None or found.problem is not None or _sizes(found) == _sizes(used):
        return None
    provenance.note_limits(run, found, check)
    return found


def kind_of_refusal(message: str, queued: bool) -> type[SlurmRefused]:
    """Return what Slurm's words are about; `queued`: other arrays of the submission are in the queue."""
    said = message.lower()
    if _ABOUT_ARRAYS in said and not queued:
        return ArrayRefused
    return DependencyRefused if _ABOUT_DEPENDENCIES in said else SlurmRefused


def described(limits: Limits) -> str:
    """Name the limits in Slurm's words, or say why they aren't known."""
    if limits.problem is not None:
        return f"what it takes couldn't be asked: {limits.problem}"
    size, tasks = _sizes(limits)
    return f"MaxArraySize {size}" + (f", max_array_tasks {tasks}" if tasks is not None else "")


def _sizes(limits: Limits) -> tuple[int, int | None]:
    return limits.max_array_size, limits.max_array_tasks
