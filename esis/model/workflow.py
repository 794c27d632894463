"""Read and write the workflow file `wf.esis.json`.

The keys are those of ESIS 0.0.4. Unknown keys are kept as they are, so that a newer or older ESIS loses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from esis.errors import BadInput, CorruptState, FileTrouble
from esis.files import read_limited, write_atomic
from esis.model.workdir import PREFIX, is_hash

DEFAULT_NAME = "wf.esis.json"
OLD_NAME = "wf.esis2.json"
FILE_LIMIT = 16 * 1024 * 1024  # bytes
DEFAULT_MAX_PARALLEL = 10
ROLES = ("setupscript", "param_generator", "sbatchtemplate", "workerscript")
_KEYS = (
    *ROLES,
    "param_includes",
    "requires",
    "requires_names",
    "freeze_requirements",
    "maxparallel",
    "workdirpath",
    "tasks_per_job",
    "tasks_parallel",
    "status",
)


class Workflow(NamedTuple):
    """Describe a workflow; every path is as stored, relative to the directory of `path`."""

    path: Path
    setupscript: str
    param_generator: str
    sbatchtemplate: str
    workerscript: str
    param_includes: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    requires_names: Mapping[str, str] = MappingProxyType({})
    freeze_requirements: Mapping[str, str] = MappingProxyType({})
    maxparallel: int = DEFAULT_MAX_PARALLEL
    workdirpath: str = "./"
    tasks_per_job: int = 1  # tasks that an element of the array works through
    tasks_parallel: int = 1  # of these at a time
    extra: Mapping[str, Any] = MappingProxyType({})

    @property
    def directory(self) -> Path:
        """Return the directory that stored paths are relative to."""
        return self.path.parent

    def resolve(self, stored: str) -> Path:
        """Return where a stored path points."""
        return self.directory / stored

    def requirement_file(self, stored: str) -> Path:
        """Return the workflow file that a requirement means: where its path points, or what stands in for that."""
        return stand_in(self.resolve(stored))

    @property
    def run_parent(self) -> Path:
        """Return the directory in which this workflow's runs are made."""
        return self.resolve(self.workdirpath)

    def name_of(self, requirement: str) -> str:
        """Return the name under which the generator finds the requirement stored as `requirement`."""
        try:
            return self.requires_names[requirement]
        except KeyError:
            raise BadInput(
                f"{self.path}: requires_names has no name for {requirement!r}",
                f"add one with: esis require {requirement} <name> {self.path}",
            ) from None

    def requirement_called(self, name: str) -> str:
        """Return the stored path of the requirement called `name`. Raises BadInput."""
        for stored in self.requires:
            if self.requires_names.get(stored) == name:
                return stored
        known = ", ".join(sorted(self.requires_names.values())) or "none"
        raise BadInput(
            f"{self.path} has no requirement called {name!r} (there are: {known})", "esis list-requirements shows them"
        )

    def script(self, role: str) -> str:
        """Return the stored path of the script that has one of the ROLES."""
        path: str = getattr(self, role)
        return path

    def scripts(self) -> tuple[str, ...]:
        """Return the stored paths of setup script, generator, template and worker."""
        return tuple(self.script(role) for role in ROLES)


def locate(given: str | None) -> tuple[Path, str | None]:
    """Return the workflow file that `given` means (a file, a directory, None for here), and a note for the user."""
    base = Path(given) if given is not None else Path()
    if given is not None and not base.is_dir():
        return stand_in(base), name_note(base)
    default, old = base / DEFAULT_NAME, base / OLD_NAME
    if not default.exists() and old.exists():
        return old, f"using {old}: there is no {DEFAULT_NAME} here (0.0.4's name)"
    return default, name_note(default)


