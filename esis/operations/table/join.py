"""Join the parameters of required runs to those of a run, through a key that both have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from esis.errors import BadInput, CorruptState, RequirementTrouble
from esis.model.fingerprint import read_status, status_lines
from esis.model.parametersets import ParameterSets
from esis.model.workdir import RunDir
from esis.operations.witness.moved import beside_its_workflow, moved_along
from esis.operations.witness.target import definition
from esis.records import required


@dataclass(frozen=True)
class Required:
    """Name a run that another one requires."""

    name: str
    run: RunDir


@dataclass(frozen=True)
class Join:
    """Find the parameter set of a required run that has the same value under a key.

    It holds the key's value and the index of each of that run's tasks, and one parameter set at a time.
    """

    name: str
    run: RunDir
    key: str
    _tasks: Mapping[Any, int] = field(repr=False)
    _twice: Mapping[Any, int] = field(repr=False)
    _sets: ParameterSets = field(repr=False)

    @classmethod
    def of(cls, required: Required, key: str) -> Join:
        """Read the required run's parameters. Raises BadInput where one lacks the key, CorruptState, OSError."""
        sets = ParameterSets(required.run)
        tasks: dict[Any, int] = {}
        twice: dict[Any, int] = {}
        for task, parameters in sets.iterate(sets.indices()):
            value = _comparable(_value(parameters, key, f"task {task} of the required run {required.name!r}"))
            if tasks.setdefault(value, task) != task:
                twice.setdefault(value, task)
        return cls(required.name, required.run, key, tasks, twice, sets)

    def columns(self, task: int, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the columns for a task with these parameters; none where no set fits. Raises BadInput for several."""
        shown = _value(parameters, self.key, f"task {task}")
        value = _comparable(shown)
        found = self._tasks.get(value)
        if found is None:
            return {}
        if value in self._twice:
            raise BadInput(
                f"several tasks of the required run {self.name!r} ({found}, {self._twice[value]}, …) have "
                f"{self.key} = {json.dumps(shown)}, as task {task} has",
                "join through a key whose values are all different",
            )
        return {self.name: self._sets.get(found)}


def joins_of(run: RunDir, keys: Sequence[str]) -> list[Join]:
    """Return the joins that `KEY` (with every required run) and `NAME:KEY` (with one) mean.

    Raises BadInput, RequirementTrouble where a required run can't be found.
    """
    known = {item.name: item for item in required_runs(run)}
    if not known:
        raise BadInput(f"{run.label} requires no runs", "leave --requirements out")
    chosen: dict[str, str] = {}
    for text in keys:
        name, colon, key = text.partition(":")
        if not colon or name not in known:
            names, key = list(known), text
            if colon:
                raise BadInput(f"{run.label} has no requirement called {name!r}", f"there are: {', '.join(known)}")
        else:
            names = [name]
        for item in names:
            if chosen.setdefault(item, key) != key:
                raise BadInput(f"two keys for the requirement {item!r}: {chosen[item]} and {key}", "give it one")
    return [Join.of(known[name], key) for name, key in chosen.items()]


def required_runs(run: RunDir) -> list[Required]:
    """Return the runs that a run requires, by the names that its generator knew. Raises RequirementTrouble."""
    workflow = definition(run)
    hashes = dict(status_lines(read_status(run)))  # of an include and a requirement with one path the latter
    listed = {path.name: path for path in required.paths(run)}
    found = []
    for stored in workflow.requires:
        name, digest = workflow.name_of(stored), hashes.get(stored)
        if digest is None:
            raise CorruptState(f"{run.wf_status} has no hash of the requirement {stored!r}")
        wanted = RunDir.of(Path(), digest).path.name
        place = moved_along(run, listed[wanted]) if wanted in listed else None
        if place is None or not place.is_dir():
            place = beside_its_workflow(run, stored, wanted)
        if place is None:
            where = listed.get(wanted, wanted)
            raise RequirementTrouble(
                f"{run.label}: its requirement {name!r}, {where}, can't be found",
                "it was moved or deleted; export without --requirements",
            )
        found.append(Required(name, RunDir(place)))
    return found


def _value(parameters: Mapping[str, Any], key: str, what: str) -> Any:
    """Return the value under a key, which may have dots for nested ones. Raises BadInput."""
    if key in parameters:
        return parameters[key]
    value: Any = parameters
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise BadInput(f"{what} has no parameter {key!r}", f"its parameters are: {', '.join(sorted(parameters))}")
        value = value[part]
    return value


def _comparable(value: Any) -> Any:
    """Return what can be looked up: 2 and 2.0 are equal, 1 and true are not."""
    return value if type(value) in (int, float, str) else (type(value).__name__, json.dumps(value, sort_keys=True))
