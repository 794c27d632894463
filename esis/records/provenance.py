"""Collect where a run comes from: who, when, where, and with what."""

from __future__ import annotations

import operator
import os
import platform
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from esis.errors import CorruptState
from esis.files import read_json_object
from esis.locks import user_name
from esis.model.limits import Limits
from esis.model.workdir import RunDir
from esis.model.workflow import Workflow
from esis.process import capture
from esis.version import VERSION

_GIT_SECONDS = 10.0


@dataclass(frozen=True)
class Origin:
    """Say who used ESIS, where and with what; found out without starting a program."""

    user: str
    uid: int
    host: str
    esis: str
    python: str
    python_executable: str
    platform: str
    modules: tuple[str, ...] = ()
    conda_environment: str | None = None
    virtual_environment: str | None = None

    @classmethod
    def here(cls) -> Origin:
        """Return that of this process."""
        return cls(
            user=user_name(os.getuid()),
            uid=os.getuid(),
            host=socket.gethostname(),
            esis=VERSION,
            python=platform.python_version(),
            python_executable=sys.executable,
            platform=platform.platform(),
            modules=tuple(name for name in os.environ.get("LOADEDMODULES", "").split(":") if name),
            conda_environment=os.environ.get("CONDA_DEFAULT_ENV"),
            virtual_environment=os.environ.get("VIRTUAL_ENV"),
        )

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Origin:
        """Read what `to_json` gave. Raises KeyError, TypeError, ValueError."""
        return cls(str(raw["user"]), int(raw["uid"]), str(raw["host"]), str(raw["esis"]), str(raw["python"]),
                   str(raw["python_executable"]), str(raw["platform"]), tuple(str(name) for name in raw["modules"]),
                   raw["conda_environment"], raw["virtual_environment"])

    def to_json(self) -> dict[str, Any]:
        """Return it as it stands in files."""
        return {**asdict(self), "modules": list(self.modules)}


def collect(workflow: Workflow, argv: Sequence[str], limits: Limits | None) -> dict[str, Any]:
    """Return the provenance as it stands in provenance.json; what can't be found out is null."""
    return {
        "schema": 1,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **Origin.here().to_json(),
        "workflow_file": str(workflow.path),
        "slurm": limits.version if limits is not None else None,
        "slurm_limits": {
            "max_array_size": limits.max_array_size, "max_array_tasks": limits.max_array_tasks,
            "message_timeout": limits.message_timeout,
        } if limits is not None and limits.version is not None else None,
        "git": _git(workflow.directory),
        "argv": list(argv),
    }


def noted_limits(run: RunDir) -> Limits | None:
    """Return Slurm's limits as they were when the run was built; None where nobody asked, or Slurm didn't answer."""
    try:
        noted = read_json_object(run.provenance)
        limits = noted["slurm_limits"]
        return Limits(operator.index(limits["max_array_size"]),
                      operator.index(limits["max_array_tasks"]) if limits["max_array_tasks"] is not None else None,
                      float(limits["message_timeout"]), noted["slurm"])
    except (CorruptState, KeyError, OSError, TypeError, ValueError):
        return None


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
