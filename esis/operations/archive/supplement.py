"""Make the files that only an archive has: its README, the table of tasks, a script that waits for nothing."""

from __future__ import annotations

import csv
import io

from esis.errors import printable
from esis.files import read_limited
from esis.model.index_sets import format_ranges
from esis.model.requirements import base_name
from esis.model.template import without_dependency
from esis.operations.archive.crate import About, Subject, description_of, title_of
from esis.operations.witness.evidence import Evidence
from esis.operations.witness.status import RunStatus

COLUMNS = ("task", "state", "reason", "exit_code", "attempts", "job", "restart", "start", "end")
_README = """\
{title}

{description}

This is one run of a parameter scan, wrkdir.{digest},
packed by ESIS (Easy SLURM Isolated Scanner). It can be understood, checked and rerun with a shell and sbatch alone.

Rerun, in Slurm (the setup script and the generator are not to be run again):

    cd cwd
    {some}    # the tasks of the latest submission
    {all}    # all tasks
{note}
Some scripts know absolute paths of where they were made, or modules of that cluster.

Check, in this directory:

    sha256sum -c --quiet manifest-sha256.txt    # every file
    sha256sum <__esis__/wf_status               # the hash in the name of the run, and what it is made of

or, with ESIS, esis verify, which also says whether the hash still belongs to the scripts.

  sbatch.sh                  the script of the latest submission, made from {template}
  {worker}{gap}the work, a process for each task
  parameters/                parameters.<n>.json, one for each task, written by {generator}
  results/                   results.<n>.json, what the tasks exported
  cwd/                       where the tasks ran; logs and chosen files
  includes/                  files that the scripts use
  __esis__/tasks.csv         the state of every task
  __esis__/provenance.json   when and with what the run was made
  __esis__/                  other records: what was submitted, how each attempt ended
  ro-crate-metadata.json     the description of all this for programs (Workflow Run RO-Crate)
  manifest-sha256.txt        SHA-256 of every file
"""
_SHIFTED = """
(The latest submission's arrays don't count tasks. A line esis_offset=N in sbatch.sh: N is added to what --array counts.
Several arrays in __esis__/submissions/{number:04d}.json: SLURM_ESIS_OFFSET=N with sbatch gives the offset of another.
__esis__/submissions/{number:04d}.map: --array counts its lines from 0. esis_pack= in sbatch.sh: it counts packs.)
"""


def readme(subject: Subject, about: About, throttle: int) -> bytes:
    """Return the note for people."""
    workflow, tasks = subject.workflow, sorted(subject.status.tasks)
    array = format_ranges(tasks) + (f"%{throttle}" if throttle else "") if tasks else "0"
    everything = f"sbatch --array={array} ../sbatch.sh"
    latest = subject.evidence.submissions[-1:]
    note = "".join(
        _SHIFTED.format(number=item.number)
        for item in latest
        if item.mapped or item.packed or len(item.arrays) > 1 or item.arrays[0].offset
    )
    return _README.format(
        title=printable(title_of(subject, about)),
        description=printable(description_of(subject, about)),
        digest=subject.run.digest,
        some="sbatch ../sbatch.sh".ljust(len(everything)),
        all=everything,
        note=note,
        gap=" " * max(1, 27 - len(base_name(workflow.workerscript))),
        template=printable(base_name(workflow.sbatchtemplate)),
        worker=printable(base_name(workflow.workerscript)),
        generator=printable(base_name(workflow.param_generator)),
    ).encode("utf-8", "surrogateescape")


def task_table(status: RunStatus, evidence: Evidence) -> bytes:
    """Return the state of every task as CSV; times are seconds since 1970."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for task, found in sorted(status.tasks.items()):
        record = evidence.records.get(task)
        told = (record.job, record.restart, record.start, record.end) if record is not None else (found.job, "", "", "")
        writer.writerow([task, found.state.value, found.reason, found.code, evidence.attempts[task], *told])
    return stream.getvalue().encode("utf-8", "surrogateescape")


def free_script(evidence: Evidence) -> bytes | None:
    """Return sbatch.sh without the jobs that it once waited for; None where it waits for nothing.

    They are gone; Slurm 23.02 and later refuse a script that names them.
    """
    if not evidence.submissions or evidence.submissions[-1].dependency is None:
        return None
    dependency = evidence.submissions[-1].dependency
    text = read_limited(evidence.run.script).decode("utf-8", "surrogateescape")
    return without_dependency(text, dependency).encode("utf-8", "surrogateescape")
