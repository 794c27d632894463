"""Find the run that a command line means: a workflow file's present one, or that of a directory."""

from __future__ import annotations

import os
from pathlib import Path

from esis.errors import BadInput, Busy, CorruptState
from esis.files import is_directory, is_there, read_limited
from esis.model.requirements import Node, resolve
from esis.model.sources import Sources
from esis.model.workdir import PREFIX, RunDir, is_run_name
from esis.model.workflow import FILE_LIMIT, Workflow, parse
from esis.operations.witness.evidence import Evidence, gather


def find_run(workflow_file: Path, verify: bool = False) -> RunDir:
    """Return the run of a workflow file's present content; with `verify` every byte is read. Raises BadInput."""
    return node_of(workflow_file, verify).run


def node_of(path: Path, verify: bool = False) -> Node:
    """Read the workflow at `path` with all that it requires; with `verify` every byte. Raises BadInput."""
    sources = Sources(verify)
    return resolve(path, sources.read, sources.digest_of)


def run_at(path: Path) -> RunDir | None:
    """Return the run that `path` is, or lies in; None where it is something else."""
    absolute = Path(os.path.realpath(path))  # Path.resolve() fails on a loop of links
    for place in (absolute, *absolute.parents):
        if is_run_name(place.name):
            return RunDir(place)
    return None


def run_called(name: str) -> RunDir | None:
    """Return the run that a path means, or the beginning of a run's name here; None where it is something else.

    Raises BadInput where several begin so.
    """
    there = run_at(Path(name)) if Path(name).is_dir() or PREFIX in name else None
    if there is not None:
        return there
    from glob import escape  # seldom is a name cut short

    short = (
        [path for path in sorted(Path().glob(f"{escape(name)}*")) if is_run_name(path.name)]
        if name.startswith(PREFIX)
        else []
    )
    if len(short) > 1:
        raise BadInput(f"{name} begins the names of {len(short)} runs here", "give more digits")
    if name.startswith(PREFIX) and not short and not Path(name).exists():
        raise BadInput(f"there is no run {name} here", "esis list shows those that there are")
    return RunDir(Path(os.path.realpath(short[0]))) if short else None


def check_no_run(given: str | None) -> None:
    """Raise BadInput where a run is named, or stood in, where a workflow file is wanted: its own is elsewhere."""
    run = run_at(Path()) if given is None else run_called(given)
    if run is None:
        _check_no_renamed(Path(os.path.realpath(given if given is not None else ".")))
        return
    if not is_directory(run.private):
        return
    from shlex import quote

    from esis.records import provenance

    told = provenance.read(run).workflow_file
    here = "" if given is None else f" {quote(given)}"
    again = f"esis resubmit{here} submits tasks of this run again"
    if told is None:
        raise BadInput(f"{run.path} is a run, no workflow file", again)
    if not is_there(Path(told)):
        raise BadInput(f"{run.path} is a run; its workflow file was {told}, which isn't there any more", again)
    raise BadInput(
        f"{run.path} is a run; its workflow file is {told}", f"name that one, or go to its directory; {again}"
    )


def _check_no_renamed(path: Path) -> None:
    """Raise BadInput for what is, or lies in, a run that somebody has renamed: it can't be told from a copy then."""
    found = next((place for place in (path, *path.parents) if is_there(RunDir(place).wf_status)), None)
    if found is None:
        return
    from shlex import quote

    from esis.digests import sha256

    name = f"{PREFIX}{sha256(read_limited(RunDir(found).wf_status, FILE_LIMIT))}"
    there = (
        f", which is beside it, too: move one of them first, or use {name}" if (found.parent / name).exists() else ""
    )
    raise BadInput(
        f"{found} is the run {name} under another name{there}",
        f"mv {quote(str(found))} {quote(str(found.parent / name))}; a copy is best made elsewhere, under its own name",
    )


def evidence_of(run: RunDir, later: bool = False) -> Evidence:
    """Return what a run that has to be there tells; `later`: the tasks' records are read when somebody asks.

    Raises BadInput, Busy while it is built, CorruptState.
    """
    found = gather(run, later)
    if found is None:
        from esis.records.old import is_oldest  # seldom needed

        if is_oldest(run):
            raise BadInput(
                f"{run.path} was made by an ESIS before 0.0.4, which kept a job id and a time, and nothing of tasks",
                "esis list --by-jobid shows its job; squeue and sacct know more",
            )
        if is_there(run.path):
            raise BadInput(
                f"{run.path} holds no {run.private.name}/, so nobody knows what it is",
                "bring that back, or move it away, and esis run builds the run",
            )
        raise BadInput(f"{run.path}: there is no such run", "esis run builds it")
    if not found.built:
        from esis.locks import holder

        builder = holder(run.lock)
        if builder is not None:
            raise Busy(f"{run.path}: {builder} is building it", "wait for it")
        raise BadInput(f"{run.path}: its build was interrupted", "esis run builds it again")
    if found.state is None and found.is_old and not found.indices and not found.looks_complete:
        from esis.records.old import what_is_known

        known, advice = what_is_known(run)
        raise BadInput(f"{run.path} was made by ESIS 0.0.4: {known}", advice)
    return found


def definition(run: RunDir) -> Workflow:
    """Return the workflow as it was when the run was built. Raises BadInput, CorruptState, OSError."""
    try:
        return parse(run.workflow_definition, read_limited(run.workflow_definition, FILE_LIMIT))
    except BadInput as error:  # whose advice is about a file of the user's
        raise CorruptState(
            error.message,
            "it is the run's copy of its workflow file: restore it from a backup, or copy the workflow file there if "
            "it is as it was",
        ) from error
    except FileNotFoundError:
        if not is_there(run.path):
            raise BadInput(f"{run.path}: there is no such run", "esis run builds it") from None
        raise BadInput(
            f"{run.path} holds no {run.workflow_definition.name}: it was not made by this ESIS",
            "rerun it by hand: cd cwd && sbatch ../sbatch.sh",
        ) from None
