"""Find the runs below a path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from esis.errors import BadInput, EsisError
from esis.model.parameters import find_parameter_files
from esis.model.requirements import resolve
from esis.model.sources import Sources
from esis.model.workdir import STAGING_PREFIX, TRASH_PREFIX, RunDir, is_run_name
from esis.model.workflow import DEFAULT_NAME, OLD_NAME
from esis.operations.status import Evidence, gather
from esis.records import old


@dataclass(frozen=True)
class Listed:
    """Hold one run as a list shows it."""

    run: RunDir
    started: float | None  # first submission, seconds since 1970
    job: str | None  # the latest job id
    tasks: int
    complete: bool
    current: bool  # whether a workflow file beside it has this hash now


def list_runs(below: Path, verify: bool = False, deep: bool = False) -> list[Listed]:
    """Return the runs in a directory, sorted by path; interrupted builds are none. Raises BadInput.

    `deep`: down the tree. With `verify` every byte of the workflows there is read to tell which runs are current.
    """
    if not below.is_dir():
        raise BadInput(f"there is no directory {below}")
    found: list[Listed] = []
    sources = Sources(verify)
    current: set[Path] = set()
    for directory, names, files in os.walk(below):
        place = Path(directory)
        runs = [name for name in names if is_run_name(name)]
        oldest = [name for name in names if old.is_oldest(RunDir(place / name))]
        names[:] = sorted(name for name in names if deep and not is_run_name(name) and name not in oldest
                          and not name.startswith((STAGING_PREFIX, TRASH_PREFIX, ".git")))
        current.update(_current_runs(place, files, sources))
        for name in runs:
            run = RunDir(place.resolve() / name)
            try:
                evidence = gather(run)
            except EsisError:
                continue
            if evidence is not None and evidence.built:
                found.append(_listed(run, evidence))
        found += [_listed_oldest(RunDir(place.resolve() / name)) for name in oldest]
    marked = [Listed(item.run, item.started, item.job, item.tasks, item.complete, item.run.path in current)
              for item in found]
    return sorted(marked, key=lambda item: str(item.run.path))


def by_time(runs: list[Listed]) -> list[Listed]:
    """Return the runs in the order of their first submission; those never submitted come last."""
    return sorted(runs, key=lambda item: (item.started is None, item.started or 0.0))


def by_job(runs: list[Listed]) -> list[Listed]:
    """Return the runs in the order of their latest job id; those without one come last."""
    return sorted(runs, key=lambda item: (item.job is None, len(item.job or ""), item.job or ""))


def _listed(run: RunDir, evidence: Evidence) -> Listed:
    jobs = old.job_ids_in(run.job_ids)
    return Listed(run, old.start_time_in(run.start_time), jobs[-1] if jobs else None, len(evidence.indices),
                  evidence.looks_complete, False)


def _listed_oldest(run: RunDir) -> Listed:
    """List a run of before 0.0.4, of which little is known."""
    jobs = old.job_ids_in(run.oldest_job_ids)
    return Listed(run, old.start_time_in(run.oldest_start_time), jobs[-1] if jobs else None,
                  len(find_parameter_files(run.parameters)) if run.parameters.is_dir() else 0, False, False)


def _current_runs(place: Path, files: list[str], sources: Sources) -> Iterator[Path]:
    """Yield where the run of each workflow file in `place` is or would be; one that can't be read has none."""
    for name in files:
        if name in (DEFAULT_NAME, OLD_NAME) or name.endswith(".esis.json"):
            try:
                yield resolve(place / name, sources.read, sources.digest_of).run.path
            except EsisError:
                continue
