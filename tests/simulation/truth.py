"""What is true in a world, whatever anybody knows of it: jobs, who made them, and what became of each task."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.fake_slurm.records import Job, expand

BY_ESIS, BY_HAND, STRANGER = "esis", "hand", "stranger"
FEEDER = "feed"  # a job that submits the rest
_SETTINGS = re.compile(r"esis_(mapped|pack|offset)=('[^']*'|\S*)")


@dataclass(eq=False)
class TrueJob:
    """A job that Slurm accepted."""

    id: int
    maker: str
    accepted: float
    run: str = ""  # the path of the run; "": none
    fence: str = ""
    tasks: tuple[int, ...] = ()
    units: dict[int, tuple[int, ...]] = field(default_factory=dict)  # by Slurm's index
    lost: bool = False  # by a crash of slurmctld
    cancelled: bool = False  # by the user
    began: bool = False  # one of its tasks has been started
    again: bool = False  # the user wants once more what is done
    old: bool = False  # a command of the last release submitted it


@dataclass(eq=False)
class Attempt:
    """The work on a task, from the moment that it began."""

    run: str
    task: int
    job: TrueJob
    index: int | None
    restart: int
    begun: float
    raw: int  # SLURM_JOB_ID
    working: bool = True
    code: int | None = None  # of its script; None: none was returned
    verdict: str = ""  # Slurm's
    doubtful: bool = False  # Slurm says that it failed, the script ended with 0
    overtaken: bool = False  # its node was lost for Slurm, which queued the task again, and went on

    @property
    def good(self) -> bool:
        """Return whether the work was done, and Slurm says nothing else."""
        return not self.working and self.code == 0 and self.verdict == "COMPLETED"


class Truth:
    """All of it."""

    def __init__(self, tasks: Mapping[Path, int]) -> None:
        self.tasks = dict(tasks)  # by the directory of the workflow
        self.required: dict[Path, Path] = {}  # the workflow that one requires
        self.jobs: list[TrueJob] = []
        self.attempts: list[Attempt] = []

    def job(self, number: int) -> TrueJob | None:
        """Return the job that has a number now; ids are used again."""
        return next((job for job in reversed(self.jobs) if job.id == number and not job.lost), None)

    def of_run(self, run: str) -> Iterator[TrueJob]:
        """Yield the jobs of a run that Slurm hasn't lost."""
        return (job for job in self.jobs if job.run == run and not job.lost)

    def of_task(self, run: str, task: int) -> list[Attempt]:
        """Return the attempts at a task, in the order in which they began."""
        return [item for item in self.attempts if item.run == run and item.task == task]

    @staticmethod
    def run_of(place: Path) -> Path | None:
        """Return the run of a workflow, once there is one."""
        return next(iter(sorted(place.glob("wrkdir.*"))), None)

    def lacking(self, run: str) -> list[int]:
        """Return the tasks of what a run requires that nobody has done so far."""
        required = self.required.get(Path(run).parent)
        if required is None:
            return []
        of = str(self.run_of(required))
        done = {item.task for item in self.attempts if item.run == of and (item.good or item.doubtful)}
        return [task for task in range(self.tasks[required]) if task not in done]

    def is_done(self, run: str, task: int) -> bool:
        """Return whether the latest attempt did the work."""
        found = self.of_task(run, task)
        return bool(found) and found[-1].good

    def is_doubtful(self, run: str, task: int) -> bool:
        """Return whether the witnesses of the latest attempt contradict each other."""
        found = self.of_task(run, task)
        return bool(found) and found[-1].doubtful


def describe(job: Job, script: bytes, environment: Mapping[str, str], maker: str, now: float) -> TrueJob:
    """Return what a job is about: the task hook's own rules of offset, map and pack, read once more."""
    found = TrueJob(job.id, maker, now)
    if maker == STRANGER:
        return found
    run = Path(job.workdir).parent
    found.run, found.fence = str(run), environment.get("SLURM_ESIS_SUBMISSION", "")
    if maker == FEEDER:
        return found
    text = script.decode()
    settings = {name: value.strip("'") for name, value in _SETTINGS.findall(text)}
    number = re.search(r"esis_submission=(\d+)", text)
    offset = int(environment.get("SLURM_ESIS_OFFSET", settings.get("offset") or 0))
    listed: list[int] = []
    if settings.get("mapped") and number is not None:
        listed = [int(line) for line in (run / f"__esis__/submissions/{number[1]}.map").read_text().split()]
    pack = [int(word) for word in settings.get("pack", "").split()]
    for index in expand(job.pending):
        unit = index + offset
        if pack:
            each, _, first, last = pack
            units = range(unit * each, unit * each + each)
            tasks = [listed[at] for at in units if at < len(listed)] if listed else [first + at for at in units]
            found.units[index] = tuple(task for task in tasks if listed or task <= last)
        else:
            found.units[index] = (listed[unit],) if listed else (unit,)
    found.tasks = tuple(sorted(task for unit in found.units.values() for task in unit))
    return found


def alive(job: Job, true: TrueJob, attempts: Sequence[Attempt]) -> dict[int, str]:
    """Return the tasks of a job that wait or run, with Slurm's word; not what a pack has come to the end of."""
    found: dict[int, str] = {}
    for index in expand(job.pending):
        found.update(dict.fromkeys(true.units.get(index, ()), "PENDING"))
    for task in job.ordered_tasks():
        if not task.finished and task.index is not None:
            over = {
                item.task
                for item in attempts
                if item.job is true and (item.good or item.restart == task.restarts) and not item.working
            }
            unit = true.units.get(task.index, ())
            left = set(unit) - over if len(unit) > 1 or task.state != "PENDING" else unit
            found.update(dict.fromkeys(left, task.state))
    return found
