"""Talk to Slurm: builders of argument lists, pure parsers of the answers, and one thin client.

Facts about Slurm's behaviour were seen on live clusters (20.11 to 24.11); the cluster tests show them again.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from esis.model.parameters import parse_ranges
from esis.model.workdir import RunDir
from esis.process import Completed, capture, clean_environment
from esis.records.submissions import Job, Outcome, Submission
from esis.schedulers.base import Answer, JobState, Sighting, Snapshot

# sbatch retries some errors by itself for about 120 s, so less would cut it off in the middle.
SUBMIT_SECONDS = 300.0
QUERY_SECONDS = 60.0
# Only variables called SLURM_* also pass `#SBATCH --export=NONE`; the task hook takes it away again.
FENCE_VARIABLE = "SLURM_ESIS_SUBMISSION"

_SQUEUE_FORMAT = "%F|%K|%T|%r|%o|%Z"  # %o and %Z are free text, so they come last
_JOB_ID = re.compile(r"(\d+)(?:;(\S+))?\Z")
_ROW = re.compile(r"(\d+)\|([^|]*)\|([^|]*)\|([^|]*)\|(.*)\Z", re.DOTALL)

_WAITING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD",
                      "SPECIAL_EXIT", "PREEMPTED"})
_ACTIVE = frozenset({"RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "SUSPENDED", "STOPPED"})
_FAILED = frozenset({"FAILED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "LAUNCH_FAILED",
                     "CANCELLED", "REVOKED"})

# After these the job may be queued all the same: a lost reply was seen with the job running.
_UNCERTAIN = ("socket timed out", "zero bytes", "unexpected message", "unable to contact slurm controller",
              "connection refused", "connection reset", "connection timed out", "communication connection failure",
              "transport endpoint", "temporarily unable", "in standby mode", "message receive failure",
              "message send failure", "insane message length", "network is unreachable", "no route to host")
# The controller, or sbatch itself before it sent anything, said no.
_DEFINITE = ("batch job submission failed:", "allocation failure:", "does not look like a batch script",
             "dos line breaks", "unrecognized option", "invalid option", "unable to open file", "sbatch --help",
             "sbatch: fatal:", "error: invalid")


@dataclass(frozen=True)
class Config:
    """Hold what ESIS wants to know of a cluster."""

    version: str | None = None
    message_timeout: float = 10.0  # seconds; Slurm's default


def sbatch_argv() -> list[str]:
    """Return the command that submits; it runs in the run's cwd/."""
    return ["sbatch", "--parsable", "../sbatch.sh"]


def squeue_argv(clusters: Sequence[str] = ()) -> list[str]:
    """Return the one query for the states of all of the user's jobs.

    Clusters are named only where sbatch named them: `-M` needs slurmdbd.
    """
    argv = ["squeue", "-h", "-r", "-t", "all", "--me", "-o", _SQUEUE_FORMAT]
    return [*argv, "-M", ",".join(clusters)] if clusters else argv


def parse_job(stdout: str) -> Job | None:
    """Return the job that `sbatch --parsable` names; sites may print a banner before it."""
    for line in reversed(stdout.splitlines()):
        match = _JOB_ID.match(line.strip())
        if match is not None:
            return Job(match.group(1), match.group(2))
    return None


def classify(word: str) -> JobState:
    """Class a state as Slurm spells it; an unheard-of one is UNKNOWN, never a guess."""
    first = word.split(maxsplit=1)[0].rstrip("+") if word.strip() else ""
    if first in _WAITING:
        return JobState.WAITING
    if first in _ACTIVE:
        return JobState.ACTIVE
    if first in _FAILED:
        return JobState.FAILED
    return JobState.COMPLETED if first == "COMPLETED" else JobState.UNKNOWN


def parse_squeue(stdout: str) -> list[Sighting]:
    """Read the answer to `squeue_argv`. A line that isn't one (a newline in a name, a site's notice) is left out."""
    found: list[Sighting] = []
    for line in stdout.split("\n"):
        match = _ROW.match(line)
        if match is None:
            continue
        job, index, word, reason, place = match.groups()
        for task in _indices(index):
            found.append(Sighting(job, task, classify(word), word, reason, place))
    return found


