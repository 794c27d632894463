"""Hold what a run came to, or would; and know one that is complete, for which there is nothing to load or to ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from esis.operations.witness.status import RunStatus, complete_status

if TYPE_CHECKING:
    from esis.model.requirements import Node
    from esis.operations.witness.evidence import Evidence
    from esis.records.submissions import Submission


class DryRun(NamedTuple):
    """Hold what a dry run shows."""

    node: Node
    array: str
    tasks: int
    script: str
    exists: bool


class Done(NamedTuple):
    """Hold what a run came to."""

    node: Node
    submission: Submission | None  # None: there was nothing to submit
    status: RunStatus | None  # of before the submission; None for a fresh run
    left: int = 0  # tasks for which Slurm had no room


def done_before(node: Node, found: Evidence | None) -> Done | None:
    """Return what a run came to that is known to be complete; None where it isn't. Neither locks nor asks."""
    if found is None or not found.built or not found.marked_complete:
        return None
    return Done(node, None, complete_status(found))
