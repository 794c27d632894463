"""The fake squeue."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping

from .options import UsageError, clock, iso, parse, table, words
from .program import emit, fail, user_name, warn
from .queue import reason
from .records import COMPACT, Cluster, Job, SlurmError, Task, array_text, bitstr_len, expand, sluid
from .store import Knobs, Store

SHORT = table(
    "A=account a=all h=noheader i=iterate j=jobs l=long L=licenses M=clusters n=name o=format O=Format "
    "p=partition q=qos r=array R=reservation s=steps S=sort t=states u=user v=verbose V=version "
    "w=nodelist P=priority"
)
FLAGS = words(
    "all array array-unique federation hide local long me noconvert noheader only-job-state priority sibling"
    " start verbose version"
)
OPTIONAL = words("jobs steps json yaml")
VALUED = words(
    "account clusters format Format iterate licenses name nodelist partition qos reservation sort states user"
)
ENVIRONMENT = {
    "SQUEUE_ACCOUNT": "account",
    "SQUEUE_ALL": "all",
    "SQUEUE_ARRAY": "array",
    "SQUEUE_CLUSTERS": "clusters",
    "SLURM_CLUSTERS": "clusters",
    "SQUEUE_FORMAT": "format",
    "SQUEUE_FORMAT2": "Format",
    "SQUEUE_LICENSES": "licenses",
    "SQUEUE_NAMES": "name",
    "SQUEUE_PARTITION": "partition",
    "SQUEUE_QOS": "qos",
    "SQUEUE_STATES": "states",
    "SQUEUE_USERS": "user",
}
QOS = "normal"
DEFAULT = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"
LONG = "%.18i %.9P %.8j %.8u %.8T %.10M %.9l %.6D %R"
# Without -t, finished jobs are left out even while slurmctld remembers them.
DEFAULT_STATES = frozenset({"PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "RESIZING", "SIGNALING"})
FIELD = re.compile(r"(?<!%)%(\.?)(\d*)([A-Za-z])")


class Row:
    """One line of squeue: a task, a pending element, or a remainder as a whole."""

    def __init__(
        self,
        job: Job,
        task: Task | None,
        element: int | None,
        remainder: list[int] | None,
        state: str,
        why: str = "",  # the reason, where the whole remainder shares one
    ) -> None:
        self.job = job
        self.task = task
        self.element = element
        self.remainder = remainder
        self.state = state
        self.why = why

    @property
    def node(self) -> str:
        return "" if self.task is None else self.task.node

    @property
    def start(self) -> float:
        return 0.0 if self.task is None else self.task.start

    @property
    def end(self) -> float:
        if self.task is None:
            return self.job.remainder_end if self.state == self.job.remainder_state else 0.0
        return self.task.end


def rows_of(job: Job, knobs: Knobs, now: float, one_each: bool) -> list[Row]:
    """Return the rows of one job that slurmctld still remembers."""
    rows: list[Row] = []
    if job.pending:
        indices = list(expand(job.pending))
        why = reason(job, None, now)
        if one_each:
            rows += [Row(job, None, index, None, "PENDING", why) for index in indices]
        else:
            rows.append(Row(job, None, None, indices, "PENDING", why))
    if job.remainder_visible(now, knobs.min_job_age):
        cancelled = list(expand(job.remainder_indices))
        state, why = job.remainder_state, job.remainder_reason
        if not cancelled:
            # Cancelled piece by piece, it has no index left.
            rows.append(Row(job, None, None, None, state, why))
        elif one_each:
            rows += [Row(job, None, index, None, state, why) for index in cancelled]
        else:
            rows.append(Row(job, None, None, cancelled, state, why))
    for task in job.ordered_tasks():
        if task.visible(now, knobs.min_job_age):
            rows.append(Row(job, task, task.index, None, task.state))
    return rows


def main(store: Store, arguments: list[str]) -> int:
    """List the queue."""
    try:
        pairs, operands = parse("squeue", arguments, SHORT, FLAGS, VALUED, OPTIONAL)
    except UsageError as error:
        return fail(f'{error}\nTry "squeue --help" for more information')
    options = {name: os.environ[key] for key, name in ENVIRONMENT.items() if key in os.environ}
    options.update(pairs)
    if operands and options.get("jobs") == "":
        # The argument of -j is optional, yet may stand apart.
        options["jobs"] = operands.pop(0)
    if operands:
        return fail(f"squeue: error: Unrecognized option: {operands[0]}")
    unsupported = sorted(options.keys() & {"Format", "json", "yaml", "steps", "iterate"})
    if unsupported:
        return fail(f"squeue: error: the fake has no --{unsupported[0]}")
    knobs = store.knobs()
    named = options.get("clusters", "")
    if named and named != "all" and (unknown := knobs.unknown_cluster(named)) is not None:
        return fail(f"squeue: error: No cluster '{unknown}' known by database.")
    out: list[str] = []
    try:
        for name in named.split(","):
            table_of = _table(store.on_cluster(name), options)
            if name and "noheader" not in options:
                out.append(f"{chr(10) if out else ''}CLUSTER: {name}\n")
            out += table_of
    except UsageError as error:
        return fail(str(error))
    except SlurmError as error:
        return fail(f"slurm_load_jobs error: {error}")
    emit("".join(out))
    return 0


def _table(store: Store, options: Mapping[str, str]) -> list[str]:
    """Return the lines about one cluster."""
    knobs = store.knobs()
    states = _states(options)
    columns = _columns(options.get("format") or (LONG if "long" in options else DEFAULT), knobs.release())
    rows = _select(store.look(), knobs, options, states)
    out: list[str] = []
    if "noheader" not in options:
        out.append("".join(_fit(TITLES.get(kind, kind) if kind else text, kind, text) for kind, text in columns) + "\n")
    now = time.time()
    limit = bitstr_len(os.environ)
    for row in rows:
        out.append("".join(_fit(_value(row, kind, now, limit), kind, text) for kind, text in columns) + "\n")
    return out


def _states(options: Mapping[str, str]) -> frozenset[str] | None:
    text = options.get("states")
    if text is None:
        return DEFAULT_STATES
    if text.lower() == "all":
        return None
    names = {compact: full for full, compact in COMPACT.items()}
    wanted = set()
    for word in text.split(","):
        full = names.get(word.upper(), word.upper())
        if full == "ALL":
            return None
        if full not in COMPACT:
            raise UsageError(f"Invalid job state specified: {word}")
        wanted.add(full)
    return frozenset(wanted)


def _select(cluster: Cluster, knobs: Knobs, options: Mapping[str, str], states: frozenset[str] | None) -> list[Row]:
    now = time.time()
    wanted: list[tuple[Job, list[int] | None]] | None = None
    if options.get("jobs"):
        names = options["jobs"].split(",")
        wanted = []
        for name in names:
            try:
                found = cluster.find_known(name, now, knobs.min_job_age)
            except SlurmError:
                # One unknown id is an error; of several, the unknown ones are just left out.
                if len(names) == 1:
                    raise
                continue
            wanted += found
    user = user_name() if "me" in options else options.get("user")
    if user is not None and "me" not in options:
        _check_users(user)
    rows: list[Row] = []
    for job in sorted(cluster.jobs.values(), key=lambda job: job.id):
        if user is not None and not {job.user, str(job.uid)} & set(user.split(",")):
            continue
        if "jobs" in knobs.private_data.split(",") and job.uid != os.getuid():
            continue
        if job.partition in knobs.hidden_partitions and "all" not in options and wanted is None:
            continue
        # No job of the fake has licenses, and there is one QOS.
        actual = {"name": job.name, "partition": job.partition, "account": job.account, "qos": QOS, "licenses": ""}
        if any(name in options and value not in options[name].split(",") for name, value in actual.items()):
            continue
        for row in rows_of(job, knobs, now, "array" in options):
            if states is not None and row.state not in states:
                continue
            if wanted is not None and not any(job is other and _named(row, only) for other, only in wanted):
                continue
            rows.append(row)
    # As Slurm's own default (-S P,t,-p): by the name of the state, then by priority, and held jobs have none.
    return sorted(rows, key=lambda row: (row.state, row.job.held, row.job.id))


def _check_users(users: str) -> None:
    """Name the users that this machine doesn't know; squeue ends with 0 all the same."""
    import pwd

    for user in users.split(","):
        try:
            pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
        except KeyError:
            warn(f"squeue: error: Invalid user: {user}\n")


