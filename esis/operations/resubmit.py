"""Hand tasks of a run to a scheduler again: the same indices and parameters; the setup script is not run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from esis.errors import BadInput, EsisError
from esis.locks import still
from esis.model.index_sets import as_sequence, format_ranges
from esis.model.options import Option, line_options, script_options
from esis.model.requirements import base_name
from esis.model.secrets import has_secrets, masked
from esis.model.template import check, read_template
from esis.model.workdir import RunDir
from esis.model.workflow import Workflow
from esis.operations.build.prepare import hold_run
from esis.operations.build.worker_bit import mend_worker
from esis.operations.context import Context
from esis.operations.run import check_available, require_answer
from esis.operations.submission.arrays import Packing
from esis.operations.submission.choice import Selection, choose
from esis.operations.submission.feed import drop_held, submit_what_fits
from esis.operations.submission.lookup import check_recorded
from esis.operations.submission.settle import settle
from esis.operations.submission.submit import Request
from esis.operations.witness.keep import keep, note_unrecorded, unmark_complete
from esis.operations.witness.look import behind_mark, look
from esis.operations.witness.old_runs import check_ours
from esis.operations.witness.status import ACTIVE_STATES, CLAIMED, RunStatus, TaskState
from esis.operations.witness.target import definition
from esis.records.submissions import LOCAL, Outcome, Submission
from esis.schedulers.base import Scheduler
from esis.schedulers.commands import check_options
from esis.schedulers.units import format_limit, format_memory, is_unlimited, parse_limit, parse_memory

__all__ = ["Resubmitted", "Selection", "Wishes", "resubmit"]

_MEMORY = ("mem", "mem-per-cpu", "mem-per-gpu")
_LARGEST_FACTOR = 1e6
_FILL = 0.8  # the part of the time limit that packs are made to take
_UNLIMITED_SECONDS = 3600  # what packs are made to take where there is no time limit
_LATE = 0.9  # the quantile of the measured times that is counted on


@dataclass(frozen=True)
class Wishes:
    """Say how they are to be submitted."""

    options: tuple[str, ...] = ()  # for sbatch; they outrank the template
    scale_memory: float | None = None
    scale_time: float | None = None
    max_parallel: int | None = None
    per_job: int | None = None  # tasks that an element of the array works through; None: as the workflow says
    per_job_by_time: bool = False  # from the times that tasks took


@dataclass(frozen=True)
class Resubmitted:
    """Hold what came of it."""

    run: RunDir
    submission: Submission | None  # None: nothing was left to do, or Slurm has no room now
    status: RunStatus  # of before


def resubmit(run: RunDir, selection: Selection, wishes: Wishes, scheduler: Scheduler, context: Context) -> Resubmitted:
    """Submit the selected tasks of `run` again. Raises BadInput, also where active tasks were asked for."""
    check_options(wishes.options)
    check_ours(run, "resubmitted")
    secret = has_secrets(wishes.options)
    if secret and context.feed:
        raise BadInput(
            "--feed would have to keep values of --export, or what looks like a secret, in a file",
            "leave --feed out, or export them where the jobs start",
        )
    check_available(scheduler)
    workflow = definition(run)
    _check_template(run, workflow)
    with hold_run(run, context) as found:
        settled = settle(run, workflow, found.submissions, scheduler, context, renew=False)
        found = found._replace(submissions=tuple(settled))
        # A mark says that all was done then: of what is to be done once more something may wait or run by now.
        done_too = TaskState.DONE in selection.states
        asked = found._replace(marked_complete=False) if done_too else found
        snapshot, (before,) = look([asked], scheduler)
        if before is None:
            raise TypeError("evidence gives a status")
        keep(before)
        if found.marked_complete and done_too:
            before = behind_mark(found, before)
        require_answer(found, snapshot, scheduler)
        check_recorded(run, settled, snapshot)
        chosen = choose(before, selection, context)
        if not chosen:
            if not before.indices(TaskState.UNSUBMITTED):
                drop_held(before, scheduler, context)
            return Resubmitted(run, None, before)
        options = wishes.options + scaled(run, found.submissions, chosen, wishes)
        _check_nothing_in_slurm(before, scheduler)
        mend_worker(run, workflow, context)
        if before.complete or found.marked_complete:
            held = still(run.lock, run.label)
            if all(verdict.reason != CLAIMED for verdict in before.groups):  # else a record would make more of a claim
                note_unrecorded(found, held)
            unmark_complete(run, held)
        active = bool(before.indices(*ACTIVE_STATES))
        request = Request(
            run,
            workflow,
            as_sequence(chosen),
            workflow.maxparallel if wishes.max_parallel is None else wishes.max_parallel,
            None,
            tuple(sorted({sight.job for sight in snapshot.of_run(run, found.jobs)})),
            options,
            packing_of(workflow, wishes, before, chosen),
            active,
        )
        if secret:
            context.say(
                f"{run.label}: kept with the submission is {' '.join(masked(wishes.options))}; a later command "
                f"has to be given the values again"
            )
        return Resubmitted(run, submit_what_fits(request, before, snapshot, scheduler, context), before)


def _check_nothing_in_slurm(status: RunStatus, scheduler: Scheduler) -> None:
    """Raise EsisError where tasks are to run on this machine while others of the run are active, as `esis run` does."""
    active = status.indices(*ACTIVE_STATES)
    if scheduler.name == LOCAL and (active or status.queue):
        jobs = sorted({held.seen.job for held in status.queue}, key=lambda job: (len(job), job))
        what = f"tasks {format_ranges(active)}" if active else f"tasks of job {', '.join(jobs)}"
        raise EsisError(
            f"{status.run.label}: {what} are still waiting or running", "wait for them, then repeat the command"
        )


def _check_template(run: RunDir, workflow: Workflow) -> None:
    """Raise BadInput where the run's template contradicts ESIS, as one from before that was looked at may."""
    path = run.path / base_name(workflow.sbatchtemplate)
    try:
        check(read_template(path), str(path))
    except BadInput as error:
        raise BadInput(
            error.message,
            "a run keeps its template: mend that of the workflow, and esis run makes a new "
            "run; or submit this one by hand (esis doc by-hand)",
        ) from error


