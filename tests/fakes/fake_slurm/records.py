"""What the fake slurmctld remembers: jobs, their array tasks, and the answers that follow from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

TYPE_CHECKING = False  # typing takes a fifth of a client's start
if TYPE_CHECKING:
    from typing import Any

PLAIN = ""  # the task key of a job that is no array

COMPACT = {
    "PENDING": "PD",
    "RUNNING": "R",
    "SUSPENDED": "S",
    "COMPLETING": "CG",
    "COMPLETED": "CD",
    "CONFIGURING": "CF",
    "CANCELLED": "CA",
    "FAILED": "F",
    "TIMEOUT": "TO",
    "DEADLINE": "DL",
    "PREEMPTED": "PR",
    "NODE_FAIL": "NF",
    "BOOT_FAIL": "BF",
    "OUT_OF_MEMORY": "OOM",
    "LAUNCH_FAILED": "LF",
    "REQUEUED": "RQ",
    "REQUEUE_HOLD": "RH",
    "REQUEUE_FED": "RF",
    "RESIZING": "RS",
    "RESV_DEL_HOLD": "RD",
    "REVOKED": "RV",
    "SIGNALING": "SI",
    "SPECIAL_EXIT": "SE",
    "STAGE_OUT": "SO",
    "STOPPED": "ST",
}
WAITING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"})
ACTIVE = frozenset({"RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "SUSPENDED", "STOPPED"})


class SlurmError(Exception):
    """A refusal; its text is what slurm_strerror would say."""


class Task:
    """One element of an array that has a job record of its own, or a plain job's only record."""

    def __init__(self, **fields: Any) -> None:
        self.index: int | None = None
        self.raw_id: int = 0
        self.state: str = "PENDING"
        self.submit: float = 0.0
        self.start: float = 0.0
        self.end: float = 0.0
        self.exit_code: str = "0:0"
        self.reason: str = "None"
        self.restarts: int = 0
        self.begin: float = 0.0
        self.held: bool = False
        self.node: str = ""
        self.pid: int = 0
        self.verdict: str = ""
        self.verdict_exit: str = ""
        self.requeue: bool = False
        self.terminate: bool = False
        self.kill_at: float = 0.0
        self.stop_at: float = 0.0
        self.warn_at: float = 0.0
        self.purged: bool = False
        self.__dict__.update(fields)

    def plain(self) -> dict[str, Any]:
        """Return what JSON can hold, without what is as new: tests have 50,000 of these."""
        return {name: value for name, value in vars(self).items() if value != NEW_TASK[name]}

    @property
    def finished(self) -> bool:
        return self.state not in WAITING and self.state not in ACTIVE

    def visible(self, now: float, min_job_age: float) -> bool:
        """Tell whether slurmctld still remembers this record."""
        return not self.purged and not (self.finished and now >= self.end + min_job_age)


NEW_TASK = vars(Task())


