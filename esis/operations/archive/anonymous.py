"""Take out of ESIS's own files who made a run and where: user, host, absolute paths, the command line, the git commit.

What the user's own scripts wrote is left alone, and so is what the hash is made of.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from esis.errors import BadInput
from esis.files import read_limited
from esis.locks import user_name
from esis.model.requirements import base_name
from esis.model.workdir import RunDir
from esis.model.workflow import Workflow, dump
from esis.operations.witness.evidence import Evidence
from esis.records.provenance import PUBLIC_KEYS, Provenance
from esis.records.submissions import Submission
from esis.records.tasks import TaskRecord
from esis.typed import is_text, parse_object

_RECORD = frozenset({"index", "restart", "partition", "cpus", "kernel", "modules"})
# Options that say what was requested, not who asked; others may name accounts, addresses, paths.
_OPTION = re.compile(
    r"--(time|mem|mem-per-cpu|mem-per-gpu|cpus-per-task|ntasks|ntasks-per-node|nodes|gres|gpus|"
    r"gpus-per-task|constraint|exclusive)(=[^/]*)?\Z"
)
_LIMIT = 8 * 1024**3  # bytes; the folded records of ten million tasks
_SHORTEST = 3  # shorter words than these are everywhere


def rewriter(run: RunDir, workflow: Workflow, words: tuple[str, ...]) -> Callable[[str, Path], bytes | None]:
    """Return what makes ESIS's own files of a run anonymous, by their names; None for those that can't be.

    Raises BadInput where the hash is made of a path that would tell.
    """
    for stored in (*workflow.param_includes, *workflow.requires):
        if stored.startswith(("/", "~")) or any(word in Path(stored).parts for word in words):
            raise BadInput(
                f"the path {stored} tells who made the run, and the hash is made of it",
                "store it relative to the workflow file, and run again",
            )
    private = run.private.name
    submissions, tasks = f"{private}/{run.submissions.name}/", f"{private}/{run.tasks.name}/"
    harmless = {
        f"{private}/{path.name}"
        for path in (run.wf_status, run.state, run.task_hook, run.job_ids, run.start_time, run.completed)
    }
    srun = f"{private}/{run.local_bin.name}/srun"

    def rewrite(name: str, path: Path) -> bytes | None:
        if name == f"{private}/{run.workflow_definition.name}":
            return _definition(workflow).encode()
        if name == f"{private}/{run.provenance.name}":
            return _keep(read_limited(path, _LIMIT), PUBLIC_KEYS)
        if name.startswith(submissions) and name.endswith(".json"):
            return _submission(path, read_limited(path, _LIMIT))
        if name.startswith(tasks) and TaskRecord.parse(name[len(tasks) :]) is not None:
            lines = read_limited(path, _LIMIT).splitlines()
            return b"".join(_keep(line, _RECORD, one_line=True) for line in lines if line.strip())
        if name == f"{private}/{run.folded_tasks.name}":
            return b"".join(_folded(line) for line in read_limited(path, _LIMIT).splitlines())
        if name in harmless or name == srun or (name.startswith(submissions) and name.endswith(".map")):
            return read_limited(path, _LIMIT)
        return None

    return rewrite


def telling_words(run: RunDir, evidence: Evidence, provenance: Provenance) -> tuple[str, ...]:
    """Return users, hosts and directories that tell who made a run, and where."""
    words = {
        user_name(os.getuid()),
        user_name(run.path.stat().st_uid),
        os.uname().nodename,
        str(Path("~").expanduser()),
        str(run.path.parent),
    }
    words |= {provenance.user or "", provenance.host or "", os.path.dirname(provenance.workflow_file or "")}  # noqa: PTH120  "" is none, Path("") isn't
    for submission in evidence.submissions:
        if submission.provenance is not None:
            words |= {submission.provenance.user, submission.provenance.host}
    return tuple(sorted(word for word in words if len(word) >= _SHORTEST and word != "root" and is_text(word)))


def _definition(workflow: Workflow) -> str:
    """Return the workflow file with base names where the hash doesn't hold the path."""
    return dump(
        workflow._replace(
            workdirpath="./",
            extra={},
            setupscript=base_name(workflow.setupscript),
            param_generator=base_name(workflow.param_generator),
            sbatchtemplate=base_name(workflow.sbatchtemplate),
            workerscript=base_name(workflow.workerscript),
        )
    )


def _keep(content: bytes, keys: frozenset[str], one_line: bool = False) -> bytes:
    """Set all values but those of `keys` to null; what is no JSON object becomes an empty one."""
    raw = _object(content)
    kept = {key: value if key in keys else None for key, value in raw.items()}
    return (json.dumps(kept, ensure_ascii=False, indent=None if one_line else 2) + "\n").encode(
        "utf-8", "backslashreplace"
    )


def _submission(path: Path, content: bytes) -> bytes:
    made = Submission.from_json(path, parse_object(path, content))
    raw = made._replace(unknown={}).to_json()  # what a newer esis noted may tell anything
    raw.update(
        owner="",
        argv=[],
        message=None,
        provenance=None,
        cluster=None,
        options=[word for word in made.options if _OPTION.match(word)],
        output=_relative(made.output),
        unique_output=_relative(made.unique_output),
        unique_error=_relative(made.unique_error),
        jobs=[{"id": job.id, "cluster": None} for job in made.jobs],
    )
    return (json.dumps(raw, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _relative(pattern: str) -> str:
    return pattern.rpartition("/")[2] if pattern.startswith("/") else pattern


def _folded(line: bytes) -> bytes:
    name, _, content = line.partition(b" ")
    if TaskRecord.parse(name.decode("ascii", "replace")) is None:
        return b""
    return name + b" " + _keep(content, _RECORD, one_line=True)


def _object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
