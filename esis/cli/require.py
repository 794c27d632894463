"""`esis require`, `esis list-requirements`, `esis freeze-requirement`."""

from __future__ import annotations

from pathlib import Path

import click

from esis.cli.common import find_workflow, json_option, make_context, say, workflow_argument, workflow_rewritten_option
from esis.errors import printable


@click.command()
@click.argument("requirement", metavar="REQUIREMENT")
@click.argument("name")
@workflow_argument
@workflow_rewritten_option
def require(requirement: str, name: str, workflow_file: str | None, workflow_out: str | None) -> None:
    """Let a workflow require the run of the workflow file REQUIREMENT, under NAME.

    Its generator finds that run's directory in ESIS2_REQUIREMENTS under this name.
    """
    from esis.model.template import has_dependency_line, read_template
    from esis.operations.workflow_files import add_requirement

    required = find_workflow(requirement)
    if not Path(requirement).is_dir():
        required = Path(requirement)  # as it is named, it counts in the hash
    made = add_requirement(required, name, find_workflow(workflow_file), rewritten(workflow_out), make_context())
    template = made.resolve(made.sbatchtemplate)
    if template.exists() and not has_dependency_line(read_template(template)):
        say(f"note: {template} has no line #ESIS_PRIVATE among its #SBATCH lines; esis dependency needs one")
    click.echo(made.path)


@click.command("list-requirements")
@workflow_argument
@json_option
def list_requirements(workflow_file: str | None, as_json: bool) -> None:
    """Show the requirements of a workflow: name, workflow file, run, whether it is pinned, whether it exists."""
    from esis.model.requirements import name_notes
    from esis.operations.witness.target import node_of

    node = node_of(find_workflow(workflow_file))
    for note in name_notes(node):
        say(note)
    if as_json:
        from esis.cli.json_output import show_object

        show_object(
            {
                "requirements": [
                    {
                        "name": item.name,
                        "workflow_file": str(item.workflow_file),
                        "run": str(item.run.path),
                        "frozen": item.frozen,
                        "exists": item.run.path.is_dir(),
                    }
                    for item in node.requirements
                ]
            }
        )
        return
    for item in node.requirements:
        pinned = "frozen" if item.frozen else "current"
        there = "exists" if item.run.path.is_dir() else "missing"
        click.echo(f"{printable(item.name)}\t{item.workflow_file}\t{item.run.path.name}\t{pinned}\t{there}")


@click.command("freeze-requirement")
@click.argument("name")
@click.argument("digest", metavar="[HASH]", required=False)
@workflow_argument
@click.option("--unfreeze", is_flag=True, help="Let the requirement follow its workflow file again; give no HASH.")
@workflow_rewritten_option
def freeze_requirement(
    name: str, digest: str | None, workflow_file: str | None, unfreeze: bool, workflow_out: str | None
) -> None:
    """Pin the requirement NAME to the run whose hash begins with HASH.

    It then keeps being used, whatever happens to the requirement's files. The path of the run will do, too.
    """
    from esis.operations import workflow_files

    if unfreeze:
        # Without a hash, a second argument is the workflow file.
        given = workflow_file if workflow_file is not None else digest
        workflow_files.unfreeze(find_workflow(given), name, rewritten(workflow_out))
        return
    if digest is None:
        raise click.UsageError("give the hash of a run (a beginning will do), or --unfreeze")
    _, whole = workflow_files.freeze(find_workflow(workflow_file), name, digest, rewritten(workflow_out))
    click.echo(whole)


def rewritten(workflow_out: str | None) -> Path | None:
    """Return the file that -o names; a wf.esis2.json that isn't there means the wf.esis.json beside it here, too."""
    return find_workflow(workflow_out) if workflow_out is not None else None
