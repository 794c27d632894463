"""Choose what of a run goes into an archive, and walk over it in the order of the names."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from glob import has_magic
from pathlib import Path

from esis.errors import BadInput
from esis.files import TEMPORARY_PREFIX, is_hollow
from esis.model.fingerprint import Kind, describe
from esis.model.requirements import base_name
from esis.model.workdir import RunDir
from esis.model.workflow import Workflow
from esis.operations.logs.files import find_logs, missing_logs
from esis.operations.witness.evidence import Evidence
from esis.operations.witness.status import RunStatus, TaskState
from esis.records import stage

# Names, once: properties that make a Path for each of a hundred thousand files take most of the time.
_RUN = RunDir(Path())
_PRIVATE, _CWD, _CHECKPOINTS = _RUN.private.name, _RUN.cwd.name, _RUN.checkpoints.name
_CRATE, _MANIFEST = _RUN.crate_metadata.name, _RUN.manifest.name
_PARTS = frozenset({_RUN.script.name, *(path.parts[0] for path in _RUN.directories())})
_DATA = frozenset({_RUN.parameters.name, _RUN.results.name, _CWD})
_MOMENTARY = (_RUN.lock.name, _RUN.attempts.name, f"{_RUN.tasks.name}/.")
_MADE_ANEW = frozenset({_RUN.requirements.name, _RUN.link_list.name})
_SUBMISSIONS = f"{_RUN.submissions.name}/"
_SHOWN = 5  # names in a note


class Logs(Enum):
    """Name the choices of logs."""

    ALL = "all"
    FAILED = "failed"  # of the tasks that are not done
    NONE = "none"


@dataclass(frozen=True)
class Scope:
    """Say what goes into an archive beside scripts, parameters, results and records."""

    logs: Logs = Logs.ALL
    cwd: tuple[str, ...] = ()  # patterns below cwd/
    prepared: bool = True  # what the setup script made beside the scripts
    anonymous: bool = False


@dataclass(frozen=True)
class Item:
    """Name one entry of an archive."""

    name: str
    kind: Kind
    source: Path | None = None  # of a file; None where the content is given
    content: bytes = b""
    target: str = ""  # of a symbolic link
    mine: bool = False  # whether ESIS wrote it, not the user or a program of theirs


@dataclass(frozen=True)
class Listing:
    """Hold what was chosen, as sets of names relative to the run."""

    run: RunDir
    scripts: frozenset[str]
    scope: Scope
    chosen: frozenset[str]  # logs, and files and directories below cwd/; parents included
    unwanted: frozenset[str]  # logs that the choice of logs leaves out
    made: Mapping[str, bytes | None] = field(default_factory=dict)  # contents that replace files; None leaves one out
    rewrite: Callable[[str, Path], bytes | None] | None = None  # for ESIS's own records


def select(
    run: RunDir,
    workflow: Workflow,
    evidence: Evidence,
    status: RunStatus,
    scope: Scope,
    made: Mapping[str, bytes | None],
    note: Callable[[str], None],
    rewrite: Callable[[str, Path], bytes | None] | None = None,
) -> Listing:
    """Decide what goes in. Raises BadInput for a pattern of --cwd that matches nothing.

    `note` is told which logs should go in and aren't there, and which don't go in though --cwd matches them.
    """
    logs, wanted = _logs(run, evidence, status, scope.logs, note)
    matched, named = _matches(run, scope.cwd)
    chosen = wanted | matched
    unwanted = logs - wanted - named
    _tell_left_out(unwanted & matched, scope.logs, note)
    scripts = frozenset(base_name(stored) for stored in workflow.scripts())
    clashing = sorted(scripts & {run.crate_metadata.name, run.manifest.name})
    if clashing:
        raise BadInput(f"the workflow has a file {clashing[0]}, and an archive needs that name for itself")
    if stage.has_own_mark(run):  # it is one of a moment; the records tell the same
        made = {**made, f"{_PRIVATE}/{run.complete_mark.name}": None}
    return Listing(
        run,
        scripts,
        scope,
        frozenset(chosen | {parent for name in chosen for parent in _parents(name)}),
        frozenset(unwanted),
        made,
        rewrite,
    )


def walk(listing: Listing, note: Callable[[str], None]) -> Iterator[Item]:
    """Yield all entries in the order of their names, directories before what is in them.

    `note` is told what had to be left out.
    """
    yield from _walk(listing, "", note)


def _walk(listing: Listing, below: str, note: Callable[[str], None]) -> Iterator[Item]:
    run = listing.run
    made = listing.made
    here = {name[len(below) :] for name in made if name.startswith(below) and "/" not in name[len(below) :]}
    for name in sorted({*os.listdir(run.path / below), *here}, key=os.fsencode):
        relative = f"{below}{name}"
        if relative in made:
            content = made[relative]
            if content is not None:
                script = relative == run.script.name
                yield Item(relative, Kind.EXECUTABLE if script else Kind.FILE, content=content, mine=not script)
        elif _wanted(listing, relative):
            item = _item(listing, relative, note)
            if item is not None:
                yield item
                if item.kind is Kind.DIRECTORY:
                    yield from _walk(listing, f"{relative}/", note)


def _wanted(listing: Listing, relative: str) -> bool:
    top, _, rest = relative.partition("/")
    name = relative.rpartition("/")[2]
    if name.startswith(TEMPORARY_PREFIX) or relative in listing.unwanted:
        return False
    if top == _PRIVATE:
        # The lock is of the moment. Required runs are not in here, so nobody could check them. Claims fence the jobs of
        # submissions that are over.
        if rest == _RUN.folded_logs.name and listing.scope.logs is not Logs.ALL:
            return False
        return not (
            rest.startswith(_MOMENTARY)
            or rest in _MADE_ANEW
            or (rest.startswith(_SUBMISSIONS) and not name.endswith((".json", ".map")))
        )
    if not rest:
        if relative in (_CRATE, _MANIFEST):
            return False  # of an archive that was unpacked; they are made anew
        return relative in _PARTS or relative in listing.scripts or listing.scope.prepared or relative in listing.chosen
    if relative in listing.chosen:
        return True
    # Without what the setup script made, of a directory of logs there are only these.
    return top not in (_CWD, _CHECKPOINTS) and (listing.scope.prepared or top in _PARTS or top in listing.scripts)


def _item(listing: Listing, relative: str, note: Callable[[str], None]) -> Item | None:
    """Describe what is on disk. Links are kept in the snapshot and in what the setup script made, else followed."""
    path = f"{listing.run.path}/{relative}"
    top = relative.partition("/")[0]
    there = os.lstat(path)
    mode = there.st_mode
    if stat.S_ISLNK(mode):
        target = os.readlink(path)  # noqa: PTH115  Path.readlink would tidy the target up
        if top not in _DATA and not (listing.scope.anonymous and target.startswith("/")):
            return Item(relative, Kind.LINK, target=target)
        with contextlib.suppress(OSError):  # it points to nothing
            there = os.stat(path) if top in _DATA else there  # noqa: PTH116  a hundred thousand times
        mode = there.st_mode
        # The whole of it may lie on another file system; a link to a directory further down may lead round in a circle.
        if not stat.S_ISREG(mode) and not (stat.S_ISDIR(mode) and _lies_elsewhere(listing.run, relative)):
            note(f"left out: {relative} is a link to {target}")
            return None
    if stat.S_ISDIR(mode):
        return Item(relative, Kind.DIRECTORY)
    if not stat.S_ISREG(mode):
        note(f"left out: {relative} is {describe(mode)}")
        return None
    if is_hollow(there):
        note(f"left out: {relative} is a sparse file of {there.st_size} bytes")
        return None
    mine = top == _PRIVATE
    kind = Kind.EXECUTABLE if mode & stat.S_IXUSR else Kind.FILE
    if mine and listing.rewrite is not None:
        content = listing.rewrite(relative, Path(path))
        if content is None:
            note(f"left out: {relative} may tell who made the run")
            return None
        return Item(relative, kind, content=content, mine=True)
    return Item(relative, kind, source=Path(path), mine=mine)


def _lies_elsewhere(run: RunDir, relative: str) -> bool:
    """Return whether a link stands for all of results/ or parameters/, and leads to none of what is chosen from."""
    if relative not in _DATA or relative == _CWD:
        return False
    there, private = os.path.realpath(run.path / relative), os.path.realpath(run.private)
    holds_logs = os.path.commonpath([there, os.path.realpath(run.cwd)]) == there
    return not holds_logs and os.path.commonpath([there, private]) not in (there, private)


def _matches(run: RunDir, patterns: Sequence[str]) -> tuple[set[str], set[str]]:
    """Return what the patterns of --cwd mean, with all that is in directories among it, and what has its name there."""
    found: set[str] = set()
    named: set[str] = set()
    for pattern in patterns:
        parts = pattern.split("/")
        if pattern.startswith("/") or ".." in parts or not pattern.strip("/."):
            raise BadInput(f"--cwd {pattern!r}: expected a pattern of names below cwd/, like '*.dat' or 'plots/**'")
        matching = [path for path in run.cwd.glob(pattern) if path != run.cwd]
        if not matching:
            raise BadInput(f"--cwd {pattern!r} matches nothing in {run.cwd}")
        for path in matching:
            found.add(str(path.relative_to(run.path)))
            if not has_magic(pattern):
                named.add(str(path.relative_to(run.path)))
            if path.is_dir() and not path.is_symlink():
                found.update(str(inner.relative_to(run.path)) for inner in path.rglob("*"))
    return found, named


def _tell_left_out(names: set[str], logs: Logs, note: Callable[[str], None]) -> None:
    """Name the logs that --cwd matches and that stay behind: nobody may take them for packed."""
    if names:
        shown = ", ".join(sorted(names)[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
        many = len(names) > 1
        note(
            f"left out: {len(names)} log{'s' if many else ''} that --cwd matches, for --logs {logs.value} leaves "
            f"{'them' if many else 'it'} out: {shown}; --logs all packs them, and so does --cwd with a whole name"
        )


def _logs(
    run: RunDir, evidence: Evidence, status: RunStatus, logs: Logs, note: Callable[[str], None]
) -> tuple[set[str], set[str]]:
    """Return the logs in the run, and those that are wanted; `note` is told which of these there aren't."""
    if logs is Logs.NONE:
        return find_logs(run, evidence, ()).names, set()
    if logs is Logs.FAILED:
        bad = frozenset(status.tasks) - frozenset(status.indices(TaskState.DONE))
        found = find_logs(run, evidence, bad)
        chosen = found.chosen
    else:
        bad = frozenset(status.tasks)
        found = find_logs(run, evidence, bad, folded=True)
        chosen = found.names
    for text in missing_logs(evidence, status, found, sorted(bad)):
        note(text)
    return found.names, chosen


def _parents(name: str) -> Iterator[str]:
    parts = name.split("/")[:-1]
    for count in range(1, len(parts) + 1):
        yield "/".join(parts[:count])
