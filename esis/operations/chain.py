"""Run a workflow and all that it requires, each once, in order, later ones behind earlier ones. It converges."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field

from esis.errors import LimitReached, RequirementTrouble, SlurmRefused, TasksFailed
from esis.model.index_sets import format_ranges
from esis.model.requirements import Node, Requirement, base_name, chain
from esis.model.template import joined, own_dependency, read_template
from esis.model.workdir import RunDir
from esis.operations.build.check_files import check_sources
from esis.operations.context import Context
from esis.operations.run import Asked, bring_up, check_available
from esis.operations.witness.evidence import Evidence, gather
from esis.operations.witness.keep import keep, look_and_keep
from esis.operations.witness.look import look
from esis.operations.witness.old_runs import how_to_go_on
from esis.operations.witness.status import NEVER, Done, RunStatus, TaskState, describe_failures
from esis.operations.witness.target import evidence_of
from esis.records.submissions import LOCAL
from esis.schedulers.base import Queue, Scheduler
from esis.schedulers.commands import behind as turns_behind
from esis.schedulers.directives import chosen_clusters


@dataclass
class _Known:
    """Hold what is known of the runs as the chain goes on."""

    complete: set[RunDir] = field(default_factory=set)
    jobs: dict[RunDir, tuple[str, ...]] = field(default_factory=dict)  # to wait behind
    clusters: dict[RunDir, frozenset[str]] = field(default_factory=dict)  # where these are; "": on the default one

    def wait_for(self, run: RunDir, jobs: Sequence[str], evidence: Evidence) -> None:
        """Remember the jobs of a run."""
        self.jobs[run] = tuple(dict.fromkeys(jobs))
        self.clusters[run] = frozenset(evidence.cluster_of(job) for job in jobs)


def run_chain(
    wanted: Node, scheduler: Scheduler, context: Context, told: Callable[[Done], None], max_parallel: int | None = None
) -> None:
    """Bring up all workflows that `wanted` needs, and itself; `told` hears of each. Raises EsisError.

    What is complete is skipped, what is active is waited behind, what is missing is submitted.
    """
    order = chain(wanted)
    check_available(scheduler)
    frozen = {item.run: item for node in order for item in node.requirements if item.frozen}
    runs = [node.run for node in order] + list(frozen)
    evidence = {run: gather(run) for run in runs}
    asked, statuses = look(evidence.values(), scheduler)
    at = time.monotonic()
    for judged in filter(None, statuses):
        keep(judged)
    found = dict(zip(evidence, statuses))
    for node in order:
        status = found[node.run]
        if status is None or not status.complete:
            check_sources(node, needs_dependency=bool(node.requirements))
    known = _Known()
    for run, item in frozen.items():
        _check_frozen(item, found[run], known)
    for run in runs:
        _check_sound(run, found[run])
    for node in order:
        status = found[node.run]
        if status is not None and status.complete:
            known.complete.add(node.run)
            told(Done(node, None, status))
            continue
        behind = _behind(node, known)
        if scheduler.queue is not None and behind is not None:
            _check_reach(node, status, known, scheduler.queue)
        if status is not None and scheduler.queue is not None:
            _revive(node, status, behind, scheduler.queue, context)
        done = bring_up(
            node, gather(node.run), scheduler, context, max_parallel, behind, Asked(asked, evidence[node.run], at)
        )
        told(done)
        if done.left and node is not order[-1]:
            raise LimitReached(
                f"{node.run.label}: Slurm has no room for {done.left} of its tasks, so nothing can be queued behind it",
                "repeat the command when there is room again",
            )
        _note(done, scheduler, known, last=node is order[-1])


def _note(done: Done, scheduler: Scheduler, known: _Known, last: bool) -> None:
    """Remember what later workflows have to wait behind. Raises where they would wait for nothing.

    Behind the `last` one nothing is queued, so that its tasks may run anywhere.
    """
    run = done.node.run
    if scheduler.name == LOCAL:
        found = gather(run)
        status = look_and_keep(found, scheduler) if found is not None else None
        if status is None or not status.complete:
            failed = describe_failures(status) if status is not None else ""
            raise TasksFailed(
                f"{run.label} is not complete: {status.summary() if status else 'it vanished'}"
                f"{' (' + failed + ')' if failed else ''}",
                f"what requires it was not started; its logs are in {run.cwd}",
            )
        known.complete.add(run)
        return
    status = done.status
    jobs = list(status.active_jobs) if last and status is not None else _in_queue(run, status)
    if done.submission is not None:
        jobs += [job.id for job in done.submission.jobs]
    if status is not None and status.complete:
        known.complete.add(run)
    elif jobs:
        known.wait_for(run, jobs, evidence_of(run))
    else:
        _check_sound(run, status)
        summary = status.summary() if status is not None else "no job"
        raise RequirementTrouble(
            f"{run.label} is neither complete nor in the queue: {summary}", "esis status tells more"
        )


def _in_queue(run: RunDir, status: RunStatus | None) -> list[str]:
    """Return the jobs of a run that others can wait behind. Raises RequirementTrouble where not all that is active is.

    What runs on a machine has a number, too, and Slurm would take it for the id of some job, or of none.
    """
    if status is None:
        return []
    outside = status.outside_slurm()
    if outside:
        raise RequirementTrouble(
            f"{run.label}: tasks {format_ranges(outside)} wait or run on a machine, without Slurm, and no job can be "
            f"queued behind them",
            f"wait for them (esis wait {shlex.quote(str(run.path))}), then repeat the command",
        )
    return list(status.active_jobs)


def _behind(node: Node, known: _Known) -> str | None:
    """Return the dependency of `node`: on the active jobs of what it requires; complete runs need none.

    A purged id would be dropped silently up to Slurm 22.05 and refused from 23.02 on.
    """
    jobs: dict[str, None] = {}
    for item in node.requirements:
        if item.run not in known.complete:
            jobs.update(dict.fromkeys(known.jobs[item.run]))
    return "afterok:" + ":".join(jobs) if jobs else None


def _check_reach(node: Node, status: RunStatus | None, known: _Known, queue: Queue) -> None:
    """Refuse to wait behind jobs on another cluster: there the ids are those of strangers, or of nobody.

    Slurm's dependencies are about jobs of one slurmctld. (Those of a federation know each other's; ESIS doesn't ask.)
    """
    path = node.workflow.resolve(node.workflow.sbatchtemplate)
    if status is not None:
        path = status.run.path / base_name(node.workflow.sbatchtemplate)
    wanted = chosen_clusters(read_template(path)) or ("",)
    waiting = {verdict.job for verdict in status.groups if verdict.reason == NEVER} if status is not None else set()
    own = {*wanted, *(status.evidence.cluster_of(job) for job in waiting if job is not None and status is not None)}
    behind = {item.run: known.clusters[item.run] for item in node.requirements if item.run not in known.complete}
    if own.union(*behind.values()) == {""}:
        return
    default = queue.present(status.evidence.submissions if status is not None else ())[0]
    names = {"": default.name} if default is not None else {}
    own = {names.get(name, name) for name in own}
    for run, clusters in behind.items():
        there = {names.get(name, name) for name in clusters}
        if len(own) > 1 or there != own:
            raise RequirementTrouble(
                f"{node.run.label} goes to cluster {_listed(own)} and would have to wait for jobs of {run.label} on "
                f"cluster {_listed(there)}: Slurm's dependencies don't reach from one cluster to another",
                f"wait for them (esis wait {shlex.quote(str(run.path))}), then repeat the command; or name one cluster "
                "for both",
            )


def _listed(clusters: Iterable[str]) -> str:
    return " or ".join(name or "(the default)" for name in sorted(clusters))


def _revive(node: Node, status: RunStatus, behind: str | None, queue: Queue, context: Context) -> None:
    """Let jobs that wait for something that can't happen any more wait for what it is now, or for nothing.

    A failed requirement leaves its dependants pending for ever (DependencyNeverSatisfied), also when its failed tasks
    were resubmitted and are done.
    """
    stuck = {
        verdict.job
        for verdict in status.groups
        if verdict.state is TaskState.WAITING and verdict.reason == NEVER and verdict.job is not None
    }
    if not stuck:
        return
    evidence = evidence_of(status.run)
    own = own_dependency(read_template(status.run.path / base_name(node.workflow.sbatchtemplate)))
    behind = joined(behind, own)
    for job in sorted(stuck):
        now = _in_turn(evidence, job, behind, {*stuck, *status.active_jobs})
        problem = queue.set_dependency(evidence.job_called(job), now or "")
        if problem is not None:
            raise SlurmRefused(
                f"{status.run.label}: job {job} waits for a job that failed, and its dependency can't "
                f"be changed: {problem}",
                "esis cancel it, then repeat the command",
            )
        context.say(f"{status.run.label}: job {job} waited for a job that failed; now it waits for {now or 'nothing'}")


def _in_turn(evidence: Evidence, job: str, dependency: str | None, queued: Container[str]) -> str | None:
    """Return the dependency of an array with its turn behind another one of its submission, while that is queued."""
    for item in evidence.submissions:
        position = item.position_of(job)
        if position is not None and 0 < item.lanes <= position and item.jobs[position - item.lanes].id in queued:
            return turns_behind(item._replace(dependency=dependency), position)
    return dependency


def _check_sound(run: RunDir, status: RunStatus | None) -> None:
    """Refuse to wait behind a run that can't become complete as it is."""
    if status is None or status.complete:
        return
    broken = status.indices(TaskState.FAILED, TaskState.LOST)
    if broken:
        again = how_to_go_on(run) if status.evidence.is_old else f"rerun them (esis resubmit {run.path})"
        raise RequirementTrouble(
            f"{run.path} has tasks that failed: {describe_failures(status)}", f"{again}, then repeat the command"
        )


def _check_frozen(item: Requirement, status: RunStatus | None, known: _Known) -> None:
    if status is None:
        raise RequirementTrouble(
            f"{item.name} is frozen to {item.run.label}, and there is no such run in {item.run.path.parent}",
            "esis freeze-requirement --unfreeze, or pin another one",
        )
    if status.complete:
        known.complete.add(item.run)
        return
    jobs = _in_queue(item.run, status)
    missing = status.indices(TaskState.UNSUBMITTED) if jobs else ()
    if missing:
        raise RequirementTrouble(
            f"{item.name} is frozen to {item.run.path}, whose tasks {format_ranges(missing)} were never submitted:"
            " what waits for the others would start too early",
            f"esis resubmit {shlex.quote(str(item.run.path))} --unsubmitted, then repeat the command",
        )
    if jobs:
        known.wait_for(item.run, jobs, status.evidence)
    else:
        raise RequirementTrouble(
            f"{item.name} is frozen to {item.run.path}, which is not complete: {status.summary()}",
            f"esis resubmit {item.run.path} reruns what failed; or pin another run",
        )