def _named(row: Row, only: list[int] | None) -> bool:
    if only is None:
        return True
    if row.remainder is not None:
        return any(index in only for index in row.remainder)
    return row.element in only


def _columns(format_text: str, release: tuple[int, ...]) -> list[tuple[str, str]]:
    """Return (letter, width) for each field and ("", text) for what stands between.

    %s is the SLUID in 26.05, an error with its letters printed in 24.11, and something that is empty in 22.05.
    """
    if release < (23, 2):
        format_text = format_text.replace("%s", "")
    elif release < (26, 5) and "%s" in format_text:
        warn("squeue: error: Invalid job format specification: s\n")
        format_text = format_text.replace("%s", "%%s")
    columns: list[tuple[str, str]] = []
    position = 0
    for match in FIELD.finditer(format_text):
        if match.start() > position:
            columns.append(("", format_text[position : match.start()].replace("%%", "%")))
        if match[3] not in TITLES:
            raise UsageError(f"squeue: error: Invalid job format specification: {match[3]}")
        columns.append((match[3], match[1] + match[2]))
        position = match.end()
    if position < len(format_text):
        columns.append(("", format_text[position:].replace("%%", "%")))
    return columns


def _fit(value: str, kind: str, text: str) -> str:
    if not kind:
        return text
    right = text.startswith(".")
    width = int(text.lstrip(".") or 0)
    if not width:
        return value
    return value[:width].rjust(width) if right else value[:width].ljust(width)


