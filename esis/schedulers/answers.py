"""Read what the commands of Slurm answer. Nothing here runs a program, and no answer is a crash."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Sequence

from esis.errors import BadInput, printable
from esis.model.index_sets import parse_ranges
from esis.process import Completed
from esis.records.submissions import Job, Outcome
from esis.schedulers.base import Answer, JobState, Sighting
from esis.schedulers.commands import ROW_BEGIN, ROW_END

_JOB_ID = re.compile(r"(\d+)(?:;(\S+))?\Z")
_REST = 4  # places where the rest of a line of squeue is cut
_HEADER = "ARRAY_JOB_ID|"
_SLUID = re.compile(r"s[0-9A-Z]{8,30}\Z")
_START_LENGTH = 18  # of a start as squeue is asked for it
_SHOWN = 60  # characters of an answer that can't be read
_ACCOUNT = re.compile(
    r"(?P<job>\d+)(?:_\[(?P<ranges>[^\]|]*)\])?\|(?P<word>[^|]*)\|(?P<code>\d*):?(?P<signal>\d*)\|"
    r"(?P<used>\d*)\|(?:(?P<start>Unknown|None|\d[\d-]{9}T[\d:]{8})\|)?(?P<place>.*)\Z",
    re.DOTALL,
)

_WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT", "EXPEDITING"}
)
_ACTIVE = frozenset({"RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "SUSPENDED", "STOPPED"})
_FAILED = frozenset(
    {
        "FAILED",
        "TIMEOUT",
        "DEADLINE",
        "OUT_OF_MEMORY",
        "NODE_FAIL",
        "BOOT_FAIL",
        "LAUNCH_FAILED",
        "CANCELLED",
        "REVOKED",
        "PREEMPTED",
    }
)

# After these the job may be queued all the same: a lost reply was seen with the job running.
_UNCERTAIN = (
    "socket timed out",
    "zero bytes",
    "unexpected message",
    "unable to contact slurm controller",
    "connection refused",
    "connection reset",
    "connection timed out",
    "connection aborted",
    "broken pipe",
    "communication connection failure",
    "communication shutdown failure",
    "transport endpoint",
    "temporarily unable",
    "in standby mode",
    "message receive failure",
    "message send failure",
    "insane message length",
    "incomplete packet",
    "header lengths",
    "protocol version",
    "authentication error",
    "slurm_receive_msg",
    "slurm_unpack",
    "unpack error",
    "network is unreachable",
    "no route to host",
    "host is down",
    "interrupted system call",
    "submission failed: no error",
    "submission failed: success",
)
# The controller said no; where it did, this line stands last, and the reasons of a site's job_submit plugin before it.
# These are in the words of the site ("connection refused by policy"); what counts of the lines before it is what
# functions of Slurm's say of themselves, for sbatch may have sent the job before. "Temporarily unable" is no doubt:
# so slurmctld answers where it has no room (MaxJobCount), which sbatch hears for two minutes (seen on 24.11).
_DEFINITE = ("batch job submission failed:", "allocation failure:")
_OF_SLURM = re.compile(
    r"(?:sbatch[\w.-]*: )?(?:error: |fatal: )?(?:(?!job_submit|cli_filter)\w*_\w+[:\s\[(]"
    r"|unable to contact slurm)"
)
# Or the client did, which sent nothing: its options, the script, a plugin of the site (cli_filter, spank). What goes
# wrong behind the submission it says with the id on stdout, or in the words above.
_CLIENT = re.compile(r"sbatch[\w.-]*: (error: |fatal: |unrecognized option|invalid option|option )", re.IGNORECASE)
# Or it never ran: what the shell of a site's wrapper, or the dynamic linker, says of it before it begins.
_NEVER_RAN = re.compile(
    r"(?:.*: )?(?:\S*/)?sbatch(?:[.-](?:real|orig|bin))?: (?:error while loading shared libraries: "
    r"|(?:command )?not found\Z|permission denied\Z|cannot execute|no such file or directory\Z)",
    re.IGNORECASE,
)
_NO_PROGRAM = (126, 127)  # exit codes of shells and of the dynamic linker
_TOO_OLD = re.compile(r"(?:\S*/)?sbatch: \S+: version \S+ not found \(required by ", re.IGNORECASE)  # ends with 1
_SAID_LINES = 20  # of what sbatch says
_SAID_LENGTH = 300  # characters of a line of it
_TAKEN = re.compile(
    r"\d+_[\d,\-%\[\].]+: (No error|Job has already finished|Job/step already completing or "
    r"completed)\Z"
)
_NAMED_LIMIT = re.compile(r"\b(?:QOS|Assoc|Max)\w+(?:Limit|PerAccount|PerUser)\b")  # like QOSMaxSubmitJobPerUserLimit
# What Slurm says where a limit on the number of jobs is reached: of a QOS, an association, or the whole cluster.
_LIMIT = (
    "accounting/qos policy",
    "maxsubmit",
    "temporarily unable",
    "resource temporarily unavailable",
    "max job",
    "unable to create job record",
    "job queue full",
)


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


def parse_squeue(stdout: str) -> tuple[list[Sighting], str | None]:
    """Read the answer to `squeue_argv`; also return why it is no whole answer, if it isn't.

    Between its rows there may be a site's notices and, in rows, the newlines of names.
    """
    found: list[Sighting] = []
    rows, problem = _rows(stdout)
    alike, others = _elements(rows, "|")
    told: list[tuple[str, Sequence[int] | None, str]]
    told = [(job, indices, rest) for (job, rest), indices in alike.items()]
    for line in others:
        job, _, tail = line.partition("|")
        index, _, rest = tail.partition("|")
        told.append((job, _indices(index), rest))
    for job, indices, rest in told:
        fields = rest[: -len(ROW_END)].split("|", _REST)
        if len(fields) > _REST and "|" in fields[_REST] and job.isdigit():
            word, reason, times, sluid, place = fields
            used, _, start = times.partition(" ")
            found.append(
                Sighting(
                    job,
                    indices,
                    classify(word),
                    word or "no state told",
                    reason,
                    place,
                    used=used,
                    sluid=sluid if _SLUID.match(sluid) else "",
                    start=start.rstrip(),
                )
            )
        else:
            problem = f"squeue's answer can't be read: {printable(job[:_SHOWN])}"
    return found, problem


def parse_sacct(stdout: str, completed: bool = True, besides: Container[str] = ()) -> list[Sighting]:
    """Read the answer to `sacct_argv`; a line that isn't one is left out.

    `completed` False: without those in the state COMPLETED, which may be nearly all, but for the elements `besides`.
    """
    found: list[Sighting] = []
    lines = stdout.split("\n")
    if not completed and "_[" not in stdout:  # else they tell what isn't in the rest of an array
        lines = [
            line
            for line in lines
            if not line.startswith("COMPLETED|", line.find("|") + 1) or line.partition("|")[0] in besides
        ]
    alike, others = _elements(lines, "_")
    for (job, rest), indices in alike.items():
        if match := _ACCOUNT.match(f"{job}|{rest}"):
            found.append(_accounted(match, indices))
    matches = [match for line in others if (match := _ACCOUNT.match(line))]
    found += _left_over([_accounted(match, _indices(match["ranges"] or "")) for match in matches], tuple(found))
    return [
        seen
        for seen in found
        if completed
        or seen.state is not JobState.COMPLETED
        or any(f"{seen.job}_{index}" in besides for index in seen.indices or ())
    ]


def _left_over(rest: Sequence[Sighting], named: Sequence[Sighting]) -> Iterator[Sighting]:
    """Yield what is said of the rests of arrays, without the elements that have a row of their own.

    slurmdbd hears of an element that begins before it hears that the rest is less, and of the latter perhaps never.
    """
    for seen in rest:
        alike = [item for item in named if (item.job, item.place) == (seen.job, seen.place)] if seen.indices else []
        own = {index for item in alike for index in item.indices or ()}
        left = [index for index in seen.indices or () if index not in own] if own else seen.indices
        if left or not own:
            yield seen._replace(indices=left)


def update_problem(error: str, code: int) -> str | None:
    """Return what scontrol says went wrong with a change; None where only elements that have ended didn't take it.

    Of an array it then lists all elements by what became of them, "20_4-9: No error" too, and ends with 1.
    """
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    wrong = [line for line in lines if _TAKEN.match(line) is None]
    if lines and not wrong:
        return None
    return wrong[-1] if wrong else f"scontrol ended with {code}"


def _is_limit(message: str) -> bool:
    """Return whether a refusal says that a limit on the number of jobs is reached, so that fewer may be taken."""
    # One text of Slurm's stands for limits of number, size and time; the line before it names the limit.
    named = [name.lower() for name in _NAMED_LIMIT.findall(message)]
    if named:
        return any("submit" in name for name in named)
    reason = message.lower().rpartition("batch job submission failed:")[2]  # before it speak plugins of the site
    return any(text in reason for text in _LIMIT)


def judge(done: Completed) -> Answer:
    """Tell whether a call of sbatch was taken, refused, or has an outcome that nobody knows.

    The message is all that it said, also where it took the job: then these are warnings.
    """
    error, output = (text.decode("utf-8", "replace") for text in (done.stderr, done.stdout))
    job = parse_job(output)
    alone = not error.strip() or not output.strip()
    if job is None and alone:
        error += output  # of a wrapper that keeps a log: sbatch "$@" 2>&1 | tee …, which ends with 0, too
    shown = said(error)
    if done.timed_out:
        return Answer(Outcome.OPEN, "sbatch gave no answer in time")
    if job is not None and done.code == 0:
        return Answer(Outcome.SUBMITTED, shown)
    if job is not None:
        return Answer(Outcome.OPEN, f"sbatch ended with {done.code}, though it names job {job.id}: {shown}")
    if done.code == 0 and not (alone and _says_no(last_line(error))):
        return Answer(Outcome.OPEN, f"sbatch ended with 0, and its output holds no job id: {shown}")
    if done.code < 0 or _is_uncertain(error, done.code):
        return Answer(Outcome.OPEN, shown or f"sbatch ended with {done.code} and no message")
    return Answer(Outcome.REFUSED, shown, at_limit=_is_limit(shown))


def _says_no(error: str) -> bool:
    """Return whether the controller's own line about a refusal is there."""
    return any(text in error.lower() for text in _DEFINITE)


