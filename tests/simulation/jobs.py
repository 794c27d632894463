"""Run the jobs of a world: the real script in a real shell; when the work begins and how it ends says the world."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tests.fakes.fake_slurm.queue import advance, finish, next_task, put_back
from tests.fakes.fake_slurm.records import PLAIN
from tests.fakes.fake_slurm.runner import spawn
from tests.simulation.files import Places
from tests.simulation.slurm import Slurm
from tests.simulation.truth import FEEDER, STRANGER, Attempt, Truth

_PATIENCE = 60.0  # real seconds: a script that takes longer hangs
_REASONS = {
    "TIMEOUT": "TimeLimit",
    "NODE_FAIL": "NodeDown",
    "OUT_OF_MEMORY": "OutOfMemory",
    "FAILED": "NonZeroExitCode",
}
ENDS = ("ok", "fail", "oom", "oom0", "timeout", "node", "requeue", "preempt", "dies", "split")


class StuckError(Exception):
    """A script neither went on nor ended: the world is broken, not the product."""


@dataclass
class Running:
    """An element of an array whose script runs."""

    job: int
    key: str
    process: subprocess.Popen[bytes]
    restart: int
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def attempt(self) -> Attempt | None:
        """Return the work that is going on."""
        return self.attempts[-1] if self.attempts and self.attempts[-1].working else None


class Calls(Protocol):
    """Who runs the programs that a job calls: it waits for their ends."""

    def called(self, item: Running, words: Sequence[str]) -> None:
        """Run one."""

    def interrupt(self, item: Running) -> None:
        """Let the one that the job waits for hear SIGTERM, and end."""

    def kill(self, item: Running) -> None:
        """Let it die."""


class Jobs:
    """Start and end the tasks of the jobs in Slurm's queue."""

    def __init__(self, places: Places, slurm: Slurm, truth: Truth, packed: bool) -> None:
        self._places = places
        self._packed = packed
        self._slurm = slurm
        self._truth = truth
        self.running: list[Running] = []
        self.overtaken: list[Running] = []  # on nodes that Slurm takes for lost
        self.problems: list[str] = []
        self.calls: Calls | None = None
        self._begun = os.open(places.root / "begun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def close(self) -> None:
        """Kill what still runs."""
        for item in (*self.running, *self.overtaken):
            _kill(item.process)
        os.close(self._begun)

    def start(self, dies: bool = False) -> bool:
        """Start the task that is next, if there is one, and let it come to its work or its end.

        `dies`: with its node, where the hook is about to write the record of the start.
        """
        store, now = self._slurm.store, self._slurm.clock.now
        cluster, knobs = store.read(), store.knobs()
        advance(cluster, knobs, now)
        found, _ = next_task(cluster, knobs, now)
        if found is None:
            store.write(cluster)
            return False
        job, task = found
        task.state, task.start, task.end, task.reason, task.node = "RUNNING", now, 0.0, "None", knobs.nodes[0]
        true = self._truth.job(job.id)
        if true is not None:
            true.began = True
        if true is None or true.maker == STRANGER:
            task.pid = 0  # nothing of it has to run
            store.write(cluster)
            return True
        process = spawn(store, knobs, job, task)
        if process is None:
            finish(job, task, "FAILED", "0:53", "JobLaunchFailure", now)
            store.write(cluster)
            return True
        task.pid = process.pid
        store.write(cluster)
        item = Running(job.id, PLAIN if task.index is None else str(task.index), process, task.restarts)
        self.running.append(item)
        with self._dying() if dies else contextlib.nullcontext():
            self.follow(item, "NODE_FAIL" if dies else "")
        return True

    def end(self, item: Running, how: str) -> None:
        """Let the work of a task end, or the whole job with it."""
        if how in ("ok", "fail", "oom0"):
            self._answer(item, 1 if how == "fail" else 0, "OUT_OF_MEMORY" if how == "oom0" else "")
        elif how == "oom":
            self._answer(item, 137, "OUT_OF_MEMORY")
        elif how == "dies" and item.attempt is not None:
            attempt = item.attempt
            with self._dying():
                self._answer(item, 0, "NODE_FAIL")
            attempt.code = None  # nobody heard of it
        elif how == "timeout":
            self._terminate(item, "TIMEOUT", "0:0", False)
        elif how == "preempt":
            self._terminate(item, "PREEMPTED", "", True)
        elif how == "split" and item.attempt is not None and not self._packed:
            self._overtake(item, item.attempt)
        else:
            self._kill(item)
            self._conclude(item, None, "NODE_FAIL", how == "requeue")

    def _overtake(self, item: Running, attempt: Attempt) -> None:
        """Let Slurm lose the node and queue the task again, while the work goes on."""
        cluster, knobs, now = self._slurm.store.read(), self._slurm.store.knobs(), self._slurm.clock.now
        job = cluster.jobs[item.job]
        if job.requeue:
            put_back(job.tasks[item.key], now, knobs.requeue_delay)
        else:
            finish(job, job.tasks[item.key], "NODE_FAIL", "0:0", "NodeDown", now)
        self._slurm.store.write(cluster)
        attempt.overtaken = True
        self.running.remove(item)
        self.overtaken.append(item)

    def wake(self, item: Running, code: int) -> None:
        """Let the work of an attempt end that Slurm knows nothing of any more."""
        attempt = item.attempts[-1]
        self.overtaken.remove(item)
        with (self._places.root / f"go.{attempt.raw}.{item.restart or 0}.{attempt.task}").open("w") as stream:
            stream.write(f"{code}\n")
        attempt.code = item.process.wait(_PATIENCE)
        attempt.working, attempt.verdict, attempt.doubtful = False, "NODE_FAIL", attempt.code == 0

    @contextlib.contextmanager
    def _dying(self) -> Iterator[None]:
        """Let a job die where its hook is about to write a record."""
        self._places.death.touch()
        try:
            yield
        finally:
            self._places.death.unlink()

    def obey(self) -> None:
        """Do what clients asked for: end what was cancelled or requeued."""
        cluster = self._slurm.store.read()
        for item in list(self.running):
            job = cluster.jobs.get(item.job)
            task = job.tasks.get(item.key) if job is not None else None
            if task is None or task.pid != item.process.pid:
                self._kill(item)  # forgotten by slurmctld
                self._conclude(item, None, "", False)
            elif task.terminate:
                self._terminate(item, task.verdict, task.verdict_exit, task.requeue)

    def release(self) -> None:
        """Let go of all jobs that the user holds."""
        cluster = self._slurm.store.read()
        for job in cluster.jobs.values():
            job.held = False
            for task in job.tasks.values():
                task.held = False
        self._slurm.store.write(cluster)

    def end_strangers(self) -> None:
        """Let the jobs that are none of ESIS's end, well or not."""
        cluster, now = self._slurm.store.read(), self._slurm.clock.now
        for job in cluster.jobs.values():
            true = self._truth.job(job.id)
            for task in job.tasks.values():
                if (true is None or true.maker == STRANGER) and not task.finished:
                    state, code = ("FAILED", "1:0") if job.id % 2 else ("COMPLETED", "0:0")
                    finish(job, task, state, code, "None", now)
        self._slurm.store.write(cluster)

    def _answer(self, item: Running, code: int, verdict: str) -> None:
        """Tell the worker how to end, and follow the script to its end, or to the next task of its pack."""
        attempt = item.attempt
        if attempt is None:
            return
        with (self._places.root / f"go.{attempt.raw}.{item.restart or 0}.{attempt.task}").open("w") as stream:
            stream.write(f"{code}\n")
        attempt.working = False
        attempt.code = code
        attempt.verdict = "COMPLETED" if code == 0 else "FAILED"
        self.follow(item, verdict)

    def _raw(self, item: Running) -> int:
        return self._slurm.store.read().jobs[item.job].tasks[item.key].raw_id

    def follow(self, item: Running, verdict: str = "") -> None:
        """Wait until work begins, or the script has called something that waits, or has ended."""
        handle = os.pidfd_open(item.process.pid)
        try:
            ready, _, _ = select.select([self._begun, handle], [], [], _PATIENCE)
        finally:
            os.close(handle)
        if not ready:
            raise StuckError(f"job {item.job}_{item.key}")
        if self._begun in ready:
            self._note_begin(item)
        else:
            self._conclude(item, item.process.wait(), verdict, False)

    def _note_begin(self, item: Running) -> None:
        said = os.read(self._begun, 4096).decode().strip()
        true = self._truth.job(item.job)
        if true is not None and true.maker == FEEDER and self.calls is not None:
            self.calls.called(item, said.split())
            return
        words = said.split(" ", 3)
        if true is None or len(words) < 4:
            raise StuckError(f"a worker says {words}")
        task = int(words[0])
        if words[3] != f'{{"n": {task}}}':
            self.problems.append(f"task {task} of job {item.job} read the parameters {words[3]}")
        if task not in true.units.get(int(item.key), ()):
            self.problems.append(f"job {item.job}_{item.key} works on task {task}, and holds {true.units}")
        attempt = Attempt(true.run, task, true, int(item.key), item.restart, self._slurm.clock.now, self._raw(item))
        self._check_begin(attempt)
        item.attempts.append(attempt)
        self._truth.attempts.append(attempt)

    def _check_begin(self, attempt: Attempt) -> None:
        """See that nobody else does or has done the work of an attempt that begins."""
        earlier = self._truth.of_task(attempt.run, attempt.task)
        what = f"task {attempt.task} in job {attempt.job.id} (restart {attempt.restart})"
        for other in earlier:
            by_hand = "hand" in (attempt.job.maker, other.job.maker)
            if other.working and not by_hand and not other.overtaken:
                self.problems.append(f"{what} begins while job {other.job.id} is at work on it")
            if (other.job, other.restart) == (attempt.job, attempt.restart):
                self.problems.append(f"{what} begins twice in one start")
            same = other.job is not attempt.job and other.job.fence == attempt.job.fence != ""
            if same and not by_hand:
                self.problems.append(f"{what}: job {other.job.id} did work of the same submission {other.job.fence}")
        lacking = self._truth.lacking(attempt.run)
        if lacking:
            self.problems.append(f"{what} begins, and of the run that it requires the tasks {lacking} are not done")
        last = earlier[-1] if earlier else None
        if (
            last is not None
            and last.good
            and last.job is not attempt.job
            and not (attempt.job.again or last.job.again)
            and "hand" not in (attempt.job.maker, last.job.maker)
        ):
            self.problems.append(f"{what} begins, and job {last.job.id} has done it")

    def _terminate(self, item: Running, verdict: str, code: str, requeue: bool) -> None:
        """End a task as Slurm does: SIGTERM to all of it, and SIGKILL for what is left."""
        for number in (signal.SIGCONT, signal.SIGTERM):
            os.killpg(item.process.pid, number)
        if self.calls is not None:
            self.calls.interrupt(item)
        try:
            item.process.wait(5.0)
        except subprocess.TimeoutExpired:
            self.problems.append(f"job {item.job}_{item.key} doesn't end at SIGTERM")
        self._kill(item)
        self._conclude(item, item.process.returncode, verdict, requeue, code)

    def _kill(self, item: Running) -> None:
        if self.calls is not None:
            self.calls.kill(item)
        _kill(item.process)

    def _conclude(self, item: Running, status: int | None, verdict: str, requeue: bool, code: str = "") -> None:
        """Write down the end of a script."""
        _kill(item.process)
        self.running.remove(item)
        state, shown = ("COMPLETED", "0:0") if status == 0 else ("FAILED", "0:9" if status is None else f"{status}:0")
        if verdict:
            state, shown = verdict, code or ("0:0" if status is None else shown)
        cluster, knobs, now = self._slurm.store.read(), self._slurm.store.knobs(), self._slurm.clock.now
        job = cluster.jobs.get(item.job)
        task = job.tasks.get(item.key) if job is not None else None
        if job is not None and task is not None and task.pid == item.process.pid:
            if requeue and job.requeue:
                put_back(task, now, knobs.requeue_delay)
            else:
                finish(job, task, state, shown, _REASONS.get(state, "None"), now)
            self._slurm.store.write(cluster)
        for attempt in item.attempts:
            cut = attempt.working
            attempt.working = False
            if cut:
                attempt.code = None
            if len(item.attempts) == 1 and not cut and len(attempt.job.units.get(int(item.key), ())) == 1:
                attempt.code = status  # of a pack it tells as well of tasks that didn't begin
            if cut or len(item.attempts) == 1:
                attempt.doubtful = attempt.code == 0 and state != "COMPLETED"
                attempt.verdict = "REQUEUED" if requeue else state


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a script with all that it started, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(_PATIENCE)
