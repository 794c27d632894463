"""Build a run's working directory: snapshot, generator, script, setup script. Nothing is submitted here.

The snapshot is made aside and renamed into place together with its lock, so that of several builders one wins.
Generator and setup script run at the final path (setup scripts bake absolute paths in). The directory counts as a run
once state.json says so; an interrupted build is moved away and built again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from esis.errors import BadInput, Busy, EsisError, UserScriptFailed, printable
from esis.files import fsync_directory, is_directory, is_there, refresh, sweep_temporaries, sync_tree, write_atomic
from esis.locks import Owner, acquire, held, holder, make_lock, release, still, sweep, user_name
from esis.model.fingerprint import BYTECODE
from esis.model.limits import Limits
from esis.model.parametersets import ParameterSets
from esis.model.requirements import Node, base_name
from esis.model.workdir import STAGING_PREFIX, RunDir
from esis.model.workflow import dump
from esis.operations.build.interrupted import check_script, check_untouched, discard, remove, sweep_builds
from esis.operations.build.scripts import generate, run_script, troubles
from esis.operations.build.snapshot import copy_workflow, files_of, make_read_only, marks_of
from esis.operations.context import Context
from esis.operations.submission.arrays import plan
from esis.operations.submission.script import render_script
from esis.operations.witness.evidence import Evidence, gather
from esis.operations.witness.old_runs import check_ours
from esis.records import provenance, required, stage, traces
from esis.records.log_names import missing_directories
from esis.records.stage import Stage, State
from esis.schedulers.directives import Options

_COARSE_NS = 2_000_000_000
_NAMED = 3
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


@contextlib.contextmanager
def hold_run(run: RunDir, context: Context) -> Iterator[Evidence]:
    """Hold a run that is built during the block; yields what it tells. Raises Busy, BadInput where it isn't one."""
    check_ours(run, "changed")
    if not is_directory(run.private):
        raise BadInput(f"there is no run {run.path}", "esis run builds it")
    with troubles(f"locking {run.label}"):
        owner, found = _lock(run, context)
    with held(run.lock, owner), troubles(f"working on {run.label}"):
        if not found.built:
            raise BadInput(f"{run.path}: its build was interrupted", "esis run builds it again")
        yield found


@contextlib.contextmanager
def prepared(node: Node, context: Context, limits: Limits | None = None) -> Iterator[Evidence]:
    """Hold the run of `node`, built if it wasn't, during the block; yields what it tells.

    Raises Busy where another process is at it, UserScriptFailed, FileTrouble and other EsisErrors.
    """
    run = node.run
    with troubles(f"building {run.label}"):
        owner, found = _take(node, context, limits)
    with held(run.lock, owner):
        if found is None:
            with troubles(f"building {run.label}"):
                _finish(node, run, context)
                found = _gathered(run)
        with troubles(f"working on {run.label}"):
            yield found


def trial(node: Node, scratch: Path, context: Context, throttle: int) -> tuple[State, str]:
    """Build the run below `scratch` as far as its script, for a dry run; return its state and script."""
    run = RunDir.of(scratch, node.digest)
    for directory in (run.path, *run.directories()):
        directory.mkdir()
    copy_workflow(node, run, context)
    indices = generate(node, run, context)
    state = State(Stage.PREPARED, indices[0], len(indices), throttle)
    return state, render_script(
        node.workflow, run, plan(indices, throttle, None), indices, 1, records=context.records
    ).text


def _take(node: Node, context: Context, limits: Limits | None) -> tuple[Owner, Evidence | None]:
    """Get the lock of the run, and what it tells; None where it is built as far as the snapshot."""
    run = node.run
    check_ours(run, "built or submitted again")
    what = run.label
    parent = run.path.parent
    parent.mkdir(parents=True, exist_ok=True)
    sweep_builds(parent)
    for _ in range(10):
        if not is_there(run.path):
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
        discard(run, owner)
    if not is_directory(run.private):
        raise EsisError(
            f"{run.path} is in the way: it holds no {run.private.name}/, so nobody knows what it is",
            "move it away, or remove it if nothing in it is worth keeping",
        )
    holding = holder(run.lock)
    raise Busy(f"{what}: {holding or 'another process'} is at it", "wait for it, then repeat the command")


def _lock(run: RunDir, context: Context) -> tuple[Owner, Evidence]:
    """Lock a directory that is there already, read it, and tidy up what killed processes left in it."""
    _check_owner(run)
    owner = Owner.current()
    acquire(run.lock, owner, run.label, context.take_over)
    try:
        sweep(run.lock)
        refresh(run.submissions)  # another login node may have submitted a moment ago
        found = _gathered(run)
        if found.state is None:
            raise EsisError(
                f"{run.path} holds no {run.state.name}, so what stage it is in isn't known",
                "it is left as it is; esis doc by-hand tells how to go on",
            )
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
        synced = [fsync_directory(directory) for directory in (*reversed(staging.directories()), staging.path)]
        if not all(synced):
            context.say(
                f"{run.label}: the file system there syncs no directories, so what was done last may be gone after a "
                "power cut; esis status shows what there is then"
            )
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


