"""Turn what people name on the command line into a run, a scheduler, a list of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from esis.cli.common import find_workflow

if TYPE_CHECKING:
    from esis.model.workdir import RunDir
    from esis.operations.witness.evidence import Evidence
    from esis.operations.witness.status import RunStatus
    from esis.operations.witness.verdict import TaskState

target_argument = click.argument("target", required=False, metavar="[WORKFLOW FILE | WRKDIR]")
tasks_option = click.option("--tasks", "-t", "indices", metavar="INDICES", help="Task indices, like 3,5-7.")
where_option = click.option(
    "--where", metavar="CONDITION", help="Tasks whose parameters fulfil a condition, like 'beta>5 and L==64'."
)
states_option = click.option(
    "--state", "states", multiple=True, metavar="STATE", help="Tasks in that state; can be given several times."
)


def pick_run(target: str | None, verify: bool = False) -> RunDir:
    """Return the run of a workflow file (by default the one here), of a wrkdir, or around this directory."""
    from esis.operations.witness.target import find_run, run_at, run_called

    run = run_at(Path()) if target is None else run_called(target)
    return run if run is not None else find_run(find_workflow(target), verify)


def status_of_run(evidence: Evidence) -> RunStatus:
    """Judge a run, asking Slurm if it may have more to say, and write down what was found out."""
    from esis.operations.witness.status import complete_status

    if evidence.marked_complete:
        return complete_status(evidence)  # what asks Slurm isn't even loaded
    from esis.operations.witness.keep import look_and_keep
    from esis.schedulers.slurm import Slurm

    return look_and_keep(evidence, Slurm())


def pick_tasks(indices: str | None) -> tuple[int, ...] | None:
    """Return the indices of --tasks; None where it isn't given."""
    from esis.model.index_sets import parse_ranges

    return tuple(parse_ranges(indices)) if indices is not None else None


def is_indices(text: str) -> bool:
    """Return whether a text means task indices rather than a file or a run."""
    return not text.strip("0123456789,- ")


def pick_states(names: Sequence[str]) -> tuple[TaskState, ...]:
    """Return the states of --state."""
    from esis.operations.witness.conditions import state_called

    return tuple(state_called(name) for name in names)
