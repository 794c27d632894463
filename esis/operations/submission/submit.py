"""Hand tasks to a scheduler, once: intent on disk, then the call, then the answer on disk.

`send` makes the call, `settle` finds out what became of it where no answer came (time-out, killed between call and
record).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from esis.errors import BadInput, CorruptState, LimitReached, SlurmRefused
from esis.files import is_there
from esis.locks import Owner, still
from esis.model.index_sets import as_sequence
from esis.model.limits import Limits
from esis.model.parametersets import ParameterSets
from esis.model.requirements import base_name
from esis.model.workdir import RunDir
from esis.model.workflow import Workflow
from esis.operations.context import Context
from esis.operations.submission.arrays import UNPACKED, Packing, plan
from esis.operations.submission.limits import ArrayRefused, asked_limits, described, known_limits, new_limits
from esis.operations.submission.moved import follow
from esis.operations.submission.script import digest_of, render_script, write_map, write_script
from esis.operations.submission.send import present, save, send_all
from esis.records import log_names, submissions, traces
from esis.records.origin import origin_here
from esis.records.submissions import Outcome, Submission
from esis.schedulers.base import Scheduler


@dataclass(frozen=True)
class Request:
    """Say what to submit."""

    run: RunDir
    workflow: Workflow  # as it is described in the run, whatever became of the workflow file since
    tasks: Sequence[int]  # sorted
    throttle: int  # tasks at a time (of packs: packs); 0: no limit
    dependency: str | None = None
    seen: tuple[str, ...] = ()  # job ids of this run that the scheduler knows already
    options: tuple[str, ...] = ()  # sbatch options that outrank those of the template
    packing: Packing = UNPACKED
    active: bool = False  # whether other tasks of the run wait or run
    counted: bool = False  # whether its parameter sets were counted when it was built, just now


def submit(request: Request, known: Sequence[Submission], scheduler: Scheduler, context: Context) -> Submission:
    """Submit under the run's lock and return the record. Raises SlurmRefused, SlurmUnanswered, OSError.

    Raises CorruptState where a file is missing that all tasks need. Where a limit on the number of jobs leaves no room
    for all, the record holds those that were taken.
    """
    missing = ParameterSets(request.run).missing(request.tasks) if not request.counted else ()
    if missing:
        raise CorruptState(
            f"{request.run.parameters} holds no parameter sets of {len(missing)} tasks, {missing[0]} the first of them",
            "nothing was submitted: bring them back from a copy",
        )
    for path in (request.run.path / base_name(request.workflow.workerscript), request.run.task_hook):
        if not is_there(path):
            raise CorruptState(
                f"{path} is missing, and no task can do its work without it",
                "nothing was submitted: bring it back from a copy",
            )
    limits = known_limits(request.run, scheduler)
    tasks, asked = request.tasks, False
    still_ours = still(request.run.lock, request.run.label)
    while True:
        intent = _intend(request, tasks, limits, known, scheduler, context)
        try:
            done = send_all(request.run, intent, known, scheduler, context)
        except ArrayRefused as refusal:
            changed = None if asked or limits is None else new_limits(request.run, limits, scheduler, still_ours)
            if changed is None:
                latest = asked_limits(request.run.script, scheduler) or limits
                told = f" ({described(latest)})" if latest is not None else ""
                raise SlurmRefused(f"{refusal.message}{told}", refusal.advice) from refusal
            context.say(f"{refusal.message}; by now Slurm has {described(changed)}: cutting the tasks anew")
            limits, asked = changed, True
            continue
        except SlurmRefused as refusal:
            if not isinstance(refusal, LimitReached):
                if limits is None or limits.problem is None:
                    raise
                raise SlurmRefused(
                    f"{refusal.message} (what it takes couldn't be asked: {limits.problem})", refusal.advice
                ) from refusal
            # Arrays are refused whole. If nothing of the run is active, a part of one has to fit, or it never starts.
            tasks = tasks[: intent.arrays[0].tasks // 2]
            if request.active or not tasks:
                raise
            continue
        left = len(request.tasks) - len(done.tasks)
        if left:
            context.say(
                f"{request.run.label}: a limit of Slurm leaves {left} tasks unsubmitted; the same command "
                f"submits them later"
            )
        return done


def _intend(
    request: Request,
    tasks: Sequence[int],
    limits: Limits | None,
    known: Sequence[Submission],
    scheduler: Scheduler,
    context: Context,
) -> Submission:
    """Write script, map and intent of a submission."""
    run = request.run
    traces.bring_back(run)
    follow(run, context)
    number = next_number(run)
    # On this machine each task is a process of its own.
    packing = request.packing if limits is not None else UNPACKED
    planned = plan(tasks, request.throttle, limits, packing)
    rendered = render_script(
        request.workflow, run, planned, tasks, number, request.dependency, context.records, packing
    )
    if not rendered.records and (
        planned.mapped or packing.per_job > 1 or len(planned.arrays) > 1 or planned.arrays[0].offset
    ):
        raise BadInput(
            f"{run.label}: {len(tasks)} tasks don't fit into one array as they are, and without task "
            f"records no job can look its task up",
            "use a template for a POSIX shell, without --no-task-records; or give fewer --tasks at a time",
        )
    intent = Submission(
        number=number,
        scheduler=scheduler.name,
        tasks=as_sequence(tasks),
        arrays=planned.arrays,
        mapped=planned.mapped,
        throttle=request.throttle,
        per_job=packing.per_job,
        parallel=packing.parallel,
        options=request.options,
        output=log_names.written_output(rendered.text, request.options),
        unique_output=log_names.unique_output(rendered.text, request.options),
        unique_error=log_names.unique_error(rendered.text, request.options),
        script_digest=digest_of(rendered.text),
        created=time.time(),
        owner=Owner.current().text(),
        records=rendered.records,
        argv=context.argv,
        dependency=rendered.dependency,
        seen=request.seen,
        provenance=origin_here(),
        cluster=present(scheduler, known),
    )
    save(run, intent)
    write_map(run, intent)
    # Last: who types sbatch before the call finds nothing that no record tells of.
    write_script(run, rendered.text, still(run.lock, run.label))
    return intent


def next_number(run: RunDir) -> int:
    """Return the number of the next submission; a refused one at the end left nothing behind, so it is used again."""
    known = submissions.read_all(run)  # also what was refused a moment ago
    return traces.next_number(run, known, (item.number for item in known if item.outcome is Outcome.REFUSED))
