"""Build a run's working directory: snapshot, generator, script, setup script. Nothing is submitted here.

The snapshot is made aside and renamed into place together with its lock, so that of several builders one wins.
Generator and setup script run at the final path (setup scripts bake absolute paths in). The directory counts as a run
once state.json says so; an interrupted build is moved away and built again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from esis.environment import clean_environment
from esis.errors import BadInput, Busy, EsisError, FileTrouble, UserScriptFailed, printable
from esis.files import fsync_directory, sweep_temporaries, sync_tree, write_atomic
from esis.locks import Owner, acquire, held, holder, make_lock, release, sweep, user_name
from esis.model import template
from esis.model.limits import Limits
from esis.model.parameters import check_indices, find_parameter_files
from esis.model.parametersets import write_index
from esis.model.requirements import Node, base_name
from esis.model.workdir import STAGING_PREFIX, RunDir
from esis.model.workflow import Workflow, dump
from esis.operations.context import Context
from esis.operations.evidence import Evidence, gather
from esis.operations.interrupted import check_script, check_untouched, discard, remove, sweep_builds
from esis.operations.old_runs import check_ours
from esis.operations.plan import UNPACKED, Packing, Plan, plan
from esis.operations.snapshot import copy_workflow, make_read_only
from esis.process import Completed, run_logged
from esis.processes import process_start
from esis.records import provenance, required, stage, traces
from esis.records.log_names import missing_directories
from esis.records.stage import Stage, State
from esis.schedulers.directives import Options

_NUMBER = re.compile(r"[0-9]{1,12}\Z")
_SHOWN_LINES = 20
_README = """\
This directory was made by ESIS (Easy SLURM Isolated Scanner). It is one run of the workflow

    {workflow}

and it can be understood, rerun and finished with a shell and sbatch alone:

    cd {cwd}
    sbatch ../sbatch.sh               # the tasks of the latest submission once more
    sbatch --array=3,7 ../sbatch.sh   # some of them

(Add an empty --dependency= where sbatch.sh names jobs that Slurm has forgotten. A line esis_offset=N in sbatch.sh: N is
added to what --array counts. Several arrays in __esis__/submissions/<number>.json: sbatch.sh holds the first one, and
SLURM_ESIS_OFFSET=1001 sbatch --array=0-998 ../sbatch.sh is another. <number>.map there: --array counts its lines from
0. A line esis_pack= in sbatch.sh: --array counts packs of that many tasks.)

  sbatch.sh       the script of the latest submission, made from {template}
  parameters/     parameters.<n>.json, one for each task, or parameters.jsonl, a line for each, written by {generator}
  results/        results.<n>.json, if the tasks export any
  cwd/            where the tasks run and their logs (slurm-*.out) are
  includes/       files that the scripts use
  {setup} prepared this directory; it is not to be run again
  __esis__/       ESIS's records: how the directory was made, what was submitted, how each task ended
                  (__esis__/tasks/<task>.<submission>.<job>.<restart>.<start>.exit<code>.<end>)

With ESIS: esis status, esis resubmit, esis list, esis doc layout
"""


def check_sources(node: Node, needs_dependency: bool = False) -> None:
    """Check before anything is written that the workflow's files can be used. Raises BadInput."""
    check_workflow(node.workflow, node.run.path.parent, needs_dependency)


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
    _check_parent(parent)


@contextlib.contextmanager
def hold_run(run: RunDir, context: Context) -> Iterator[Evidence]:
    """Hold a run that is built during the block; yields what it tells. Raises Busy, BadInput where it isn't one."""
    check_ours(run, "changed")
    if not run.private.is_dir():
        raise BadInput(f"there is no run {run.path}", "esis run builds it")
    with _troubles(f"locking {run.label}"):
        owner, found = _lock(run, context)
    with held(run.lock, owner), _troubles(f"working on {run.label}"):
        if not found.built:
            raise BadInput(f"{run.path}: its build was interrupted", "esis run builds it again")
        yield found


