"""Look for what people get wrong: in the workflow's files, on this machine, in what the cluster allows."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from esis.errors import BadInput, CorruptState
from esis.files import open_regular
from esis.model.fingerprint import BYTECODE
from esis.model.requirements import place_of_runs
from esis.model.workflow import Workflow
from esis.operations.advice.findings import Finding, note, ok, problem
from esis.operations.advice.installation import check_installation
from esis.operations.advice.template import check_template
from esis.schedulers.config import ask_config, limits_in

OLDEST_SLURM = (20, 11)
_SHARED = re.compile(r"nfs|lustre|gpfs|beegfs|ceph|cifs|fuse\.|panfs|pvfs|orangefs|9p")
_OF_THIS_MACHINE = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_CLOCK_SECONDS = 2.0
_FEW_INODES = 10_000
_PROGRAMS = {
    "sbatch": "nothing can be submitted",
    "squeue": "the states of queued tasks are unknown",
    "scontrol": "limits can't be read, throttling and requeueing don't work",
    "scancel": "tasks can't be cancelled",
    "srun": "templates that call srun fail",
}


def examine(workflow: Workflow | None, runs: Path) -> list[Finding]:
    """Return all findings; `runs` is the directory in which runs are made."""
    found: list[Finding] = []
    slurm, config = _slurm()
    if workflow is not None:
        found += _files(workflow)
        found += check_template(workflow, config)
    return [*found, check_installation(), *slurm, *_place(runs, workflow)]


def _files(workflow: Workflow) -> Iterator[Finding]:
    """Look at the four files and the includes."""
    scripts = {
        "setup script": workflow.setupscript,
        "parameter generator": workflow.param_generator,
        "worker script": workflow.workerscript,
    }
    for subject, stored in scripts.items():
        path = workflow.resolve(stored)
        if not path.is_file():
            yield problem(subject, f"there is no file {path}")
        elif not os.access(path, os.X_OK) and subject != "worker script":
            yield problem(subject, f"{path} is not executable: chmod +x {path}")
        elif not _has_interpreter(path):
            yield problem(subject, f"{path} has no '#!' line, so it can't be started")
        else:
            yield ok(subject, str(path))
    for stored in workflow.param_includes:
        path = workflow.resolve(stored)
        if not path.exists():
            yield problem("include", f"there is no {path}")
        elif any(BYTECODE in directories for _, directories, _ in os.walk(path)):
            yield note(
                "include",
                f"{path} holds {BYTECODE}, which is part of the hash: whoever imports from there makes another run; "
                "remove it, and set PYTHONDONTWRITEBYTECODE=1 where you try things",
            )


def _has_interpreter(path: Path) -> bool:
    """Return whether the kernel could start the file: a '#!' line, or the mark of a program (ELF)."""
    try:
        with open_regular(path, whole=False) as stream:
            head = stream.read(4)
    except (CorruptState, OSError):
        return False
    return head.startswith(b"#!") or head == b"\x7fELF"


def _slurm() -> tuple[list[Finding], Mapping[str, str]]:
    """Look at Slurm from here; also return its configuration."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if "sbatch" in missing:
        return [note("slurm", "there is no sbatch on PATH: esis run --local works here, esis run doesn't")], {}
    found = [problem("slurm", f"there is no {name} on PATH: {_PROGRAMS[name]}") for name in missing]
    config, trouble = ask_config()
    if trouble is not None:
        found.append(problem("slurm", f"the controller gives no answer: {trouble}"))
        return found, {}
    return [*found, *findings_on_config(config)], config