def packing_of(workflow: Workflow, wishes: Wishes, status: RunStatus, tasks: Sequence[int]) -> Packing:
    """Return how many tasks go into a job: as wished, as measured, or as the workflow says. Raises BadInput."""
    parallel = workflow.tasks_parallel
    if not wishes.per_job_by_time:
        return Packing(workflow.tasks_per_job if wishes.per_job is None else wishes.per_job, parallel)
    times = status.times(TaskState.DONE)
    if not times:
        raise BadInput(
            f"{status.run.label}: no task is done, so nothing tells how long they take",
            "give a number: --tasks-per-job 100",
        )
    requested = _requested(status.run, status.evidence.submissions, tasks)
    requested.update(parse_requests(line_options(wishes.options)))
    limit = requested.get("time")
    seconds = _UNLIMITED_SECONDS if limit is None or is_unlimited(limit) else parse_limit(limit)
    # A record counts whole seconds: a task takes one of them at least.
    longest = max(1.0, sorted(times)[int(_LATE * (len(times) - 1))])
    return Packing(max(1, int(_FILL * seconds / longest) * parallel), parallel)


def scaled(run: RunDir, known: Sequence[Submission], tasks: Sequence[int], wishes: Wishes) -> tuple[str, ...]:
    """Return --mem and --time options computed from what these tasks requested last. Raises BadInput."""
    if wishes.scale_memory is None and wishes.scale_time is None:
        return ()
    _check_factors(run, wishes)
    requested = _requested(run, known, tasks)
    options: list[str] = []
    if wishes.scale_memory is not None:
        options.append(_more_memory(run, requested, wishes.scale_memory))
    if wishes.scale_time is not None:
        limit = requested.get("time")
        if limit is None:
            raise BadInput(
                f"{run.label}: the template requests no time, so there is nothing to scale",
                "give it itself: -- --time=2-0",
            )
        if is_unlimited(limit):
            raise BadInput(
                f"{run.label}: --time={limit} is no limit, so there is nothing to scale",
                "leave --scale-time out, or give a limit: -- --time=2-0",
            )
        options.append(f"--time={format_limit(parse_limit(limit) * wishes.scale_time)}")
    return tuple(options)


def _more_memory(run: RunDir, requested: Mapping[str, str], factor: float) -> str:
    # Slurm takes one of these options only; the one that was given last is the one in force.
    name = next((name for name in reversed(list(requested)) if name in _MEMORY), None)
    if name is None:
        raise BadInput(
            f"{run.label}: the template requests no memory, so there is nothing to scale",
            "give it itself: -- --mem=64G",
        )
    size = parse_memory(requested[name])
    if size == 0:
        raise BadInput(
            f"{run.label}: --{name}={requested[name]} asks for all memory of a node, so there is nothing to scale",
            "ask for nodes that have more, or give a size: -- --mem=64G",
        )
    return f"--{name}={format_memory(size * factor)}"


def _check_factors(run: RunDir, wishes: Wishes) -> None:
    """Raise BadInput for a factor that is none, or where the options say themselves what is to be scaled."""
    given = {option.name for option in line_options(wishes.options)}
    for factor, names, option in (
        (wishes.scale_memory, set(_MEMORY), "--scale-mem"),
        (wishes.scale_time, {"time"}, "--scale-time"),
    ):
        if factor is None:
            continue
        if not 0 < factor <= _LARGEST_FACTOR:
            raise BadInput(f"{run.label}: {option} {factor:g} is no factor", "give it a number, like 1.5 or 2")
        if given & names:
            raise BadInput(
                f"{run.label}: {option} contradicts --{min(given & names)} among the options",
                "give the one or the other",
            )


def _requested(run: RunDir, known: Sequence[Submission], tasks: Sequence[int]) -> dict[str, str]:
    """Return the options of the latest submission that held any of these tasks, over those of the template."""
    found = parse_requests(script_options(read_template(run.script)))
    wanted = set(tasks)
    for submission in reversed(known):
        if submission.outcome is not Outcome.REFUSED and wanted & set(submission.tasks):
            found.update(parse_requests(line_options(submission.options)))
            break
    return found


def parse_requests(options: Sequence[Option]) -> dict[str, str]:
    """Return the memory and time options among sbatch's; the last of a kind counts, and stands last."""
    found: dict[str, str] = {}
    for option in options:
        if option.name in ("time", *_MEMORY):
            found.pop(option.name, None)
            found[option.name] = option.value or ""
    return found
