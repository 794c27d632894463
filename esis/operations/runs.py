"""Find the runs below a path."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from esis.errors import BadInput, EsisError, FileTrouble
from esis.files import read_limited
from esis.model.index_sets import find_parameter_files
from esis.model.requirements import check_links, resolve
from esis.model.sources import Sources
from esis.model.workdir import STAGING_PREFIX, TRASH_PREFIX, RunDir, is_run_name
from esis.model.workflow import DEFAULT_NAME, OLD_NAME
from esis.operations.witness.evidence import Evidence, gather
from esis.records import old

_SMALL = 1024 * 1024  # bytes; a job id a line


class Listed(NamedTuple):
    """Hold one run as a list shows it."""

    run: RunDir
    started: float | None  # first submission, seconds since 1970
    job: str | None  # the latest job id
    tasks: int
    complete: bool
    current: bool  # whether a workflow file beside it has this hash now


def list_runs(
    below: Path,
    verify: bool = False,
    deep: bool = False,
    tell: Callable[[str], None] | None = None,
    brief: bool = False,
) -> list[Listed]:
    """Return the runs in a directory, sorted by path; interrupted builds are none. Raises BadInput.

    `deep`: down the tree. With `verify` every byte of the workflows there is read to tell which runs are current.
    `tell` hears of each run that can't be read, and why; the others are listed all the same. `brief`: times and jobs
    aren't asked for.
    """
    if not below.is_dir():
        check_links(below)
        raise BadInput(f"there is no directory {below}")
    found: list[Listed] = []
    sources = Sources(verify)
    current: set[Path] = set()

    def unreadable(error: OSError) -> None:
        if tell is not None:
            tell(str(FileTrouble.of(error, "left out")))

    for directory, names, files in os.walk(below, onerror=unreadable):
        place = Path(directory)
        runs = [name for name in names if is_run_name(name)]
        oldest = [name for name in names if _is_oldest(RunDir(place / name))]
        names[:] = sorted(
            name
            for name in names
            if deep
            and not is_run_name(name)
            and name not in oldest
            and not name.startswith((STAGING_PREFIX, TRASH_PREFIX, ".git"))
        )
        current.update(_current_runs(place, files, sources))
        for name in runs:
            run = RunDir(place.resolve() / name)
            with _telling(run, tell):
                evidence = gather(run)
                if evidence is not None and evidence.built:
                    found.append(_listed(run, evidence, brief))
        found += [_listed_oldest(RunDir(place.resolve() / name)) for name in oldest]
    marked = [
        Listed(item.run, item.started, item.job, item.tasks, item.complete, item.run.path in current) for item in found
    ]
    return sorted(marked, key=lambda item: str(item.run.path))


def by_time(runs: list[Listed]) -> list[Listed]:
    """Return the runs in the order of their first submission; those never submitted come last."""
    return sorted(runs, key=lambda item: (item.started is None, item.started or 0.0))


def by_job(runs: list[Listed]) -> list[Listed]:
    """Return the runs in the order of their latest job id; those without one come last."""
    return sorted(runs, key=lambda item: (item.job is None, len(item.job or ""), item.job or ""))


@contextmanager
def _telling(run: RunDir, tell: Callable[[str], None] | None) -> Iterator[None]:
    """Tell of what is damaged instead of raising: a neighbour's run must not hide all others."""
    try:
        yield
    except OSError as error:
        problem = str(FileTrouble.of(error, run.label))
    except EsisError as error:
        problem = error.message
    else:
        return
    if tell is not None:
        tell(problem if str(run.path) in problem else f"{run.path}: {problem}")


def _listed(run: RunDir, evidence: Evidence, brief: bool) -> Listed:
    if brief:
        return Listed(run, None, None, len(evidence.indices), evidence.looks_complete, False)
    from esis.records.start_time import parse_start_time

    jobs = old.job_ids(_text(run.job_ids))
    started = parse_start_time(_text(run.start_time))
    if started is None and run.start_time.exists():
        started = run.start_time.stat().st_mtime
    return Listed(run, started, jobs[-1] if jobs else None, len(evidence.indices), evidence.looks_complete, False)


def _is_oldest(run: RunDir) -> bool:
    """Return whether it is such a run, as far as this user may look."""
    try:
        return old.is_oldest(run)
    except OSError:
        return False


def _listed_oldest(run: RunDir) -> Listed:
    """List a run of before 0.0.4, of which little is known."""
    jobs = old.job_ids_in(run.oldest_job_ids)
    return Listed(
        run,
        old.start_time_in(run.oldest_start_time),
        jobs[-1] if jobs else None,
        len(find_parameter_files(run.parameters)) if run.parameters.is_dir() else 0,
        False,
        False,
    )


def _text(path: Path) -> str:
    """Return the content of a small file; empty where there is none. Raises OSError, CorruptState."""
    try:
        return read_limited(path, _SMALL).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _current_runs(place: Path, files: list[str], sources: Sources) -> Iterator[Path]:
    """Yield where the run of each workflow file in `place` is or would be; one that can't be read has none."""
    for name in files:
        if name in (DEFAULT_NAME, OLD_NAME) or name.endswith(".esis.json"):
            try:
                yield resolve(place / name, sources.read, sources.digest_of).run.path
            except (EsisError, OSError, RuntimeError):  # Path.resolve() raises that for a loop of links
                continue
