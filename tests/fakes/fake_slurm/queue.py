"""Decide what may start: dependencies, holds, throttles; and how a task's end is written down."""

from __future__ import annotations

import os

from .records import Cluster, Job, SlurmError, Task, compress, expand
from .store import Knobs

TYPE_CHECKING = False  # typing takes a fifth of a client's start
if TYPE_CHECKING:
    from typing import Any

KINDS = ("after", "afterany", "afterok", "afternotok", "aftercorr", "afterburstbuffer", "singleton")
PROBLEM = "Job dependency problem"


def parse_dependency(text: str, cluster: Cluster, knobs: Knobs, now: float) -> tuple[list[list[Any]], bool]:
    """Return the dependencies that `text` asks for, and whether any one of them is enough."""
    if text in ("", "0"):
        return [], False
    if len(text) > 128 * 1024:
        raise SlurmError("Pathname of a file, directory or other parameter too long")
    if "," in text and "?" in text:
        raise SlurmError(PROBLEM)
    wanted: list[list[Any]] = []
    for part in text.replace("?", ",").split(","):
        kind, _, targets = part.partition(":")
        if kind not in KINDS or (kind != "singleton") != bool(targets):
            raise SlurmError(PROBLEM)
        if kind == "singleton":
            wanted.append([kind, 0, None, False])
            continue
        for target in targets.split(":"):
            base, _, element = target.partition("+")[0].partition("_")
            if not base.isdigit() or (element and element != "*" and not element.isdigit()):
                raise SlurmError(PROBLEM)
            index = int(element) if element.isdigit() else None
            found = _resolve(cluster, int(base), index, knobs, now)
            if found is not None:
                wanted.append([kind, *found, False])
            elif not knobs.drops_unknown_dependencies():
                raise SlurmError(PROBLEM)
    return wanted, "?" in text


def _resolve(
    cluster: Cluster, number: int, index: int | None, knobs: Knobs, now: float
) -> tuple[int, int | None] | None:
    try:
        job, indices = cluster.find(str(number))[0]
    except SlurmError:
        return None
    if not job.known(now, knobs.min_job_age):
        return None
    if indices is not None:
        index = indices[0]
    if index is not None and _task_state(job, index, knobs, now) == "GONE":
        return None
    return job.id, index


def _task_state(job: Job, index: int, knobs: Knobs, now: float) -> str:
    task = job.tasks.get(str(index))
    if task is not None:
        return task.state if task.visible(now, knobs.min_job_age) else "GONE"
    if index in set(expand(job.pending)):
        return "PENDING"
    if job.remainder_visible(now, knobs.min_job_age) and index in set(expand(job.remainder_indices)):
        return job.remainder_state
    return "GONE"


def _states(job: Job, index: int | None, knobs: Knobs, now: float) -> list[str]:
    if index is not None:
        state = _task_state(job, index, knobs, now)
        return [] if state == "GONE" else [state]
    states = [task.state for task in job.tasks.values() if task.visible(now, knobs.min_job_age)]
    if job.pending:
        states.append("PENDING")
    if job.remainder_visible(now, knobs.min_job_age):
        states.append(job.remainder_state)
    return states


def _ended(state: str) -> bool:
    return Task(state=state).finished


def _judge(cluster: Cluster, job: Job, dependency: list[Any], knobs: Knobs, now: float) -> str:
    """Return "met", "wait" or "never" for one dependency of a job."""
    kind, target, index, failed = dependency
    if kind == "singleton":
        earlier = [
            other
            for other in cluster.jobs.values()
            if other.id < job.id and other.name == job.name and other.uid == job.uid and other.unfinished()
        ]
        return "wait" if earlier else "met"
    parent = cluster.jobs.get(target)
    # "Job is gone, dependency lifted": also for a parent that failed, which is why ESIS checks again.
    if parent is None or not parent.known(now, knobs.min_job_age):
        return "met"
    states = _states(parent, index, knobs, now)
    if not states:
        return "met"
    if failed:
        return "never"
    if kind == "after":
        return "wait" if "PENDING" in states else "met"
    if not all(_ended(state) for state in states):
        return "wait"
    good = all(state == "COMPLETED" for state in states)
    if kind == "afternotok":
        return "never" if good else "met"
    if kind in ("afterok", "aftercorr"):
        return "met" if good else "never"
    return "met"


def advance(cluster: Cluster, knobs: Knobs, now: float) -> None:
    """Do what slurmctld does between two requests: lift what is met, mark what never will be."""
    for job in list(cluster.jobs.values()):
        if not job.depends or job.hidden(now) or not job.unfinished():
            continue
        if any(kind == "aftercorr" for kind, *_ in job.depends):
            continue  # judged task by task
        verdicts = [_judge(cluster, job, dependency, knobs, now) for dependency in job.depends]
        if job.depends_any and "met" in verdicts:
            job.depends = []
            continue
        for dependency, verdict in zip(job.depends, verdicts):
            dependency[3] = verdict == "never"
        job.depends = [d for d, verdict in zip(job.depends, verdicts) if verdict != "met"]
        if job.kill_invalid and never_satisfied(job):
            cancel(job, None, now, 0.0)


def never_satisfied(job: Job) -> bool:
    failed = [dependency[3] for dependency in job.depends]
    return bool(failed) and (all(failed) if job.depends_any else any(failed))


