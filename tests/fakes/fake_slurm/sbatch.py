"""The fake sbatch: options, batch script, environment, and the reply with its faults."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Mapping

from .options import UsageError, minutes, parse, table, words
from .program import BIN, emit, fail, hang, user_name, warn
from .queue import advance, parse_dependency
from .records import PLAIN, Cluster, Job, SlurmError, Task, compress, parse_indices
from .store import Knobs, Store

TYPE_CHECKING = False  # typing takes a fifth of a client's start
if TYPE_CHECKING:
    from typing import Any

TOO_LONG = "Pathname of a file, directory or other parameter too long"
TIMED_OUT = "Socket timed out on send/recv operation"
LIMIT = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"

SHORT = table(
    "a=array A=account b=begin B=extra-node-info c=cpus-per-task C=constraint d=dependency D=chdir "
    "e=error F=nodefile G=gpus h=help H=hold i=input J=job-name k=no-kill L=licenses m=distribution "
    "M=clusters n=ntasks N=nodes o=output O=overcommit p=partition q=qos Q=quiet s=oversubscribe "
    "S=core-spec t=time u=usage v=verbose V=version w=nodelist W=wait x=exclude"
)
FLAGS = words(
    "contiguous help hold ignore-pbs no-requeue overcommit parsable quiet reboot requeue spread-job test-only"
    " usage use-min-nodes verbose version wait"
)
OPTIONAL = words("exclusive get-user-env kill-on-invalid-dep nice no-kill oversubscribe propagate")
VALUED = words(
    "account acctg-freq array batch bb bbf begin chdir cluster-constraint clusters comment constraint "
    "container container-id core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline "
    "delay-boot dependency distribution error exclude export export-file extra extra-node-info gid "
    "gpu-bind gpu-freq gpus gpus-per-node gpus-per-socket gpus-per-task gres gres-flags hint input "
    "job-name licenses mail-type mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus "
    "network nodefile nodelist nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node "
    "ntasks-per-socket open-mode output partition power prefer priority profile qos reservation signal "
    "sockets-per-node switches thread-spec threads-per-core time time-min tmp tres-bind tres-per-task "
    "uid wait-all-nodes wckey wrap"
)
ENVIRONMENT = {
    "SBATCH_ACCOUNT": "account",
    "SBATCH_ARRAY_INX": "array",
    "SBATCH_CLUSTERS": "clusters",
    "SLURM_CLUSTERS": "clusters",
    "SBATCH_CONSTRAINT": "constraint",
    "SBATCH_ERROR": "error",
    "SBATCH_EXCLUSIVE": "exclusive",
    "SBATCH_EXPORT": "export",
    "SBATCH_GRES": "gres",
    "SBATCH_INPUT": "input",
    "SBATCH_JOB_NAME": "job-name",
    "SBATCH_MEM_PER_CPU": "mem-per-cpu",
    "SBATCH_MEM_PER_NODE": "mem",
    "SBATCH_NO_REQUEUE": "no-requeue",
    "SBATCH_OPEN_MODE": "open-mode",
    "SBATCH_OUTPUT": "output",
    "SBATCH_PARTITION": "partition",
    "SBATCH_QOS": "qos",
    "SBATCH_REQUEUE": "requeue",
    "SBATCH_RESERVATION": "reservation",
    "SBATCH_SIGNAL": "signal",
    "SBATCH_TIMELIMIT": "time",
    "SBATCH_WAIT": "wait",
    "SBATCH_WCKEY": "wckey",
}


def directives(script: str) -> list[str]:
    """Return the arguments of the #SBATCH lines, which end at the first line that is no comment."""
    found: list[str] = []
    for line in script.split("\n"):
        if line.startswith("#SBATCH"):
            lexer = shlex.shlex(line[7:], posix=True, punctuation_chars=False)
            lexer.whitespace_split = True
            lexer.commenters = ""
            try:
                words = list(lexer)
            except ValueError:
                raise UsageError("sbatch: error: unmatched quote in a #SBATCH line") from None
            for word in words:
                if word.startswith("#"):
                    break
                found.append(word)
        elif line.strip() and not line.lstrip().startswith("#"):
            break
    return found