@contextlib.contextmanager
def _troubles(doing: str) -> Iterator[None]:
    """Say of every OSError in the block what was being done, and that the same command goes on."""
    try:
        yield
    except OSError as error:
        raise FileTrouble.of(error, doing, "once that is mended, the same command goes on") from error


@contextlib.contextmanager
def prepared(node: Node, context: Context, limits: Limits | None = None) -> Iterator[Evidence]:
    """Hold the run of `node`, built if it wasn't, during the block; yields what it tells.

    Raises Busy where another process is at it, UserScriptFailed, FileTrouble and other EsisErrors.
    """
    run = node.run
    with _troubles(f"building {run.label}"):
        owner, found = _take(node, context, limits)
    with held(run.lock, owner):
        if found is None:
            with _troubles(f"building {run.label}"):
                _finish(node, run, context)
                found = _gathered(run)
        with _troubles(f"working on {run.label}"):
            yield found


def trial(node: Node, scratch: Path, context: Context, throttle: int) -> tuple[State, str]:
    """Build the run below `scratch` as far as its script, for a dry run; return its state and script."""
    run = RunDir.of(scratch, node.digest)
    for directory in (run.path, *run.directories()):
        directory.mkdir()
    copy_workflow(node, run, context)
    indices = generate(node, run, context)
    state = State(Stage.PREPARED, indices[0], len(indices), throttle)
    return state, render_script(node.workflow, run, plan(indices, throttle, None), indices, 1,
                                records=context.records).text


def generate(node: Node, run: RunDir, context: Context) -> Sequence[int]:
    """Run the parameter generator in parameters/ and return the sorted indices. Raises UserScriptFailed."""
    done = _run_script(node, run, node.workflow.param_generator, run.parameters, run.generator_log, context)
    printed = done.stdout.decode("utf-8", "replace").strip()
    if not _NUMBER.match(printed):
        found = f"it printed {printed[:60]!r}" if printed else "it printed nothing"
        raise UserScriptFailed(f"the parameter generator has to print the number of parameter sets and nothing else on "
                               f"standard output; {found}{_tail(done)}", f"the whole output is in {run.generator_log}")
    try:
        indices = _written(run)
        last_index = check_indices(indices, int(printed))
    except UserScriptFailed as error:
        raise UserScriptFailed(error.message + _tail(done), error.advice) from None
    if last_index:
        context.say(f"note: the generator printed {printed}, the last index, for {len(indices)} parameter sets; print "
                    f"their number")
    return indices


def _written(run: RunDir) -> Sequence[int]:
    """Return the indices of what the generator wrote: files, or the lines of one file."""
    files = find_parameter_files(run.parameters)
    if not run.parameters_lines.exists():
        return range(files[0], files[0] + len(files)) if files and files[-1] - files[0] + 1 == len(files) else files
    if files:
        raise UserScriptFailed(f"the parameter generator wrote {run.parameters_lines.name} and {len(files)} files "
                               f"parameters.<n>.json", "write the one or the others")
    return range(write_index(run.parameters_lines))


def render_script(workflow: Workflow, run: RunDir, planned: Plan, tasks: Sequence[int], submission: int,
                  dependency: str | None = None, records: bool = True, packing: Packing = UNPACKED
                  ) -> template.Rendered:
    """Return the script of a submission of `tasks`, made from the template of the snapshot."""
    name = base_name(workflow.sbatchtemplate)
    pack = template.Pack(packing.per_job, packing.parallel, tasks[0], tasks[-1]) if packing.per_job > 1 else None
    first = planned.arrays[0]
    values = template.Values(array=first.spec, worker=base_name(workflow.workerscript), submission=submission,
                             dependency=dependency, tasks=len(tasks), digest=run.digest, records=records,
                             offset=first.offset, pack=pack, arrays=len(planned.arrays),
                             mapped=tasks if planned.mapped else None, required=required.count(run))
    return template.render(template.read_template(run.path / name), name, values)


