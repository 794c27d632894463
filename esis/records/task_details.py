"""Read what a task record holds beside its name: where the attempt ran, and by which process."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from esis.errors import CorruptState
from esis.files import read_json_object
from esis.records.tasks import TaskRecord


class Details(NamedTuple):
    """Hold what a record's content adds to its name; records of earlier versions tell less."""

    host: str
    pid: int  # of the shell that runs the attempt
    job: str  # the task's own job id
    partition: str = ""
    nodes: str = ""  # Slurm's list, e.g. c[1-4]
    cpus: int | None = None  # of the allocation, on the node that runs the script
    kernel: str = ""
    modules: tuple[str, ...] = ()
    started: int = 0  # when that shell started, in clock ticks since boot; what Slurm runs doesn't tell it: 0
    boot: str = ""  # as `processes.boot`: it was begun without Slurm, and without `esis run --local`
    sluid: str = ""  # Slurm's name of the attempt, from 26.05 on


def read_details(directory: Path, record: TaskRecord) -> Details | None:
    """Return a record's content; None where it doesn't tell."""
    try:
        content = read_json_object(directory / record.name)
    except (OSError, CorruptState):
        return None
    host, pid, job = content.get("host"), content.get("pid"), content.get("job", "")
    if not (isinstance(host, str) and isinstance(pid, int) and isinstance(job, str)):
        return None
    cpus, started = content.get("cpus"), content.get("started")
    modules = str(content.get("modules", "")).split(":")
    return Details(
        host,
        pid,
        job,
        str(content.get("partition", "")),
        str(content.get("nodes", "")),
        cpus if isinstance(cpus, int) else None,
        str(content.get("kernel", "")),
        tuple(name for name in modules if name),
        started if isinstance(started, int) else 0,
        str(content.get("boot", "")),
        str(content.get("sluid", "")),
    )
