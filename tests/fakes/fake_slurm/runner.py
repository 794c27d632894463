"""Run the queue: start eligible tasks as real processes, watch them, write down how they ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from typing import Any

from .queue import advance, finish, next_task, put_back, send, stop
from .records import PLAIN, Cluster, Job, Task, sluid
from .store import Knobs, Lock, Store

NO_INDEX = 4294967294  # what %a prints for a job that is no array
TICK = 0.02  # seconds between two looks at requests that come from other processes

Key = tuple[int, str]


class Runner:
    """Run tasks, `parallel` at a time, until there is nothing left to do; then give up the runner's lock."""

    def __init__(
        self,
        store: Store,
        parallel: int = 1,
        max_tasks: int | None = None,
        only: int | None = None,
        patience: float = 5.0,
        lifetime: float = 600.0,
    ) -> None:
        self.store = store
        self.parallel = parallel
        self.left = max_tasks
        self.only = only
        self.patience = patience
        self.deadline = time.monotonic() + lifetime
        self.processes: dict[Key, subprocess.Popen[bytes]] = {}
        self.started = 0
        self.stamp: tuple[int, int] = (0, 0)
        self.alarm = 0.0

    def run(self, lock: Lock) -> int:
        """Run until idle and return how many tasks were started; `lock` is held on entry and released."""
        orphans = True
        idle_since = time.monotonic()
        try:
            while True:
                held = self.store.lock()
                with held:
                    cluster = self.store.read()
                    knobs = self.store.knobs()
                    if orphans:
                        self._adopt(cluster, knobs)
                        orphans = False
                    self._reap(cluster, knobs)
                    due = self._start(cluster, knobs)
                    self._signal(cluster, knobs)
                    self.store.write(cluster)
                    self.stamp = self._stamp()
                    now = time.monotonic()
                    waiting = due and due - time.time() <= self.patience and self.left != 0
                    if self.processes or not waiting:
                        idle_since = now
                    stuck = now >= self.deadline or now - idle_since > self.patience
                    if not self.processes and (not waiting or stuck):
                        lock.release()
                        return self.started
                if time.monotonic() >= self.deadline:
                    self._kill_all()
                self._wait(due)
        except FileNotFoundError:
            # The state directory was removed under us: the test is over.
            return self.started
        finally:
            self._kill_all()
            lock.release()

    def _adopt(self, cluster: Cluster, knobs: Knobs) -> None:
        # Whoever started these is dead (we hold its lock): their node is lost with it.
        for job in cluster.jobs.values():
            for task in job.tasks.values():
                if task.pid and not task.finished:
                    if ours(self.store, task.pid):
                        send(task, signal.SIGKILL)
                    if task.verdict and not task.requeue:
                        finish(job, task, task.verdict, task.verdict_exit, _why(task.verdict), time.time())
                    else:
                        _conclude(job, task, knobs, "NODE_FAIL", "0:0", "NodeDown", job.requeue)

    def _reap(self, cluster: Cluster, knobs: Knobs) -> None:
        for key, process in list(self.processes.items()):
            status = process.poll()
            if status is None:
                continue
            del self.processes[key]
            job = cluster.jobs.get(key[0])
            task = job.tasks.get(key[1]) if job is not None else None
            if job is None or task is None or task.pid != process.pid:
                continue  # forgotten by slurmctld
            # Slurm ends a job with all its processes.
            send(task, signal.SIGKILL)
            self._end(job, task, knobs, status)

    def _end(self, job: Job, task: Task, knobs: Knobs, status: int) -> None:
        code = f"{status}:0" if status >= 0 else f"0:{-status}"
        state, why = ("COMPLETED", "None") if status == 0 else ("FAILED", "NonZeroExitCode")
        if status < 0:
            # Before that release, and as captured from 20.11 and 22.05, every death by signal reads so.
            named = f"RaisedSignal:{-status}({signal.Signals(-status).name})"
            why = named if knobs.release() >= (23, 11) else "JobLaunchFailure"
        requeue = False
        if task.requeue:
            put_back(task, time.time(), knobs.requeue_delay)
            return
        verdict = self.store.take_verdict(job.id, task.index)
        if task.verdict:
            state, code, why = task.verdict, task.verdict_exit or code, _why(task.verdict)
            requeue = state in ("NODE_FAIL", "PREEMPTED") and task.verdict_exit == "requeue"
            code = "0:0" if requeue else code
        elif verdict is not None:
            state = verdict["state"]
            code = verdict.get("exit_code", code)
            why = verdict.get("reason", _why(state))
            requeue = bool(verdict.get("requeue"))
        _conclude(job, task, knobs, state, code, why, requeue)

    def _start(self, cluster: Cluster, knobs: Knobs) -> float:
        """Start what may start; return when the next waiting task becomes due (0: none)."""
        due = 0.0
        while len(self.processes) < self.parallel and self.left != 0:
            if time.monotonic() >= self.deadline:
                return 0.0
            now = time.time()
            advance(cluster, knobs, now)
            found, due = next_task(cluster, knobs, now, self.only)
            if found is None:
                break
            job, task = found
            self.started += 1
            if self.left is not None:
                self.left -= 1
            self._launch(cluster, job, task, knobs, now)
        return due

    def _launch(self, cluster: Cluster, job: Job, task: Task, knobs: Knobs, now: float) -> None:
        busy = [other.node for each in cluster.jobs.values() for other in each.tasks.values() if other.pid]
        task.state, task.start, task.end, task.reason = "RUNNING", now, 0.0, "None"
        task.node = min(knobs.nodes, key=busy.count)
        key = (job.id, PLAIN if task.index is None else str(task.index))
        if self.store.peek_verdict(job.id, task.index).get("run") is False:
            self._end(job, task, knobs, 0)
            return
        process = spawn(self.store, knobs, job, task)
        if process is None:
            finish(job, task, "FAILED", "0:53", "JobLaunchFailure", time.time())
            return
        task.pid = process.pid
        self.processes[key] = process
        if job.limit is not None:
            task.stop_at = now + job.limit * knobs.minute
            seconds = job.signal.partition("@")[2] or "60"
            if job.signal:
                task.warn_at = max(task.stop_at - int(seconds) * knobs.minute / 60, now)

    def _signal(self, cluster: Cluster, knobs: Knobs) -> None:
        """Carry out what is due: warnings, time limits, and the SIGKILL after a SIGTERM."""
        now = time.time()
        moments: list[float] = []
        for number, key in self.processes:
            job = cluster.jobs.get(number)
            task = job.tasks.get(key) if job is not None else None
            if job is None or task is None:
                continue
            if task.warn_at and now >= task.warn_at:
                task.warn_at = 0.0
                flags, _, name = job.signal.partition("@")[0].rpartition(":")
                send(task, signal_number(name), batch_only="B" in flags.upper())
            if task.stop_at and now >= task.stop_at:
                task.stop_at = 0.0
                stop(task, "TIMEOUT", "0:0", now, knobs.kill_wait)
            if task.terminate:
                task.terminate = False
                send(task, signal.SIGCONT)
                send(task, signal.SIGTERM)
            if task.kill_at and now >= task.kill_at:
                send(task, signal.SIGKILL)
            moments += [moment for moment in (task.warn_at, task.stop_at, task.kill_at) if moment > now]
        self.alarm = min(moments, default=0.0)

    def _wait(self, due: float) -> None:
        """Wait until a process ends, a deadline comes, or somebody else changed the state."""
        fds = [descriptor for descriptor in map(_pidfd, self.processes.values()) if descriptor >= 0]
        try:
            while time.monotonic() < self.deadline:
                now = time.time()
                moments = [moment for moment in (self.alarm, due) if moment]
                pause = min([TICK, *(max(moment - now, 0.0) for moment in moments)])
                if len(fds) < len(self.processes):
                    pause = min(pause, 0.005)
                if select.select(fds, [], [], pause)[0]:
                    return
                if any(process.poll() is not None for process in self.processes.values()):
                    return
                if self._stamp() != self.stamp or any(time.time() >= moment for moment in moments):
                    return
        finally:
            for descriptor in fds:
                os.close(descriptor)

    def _stamp(self) -> tuple[int, int]:
        status = os.stat(self.store.path("state.json"))
        return status.st_mtime_ns, status.st_ino

    def _kill_all(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ours(store: Store, pid: int) -> bool:
    """Tell whether a process belongs to this fake: its id may have been used again."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:
            return b"FAKE_SLURM_STATE=" + os.fsencode(store.root) in stream.read().split(b"\0")
    except OSError:
        return False


def _pidfd(process: subprocess.Popen[bytes]) -> int:
    opener: Any = getattr(os, "pidfd_open", None)
    if opener is None:
        return -1
    try:
        return int(opener(process.pid))
    except OSError:
        return -1


def signal_number(text: str) -> int:
    """Return the number of USR1, SIGUSR1 or 10."""
    name = text.upper()
    if name.isdigit():
        return int(name)
    return int(signal.Signals[name if name.startswith("SIG") else f"SIG{name}"])


def _why(state: str) -> str:
    reasons = {
        "TIMEOUT": "TimeLimit",
        "NODE_FAIL": "NodeDown",
        "OUT_OF_MEMORY": "OutOfMemory",
        "FAILED": "NonZeroExitCode",
    }
    return reasons.get(state, "None")


def _conclude(job: Job, task: Task, knobs: Knobs, state: str, code: str, why: str, requeue: bool) -> None:
    now = time.time()
    if requeue:
        put_back(task, now, knobs.requeue_delay)
    else:
        finish(job, task, state, code, why, now)


def spawn(store: Store, knobs: Knobs, job: Job, task: Task) -> subprocess.Popen[bytes] | None:
    """Start a task's script as slurmd would; None is a launch failure."""
    folder = store.spool(job.id)
    with open(os.path.join(folder, "environment.json"), "rb") as stream:
        environment: dict[str, str] = json.loads(stream.read())
    environment.update(task_environment(knobs, job, task))
    script = os.path.join(folder, "slurm_script")
    workdir = job.workdir if os.path.isdir(job.workdir) else "/tmp"
    descriptors: list[int] = []
    try:
        source = os.open(os.path.join(workdir, expand_name(job.input, job, task)), os.O_RDONLY)
        descriptors.append(source)
        output = os.path.join(workdir, expand_name(job.output, job, task))
        descriptors.append(_open_log(output, job))
        errors = os.path.join(workdir, expand_name(job.error, job, task)) if job.error else output
        descriptors.append(descriptors[1] if errors == output else _open_log(errors, job))
        if workdir != job.workdir:
            text = f"couldn't chdir to `{job.workdir}': No such file or directory: going to /tmp"
            os.write(descriptors[2], os.fsencode(f"slurmstepd: error: {text}\n"))
        return subprocess.Popen(
            [script, *job.argv],
            stdin=descriptors[0],
            stdout=descriptors[1],
            stderr=descriptors[2],
            cwd=workdir,
            env=environment,
            start_new_session=True,
            umask=job.umask,
        )
    except OSError:
        return None
    finally:
        for descriptor in set(descriptors):
            os.close(descriptor)


def _open_log(path: str, job: Job) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (0 if job.append else os.O_TRUNC)
    fresh = not os.path.exists(path)
    descriptor = os.open(path, flags, 0o666)
    if fresh:
        os.fchmod(descriptor, 0o666 & ~job.umask)
    return descriptor


def expand_name(pattern: str, job: Job, task: Task) -> str:
    """Return a file name pattern with its %-marks filled in; a backslash turns them off."""
    if "\\" in pattern:
        return pattern.replace("\\", "")
    values = {
        "%": "%",
        "A": str(job.id),
        "a": str(NO_INDEX if task.index is None else task.index),
        "b": str((NO_INDEX if task.index is None else task.index) % 10),  # as 24.11 does, and 22.05 doesn't
        "J": str(task.raw_id),
        "j": str(task.raw_id),
        "N": task.node,
        "n": "0",
        "s": "batch",
        "t": "0",
        "u": job.user,
        "x": job.name,
    }
    result, position = "", 0
    while position < len(pattern):
        if pattern[position] != "%":
            result += pattern[position]
            position += 1
            continue
        end = position + 1
        while end < len(pattern) and pattern[end].isdigit():
            end += 1
        value = values.get(pattern[end : end + 1])
        if value is None:
            result += pattern[position : end + 1]
        else:
            width = min(int(pattern[position + 1 : end] or 0), 10)
            result += value.rjust(width, "0") if value.isdigit() else value
        position = end + 1
    return result


def task_environment(knobs: Knobs, job: Job, task: Task) -> dict[str, str]:
    """Return the variables that slurmd sets for the batch script."""
    limit_known = knobs.release() >= (23, 2)
    variables = {
        "ENVIRONMENT": "BATCH",
        "HOSTNAME": task.node,
        "SLURMD_NODENAME": task.node,
        "SLURM_CLUSTER_NAME": knobs.cluster_name,
        "SLURM_CPUS_ON_NODE": str(job.cpus),
        "SLURM_GTIDS": "0",
        "SLURM_JOBID": str(task.raw_id),
        "SLURM_JOB_CPUS_PER_NODE": str(job.cpus),
        "SLURM_JOB_GID": str(os.getgid()),
        "SLURM_JOB_ID": str(task.raw_id),
        "SLURM_JOB_NAME": job.name,
        "SLURM_JOB_NODELIST": task.node,
        "SLURM_JOB_NUM_NODES": str(job.nodes),
        "SLURM_JOB_PARTITION": job.partition,
        "SLURM_JOB_QOS": "normal",
        "SLURM_JOB_UID": str(job.uid),
        "SLURM_JOB_USER": job.user,
        "SLURM_LOCALID": "0",
        "SLURM_NNODES": str(job.nodes),
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": task.node,
        "SLURM_PROCID": "0",
        "SLURM_TASKS_PER_NODE": str(max(job.ntasks, 1)),
        "SLURM_TASK_PID": "0",
        "SLURM_TOPOLOGY_ADDR": task.node,
        "SLURM_TOPOLOGY_ADDR_PATTERN": "node",
        "SLURM_WORKING_CLUSTER": f"{knobs.cluster_name}:{os.uname().nodename}:6817:9728:109",
    }
    if job.account:
        variables["SLURM_JOB_ACCOUNT"] = job.account
    if job.array and task.index is not None:
        variables["SLURM_ARRAY_JOB_ID"] = str(job.id)
        variables["SLURM_ARRAY_TASK_ID"] = str(task.index)
        variables["SLURM_ARRAY_TASK_COUNT"] = str(job.array_count)
        variables["SLURM_ARRAY_TASK_MIN"] = str(job.array_min)
        variables["SLURM_ARRAY_TASK_MAX"] = str(job.array_max)
        variables["SLURM_ARRAY_TASK_STEP"] = str(job.array_step)
    if task.restarts:
        variables["SLURM_RESTART_COUNT"] = str(task.restarts)
    if knobs.release() >= (26, 5):
        variables["SLURM_JOB_SLUID"] = sluid(task)
    if limit_known:
        variables["SLURM_JOB_START_TIME"] = str(int(task.start))
        seconds = 365 * 86400.0 if job.limit is None else job.limit * knobs.minute
        variables["SLURM_JOB_END_TIME"] = str(int(task.start + seconds))
    return variables


def run(store: Store, **settings: Any) -> int:
    """Run the queue in this process; return how many tasks were started, -1 where another runner is at it."""
    lock = Lock(store.path("runner.lock"))
    with store.lock():
        taken = lock.acquire(blocking=False)
    return Runner(store, **settings).run(lock) if taken else -1


def detached(root: str) -> None:
    """Drain the queue and go: what a client of an automatic fake starts in the background."""
    store = Store(root)
    with open(store.path("runner.pid"), "w", encoding="ascii") as stream:
        stream.write(str(os.getpid()))
    knobs = store.knobs()
    run(store, parallel=knobs.parallel, patience=knobs.runner_seconds, lifetime=knobs.runner_seconds)