def settle(arguments: list[str], script: str, environment: Mapping[str, str], accept: bool) -> dict[str, str]:
    """Return the options in force: command line over SBATCH_* over #SBATCH."""
    known = (SHORT, FLAGS, VALUED, OPTIONAL, accept, False)
    pairs, _ = parse("sbatch", directives(script), *known)
    pairs += [(name, environment[key]) for key, name in ENVIRONMENT.items() if key in environment]
    pairs += parse("sbatch", arguments, *known)[0]
    options: dict[str, str] = {}
    for name, value in pairs:
        # Of two contrary options, the one of higher precedence alone counts.
        if name in ("requeue", "no-requeue"):
            options.pop("requeue", None)
            options.pop("no-requeue", None)
        options[name] = value
    return options


def check_script(data: bytes) -> None:
    """Refuse what sbatch refuses before it talks to slurmctld."""
    if not data:
        raise UsageError("sbatch: error: Batch script is empty!")
    if not data.strip():
        raise UsageError("sbatch: error: Batch script contains only whitespace!")
    if not data.startswith(b"#!"):
        raise UsageError(
            "sbatch: error: This does not look like a batch script.  The first\n"
            "sbatch: error: line must start with #! followed by the path to an interpreter.\n"
            "sbatch: error: For instance: #!/bin/sh"
        )
    if b"\0" in data:
        raise UsageError(
            "sbatch: error: The SLURM controller does not allow scripts that\n"
            "sbatch: error: contain a NULL character '\\0'."
        )
    if b"\r\n" in data:
        raise UsageError(
            "sbatch: error: Batch script contains DOS line breaks (\\r\\n)\n"
            "sbatch: error: instead of expected UNIX line breaks (\\n)."
        )