def stand_in(path: Path) -> Path:
    """Return `path`, or the wf.esis.json beside it where it names a wf.esis2.json that isn't there.

    Scripts written for 0.0.4 name that one right after `esis setup`.
    """
    beside = path.with_name(DEFAULT_NAME) if path.name == OLD_NAME else path
    return beside if beside != path and not path.exists() and beside.exists() else path


def name_note(named: Path) -> str | None:
    """Return what the user has to know about a workflow file that was named, because there are two names."""
    if named.name not in (DEFAULT_NAME, OLD_NAME):
        return None
    if stand_in(named) != named:
        return f"there is no {named}: using the {DEFAULT_NAME} beside it"
    if named.with_name(DEFAULT_NAME).exists() and named.with_name(OLD_NAME).exists():
        return f"{named.parent} holds {DEFAULT_NAME} and {OLD_NAME} (0.0.4's name): using {named.name}"
    return None


def load(path: Path) -> Workflow:
    """Read the workflow file at `path`. Raises BadInput naming the file, the key and what was expected."""
    try:
        data = read_limited(path, FILE_LIMIT)
    except FileNotFoundError:
        raise BadInput(f"there is no workflow file {path}", "make one with: esis setup") from None
    except CorruptState as error:
        raise BadInput(f"workflow file: {error.message}") from error
    except IsADirectoryError:
        raise BadInput(f"{path} is a directory, not a workflow file") from None
    except OSError as error:
        raise FileTrouble.of(error, "reading the workflow file") from error
    return parse(path, data)


