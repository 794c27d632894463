"""See that the run's worker can be executed where its template calls it as a command: no hash tells of the bit."""

from __future__ import annotations

from pathlib import Path

from esis.errors import BadInput, CorruptState, EsisError
from esis.files import open_regular
from esis.model.requirements import base_name
from esis.model.workdir import RunDir
from esis.model.workflow import Workflow
from esis.operations.context import Context
from esis.records import provenance

_OF_THE_OWNER, _OF_ALL = 0o100, 0o111


def check_worker(workflow: Workflow) -> None:
    """Raise BadInput where no task could start the worker, before anything is built."""
    worker = workflow.resolve(workflow.workerscript)
    if not _lacks_bit(worker):
        return
    from esis.model.template import read_template
    from esis.model.worker_call import Call, call_of, made_executable

    template = workflow.resolve(workflow.sbatchtemplate)
    if call_of(read_template(template), template.name) is Call.COMMAND and not made_executable(workflow):
        raise BadInput(f"{worker} is not executable, and {template.name} calls it as a command", f"chmod +x {worker}")


def mend_worker(run: RunDir, workflow: Workflow, context: Context) -> None:
    """Let the run's copy of the worker be executable if the user's file is by now, and is otherwise the same.

    Raises BadInput where no task could start it: each would fail as those before it did.
    """
    copy = run.path / base_name(workflow.workerscript)
    if not _lacks_bit(copy):
        return
    from esis.model.template import read_template
    from esis.model.worker_call import Call, call_of

    template = run.path / base_name(workflow.sbatchtemplate)
    try:
        call = call_of(read_template(template), template.name)
    except (EsisError, OSError):
        call = Call.UNCLEAR  # who submits says what is wrong with it
    if call is Call.READ:
        return
    told = provenance.read(run).workflow_file
    own = Path(told).parent / workflow.workerscript if told is not None else copy
    if not copy.is_symlink() and not _lacks_bit(own) and _same(own, copy):
        copy.chmod(copy.stat().st_mode | (own.stat().st_mode & _OF_ALL))
        context.say(f"{run.label}: {copy.name} wasn't executable in the run; it is now, as {own} is")
    elif call is Call.COMMAND:
        raise BadInput(
            f"{copy} is not executable, and the template calls it as a command: every task would fail",
            f"chmod +x {copy}, then repeat the command; that makes no other run of it",
        )
    else:
        context.say(
            f"{run.label}: note: {copy} is not executable, and {template.name} doesn't tell whether it has to be; if "
            f"tasks can't start it: chmod +x {copy}, then esis resubmit"
        )


def _lacks_bit(path: Path) -> bool:
    """Return whether a file is there, and its owner may not execute it."""
    try:
        return not path.stat().st_mode & _OF_THE_OWNER
    except OSError:
        return False  # who hashes or submits it says what is wrong


def _same(one: Path, other: Path) -> bool:
    from esis.digests import hash_descriptor

    try:
        with open_regular(one) as first, open_regular(other) as second:
            return hash_descriptor(first.fileno()) == hash_descriptor(second.fileno())
    except (CorruptState, OSError):
        return False
