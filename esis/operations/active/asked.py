"""Look at a run whose tasks are to be acted on: the queue has to answer."""

from __future__ import annotations

from esis.errors import SlurmUnanswered
from esis.locks import Owner, holder
from esis.operations.witness.evidence import Evidence
from esis.operations.witness.keep import look_and_keep
from esis.operations.witness.look import behind_mark
from esis.operations.witness.status import Held, RunStatus
from esis.operations.witness.target import evidence_of
from esis.records.submissions import LOCAL, Outcome
from esis.schedulers.identity import sent_as
from esis.schedulers.slurm import Slurm


def sender_of(evidence: Evidence) -> Owner | None:
    """Return who is handing arrays of the run to Slurm just now."""
    under_way = any(item.outcome is Outcome.OPEN and item.scheduler != LOCAL for item in evidence.submissions)
    return holder(evidence.run.lock) if under_way else None


def untold(status: RunStatus) -> list[Held]:
    """Return what ESIS itself submitted of what is queued, though nothing tells which tasks it works on."""
    return [item for item in status.queue if not item.known and sent_as(status.run, item.seen.place) is not None]


def asked(evidence: Evidence, slurm: Slurm) -> RunStatus:
    """Return what is known of a run of which Slurm was asked. Raises SlurmUnanswered where it doesn't answer.

    The run is read before the queue is: a job that ESIS itself submitted, and none of its submissions tells of, may be
    of one that was recorded between the two. Then both are read again.
    """
    while True:
        # A rerun by hand may wait behind a mark that says that the run is complete.
        status = look_and_keep(evidence._replace(marked_complete=False), slurm)
        if status.problem is not None:
            raise SlurmUnanswered(
                f"{evidence.run.label}: the queue can't be asked: {status.problem}", "try again later"
            )
        if not untold(status):
            break
        later = evidence_of(evidence.run)
        if later.submissions == evidence.submissions:
            break
        evidence = later
    return behind_mark(evidence, status) if evidence.marked_complete else status
