"""A Slurm without a cluster: executables for PATH, state in a directory, and this interface for tests.

    slurm = FakeSlurm(tmp_path / "slurm")
    subprocess.run(["sbatch", "--parsable", "job.sh"], env=slurm.env(), check=True)
    slurm.run()                                  # jobs run when told to; FakeSlurm(..., auto=True): at once
    assert slurm.job(1).states == {None: "COMPLETED"}

Knobs (`set`, or keywords of the constructor) stand in fake_slurm/store.py, class Knobs.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .fake_slurm.queue import finish, put_back, send
from .fake_slurm.records import ACTIVE, PLAIN, WAITING, Cluster, Job, Task, compress, expand
from .fake_slurm.runner import ours, run
from .fake_slurm.store import BIN, Knobs, Store

__all__ = ["PROGRAMS", "Call", "FakeSlurm", "JobView", "TaskView"]

PROGRAMS = ("sacct", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")


@dataclass(frozen=True)
class Call:
    """One call of a client, as calls.jsonl has it."""

    program: str
    argv: tuple[str, ...]
    cwd: str
    pid: int
    time: float
    env: Mapping[str, str]


@dataclass(frozen=True)
class TaskView:
    """A task that has a record of its own; index is None for a plain job."""

    index: int | None
    raw_id: int
    state: str
    exit_code: str
    reason: str
    restarts: int
    start: float
    end: float
    node: str
    pid: int
    forgotten: bool


@dataclass(frozen=True)
class JobView:
    """A job as the fake knows it, whether squeue would show it or not."""

    id: int
    name: str
    workdir: str
    command: str
    script: Path
    throttle: int
    held: bool
    begin: float  # the earliest start, in seconds since 1970; 0: any time
    hidden: bool
    dependency: tuple[tuple[str, int, int | None], ...]
    tasks: tuple[TaskView, ...]
    pending: tuple[int, ...]
    cancelled: tuple[int, ...]

    @property
    def states(self) -> dict[int | None, str]:
        """Return the state of every task, also of those that have no record of their own yet."""
        states: dict[int | None, str] = {task.index: task.state for task in self.tasks}
        states.update(dict.fromkeys(self.pending, "PENDING"))
        states.update(dict.fromkeys(self.cancelled, "CANCELLED"))
        return dict(sorted(states.items(), key=lambda item: -1 if item[0] is None else item[0]))

    def task(self, index: int | None = None) -> TaskView:
        """Return one task; raise KeyError where it has no record of its own."""
        for task in self.tasks:
            if task.index == index:
                return task
        raise KeyError(f"job {self.id} has no record for task {index}")


class FakeSlurm:
    """One fake cluster; jobs run in run(), or with auto=True by themselves as soon as they may."""

    def __init__(self, state_dir: str | Path, *, auto: bool | None = False, **knobs: Any) -> None:
        self.store = Store(str(state_dir))
        self.state_dir = Path(self.store.root)
        if auto is not None:
            knobs["auto"] = auto
        if knobs:
            self.set(**knobs)

    @classmethod
    def attach(cls, state_dir: str | Path) -> FakeSlurm:
        """Return the fake of an existing state directory, its knobs untouched."""
        return cls(state_dir, auto=None)

    def __enter__(self) -> FakeSlurm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def env(self, base: Mapping[str, str] | None = None, *, without: Sequence[str] = ()) -> dict[str, str]:
        """Return an environment with this cluster in it; `without` names clients that aren't installed."""
        environment = dict(os.environ if base is None else base)
        bin_dir = BIN
        if without:
            folder = self.state_dir / ("bin-without-" + "-".join(sorted(without)))
            folder.mkdir(exist_ok=True)
            for program in PROGRAMS:
                link = folder / program
                if program not in without and not link.exists():
                    link.write_text(f'#!/bin/sh\nexec {shlex.quote(str(Path(BIN, program)))} "$@"\n')
                    link.chmod(0o755)
            bin_dir = str(folder)
        path = [part for part in environment.get("PATH", os.defpath).split(os.pathsep) if part != BIN]
        environment["PATH"] = os.pathsep.join([bin_dir, *path])
        environment["FAKE_SLURM_STATE"] = self.store.root
        environment["FAKE_SLURM_PYTHON"] = sys.executable
        return environment

    def call(
        self,
        program: str,
        *arguments: str,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        input: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Call one client; `env` is added to this process's environment."""
        return subprocess.run(
            [str(Path(BIN, program)), *arguments],
            cwd=cwd,
            env=self.env({**os.environ, **(env or {})}),
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=timeout,
            check=False,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
        )

    def set(self, **knobs: Any) -> None:
        """Change knobs; raise ValueError for an unknown one."""
        self.store.set_knobs(**knobs)

    def knobs(self) -> Knobs:
        return self.store.knobs()

    def fail(self, program: str, kind: str, *, times: int | None = 1, skip: int = 0, **details: Any) -> None:
        """Make the next `times` calls of a client go wrong (None: all), after `skip` good ones.

        sbatch: refuse(message), timeout(message), lost_reply(message, seconds, lookups),
        hang(seconds, accepted), forgotten, banner(text), cluster(name), noise(message), client(message): what
        refuses in the client itself, and refuse(message, before): lines of the site's job_submit plugin.
        Others: error(message, status, stdout), timeout(message), hang(seconds[, message]), empty.
        """
        self.store.add_fault({"program": program, "kind": kind, "times": times, "skip": skip, **details})

    def verdict(
        self,
        state: str,
        job: int | None = None,
        task: int | None = None,
        *,
        times: int | None = None,
        requeue: bool = False,
        run: bool = True,
        **details: Any,
    ) -> None:
        """Say what Slurm's verdict on matching tasks will be, whatever their exit status.

        `run=False`: the script isn't started. `exit_code` and `reason` override what Slurm would report. With
        `requeue` the task goes back to the queue, once unless `times` says otherwise.
        """
        base = "*" if job is None else str(job)
        key = base if task is None else f"{base}_{task}"
        if requeue and times is None:
            times = 1
        rule = {"state": state, "times": times, "requeue": requeue, "run": run, **details}
        self.set(verdicts={**self.knobs().verdicts, key: rule})

    def run(
        self,
        *,
        max_tasks: int | None = None,
        only: int | None = None,
        parallel: int = 1,
        patience: float = 5.0,
        lifetime: float = 600.0,
    ) -> int:
        """Run what may run, until idle; return how many tasks were started.

        With auto=True, wait for the detached runner instead. Waits up to `patience` seconds for what only
        waits for a time (a requeue delay, --begin); kills what still runs after `lifetime` seconds.
        """
        started = run(
            self.store, parallel=parallel, max_tasks=max_tasks, only=only, patience=patience, lifetime=lifetime
        )
        if started < 0:
            self.wait_idle(lifetime)
            return 0
        return started

    def kick(self) -> None:
        """Start the detached runner of an automatic fake, if there is something to do."""
        self.store.kick()

    def calls(self, program: str | None = None) -> list[Call]:
        """Return the calls so far, in order."""
        try:
            text = (self.state_dir / "calls.jsonl").read_text()
        except FileNotFoundError:
            return []
        calls = []
        for line in text.splitlines():
            fields = json.loads(line)
            fields["argv"] = tuple(fields["argv"])
            if program in (None, fields["program"]):
                calls.append(Call(**fields))
        return calls

    def jobs(self) -> list[JobView]:
        """Return all jobs that slurmctld has or had, in the order of their ids; forgotten ones excepted."""
        cluster = self.store.read()
        return [self._view(job) for job in sorted(cluster.jobs.values(), key=lambda job: job.id)]

    def job(self, job_id: int) -> JobView:
        """Return one job; raise KeyError where there is none."""
        return self._view(self.store.read().jobs[job_id])

    def _view(self, job: Job) -> JobView:
        now, age = time.time(), self.knobs().min_job_age
        tasks = tuple(
            TaskView(
                index=task.index,
                raw_id=task.raw_id,
                state=task.state,
                exit_code=task.exit_code,
                reason=task.reason,
                restarts=task.restarts,
                start=task.start,
                end=task.end,
                node=task.node,
                pid=task.pid,
                forgotten=not task.visible(now, age),
            )
            for task in job.ordered_tasks()
        )
        return JobView(
            id=job.id,
            name=job.name,
            workdir=job.workdir,
            command=job.command,
            script=Path(self.store.spool(job.id), "slurm_script"),
            throttle=job.throttle,
            held=job.held,
            begin=job.begin,
            hidden=job.hidden(now),
            dependency=tuple((kind, target, index) for kind, target, index, _ in job.depends),
            tasks=tasks,
            pending=tuple(expand(job.pending)),
            cancelled=tuple(sorted({*expand(job.remainder_indices), *expand(job.dropped)})),
        )

    def purge(self, job: int | None = None, task: int | None = None) -> None:
        """Make slurmctld forget what is finished, as it does MinJobAge after the end; accounting keeps it."""
        with self.store.transaction() as cluster:
            for record in [cluster.jobs[job]] if job is not None else list(cluster.jobs.values()):
                for each in record.tasks.values():
                    if each.finished and task in (None, each.index):
                        each.purged = True
                if record.remainder_state and task is None:
                    record.remainder_purged = True
        self.store.kick()

    def forget(self, job: int, *, reuse_id: bool = True, accounting: bool = False) -> None:
        """Make slurmctld lose an acknowledged job, as a crash before the save does; running tasks die.

        reuse_id: the next job gets the same id. accounting: slurmdbd had heard of it.
        """
        with self.store.transaction() as cluster:
            record = cluster.jobs.pop(job)
            for task in record.tasks.values():
                if task.pid and ours(self.store, task.pid):
                    send(task, signal.SIGKILL)
                    task.pid = 0
            if accounting:
                cluster.accounted.append(record)
            if reuse_id:
                cluster.next_id = job

    def reveal(self) -> None:
        """Make every hidden job (a lost reply) visible now."""
        with self.store.transaction() as cluster:
            for job in cluster.jobs.values():
                job.hidden_lookups, job.hidden_until = 0, 0.0
        self.store.kick()

    def kill_task(self, job: int, task: int | None = None, state: str = "NODE_FAIL", *, requeue: bool = False) -> None:
        """Kill a task with SIGKILL, as a dying node or the OOM killer does, and give it this state."""
        with self.store.transaction() as cluster:
            record = self._record(cluster, job, task)
            if record.pid:
                record.verdict, record.verdict_exit = state, "requeue" if requeue else ""
                record.state = "COMPLETING"
                send(record, signal.SIGKILL)
            elif requeue:
                put_back(record, time.time(), self.knobs().requeue_delay)
            else:
                finish(cluster.jobs[job], record, state, "0:0", "None", time.time())

    def set_state(
        self,
        job: int,
        state: str,
        task: int | Sequence[int] | None = None,
        *,
        exit_code: str = "",
        reason: str = "None",
    ) -> None:
        """Set the state of tasks (None: of all) without any process; the word may be any."""
        code = exit_code or ("1:0" if state == "FAILED" else "0:0")
        with self.store.transaction() as cluster:
            record = cluster.jobs[job]
            wanted: list[int | None] = [None]
            if record.array:
                everything = [*expand(record.pending), *(each.index for each in record.ordered_tasks())]
                wanted = [*(everything if task is None else [task] if isinstance(task, int) else task)]
            self._split_many(cluster, record, [index for index in wanted if index is not None])
            now = time.time()
            for index in wanted:
                each = self._record(cluster, job, index)
                if state in WAITING or state in ACTIVE:
                    each.state, each.reason, each.end = state, reason, 0.0
                    each.start = 0.0 if state in WAITING else each.start or now
                    each.node = "" if state in WAITING else each.node or self.knobs().nodes[0]
                else:
                    finish(record, each, state, code, reason, now)
        self.store.kick()

    @staticmethod
    def _split_many(cluster: Cluster, job: Job, indices: list[int]) -> None:
        # One by one this would be quadratic, and tests do it for 50,000 tasks.
        waiting = set(expand(job.pending))
        chosen = sorted(waiting & set(indices))
        job.pending = compress(sorted(waiting - set(chosen)))
        for position, index in enumerate(chosen):
            last = position == len(chosen) - 1 and not job.pending
            raw_id = job.id if last else cluster.new_id()
            job.tasks[str(index)] = Task(index=index, raw_id=raw_id, submit=job.submit, held=job.held)

    @staticmethod
    def _record(cluster: Cluster, job_id: int, index: int | None) -> Task:
        job = cluster.jobs[job_id]
        key = PLAIN if index is None else str(index)
        if key in job.tasks:
            return job.tasks[key]
        if index is not None and index in set(expand(job.pending)):
            return cluster.split(job, index, time.time())
        raise KeyError(f"job {job_id} has no task {index}")

    def signal_task(self, job: int, number: int, task: int | None = None, *, batch_only: bool = True) -> None:
        """Send a signal to a running task: its batch shell alone, or its whole process group."""
        send(self._record(self.store.read(), job, task), number, batch_only=batch_only)

    def wait(self, condition: Callable[[], bool], timeout: float = 10.0, what: str = "the condition") -> None:
        """Wait until a condition holds; raise TimeoutError, with the jobs as they are, when it doesn't."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{what} did not come true within {timeout} s; jobs: {self.jobs()}")
            time.sleep(0.01)

    def wait_idle(self, timeout: float = 30.0) -> None:
        """Wait until nothing runs and, with auto=True, nothing could be started."""
        self.wait(self.store.idle, timeout, "the end of the runner")

    def close(self) -> None:
        """Kill what this fake still runs: the detached runner and the tasks."""
        self.set(auto=False)
        try:
            runner = int((self.state_dir / "runner.pid").read_text())
            started = Path(f"/proc/{runner}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            started = []
            runner = 0
        if os.fsencode(self.store.root) in started:
            os.kill(runner, signal.SIGKILL)
            self.wait(lambda: not self.store.runner_alive(), 5.0, "the end of the runner")
        for job in self.store.read().jobs.values():
            for task in job.tasks.values():
                if task.pid and not task.finished and ours(self.store, task.pid):
                    send(task, signal.SIGKILL)