def waits(cluster: Cluster, job: Job, index: int | None, knobs: Knobs, now: float) -> bool:
    """Tell whether a dependency keeps this task from starting."""
    verdicts = []
    for dependency in job.depends:
        kind, target, element, failed = dependency
        if kind == "aftercorr":
            parent = cluster.jobs.get(target)
            corresponding = index if parent is not None and parent.array else element
            verdict = _judge(cluster, job, [kind, target, corresponding, failed], knobs, now)
        else:
            verdict = _judge(cluster, job, dependency, knobs, now)
        verdicts.append(verdict == "met")
    if not verdicts:
        return False
    return not (any(verdicts) if job.depends_any else all(verdicts))


def reason(job: Job, task: Task | None, now: float) -> str:
    """Return the word that squeue prints for %r."""
    if task is not None and task.state != "PENDING":
        return task.reason
    if job.held or (task is not None and task.held):
        return "JobHeldUser"
    if job.begin > now or (task is not None and task.begin > now):
        return "BeginTime"
    if never_satisfied(job):
        return "DependencyNeverSatisfied"
    if job.depends:
        return "Dependency"
    if job.throttle and _running(job) >= job.throttle:
        return "JobArrayTaskLimit"
    return "None"


def _running(job: Job) -> int:
    return sum(1 for task in job.tasks.values() if task.state in ("RUNNING", "COMPLETING"))


def next_task(
    cluster: Cluster, knobs: Knobs, now: float, only: int | None = None
) -> tuple[tuple[Job, Task] | None, float]:
    """Return the task to start next, split off its array, and when a waiting one becomes due (0: none)."""
    due = 0.0

    def later(moment: float) -> None:
        nonlocal due
        due = min(due, moment) if due else moment

    for job in sorted(cluster.jobs.values(), key=lambda job: job.id):
        if only is not None and job.id != only:
            continue
        if job.hidden(now):
            if not job.hidden_lookups:
                later(job.hidden_until)
            continue
        if job.held or (job.throttle and _running(job) >= job.throttle):
            continue
        if job.begin > now:
            if job.unfinished():
                later(job.begin)
            continue
        by_task = any(kind == "aftercorr" for kind, *_ in job.depends)
        if not by_task and waits(cluster, job, None, knobs, now):
            continue
        for task in job.ordered_tasks():
            if task.state != "PENDING" or task.held:
                continue
            if task.begin > now:
                later(task.begin)
            elif not by_task or not waits(cluster, job, task.index, knobs, now):
                return (job, task), due
        if not by_task:
            if job.pending:
                return (job, cluster.split_next(job, now)), due
            continue
        for index in expand(job.pending):
            if not waits(cluster, job, index, knobs, now):
                return (job, cluster.split(job, index, now)), due
    return None, due


def finish(job: Job, task: Task, state: str, exit_code: str, why: str, now: float) -> None:
    """Write down the end of a task."""
    task.state = state
    task.exit_code = exit_code
    task.reason = why
    task.start = task.start or now
    task.end = now
    _forget_process(task)


def put_back(task: Task, now: float, delay: float) -> None:
    """Send a task back to the queue under its old id."""
    task.state = "PENDING"
    task.restarts += 1
    task.submit = now
    task.begin = now + delay if delay else 0.0
    task.start = task.end = 0.0
    task.exit_code = "0:0"
    task.reason = "None"
    task.node = ""
    _forget_process(task)


def _forget_process(task: Task) -> None:
    task.pid = 0
    task.verdict = task.verdict_exit = ""
    task.requeue = task.terminate = False
    task.kill_at = task.stop_at = task.warn_at = 0.0


def cancel(job: Job, indices: list[int] | None, now: float, kill_wait: float, state: str = "") -> int:
    """Cancel tasks of a job (None: all), or only those in one state; return how many were concerned."""
    count = 0
    why = reason(job, None, now)
    for task in job.ordered_tasks():
        if task.finished or (indices is not None and task.index not in indices):
            continue
        if state and task.state != state:
            continue
        if task.state == "PENDING":
            finish(job, task, "CANCELLED", "0:0", reason(job, task, now), now)
        else:
            stop(task, "CANCELLED", "0:0", now, kill_wait)
            if not task.pid:
                finish(job, task, "CANCELLED", "0:0", "None", now)
        count += 1
    if not job.pending or state not in ("", "PENDING"):
        return count
    waiting = list(expand(job.pending))
    if indices is None and not state:
        # Cancelled as a whole, a remainder keeps its indices and the reason why it waited.
        job.remainder_state, job.remainder_end, job.remainder_reason = "CANCELLED", now, why
        job.remainder_indices, job.pending = job.pending, []
        return count + len(waiting)
    # Named one by one, tasks that have no record vanish without a trace ...
    gone = [index for index in waiting if indices is None or index in set(indices)]
    job.dropped = compress(sorted({*expand(job.dropped), *gone}))
    job.pending = compress(sorted(set(waiting) - set(gone)))
    if gone and not job.pending:
        # ... and when none is left, the array's record has no index any more.
        job.remainder_state, job.remainder_end, job.remainder_reason = "CANCELLED", now, "None"
    return count + len(gone)


def stop(task: Task, state: str, exit_code: str, now: float, kill_wait: float) -> None:
    """Ask a running task to end: SIGCONT and SIGTERM, then SIGKILL kill_wait seconds later.

    The runner sends them: a client that runs inside the task would be killed before it has saved its request.
    """
    if task.verdict:
        return
    task.verdict, task.verdict_exit = state, exit_code
    task.state = "COMPLETING"
    task.terminate = True
    task.kill_at = now + kill_wait


def send(task: Task, number: int, batch_only: bool = False) -> None:
    """Send a signal to the process group of a task, or to its batch shell alone."""
    if task.pid <= 1:
        return
    try:
        if batch_only:
            os.kill(task.pid, number)
        else:
            os.killpg(task.pid, number)
    except ProcessLookupError:
        pass
