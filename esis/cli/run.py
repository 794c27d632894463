"""`esis run`."""

from __future__ import annotations

import click

from esis.cli.common import feed_option, find_workflow, make_context, signals_as_interrupts, submitting_options


@click.command()
@submitting_options
@feed_option
@click.option("-n", "--dry-run", is_flag=True, help="Show hash, array and script; leave nothing behind.")
def run(
    workflow_file: str | None,
    max_parallel: int | None,
    local: bool,
    jobs: int | None,
    verbose: bool,
    script_timeout: float | None,
    take_over: bool,
    no_records: bool,
    verify: bool,
    feed: bool,
    dry_run: bool,
) -> None:
    """Build the run of a workflow and submit its tasks; prints the run's directory.

    Called again, it submits what was never submitted, and nothing twice. The requirements of the workflow have to be
    complete; esis dependency runs them too.
    """
    from esis.cli.progress import check_jobs, pick_scheduler, show_done, show_plan
    from esis.model.requirements import name_notes
    from esis.operations.ahead import resolved
    from esis.operations.witness.evidence import gather
    from esis.operations.witness.status import Done, known_complete

    path = find_workflow(workflow_file)
    context = make_context(verbose, script_timeout, take_over, no_records, feed)
    if dry_run:
        from esis.operations import run as operation
        from esis.operations.witness.target import node_of

        with signals_as_interrupts():
            plan = operation.dry_run(node_of(path, verify), context, max_parallel)
        show_plan(plan)
        return
    check_jobs(local, jobs)
    with signals_as_interrupts(), resolved(path, context, verify) as (node, context):
        for note in name_notes(node):
            context.say(note)
        found = gather(node.run)
        complete = known_complete(found)
        if complete is not None:
            done = Done(node, None, complete)
        else:
            from esis.operations import run as operation  # much to load, and what is complete needs none of it

            with pick_scheduler(local, jobs) as scheduler:
                done = operation.run(node, found, scheduler, context, max_parallel)
    show_done(done)
    if local:
        from esis.operations.run import raise_failed

        raise_failed(done.node.run, done.submission, done.status)
