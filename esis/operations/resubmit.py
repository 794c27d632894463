"""Hand tasks of a run to a scheduler again: the same indices and parameters; the setup script is not run again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from esis.errors import BadInput
from esis.model.parameters import as_sequence
from esis.model.template import directive_options, read_template
from esis.model.workdir import RunDir
from esis.model.workflow import Workflow
from esis.operations.choose import Selection, choose
from esis.operations.context import Context
from esis.operations.evidence import unmark_complete
from esis.operations.feed import submit_what_fits
from esis.operations.judge import ACTIVE_STATES, TaskState
from esis.operations.old_runs import check_ours
from esis.operations.plan import Packing
from esis.operations.prepare import hold_run
from esis.operations.run import check_available, require_answer
from esis.operations.status import RunStatus, look
from esis.operations.submit import Request, settle
from esis.operations.target import definition, evidence_of
from esis.records.submissions import Outcome, Submission
from esis.schedulers.base import Scheduler
from esis.schedulers.commands import check_options
from esis.schedulers.units import format_limit, format_memory, parse_limit, parse_memory

__all__ = ["Resubmitted", "Selection", "Wishes", "resubmit"]

_MEMORY_OPTIONS = ("--mem", "--mem-per-cpu", "--mem-per-gpu")
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
    check_available(scheduler)
    workflow = definition(run)
    with hold_run(run, context):
        found = evidence_of(run)
        found = replace(found, submissions=tuple(settle(run, workflow, found.submissions, scheduler, context)))
        snapshot, (before,) = look([found], scheduler)
        if before is None:
            raise TypeError("evidence gives a status")
        require_answer(found, snapshot)
        chosen = choose(before, selection, context)
        if not chosen:
            return Resubmitted(run, None, before)
        options = wishes.options + scaled(run, found.submissions, chosen, wishes)
        if before.complete:
            unmark_complete(run)
        active = bool(before.indices(*ACTIVE_STATES))
        request = Request(
            run, workflow, as_sequence(chosen),
            workflow.maxparallel if wishes.max_parallel is None else wishes.max_parallel, None,
            tuple(sorted({sight.job for sight in snapshot.of_run(run, found.jobs)})), options,
            packing_of(workflow, wishes, before, chosen), active)
        return Resubmitted(run, submit_what_fits(request, before, snapshot, scheduler, context), before)


def packing_of(workflow: Workflow, wishes: Wishes, status: RunStatus, tasks: Sequence[int]) -> Packing:
    """Return how many tasks go into a job: as wished, as measured, or as the workflow says. Raises BadInput."""
    parallel = workflow.tasks_parallel
    if not wishes.per_job_by_time:
        return Packing(workflow.tasks_per_job if wishes.per_job is None else wishes.per_job, parallel)
    times = status.times(TaskState.DONE)
    if not times:
        raise BadInput(f"{status.run.label}: no task is done, so nothing tells how long they take",
                       "give a number: --tasks-per-job 100")
    requested = _requested(status.run, status.evidence.submissions, tasks)
    for name, value in parse_requests(wishes.options).items():
        requested[name] = value
    seconds = parse_limit(requested["--time"]) if "--time" in requested else _UNLIMITED_SECONDS
    # A record counts whole seconds: a task takes one of them at least.
    longest = max(1.0, sorted(times)[int(_LATE * (len(times) - 1))])
    return Packing(max(1, int(_FILL * seconds / longest) * parallel), parallel)


def scaled(run: RunDir, known: Sequence[Submission], tasks: Sequence[int], wishes: Wishes) -> tuple[str, ...]:
    """Return --mem and --time options computed from what these tasks requested last. Raises BadInput."""
    if wishes.scale_memory is None and wishes.scale_time is None:
        return ()
    requested = _requested(run, known, tasks)
    options: list[str] = []
    if wishes.scale_memory is not None:
        name = next((name for name in _MEMORY_OPTIONS if name in requested), None)
        if name is None:
            raise BadInput(f"{run.label}: the template requests no memory, so there is nothing to scale",
                           "give it itself: -- --mem=64G")
        options.append(f"{name}={format_memory(parse_memory(requested[name]) * wishes.scale_memory)}")
    if wishes.scale_time is not None:
        if "--time" not in requested:
            raise BadInput(f"{run.label}: the template requests no time, so there is nothing to scale",
                           "give it itself: -- --time=2-0")
        options.append(f"--time={format_limit(parse_limit(requested['--time']) * wishes.scale_time)}")
    return tuple(options)


def _requested(run: RunDir, known: Sequence[Submission], tasks: Sequence[int]) -> dict[str, str]:
    """Return the options of the latest submission that held any of these tasks, over those of the template."""
    words = directive_options(read_template(run.script))
    wanted = set(tasks)
    for submission in reversed(known):
        if submission.outcome is not Outcome.REFUSED and wanted & set(submission.tasks):
            words += submission.options
            break
    return parse_requests(words)


def parse_requests(words: Sequence[str]) -> dict[str, str]:
    """Return the memory and time options among sbatch's words; the last of a kind counts."""
    found: dict[str, str] = {}
    for position, word in enumerate(words):
        following = words[position + 1] if position + 1 < len(words) else ""
        name, equals, value = word.partition("=")
        if word.startswith("-t") and not word.startswith("--"):
            found["--time"] = word[2:].lstrip("=") or following
        elif name == "--time" or name in _MEMORY_OPTIONS:
            found[name] = value if equals else following
    return found
