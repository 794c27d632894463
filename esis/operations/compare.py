"""Tell why a workflow has another hash than a run that exists: which files and requirements differ."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from esis.errors import BadInput, CorruptState, EsisError
from esis.files import names_in
from esis.model.fingerprint import HASHED_ROLES, Kind, read_status, status_lines, text_digest
from esis.model.requirements import Node, Requirement, base_name
from esis.model.sources import Source, file_digests
from esis.model.workdir import RunDir, is_run_name
from esis.model.workflow import Workflow, stand_in
from esis.operations.witness.moved import moved_along
from esis.operations.witness.target import definition
from esis.records import provenance, stage
from esis.records.stage import Stage

_FILES = (Kind.FILE, Kind.EXECUTABLE)

# Role (one of HASHED_ROLES, "include" or "requirement") and stored path, with the hash.
Lines = Mapping[tuple[str, str], str]


class What(Enum):
    """Name what became of a part of a workflow since the run was built."""

    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True)
class Change:
    """Hold one difference between a run and its workflow's present files."""

    what: What
    role: str
    path: Path  # where the file, directory or workflow file is (or was)
    before: str | None = None  # hashes
    after: str | None = None
    files: tuple[tuple[What, str], ...] = ()  # of an included directory, by their relative paths
    why: Comparison | None = None  # of a requirement whose earlier run is there, too
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """Hold how a workflow differs from a run; no change where it is the run of the present files."""

    node: Node
    run: RunDir
    changes: tuple[Change, ...]


def nearest(node: Node) -> RunDir:
    """Return the run of the present files, or the one with the fewest differences, the latest of several.

    Raises BadInput where there is none.
    """
    found = []
    for run in _runs(node.run.path.parent):
        try:
            differences = len(_differing(_lines_of(run, node.workflow), _present(node)))
            found.append((differences, -run.wf_status.stat().st_mtime, run))
        except (EsisError, OSError):
            continue  # nothing can be told of it; named by the user, it is an error
    if not found:
        raise BadInput(
            f"there is no run of {node.workflow.path} in {node.run.path.parent} to compare with", "esis run builds one"
        )
    return min(found, key=lambda item: item[:2])[2]


def compare(node: Node, run: RunDir) -> Comparison:
    """Tell how the present files of `node` differ from those of `run`. Raises BadInput, CorruptState."""
    return _compare(node, run, set())


def _compare(node: Node, run: RunDir, told: set[tuple[RunDir, RunDir]]) -> Comparison:
    """Compare; what is in `told` isn't gone into again, for many ways may lead to one requirement."""
    before, after = _lines_of(run, node.workflow), _present(node)
    changes = [_change(node, run, key, before.get(key), after.get(key), told) for key in _differing(before, after)]
    return Comparison(node, run, tuple(changes))


def workflow_of(run: RunDir) -> Path:
    """Return the workflow file that a run was built from. Raises BadInput."""
    found = provenance.read(run).workflow_file
    if found is None:
        raise BadInput(f"{run.path} doesn't tell which workflow file it is of", "name the workflow file, too")
    return stand_in(moved_along(run, Path(found)))


def _runs(parent: Path) -> Iterator[RunDir]:
    """Yield the runs in a directory that were built, or that 0.0.4 made."""
    for run in (RunDir(parent / name) for name in sorted(filter(is_run_name, names_in(parent)))):
        with suppress(CorruptState, OSError):
            state = stage.read(run)
            if state is None or state.stage is Stage.PREPARED:
                yield run


def _differing(before: Lines, after: Lines) -> list[tuple[str, str]]:
    """Return the keys whose values differ, in the order of wf_status; scripts count by their role alone."""
    keys = dict.fromkeys((*after, *before))
    order = (*HASHED_ROLES, "include", "requirement")
    return sorted(
        (key for key in keys if before.get(key) != after.get(key)), key=lambda key: (order.index(key[0]), key[1])
    )


def _present(node: Node) -> Lines:
    return parse_status(node.status_text, node.workflow)


def _lines_of(run: RunDir, workflow: Workflow) -> Lines:
    """Return what a run was built from. Raises BadInput, CorruptState."""
    text = read_status(run)
    if text_digest(text) != run.digest:
        raise CorruptState(f"{run.wf_status} is corrupt: its hash is not that of the run")
    with suppress(EsisError):  # 0.0.4 kept none: the present one tells what is a requirement
        workflow = definition(run)
    return parse_status(text, workflow)


def parse_status(text: str, workflow: Workflow) -> Lines:
    """Read a wf_status. Raises CorruptState."""
    found: dict[tuple[str, str], str] = {}
    for number, (tag, value) in enumerate(status_lines(text)):
        role = HASHED_ROLES[number] if number < len(HASHED_ROLES) else None
        if not tag or role not in (None, tag):
            raise CorruptState(f"line {number + 1} of the wf_status is not what it should be: {tag}:{value}")
        if role is not None:
            found[role, ""] = value
        else:
            found["requirement" if tag in workflow.requires else "include", tag] = value
    return found


def _change(
    node: Node,
    run: RunDir,
    key: tuple[str, str],
    before: str | None,
    after: str | None,
    told: set[tuple[RunDir, RunDir]],
) -> Change:
    role, stored = key
    what = What.ADDED if before is None else What.REMOVED if after is None else What.CHANGED
    workflow = node.workflow
    if role in HASHED_ROLES:
        return Change(what, role, _tidy(workflow, workflow.script(role)), before, after)
    change = Change(what, role, _tidy(workflow, stored), before, after)
    if what is not What.CHANGED or before is None:
        return change
    if role == "include":
        return replace(change, files=tuple(_files(workflow.resolve(stored), run.includes / base_name(stored))))
    (requirement,) = (item for item in node.requirements if item.stored == stored)
    return _explained(change, requirement, before, told)


def _tidy(workflow: Workflow, stored: str) -> Path:
    return Path(os.path.normpath(workflow.resolve(stored)))


def _explained(change: Change, requirement: Requirement, before: str, told: set[tuple[RunDir, RunDir]]) -> Change:
    """Say why a requirement has another hash, as far as its earlier run is there."""
    earlier = RunDir.of(requirement.run.path.parent, before)
    if requirement.node is None:
        return replace(change, note=f"frozen to {requirement.run.label}, was {earlier.label}")
    if (requirement.run, earlier) in told:
        return replace(change, note="as above")
    told.add((requirement.run, earlier))
    try:
        return replace(change, why=_compare(requirement.node, earlier, told))
    except (EsisError, OSError):
        return replace(change, note=f"its earlier run {earlier.label} is not there any more")


def _files(now: Path, then: Path) -> Iterator[tuple[What, str]]:
    """Yield what differs between an included directory and its copy in a run."""
    if not (now.is_dir() and then.is_dir()):
        return
    try:
        sources = [Source.survey(now), Source.survey(then)]
        digests = file_digests(sources, [None, None])
    except EsisError:
        return  # the setup script put something else there
    new, old = (
        {entry.relative: (entry.kind, entry.target, found.get(entry.relative)) for entry in source.entries or ()}
        for source, found in zip(sources, digests)
    )
    for relative in sorted({*new, *old}, key=os.fsencode):
        if old.get(relative) != new.get(relative):
            what = What.ADDED if relative not in old else What.REMOVED if relative not in new else What.CHANGED
            yield what, relative