def _take(node: Node, context: Context, limits: Limits | None) -> tuple[Owner, Evidence | None]:
    """Get the lock of the run, and what it tells; None where it is built as far as the snapshot."""
    run = node.run
    check_ours(run, "built or submitted again")
    what = run.label
    parent = run.path.parent
    parent.mkdir(parents=True, exist_ok=True)
    sweep_builds(parent)
    for _ in range(10):
        if not os.path.lexists(run.path):
            owner = Owner.current()
            if _publish(node, context, limits, owner):
                return owner, None
            continue
        try:
            owner, found = _lock(run, context)
        except FileNotFoundError:
            continue  # another esis has just moved an interrupted build away
        if found.built:
            return owner, found
        stopped = (found.state or State(Stage.SNAPSHOT)).stage.value
        context.say(f"{what}: the build was interrupted while {stopped}; building it again")
        discard(run.path, owner)
    if not run.private.is_dir():
        raise EsisError(f"{run.path} is in the way: it holds no {run.private.name}/, so nobody knows what it is",
                        "move it away, or remove it if nothing in it is worth keeping")
    holding = holder(run.lock)
    raise Busy(f"{what}: {holding or 'another process'} is at it", "wait for it, then repeat the command")


def _lock(run: RunDir, context: Context) -> tuple[Owner, Evidence]:
    """Lock a directory that is there already, read it, and tidy up what killed processes left in it."""
    _check_owner(run)
    owner = Owner.current()
    acquire(run.lock, owner, run.label, context.take_over)
    try:
        sweep(run.lock)
        found = _gathered(run)
        if found.state is None:
            raise EsisError(f"{run.path} holds no {run.state.name}, so what stage it is in isn't known",
                            "it is left as it is; esis doc by-hand tells how to go on")
        if not found.built:
            check_script(run, found.state, context)
            check_untouched(run, found.state)
        elif not found.marked_complete:
            traces.check_submissions(run, found.submissions)
        for directory in (run.path, run.private, run.submissions, run.parameters):
            sweep_temporaries(directory)
    except BaseException:
        release(run.lock, owner)
        raise
    return owner, found


def _gathered(run: RunDir) -> Evidence:
    found = gather(run)
    if found is None:
        raise EsisError(f"{run.path} vanished while it was being run", "run again")
    return found


def _publish(node: Node, context: Context, limits: Limits | None, owner: Owner) -> bool:
    """Make the snapshot aside and rename it into place; False where somebody else was faster."""
    run = node.run
    staging = RunDir(run.path.parent / f"{STAGING_PREFIX}{run.digest[:12]}-{owner.text()}")
    try:
        for directory in (staging.path, *staging.directories()):
            directory.mkdir()
        copy_workflow(node, staging, context)
        write_atomic(staging.wf_status, node.status_text)
        write_atomic(staging.workflow_definition, dump(node.workflow))
        provenance.save(staging, node.workflow, context.argv, limits)
        hook = Path(provenance.__file__).with_name("task.sh").read_text("utf-8")
        write_atomic(staging.task_hook, hook)
        write_atomic(staging.completed, "0")
        write_atomic(staging.readme, _readme(node))
        _write_requirements(node, staging)
        stage.save(staging, State(Stage.SNAPSHOT))
        make_lock(staging.lock, owner)
        for directory in (*reversed(staging.directories()), staging.path):
            fsync_directory(directory)
        try:
            staging.path.rename(run.path)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                remove(staging.path)
                return False
            raise
        fsync_directory(run.path.parent)
    except BaseException:
        remove(staging.path)
        raise
    return True


