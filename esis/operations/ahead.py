"""Copy large includes while they are hashed, before the name of the run is known: each is read once.

The copies are made in a directory of their own beside the runs, named as that of a build is, so that the next command
sweeps what a killed one leaves. Building the run moves them in; if it is there already, they are thrown away. That is
seldom: where a run holds a file of that name and size, the include is hashed first, and copied only if need be.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from esis.errors import EsisError
from esis.files import CHUNK, names_in
from esis.model.requirements import Node, base_name, key_of, place_of_runs, resolve, run_parent
from esis.model.sources import Source, Sources
from esis.model.workdir import STAGING_PREFIX, RunDir, is_run_name
from esis.model.workflow import Workflow
from esis.operations.context import Context, Copy

_WORTH_BYTES = 8 * CHUNK  # what is smaller is read twice: it is still in memory then


@contextmanager
def resolved(
    path: Path, context: Context, verify: bool = False, whole_chain: bool = False
) -> Iterator[tuple[Node, Context]]:
    """Resolve the workflow at `path`, which is about to be run; yields the node and a context with the copies.

    With `whole_chain` its requirements are about to be run, too. What wasn't used of the copies is removed afterwards.
    """
    early = _Early(key_of(path), verify, whole_chain)
    try:
        node = resolve(path, early.read, early.digest_of)
        yield node, context._replace(copies=early.copies())
    finally:
        early.remove()


class _Early:
    def __init__(self, wanted: Path, verify: bool, whole_chain: bool) -> None:
        self._wanted = None if whole_chain else wanted
        self._sources = Sources(verify, self._target)
        self._owners: dict[Path, Workflow] = {}  # of includes
        self._made: dict[Path, Path] = {}  # copies of includes
        self._areas: dict[Path, Path] = {}  # by the directory of runs

    def read(self, path: Path) -> Workflow:
        """Read a workflow file, and note its includes if it is to be run and could be."""
        workflow = self._sources.read(path)._replace(path=key_of(path))
        if workflow.param_includes and self._wanted in (None, workflow.path):
            from esis.operations.build.check_files import check_workflow
            from esis.operations.build.worker_bit import check_worker

            try:
                check_workflow(workflow, place_of_runs(workflow))
                check_worker(workflow)
            except EsisError:
                return workflow  # who runs it will be told
            self._owners.update((workflow.resolve(stored), workflow) for stored in workflow.param_includes)
        return workflow

    def digest_of(self, path: Path) -> str:
        """Hash a source, and copy it if that is worth it; without a copy where none can be written."""
        try:
            return self._sources.digest_of(path)
        except OSError:
            self.remove()
            self._owners.clear()
            return self._sources.digest_of(path)

    def copies(self) -> dict[Path, Copy]:
        """Return the copies that were made, by the includes' paths."""
        return {source: Copy(path, self._sources.digest_of(source)) for source, path in self._made.items()}

    def remove(self) -> None:
        """Remove what is left of the copies."""
        for area in self._areas.values():
            import shutil

            shutil.rmtree(area, ignore_errors=True)
        self._areas.clear()
        self._made.clear()

    def _target(self, source: Source) -> Path | None:
        workflow = self._owners.get(source.path)
        if workflow is None or sum(source.unknown.values()) < _WORTH_BYTES:
            return None
        parent, name = run_parent(workflow), base_name(str(source.path))
        if _may_be_there(parent, name, source):
            return None
        place = self._area(parent) / str(len(self._made))
        place.mkdir()
        self._made[source.path] = place / name
        return self._made[source.path]

    def _area(self, parent: Path) -> Path:
        if parent not in self._areas:
            parent.mkdir(parents=True, exist_ok=True)
            from esis.locks import Owner
            from esis.operations.build.interrupted import sweep_builds

            sweep_builds(parent)
            area = parent / f"{STAGING_PREFIX}early-{Owner.current().text()}"
            self._areas[parent] = area
            area.mkdir()
        return self._areas[parent]


def _may_be_there(parent: Path, name: str, source: Source) -> bool:
    """Return whether a run holds an include of that name whose largest file not remembered has the same size."""
    relative, size = max(source.unknown.items(), key=lambda item: item[1])
    for run in filter(is_run_name, names_in(parent)):
        try:
            if os.lstat(RunDir(parent / run).includes / name / relative).st_size == size:
                return True
        except OSError:
            continue
    return False
