"""Find the runs below a path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from esis.errors import BadInput, EsisError
from esis.model.requirements import resolve
from esis.model.sources import Sources
from esis.model.workdir import STAGING_PREFIX, TRASH_PREFIX, RunDir, is_run_name
from esis.model.workflow import DEFAULT_NAME, OLD_NAME
from esis.operations.status import Evidence, gather


@dataclass(frozen=True)
class Listed:
    """Hold one run as a list shows it."""

    run: RunDir
    started: float | None  # first submission, seconds since 1970
    job: str | None  # the latest job id
    tasks: int
    complete: bool
    current: bool  # whether a workflow file beside it has this hash now


def list_runs(below: Path, verify: bool = False) -> list[Listed]:
    """Return the runs below `below`, sorted by path; interrupted builds are none. Raises BadInput.

    With `verify` every byte of the workflows there is read to tell which runs are current.
    """
    if not below.is_dir():
        raise BadInput(f"there is no directory {below}")
    found: list[Listed] = []
    sources = Sources(verify)
    current: set[Path] = set()
    for directory, names, files in os.walk(below):
        place = Path(directory)
        runs = [name for name in names if is_run_name(name)]
        names[:] = sorted(name for name in names
                          if not is_run_name(name) and not name.startswith((STAGING_PREFIX, TRASH_PREFIX, ".git")))
        current.update(_current_runs(place, files, sources))
        for name in runs:
            run = RunDir(place.resolve() / name)
            try:
                evidence = gather(run)
            except EsisError:
                continue
            if evidence is not None and evidence.built:
                found.append(_listed(run, evidence))
    marked = [Listed(item.run, item.started, item.job, item.tasks, item.complete, item.run.path in current)
              for item in found]
    return sorted(marked, key=lambda item: str(item.run.path))


def by_time(runs: list[Listed]) -> list[Listed]:
    """Return the runs in the order of their first submission; those never submitted come last."""
    return sorted(runs, key=lambda item: (item.started is None, item.started or 0.0))


def by_job(runs: list[Listed]) -> list[Listed]:
    """Return the runs in the order of their latest job id; those without one come last."""
    return sorted(runs, key=lambda item: (item.job is None, len(item.job or ""), item.job or ""))


def parse_time(text: str) -> float | None:
    """Read wf_starttime: seconds since 1970, or a date as text."""
    text = text.strip()
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _listed(run: RunDir, evidence: Evidence) -> Listed:
    job = (_text(run.job_ids) or "").split()
    started = parse_time(_text(run.start_time) or "")
    if started is None and run.start_time.exists():
        started = run.start_time.stat().st_mtime
    return Listed(run, started, job[-1] if job else None, len(evidence.indices),
                  evidence.looks_complete, False)


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return None


def _current_runs(place: Path, files: list[str], sources: Sources) -> Iterator[Path]:
    """Yield where the run of each workflow file in `place` is or would be; one that can't be read has none."""
    for name in files:
        if name in (DEFAULT_NAME, OLD_NAME) or name.endswith(".esis.json"):
            try:
                yield resolve(place / name, sources.read, sources.digest_of).run.path
            except EsisError:
                continue
