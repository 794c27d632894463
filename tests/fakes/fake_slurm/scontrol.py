"""The fake scontrol: show config and job, update, requeue, hold, release, ping."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from .options import UsageError, clock, iso, minutes, parse, table, words
from .program import emit, fail, warn
from .queue import advance, parse_dependency, put_back, reason, stop
from .records import Cluster, Job, SlurmError, Task, array_text, bitstr_len, expand
from .sbatch import begin_time
from .squeue import Row, dependency_text, rows_of
from .store import Knobs, Store

INVALID = "Invalid job id specified"
SHORT = table("a=all d=details h=help M=clusters o=oneliner Q=quiet v=verbose V=version u=uid F=future")
FLAGS = words("all details future help oneliner quiet verbose version")
VALUED = words("clusters uid")


def main(store: Store, arguments: list[str]) -> int:
    """Carry out one command."""
    try:
        pairs, words = parse("scontrol", arguments, SHORT, FLAGS, VALUED)
    except UsageError as error:
        return fail(str(error))
    options = {"clusters": os.environ["SLURM_CLUSTERS"]} if "SLURM_CLUSTERS" in os.environ else {}
    options.update(pairs)
    knobs = store.knobs()
    if "clusters" in options:
        if knobs.unknown_cluster(options["clusters"]) is not None:
            return fail(f"scontrol: error: No cluster '{options['clusters']}' known by database.")
        if "," in options["clusters"]:
            return fail("scontrol: fatal: Only one cluster can be used at a time with scontrol")
        store = store.on_cluster(options["clusters"])
        knobs = store.knobs()
    if not words:
        return fail("scontrol: error: the fake has no interactive mode")
    command, rest = words[0].lower(), words[1:]
    if command == "ping":
        emit("Slurmctld(primary) at ctld is UP\n")
        return 0
    if command == "version":
        emit(f"slurm {knobs.version}\n")
        return 0
    if command == "show":
        entity = rest[0].lower() if rest else ""
        if entity and "config".startswith(entity):
            return _config(knobs)
        if entity in ("job", "jobs", "jobid"):
            return _show_job(store, knobs, rest[1] if len(rest) > 1 else "", "oneliner" in options)
        if entity.partition("=")[0] in ("job", "jobid"):
            return _show_job(store, knobs, rest[0].partition("=")[2], "oneliner" in options)
        return fail(f"invalid entity:{entity} for keyword:show ")
    if command == "update":
        return _update(store, knobs, rest)
    actions: dict[str, Callable[[Cluster, Knobs, Job, list[int] | None], None]] = {
        "requeue": _requeue,
        "hold": _hold,
        "uhold": _hold,
        "release": _release,
    }
    if command not in actions:
        return fail(f"invalid keyword: {words[0]}")
    if not rest:
        return fail("too few arguments for keyword:" + command)
    status = 0
    with store.transaction() as cluster:
        for name in (name for word in rest for name in word.split(",")):
            try:
                job, indices = _find(cluster, knobs, name)
                actions[command](cluster, knobs, job, indices)
            except SlurmError as error:
                warn(f"{error} for job {name}")
                status = 1
    store.kick()
    return status


def _find(cluster: Cluster, knobs: Knobs, name: str) -> tuple[Job, list[int] | None]:
    return cluster.find_known(name, time.time(), knobs.min_job_age)[0]


def _chosen(cluster: Cluster, knobs: Knobs, job: Job, indices: list[int] | None) -> list[Task]:
    """Return the records concerned, giving records to named elements of the remainder."""
    now = time.time()
    if indices is not None:
        waiting = set(expand(job.pending))
        for index in indices:
            if index in waiting:
                cluster.split(job, index, now)
    tasks = [
        task
        for task in job.ordered_tasks()
        if task.visible(now, knobs.min_job_age) and (indices is None or task.index in indices)
    ]
    if indices is not None and not tasks:
        raise SlurmError(INVALID)
    return tasks


def _requeue(cluster: Cluster, knobs: Knobs, job: Job, indices: list[int] | None) -> None:
    if not job.requeue:
        raise SlurmError("Requested operation is presently disabled")
    now = time.time()
    pending = 0
    tasks = _chosen(cluster, knobs, job, indices)
    for task in tasks:
        if task.state == "PENDING":
            pending += 1
        elif task.finished or not task.pid:
            put_back(task, now, knobs.requeue_delay)
        else:
            task.requeue = True
            stop(task, "REQUEUED", "", now, knobs.kill_wait)
    if pending == len(tasks):
        raise SlurmError("Job is pending execution")


def _hold(cluster: Cluster, knobs: Knobs, job: Job, indices: list[int] | None) -> None:
    if indices is None:
        job.held = True
    for task in _chosen(cluster, knobs, job, indices):
        if task.state == "PENDING":
            task.held = True


def _release(cluster: Cluster, knobs: Knobs, job: Job, indices: list[int] | None) -> None:
    if indices is None:
        job.held = False
    for task in _chosen(cluster, knobs, job, indices):
        task.held = False


def _update(store: Store, knobs: Knobs, words: list[str]) -> int:
    changes: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            return fail(f"Invalid input: {word}\nRequest aborted")
        changes[key.lower()] = value
    name = changes.pop("jobid", changes.pop("job", ""))
    if not name:
        return fail('No valid entity in update command\nInput line must include "JobId", for the fake knows no other')
    try:
        with store.transaction() as cluster:
            job, indices = _find(cluster, knobs, name)
            tasks = _chosen(cluster, knobs, job, indices)
            for key, value in changes.items():
                _change(cluster, knobs, job, tasks, key, value)
            advance(cluster, knobs, time.time())
    except (SlurmError, ValueError) as error:
        return fail(f"{error} for job {name}")
    store.kick()
    return 0


def _change(cluster: Cluster, knobs: Knobs, job: Job, tasks: list[Task], key: str, value: str) -> None:
    if key == "arraytaskthrottle":
        if not job.array:
            raise SlurmError("Requested operation not supported on this system")
        job.throttle = int(value)
    elif key == "dependency":
        if not job.unfinished():
            raise SlurmError("Job/step already completing or completed")
        job.depends, job.depends_any = parse_dependency(value, cluster, knobs, time.time())
    elif key == "starttime":
        job.begin = begin_time(value, time.time())
    elif key == "timelimit":
        limit = minutes(value)
        job.limit = limit if limit >= 0 else None
        for task in tasks:
            if task.state == "RUNNING" and task.pid:
                task.stop_at = task.start + job.limit * knobs.minute if job.limit is not None else 0.0
    elif key in ("name", "jobname"):
        job.name = value
    elif key == "comment":
        job.comment = value
    elif key == "requeue":
        job.requeue = value == "1"
    elif key == "partition" and value in knobs.partitions:
        job.partition = value
    else:
        raise SlurmError(f"Update of this parameter is not supported: {key}={value}")


def _config(knobs: Knobs) -> int:
    storage = "accounting_storage/slurmdbd" if knobs.accounting else "accounting_storage/none"
    values = {
        "AccountingStorageType": storage if knobs.accounting or knobs.release() < (23, 11) else "(null)",
        "AccountingStoreFlags": "(null)",
        "ClusterName": knobs.cluster_name,
        "JobFileAppend": str(int(knobs.append_logs)),
        "JobRequeue": str(int(knobs.requeue_default)),
        "KillWait": f"{knobs.kill_wait:.0f} sec",
        "MaxArraySize": str(knobs.max_array_size),
        "MaxJobCount": str(knobs.max_job_count),
        "MessageTimeout": f"{knobs.message_timeout} sec",
        "MinJobAge": f"{knobs.min_job_age:.0f} sec",
        "PrivateData": knobs.private_data,
        "SchedulerParameters": knobs.scheduler_parameters,
        "SchedulerType": "sched/backfill",
        "SelectType": "select/cons_tres",
        "SLURM_CONF": "/etc/slurm/slurm.conf",
        "SlurmctldHost[0]": knobs.controller,
        "SLURM_VERSION": knobs.version,
    }
    lines = [f"{name:<23} = {value}\n" for name, value in sorted(values.items(), key=lambda item: item[0].lower())]
    now = time.strftime("%Y-%m-%dT%H:%M:%S")
    emit(f"Configuration data as of {now}\n{''.join(lines)}\nSlurmctld(primary) at ctld is UP\n")
    return 0


def _show_job(store: Store, knobs: Knobs, name: str, one_line: bool) -> int:
    cluster = store.look()
    now = time.time()
    try:
        if name:
            job, indices = _find(cluster, knobs, name)
            rows = [
                row
                for row in rows_of(job, knobs, now, False)
                if indices is None
                or row.element in indices
                or (row.remainder is not None and set(indices) & set(row.remainder))
            ]
        else:
            rows = [row for job in cluster.jobs.values() for row in rows_of(job, knobs, now, False)]
    except SlurmError as error:
        return fail(f"slurm_load_jobs error: {error}")
    if not rows and name:
        return fail(f"slurm_load_jobs error: {INVALID}")
    if not rows:
        emit("No jobs in the system\n")
    for row in rows:
        lines = _describe(row, now)
        emit(" ".join(lines) + "\n" if one_line else "\n   ".join(lines) + "\n\n")
    return 0


def _describe(row: Row, now: float) -> list[str]:
    from .runner import expand_name  # not before it is needed: it takes long

    job, task = row.job, row.task or Task(raw_id=row.job.id, submit=row.job.submit, state=row.state)
    array = ""
    if row.remainder is not None:
        text = array_text(row.remainder, job.throttle, bitstr_len(os.environ))
        array = f" ArrayJobId={job.id} ArrayTaskId={text}"
    elif row.element is not None:
        array = f" ArrayJobId={job.id} ArrayTaskId={row.element}"
    throttle = f" ArrayTaskThrottle={job.throttle}" if job.array and job.throttle else ""
    allowed = "UNLIMITED" if job.limit is None else clock(job.limit * 60.0, padded=True)
    used = clock((task.end or now) - task.start if task.start else 0.0, padded=True)

    def path(pattern: str) -> str:
        if row.remainder is not None and row.task is None:
            shown = expand_name(pattern, job, Task(raw_id=job.id))
        else:
            shown = expand_name(pattern, job, task)
        return os.path.join(job.workdir, shown)

    return [
        f"JobId={task.raw_id}{array}{throttle} JobName={job.name}",
        f"UserId={job.user}({job.uid}) GroupId={os.getgid()} MCS_label=N/A",
        "Priority=1 Nice=0 Account=" + (job.account or "(null)") + " QOS=normal",
        f"JobState={row.state} Reason={row.why or reason(job, row.task, now)} Dependency={dependency_text(job)}",
        f"Requeue={int(job.requeue)} Restarts={task.restarts} BatchFlag=1 Reboot=0 ExitCode={task.exit_code}",
        f"RunTime={used} TimeLimit={allowed} TimeMin=N/A",
        f"SubmitTime={iso(task.submit, 'Unknown')} EligibleTime={iso(task.submit, 'Unknown')}",
        f"StartTime={iso(task.start, 'Unknown')} EndTime={iso(task.end, 'Unknown')} Deadline=N/A",
        f"Partition={job.partition} AllocNode:Sid=fake:1",
        f"NodeList={task.node or '(null)'}",
        f"NumNodes={job.nodes} NumCPUs={job.cpus} NumTasks={max(job.ntasks, 1)} CPUs/Task={max(job.cpus_per_task, 1)}",
        f"Command={job.command}",
        f"WorkDir={job.workdir}",
        *([f"Comment={job.comment}"] if job.comment else []),
        f"StdErr={path(job.error or job.output)}",
        f"StdIn={job.input}",
        f"StdOut={path(job.output)}",
    ]