def parse_config(stdout: str) -> Config:
    """Read `scontrol show config`."""
    version = re.search(r"^SLURM_VERSION\s*=\s*(\S+)", stdout, re.MULTILINE)
    timeout = re.search(r"^MessageTimeout\s*=\s*(\d+)", stdout, re.MULTILINE)
    return Config(version.group(1) if version is not None else None,
                  float(timeout.group(1)) if timeout is not None else Config.message_timeout)


def judge(done: Completed) -> Answer:
    """Tell whether a call of sbatch was taken, refused, or has an outcome that nobody knows."""
    error = done.stderr.decode("utf-8", "replace").strip()
    shown = _message(error)
    if done.timed_out:
        return Answer(Outcome.OPEN, f"sbatch gave no answer in {SUBMIT_SECONDS:.0f} s")
    if done.code == 0:
        job = parse_job(done.stdout.decode("utf-8", "replace"))
        if job is None:
            return Answer(Outcome.OPEN, f"sbatch ended with 0, and its output holds no job id: {shown}")
        return Answer(Outcome.SUBMITTED)
    lowered = error.lower()
    if any(text in lowered for text in _UNCERTAIN) or not any(text in lowered for text in _DEFINITE):
        return Answer(Outcome.OPEN, shown or f"sbatch ended with {done.code} and no message")
    return Answer(Outcome.REFUSED, shown)


class Slurm:
    """Be the client of the Slurm commands on PATH."""

    name = "slurm"

    def available(self) -> bool:
        """Return whether there is an sbatch at all."""
        return shutil.which("sbatch") is not None

    def config(self) -> Config:
        """Ask for the configuration; nothing in it is needed to go on."""
        try:
            done = capture(["scontrol", "show", "config"], env=clean_environment(), timeout=QUERY_SECONDS)
        except OSError:
            return Config()
        return parse_config(done.stdout.decode("utf-8", "replace")) if done.code == 0 else Config()

    def submit(self, run: RunDir, submission: Submission, acknowledged: Callable[[Job], None]) -> Answer:
        """Call sbatch once. See Scheduler."""
        env = clean_environment(**{FENCE_VARIABLE: f"{submission.number:04d}"})
        try:
            done = capture(sbatch_argv(), cwd=run.cwd, env=env, timeout=SUBMIT_SECONDS)
        except FileNotFoundError:
            return Answer(Outcome.REFUSED, "there is no sbatch on PATH")
        answer = judge(done)
        if answer.outcome is Outcome.SUBMITTED:
            job = parse_job(done.stdout.decode("utf-8", "replace"))
            if job is not None:
                acknowledged(job)
        return answer

    def observe(self, clusters: Sequence[str]) -> Snapshot:
        """Call squeue once. See Scheduler."""
        text, problem = _ask(squeue_argv(clusters))
        return Snapshot((), problem) if problem is not None else Snapshot(tuple(parse_squeue(text)))


def _ask(argv: Sequence[str]) -> tuple[str, str | None]:
    """Return a query's output, and what went wrong. A failed query is never an empty answer."""
    try:
        # Without the limit on bit strings, squeue cuts long lists of indices short.
        done = capture(argv, env=clean_environment(SLURM_BITSTR_LEN="0"), timeout=QUERY_SECONDS)
    except FileNotFoundError:
        return "", f"there is no {argv[0]} on PATH"
    except OSError as error:
        return "", f"{argv[0]}: {error.strerror}"
    if done.timed_out:
        return "", f"{argv[0]} gave no answer in {QUERY_SECONDS:.0f} s"
    if done.code != 0:
        shown = _message(done.stderr.decode("utf-8", "replace"))
        return "", shown or f"{argv[0]} ended with {done.code}"
    return os.fsdecode(done.stdout), None


def _indices(text: str) -> list[int | None]:
    ranges = text.partition("%")[0]
    if not ranges or not ranges[0].isdigit() or "..." in ranges:
        return [None]
    if ":" in ranges:  # a step: 0-8:2
        span, _, step = ranges.partition(":")
        low, _, high = span.partition("-")
        if low.isdigit() and high.isdigit() and step.isdigit() and int(step):
            return list(range(int(low), int(high) + 1, int(step)))
        return [None]
    return list(parse_ranges(ranges))


def _message(error: str) -> str:
    """Return the last line of an error, the one that says why."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return lines[-1] if lines else ""


