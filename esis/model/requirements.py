"""The graph of workflows that need each other: hashes, cycles, and the order in which to run them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from esis.errors import BadInput
from esis.model.fingerprint import hash_source, status_text, text_digest
from esis.model.workdir import RunDir
from esis.model.workflow import Workflow, load, name_note


class Requirement(NamedTuple):
    """Name a workflow whose run another one needs."""

    stored: str  # path as stored in the workflow file that requires it
    name: str
    workflow_file: Path
    run: RunDir
    node: Node | None  # None where it is frozen: its present content doesn't matter then

    @property
    def frozen(self) -> bool:
        """Return whether it is pinned to one hash."""
        return self.node is None


class Node(NamedTuple):
    """Hold a workflow of the graph with its hash, its run's place and what it requires."""

    workflow: Workflow
    status_text: str
    digest: str
    run: RunDir
    requirements: tuple[Requirement, ...]


def resolve(path: Path, read: Callable[[Path], Workflow] = load, hash_of: Callable[[Path], str] = hash_source) -> Node:
    """Read the workflow at `path` and all that it requires, directly or not; each is read and hashed once.

    Raises BadInput, also for a cycle, which it prints.
    """
    return _Resolver(read, hash_of).node(path)


def chain(wanted: Node) -> list[Node]:
    """Return all workflows in the order in which to run them, `wanted` last.

    A workflow's weight is its longest distance from the wanted one. They come in descending weight, those of equal
    weight in the order of their paths. Frozen requirements aren't part of it: nothing of theirs is ever run.
    """
    weights: dict[Path, int] = {}
    nodes: dict[Path, Node] = {}
    pending = [wanted]
    weights[key_of(wanted.workflow.path)] = 0
    # Longest distances in an acyclic graph: a node is looked at again whenever its weight grows.
    while pending:
        node = pending.pop()
        key = key_of(node.workflow.path)
        nodes[key] = node
        for below in direct(node):
            below_key = key_of(below.workflow.path)
            if weights.get(below_key, -1) < weights[key] + 1:
                weights[below_key] = weights[key] + 1
                pending.append(below)
    return [nodes[key] for key in sorted(nodes, key=lambda key: (-weights[key], str(key)))]


def name_notes(wanted: Node) -> list[str]:
    """Return what the user has to know about the names of workflow files that are required, directly or not."""
    notes = []
    for node in chain(wanted):
        for item in node.requirements:
            note = name_note(Path(os.path.normpath(node.workflow.resolve(item.stored))))
            notes += [f"{item.name}: {note}"] if note is not None and f"{item.name}: {note}" not in notes else []
    return notes


def direct(node: Node) -> Iterator[Node]:
    """Yield the workflows that `node` requires itself and that aren't frozen."""
    for requirement in node.requirements:
        if requirement.node is not None:
            yield requirement.node


def key_of(path: Path) -> Path:
    """Return what identifies a workflow file, however it was spelt; its own name isn't followed if it is a link."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  Path.resolve would follow the file itself
    return Path(os.path.realpath(absolute.parent)) / absolute.name  # Path.resolve() fails on a loop of links


class _Resolver:
    def __init__(self, read: Callable[[Path], Workflow], hash_of: Callable[[Path], str]) -> None:
        self._read = read
        self._hash_of = hash_of
        self._done: dict[Path, Node] = {}
        self._open: list[Path] = []
        self._hashes: dict[Path, str] = {}

    def node(self, path: Path) -> Node:
        key = key_of(path)
        if key in self._done:
            return self._done[key]
        if key in self._open:
            cycle = [*self._open[self._open.index(key) :], key]
            raise BadInput(
                "the requirements form a cycle: " + " -> ".join(str(item) for item in cycle),
                "take one of them out of its workflow file's 'requires'",
            )
        self._open.append(key)
        workflow = self._read(path)._replace(path=key)
        check_names(workflow)
        requirements = tuple(self._requirement(workflow, stored) for stored in workflow.requires)
        text = status_text(workflow, self._hash, {item.stored: item.run.digest for item in requirements})
        digest = text_digest(text)
        node = Node(workflow, text, digest, RunDir.of(place_of_runs(workflow), digest), requirements)
        self._open.pop()
        self._done[key] = node
        return node

    def _requirement(self, workflow: Workflow, stored: str) -> Requirement:
        path = key_of(workflow.requirement_file(stored))
        name = workflow.name_of(stored)
        frozen = workflow.freeze_requirements.get(stored)
        if frozen is None:
            node = self.node(path)
            return Requirement(stored, name, path, node.run, node)
        return Requirement(stored, name, path, RunDir.of(place_of_runs(self._read(path)), frozen), None)

    def _hash(self, path: Path) -> str:
        if path not in self._hashes:
            self._hashes[path] = self._hash_of(path)
        return self._hashes[path]


def run_parent(workflow: Workflow) -> Path:
    """Return the absolute directory of a workflow's runs, without symbolic links (as a job sees its own)."""
    return Path(os.path.realpath(workflow.run_parent))