def _set_back(directory: Path) -> int:
    """Return a directory's time, in ns since 1970, once it lies so far back that any change to come will show.

    Lustre counts whole seconds, and a setup script may be through in less.
    """
    found = directory.stat()
    os.utime(directory, ns=(found.st_atime_ns, found.st_mtime_ns - _COARSE_NS))
    return directory.stat().st_mtime_ns


def _finish(node: Node, run: RunDir, context: Context) -> None:
    """Run generator and setup script in the published snapshot."""
    held_still = still(run.lock, run.label)
    stage.save(run, State(Stage.GENERATING), held_still)
    copies = [path for path in files_of(node, run) if BYTECODE not in path.relative_to(run.path).parts]
    copied = marks_of(copies)
    indices = generate(node, run, context)
    throttle = node.workflow.maxparallel
    script = render_script(node.workflow, run, plan(indices, throttle, None), indices, 1, records=context.records)
    write_atomic(run.script, script.text, executable=True, check=held_still)
    building = State(Stage.SETTING_UP, indices[0], len(indices), throttle)
    stage.save(run, building, held_still)
    counted = _set_back(run.parameters)
    run_script(node, run, node.workflow.setupscript, run.path, run.setup_log, context, building)
    held_still()
    missing = ParameterSets(run).missing(indices) if run.parameters.stat().st_mtime_ns != counted else ()
    if missing:
        raise UserScriptFailed(
            f"the setup script left no parameter sets of {len(missing)} tasks, {missing[0]} the first of them",
            "let it leave parameters/ as it is; nothing was submitted",
        )
    _check_left(node, run)
    # Taken away may be what nobody needs any more; 0.0.4's users fill in the worker here, and that goes on working.
    changed = [path for path, before, now in zip(copies, copied, marks_of(copies)) if now not in (None, before)]
    if changed:
        names = ", ".join(str(path.relative_to(run.path)) for path in changed[:_NAMED])
        context.say(
            f"{run.label}: generator or setup script wrote to {printable(names)}{' …' if changed[_NAMED:] else ''}, so "
            "the hash isn't that of what runs, and esis verify will say so; let them write files of their own"
        )
    for directory in missing_directories(Options.of(script.text), run.cwd):
        if directory == run.cwd and not is_there(directory):
            continue  # whoever submits makes it again
        context.say(
            f"{run.label}: there is no directory {directory} for the logs, and tasks fail without it; let the "
            "setup script make it"
        )
    refused = make_read_only(copies)
    if refused is not None:
        context.say(
            f"{run.label}: the copies of the workflow's files stay writable ({refused.strerror}: "
            f"{printable(str(refused.filename))}); take care not to change them"
        )
    # What the scripts wrote has to outlast a power cut before anything says that tasks may use it.
    sync_tree(run.path)
    stage.save(run, State(Stage.PREPARED, indices[0], len(indices), throttle), held_still)


def _check_left(node: Node, run: RunDir) -> None:
    """Raise UserScriptFailed where generator or setup script left a run whose tasks couldn't find their pieces."""
    for stored in (node.workflow.sbatchtemplate, node.workflow.workerscript):
        if not is_there(run.path / base_name(stored)):  # no task could be submitted, or begin, ever
            raise UserScriptFailed(
                f"{base_name(stored)} is not in {run.path} any more: the generator or the setup script took it away",
                "let it stay; nothing was submitted",
            )
    with contextlib.suppress(FileNotFoundError):  # whoever submits makes it again
        outside = (run.cwd / "..").resolve(strict=True)
        if outside != run.path.resolve():
            raise UserScriptFailed(
                f"{run.cwd} was made a link, and from there ../ is {outside}: no task finds its worker, or task.sh",
                "let it be a directory, with links to other places in it; nothing was submitted",
            )


def _write_requirements(node: Node, staging: RunDir) -> None:
    """Write which runs a job checks before its work; without those whose tasks write no records: it couldn't tell."""
    found = [gather(item.run) for item in node.requirements]
    required.save(
        staging,
        (
            (item.indices[0], item.indices[-1], item.run.path)
            for item in found
            if item is not None and item.indices and all(sub.records for sub in item.submissions)
        ),
    )


def _readme(node: Node) -> str:
    workflow = node.workflow
    return _README.format(
        workflow=printable(str(workflow.path)),
        cwd=shlex.quote(str(node.run.cwd)),
        template=base_name(workflow.sbatchtemplate),
        generator=base_name(workflow.param_generator),
        setup=base_name(workflow.setupscript),
    )


def _check_owner(run: RunDir) -> None:
    found = run.path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        if run.path.is_symlink():
            raise EsisError(
                f"{run.path} is a link to {run.path.readlink()}, and no run is built or submitted through one",
                "esis status and esis resubmit take the directory that it leads to; or move the run back here",
            )
        raise EsisError(f"{run.path} is in the way: it is no directory", "look at it, and move it away")
    if found.st_uid != os.getuid():
        raise Busy(
            f"{run.path} belongs to {user_name(found.st_uid)}", "set another --workdir-path, or let its owner run it"
        )
