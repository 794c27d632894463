"""Run a submission on this machine: the very sbatch.sh that Slurm would get, the variables that Slurm sets.

Foreground, one machine, for trying a scan before it costs an allocation. Time and memory limits aren't enforced.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esis.environment import clean_environment
from esis.files import sweep_temporaries, write_atomic
from esis.hook import FENCE_VARIABLE, LOCAL_VARIABLE, PATH_VARIABLE
from esis.locks import user_name
from esis.model.limits import Limits
from esis.model.log_pattern import Pattern
from esis.model.workdir import RunDir
from esis.process import end_session, hearing_children, signal_session, spawn
from esis.records.submissions import LOCAL, Job, Outcome, Submission
from esis.records.tasks import TaskRecord, read_records
from esis.schedulers.base import Answer, Snapshot
from esis.schedulers.directives import Options
from esis.schedulers.slurm import Slurm

KILL_WAIT_SECONDS = 30.0  # between SIGTERM and SIGKILL, as Slurm's default KillWait
_LOOK_SECONDS = 0.2
_IMPATIENT = 2  # interrupts after which nobody waits for a clean end
_LAUNCH_FAILURE = 53  # what Slurm shows (0:53) where a log file can't be opened


@dataclass(frozen=True)
class Progress:
    """Count the tasks of a local run."""

    total: int
    running: int
    done: int
    failed: int


class Local:
    """Run tasks as processes of this machine, at most `parallel` at a time."""

    name = LOCAL

    def __init__(self, parallel: int, progress: Callable[[Progress], None] | None = None) -> None:
        """Set how many tasks may run at a time, and who is told of the progress."""
        self._parallel = max(1, parallel)
        self._progress = progress

    @property
    def queue(self) -> None:
        """Return where its jobs wait: nowhere."""
        return

    def has_slurm(self) -> bool:
        """Return whether there is a Slurm beside."""
        return Slurm().has_slurm()

    def observe(self, clusters: Sequence[str], owners: Sequence[int] = ()) -> Snapshot:
        """Ask Slurm: tasks of the same run may be queued there."""
        return Slurm().observe(clusters, owners)

    def account(
        self,
        snapshot: Snapshot,
        jobs: Sequence[str],
        clusters: Sequence[str],
        since: float,
        completed: bool = True,
        besides: Container[str] = (),
    ) -> Snapshot:
        """Ask Slurm's accounting."""
        return Slurm().account(snapshot, jobs, clusters, since, completed, besides)

    def limits(self, clusters: Sequence[str] = ()) -> Limits | None:
        """There are none: one array of any size will do."""
        return None

    def submit(self, run: RunDir, submission: Submission, position: int, acknowledged: Callable[[Job], None]) -> Answer:
        """Run all tasks to their end. An interrupt ends the children; what isn't finished is given back."""
        # Microseconds: unique on this machine, also as SLURM_JOB_ID of the single tasks, and in the order of time.
        job = time.time_ns() // 1000
        script = run.script.read_text("utf-8", "surrogateescape")
        with _open(run.path), installed_srun(run) as programs:
            acknowledged(Job(str(job)))
            options = Options.of(script, submission.options)
            batch = _Batch(run, submission, job, options, programs, self._parallel, self._progress)
            returned = batch.run_all()
        batch.record_silent_ends()
        message = "interrupted" if returned else ""
        return Answer(Outcome.SUBMITTED, message, returned)