def parse(path: Path, data: bytes) -> Workflow:
    """Make a Workflow of a workflow file's bytes. Raises BadInput."""
    try:
        raw = json.loads(data.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except RecursionError:
        raise BadInput(f"{path} is nested too deeply to be a workflow file") from None
    except ValueError as error:
        raise BadInput(f"{path} is not valid JSON: {error}", "mend it, or make it anew with: esis setup") from None
    if not isinstance(raw, dict):
        raise BadInput(f"{path}: expected a JSON object, found {_kind(raw)}")
    for key, value in raw.items():
        try:
            json.dumps({key: value}, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise BadInput(
                f"{path}: key {key!r}: {error.object[error.start : error.end]!r} is no valid Unicode",
                "mend it, or make the file anew with: esis setup",
            ) from None
    reader = _Reader(path, raw)
    requires = reader.texts("requires")
    return Workflow(
        path=path,
        **{role: reader.text(role) for role in ROLES},
        param_includes=reader.texts("param_includes"),
        requires=requires,
        requires_names=reader.mapping("requires_names"),
        freeze_requirements={
            key: reader.digest(key, value) for key, value in reader.mapping("freeze_requirements").items() if value
        },
        maxparallel=reader.max_parallel(),
        tasks_per_job=reader.number("tasks_per_job"),
        tasks_parallel=reader.number("tasks_parallel"),
        workdirpath=reader.text("workdirpath", "./"),
        extra={key: value for key, value in raw.items() if key not in _KEYS or key == "status"},
    )


def save(workflow: Workflow, check: Callable[[], None] | None = None) -> None:
    """Write the workflow file, atomically, if `check` raises nothing at the last moment. Raises FileTrouble."""
    try:
        write_atomic(workflow.path, dump(workflow), check=check)
    except OSError as error:
        raise FileTrouble.of(error, "writing the workflow file") from error


def dump(workflow: Workflow) -> str:
    """Return the text of the workflow file."""
    value: dict[str, Any] = {
        **{role: workflow.script(role) for role in ROLES},
        "param_includes": list(workflow.param_includes),
        "requires": list(workflow.requires),
        "requires_names": dict(sorted(workflow.requires_names.items())),
        "freeze_requirements": dict(sorted(workflow.freeze_requirements.items())),
        "maxparallel": workflow.maxparallel,
        "workdirpath": workflow.workdirpath,
        "status": "",
    }
    for key, number in (("tasks_per_job", workflow.tasks_per_job), ("tasks_parallel", workflow.tasks_parallel)):
        if number != 1:
            value[key] = number
    value.update(workflow.extra)
    return json.dumps(value, indent=4, ensure_ascii=False) + "\n"


def require(workflow: Workflow, stored: str, name: str) -> Workflow:
    """Return `workflow` with the requirement `stored` called `name`. Raises BadInput where the name is taken."""
    for other, taken in workflow.requires_names.items():
        if taken == name and other != stored:
            raise BadInput(
                f"{workflow.path}: the name {name!r} belongs to the requirement {other}", "choose another one"
            )
    requires = workflow.requires if stored in workflow.requires else (*workflow.requires, stored)
    return workflow._replace(requires=requires, requires_names={**workflow.requires_names, stored: name})


def freeze(workflow: Workflow, stored: str, digest: str | None) -> Workflow:
    """Return `workflow` with the requirement `stored` pinned to `digest`; None takes the pin away."""
    frozen = {key: value for key, value in workflow.freeze_requirements.items() if key != stored}
    if digest is not None:
        frozen[stored] = digest
    return workflow._replace(freeze_requirements=frozen)


class _Reader(NamedTuple):
    path: Path
    raw: Mapping[str, Any]

    def _wrong(self, key: str, expected: str, value: Any) -> BadInput:
        return BadInput(f"{self.path}: key {key!r}: expected {expected}, found {_kind(value)}")

    def text(self, key: str, default: str | None = None) -> str:
        if key not in self.raw:
            if default is not None:
                return default
            raise BadInput(
                f"{self.path}: key {key!r} is missing (expected a path)",
                "add it, or make the file anew with: esis setup",
            )
        return self._checked(key, self.raw[key])

    def _checked(self, key: str, value: Any) -> str:
        if not isinstance(value, str) or not value:
            raise self._wrong(key, "a non-empty text", value)
        if any(character in value for character in "\n\r\0"):
            raise BadInput(f"{self.path}: key {key!r}: {value!r} holds a newline, which no path of a workflow may")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.raw.get(key, [])
        if not isinstance(value, list):
            raise self._wrong(key, "a list of paths", value)
        texts = tuple(self._checked(key, item) for item in value)
        repeated = sorted({item for item in texts if texts.count(item) > 1}) if len(set(texts)) < len(texts) else []
        if repeated:
            raise BadInput(f"{self.path}: key {key!r} holds {repeated[0]!r} twice")
        return texts

    def mapping(self, key: str) -> dict[str, str]:
        value = self.raw.get(key, {})
        if not isinstance(value, dict):
            raise self._wrong(key, "an object of texts", value)
        found = {name: item for name, item in value.items() if item is not None}
        for name, item in found.items():
            if not isinstance(item, str):
                raise self._wrong(f"{key}.{name}", "a text", item)
        return found

    def digest(self, key: str, value: str) -> str:
        digest = value[len(PREFIX) :] if value.startswith(PREFIX) else value
        if not is_hash(digest):
            raise BadInput(
                f"{self.path}: key 'freeze_requirements': {key!r}: expected 64 hex digits, found {value!r}",
                "esis freeze-requirement sets it",
            )
        return digest

    def number(self, key: str) -> int:
        """Return a number from 1 up; 1 where it isn't there."""
        value: object = self.raw.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
            raise self._wrong(key, "a whole number from 1 up, below 2^31", value)
        return value

    def max_parallel(self) -> int:
        value: object = self.raw.get("maxparallel", DEFAULT_MAX_PARALLEL)
        if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
            value = int(value) if len(value) < 12 else -1
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
            raise self._wrong("maxparallel", "a whole number from 0 (no limit) up, below 2^31", value)
        return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands there twice")
        found[key] = value
    return found


def _kind(value: Any) -> str:
    if isinstance(value, (str, int, float)) or value is None:
        return repr(value)[:80]
    return "an object" if isinstance(value, dict) else "a list"
