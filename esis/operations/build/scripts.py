"""Run the scripts of the user's that prepare a run: parameter generator and setup script."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from esis.environment import clean_environment
from esis.errors import FileTrouble, UserScriptFailed, printable
from esis.files import is_directory, is_there
from esis.locks import Owner, still
from esis.model.index_sets import check_indices, find_parameter_files
from esis.model.parametersets import write_index
from esis.model.requirements import Node, base_name
from esis.model.workdir import RunDir
from esis.operations.context import Context
from esis.process import Completed, run_logged
from esis.processes import process_start
from esis.records import stage
from esis.records.stage import Stage, State

_NUMBER = re.compile(r"[0-9]{1,12}\Z")
_SHOWN_LINES = 20


def generate(node: Node, run: RunDir, context: Context) -> Sequence[int]:
    """Run the parameter generator in parameters/ and return the sorted indices. Raises UserScriptFailed."""
    done = run_script(node, run, node.workflow.param_generator, run.parameters, run.generator_log, context)
    printed = done.stdout.decode("utf-8", "replace").strip()
    if not _NUMBER.match(printed):
        found = f"it printed {printed[:60]!r}" if printed else "it printed nothing"
        raise UserScriptFailed(
            f"the parameter generator has to print the number of parameter sets and nothing else on "
            f"standard output; {found}{_tail(done)}",
            f"the whole output is in {run.generator_log}",
        )
    try:
        indices = _written(run)
        last_index = check_indices(indices, int(printed))
    except UserScriptFailed as error:
        raise UserScriptFailed(error.message + _tail(done), error.advice) from None
    if last_index:
        context.say(
            f"note: the generator printed {printed}, the last index, for {len(indices)} parameter sets; print "
            f"their number"
        )
    return indices


def _written(run: RunDir) -> Sequence[int]:
    """Return the indices of what the generator wrote: files, or the lines of one file."""
    files = find_parameter_files(run.parameters)
    if not is_there(run.parameters_lines):
        return files
    if files:
        raise UserScriptFailed(
            f"the parameter generator wrote {run.parameters_lines.name} and {len(files)} files parameters.<n>.json",
            "write the one or the others",
        )
    return range(write_index(run.parameters_lines))


def run_script(
    node: Node, run: RunDir, stored: str, cwd: Path, log: Path, context: Context, building: State | None = None
) -> Completed:
    """Run a script of the user's and insist on exit status 0."""
    script = run.path / base_name(stored)
    what = "setup script" if building is not None else "parameter generator"
    includes = str(run.includes)
    previous = os.environ.get("PYTHONPATH")
    env = clean_environment(
        ESIS2_REQUIREMENTS=json.dumps({item.name: str(item.run.path) for item in node.requirements}, sort_keys=True),
        PYTHONPATH=f"{includes}:{previous}" if previous else includes,
    )
    before = building or State(Stage.GENERATING)
    held_still = still(run.lock, run.label)

    def started(pid: int) -> None:
        if is_there(run.state):
            owner = replace(Owner.current(), pid=pid, started=process_start(pid) or 0)
            # An error of ours, not of the script that was just started.
            with troubles(f"building {run.label}"):
                stage.save(run, before._replace(pid=pid, pid_started=owner.started, process=owner.text()), held_still)

    try:
        done = run_logged(
            [str(script)], cwd=cwd, env=env, log=log, timeout=context.script_timeout, live=context.live, started=started
        )
    except OSError as error:
        if error.filename in (str(log), None) and error.errno != errno.ENOEXEC:
            raise
        why = "it has no '#!' line" if error.errno == errno.ENOEXEC else str(error.strerror)
        raise UserScriptFailed(
            f"the {what} {base_name(stored)} can't be started: {why}", "look at its first line"
        ) from error
    if (done.timed_out or done.code != 0) and is_there(run.state):
        # From another machine nobody could see that it is over. Whoever can't write this here hears why it failed.
        with contextlib.suppress(OSError):
            stage.save(run, before, held_still)
    if done.timed_out:
        raise UserScriptFailed(
            f"the {what} {base_name(stored)} was ended after {context.script_timeout:.0f} s{_tail(done)}",
            f"its output is in {log}; --script-timeout sets the limit",
        )
    if done.code != 0:
        ended = f"exit code {done.code}" if done.code > 0 else f"signal {-done.code}"
        raise UserScriptFailed(
            f"the {what} {base_name(stored)} ended with {ended}{_tail(done)}",
            f"its output is in {log}; mend it and run again: nothing was submitted",
        )
    for directory in (run.private, run.parameters):
        if not is_directory(directory):
            raise UserScriptFailed(
                f"the {what} {base_name(stored)} took {directory} away", "let it stay; nothing was submitted"
            )
    return done


def _tail(done: Completed) -> str:
    """Return the last lines of a script's output, errors last."""
    text = (done.stdout[-2000:] + b"\n" + done.stderr[-2000:]).decode("utf-8", "replace")
    lines = [printable(line.rstrip()) for line in text.splitlines() if line.strip()]
    return f" (its last lines: {' | '.join(lines[-_SHOWN_LINES:])})" if lines else ""


@contextlib.contextmanager
def troubles(doing: str) -> Iterator[None]:
    """Say of every OSError in the block what was being done, and that the same command goes on."""
    try:
        yield
    except OSError as error:
        raise FileTrouble.of(error, doing, "once that is mended, the same command goes on") from error