def _is_uncertain(error: str, code: int) -> bool:
    """Return whether an error leaves it open what became of the job; an unheard-of one does."""
    lines = [line.strip().lower() for line in error.splitlines()]
    if _says_no(error):
        lines = [line for line in lines if _OF_SLURM.match(line) or any(text in line for text in _DEFINITE)]
        return any(text in line for line in lines for text in _UNCERTAIN)
    if any(text in line for line in lines for text in _UNCERTAIN):
        return True
    if code in _NO_PROGRAM and any(_NEVER_RAN.match(line) for line in lines):
        return False
    return not any(_CLIENT.match(line) or _TOO_OLD.match(line) for line in lines)


def said(error: str) -> str:
    """Return what a command said as one line, with marks where its lines end; of much the beginning and the end."""
    lines = [printable(line.strip())[:_SAID_LENGTH] for line in error.splitlines() if line.strip()]
    if len(lines) > _SAID_LINES:
        half = _SAID_LINES // 2
        lines = [*lines[:half], f"({len(lines) - 2 * half} more lines)", *lines[-half:]]
    return " | ".join(lines)


def last_line(error: str) -> str:
    """Return the last line of an error, the one that says why."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _rows(stdout: str) -> tuple[list[str], str | None]:
    """Return the rows between their marks, the last one left on; and what is wrong with the answer as a whole."""
    rows = f"\n{stdout}".split(f"\n{ROW_BEGIN}")[1:]
    whole = [row for row in rows if row.endswith(ROW_END)]
    if len(whole) < len(rows):
        # The last row ends with a newline, and notices may stand behind any.
        whole = [row[: end + len(ROW_END)] for row in rows if (end := f"{row}\n".rfind(f"{ROW_END}\n")) >= 0]
    found = [row for row in whole if not row.startswith(_HEADER)]
    if len(found) == len(whole):
        shown = printable(stdout.strip()[:_SHOWN])
        return found, f"squeue's answer can't be read: {shown}" if shown else "squeue said nothing"
    cut = len(whole) < len(rows) or not stdout.endswith("\n")
    return found, "squeue's answer is cut short" if cut else None


def _elements(lines: Iterable[str], mark: str) -> tuple[dict[tuple[str, str], list[int]], list[str]]:
    """Fold the lines `<job><mark><index>|<rest>` that differ by the index alone; return the other lines, too.

    There may be a hundred thousand, most of them alike.
    """
    alike: dict[tuple[str, str], list[int]] = {}
    others: list[str] = []
    for line in lines:
        job, _, tail = line.partition(mark)
        index, _, rest = tail.partition("|")
        if not (index.isdecimal() and job.isdecimal()):
            others.append(line)
        elif (indices := alike.get((job, rest))) is not None:
            indices.append(int(index))
        else:
            alike[job, rest] = [int(index)]
    return alike, others


def _accounted(match: re.Match[str], indices: Sequence[int] | None) -> Sighting:
    word, code, signal = match.group("word", "code", "signal")
    return Sighting(
        match.group("job"),
        indices,
        classify(word),
        word or "no state told",
        "",
        match.group("place"),
        int(code) if code else None,
        int(signal) if signal else None,
        match.group("used"),
        start=(match.group("start") or "")[:_START_LENGTH],
    )


def _indices(text: str) -> Sequence[int] | None:
    """Return the indices of an array's elements as squeue and sacct write them; None where there are none."""
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