def place_of_runs(workflow: Workflow) -> Path:
    """Return what `run_parent` does. Raises BadInput where runs may be elsewhere, or were meant to be."""
    unexpanded = not_expanded(workflow.workdirpath, workflow.path.parent)
    if unexpanded is not None:
        from shlex import quote  # seldom needed

        raise BadInput(
            f"{workflow.path}: workdirpath is {workflow.workdirpath!r}, and no shell makes another directory of "
            f"{unexpanded!r} there",
            "write the path itself, or let your shell do so: esis setup --workdir-path ~/runs, no quotation marks; if "
            f"you mean a directory of that name: mkdir -p {quote(unexpanded)} beside the workflow file",
        )
    check_links(workflow.run_parent)
    return run_parent(workflow)


def not_expanded(place: str, base: Path) -> str | None:
    """Return how far a path goes to a name that a shell would have made another one of, unless that is there."""
    names = place.split("/")
    first = next((name for name in names if name not in (".", "..")), "")
    for number, name in enumerate(names, 1):
        so_far = "/".join(names[:number])
        if ("$" in name or (name is first and name.startswith("~"))) and not os.path.lexists(base / so_far):
            return so_far
    return None


def check_links(place: Path) -> None:
    """Raise BadInput where a link on the way to `place` leads nowhere: behind it all runs may be that seem missing."""
    try:
        if place.is_dir():
            return
        gone = next((link for link in (place, *place.parents) if link.is_symlink() and not link.exists()), None)
    except OSError:
        return  # who goes there says what is wrong
    if gone is not None:
        raise BadInput(
            f"{place} can't be reached: {gone} is a link to {os.path.realpath(gone)}, and nothing is there",
            "mount or bring back what it leads to, or let the link lead where the runs are, then repeat the command; "
            "for another place: esis setup --workdir-path",
        )


def check_names(workflow: Workflow) -> None:
    """Raise BadInput where two files would meet under one name in the working directory, or a name can't be used."""
    seen: dict[str, str] = {}
    for stored in workflow.scripts():
        _unique(workflow, stored, seen)
    for reserved in ("README", "sbatch.sh", "includes", "parameters", "results", "cwd", "__checkpoints__", "__esis__"):
        if reserved in seen:
            raise BadInput(
                f"{workflow.path}: {seen[reserved]!r} has the name of something that ESIS itself puts into "
                f"the working directory",
                "rename it",
            )
    included: dict[str, str] = {}
    for stored in workflow.param_includes:
        _unique(workflow, stored, included)
    names = list(workflow.requires_names.values())
    for stored in workflow.requires:
        if names.count(workflow.name_of(stored)) > 1:
            raise BadInput(f"{workflow.path}: two requirements are called {workflow.name_of(stored)!r}")


def _unique(workflow: Workflow, stored: str, seen: dict[str, str]) -> None:
    name = base_name(stored)
    if name in (".", "..", "") or "/" in name:
        raise BadInput(f"{workflow.path}: {stored!r} has no base name to copy it under")
    if name in seen:
        raise BadInput(
            f"{workflow.path}: {seen[name]!r} and {stored!r} have the same base name",
            "rename one: both are copied into the working directory",
        )
    seen[name] = stored


def base_name(stored: str) -> str:
    """Return the name under which a stored path is copied into the working directory."""
    return Path(os.path.normpath(stored)).name
