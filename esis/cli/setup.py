"""`esis setup`."""

from __future__ import annotations

from pathlib import Path

import click

from esis.cli.common import from_one, make_context, max_parallel_option, workflow_out_option


@click.command()
@click.argument("setup_script")
@click.argument("parameter_generator")
@click.argument("sbatch_template")
@click.argument("worker_script")
@click.argument("includes", nargs=-1)
@workflow_out_option
@max_parallel_option
@click.option(
    "--tasks-per-job",
    type=from_one,
    default=1,
    show_default=True,
    metavar="K",
    help="Let each element of the array work through K tasks.",
)
@click.option("--parallel", type=from_one, default=1, show_default=True, metavar="P", help="P of these K at a time.")
@click.option("--update", is_flag=True, help="Take over the requirements and pins of the wf.esis2.json beside it.")
@click.option("--workdir-path", metavar="DIR", help="Where the runs are made.  [default: beside the workflow file]")
def setup(
    setup_script: str,
    parameter_generator: str,
    sbatch_template: str,
    worker_script: str,
    includes: tuple[str, ...],
    workflow_out: str | None,
    max_parallel: int | None,
    tasks_per_job: int,
    parallel: int,
    update: bool,
    workdir_path: str | None,
) -> None:
    """Describe a workflow by its four files (and what they include) in a workflow file.

    0.0.4's order (template, worker, generator behind the setup script) is recognised by the template. At most 10 tasks
    run at a time unless -m says otherwise.
    """
    from esis.model.workflow import DEFAULT_MAX_PARALLEL, DEFAULT_NAME
    from esis.operations.workflow_files import Amounts, set_up

    target = Path(workflow_out if workflow_out is not None else DEFAULT_NAME)
    files = (setup_script, parameter_generator, sbatch_template, worker_script)
    throttle = DEFAULT_MAX_PARALLEL if max_parallel is None else max_parallel
    amounts = Amounts(throttle, tasks_per_job, parallel)
    made = set_up(files, includes, target, amounts, workdir_path, make_context(), update)
    click.echo(made.path)
