"""Copy a workflow's files aside, hashing the bytes that are written: the stored hash is that of the stored bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from esis.errors import EsisError
from esis.files import CHUNK, fsync_directory, naming, write_all
from esis.model.fingerprint import Entry, Kind, open_source, status_text, text_digest, tree_digest, tree_entries
from esis.model.requirements import Node, base_name
from esis.model.workdir import RunDir


def copy_workflow(node: Node, staging: RunDir) -> None:
    """Copy scripts and includes of `node` into `staging`. Raises EsisError if a source changed since it was hashed."""
    workflow = node.workflow
    copied: dict[Path, str] = {}
    for stored in workflow.scripts():
        source = workflow.resolve(stored)
        copied[source] = copy_file(source, staging.path / base_name(stored))
    for stored in workflow.param_includes:
        source = workflow.resolve(stored)
        target = staging.includes / base_name(stored)
        copied[source] = copy_tree(source, target) if source.is_dir() else copy_file(source, target)
    required = {item.stored: item.run.digest for item in node.requirements}
    text = status_text(workflow, lambda path: copied[path], required)
    if text_digest(text) != node.digest:
        changed = [stored for stored, before in _lines(node.status_text).items() if _lines(text).get(stored) != before]
        raise EsisError(f"{', '.join(changed)} changed while it was being copied", "run the command again")


def copy_file(source: Path, target: Path) -> str:
    """Copy the bytes and the executable bit, durably; return the SHA-256 of what was written."""
    digest = hashlib.sha256()
    reading = open_source(source)
    try:
        executable = os.fstat(reading).st_mode & 0o100
        with naming(target):
            writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
                              0o777 if executable else 0o666)
            try:
                while data := os.read(reading, CHUNK):
                    digest.update(data)
                    write_all(writing, data)
                os.fsync(writing)
            finally:
                os.close(writing)
    finally:
        os.close(reading)
    return digest.hexdigest()


def copy_tree(source: Path, target: Path) -> str:
    """Copy a directory whole; return the SHA-256 of the listing of what was written."""
    target.mkdir()

    def copying() -> Iterator[Entry]:
        for entry in tree_entries(source):
            if entry.kind is Kind.DIRECTORY:
                (target / entry.relative).mkdir()
            elif entry.kind is Kind.LINK:
                (target / entry.relative).symlink_to(entry.target)
            yield entry

    digest = tree_digest(copying(), lambda entry: copy_file(source / entry.relative, target / entry.relative))
    fsync_directory(target)
    return digest


def make_read_only(node: Node, run: RunDir) -> None:
    """Take the write permission from the snapshot's files; what the setup script removed is left out."""
    for stored in node.workflow.scripts():
        _protect(run.path / base_name(stored))
    for stored in node.workflow.param_includes:
        target = run.includes / base_name(stored)
        if target.is_dir() and not target.is_symlink():
            for entry in tree_entries(node.workflow.resolve(stored)):
                if entry.kind in (Kind.FILE, Kind.EXECUTABLE):
                    _protect(target / entry.relative)
        else:
            _protect(target)


def _protect(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not path.is_symlink():
        path.chmod(mode & 0o7555)


def _lines(text: str) -> dict[str, str]:
    return {line.rpartition(":")[0]: line for line in text.split("\n")}