class Job:
    """One submission: a plain job, or an array with its not yet started remainder."""

    def __init__(self, **fields: Any) -> None:
        self.id: int = 0
        self.name: str = ""
        self.user: str = ""
        self.uid: int = 0
        self.partition: str = ""
        self.account: str = ""
        self.comment: str = ""
        self.workdir: str = ""
        self.command: str = ""
        self.argv: list[str] = []
        self.submit_line: str = ""
        self.output: str = ""
        self.error: str = ""
        self.input: str = "/dev/null"
        self.append: bool = False
        self.umask: int = 0o022
        self.limit: int | None = None  # minutes; None is UNLIMITED
        self.signal: str = ""
        self.memory: str = ""
        self.cpus_per_task: int = 0
        self.ntasks: int = 0
        self.nodes: int = 1
        self.requeue: bool = True
        self.held: bool = False
        self.submit: float = 0.0
        self.begin: float = 0.0
        self.array: bool = False
        self.throttle: int = 0
        self.array_count: int = 0
        self.array_min: int = 0
        self.array_max: int = 0
        self.array_step: int = 1
        self.pending: list[list[int]] = []  # [first, last] of what has no record of its own yet
        self.remainder_state: str = ""  # set when the remainder was cancelled before it started
        self.remainder_indices: list[list[int]] = []
        self.remainder_end: float = 0.0
        self.remainder_reason: str = "None"
        self.dropped: list[list[int]] = []  # cancelled by their numbers before they had a record
        self.remainder_purged: bool = False
        self.depends: list[list[Any]] = []  # [kind, job id, task index or None, failed]
        self.depends_any: bool = False
        self.kill_invalid: bool = False
        self.hidden_until: float = 0.0
        self.hidden_lookups: int = 0
        tasks = fields.pop("tasks", {})
        self.__dict__.update(fields)
        self.tasks: dict[str, Task] = {key: Task(**task) for key, task in tasks.items()}

    def plain(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        fields = dict(vars(self))
        fields["tasks"] = {key: task.plain() for key, task in self.tasks.items()}
        return fields

    def hidden(self, now: float) -> bool:
        return self.hidden_lookups > 0 or now < self.hidden_until

    @property
    def cpus(self) -> int:
        return max(self.ntasks, 1) * max(self.cpus_per_task, 1)

    def waiting_count(self) -> int:
        return sum(last - first + 1 for first, last in self.pending)

    def ordered_tasks(self) -> list[Task]:
        return sorted(self.tasks.values(), key=lambda task: -1 if task.index is None else task.index)

    def unfinished(self) -> bool:
        return bool(self.pending) or any(not task.finished for task in self.tasks.values())

    def queued_count(self) -> int:
        return self.waiting_count() + sum(1 for task in self.tasks.values() if not task.finished)

    def remainder_visible(self, now: float, min_job_age: float) -> bool:
        if not self.remainder_state or self.remainder_purged:
            return False
        return now < self.remainder_end + min_job_age

    def known(self, now: float, min_job_age: float) -> bool:
        """Tell whether slurmctld has any record of this job left."""
        if self.hidden(now):
            return False
        if self.pending or self.remainder_visible(now, min_job_age):
            return True
        return any(task.visible(now, min_job_age) for task in self.tasks.values())


def sluid(what: Job | Task) -> str:
    """Return Slurm's name of an attempt: an array that waits has one, each start of each task another."""
    if isinstance(what, Job):
        return f"sARRAY{what.id:08d}"
    return f"s{what.raw_id:08d}N{what.restarts:03d}"


class Cluster:
    """Everything in state.json."""

    def __init__(self, **fields: Any) -> None:
        self.next_id: int = int(fields.get("next_id", 1))
        self.jobs: dict[int, Job] = {}
        for plain in fields.get("jobs", ()):
            job = Job(**plain)
            self.jobs[job.id] = job
        # Jobs that only accounting remembers: their ids are used again.
        self.accounted: list[Job] = [Job(**plain) for plain in fields.get("accounted", ())]

    def plain(self) -> dict[str, Any]:
        return {
            "next_id": self.next_id,
            "jobs": [job.plain() for job in self.jobs.values()],
            "accounted": [job.plain() for job in self.accounted],
        }

    def new_id(self) -> int:
        """Return the next free job id; a record that is in the way moves to accounting."""
        job_id = self.next_id
        self.next_id += 1
        old = self.jobs.pop(job_id, None)
        if old is not None:
            self.accounted.append(old)
        return job_id

    def split(self, job: Job, index: int, now: float) -> Task:
        """Give an array task of the remainder a record of its own, as slurmctld does."""
        job.pending = compress(sorted(set(expand(job.pending)) - {index}))
        return self._record(job, index, now)

    def split_next(self, job: Job, now: float) -> Task:
        """Give the first task of the remainder a record of its own."""
        first, last = job.pending[0]
        if first == last:
            job.pending.pop(0)
        else:
            job.pending[0] = [first + 1, last]
        return self._record(job, first, now)

    def _record(self, job: Job, index: int, now: float) -> Task:
        # The last task keeps the array's own job id; all others get new ones.
        raw_id = job.id if not job.pending else self.new_id()
        task = Task(index=index, raw_id=raw_id, submit=job.submit, held=job.held)
        job.tasks[str(index)] = task
        return task

    def find(self, text: str) -> list[tuple[Job, list[int] | None]]:
        """Return the job that 20, 20_3 or 20_[1-3] names, with the indices asked for (None: all)."""
        base, _, element = text.partition("_")
        if not base.isdigit():
            raise SlurmError("Invalid job id specified")
        number = int(base)
        job = self.jobs.get(number)
        if element:
            if job is None or not job.array:
                raise SlurmError("Invalid job id specified")
            body = element[1:-1] if element.startswith("[") and element.endswith("]") else element
            return [(job, parse_indices(body))]
        if job is not None:
            return [(job, None)]
        for other in self.jobs.values():
            for task in other.tasks.values():
                if task.raw_id == number and task.index is not None:
                    return [(other, [task.index])]
        raise SlurmError("Invalid job id specified")

    def find_known(self, text: str, now: float, min_job_age: float) -> list[tuple[Job, list[int] | None]]:
        """Do as find, but only for what slurmctld still remembers."""
        found = self.find(text)
        if not found[0][0].known(now, min_job_age):
            raise SlurmError("Invalid job id specified")
        return found


def expand(ranges: Iterable[list[int]]) -> Iterator[int]:
    """Yield every index of a list of [first, last]."""
    for first, last in ranges:
        yield from range(first, last + 1)


def compress(indices: Iterable[int]) -> list[list[int]]:
    """Return sorted, distinct indices as a list of [first, last]."""
    ranges: list[list[int]] = []
    for index in indices:
        if ranges and ranges[-1][1] == index - 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    return ranges


def parse_indices(text: str) -> list[int]:
    """Return the sorted, distinct indices of `1-9:2,12`; raise SlurmError for anything else."""
    found: set[int] = set()
    for part in text.split(","):
        span, colon, step = part.partition(":")
        first, dash, last = span.partition("-")
        numbers = [first] + ([last] if dash else []) + ([step] if colon else [])
        if not all(number.isascii() and number.isdigit() for number in numbers) or (colon and not dash):
            raise SlurmError("Invalid job array specification")
        low, high = int(first), int(last) if dash else int(first)
        stride = int(step) if colon else 1
        if high < low or stride < 1 or high - low > 10_000_000:
            raise SlurmError("Invalid job array specification")
        found.update(range(low, high + 1, stride))
    return sorted(found)


def array_text(indices: list[int], throttle: int, limit: int) -> str:
    """Return a remainder as Slurm prints it, cut to `limit` characters with dots (0: not cut)."""
    text = _step_text(indices)
    if not text:
        text = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in compress(indices))
        if limit > 0:
            text = text[: limit - 1]
            if len(text) > limit - 3:
                text = text[: limit - 4] + "..."
    return f"{text}%{throttle}" if throttle else text


def _step_text(indices: list[int]) -> str:
    # bit_xlate_task_str prints a step only for spans above 10 whose second bit is clear.
    if len(indices) < 2 or indices[-1] - indices[0] <= 10 or indices[1] == indices[0] + 1:
        return ""
    step = indices[1] - indices[0]
    if any(b - a != step for a, b in zip(indices, indices[1:])):
        return ""
    return f"{indices[0]}-{indices[-1]}:{step}"


def bitstr_len(environment: Any) -> int:
    """Return SLURM_BITSTR_LEN as Slurm reads it: 64 where unset, 0 for no limit."""
    text = environment.get("SLURM_BITSTR_LEN")
    if text is None:
        return 64
    try:
        value = int(text)
    except ValueError:
        return 0
    return 64 if value < 0 else min(value, 4096)
