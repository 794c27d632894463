"""Leave runs of ESIS 0.0.4 as they are, and say what is known of them and how to go on by hand."""

from __future__ import annotations

import shlex

from esis.errors import EsisError
from esis.model.workdir import RunDir
from esis.operations.context import Context
from esis.operations.witness.evidence import Evidence
from esis.operations.witness.keep import look_and_keep
from esis.operations.witness.status import ACTIVE_STATES, RunStatus
from esis.records import old
from esis.schedulers.base import Scheduler


def check_ours(run: RunDir, doing: str) -> None:
    """Raise EsisError where an older version made the run, so that it can't be worked on. Nothing is written then."""
    if old.is_oldest(run):
        raise EsisError(
            f"{run.path} was made by an ESIS before 0.0.4, which kept no records, so it can't be {doing}",
            "it is left as it is; what can be done by hand: esis doc migrating",
        )
    if old.is_old(run):
        raise EsisError(
            f"{run.path} was made by ESIS 0.0.4, which kept no records of tasks and no template, so it "
            f"can't be {doing}",
            f"it is left as it is; {how_to_go_on(run)}",
        )


def leave_alone(run: RunDir, evidence: Evidence | None, scheduler: Scheduler, context: Context) -> RunStatus:
    """Return what is known of an older version's run, and tell it. Raises EsisError where nothing is."""
    if evidence is None:
        check_ours(run, "submitted again")
        raise EsisError(f"{run.path} vanished while it was looked at", "run again")
    status = look_and_keep(evidence, scheduler)
    if status.complete:
        return status
    if not evidence.submissions:
        known, advice = old.what_is_known(run)
        raise EsisError(
            f"{run.path} was made by ESIS 0.0.4: {known}, so nothing tells what became of it",
            f"it is left as it is; {advice}; {how_to_go_on(run)}",
        )
    known = f"{status.summary()}{f' ({status.problem})' if status.problem is not None else ''}"
    jobs = "" if status.indices(*ACTIVE_STATES) else f"; {how_to_go_on(run)}"
    context.say(
        f"{run.label}: ESIS 0.0.4 made it, so it is neither built nor submitted again: {known}, in job "
        f"{evidence.submissions[-1].jobs[-1].id}{jobs}"
    )
    return status


def how_to_go_on(run: RunDir) -> str:
    """Return how to rerun tasks of such a run by hand."""
    if run.script.is_file():
        return (
            f"rerun tasks by hand: cd {shlex.quote(str(run.cwd))} && sbatch --array=<tasks> ../sbatch.sh (esis doc "
            f"migrating)"
        )
    return "esis doc migrating tells what can be done by hand"