@contextmanager
def _open(directory: Path) -> Iterator[None]:
    """Have a directory open: whoever cancels the run can tell this process from that of a run which was copied."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def installed_srun(run: RunDir) -> Iterator[Path]:
    """Put the stand-in for srun where PATH of local tasks can find it, and yield the directory."""
    run.local_bin.mkdir(exist_ok=True)
    source = Path(__file__).parent / "bin" / "srun"
    target = run.local_bin / "srun"
    if not target.exists():
        sweep_temporaries(run.local_bin)
        write_atomic(target, source.read_bytes(), executable=True)
    if ":" not in str(run.local_bin):
        yield run.local_bin
        return
    import tempfile  # PATH has no way to name a directory with a colon

    with tempfile.TemporaryDirectory(prefix="esis-srun-") as directory:
        (Path(directory) / target.name).symlink_to(target)
        yield Path(directory)


def environment(
    run: RunDir, submission: Submission, job: int, position: int, options: Options, programs: Path
) -> dict[str, str]:
    """Return the environment of the task at `position` of the submission: what Slurm sets in a batch script.

    PATH begins with `programs`.
    """
    tasks = submission.tasks
    host = os.uname().nodename
    cpus = options.cpus or "1"
    env = clean_environment(
        SLURM_ARRAY_JOB_ID=str(job),
        SLURM_ARRAY_TASK_ID=str(tasks[position]),
        SLURM_ARRAY_TASK_COUNT=str(len(tasks)),
        SLURM_ARRAY_TASK_MIN=str(tasks[0]),
        SLURM_ARRAY_TASK_MAX=str(tasks[-1]),
        SLURM_ARRAY_TASK_STEP="1",
        SLURM_JOB_ID=str(job + 1 + position),
        SLURM_JOBID=str(job + 1 + position),
        SLURM_JOB_NAME=options.job_name,
        SLURM_JOB_USER=user_name(os.getuid()),
        SLURM_JOB_UID=str(os.getuid()),
        SLURM_JOB_PARTITION=LOCAL,
        SLURM_CLUSTER_NAME=LOCAL,
        SLURM_SUBMIT_DIR=str(run.cwd),
        SLURM_SUBMIT_HOST=host,
        SLURM_JOB_NODELIST=host,
        SLURM_NODELIST=host,
        SLURMD_NODENAME=host,
        SLURM_JOB_NUM_NODES="1",
        SLURM_NNODES="1",
        SLURM_NODEID="0",
        SLURM_PROCID="0",
        SLURM_LOCALID="0",
        SLURM_CPUS_ON_NODE=cpus,
        SLURM_JOB_CPUS_PER_NODE=cpus,
        SLURM_TASKS_PER_NODE=options.ntasks or "1",
        **{FENCE_VARIABLE: f"{submission.number:04d}", LOCAL_VARIABLE: "1", PATH_VARIABLE: str(programs)},
    )
    if options.cpus is not None:
        env["SLURM_CPUS_PER_TASK"] = options.cpus
    if options.ntasks is not None:
        env["SLURM_NTASKS"] = env["SLURM_NPROCS"] = options.ntasks
    env["PATH"] = f"{programs}:{env.get('PATH', os.defpath)}"
    return env


def log_name(pattern: str, job: int, task_job: int, task: int, options: Options) -> str:
    """Expand a file name pattern as sbatch(1) describes it."""
    values: Mapping[str, str] = {
        "A": str(job),
        "a": str(task),
        "b": str(task % 10),
        "r": "0",
        "j": str(task_job),
        "J": str(task_job),
        "n": "0",
        "s": "batch",
        "t": "0",
        "N": os.uname().nodename.partition(".")[0],
        "u": user_name(os.getuid()),
        "x": options.job_name,
    }
    return str(Pattern.of(pattern).filled(values))


class _Interrupts:
    """Count SIGINT, SIGTERM and SIGHUP during a block; as exceptions they could strike in the middle of a lock.

    Not a SIGHUP that is ignored, as by nohup. A SIGINT that is, as in the background of a script, is what esis cancel
    sends.
    """

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, frame: object) -> None:
        self.count += 1


class _Batch:
    """Run the tasks of one submission."""

    def __init__(
        self,
        run: RunDir,
        submission: Submission,
        job: int,
        options: Options,
        programs: Path,
        parallel: int,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._run = run
        self._submission = submission
        self._job = job
        self._options = options
        self._programs = programs
        self._parallel = parallel
        self._tell = progress or (lambda progress: None)
        self._lock = threading.Lock()
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._stopping = False
        self._codes: dict[int, int] = {}  # by task
        self._started: dict[int, int] = {}  # seconds since 1970, by task

    def run_all(self) -> tuple[int, ...]:
        """Run everything; return the tasks that an interrupt kept from ending."""
        tasks = self._submission.tasks
        with hearing_children(), _Interrupts() as interrupts:
            pool = ThreadPoolExecutor(self._parallel)
            futures: list[Future[None]] = [pool.submit(self._one, position) for position in range(len(tasks))]
            pending = set(futures)
            self._tell(self._count())
            while pending and not interrupts.count:
                _, pending = wait(pending, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
                self._tell(self._count())
            if pending:
                self._stop(interrupts)
            pool.shutdown(wait=True)
        for future in futures:
            future.result()
        self._tell(self._count())
        return tuple(task for task in tasks if task not in self._codes)

    def record_silent_ends(self) -> None:
        """Write the end records that the jobs themselves couldn't (their own EXIT trap, not a shell script)."""
        known = read_records(self._run)
        for task, code in self._codes.items():
            record = known.get(task)
            if record is None or record.job != str(self._job):
                record = TaskRecord(task, self._submission.number, str(self._job), 0, self._started[task])
                (self._run.tasks / record.name).touch()
            if not record.ended:
                ended = TaskRecord(
                    record.task,
                    record.submission,
                    record.job,
                    record.restart,
                    record.start,
                    code=code,
                    end=int(time.time()),
                )
                (self._run.tasks / record.name).rename(self._run.tasks / ended.name)

    def _one(self, position: int) -> None:
        task = self._submission.tasks[position]
        options = self._options
        cwd = self._run.cwd / options.directory if options.directory is not None else self._run.cwd
        task_job = self._job + 1 + position
        stdout = cwd / log_name(options.output, self._job, task_job, task, options)
        stderr = (
            cwd / log_name(options.error, self._job, task_job, task, options) if options.error is not None else None
        )
        with self._lock:
            if self._stopping:
                return
            self._started[task] = int(time.time())
            env = environment(self._run, self._submission, self._job, position, options, self._programs)
            try:
                child = spawn(
                    [str(self._run.script)], cwd=cwd, env=env, stdout=stdout, stderr=stderr, append=options.append
                )
            except OSError:
                self._codes[task] = _LAUNCH_FAILURE
                return
            self._children[task] = child
        code = child.wait()
        end_session(child)  # as Slurm does: what a script leaves in the background ends with it
        with self._lock:
            del self._children[task]
            if not self._stopping or code == 0:
                self._codes[task] = code if code >= 0 else 128 - code

    def _stop(self, interrupts: _Interrupts) -> None:
        """End the children: TERM, KillWait, KILL; a second interrupt shortens the wait."""
        with self._lock:
            self._stopping = True
            children = list(self._children.values())
        for child in children:
            signal_session(child, signal.SIGTERM)
        deadline = time.monotonic() + KILL_WAIT_SECONDS
        while time.monotonic() < deadline and interrupts.count < _IMPATIENT and self._count().running:
            time.sleep(_LOOK_SECONDS)
        with self._lock:
            left = list(self._children.values())
        for child in left:
            end_session(child)

    def _count(self) -> Progress:
        with self._lock:
            codes: Sequence[int] = list(self._codes.values())
            running = len(self._children)
        failed = sum(1 for code in codes if code != 0)
        return Progress(len(self._submission.tasks), running, len(codes) - failed, failed)
