"""Build the commands that ESIS gives to Slurm, as argument lists."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from esis.errors import BadInput
from esis.model.index_sets import format_ranges
from esis.model.workdir import RunDir
from esis.records.submissions import Job, Submission
from esis.schedulers.identity import script_argument

# Marks at both ends tell whole rows from what was cut short, and from what a site prints besides. %o and %Z are free
# text, so they come last. %s is the SLUID of an attempt from 26.05 on; 22.05 has nothing there, 24.11 the two letters
# and a line on stderr. %18S is when it began, but for the last digit: so more rows are alike, and clocks differ anyway.
ROW_BEGIN, ROW_END = "esis|", "|end"
SQUEUE_FORMAT = f"{ROW_BEGIN}%F|%K|%T|%r|%M %18S|%s|%o|%Z{ROW_END}"
SQUEUE_OLD_FORMAT = SQUEUE_FORMAT.replace("%s", "")
SACCT_FORMAT = "JobID,State,ExitCode,ElapsedRaw,Start,WorkDir,SubmitLine"
SACCT_OLD_FORMAT = SACCT_FORMAT.rpartition(",")[0]  # 20.11 has no submit line
_ACCOUNT_SLACK = 86400.0  # seconds before a submission from which on sacct looks: clocks and time zones differ
_SCANCEL_LIMIT = 3500  # characters of an index list
# Options that ESIS sets itself, or that would turn sbatch into something else, or hide the job's id.
_RESERVED = frozenset(
    "array autocomplete chdir cluster clusters dependency external help parsable quiet test-only "
    "usage version wait wrap".split()
)


def sbatch_argv(run: RunDir, submission: Submission, position: int) -> list[str]:
    """Return the command that submits one array; it runs in the run's cwd/.

    The script holds the first array. Options of the command line outrank those of the script.
    """
    options = list(submission.options)
    if position > 0:
        options.append(f"--array={submission.arrays[position].spec}")
    if submission.output_of(position) != submission.output:
        options.append(f"--output={submission.unique_output}")
    if submission.unique_error and submission.is_shifted(position):
        options.append(f"--error={submission.unique_error}")
    dependency = behind(submission, position)
    if position > 0 or dependency != submission.dependency:
        options.append(f"--dependency={dependency or ''}")
    return ["sbatch", "--parsable", *options, script_argument(run, submission.number, position)]


def behind(submission: Submission, position: int) -> str | None:
    """Return the dependency of one array.

    More arrays than tasks may run at a time take turns: each waits for the end of the one that it follows.
    """
    lanes = submission.lanes
    if lanes == 0 or position < lanes:
        return submission.dependency
    turn = f"afterany:{submission.jobs[position - lanes].id}"
    return f"{submission.dependency},{turn}" if submission.dependency is not None else turn


def check_options(options: Sequence[str]) -> None:
    """Raise BadInput for sbatch options that would break what ESIS promises about a submission."""
    from esis.model.options import line_options  # seldom are any given

    for option in line_options(options):
        if option.name in _RESERVED:
            raise BadInput(
                f"the sbatch option {option.written} can't be given: ESIS sets it itself, or it would not submit",
                "leave it out",
            )
        if not option.name:
            raise BadInput(
                f"{option.written!r} is no sbatch option: sbatch would take it for the script",
                "options begin with a dash: -- --time=2-0 --mem=64G",
            )
        if option.fault:
            raise BadInput(f"the sbatch option {option.written} {option.fault}")


def squeue_argv(clusters: Sequence[str] = (), owners: Sequence[int] = (), fields: str = SQUEUE_FORMAT) -> list[str]:
    """Return the one query for the states of all jobs of some users; none named: of this one.

    Without -r what waits of an array is one line, and a cancelled remainder keeps its indices. With the header, which
    comes also where there are no jobs: no output is no answer. Without -a jobs in partitions that are hidden, or closed
    to the group of who asks, are left out, even his own. Clusters are named only where sbatch named them: `-M` needs
    slurmdbd.
    """
    whose = ["--me"] if set(owners) <= {os.getuid()} else ["-u", ",".join(map(str, sorted(owners)))]
    return ["squeue", "-a", "-t", "all", *whose, "-o", fields, *_on(clusters)]


def sacct_argv(jobs: Sequence[str], clusters: Sequence[str], since: float, fields: str = SACCT_FORMAT) -> list[str]:
    """Return the one query of the accounting.

    With the jobs named, or its window would begin at midnight; with a beginning, or ids used before would match.
    Records lag behind by seconds to minutes.
    """
    start = datetime.fromtimestamp(since - _ACCOUNT_SLACK).strftime("%Y-%m-%dT%H:%M:%S")
    return ["sacct", "-X", "-n", "-P", "-j", ",".join(jobs), "-S", start, "-o", fields, *_on(clusters)]


def scancel_argvs(job: Job, positions: Sequence[int], pending_only: bool) -> list[list[str]]:
    """Return the commands that cancel these positions of an array; a long list is cut into several."""
    states = ["-t", "PENDING"] if pending_only else []
    parts: list[list[str]] = []
    for part in format_ranges(positions).split(","):
        if not parts or sum(map(len, parts[-1])) + len(parts[-1]) + len(part) > _SCANCEL_LIMIT:
            parts.append([])
        parts[-1].append(part)
    return [["scancel", *on_that_of(job), *states, f"{job.id}_[{','.join(ranges)}]"] for ranges in parts]


def feeder_argv(script: Path, log: Path, options: Sequence[str]) -> list[str]:
    """Return the command that keeps a place in the queue for the job which submits what a limit left over."""
    output = str(log).replace("%", "%%")
    return [
        "sbatch",
        "--parsable",
        "--hold",
        "--job-name=esis-feed",
        "--ntasks=1",
        "--time=15",
        "--requeue",
        "--open-mode=append",
        f"--output={output}",
        *options,
        str(script),
    ]


def update_argv(job: Job, change: str) -> list[str]:
    """Return the command that changes a queued job."""
    return ["scontrol", *on_that_of(job), "update", f"jobid={job.id}", *change.split(" ")]


def on_that_of(job: Job) -> list[str]:
    """Return the option that names a job's cluster."""
    return _on([job.cluster] if job.cluster is not None else [])


def _on(clusters: Sequence[str]) -> list[str]:
    """Return the option that names clusters; none where sbatch named none, for it needs slurmdbd."""
    return ["-M", ",".join(clusters)] if clusters else []
