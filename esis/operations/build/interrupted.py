"""Judge what an interrupted build left: whether its script still runs, whether it was one at all; remove the rest."""

from __future__ import annotations

import os
from pathlib import Path

from esis.errors import Busy, CorruptState
from esis.locks import Owner, require
from esis.model.workdir import STAGING_PREFIX, TRASH_PREFIX, RunDir
from esis.operations.context import Context
from esis.processes import has_left, process_alive, sessions
from esis.records import traces
from esis.records.stage import State


def check_script(run: RunDir, state: State, context: Context) -> None:
    """Raise Busy where the script of an interrupted build still runs, or may run on another machine."""
    owner = Owner.parse(state.process) if state.process is not None else None
    if owner is None:  # of an earlier version
        running = state.pid is not None and process_alive(state.pid, state.pid_started)
    elif owner.is_here():
        running = not owner.is_dead() or has_left(owner.pid, sessions())
    elif context.take_over:
        return
    else:
        raise Busy(
            f"{run.label}: a script of an interrupted build may still run as process {owner.pid} on "
            f"{owner.host}, in another boot or container",
            "look there, and end it; if it is gone, repeat the command with --take-over",
        )
    if running:
        raise Busy(
            f"{run.label}: a script of an interrupted build still runs as process {state.pid}, or what it started",
            f"wait for it or end it, then repeat the command; to see it: ps -s {state.pid}",
        )


def check_untouched(run: RunDir, state: State) -> None:
    """Raise CorruptState where a build that seems to be unfinished has been submitted or has results."""
    left = traces.found(run, state.stage)
    if left:
        raise CorruptState(
            f"{run.state} says that the build was interrupted while {state.stage.value}, but there are "
            f"{'; '.join(left)}",
            traces.KEPT,
        )


def sweep_builds(parent: Path) -> None:
    """Remove what builds left behind whose process is certainly dead."""
    for name in sorted(os.listdir(parent)):
        for prefix in (STAGING_PREFIX, TRASH_PREFIX):
            if name.startswith(prefix):
                owner = Owner.parse(name[len(prefix) :].partition("-")[2])
                if owner is not None and owner.is_dead() and _is_mine(parent / name):
                    remove(parent / name)


def discard(run: RunDir, owner: Owner) -> None:
    """Move a half-built directory away in one step, then remove it. Raises Busy, OSError.

    Its lock goes with it and tells whether it is the one that was judged: whoever took over may have built the run.
    """
    require(run.lock, run.label)
    trash = RunDir(run.path.with_name(f"{TRASH_PREFIX}{run.path.name[-12:]}-{owner.text()}"))
    run.path.rename(trash.path)
    try:
        require(trash.lock, run.label)
    except Busy:
        trash.path.rename(run.path)
        raise
    remove(trash.path)


def remove(path: Path) -> None:
    """Remove a directory that no run is, as far as that can be done."""
    import shutil  # draws in four compressions, and seldom is there anything to remove

    shutil.rmtree(path, ignore_errors=True)


def _is_mine(path: Path) -> bool:
    """Return whether this user owns `path`; somebody may be removing it at this moment."""
    try:
        return path.lstat().st_uid == os.getuid()
    except FileNotFoundError:
        return False
