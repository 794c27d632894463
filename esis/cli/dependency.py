"""`esis dependency`."""

from __future__ import annotations

import click

from esis.cli.common import find_workflow, make_context, signals_as_interrupts, submitting_options


@click.command()
@submitting_options
def dependency(
    workflow_file: str | None,
    max_parallel: int | None,
    local: bool,
    jobs: int | None,
    verbose: bool,
    script_timeout: float | None,
    take_over: bool,
    no_records: bool,
    verify: bool,
) -> None:
    """Run a workflow and everything that it requires, each once, in order.

    Later ones are queued behind earlier ones. Called again, it skips what is complete, waits behind what is active and
    submits what is missing. Prints the directories of the runs in their order.
    """
    from esis.cli.progress import pick_scheduler, show_done
    from esis.model.requirements import name_notes
    from esis.operations.ahead import resolved
    from esis.operations.chain import run_chain

    path = find_workflow(workflow_file)
    context = make_context(verbose, script_timeout, take_over, no_records)
    with (
        signals_as_interrupts(),
        pick_scheduler(local, jobs) as scheduler,
        resolved(path, context, verify, whole_chain=True) as (node, context),
    ):
        for note in name_notes(node):
            context.say(note)
        run_chain(node, scheduler, context, show_done, max_parallel)