TITLES = table(
    "A=JOBID a=ACCOUNT C=CPUS D=NODES E=DEPENDENCY e=END_TIME F=ARRAY_JOB_ID i=JOBID j=NAME "
    "K=ARRAY_TASK_ID k=COMMENT L=TIME_LEFT l=TIME_LIMIT M=TIME m=MIN_MEMORY N=NODELIST o=COMMAND "
    "s=SLUID P=PARTITION p=PRIORITY Q=PRIORITY q=QOS R=NODELIST(REASON) r=REASON S=START_TIME T=STATE t=ST U=UID "
    "u=USER V=SUBMIT_TIME Z=WORK_DIR"
)


def job_name_of(row: Row, limit: int) -> str:
    """Return the %i of a row: 20, 20_3 or 20_[3-9%4]."""
    if row.remainder is not None:
        return f"{row.job.id}_[{array_text(row.remainder, row.job.throttle, limit)}]"
    return str(row.job.id) if row.element is None else f"{row.job.id}_{row.element}"


def dependency_text(job: Job) -> str:
    """Return the dependencies that are left, as %E prints them."""
    parts = []
    for kind, target, index, failed in job.depends:
        if kind == "singleton":
            parts.append("singleton(unfulfilled)")
        else:
            element = "" if index is None else f"_{index}"
            parts.append(f"{kind}:{target}{element}({'failed' if failed else 'unfulfilled'})")
    return ("?" if job.depends_any else ",").join(parts) or "(null)"


def _value(row: Row, kind: str, now: float, limit: int) -> str:
    job, task = row.job, row.task
    if kind == "i":
        return job_name_of(row, limit)
    if kind == "K":
        if row.remainder is not None:
            return array_text(row.remainder, job.throttle, limit)
        return "N/A" if row.element is None else str(row.element)
    if kind in "rR":
        why = row.why or reason(job, task, now)
        if kind == "r":
            return why
        bad = row.state not in ("PENDING", "RUNNING", "COMPLETING", "COMPLETED") and why != "None"
        return f"({why})" if row.state == "PENDING" or bad else row.node
    if kind in "MlLe":
        allowed = None if job.limit is None else job.limit * 60.0
        used = (row.end or now) - row.start if row.start else 0.0
        if kind == "M":
            return clock(used)
        if kind == "e":
            planned = row.start + allowed if row.start and allowed is not None else 0.0
            return iso(row.end or planned, "N/A")
        return "UNLIMITED" if allowed is None else clock(allowed - used if kind == "L" else allowed)
    return SIMPLE[kind](row)


SIMPLE: Mapping[str, Callable[[Row], str]] = {
    "A": lambda row: str(row.job.id if row.task is None else row.task.raw_id),
    "a": lambda row: row.job.account or "(null)",
    "C": lambda row: str(row.job.cpus),
    "D": lambda row: str(row.job.nodes),
    "E": lambda row: dependency_text(row.job),
    "F": lambda row: str(row.job.id),
    "j": lambda row: row.job.name,
    "k": lambda row: row.job.comment or "(null)",
    "m": lambda row: row.job.memory or "0",
    "N": lambda row: row.node,
    "o": lambda row: row.job.command,
    "P": lambda row: row.job.partition,
    "p": lambda row: "0.00000000000000",
    "Q": lambda row: "1",
    "q": lambda row: QOS,
    "S": lambda row: iso(row.start, "N/A"),
    "s": lambda row: sluid(row.job if row.task is None else row.task),
    "T": lambda row: row.state,
    "t": lambda row: COMPACT.get(row.state, row.state),
    "U": lambda row: str(row.job.uid),
    "u": lambda row: row.job.user,
    "V": lambda row: iso(row.job.submit if row.task is None else row.task.submit, "N/A"),
    "Z": lambda row: row.job.workdir,
}
