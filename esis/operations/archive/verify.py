"""Check an archive or a run: every checksum, and that the hash still belongs to the snapshot.

Checksums find damage and carelessness. Who changes a file and all checksums with it is found only by comparing with
what was published elsewhere: the hash of the run, the SHA-256 of the archive.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from esis.errors import BadInput, CorruptState, EsisError
from esis.locks import holder
from esis.model import fingerprint, manifest
from esis.model.fingerprint import BYTECODE, Kind, status_lines, status_text, tree_digest
from esis.model.index_sets import find_parameter_files
from esis.model.requirements import base_name
from esis.model.template import with_dependency
from esis.model.workdir import PREFIX, RunDir, is_run_name
from esis.model.workflow import ROLES, Workflow, parse
from esis.operations.archive.reader import Found, Member, Problem, read_archive, read_directory
from esis.operations.witness.evidence import gather
from esis.operations.witness.target import definition
from esis.records import old, stage
from esis.records.submissions import parse as parse_submission

_RUN = RunDir(Path())
_PRIVATE = _RUN.private.name
_SUBMISSION = re.compile(rf"{_PRIVATE}/{_RUN.submissions.name}/\d{{4,9}}\.json\Z")
_WF_STATUS = f"{_PRIVATE}/{_RUN.wf_status.name}"
_DEFINITION = f"{_PRIVATE}/{_RUN.workflow_definition.name}"
_LINKS = f"{_PRIVATE}/{_RUN.link_list.name}"
_MARK = f"{_PRIVATE}/{_RUN.complete_mark.name}"
_MANIFEST = _RUN.manifest.name
_CRATE = _RUN.crate_metadata.name
_KEPT = frozenset({_WF_STATUS, _DEFINITION, _LINKS, _MANIFEST, _CRATE, _RUN.script.name})


@dataclass(frozen=True)
class Report:
    """Hold what came out."""

    path: Path
    kind: str  # "archive", "unpacked archive" or "run"
    digest: str | None  # the hash that the run says it has
    files: int  # looked at
    problems: tuple[Problem, ...]
    unknown: tuple[Problem, ...] = ()  # what a run of 0.0.4 doesn't hold, so that it can't be checked


def verify_archive(path: Path) -> Report:
    """Check an archive, reading it once. Raises BadInput where there is none."""
    found = read_archive(path, _wanted)
    named = _told_hash(found)
    if found.prefix and is_run_name(found.prefix) and named is not None and found.prefix != f"{PREFIX}{named}":
        found.problem(found.prefix, f"is not the run that {_CRATE} describes")
    _check_manifest(found)
    _check_snapshot(found, named, _CRATE)
    return _report(path, "archive", named, found)


def verify_unpacked(path: Path) -> Report:
    """Check a directory that an archive was unpacked to."""
    found = read_directory(path, _wanted)
    if stage.has_own_mark(RunDir(path)):  # none is packed; who only looks at an unpacked run leaves one
        found.entries.pop(_MARK, None)
    named = _told_hash(found)
    if is_run_name(path.resolve().name) and named is not None and path.resolve().name != f"{PREFIX}{named}":
        found.problem(path.name, f"is not the run that {_CRATE} describes")
    _check_manifest(found)
    _check_snapshot(found, named, _CRATE)
    return _report(path, "unpacked archive", named, found)


def verify_run(run: RunDir) -> Report:
    """Check a run where it was made: its snapshot, its name, its script, its parameter sets.

    Results have no checksums before the run is archived. Raises BadInput where there is no run.
    """
    if old.is_oldest(run):
        raise BadInput(f"{run.path} was made by an ESIS before 0.0.4: nothing in it says what its hash is made of")
    if not run.private.is_dir():
        raise BadInput(f"{run.path}: there is no such run", "esis verify takes an archive or a run")
    try:
        workflow = definition(run)
        names = {base_name(stored) for stored in workflow.scripts()}
    except (OSError, EsisError):
        names = set()  # said below
    names |= {run.script.name, run.includes.name}
    private = {_PRIVATE, f"{_PRIVATE}/{run.submissions.name}", _WF_STATUS, _DEFINITION}

    def into(name: str) -> bool:
        return name.partition("/")[0] in names or name in private or _SUBMISSION.match(name) is not None

    found = read_directory(run.path, _wanted, into)
    _check_snapshot(found, run.digest, "the name of the directory")
    _check_parameters(run, found)
    report = _report(run.path, "run", run.digest, found)
    return _without_what_it_lacks(report, found) if old.is_old(run) else report


def _without_what_it_lacks(report: Report, found: Found) -> Report:
    """Call unknown what can't be checked in a run of 0.0.4, which copies no template and may keep no definition."""
    lacking = {_DEFINITION}
    if _WF_STATUS not in found.contents:
        lacking.add(_WF_STATUS)
    with suppress(KeyError, BadInput):
        template = base_name(parse(Path(_DEFINITION), found.contents[_DEFINITION]).sbatchtemplate)
        lacking.update({template} - found.entries.keys())
    unknown = tuple(item for item in report.problems if item.path in lacking)
    return replace(report, problems=tuple(item for item in report.problems if item not in unknown), unknown=unknown)


