"""Own provenance.json: where a run comes from, that is who made it, when, where, and with what."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from esis.errors import CorruptState
from esis.files import write_json
from esis.model.limits import Limits
from esis.model.secrets import masked
from esis.model.workdir import RunDir
from esis.model.workflow import Workflow
from esis.process import capture
from esis.records.origin import origin_here
from esis.typed import Fields, read_object

# Keys whose values don't tell who made the run, and where.
PUBLIC_KEYS = frozenset({"schema", "time", "esis", "python", "platform", "slurm", "slurm_limits", "modules"})
_GIT_SECONDS = 10.0
_LARGEST = 2**31  # Slurm's numbers have 32 bits


@dataclass(frozen=True)
class Provenance:
    """Hold what others want to know of it; None where it isn't told."""

    workflow_file: str | None = None
    user: str | None = None
    host: str | None = None
    esis: str | None = None  # versions
    slurm: str | None = None
    limits: Limits | None = None  # Slurm's as they were noted last; None where nobody asked, or it didn't answer

    def public(self) -> Provenance:
        """Return it without what tells who made the run, and where."""
        return replace(self, workflow_file=None, user=None, host=None)


def save(run: RunDir, workflow: Workflow, argv: Sequence[str], limits: Limits | None) -> None:
    """Write where a run comes from; what can't be found out is null. Raises OSError."""
    write_json(
        run.provenance,
        {
            "schema": 1,
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            **origin_here().to_json(),
            "workflow_file": str(workflow.path),
            "slurm": limits.version if limits is not None else None,
            "slurm_limits": _told(limits) if limits is not None and _is_answer(limits) else None,
            "git": _git(workflow.directory),
            "argv": list(masked(argv)),
        },
    )


def note_limits(run: RunDir, limits: Limits, check: Callable[[], None]) -> None:
    """Write down limits that are others by now, if `check` raises nothing at the last moment. Raises OSError.

    Not into a file that is missing or damaged: they are asked for then.
    """
    try:
        found = read_object(run.provenance)
    except (CorruptState, FileNotFoundError):
        return
    write_json(run.provenance, {**found, "slurm_limits": _told(limits)}, check)


def read(run: RunDir) -> Provenance:
    """Return what a run tells; nothing where the file is missing or damaged, for no task's state hangs on it."""
    try:
        fields = Fields(run.provenance, read_object(run.provenance))
    except (CorruptState, OSError):
        return Provenance()
    told = {key: _text(fields, key) for key in ("workflow_file", "user", "host", "esis", "slurm")}
    return Provenance(**told, limits=_limits(fields))


def _is_answer(limits: Limits) -> bool:
    """Return whether Slurm told them; of several clusters each."""
    return limits.version is not None and limits.problem is None


def _told(limits: Limits) -> dict[str, Any]:
    return {
        "max_array_size": limits.max_array_size,
        "max_array_tasks": limits.max_array_tasks,
        "message_timeout": limits.message_timeout,
    }


def _text(fields: Fields, key: str) -> str | None:
    try:
        return fields.text(key)
    except CorruptState:
        return None


def _limits(fields: Fields) -> Limits | None:
    try:
        if not fields.has("slurm_limits"):
            return None
        limits = fields.object("slurm_limits")
        return Limits(
            limits.number("max_array_size", 1, _LARGEST),
            limits.number_or_none("max_array_tasks", 1, _LARGEST),
            limits.real("message_timeout", _LARGEST),
            fields.text_or_none("slurm"),
        )
    except CorruptState:
        return None


def _git(directory: Path) -> dict[str, Any] | None:
    commit = _ask_git(directory, "rev-parse", "HEAD") if _is_in_repository(directory) else None
    if commit is None:
        return None
    changes = _ask_git(directory, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _is_in_repository(directory: Path) -> bool:
    """Return whether git, which takes a while to start, would find anything (git(1), GIT_DIR; a .git above)."""
    place = directory.resolve()
    return "GIT_DIR" in os.environ or any(
        os.path.exists(above / ".git")  # noqa: PTH110  that of Path raises where nobody may look
        for above in (place, *place.parents)
    )


def _ask_git(directory: Path, *arguments: str) -> str | None:
    try:
        done = capture(["git", "-C", str(directory), "--no-optional-locks", *arguments], timeout=_GIT_SECONDS)
    except OSError:
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.code == 0 and not done.timed_out else None