def job_environment(export: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what --export lets through; SLURM_* always passes."""
    entries = _entries(export)
    slurm = {name: value for name, value in environment.items() if name.startswith("SLURM_")}
    upper = export.upper()
    if upper == "NIL":
        base = {"PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin"}
    elif "ALL" in (entry.upper() for entry in entries):
        base = dict(environment)
    else:
        login = ("HOME", "USER", "LOGNAME", "SHELL")
        base = {name: environment[name] for name in login if name in environment}
        base["PATH"] = f"{BIN}:/usr/local/bin:/usr/bin:/bin"
        base["SLURM_GET_USER_ENV"] = "1"
    base.update(slurm)
    if upper not in ("NIL", "NONE"):
        for entry in entries:
            name, equals, value = entry.partition("=")
            if equals:
                base[name] = value
            elif name in environment:
                base[name] = environment[name]
    if upper != "ALL":
        base["SLURM_EXPORT_ENV"] = export
    # Not Slurm's: without it a job could not reach its own fake cluster.
    for name in ("FAKE_SLURM_STATE", "FAKE_SLURM_PYTHON"):
        if name in environment:
            base[name] = environment[name]
    return base


def _entries(export: str) -> list[str]:
    entries: list[str] = []
    quote = ""
    word = ""
    for letter in export:
        if quote:
            if letter == quote:
                quote = ""
            else:
                word += letter
        elif letter in "'\"":
            quote = letter
        elif letter == ",":
            entries.append(word)
            word = ""
        else:
            word += letter
    return [entry for entry in [*entries, word] if entry]


def main(store: Store, arguments: list[str]) -> int:
    """Submit a batch script."""
    knobs = store.knobs()
    accept = knobs.unknown_options == "accept"
    try:
        given, operands = parse("sbatch", arguments, SHORT, FLAGS, VALUED, OPTIONAL, accept, False)
        names = dict(given)
        if "version" in names:
            emit(f"slurm {knobs.version}\n")
            return 0
        command, data = _read_script(names, operands)
        script = data.decode("utf-8", "surrogateescape")
        options = settle(arguments, script, os.environ, accept)
    except UsageError as error:
        warn(str(error))
        return 1
    if "clusters" in options:
        unknown = knobs.unknown_cluster(options["clusters"])
        if unknown is not None:
            return fail(f"sbatch: error: No cluster '{unknown}' known by database.")
        options = {**options, "clusters": options["clusters"].split(",")[0]}
        store = store.on_cluster(options["clusters"])
        knobs = store.knobs()
        os.environ["FAKE_SLURM_STATE"] = store.root
    return _submit(store, knobs, options, command, operands, data, arguments)


def _read_script(names: Mapping[str, str], operands: list[str]) -> tuple[str, bytes]:
    if "wrap" in names:
        if operands:
            raise UsageError("sbatch: error: Script arguments are not permitted with --wrap option.")
        return (
            "(null)",
            f"#!/bin/sh\n# This script was created by sbatch --wrap.\n\n{names['wrap']}\n".encode(
                "utf-8", "surrogateescape"
            ),
        )
    if not operands:
        data = sys.stdin.buffer.read()
        check_script(data)
        return "(null)", data
    try:
        with open(operands[0], "rb") as stream:
            data = stream.read()
    except OSError:
        raise UsageError(f"sbatch: error: Unable to open file {operands[0]}") from None
    check_script(data)
    return _as_shown(operands[0]), data


def _as_shown(script: str) -> str:
    """Return the path that squeue shows: as it was typed, but absolute for a name without a slash."""
    return script if "/" in script else os.path.join(os.getcwd(), script)


def _submit(
    store: Store,
    knobs: Knobs,
    options: Mapping[str, str],
    command: str,
    operands: list[str],
    data: bytes,
    arguments: list[str],
) -> int:
    fault = store.take_fault("sbatch") or {}
    kind = fault.get("kind", "")
    message = fault.get("message") or TIMED_OUT
    if kind == "hang" and not fault.get("accepted"):
        hang(fault)
        return _failed(TIMED_OUT)
    if knobs.down:
        return _failed("Unable to contact slurm controller (connect failure)")
    if kind == "client":
        return fail(message)
    if fault.get("before"):
        warn(str(fault["before"]))
    if kind in ("refuse", "timeout", "error"):
        return _failed(message)
    if fault and kind not in ("hang", "lost_reply", "forgotten", "banner", "cluster", "noise"):
        raise ValueError(f"unknown sbatch fault {kind!r}")

    now = time.time()
    try:
        job, tasks = _describe(knobs, options, command, operands, data, now)
    except (SlurmError, ValueError) as error:
        return _failed(str(error))
    job.submit_line = " ".join(["sbatch", *arguments])  # without the quotation marks
    try:
        with store.transaction() as cluster:
            advance(cluster, knobs, now)
            job.depends, job.depends_any = parse_dependency(options.get("dependency", ""), cluster, knobs, now)
            _check_limits(cluster, knobs, job, tasks)
            if "test-only" in options:
                node = knobs.nodes[0]
                warn(
                    f"sbatch: Job {cluster.next_id} to start at {time.strftime('%Y-%m-%dT%H:%M:%S')}"
                    f" using {job.cpus} processors on nodes {node} in partition {job.partition}"
                )
                return 0
            if kind == "forgotten":
                # slurmctld answers before it saves its state; the next job gets the same id.
                job.id = cluster.next_id
            else:
                _accept(store, cluster, job, tasks, data, options, now)
                if kind == "lost_reply":
                    lookups = int(fault.get("lookups") or 0)
                    job.hidden_lookups = lookups
                    job.hidden_until = now + float(fault.get("seconds") or 0.0)
    except SlurmError as error:
        if str(error) == LIMIT:
            warn("sbatch: error: AssocMaxSubmitJobLimit")
        return _failed(str(error))
    store.kick()
    if kind == "hang":
        hang(fault)
    if kind == "lost_reply":
        return _failed(message)
    if kind == "noise":
        warn(str(fault.get("message", "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying.")))
    if kind == "banner":
        emit(str(fault.get("text", "Welcome to the cluster.\n")))
    cluster_name = fault.get("name", knobs.cluster_name) if kind == "cluster" else options.get("clusters", "")
    if "parsable" in options:
        emit(f"{job.id};{cluster_name}\n" if cluster_name else f"{job.id}\n")
    elif "quiet" not in options:
        emit(f"Submitted batch job {job.id}{f' on cluster {cluster_name}' if cluster_name else ''}\n")
    if "wait" in options and kind != "forgotten":
        return _wait(store, job.id, knobs)
    return 0


def _failed(message: str) -> int:
    return fail(f"sbatch: error: Batch job submission failed: {message}")


def _describe(
    knobs: Knobs, options: Mapping[str, str], command: str, operands: list[str], data: bytes, now: float
) -> tuple[Job, list[int]]:
    """Return the job that the options describe, and its array indices."""
    cwd = os.getcwd()
    if len(data) > knobs.max_script_size or any(len(options.get(n, "")) > 1024 for n in ("job-name", "comment")):
        raise SlurmError(TOO_LONG)
    indices, throttle, step = _array(options.get("array", ""), knobs)
    partition = options.get("partition", knobs.partition)
    if partition not in knobs.partitions:
        raise SlurmError("Invalid partition name specified")
    default_name = "wrap" if "wrap" in options else os.path.basename(command) if operands else "sbatch"
    default_output = "slurm-%A_%a.out" if indices else "slurm-%j.out"
    requeue = knobs.requeue_default
    if "requeue" in options or "no-requeue" in options:
        requeue = "requeue" in options
    job = Job(
        name=options.get("job-name", default_name),
        user=user_name(),
        uid=os.getuid(),
        partition=partition,
        account=options.get("account", ""),
        comment=options.get("comment", ""),
        workdir=os.path.normpath(os.path.join(cwd, options.get("chdir", ""))),
        # Seen with arguments in 22.05, without in 24.11.
        command=" ".join([command, *operands[1:]]) if knobs.release() < (24, 11) else command,
        argv=operands[1:],
        output=options.get("output", default_output),
        error=options.get("error", ""),
        input=options.get("input", "/dev/null"),
        append={"append": True, "a": True, "truncate": False, "t": False}.get(
            options.get("open-mode", ""), knobs.append_logs
        ),
        umask=_umask(),
        limit=_limit(options),
        signal=options.get("signal", ""),
        memory=options.get("mem", ""),
        cpus_per_task=_count(options, "cpus-per-task"),
        ntasks=_count(options, "ntasks"),
        nodes=max(_count(options, "nodes"), 1),
        requeue=requeue,
        held="hold" in options,
        kill_invalid=options.get("kill-on-invalid-dep", "no").lower() in ("yes", "y"),
        submit=now,
        begin=begin_time(options.get("begin", ""), now),
    )
    if indices:
        job.array, job.throttle = True, throttle
        job.array_count, job.array_step = len(indices), step
        job.array_min, job.array_max = indices[0], indices[-1]
    return job, indices


def _array(text: str, knobs: Knobs) -> tuple[list[int], int, int]:
    # An empty --array= gives a plain job with exit status 0.
    if not text:
        return [], 0, 1
    if len(text) > 4096:
        raise SlurmError(TOO_LONG)
    spec, percent, limit = text.partition("%")
    if percent and not limit.isdigit():
        raise SlurmError("Invalid job array specification")
    indices = parse_indices(spec)
    if indices[-1] >= knobs.max_array_size:
        raise SlurmError("Invalid job array specification")
    for setting in knobs.scheduler_parameters.split(","):
        name, _, value = setting.partition("=")
        if name == "max_array_tasks" and len(indices) > int(value):
            raise SlurmError("Invalid job array specification")
    step = spec.partition(":")[2]
    return indices, int(limit or 0), int(step) if step.isdigit() else 1


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _count(options: Mapping[str, str], name: str) -> int:
    text = options.get(name, "0").partition("-")[0]
    if not text.isdigit():
        raise SlurmError(f'Invalid numeric value "{text}" for --{name}.')
    return int(text)


def _limit(options: Mapping[str, str]) -> int | None:
    if "time" not in options:
        return None
    try:
        limit = minutes(options["time"])
    except ValueError:
        raise SlurmError("Invalid time limit specification") from None
    return limit if limit >= 0 else None


def begin_time(text: str, now: float) -> float:
    if not text or text == "now":
        return 0.0
    if text.startswith("now+"):
        number = text[4:].rstrip("abcdefghijklmnopqrstuvwxyz")
        unit = {"m": 60, "h": 3600, "d": 86400, "w": 604800}.get(text[4 + len(number) :][:1], 1)
        if number.isdigit():
            return now + int(number) * unit
    else:
        for form in ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"):
            try:
                return time.mktime(time.strptime(text, form))
            except ValueError:
                continue
    raise SlurmError("Invalid --begin specification")


def _check_limits(cluster: Cluster, knobs: Knobs, job: Job, indices: list[int]) -> None:
    size = len(indices) or 1
    queued = sum(other.queued_count() for other in cluster.jobs.values())
    if knobs.submit_limit and queued + size > knobs.submit_limit:
        raise SlurmError(LIMIT)
    records = sum(len(other.tasks) + other.waiting_count() for other in cluster.jobs.values())
    if records + size > knobs.max_job_count:
        raise SlurmError("Unable to create job record, try again")


def _accept(
    store: Store, cluster: Cluster, job: Job, indices: list[int], data: bytes, options: Mapping[str, str], now: float
) -> None:
    job.id = cluster.new_id()
    if indices:
        job.pending = compress(indices)
    else:
        job.tasks = {PLAIN: Task(raw_id=job.id, submit=now)}
    environment = job_environment(options.get("export", "ALL"), os.environ)
    environment.update(
        SLURM_JOB_NAME=job.name,
        SLURM_SUBMIT_DIR=os.getcwd(),
        SLURM_SUBMIT_HOST=os.uname().nodename,
        SLURM_UMASK=f"{job.umask:04o}",
        SLURM_CLUSTER_NAME=store.knobs().cluster_name,
    )
    if "cpus-per-task" in options:
        environment["SLURM_CPUS_PER_TASK"] = str(job.cpus_per_task)
    if "ntasks" in options:
        environment["SLURM_NTASKS"] = environment["SLURM_NPROCS"] = str(job.ntasks)
    if "mem" in options:
        environment["SLURM_MEM_PER_NODE"] = options["mem"]
    folder = store.spool(job.id)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    _write(os.path.join(folder, "environment.json"), json.dumps(environment).encode(), 0o600)
    _write(os.path.join(folder, "slurm_script"), data, 0o700)
    cluster.jobs[job.id] = job


def _write(path: str, data: bytes, mode: int) -> None:
    # Replaced, not rewritten: a reused id's old script may still be running.
    temporary = f"{path}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        os.fchmod(stream.fileno(), mode)
    os.replace(temporary, path)


def _wait(store: Store, job_id: int, knobs: Knobs) -> int:
    deadline = time.monotonic() + knobs.wait_seconds
    while time.monotonic() < deadline:
        job: Any = store.read().jobs.get(job_id)
        if job is None:
            return fail("sbatch: error: Unable to wait for job: Invalid job id specified")
        if not job.unfinished():
            codes = [int(task.exit_code.partition(":")[0]) for task in job.tasks.values()]
            failed = any(task.state != "COMPLETED" for task in job.tasks.values()) or bool(job.remainder_state)
            return max(codes, default=0) or int(failed)
        time.sleep(0.02)
    return fail("sbatch: error: the fake's wait_seconds are over")
