"""Collect where a run comes from: who, when, where, and with what."""

from __future__ import annotations

import os
import platform
import socket
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from esis.locks import user_name
from esis.model.workflow import Workflow
from esis.process import capture
from esis.version import VERSION

_GIT_SECONDS = 10.0


def collect(workflow: Workflow, argv: Sequence[str], slurm_version: str | None) -> dict[str, Any]:
    """Return the provenance as it stands in provenance.json; what can't be found out is null."""
    modules = os.environ.get("LOADEDMODULES", "")
    return {
        "schema": 1,
        "user": user_name(os.getuid()),
        "uid": os.getuid(),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "workflow_file": str(workflow.path),
        "esis": VERSION,
        "python": platform.python_version(),
        "python_executable": sys.executable,
        "platform": platform.platform(),
        "slurm": slurm_version,
        "modules": [name for name in modules.split(":") if name],
        "conda_environment": os.environ.get("CONDA_DEFAULT_ENV"),
        "virtual_environment": os.environ.get("VIRTUAL_ENV"),
        "git": _git(workflow.directory),
        "argv": list(argv),
    }


def _git(directory: Path) -> dict[str, Any] | None:
    commit = _ask_git(directory, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _ask_git(directory, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _ask_git(directory: Path, *arguments: str) -> str | None:
    try:
        done = capture(["git", "-C", str(directory), "--no-optional-locks", *arguments], timeout=_GIT_SECONDS)
    except OSError:
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.code == 0 and not done.timed_out else None
