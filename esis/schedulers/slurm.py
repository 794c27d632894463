"""Talk to Slurm: builders of argument lists, pure parsers of the answers, and one thin client.

Facts about Slurm's behaviour were seen on live clusters (20.11 to 24.11); the cluster tests show them again.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from esis.errors import BadInput
from esis.model.limits import Limits
from esis.model.parameters import format_ranges, parse_ranges
from esis.model.workdir import RunDir, fence_name
from esis.process import Completed, capture, clean_environment
from esis.records.submissions import Job, Outcome, Submission
from esis.schedulers.base import Answer, JobState, Sighting, Snapshot

# sbatch retries some errors by itself for about 120 s, so less would cut it off in the middle.
SUBMIT_SECONDS = 300.0
QUERY_SECONDS = 60.0
# Only variables called SLURM_* also pass `#SBATCH --export=NONE`; the task hook takes it away again.
FENCE_VARIABLE = "SLURM_ESIS_SUBMISSION"
OFFSET_VARIABLE = "SLURM_ESIS_OFFSET"  # what the job adds to Slurm's index

_SQUEUE_FORMAT = "%F|%K|%T|%r|%M|%o|%Z"  # %o and %Z are free text, so they come last
_JOB_ID = re.compile(r"(\d+)(?:;(\S+))?\Z")
_FIELDS = 6
_SACCT_FORMAT = "JobID,State,ExitCode,ElapsedRaw,WorkDir"
_ACCOUNT = re.compile(r"(\d+)(?:_(?:(\d+)|\[([^\]|]*)\]))?\|([^|]*)\|(\d*):?(\d*)\|(\d*)\|(.*)\Z", re.DOTALL)
_ACCOUNT_SLACK = 86400.0  # seconds before a submission from which on sacct looks: clocks and time zones differ

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


_TAKEN = re.compile(r"\d+_[\d,\-%\[\].]+: (No error|Job has already finished|Job/step already completing or "
                    r"completed)\Z")
_SCANCEL_LIMIT = 3500  # characters of an index list
# What Slurm says where a limit on the number of jobs is reached: of a QOS, an association, or the whole cluster.
_LIMIT = ("accounting/qos policy", "maxsubmit", "temporarily unable", "resource temporarily unavailable", "max job",
          "unable to create job record", "job queue full")
# Options that ESIS sets itself, or that would turn sbatch into something else.
_RESERVED = ("--array", "--dependency", "--parsable", "--wrap", "--chdir", "--wait", "--test-only", "--help",
             "--version", "--usage", "--clusters")
_RESERVED_SHORT = ("-a", "-d", "-D", "-W", "-h", "-V", "-M")


def sbatch_argv(submission: Submission, position: int) -> list[str]:
    """Return the command that submits one array; it runs in the run's cwd/.

    The script holds the first array. Options of the command line outrank those of the script.
    """
    options = list(submission.options)
    if position > 0:
        options.append(f"--array={submission.arrays[position].spec}")
    if submission.output_of(position) != submission.output:
        options.append(f"--output={submission.unique_output}")
    dependency = behind(submission, position)
    if position > 0 or dependency != submission.dependency:
        options.append(f"--dependency={dependency or ''}")
    return ["sbatch", "--parsable", *options, "../sbatch.sh"]


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
    for word in options:
        name = word.partition("=")[0]
        long = name.startswith("--") and len(name) > 3 and any(item.startswith(name) for item in _RESERVED)
        if long or (not name.startswith("--") and word.startswith(_RESERVED_SHORT)):
            raise BadInput(f"the sbatch option {name} can't be given: ESIS sets it itself, or it would not submit",
                           "leave it out")
    if options and not options[0].startswith("-"):
        raise BadInput(f"{options[0]!r} is no sbatch option", "options begin with a dash: -- --time=2-0 --mem=64G")


def squeue_argv(clusters: Sequence[str] = ()) -> list[str]:
    """Return the one query for the states of all of the user's jobs.

    Without -r what waits of an array is one line, and a cancelled remainder keeps its indices. Clusters are named only
    where sbatch named them: `-M` needs slurmdbd.
    """
    return ["squeue", "-h", "-t", "all", "--me", "-o", _SQUEUE_FORMAT, *_on(clusters)]


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
    states: dict[str, JobState] = {}
    for line in stdout.split("\n"):
        fields = line.split("|", _FIELDS - 1)
        if len(fields) < _FIELDS or not fields[0].isdigit():
            continue
        job, index, word, reason, used, place = fields
        if word not in states:
            states[word] = classify(word)
        found.append(Sighting(job, _indices(index), states[word], word, reason, place, used=used))
    return found


def sacct_argv(jobs: Sequence[str], clusters: Sequence[str], since: float) -> list[str]:
    """Return the one query of the accounting.

    With the jobs named, or its window would begin at midnight; with a beginning, or ids used before would match.
    Records lag behind by seconds to minutes.
    """
    start = datetime.fromtimestamp(since - _ACCOUNT_SLACK).strftime("%Y-%m-%dT%H:%M:%S")
    return ["sacct", "-X", "-n", "-P", "-j", ",".join(jobs), "-S", start, "-o", _SACCT_FORMAT,
            *_on(clusters)]


def parse_sacct(stdout: str) -> list[Sighting]:
    """Read the answer to `sacct_argv`; what very many lines share behind the element is parsed once."""
    found: list[Sighting] = []
    known: dict[str, tuple[JobState, str, str, str, int | None, int | None, str]] = {}
    for line in stdout.split("\n"):
        element, _, rest = line.partition("|")
        job, _, index = element.partition("_")
        if (told := known.get(rest)) and element.isascii() and job.isdigit() and index.isdigit():
            found.append(Sighting(job, (int(index),), *told))
        elif match := _ACCOUNT.match(line):
            job, index, ranges, word, code, signal, elapsed, workdir = match.groups()
            told = known[rest] = (classify(word), word, "", f"|{workdir}", int(code) if code else None,
                                  int(signal) if signal else None, elapsed)
            found.append(Sighting(job, _indices(index if index is not None else ranges or ""), *told))
    return found


def scancel_argvs(job: Job, positions: Sequence[int], pending_only: bool) -> list[list[str]]:
    """Return the commands that cancel these positions of an array; a long list is cut into several."""
    states = ["-t", "PENDING"] if pending_only else []
    parts: list[list[str]] = []
    for part in format_ranges(positions).split(","):
        if not parts or sum(map(len, parts[-1])) + len(parts[-1]) + len(part) > _SCANCEL_LIMIT:
            parts.append([])
        parts[-1].append(part)
    return [["scancel", *_on_that_of(job), *states, f"{job.id}_[{','.join(ranges)}]"] for ranges in parts]


def feeder_argv(script: Path, log: Path, options: Sequence[str]) -> list[str]:
    """Return the command that keeps a place in the queue for the job which submits what a limit left over."""
    output = str(log).replace("%", "%%")
    return ["sbatch", "--parsable", "--hold", "--job-name=esis-feed", "--ntasks=1", "--time=15", "--open-mode=append",
            f"--output={output}", *options, str(script)]


def update_argv(job: Job, change: str) -> list[str]:
    """Return the command that changes a queued job."""
    return ["scontrol", *_on_that_of(job), "update", f"jobid={job.id}", *change.split(" ")]


def update_problem(error: str, code: int) -> str | None:
    """Return what scontrol says went wrong with a change; None where only elements that have ended didn't take it.

    Of an array it then lists all elements by what became of them, "20_4-9: No error" too, and ends with 1.
    """
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    wrong = [line for line in lines if _TAKEN.match(line) is None]
    if lines and not wrong:
        return None
    return wrong[-1] if wrong else f"scontrol ended with {code}"


def parse_limits(stdout: str) -> Limits:
    """Read `scontrol show config`; what isn't there is Slurm's default."""
    def find(pattern: str) -> str | None:
        match = re.search(pattern, stdout, re.MULTILINE | re.IGNORECASE)
        return match.group(1) if match is not None else None

    size, timeout = find(r"^MaxArraySize\s*=\s*(\d+)"), find(r"^MessageTimeout\s*=\s*(\d+)")
    tasks = find(r"^SchedulerParameters\s*=.*\bmax_array_tasks=(\d+)")
    return Limits(int(size) if size else Limits.max_array_size, int(tasks) if tasks else None,
                  float(timeout) if timeout else Limits.message_timeout, find(r"^SLURM_VERSION\s*=\s*(\S+)"))


def is_limit(message: str) -> bool:
    """Return whether a refusal says that a limit on the number of jobs is reached, so that fewer may be taken."""
    return any(text in message.lower() for text in _LIMIT)


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

    def __init__(self) -> None:
        """Know nothing of the cluster yet."""
        self._limits: Limits | None = None

    def available(self) -> bool:
        """Return whether there is an sbatch at all."""
        return shutil.which("sbatch") is not None

    def limits(self) -> Limits | None:
        """Ask for the configuration, once in the life of this client; Slurm's defaults where it doesn't answer."""
        if self._limits is None:
            text, problem = _ask(["scontrol", "show", "config"])
            self._limits = replace(parse_limits(text), problem=problem)
        return self._limits

    def submit(self, run: RunDir, submission: Submission, position: int, acknowledged: Callable[[Job], None]) -> Answer:
        """Call sbatch once. See Scheduler."""
        env = clean_environment(**{FENCE_VARIABLE: fence_name(submission.number, position)})
        if len(submission.arrays) > 1:
            env[OFFSET_VARIABLE] = str(submission.arrays[position].offset)
        try:
            done = capture(sbatch_argv(submission, position), cwd=run.cwd, env=env, timeout=SUBMIT_SECONDS)
        except OSError as error:
            return Answer(Outcome.REFUSED, f"sbatch can't be started: {error.strerror}", asked=False)
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

    def cancel(self, job: Job, positions: Sequence[int], pending_only: bool) -> None:
        """Call scancel for array positions of a job; whether it did anything has to be asked of the queue."""
        for argv in scancel_argvs(job, positions, pending_only):
            _ask(argv)

    def reserve_feeder(self, run: RunDir, options: Sequence[str]) -> tuple[Job | None, str]:
        """Queue the run's feeding job, held; return it, or None and what went wrong.

        A second one after a lost answer does no harm: whatever it does, it does under the lock of the run.
        """
        try:
            done = capture(feeder_argv(run.feed_script, run.feed_log, options), cwd=run.private,
                           env=clean_environment(), timeout=SUBMIT_SECONDS)
        except OSError as error:
            return None, f"sbatch can't be started: {error.strerror}"
        job = parse_job(done.stdout.decode("utf-8", "replace")) if done.code == 0 and not done.timed_out else None
        return job, "" if job is not None else judge(done).message

    def start_feeder(self, job: Job, behind: Sequence[str], delay: float) -> str | None:
        """Let the feeding job start once the jobs `behind` have ended; without such ones after `delay` seconds.

        Returns what went wrong.
        """
        change = (f"dependency=afterany:{':'.join(behind)}" if behind
                  else f"starttime=now+{int(delay)} dependency=")
        return _update(job, change) or _ask(["scontrol", *_on_that_of(job), "release", job.id])[1]

    def drop_feeder(self, job: Job) -> None:
        """Take the feeding job out of the queue: there is nothing left to submit."""
        _ask(["scancel", *_on_that_of(job), job.id])

    def set_throttle(self, job: Job, limit: int) -> str | None:
        """Change how many tasks of a queued array run at a time; return what went wrong."""
        return _update(job, f"ArrayTaskThrottle={limit}")

    def set_dependency(self, job: Job, dependency: str) -> str | None:
        """Change what a queued job waits for (an empty text: nothing); return what went wrong."""
        return _update(job, f"dependency={dependency}")

    def account(self, snapshot: Snapshot, jobs: Sequence[str], clusters: Sequence[str], since: float) -> Snapshot:
        """Call sacct once. See Scheduler."""
        if not jobs:
            return replace(snapshot, accounting_asked=True)
        text, problem = _ask(sacct_argv(jobs, clusters, since))
        return replace(snapshot, accounting=tuple(parse_sacct(text)), accounting_problem=problem, accounting_asked=True)


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


def _update(job: Job, change: str) -> str | None:
    """Change a queued job; return what went wrong."""
    argv = update_argv(job, change)
    try:
        done = capture(argv, env=clean_environment(), timeout=QUERY_SECONDS)
    except OSError as error:
        return f"{argv[0]}: {error.strerror}"
    if done.timed_out:
        return f"{argv[0]} gave no answer in {QUERY_SECONDS:.0f} s"
    if done.code == 0:
        return None
    return update_problem(done.stderr.decode("utf-8", "replace"), done.code)


def _on(clusters: Sequence[str]) -> list[str]:
    """Return the option that names clusters; none where sbatch named none, for it needs slurmdbd."""
    return ["-M", ",".join(clusters)] if clusters else []


def _on_that_of(job: Job) -> list[str]:
    return _on([job.cluster] if job.cluster is not None else [])


def _indices(text: str) -> Sequence[int] | None:
    """Return the indices of an array's elements as squeue and sacct write them; None where there are none."""
    if text.isascii() and text.isdigit():  # isdigit alone also takes ², which is no number
        return (int(text),)
    ranges = text.partition("%")[0]
    if not ranges or not ranges.isascii() or not ranges[0].isdigit() or "..." in ranges:
        return None
    try:
        if ":" not in ranges:
            return parse_ranges(ranges)
        found: list[int] = []
        for part in ranges.split(","):  # a step: 0-8:2
            span, _, step = part.partition(":")
            low, _, high = span.partition("-")
            found += range(int(low), int(high or low) + 1, int(step or 1))
    except (BadInput, ValueError):
        return None
    return found


def _message(error: str) -> str:
    """Return the last line of an error, the one that says why."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return lines[-1] if lines else ""