def findings_on_config(config: Mapping[str, str]) -> Iterator[Finding]:
    """Say what the cluster's settings mean for a scan."""
    name = config.get("ClusterName", "?")
    yield ok("slurm", f"the controller of the cluster {name} answers")
    version = config.get("SLURM_VERSION")
    if version is not None:
        numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        say = ok if numbers >= OLDEST_SLURM else note
        more = "" if say is ok else "; ESIS is tested from 20.11 on"
        yield say("slurm", f"version {version}{more}")
    largest = config.get("MaxArraySize", "")
    if largest.isdigit() and int(largest) > 0:
        yield ok("limits", f"MaxArraySize is {largest}: longer scans become several arrays")
    elif largest:
        yield problem("limits", f"MaxArraySize is {largest}: this cluster takes no array jobs")
    count = limits_in(config).max_array_tasks
    if count is not None:
        yield note("limits", f"max_array_tasks is {count}: an array has no more tasks than that")
    storage = config.get("AccountingStorageType", "")
    if storage in ("accounting_storage/slurmdbd", "accounting_storage/mysql"):
        missing = "" if shutil.which("sacct") else "; there is no sacct on PATH to ask it"
        yield (note if missing else ok)("accounting", f"on ({storage}){missing}")
    else:
        age = config.get("MinJobAge", "a while").replace(" sec", " s")
        yield note(
            "accounting",
            f"off: what Slurm said of a job is known for {age} after its end only; look with esis status in time",
        )


def _place(runs: Path, workflow: Workflow | None = None) -> Iterator[Finding]:
    """Look at the directory in which runs are made."""
    try:
        if workflow is not None:
            place_of_runs(workflow)
    except BadInput as error:
        yield problem("directory", str(error))
        return
    there = next((path for path in (runs, *runs.parents) if path.is_dir()), None)
    if there is None:
        yield problem("directory", f"there is no directory {runs}")
        return
    if not os.access(there, os.W_OK | os.X_OK):
        yield problem("directory", f"{there} can't be written to")
        return
    mode = there.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        yield problem("directory", f"everybody may write to {there} and remove what is in it: chmod o-w {there}, or +t")
    kind = _file_system(there)
    if kind in _OF_THIS_MACHINE:
        yield note("directory", f"{there} is on {kind}, which compute nodes don't see")
    elif kind is not None and _SHARED.search(kind):
        yield note(
            "directory", f"{there} is on {kind}: what another machine writes may be seen late (nfs: up to a minute)"
        )
    else:
        yield ok("directory", f"{there}{f' is on {kind}' if kind is not None else ''}")
    left = os.statvfs(there)
    if left.f_files and left.f_favail < _FEW_INODES:
        yield note("directory", f"{there} has room for {left.f_favail} more files; a run has a few for each task")
    yield from _clock(there)


def _clock(directory: Path) -> Iterator[Finding]:
    """Compare this machine's clock with the one that stamps the files."""
    try:
        before = time.time()
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".esis-doctor-") as stream:
            stamp = os.fstat(stream.fileno()).st_mtime
        after = time.time()
    except OSError as error:
        yield problem("directory", f"no file can be made in {directory}: {error.strerror}")
        return
    apart = max(before - stamp, stamp - after, 0.0)
    if apart > _CLOCK_SECONDS:
        yield note(
            "clock",
            f"this machine and the file server are {apart:.0f} s apart; run times are told by the nodes' clocks",
        )
    else:
        yield ok("clock", "this machine and the file system agree (the nodes' clocks can't be seen from here)")


def _file_system(path: Path) -> str | None:
    """Return the kind of file system that holds `path`, e.g. nfs4; None where the kernel doesn't tell."""
    try:
        mounts = Path("/proc/self/mounts").read_text("utf-8", "surrogateescape")
        device = path.stat().st_dev
    except OSError:
        return None
    best: tuple[int, str] | None = None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        place = Path(re.sub(r"\\(\d{3})", lambda match: chr(int(match.group(1), 8)), fields[1]))
        try:
            inside = (place == path or place in path.resolve().parents) and place.stat().st_dev == device
        except OSError:
            continue
        if inside and (best is None or len(str(place)) >= best[0]):
            best = (len(str(place)), fields[2])
    return best[1] if best is not None else None
