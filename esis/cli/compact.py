"""`esis compact`."""

from __future__ import annotations

import click

from esis.cli.common import (
    json_option,
    make_context,
    pick_run,
    say,
    signals_as_interrupts,
    take_over_option,
    target_argument,
)


@click.command()
@target_argument
@click.option("--keep-logs", is_flag=True, help="Leave the logs as they are.")
@click.option("--results", is_flag=True, help="Fold results/results.<n>.json into results/results.jsonl, too.")
@json_option
@take_over_option
def compact(target: str | None, keep_logs: bool, results: bool, as_json: bool, take_over: bool) -> None:
    """Fold the task records and logs of a complete run into one file each: a few inodes instead of very many.

    All commands read them as before. Results are folded on request only, for your own programs may read the files.
    """
    from dataclasses import asdict

    from esis.operations import compact as operation
    from esis.schedulers.slurm import Slurm

    run = pick_run(target)
    with signals_as_interrupts():
        done = operation.compact(run, Slurm(), make_context(take_over=take_over), not keep_logs, results)
    if as_json:
        from esis.cli.json_output import show_object

        show_object({"run": str(run.path), **asdict(done)})
        return
    counts = ", ".join(f"{count} {what}" for what, count in asdict(done).items() if count)
    say(f"{run.label}: folded {counts}" if counts else f"{run.label}: there was nothing to fold")
    if results and done.results:
        say(
            f"{run.label}: results.<n>.json are lines of results/results.jsonl now: programs of yours that read the "
            "files, also in runs that require this one, have to read those"
        )
    click.echo(run.path)
