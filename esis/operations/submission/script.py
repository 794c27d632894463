"""Make the script of a submission from the template of the run's snapshot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from esis.digests import sha256
from esis.errors import CorruptState
from esis.files import read_limited, write_atomic
from esis.locks import still
from esis.model import template
from esis.model.requirements import base_name
from esis.model.workdir import RunDir
from esis.model.workflow import Workflow
from esis.operations.submission.arrays import UNPACKED, Packing, Plan
from esis.records import required
from esis.records.submissions import Submission


def render_script(
    workflow: Workflow,
    run: RunDir,
    planned: Plan,
    tasks: Sequence[int],
    submission: int,
    dependency: str | None = None,
    records: bool = True,
    packing: Packing = UNPACKED,
) -> template.Rendered:
    """Return the script of a submission of `tasks`, made from the template of the snapshot."""
    name = base_name(workflow.sbatchtemplate)
    pack = template.Pack(packing.per_job, packing.parallel, tasks[0], tasks[-1]) if packing.per_job > 1 else None
    first = planned.arrays[0]
    values = template.Values(
        array=first.spec,
        worker=base_name(workflow.workerscript),
        submission=submission,
        dependency=dependency,
        tasks=len(tasks),
        digest=run.digest,
        records=records,
        offset=first.offset,
        pack=pack,
        arrays=len(planned.arrays),
        mapped=tasks if planned.mapped else None,
        required=required.count(run),
    )
    return template.render(template.read_template(run.path / name), name, values)


def write_script(run: RunDir, text: str, check: Callable[[], None] | None = None) -> None:
    """Make `text` the script of the run; where it is that already, as after the build, nothing is written.

    `check` is called at the last moment. Raises OSError, and what `check` raises.
    """
    with suppress(CorruptState, OSError):
        if read_limited(run.script) == text.encode("utf-8", "surrogateescape"):
            return
    write_atomic(run.script, text, executable=True, check=check)


def write_map(run: RunDir, intent: Submission) -> None:
    """Write the list that the jobs of a mapped submission read.

    Behind the intent: a map without its record means that the record was lost.
    """
    if intent.mapped:
        text = "".join(f"{task}\n" for task in intent.tasks)
        write_atomic(run.map(intent.number), text, check=still(run.lock, run.label))


def digest_of(script: str) -> str:
    """Return the SHA-256 of a script."""
    return sha256(script.encode("utf-8", "surrogateescape"))
