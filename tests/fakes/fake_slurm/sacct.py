"""The fake sacct: off unless the knob `accounting` is on."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from .options import UsageError, clock, iso, parse, table, words
from .program import emit, fail, user_name
from .records import Job, Task, array_text, bitstr_len, expand
from .store import Knobs, Store

SHORT = table(
    "a=allusers A=accounts b=brief D=duplicates E=endtime h=help j=jobs l=long L=allclusters M=clusters "
    "n=noheader N=nodelist o=format p=parsable P=parsable2 r=partition s=state S=starttime u=user "
    "v=verbose V=version X=allocations"
)
FLAGS = words(
    "allclusters allocations allusers array brief duplicates help helpformat local long noconvert noheader"
    " parsable parsable2 verbose version whole-hetjob"
)
VALUED = words("accounts clusters delimiter endtime format jobs name nodelist partition starttime state units user uid")
DEFAULT = "JobID,JobName,Partition,Account,AllocCPUS,State,ExitCode"


def main(store: Store, arguments: list[str]) -> int:
    """List what accounting remembers."""
    knobs = store.knobs()
    if not knobs.accounting:
        return fail("Slurm accounting storage is disabled")
    try:
        pairs, operands = parse("sacct", arguments, SHORT, FLAGS, VALUED)
        options = {"format": os.environ["SACCT_FORMAT"]} if "SACCT_FORMAT" in os.environ else {}
        options.update(pairs)
        fields = _fields(options.get("format", DEFAULT))
        now = time.time()
        first = _moment(options.get("starttime", ""), now)
        last = _moment(options.get("endtime", ""), now) or now
    except UsageError as error:
        return fail(f"sacct: error: {error}")
    if operands:
        return fail(f'Unknown arguments:\n  "{operands[0]}"')
    named = [name for name in options.get("clusters", "").split(",") if name]
    unknown = knobs.unknown_cluster(",".join(named)) if named else None
    if unknown is not None:
        return fail(f"sacct: error: No cluster '{unknown}' known by database.")
    if first is None and "jobs" not in options:
        # Without -j the window starts at midnight.
        today = time.localtime(now)
        first = time.mktime((*today[:3], 0, 0, 0, 0, 0, -1))
    # Accounting knows what lag seconds ago was true, and doesn't care what slurmctld forgot since.
    seen = now - knobs.sacct_lag
    found: list[tuple[float, dict[str, str]]] = []
    for asked in [store.on_cluster(name) for name in named] or [store]:
        latest = asked.read()
        if any(job.hidden_lookups for job in latest.jobs.values()):
            asked.look()
        for job in sorted([*latest.accounted, *latest.jobs.values()], key=lambda job: (job.id, job.submit)):
            if job.hidden(now) or job.submit > seen:
                continue
            for row, begin, end in _rows(job, asked.knobs(), seen, "allocations" not in options):
                if (first is not None and end and end < first) or begin > last:
                    continue
                if _selected(job, row, options):
                    found.append((begin, row))
    # In the order of submission: a requeue is a new one.
    table = [row for _, row in sorted(found, key=lambda pair: pair[0])]
    emit(_print(table, fields, options))
    return 0


def _moment(text: str, now: float) -> float | None:
    if not text:
        return None
    today = time.localtime(now)
    if text == "now":
        return now
    if text in ("midnight", "today"):
        return time.mktime((*today[:3], 0, 0, 0, 0, 0, -1))
    if text.startswith(("now-", "now+")):
        number = text[4:].rstrip("abcdefghijklmnopqrstuvwxyz")
        unit = {"m": 60, "h": 3600, "d": 86400, "w": 604800}.get(text[4 + len(number) :][:1], 1)
        if number.isdigit():
            return now + (1 if text[3] == "+" else -1) * int(number) * unit
    for form in ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d", "%m/%d/%y", "%H:%M:%S", "%H:%M"):
        try:
            parsed = time.strptime(text, form)
        except ValueError:
            continue
        if "%d" not in form:
            return time.mktime((*today[:3], *parsed[3:6], 0, 0, -1))
        return time.mktime((*parsed[:6], 0, 0, -1))
    raise UsageError(f"Invalid time specification (pos=0): {text}")


def _fields(text: str) -> list[tuple[str, int]]:
    canonical = {name.lower(): name for name in FIELDS}
    fields = []
    for part in text.split(","):
        name, _, width = part.strip().partition("%")
        if not name:
            continue
        if name.lower() not in canonical:
            raise UsageError(f'Invalid field requested: "{name}"')
        digits = width.lstrip("-")
        size = (int(digits) if digits.isdigit() else 0) or FIELDS[canonical[name.lower()]]
        fields.append((canonical[name.lower()], -size if width.startswith("-") else size))
    return fields


FIELDS = {
    name: int(width)
    for name, width in table(
        "JobID=-12 JobIDRaw=-12 JobName=10 Partition=10 Account=10 AllocCPUS=10 NCPUS=10 State=10 ExitCode=8 "
        "DerivedExitCode=15 Elapsed=10 ElapsedRaw=10 Start=19 End=19 Submit=19 Eligible=19 WorkDir=20 "
        "NodeList=15 Reason=22 User=9 UID=6 Timelimit=10 TimelimitRaw=13 ReqMem=10 ReqTRES=10 AllocTRES=10 "
        "MaxRSS=10 Comment=14 Cluster=10 SubmitLine=20 NNodes=8 ReqCPUS=8 TotalCPU=10 QOS=10 CPUTime=10 "
        "CPUTimeRAW=10 AveRSS=10 Flags=20 Priority=10"
    ).items()
}


def _rows(job: Job, knobs: Knobs, seen: float, steps: bool) -> list[tuple[dict[str, str], float, float]]:
    rows: list[tuple[dict[str, str], float, float]] = []
    for task in job.ordered_tasks():
        name = str(job.id) if task.index is None else f"{job.id}_{task.index}"
        state = task.state
        shown = task
        if task.finished and task.end > seen:
            shown = Task(**{**vars(task), "end": 0.0, "exit_code": "0:0"})
            state = "RUNNING"
        if state in ("RUNNING", "COMPLETING") and task.start > seen:
            shown = Task(**{**vars(shown), "start": 0.0})
            state = "PENDING"
        if state == "COMPLETING":
            state = "RUNNING"
        if state == "CANCELLED":
            state = f"CANCELLED by {job.uid}"
        rows.append((_row(job, knobs, name, task.raw_id, state, shown, seen), task.submit, shown.end))
        if steps and shown.start and task.node:
            step = _row(job, knobs, f"{name}.batch", task.raw_id, state.partition(" ")[0], shown, seen)
            step.update(
                JobIDRaw=f"{task.raw_id}.batch", JobName="batch", User="", Partition="", Timelimit="", WorkDir=""
            )
            step.update(MaxRSS="1024K" if shown.end else "", AveRSS="1024K" if shown.end else "", SubmitLine="")
            rows.append((step, task.submit, shown.end))
    gone = job.remainder_state and job.remainder_end <= seen
    indices = list(expand(job.pending or job.remainder_indices))
    text = f"{job.id}_[{array_text(indices, job.throttle, bitstr_len(os.environ))}]" if indices else str(job.id)
    if gone:
        ended = Task(submit=job.submit, start=job.remainder_end, end=job.remainder_end)
        state = f"{job.remainder_state} by {job.uid}"
        rows.append((_row(job, knobs, text, job.id, state, ended, seen), job.submit, job.remainder_end))
    elif job.pending or job.remainder_state:
        rows.append((_row(job, knobs, text, job.id, "PENDING", Task(submit=job.submit), seen), job.submit, 0.0))
    return rows


def _row(job: Job, knobs: Knobs, name: str, raw: int, state: str, task: Task, now: float) -> dict[str, str]:
    elapsed = (task.end or now) - task.start if task.start else 0.0
    memory = job.memory or "0"
    tres = f"billing={job.cpus},cpu={job.cpus},mem={memory},node={job.nodes}"
    return {
        "JobID": name,
        "JobIDRaw": str(raw),
        "JobName": job.name,
        "Partition": job.partition,
        "Account": job.account,
        "AllocCPUS": str(job.cpus) if task.start else "0",
        "NCPUS": str(job.cpus),
        "ReqCPUS": str(job.cpus),
        "NNodes": str(job.nodes),
        "State": state,
        "ExitCode": task.exit_code,
        "DerivedExitCode": "0:0",
        "Elapsed": clock(elapsed, padded=True),
        "ElapsedRaw": str(int(max(elapsed, 0))),
        "Start": iso(task.start, "Unknown"),
        "End": iso(task.end, "Unknown"),
        "Submit": iso(task.submit, "Unknown"),
        "Eligible": iso(task.submit, "Unknown"),
        "WorkDir": job.workdir,
        "NodeList": task.node or "None assigned",
        "Reason": task.reason if task.reason != "RaisedSignal" else "None",
        "User": job.user,
        "UID": str(job.uid),
        "Timelimit": "UNLIMITED" if job.limit is None else clock(job.limit * 60.0, padded=True),
        "TimelimitRaw": "UNLIMITED" if job.limit is None else str(job.limit),
        "ReqMem": memory,
        "ReqTRES": tres,
        "AllocTRES": tres if task.start and task.node else "",
        "MaxRSS": "",
        "AveRSS": "",
        "Comment": job.comment if knobs.release() < (21, 8) else "",
        "Cluster": knobs.cluster_name,
        "SubmitLine": job.submit_line,
        "TotalCPU": "00:00:00",
        "CPUTime": clock(elapsed * job.cpus, padded=True),
        "CPUTimeRAW": str(int(max(elapsed, 0)) * job.cpus),
        "QOS": "normal",
        "Flags": "",
        "Priority": "1",
    }


def _selected(job: Job, row: Mapping[str, str], options: Mapping[str, str]) -> bool:
    if "jobs" in options:
        names = [name.partition(".")[0] for name in options["jobs"].split(",")]
        shown = row["JobID"].partition(".")[0]
        if str(job.id) not in names and shown not in names and row["JobIDRaw"].partition(".")[0] not in names:
            return False
    elif "user" not in options and "allusers" not in options and os.getuid() != 0 and job.uid != os.getuid():
        return False
    users = options.get("user")
    if users is not None and not {job.user, str(job.uid)} & set((users or user_name()).split(",")):
        return False
    if "name" in options and job.name not in options["name"].split(","):
        return False
    return "state" not in options or row["State"].partition(" ")[0] in options["state"].upper().split(",")


def _print(table: list[dict[str, str]], fields: list[tuple[str, int]], options: Mapping[str, str]) -> str:
    lines: list[str] = []
    if "parsable" in options or "parsable2" in options:
        delimiter = options.get("delimiter", "|")
        end = "" if "parsable2" in options else delimiter
        if "noheader" not in options:
            lines.append(delimiter.join(name for name, _ in fields) + end)
        lines += [delimiter.join(row[name] for name, _ in fields) + end for row in table]
        return "".join(f"{line}\n" for line in lines)

    def fit(value: str, width: int) -> str:
        size = abs(width)
        value = value if len(value) <= size else value[: size - 1] + "+"
        return value.rjust(size) if width > 0 else value.ljust(size)

    if "noheader" not in options:
        lines.append(" ".join(fit(name, width) for name, width in fields))
        lines.append(" ".join("-" * abs(width) for _, width in fields))
    lines += [" ".join(fit(row[name], width) for name, width in fields) for row in table]
    return "".join(f"{line} \n" for line in lines)
