"""Check before anything is written that a workflow's files can be used, and that its runs can be made."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from esis.errors import BadInput, EsisError
from esis.files import is_there
from esis.model import template
from esis.model.requirements import Node
from esis.model.workflow import Workflow
from esis.operations.build.worker_bit import check_worker


def check_sources(node: Node, needs_dependency: bool = False) -> None:
    """Check before anything is written that the workflow's files can be used. Raises BadInput."""
    check_workflow(node.workflow, node.run.path.parent, needs_dependency)
    if not is_there(node.run.path):  # else the run's own copy counts
        check_worker(node.workflow)


def check_workflow(workflow: Workflow, parent: Path, needs_dependency: bool = False) -> None:
    """Check what `check_sources` does, before the hash is known; the run will be made in `parent`."""
    for stored in (workflow.setupscript, workflow.param_generator):
        if not os.access(workflow.resolve(stored), os.X_OK):
            raise BadInput(f"{workflow.resolve(stored)} is not executable", f"chmod +x {workflow.resolve(stored)}")
    source = workflow.resolve(workflow.sbatchtemplate)
    text = template.read_template(source)
    template.check(text, str(source), needs_dependency)
    if template.WORKER_MARK not in text and not source.name.endswith(template.JINJA_SUFFIX):
        raise BadInput(f"{source} doesn't hold {template.WORKER_MARK}", f"call the worker: srun {template.WORKER_MARK}")
    if "\n" in str(parent):
        raise BadInput(f"the path {str(parent)!r} holds a newline, which no path of a run may", "rename the directory")
    for stored in workflow.param_includes:
        include = os.path.realpath(workflow.resolve(stored))
        if os.path.realpath(parent) == include or os.path.realpath(parent).startswith(f"{include}/"):
            raise BadInput(
                f"the runs would be made in {parent}, inside of the include {stored}: each would be a part of the next",
                "include less, or let workdirpath lead elsewhere (esis setup --workdir-path)",
            )
    _check_parent(parent)


def _check_parent(parent: Path) -> None:
    """Refuse a directory in which others could exchange a run's files under way."""
    try:
        mode = parent.stat().st_mode
    except FileNotFoundError:
        return
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise EsisError(f"everybody may write to {parent} and remove what is in it", f"chmod o-w {parent}, or +t")
