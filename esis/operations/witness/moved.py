"""Find what a run was built beside where all of it was moved together: a project that changes its file system."""

from __future__ import annotations

import os
from pathlib import Path

from esis.errors import EsisError
from esis.files import is_there
from esis.model.fingerprint import read_status, status_lines
from esis.model.requirements import run_parent
from esis.model.workdir import RunDir
from esis.model.workflow import load
from esis.operations.witness.target import definition
from esis.records import provenance


def moved_along(run: RunDir, place: Path) -> Path:
    """Return where that is which was at `place` when the run was built: there, or as it was seen from the run.

    `place` itself, where it is at neither, or nobody can tell.
    """
    origin = provenance.read(run).workflow_file
    if origin is None:
        return place
    try:
        if is_there(place):
            return place
        before = run_parent(definition(run)._replace(path=Path(origin)))
        found = Path(os.path.normpath(run.path.parent / os.path.relpath(place, before)))
        return found if is_there(found) else place
    except (EsisError, OSError):
        return place


def required_along(run: RunDir, place: Path) -> Path:
    """Return where a required run is: at `place`, or moved along, or where its workflow keeps its runs by now.

    The latter after a second move: `place` is then where a submission between the two found it. `place` itself, where
    it is at none of them, or nobody can tell.
    """
    found = moved_along(run, place)
    try:
        if is_there(found):
            return found
        hashes = dict(status_lines(read_status(run)))
        for stored in definition(run).requires:
            if stored in hashes and RunDir.of(Path(), hashes[stored]).path.name == place.name:
                return beside_its_workflow(run, stored, place.name) or place
    except (EsisError, OSError):
        return place
    return place


def beside_its_workflow(run: RunDir, stored: str, name: str) -> Path | None:
    """Return the required run of that name where the workflow, by its path as stored, keeps its runs as it is now."""
    origin = provenance.read(run).workflow_file
    if origin is None:
        return None
    try:
        workflow = definition(run)._replace(path=moved_along(run, Path(origin)))
        place = run_parent(load(workflow.requirement_file(stored))) / name
    except (EsisError, OSError):
        return None
    return place if place.is_dir() else None