def _wanted(name: str) -> bool:
    return name in _KEPT or _SUBMISSION.match(name) is not None


def _report(path: Path, kind: str, digest: str | None, found: Found) -> Report:
    files = sum(1 for entry in found.entries.values() if entry.kind in (Kind.FILE, Kind.EXECUTABLE))
    if found.untold:
        found.problems.append(Problem(str(path), f"has {found.untold} more problems"))
    return Report(path, kind, digest, files, tuple(found.problems))


def _told_hash(found: Found) -> str | None:
    """Return the hash of the run that an archive says it holds."""
    try:
        graph = json.loads(found.contents[_CRATE])["@graph"]
        (identifier,) = (item["identifier"] for item in graph if item["@id"] == "./")
    except KeyError:
        found.problem(_CRATE, "is missing, or doesn't say which run this is")
        return None
    except (TypeError, ValueError, RecursionError) as error:
        found.problem(_CRATE, f"can't be read: {error}")
        return None
    if not isinstance(identifier, str) or not is_run_name(identifier):
        found.problem(_CRATE, f"names no run: {identifier!r}")
        return None
    return identifier[len(PREFIX) :]


def _check_manifest(found: Found) -> None:
    """Compare every file with the manifest, every link with the list of links."""
    if _MANIFEST not in found.contents:
        found.problem(_MANIFEST, "is missing, so nothing can be compared")
        return
    try:
        expected = manifest.parse(found.contents[_MANIFEST])
    except CorruptState as error:
        found.problem(_MANIFEST, error.message)
        return
    for name, digest in expected.items():
        entry = found.entries.get(name)
        if entry is None:
            found.problem(name, "is missing")
        elif entry.kind not in (Kind.FILE, Kind.EXECUTABLE):
            found.problem(name, f"is a {entry.kind.value}, and was a file")
        elif entry.digest != digest:
            found.problem(name, "was changed")
    links = _links(found)
    for name, entry in found.entries.items():
        if entry.kind is Kind.LINK:
            if name not in links:
                found.problem(name, "was added")
            elif links[name] != entry.target:
                found.problem(name, f"was changed: it is a link to {entry.target}")
        elif entry.kind is not Kind.DIRECTORY and name not in expected and name != _MANIFEST:
            found.problem(name, "was added")
    for name in links:
        if name not in found.entries or found.entries[name].kind is not Kind.LINK:
            found.problem(name, f"is missing, or no link to {links[name]}")


def _links(found: Found) -> Mapping[str, str]:
    if _LINKS not in found.contents:
        return {}
    try:
        links = json.loads(found.contents[_LINKS])
        return {str(name): str(target) for name, target in links.items()}
    except (AttributeError, ValueError, RecursionError) as error:
        found.problem(_LINKS, f"can't be read: {error}")
        return {}


def _check_snapshot(found: Found, named: str | None, where: str) -> None:
    """Compute the hash anew from scripts and includes; say of each file whether it is another one."""
    _check_script(found)
    if _WF_STATUS not in found.contents:
        found.problem(_WF_STATUS, "is missing, so nothing says what the hash is made of")
        return
    stored = found.contents[_WF_STATUS]
    if named is not None and hashlib.sha256(stored).hexdigest() != named:
        found.problem(_WF_STATUS, f"was changed: its SHA-256 is not the hash that {where} tells")
    try:
        workflow = parse(Path(_DEFINITION), found.contents[_DEFINITION])
    except KeyError:
        found.problem(_DEFINITION, "is missing, so the hash can't be computed again")
        return
    except BadInput as error:
        found.problem(_DEFINITION, error.message)
        return
    lines = dict(status_lines(stored.decode("utf-8", "backslashreplace")))
    expected = _recomputed(found, workflow, lines)
    for tag, value in expected.items():
        if tag not in lines:
            found.problem(_WF_STATUS, f"says nothing about {tag}")
        elif lines[tag] != value and value:
            found.problem(_file_of(workflow, tag), f"was changed: the hash is made of another {tag}")
    for tag in lines.keys() - expected.keys():
        found.problem(_WF_STATUS, f"speaks of {tag!r}, which the workflow file does not name")
    if list(expected.items()) != list(lines.items()) and expected == lines:
        found.problem(_WF_STATUS, "was changed: its lines are in another order")


