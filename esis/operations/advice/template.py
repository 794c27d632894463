"""Read an sbatch template as a shell and Slurm will, and say what its lines lack for what the worker does."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from esis.errors import CorruptState, EsisError
from esis.files import open_regular
from esis.hook import INDEX_VARIABLE, RECORD_VARIABLE
from esis.model.inner_shells import NAMING, calling_line, first_call
from esis.model.log_pattern import DEFAULT
from esis.model.options import script_options
from esis.model.shelltext import WORKER
from esis.model.template import (
    DEPENDENCY_MARK,
    JINJA_SUFFIX,
    WORKER_MARK,
    check,
    has_dependency_line,
    is_posix_shell,
    read_template,
)
from esis.model.worker_call import Call, call_of, made_executable, with_worker
from esis.model.workflow import Workflow
from esis.operations.advice.findings import Finding, note, ok, problem
from esis.operations.advice.worker_status import findings_on_status
from esis.records.log_names import missing_directories, overwritten
from esis.schedulers.directives import Options

_SUBJECT = "template"
_STOPS = re.compile(
    r"\besis\.(?:requeue|should_stop|stopping)\b|scontrol requeue"
    rf"|{RECORD_VARIABLE}|from esis[\w.]* import .*\b(?:requeue|should_stop|stopping)\b"
)
_KEPT = re.compile(rf"\s*(?:export\s+)?\w+=\"?(?:\$\((?:{'|'.join(sorted(NAMING))})\s[^;&|]*|[^\s;&|]*)\Z")
_REQUEUES = re.compile(r"\besis\.requeue\b|from esis[\w.]* import .*\brequeue\b|scontrol requeue")
_WHOLE_ARRAY = re.compile(
    r"scontrol\s+requeue\s+[\"']?\$\{?SLURM_(?:ARRAY_JOB_ID|JOB_ID|JOBID)\}?[\"']?\s*"
    r"(?:$|[;&|#])",
    re.MULTILINE,
)
_REQUEUED_WELL = re.compile(
    r"scontrol\s+requeue\b(?:[^\n;&]|&(?!&))*(?:[\n;]|&&)"
    r"(?:(?!\s*(?:exit|return|\}))[^\n;]*[\n;]){0,2}"
    r"\s*exit(?:[ \t]+0)?[ \t]*(?=$|[;&|}\"'#])",
    re.MULTILINE,
)
_READ_LIMIT = 1024 * 1024  # bytes of a worker or an include that are looked at


def check_template(workflow: Workflow, config: Mapping[str, str]) -> Iterator[Finding]:
    """Look at the template of a workflow, and at its worker as far as the template has to suit it."""
    path = workflow.resolve(workflow.sbatchtemplate)
    try:
        text = read_template(path)
        check(text, str(path), needs_dependency=bool(workflow.requires))
    except EsisError as error:
        yield problem(_SUBJECT, str(error))
        return
    except OSError as error:
        yield problem(_SUBJECT, f"{path}: {error.strerror}")
        return
    found = [
        *_marks(text, path),
        *_shell(text),
        *_call(text, path, workflow),
        *_logs(text, workflow),
        *_worker(text, workflow, config),
    ]
    yield from found or [ok(_SUBJECT, str(path))]


def _marks(text: str, path: Path) -> Iterator[Finding]:
    commands = "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))
    if not path.name.endswith(JINJA_SUFFIX) and WORKER_MARK not in commands:
        yield problem(_SUBJECT, f"{WORKER_MARK} isn't in its commands, so no worker is called: srun {WORKER_MARK}")
    if not has_dependency_line(text):
        yield note(
            _SUBJECT,
            f"there is no line {DEPENDENCY_MARK} among the #SBATCH lines; esis dependency needs one "
            "once the workflow requires another",
        )


def _logs(text: str, workflow: Workflow) -> Iterator[Finding]:
    """Look whether the directories of logs will be there: a task without one fails, and leaves no log."""
    options = Options.of(text)
    if overwritten(options) and workflow.tasks_per_job == 1:  # tasks of a pack have a log each
        yield note(
            _SUBJECT,
            f"all tasks write over one log, {options.output}, and esis log shows of each what the last one wrote: "
            f"let it have a name for each, like {DEFAULT}",
        )
    for directory in missing_directories(options, Path("/nonexistent")):
        made = directory.relative_to("/nonexistent") if directory.is_relative_to("/nonexistent") else directory
        if made == directory:
            yield note(_SUBJECT, f"there is no directory {directory} here for the logs; tasks fail where it is missing")
        elif made.parts and made.name not in _read(workflow, (workflow.setupscript,)):
            yield note(
                _SUBJECT,
                f"logs go to cwd/{made}, and tasks fail without it: let the setup script make it, mkdir -p cwd/{made}",
            )


def _shell(text: str) -> Iterator[Finding]:
    if not is_posix_shell(text):
        yield note(_SUBJECT, "it is no script for a POSIX shell: its tasks write no records, and nothing fences them")


def _call(text: str, path: Path, workflow: Workflow) -> Iterator[Finding]:
    """Look at the line that calls the worker, and at what becomes of its status."""
    outer, inner = first_call(with_worker(text, path.name))
    line = calling_line(outer)
    if line is None:
        return
    before = [piece.partition(WORKER)[0] for piece in (line, calling_line(inner.text) if inner else None) if piece]
    worker = workflow.resolve(workflow.workerscript)
    if worker.is_file() and not os.access(worker, os.X_OK):
        call = call_of(text, path.name)
        if call is Call.COMMAND and not made_executable(workflow):
            yield problem(_SUBJECT, f"it calls the worker, and {worker} is not executable: chmod +x {worker}")
        elif call is not Call.READ:
            yield note(_SUBJECT, f"{worker} is not executable; where it is called as a command, chmod +x {worker}")
    if _replaces_the_shell(before[0], line.partition(WORKER)[2]):
        yield problem(_SUBJECT, "exec in front of the worker: the record of its end is never written; leave exec out")
    kept = _KEPT.match(line) is not None  # in a variable; it is called later
    if "srun" not in re.split(r"[\s();&|]+", outer if kept else " ".join(before)):
        yield note(
            _SUBJECT,
            "the worker is not called with srun: --signal without B: doesn't reach it, and Slurm counts no step",
        )
    yield from findings_on_status(text, path)
    waited = line.rstrip().endswith("&")
    signals = [word for word in _options(text, "signal") if word.startswith("B:")]
    if signals and not waited:
        yield note(
            _SUBJECT,
            f"--signal={signals[-1]} is for the shell, which hears it only when the worker in the "
            "foreground has ended: call it with & and wait $!, or leave B: out and use srun",
        )


def _replaces_the_shell(before: str, behind: str) -> bool:
    """Return whether `exec` puts the worker in the place of the script, not in that of a subshell."""
    found = re.search(r"^(?:[^'\"]*[;&|(])?\s*exec\s[^;&|]*\Z", before)
    if found is None or re.search(r"exec\s+\d*<\s*\Z", before):  # it opens the worker's file
        return False
    ahead = before[: before.rindex("exec")]
    piped = re.match(r"(?:[^;&|]|(?<=[<>])&)*(?:(?<![<>])&(?![&>])|\|(?!\|))", behind)
    return ahead.count("(") <= ahead.count(")") and piped is None


def _worker(text: str, workflow: Workflow, config: Mapping[str, str]) -> Iterator[Finding]:
    """Look whether a worker that stops in time, or asks to be requeued, has what it needs."""
    source = _sources(workflow)
    whole = _WHOLE_ARRAY.search(source) or _WHOLE_ARRAY.search(text)
    if whole is not None:
        yield problem(
            "worker script",
            f"{whole.group().strip()} requeues the whole array; this one task is "
            f'"${{SLURM_ARRAY_JOB_ID}}_${INDEX_VARIABLE}"',
        )
    if _REQUEUED_WELL.search(text) or _REQUEUED_WELL.search(source):
        yield problem(
            _SUBJECT,
            "it asks to be requeued and ends with 0: if it is cancelled while it waits to go on, the task counts as "
            "done; write exit 75",
        )
    if not _STOPS.search(source):
        return
    if not _options(text, "signal"):
        yield note(
            _SUBJECT,
            "the worker stops in time: #SBATCH --signal=USR1@120 tells it before the time limit; "
            "without, it knows from its margin, and SIGTERM comes KillWait before the end",
        )
    if not _options(text, "time"):
        yield note(_SUBJECT, "the worker stops in time, and the template sets no --time: the partition's default holds")
    if not any(word.startswith("a") for word in _options(text, "open-mode")):
        yield problem(
            _SUBJECT,
            "the worker goes on after a requeue: add #SBATCH --open-mode=append, or each start "
            "empties the log of the one before",
        )
    if _REQUEUES.search(source):
        yield from _requeue(text, config)


def _requeue(text: str, config: Mapping[str, str]) -> Iterator[Finding]:
    asked = [option.name for option in script_options(text) if option.name in ("requeue", "no-requeue")][-1:]
    if asked == ["no-requeue"]:
        yield problem(_SUBJECT, "the worker asks to be requeued, and #SBATCH --no-requeue forbids it: take it out")
    elif not asked:
        allowed = config.get("JobRequeue")
        line = "add #SBATCH --requeue"
        if allowed == "0":
            yield problem(_SUBJECT, f"the worker asks to be requeued, which this cluster forbids by default: {line}")
        else:
            why = "this cluster allows it, others may not" if allowed == "1" else "some clusters forbid it by default"
            yield note(_SUBJECT, f"the worker asks to be requeued; {why}: {line}")


def _sources(workflow: Workflow) -> str:
    """Return what can be read of the worker, and of includes that are single files."""
    return _read(workflow, (workflow.workerscript, *workflow.param_includes))


def _read(workflow: Workflow, names: Sequence[str]) -> str:
    """Return what can be read of files of a workflow."""
    texts = []
    for stored in names:
        path = workflow.resolve(stored)
        try:
            with open_regular(path, whole=False) as stream:
                texts.append(stream.read(_READ_LIMIT).decode("utf-8", "replace"))
        except (CorruptState, OSError):
            continue
    return "\n".join(texts)


def _options(text: str, name: str) -> list[str]:
    """Return the values that the #SBATCH lines give to an option, in their order."""
    return [option.value or "" for option in script_options(text) if option.name == name]
