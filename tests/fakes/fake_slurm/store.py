"""Keep the fake's state in a directory: one lock, one atomically replaced file, one log of calls."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time

from .records import Cluster

TYPE_CHECKING = False  # typing takes a fifth of a client's start
if TYPE_CHECKING:
    from typing import Any

PACKAGE = os.path.dirname(os.path.abspath(__file__))
BIN = os.path.join(os.path.dirname(PACKAGE), "bin")


class Knobs:
    """The settings of knobs.json over these defaults."""

    def __init__(self, **fields: Any) -> None:
        # What kind of cluster this is.
        self.version: str = "22.05.8"
        self.cluster_name: str = "fake"
        self.nodes: list[str] = ["n1", "n2"]
        self.partition: str = "debug"
        self.partitions: list[str] = ["debug"]
        self.hidden_partitions: list[str] = []  # squeue leaves their jobs out, also their owner's, unless -a is given
        self.max_array_size: int = 1001
        self.max_job_count: int = 10000
        self.max_script_size: int = 4 * 1024 * 1024
        self.min_job_age: float = 300.0
        self.kill_wait: float = 30.0
        self.message_timeout: int = 10
        self.scheduler_parameters: str = "(null)"
        self.requeue_delay: float = 0.0
        self.requeue_default: bool = True
        self.append_logs: bool = False
        self.dependency_rules: str = ""  # "22.05" drops unknown ids, "23.02" refuses them; "": as the version does
        self.unknown_options: str = "refuse"  # or "accept", as a site with SPANK plugins would
        self.submit_limit: int = 0  # 0 is none
        self.private_data: str = "none"  # "jobs": who isn't their owner sees none of them
        self.accounting: bool = False
        self.sacct_lag: float = 0.0
        self.clusters: list[str] = []  # what -M knows; needs accounting
        self.siblings: dict[str, str] = {}  # others that -M knows, with their state directories
        self.controller: str = "ctld"
        # How the fake runs.
        self.auto: bool = False
        self.parallel: int = 4
        self.minute: float = 60.0  # seconds in a minute of --time and --signal
        self.runner_seconds: float = 120.0  # a detached runner never outlives this
        self.wait_seconds: float = 600.0  # nor does `sbatch --wait`
        # What goes wrong.
        self.down: bool = False
        self.faults: list[dict[str, Any]] = []
        self.verdicts: dict[str, dict[str, Any]] = {}
        unknown = sorted(set(fields) - set(vars(self)))
        if unknown:
            raise ValueError(f"unknown knobs: {', '.join(unknown)}")
        self.__dict__.update(fields)

    def unknown_cluster(self, names: str) -> str | None:
        """Return the first of the names after -M that slurmdbd doesn't know."""
        return next((name for name in names.split(",") if name not in (*self.clusters, *self.siblings)), None)

    def release(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split(".")[:2])

    def drops_unknown_dependencies(self) -> bool:
        if self.dependency_rules:
            return self.dependency_rules == "22.05"
        return self.release() < (23, 2)


