"""Let the jobs of a run that was moved look for the runs that it requires where these are now."""

from __future__ import annotations

from esis.errors import CorruptState
from esis.locks import still
from esis.model.workdir import RunDir
from esis.operations.context import Context
from esis.operations.witness.moved import required_along
from esis.records import required


def follow(run: RunDir, context: Context) -> None:
    """Write down where required runs are that were moved together with this one. Raises OSError.

    A damaged list stays as it is: its jobs refuse it, and say so.
    """
    try:
        listed = required.entries(run)
    except CorruptState:
        return
    found = [(first, last, required_along(run, path)) for first, last, path in listed]
    if found == listed:
        return
    for (_, _, before), (_, _, now) in zip(listed, found):
        if now != before:
            context.say(f"{run.label}: it requires {before}, which is {now} by now")
    required.save(run, found, still(run.lock, run.label))