def _recomputed(found: Found, workflow: Workflow, lines: Mapping[str, str]) -> dict[str, str]:
    """Return the lines that the snapshot gives; an empty value where a file is missing, which is said."""
    digests = {}
    for stored in workflow.scripts():
        digests[workflow.resolve(stored)] = _digest(found, base_name(stored))
    for stored in workflow.param_includes:
        digests[workflow.resolve(stored)] = _digest(
            found, f"{_RUN.includes.name}/{base_name(stored)}", lines.get(stored)
        )
    requirements = {}
    for stored in workflow.requires:
        requirements[stored] = workflow.freeze_requirements.get(stored) or lines.get(stored, "")
    text = status_text(workflow, lambda path: digests[path], requirements)
    return dict(status_lines(text))


def _digest(found: Found, name: str, wanted: str | None = None) -> str:
    """Return the digest of a file or a directory, of this without what Python keeps in it where it is `wanted` then."""
    entry = found.entries.get(name)
    if entry is None:
        found.problem(name, "is missing")
        return ""
    if entry.kind is Kind.LINK:
        found.problem(name, f"is a link to {entry.target}, and was a file or a directory")
        return ""
    if entry.kind is not Kind.DIRECTORY:
        return entry.digest
    below = {path[len(name) + 1 :]: item for path, item in found.entries.items() if path.startswith(f"{name}/")}
    ordered = sorted(below, key=lambda path: path.encode("utf-8", "surrogateescape"))

    def digest(paths: Iterable[str]) -> str:
        listed = (fingerprint.Entry(path, below[path].kind, below[path].target) for path in paths)
        return tree_digest(listed, lambda item: below[item.relative].digest)

    whole = digest(ordered)
    if wanted in (None, whole):
        return whole
    # Whoever imports from there, the generator or a task, leaves them beside the modules.
    bare = digest(path for path in ordered if BYTECODE not in path.split("/"))
    return bare if bare == wanted else whole


def _check_script(found: Found) -> None:
    """Compare sbatch.sh with what the record of the latest submission says."""
    names = sorted(name for name in found.contents if _SUBMISSION.match(name))
    records = []
    for name in names:
        try:
            records.append((name, parse_submission(Path(name), found.contents[name])))
        except CorruptState as error:
            found.problem(name, error.message)
    if not records:
        return
    name, latest = max(records, key=lambda item: item[1].number)
    script = found.entries.get(_RUN.script.name, Member(Kind.FILE))
    if not script.digest:
        found.problem(_RUN.script.name, "is missing")
        return
    digests = {script.digest}
    if latest.dependency is not None:
        # An archive's script waits for nothing; the record is of the one that did.
        text = found.contents.get(_RUN.script.name, b"").decode("utf-8", "surrogateescape")
        waiting = with_dependency(text, latest.dependency).encode("utf-8", "surrogateescape")
        digests.add(hashlib.sha256(waiting).hexdigest())
    if latest.script_digest not in digests:
        found.problem(_RUN.script.name, f"was changed: it is not what {name} was submitted with")


def _check_parameters(run: RunDir, found: Found) -> None:
    """Say which tasks have no parameter set, and which sets have no task."""
    try:
        evidence = gather(run)
    except CorruptState as error:
        if not found.problems:
            found.problem(run.path.name, error.message)
        return
    if evidence is None or evidence.state is None or (run.parameters / "parameters.jsonl").exists():
        return
    if not evidence.built:
        builder = holder(run.lock)
        found.problem(run.path.name, f"is being built by {builder}" if builder else "its build was interrupted")
        return
    try:
        there, tasks = set(find_parameter_files(run.parameters)), set(evidence.state.tasks)
    except OSError as error:
        found.problem(run.parameters.name, f"can't be read: {error.strerror}")
        return
    for task in sorted(tasks - there):
        found.problem(f"{run.parameters.name}/{run.parameter_file(task).name}", "is missing")
    for task in sorted(there - tasks):
        found.problem(f"{run.parameters.name}/{run.parameter_file(task).name}", "was added: there is no such task")


def _file_of(workflow: Workflow, tag: str) -> str:
    if tag in ROLES:
        return base_name(workflow.script(tag))
    return f"{_RUN.includes.name}/{base_name(tag)}" if tag in workflow.param_includes else _WF_STATUS
