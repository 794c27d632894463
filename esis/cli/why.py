"""`esis why`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from esis.cli.common import find_workflow, json_option, pick_run, say, verify_option
from esis.errors import printable

if TYPE_CHECKING:
    from esis.operations.compare import Comparison


@click.command()
@click.argument("targets", nargs=-1, metavar="[WORKFLOW FILE] [WRKDIR]")
@json_option
@verify_option
def why(targets: tuple[str, ...], as_json: bool, verify: bool) -> None:
    """Tell why a workflow's hash is not that of a run: which files and requirements differ.

    Without WRKDIR, the run is that of the present files, or else the one with the fewest differences, the latest of
    several. Prints the run, then a line for each difference.
    """
    from esis.operations import compare
    from esis.operations.witness.target import node_of, run_at

    named = [target for target in targets if _is_run(target)]
    files = [target for target in targets if not _is_run(target)]
    if len(named) > 1 or len(files) > 1:
        raise click.UsageError("name one workflow file and one run at most")
    run = pick_run(named[0]) if named else run_at(Path()) if not files else None
    path = compare.workflow_of(run) if run is not None and not files else find_workflow(files[0] if files else None)
    node = node_of(path, verify)
    found = compare.compare(node, run if run is not None else compare.nearest(node))
    if as_json:
        from esis.cli.json_output import show_object

        show_object(_plain(found))
        return
    click.echo(found.run.path)
    for line in lines(found):
        click.echo(line)
    if not found.changes:
        say(f"{found.run.label} is the run of the present files")


def _is_run(target: str) -> bool:
    """Return whether an argument names a run, as `pick_run` takes it, rather than a workflow."""
    name = Path(os.path.abspath(target)).name  # noqa: PTH100  a link's own name counts
    return name.startswith("wrkdir.")


def lines(comparison: Comparison, depth: int = 0) -> list[str]:
    """Return a line for each difference: what, role, path and a note, indented below a directory or a requirement."""
    told = []
    for change in comparison.changes:
        cells = [change.what.value, change.role, printable(os.path.relpath(change.path)), printable(change.note)]
        told.append("  " * depth + "\t".join(cells).rstrip("\t"))
        told += ["  " * (depth + 1) + f"{what.value}\tfile\t{printable(path)}" for what, path in change.files]
        if change.why is not None:
            told += lines(change.why, depth + 1)
    return told


def _plain(comparison: Comparison) -> dict[str, object]:
    """Return what JSON shows of it."""
    return {
        "workflow_file": str(comparison.node.workflow.path),
        "hash": comparison.node.digest,
        "run": str(comparison.run.path),
        "same": not comparison.changes,
        "changes": [
            {
                "what": change.what.value,
                "role": change.role,
                "path": str(change.path),
                "before": change.before,
                "after": change.after,
                "files": [{"what": what.value, "path": path} for what, path in change.files],
                "why": _plain(change.why) if change.why is not None else None,
                "note": change.note or None,
            }
            for change in comparison.changes
        ],
    }
