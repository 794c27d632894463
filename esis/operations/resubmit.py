"""Hand tasks of a run to a scheduler again: the same indices and parameters; the setup script is not run again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from esis.errors import BadInput
from esis.model.parameters import format_ranges
from esis.model.template import directive_options, read_template
from esis.model.workdir import RunDir
from esis.operations.context import Context
from esis.operations.evidence import unmark_complete
from esis.operations.judge import ACTIVE_STATES, RESUMABLE
from esis.operations.prepare import hold_run
from esis.operations.run import check_available, require_answer
from esis.operations.select import matching
from esis.operations.status import RunStatus, TaskState, ask, status_of_asked
from esis.operations.submit import Request, settle, submit
from esis.operations.target import definition, evidence_of
from esis.records.submissions import Outcome, Submission
from esis.schedulers.base import Scheduler
from esis.schedulers.slurm import check_options
from esis.schedulers.units import format_limit, format_memory, parse_limit, parse_memory

# What is resubmitted if nothing is said: not what is done or active, nor what may be.
DEFAULT_STATES = (TaskState.FAILED, TaskState.LOST, TaskState.UNSUBMITTED)
_MEMORY_OPTIONS = ("--mem", "--mem-per-cpu", "--mem-per-gpu")


@dataclass(frozen=True)
class Selection:
    """Say which tasks are meant."""

    states: tuple[TaskState, ...] = ()
    tasks: tuple[int, ...] | None = None
    where: str | None = None
    max_attempts: int | None = None
    resumable: bool = False  # only those that saved their state


@dataclass(frozen=True)
class Wishes:
    """Say how they are to be submitted."""

    options: tuple[str, ...] = ()  # for sbatch; they outrank the template
    scale_memory: float | None = None
    scale_time: float | None = None
    max_parallel: int | None = None


@dataclass(frozen=True)
class Resubmitted:
    """Hold what came of it."""

    run: RunDir
    submission: Submission | None  # None: nothing was left to do
    status: RunStatus  # of before


def resubmit(run: RunDir, selection: Selection, wishes: Wishes, scheduler: Scheduler, context: Context) -> Resubmitted:
    """Submit the selected tasks of `run` again. Raises BadInput, also where active tasks were asked for."""
    check_options(wishes.options)
    check_available(scheduler)
    workflow = definition(run)
    with hold_run(run, context):
        found = evidence_of(run)
        found = replace(found, submissions=tuple(settle(run, workflow, found.submissions, scheduler, context)))
        snapshot = ask([found], scheduler)
        before = status_of_asked(found, snapshot)
        require_answer(found, snapshot)
        chosen = choose(before, selection, context)
        if selection.max_attempts is not None:
            worn = [task for task in chosen if found.attempts(task) >= selection.max_attempts]
            if worn:
                context.say(f"{run.label}: left out after {selection.max_attempts} attempts: {format_ranges(worn)}")
            chosen = [task for task in chosen if task not in set(worn)]
        if not chosen:
            return Resubmitted(run, None, before)
        options = wishes.options + scaled(run, found.submissions, chosen, wishes)
        throttle = workflow.maxparallel if wishes.max_parallel is None else wishes.max_parallel
        if before.complete:
            unmark_complete(run)
        seen = tuple(sorted({sight.job for sight in snapshot.of_run(run)}))
        request = Request(run, workflow, tuple(chosen), throttle, None, seen, options)
        return Resubmitted(run, submit(request, found.submissions, scheduler, context), before)


def choose(status: RunStatus, selection: Selection, context: Context) -> list[int]:
    """Return the sorted tasks that are meant. Raises BadInput for active ones that were named."""
    if selection.tasks is not None:
        absent = [task for task in selection.tasks if task not in status.tasks]
        if absent:
            raise BadInput(f"{status.run.label} has no tasks {format_ranges(absent)}", _existing(status))
    states = selection.states or (tuple(TaskState) if selection.tasks is not None else DEFAULT_STATES)
    asked = [task for task in (selection.tasks if selection.tasks is not None else sorted(status.tasks))
             if status.tasks[task].state in states]
    if selection.resumable:
        asked = [task for task in asked if status.tasks[task].reason == RESUMABLE]
    chosen = matching(status.run, asked, selection.where)
    active = [task for task in chosen if status.tasks[task].state in ACTIVE_STATES]
    if active:
        raise BadInput(f"{status.run.label}: tasks {format_ranges(active)} are waiting or running",
                       "wait for them, or esis cancel them first")
    if TaskState.UNKNOWN not in selection.states:
        unknown = [task for task in chosen if status.tasks[task].state is TaskState.UNKNOWN]
        unknown = unknown or (status.indices(TaskState.UNKNOWN) if selection.tasks is None else [])
        if unknown:
            context.say(f"{status.run.label}: left out, for they may be running: {format_ranges(unknown)} "
                        f"({status.tasks[unknown[0]].reason}); --state unknown includes them")
        chosen = [task for task in chosen if task not in set(unknown)]
    if TaskState.DONE not in selection.states:
        done = [task for task in chosen if status.tasks[task].state is TaskState.DONE]
        if done:
            context.say(f"{status.run.label}: left out, for they are done: {format_ranges(done)}; "
                        f"--state done includes them")
        chosen = [task for task in chosen if task not in set(done)]
    return sorted(chosen)


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


def _existing(status: RunStatus) -> str:
    return f"its tasks are {format_ranges(sorted(status.tasks))}"
