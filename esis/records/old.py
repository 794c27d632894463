"""Read what runs hold that ESIS 0.0.4, or a version before it, made: a job id and a time, no records of tasks.

They have no state.json, no submissions, and their template isn't copied; most have no completed.state. So their tasks
are judged by what Slurm says of that job.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from esis.errors import BadInput, CorruptState
from esis.files import is_directory, is_there, read_limited
from esis.model.index_sets import as_sequence, format_ranges, parse_ranges
from esis.model.workdir import PREFIX, RunDir
from esis.records.start_time import parse_start_time
from esis.records.submissions import Array, Job, Outcome, Submission

_SMALL = 64 * 1024  # bytes
_SCRIPT_LIMIT = 4 * 1024 * 1024  # bytes
_MOST_ELEMENTS = 4_000_001  # slurm.conf(5): MaxArraySize may not exceed it
_STEPS = re.compile(r"\b([0-9]{1,9})-([0-9]{1,9}):([0-9]{1,9})\b")  # as in --array=0-6:2
_JOB = re.compile(r"([0-9]{1,20})(?:[_;]\S*)?")  # also with what names an element of an array, or a cluster


def is_old(run: RunDir) -> bool:
    """Return whether 0.0.4 made a run: its files are there, and what each build of ours begins with isn't."""
    theirs = (run.job_ids, run.start_time, run.completed, run.wf_status, run.workflow_definition)
    ours = (run.state, run.submissions, run.tasks, run.provenance)
    return any(map(is_there, theirs)) and not any(map(is_there, ours))


def is_oldest(run: RunDir) -> bool:
    """Return whether a version before 0.0.4 made a run: it has no corner for ESIS, and the names are at its root."""
    return (
        run.path.name.startswith(PREFIX)
        and not is_directory(run.private)
        and (is_there(run.oldest_job_ids) or is_there(run.oldest_start_time))
    )


def job_ids_in(path: Path) -> tuple[str, ...]:
    """Return the job ids in a jobid.tx; none where it isn't there or holds something else."""
    return job_ids(_text(path))


def job_ids(text: str) -> tuple[str, ...]:
    """Return the job ids in the text of a jobid.tx; what is none is left out."""
    return tuple(match.group(1) for word in text.split() if (match := _JOB.fullmatch(word)) is not None)


def start_time_in(path: Path) -> float | None:
    """Return the time in a wf_starttime, in seconds since 1970; that of the file where its text means none."""
    try:
        return parse_start_time(_text(path)) or path.stat().st_mtime
    except OSError:
        return None


def tasks_of(run: RunDir, found: Sequence[int]) -> Sequence[int]:
    """Return the tasks of a run: those of the parameter sets that were found, else of an old run's script."""
    if found or not is_old(run):
        return found
    from esis.model.options import last_of, script_options

    array = last_of(script_options(_text(run.script, _SCRIPT_LIMIT)), "array") or ""
    try:
        return parse_ranges(_STEPS.sub(_stepped, array.partition("%")[0]))
    except (BadInput, ValueError):
        return ()


def _stepped(match: re.Match[str]) -> str:
    """Write out a range with a step. Raises ValueError where the step is 0, or Slurm takes no array of that size."""
    if int(match[3]) == 1:
        return f"{match[1]}-{match[2]}"
    found = range(int(match[1]), int(match[2]) + 1, int(match[3]))
    if len(found) > _MOST_ELEMENTS:
        raise ValueError(match[0])
    return ",".join(map(str, found))


def what_is_known(run: RunDir) -> tuple[str, str]:
    """Return what an old run tells of its job where it tells nothing of its tasks, and what to do."""
    jobs = job_ids_in(run.job_ids)
    if jobs:
        return (
            f"its job is {jobs[-1]}, and neither its parameters/ nor its sbatch.sh tell the tasks",
            f"squeue -j {jobs[-1]} shows them, scancel {jobs[-1]} ends them",
        )
    return "it holds no job id", "squeue shows its jobs, scancel ends them"


def submissions_of(run: RunDir, tasks: Sequence[int]) -> tuple[Submission, ...]:
    """Return a submission for each job id that an old run tells of: who submitted it again by hand, added one.

    Which of the tasks a job has, only Slurm knows.
    """
    jobs = job_ids_in(run.job_ids) if tasks and is_old(run) else ()
    if not jobs:
        return ()
    from esis.schedulers.directives import Options

    created = start_time_in(run.start_time) or start_time_in(run.job_ids) or 0.0
    array = Array(format_ranges(tasks), 0, len(tasks))
    script = _text(run.script, _SCRIPT_LIMIT)
    output = Options.of(script, ()).output if script else ""
    return tuple(
        Submission(
            number=number,
            scheduler="slurm",
            tasks=as_sequence(tasks),
            arrays=(array,),
            script_digest="",
            created=created,
            owner="",
            records=False,
            outcome=Outcome.SUBMITTED,
            jobs=(Job(job),),
            answered=created,
            output=output,
        )
        for number, job in enumerate(dict.fromkeys(jobs), 1)
    )


def _text(path: Path, limit: int = _SMALL) -> str:
    try:
        return read_limited(path, limit).decode("utf-8", "surrogateescape")
    except (OSError, CorruptState):
        return ""