def _finish(node: Node, run: RunDir, context: Context) -> None:
    """Run generator and setup script in the published snapshot."""
    stage.save(run, State(Stage.GENERATING))
    indices = generate(node, run, context)
    throttle = node.workflow.maxparallel
    script = render_script(node.workflow, run, plan(indices, throttle, None), indices, 1, records=context.records)
    write_atomic(run.script, script.text, executable=True)
    building = State(Stage.SETTING_UP, indices[0], len(indices), throttle)
    stage.save(run, building)
    _run_script(node, run, node.workflow.setupscript, run.path, run.setup_log, context, building)
    for directory in missing_directories(Options.of(script.text), run.cwd):
        context.say(f"{run.label}: there is no directory {directory} for the logs, and tasks fail without it; let the "
                    "setup script make it")
    make_read_only(node, run)
    # What the scripts wrote has to outlast a power cut before anything says that tasks may use it.
    sync_tree(run.path)
    stage.save(run, State(Stage.PREPARED, indices[0], len(indices), throttle))


def _run_script(node: Node, run: RunDir, stored: str, cwd: Path, log: Path, context: Context,
                building: State | None = None) -> Completed:
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

    def started(pid: int) -> None:
        if run.state.exists():
            owner = replace(Owner.current(), pid=pid, started=process_start(pid) or 0)
            # An error of ours, not of the script that was just started.
            with _troubles(f"building {run.label}"):
                stage.save(run, replace(before, pid=pid, pid_started=owner.started, process=owner.text()))

    try:
        done = run_logged([str(script)], cwd=cwd, env=env, log=log, timeout=context.script_timeout, live=context.live,
                          started=started)
    except OSError as error:
        if error.filename in (str(log), None) and error.errno != errno.ENOEXEC:
            raise
        why = "it has no '#!' line" if error.errno == errno.ENOEXEC else str(error.strerror)
        raise UserScriptFailed(f"the {what} {base_name(stored)} can't be started: {why}",
                               "look at its first line") from error
    if (done.timed_out or done.code != 0) and run.state.exists():
        # From another machine nobody could see that it is over. Whoever can't write this here hears why it failed.
        with contextlib.suppress(OSError):
            stage.save(run, before)
    if done.timed_out:
        raise UserScriptFailed(f"the {what} {base_name(stored)} was ended after {context.script_timeout:.0f} s"
                               f"{_tail(done)}", f"its output is in {log}; --script-timeout sets the limit")
    if done.code != 0:
        ended = f"exit code {done.code}" if done.code > 0 else f"signal {-done.code}"
        raise UserScriptFailed(f"the {what} {base_name(stored)} ended with {ended}{_tail(done)}",
                               f"its output is in {log}; mend it and run again: nothing was submitted")
    return done


def _tail(done: Completed) -> str:
    """Return the last lines of a script's output, errors last."""
    text = (done.stdout[-2000:] + b"\n" + done.stderr[-2000:]).decode("utf-8", "replace")
    lines = [printable(line.rstrip()) for line in text.splitlines() if line.strip()]
    return f" (its last lines: {' | '.join(lines[-_SHOWN_LINES:])})" if lines else ""


def _write_requirements(node: Node, staging: RunDir) -> None:
    """Write which runs a job checks before its work; without those whose tasks write no records: it couldn't tell."""
    found = [gather(item.run) for item in node.requirements]
    required.save(staging, ((item.indices[0], item.indices[-1], item.run.path) for item in found
                            if item is not None and item.indices and all(sub.records for sub in item.submissions)))


def _readme(node: Node) -> str:
    workflow = node.workflow
    return _README.format(workflow=printable(str(workflow.path)), cwd=template.quote(node.run.cwd),
                          template=base_name(workflow.sbatchtemplate), generator=base_name(workflow.param_generator),
                          setup=base_name(workflow.setupscript))


def _check_parent(parent: Path) -> None:
    """Refuse a directory in which others could exchange a run's files under way."""
    try:
        mode = parent.stat().st_mode
    except FileNotFoundError:
        return
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise EsisError(f"everybody may write to {parent} and remove what is in it", f"chmod o-w {parent}, or +t")


def _check_owner(run: RunDir) -> None:
    found = run.path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise EsisError(f"{run.path} is in the way: it is no directory", "look at it, and remove it")
    if found.st_uid != os.getuid():
        raise Busy(f"{run.path} belongs to {user_name(found.st_uid)}",
                   "set another --workdir-path, or let its owner run it")
