"""Copy a workflow's files aside, hashing the bytes that are written: the stored hash is that of the stored bytes."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from esis.errors import EsisError
from esis.model.fingerprint import Kind, status_text, text_digest, tree_entries
from esis.model.requirements import Node, base_name
from esis.model.sources import Source, copy_file, read_sources
from esis.model.workdir import RunDir
from esis.operations.context import Context

_NO_MODES = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def copy_workflow(node: Node, staging: RunDir, context: Context) -> None:
    """Copy scripts and includes of `node` into `staging`. Raises EsisError if a source changed since it was hashed.

    Includes that `context` has copies of are moved there.
    """
    workflow = node.workflow
    copied: dict[Path, str] = {}
    for stored in workflow.scripts():
        source = workflow.resolve(stored)
        copied[source] = copy_file(source, staging.path / base_name(stored))
    targets: dict[Path, Path] = {}
    for stored in workflow.param_includes:
        source, target = workflow.resolve(stored), staging.includes / base_name(stored)
        ready = context.copies.get(source)
        if ready is not None and os.path.lexists(ready.path):
            ready.path.rename(target)
            copied[source] = ready.digest
        else:
            targets[source] = target
    sources = [Source.survey(source, verify=True) for source in targets]
    copied.update(zip(targets, read_sources(sources, list(targets.values()))))
    required = {item.stored: item.run.digest for item in node.requirements}
    text = status_text(workflow, lambda path: copied[path], required)
    if text_digest(text) != node.digest:
        changed = [stored for stored, before in _lines(node.status_text).items() if _lines(text).get(stored) != before]
        raise EsisError(f"{', '.join(changed)} changed while it was being copied", "run the command again")


def files_of(node: Node, run: RunDir) -> list[Path]:
    """Return the snapshot's files, as long as no script of the user's has made others beside them."""
    found = [run.path / base_name(stored) for stored in node.workflow.scripts()]
    for stored in node.workflow.param_includes:
        target = run.includes / base_name(stored)
        found.append(target)
        if target.is_dir() and not target.is_symlink():
            kinds = (Kind.FILE, Kind.EXECUTABLE)
            found[-1:] = [target / entry.relative for entry in tree_entries(target) if entry.kind in kinds]
    return found


def marks_of(files: Sequence[Path]) -> list[object]:
    """Return for each file what is another value once somebody has written to it, or put another one in its place."""
    return [_mark(path) for path in files]


def _mark(path: Path) -> object:
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def make_read_only(files: Sequence[Path]) -> OSError | None:
    """Take the write permission from files of the snapshot; what the setup script removed is left out.

    It is a courtesy: where the file system has no such thing, or a file is somebody else's, it is left, and what was
    said of the first such file is returned. Raises OSError for anything else.
    """
    refused = None
    for path in files:
        try:
            _protect(path)
        except OSError as error:
            if error.errno not in _NO_MODES:
                raise
            refused = refused or error
    return refused


def _protect(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not path.is_symlink():
        path.chmod(mode & 0o7555)


def _lines(text: str) -> dict[str, str]:
    return {line.rpartition(":")[0]: line for line in text.split("\n")}
