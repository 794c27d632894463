"""Find what a run was built beside where all of it was moved together: a project that changes its file system."""

from __future__ import annotations

import os
from pathlib import Path

from esis.errors import EsisError
from esis.files import is_there
from esis.model.requirements import run_parent
from esis.model.workdir import RunDir
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