class Store:
    """The state directory."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        os.makedirs(self.root, mode=0o700, exist_ok=True)

    def path(self, *names: str) -> str:
        return os.path.join(self.root, *names)

    def spool(self, job_id: int) -> str:
        return self.path("spool", f"job{job_id:05d}")

    def on_cluster(self, name: str) -> Store:
        """Return the state of a cluster that -M names: a sibling's, else this one's."""
        sibling = self.knobs().siblings.get(name)
        return self if sibling is None else Store(sibling)

    def lock(self) -> Lock:
        return Lock(self.path("lock"))

    def knobs(self) -> Knobs:
        return Knobs(**self._json("knobs.json", {}))

    def set_knobs(self, **changes: Any) -> None:
        """Change knobs; raise ValueError for a name that is none."""
        Knobs(**changes)
        with self.lock():
            knobs = self._json("knobs.json", {})
            knobs.update(changes)
            self._replace("knobs.json", knobs)

    def add_fault(self, fault: dict[str, Any]) -> None:
        with self.lock():
            knobs = self._json("knobs.json", {})
            knobs.setdefault("faults", []).append(fault)
            self._replace("knobs.json", knobs)

    def take_fault(self, program: str) -> dict[str, Any] | None:
        """Return the first fault that is due for `program`, counting it down."""
        if not any(fault["program"] in (program, "*") for fault in self.knobs().faults):
            return None
        with self.lock():
            knobs = self._json("knobs.json", {})
            faults = knobs.get("faults", [])
            for fault in faults:
                if fault["program"] not in (program, "*"):
                    continue
                if fault.get("skip", 0) > 0:
                    fault["skip"] -= 1
                    self._replace("knobs.json", knobs)
                    return None
                if fault.get("times") is not None:
                    fault["times"] -= 1
                    if fault["times"] <= 0:
                        faults.remove(fault)
                    self._replace("knobs.json", knobs)
                return dict(fault)
        return None

    def take_verdict(self, job_id: int, index: int | None) -> dict[str, Any] | None:
        """Return the verdict laid down for a task, counting it down; the state lock must be held."""
        knobs = self._json("knobs.json", {})
        verdicts = knobs.get("verdicts", {})
        key = _verdict_key(verdicts, job_id, index)
        if key is None:
            return None
        verdict = verdicts[key]
        if verdict.get("times") is not None:
            verdict["times"] -= 1
            if verdict["times"] <= 0:
                del verdicts[key]
            self._replace("knobs.json", knobs)
        return dict(verdict)

    def peek_verdict(self, job_id: int, index: int | None) -> dict[str, Any]:
        verdicts = self.knobs().verdicts
        key = _verdict_key(verdicts, job_id, index)
        return {} if key is None else verdicts[key]

    def read(self) -> Cluster:
        """Return the state; needs no lock, because the file is only ever replaced as a whole."""
        return Cluster(**self._json("state.json", {}))

    def transaction(self) -> Transaction:
        return Transaction(self)

    def look(self) -> Cluster:
        """Return what an asking client sees: slurmctld's state, without the jobs that are still hidden."""
        now = time.time()
        cluster = self.read()
        if any(job.depends or job.hidden_lookups for job in cluster.jobs.values()):
            from .queue import advance

            revealed = False
            with self.transaction() as cluster:
                advance(cluster, self.knobs(), now)
                seen = {number: job for number, job in cluster.jobs.items() if not job.hidden(now)}
                for job in cluster.jobs.values():
                    if job.hidden_lookups:
                        job.hidden_lookups -= 1
                        revealed = revealed or not job.hidden_lookups
            cluster.jobs = seen
            if revealed:
                self.kick()
            return cluster
        cluster.jobs = {number: job for number, job in cluster.jobs.items() if not job.hidden(now)}
        return cluster

    def write(self, cluster: Cluster) -> None:
        self._replace("state.json", cluster.plain())

    def runner_alive(self) -> bool:
        """Tell whether somebody runs the queue; its death releases the lock at once."""
        lock = Lock(self.path("runner.lock"))
        if not lock.acquire(blocking=False):
            return True
        lock.release()
        return False

    def idle(self) -> bool:
        """Tell whether nobody runs the queue, nor has any reason to."""
        with self.lock():
            return not self.runner_alive() and not (self.knobs().auto and self._has_work())

    def _has_work(self) -> bool:
        """Tell whether a runner would find something to start or to look after; the lock must be held."""
        from .queue import advance, next_task

        cluster, knobs, now = self.read(), self.knobs(), time.time()
        advance(cluster, knobs, now)
        found, due = next_task(cluster, knobs, now)
        if found is not None or (due and due - now <= knobs.runner_seconds):
            return True
        return any(task.pid and not task.finished for job in cluster.jobs.values() for task in job.tasks.values())

    def kick(self) -> None:
        """Start a detached runner where jobs run by themselves and none is alive.

        A runner gives up its lock while it holds the state lock, after it saw nothing left to do; looked at
        under the state lock too, a held lock means that the runner will still see our change.
        """
        knobs = self.knobs()
        if not knobs.auto:
            return
        with self.lock():
            if self.runner_alive() or not self._has_work():
                return
        first = os.fork()
        if first:
            os.waitpid(first, 0)
            return
        # Nothing of the client may stay open, or its caller waits for the end of the pipe.
        try:
            os.setsid()
            if os.fork():
                os._exit(0)
            null = os.open(os.devnull, os.O_RDWR)
            log = os.open(self.path("runner.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(null, 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.closerange(3, 1024)
            os.chdir(self.root)
            environment = {"PATH": os.environ.get("PATH", os.defpath)}
            starter = os.path.join(PACKAGE, "start_runner.py")
            os.execve(sys.executable, [sys.executable, "-S", "-E", starter, self.root], environment)
        finally:
            os._exit(127)

    def log_call(self, program: str, argv: list[str]) -> None:
        """Append one line to calls.jsonl."""
        try:
            cwd = os.getcwd()
        except OSError:
            cwd = ""
        environment = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("SBATCH_", "SLURM_", "SQUEUE_", "SACCT_", "SRUN_", "FAKE", "ESIS"))
        }
        line = {
            "program": program,
            "argv": argv,
            "cwd": cwd,
            "pid": os.getpid(),
            "time": time.time(),
            "env": environment,
        }
        data = json.dumps(line).encode() + b"\n"
        with self.lock():
            descriptor = os.open(self.path("calls.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(descriptor, data)
            finally:
                os.close(descriptor)

    def _json(self, name: str, default: Any) -> Any:
        try:
            with open(self.path(name), "rb") as stream:
                return json.loads(stream.read())
        except FileNotFoundError:
            return default

    def _replace(self, name: str, value: Any) -> None:
        target = self.path(name)
        temporary = f"{target}.{os.getpid()}"
        with open(temporary, "w", encoding="ascii") as stream:
            stream.write(json.dumps(value))
        os.replace(temporary, target)


def _verdict_key(verdicts: dict[str, Any], job_id: int, index: int | None) -> str | None:
    keys = [f"{job_id}_{index}", f"*_{index}"] if index is not None else []
    return next((key for key in [*keys, str(job_id), "*"] if key in verdicts), None)


class Lock:
    """An flock that its holder's death releases."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = -1

    def acquire(self, blocking: bool = True) -> bool:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self.descriptor = descriptor
        return True

    def release(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Transaction:
    """Load the state under the lock, and save it unless the block raised."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.held = store.lock()
        self.cluster = Cluster()

    def __enter__(self) -> Cluster:
        self.held.acquire()
        try:
            self.cluster = self.store.read()
        except BaseException:
            self.held.release()
            raise
        return self.cluster

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.store.write(self.cluster)
        finally:
            self.held.release()
