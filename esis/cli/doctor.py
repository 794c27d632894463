"""`esis doctor`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from esis.cli.common import find_workflow, json_option, signals_as_interrupts, workflow_argument
from esis.errors import BadInput, ExitCode, printable

_COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}


@click.command()
@workflow_argument
@json_option
def doctor(workflow_file: str | None, as_json: bool) -> int:
    """Look for what people get wrong in a workflow, on this machine and in Slurm.

    One line for each finding: ok, note or problem. The exit code is 1 if there is a problem. Without a workflow here
    it looks at the machine and at Slurm alone.
    """
    from esis.model.requirements import run_parent
    from esis.model.workflow import load
    from esis.operations.advice.doctor import examine
    from esis.operations.advice.findings import Level, note

    workflow, missing = None, []
    try:
        workflow = load(find_workflow(workflow_file))
    except BadInput as error:
        if workflow_file is not None or list(Path().glob("wf.esis*.json")):
            raise
        missing.append(note("workflow", error.message))
    runs = run_parent(workflow) if workflow is not None else Path.cwd()
    with signals_as_interrupts():  # it tries the workflow in a directory of its own
        findings = [*missing, *examine(workflow, runs)]
    if as_json:
        from esis.cli.json_output import show_object

        shown = [{"level": item.level.value, "subject": item.subject, "message": item.message} for item in findings]
        show_object({"findings": shown})
    else:
        for item in findings:
            word, text = item.level.value, printable(item.message)
            if sys.stdout.isatty():
                click.echo(f"{click.style(f'{word:8}', fg=_COLOURS[word])} {item.subject:20} {text}")
            else:
                click.echo(f"{word}\t{item.subject}\t{text}")
    return ExitCode.FAILURE if any(item.level is Level.PROBLEM for item in findings) else ExitCode.OK
