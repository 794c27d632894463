"""Make and change workflow files."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from esis.errors import BadInput, Busy, CorruptState
from esis.files import names_in, read_limited
from esis.model import template, workflow
from esis.model.fingerprint import Kind, open_source, tree_entries
from esis.model.requirements import check_names, key_of, not_expanded, place_of_runs, resolve
from esis.model.workdir import PREFIX, RunDir, is_hash, is_run_name
from esis.model.workflow import Workflow
from esis.operations.context import Context
from esis.operations.witness.evidence import gather
from esis.operations.witness.target import run_at


@dataclass(frozen=True)
class Amounts:
    """Say how much runs at a time."""

    max_parallel: int
    tasks_per_job: int = 1
    tasks_parallel: int = 1  # of a job's tasks


def set_up(
    files: Sequence[str],
    includes: Sequence[str],
    target: Path,
    amounts: Amounts,
    workdir_path: str | None,
    context: Context,
    update: bool = False,
) -> Workflow:
    """Describe a workflow by its four files, in the present order or in 0.0.4's, and write the workflow file.

    Raises BadInput. Requirements that the workflow file has already are kept; with `update` those of the wf.esis2.json
    beside it are taken over.
    """
    setup, generator, sbatch_template, worker = _in_order(files, context)
    for path in (setup, generator, sbatch_template, worker):
        check_file(path)
    for path, what in ((setup, "setup script"), (generator, "parameter generator")):
        if not os.access(path, os.X_OK):
            raise BadInput(f"the {what} {path} is not executable", f"chmod +x {path}")
    template.check(template.read_template(sbatch_template), str(sbatch_template))
    for include in includes:
        _check_include(Path(include))
    if workdir_path is not None:
        _check_name(Path(workdir_path))
        if workdir_path.startswith(("~", "$")) or not_expanded(workdir_path, Path()) is not None:
            raise BadInput(
                f"--workdir-path {workdir_path!r}: a shell would have made another path of that, and ESIS doesn't",
                "write it without quotation marks, so that your shell does, or the path itself; for a directory that "
                "is called so: mkdir it, and write ./ in front",
            )
    made = Workflow(
        path=target,
        setupscript=stored_path(setup, target),
        param_generator=stored_path(generator, target),
        sbatchtemplate=stored_path(sbatch_template, target),
        workerscript=stored_path(worker, target),
        param_includes=tuple(stored_path(Path(include), target) for include in includes),
        maxparallel=amounts.max_parallel,
        tasks_per_job=amounts.tasks_per_job,
        tasks_parallel=amounts.tasks_parallel,
        workdirpath=stored_path(Path(workdir_path), target) if workdir_path is not None else "./",
    )
    check = _still_as_it_is(target)
    made = _keep(made, update, workdir_path is None, context)
    check_names(made)
    if not os.access(worker, os.X_OK):
        context.say(
            f"note: the worker {worker} is not executable; srun needs that, unless the template names an interpreter"
        )
    workflow.save(made, check)
    return made


def add_requirement(required: Path, name: str, owner: Path, target: Path | None, context: Context) -> Workflow:
    """Write that the workflow `owner` requires the workflow `required` under `name`. Raises BadInput.

    The path is stored as `required` names it, also where another file stands in for it: it counts in the hash.
    """
    if not name or any(ord(character) < 32 or 0xD800 <= ord(character) < 0xE000 for character in name):
        raise BadInput(f"{name!r} can't be the name of a requirement", "use letters and digits")
    inside = run_at(required)
    if inside is not None and os.path.realpath(required) == os.path.realpath(inside.workflow_definition):
        raise BadInput(
            f"{required} is a run's copy of its workflow file, and the files that it names aren't beside it",
            "name the workflow file itself; esis freeze-requirement pins that run",
        )
    _check_name(required)
    workflow.load(workflow.stand_in(required))
    into = _beside(owner, target)
    check = _still_as_it_is(into)
    before = workflow.load(owner)
    stored = stored_path(required, into)
    for other in before.requires:
        if other != stored and key_of(before.requirement_file(other)) == key_of(workflow.stand_in(required)):
            context.say(f"note: {owner} requires that workflow already, as {other}, and goes on naming it so")
            stored = other
    made = workflow.require(before, stored, name)._replace(path=into)
    _check_acyclic(made)
    workflow.save(made, check)
    return made


def freeze(path: Path, name: str, digest: str, target: Path | None = None) -> tuple[Workflow, str]:
    """Pin the requirement called `name` to the run whose hash begins with `digest`; return the whole hash too.

    The path of that run is taken as well, as `esis list` prints it.
    """
    into = _beside(path, target)
    check = _still_as_it_is(into)
    before = workflow.load(path)
    stored = before.requirement_called(name)
    parent = place_of_runs(workflow.load(before.requirement_file(stored)))
    place, _, last = digest.rstrip("/").rpartition("/")
    if digest.startswith("/") or place:
        if not is_run_name(last) or os.path.realpath(place or "/") != os.path.realpath(parent):
            raise BadInput(f"{digest} is no run in {parent}, where those of the requirement are", "give its hash")
        digest = last
    digest = digest[len(PREFIX) :] if digest.startswith(PREFIX) else digest
    digest = digest.rstrip("/").lower()
    found = [known for known in run_digests(parent) if known.startswith(digest)] if digest else []
    if len(found) > 1:
        raise BadInput(
            f"{digest!r} begins the hashes of {len(found)} runs in {parent}: "
            + ", ".join(item[:16] for item in found[:4]),
            "give more digits",
        )
    if not found:
        raise BadInput(
            f"no run in {parent} has a hash that begins with {digest!r}",
            "run the requirement first" if is_hash(digest) else "esis list shows the runs",
        )
    made = workflow.freeze(before, stored, found[0])._replace(path=into)
    workflow.save(made, check)
    return made, found[0]


def unfreeze(path: Path, name: str, target: Path | None = None) -> Workflow:
    """Let the requirement called `name` follow its workflow file again."""
    into = _beside(path, target)
    check = _still_as_it_is(into)
    before = workflow.load(path)
    made = workflow.freeze(before, before.requirement_called(name), None)._replace(path=into)
    workflow.save(made, check)
    return made


def run_digests(parent: Path) -> list[str]:
    """Return the sorted hashes of the runs in a directory; half-built ones are none."""
    digests = []
    for name in sorted(filter(is_run_name, names_in(parent))):
        run = RunDir(parent / name)
        found = gather(run)
        if found is not None and found.built:
            digests.append(run.digest)
    return digests


def stored_path(path: Path, target: Path) -> str:
    """Return how `path` is stored in the workflow file `target`: relative to its directory, links not followed."""
    return os.path.relpath(path, target.parent)


def check_file(path: Path) -> None:
    """Raise BadInput unless `path` is a readable regular file with a name that can be stored."""
    _check_name(path)
    if not os.path.lexists(path):
        raise BadInput(f"there is no file {path}")
    os.close(open_source(path))


def _in_order(files: Sequence[str], context: Context) -> tuple[Path, Path, Path, Path]:
    """Tell the present order from 0.0.4's by the template, which holds the array mark."""
    first, second, third, fourth = (Path(name) for name in files)
    for path in (second, third):
        check_file(path)
    if template.is_template(third):
        return first, second, third, fourth
    if template.is_template(second):
        context.say(
            f"note: taking {second} for the sbatch template (0.0.4's order); the order is now: setup script, "
            f"parameter generator, sbatch template, worker script"
        )
        return first, fourth, second, third
    raise BadInput(
        f"{third} is no sbatch template: it holds no {template.ARRAY_MARK} (nor does {second}, where 0.0.4 had it)",
        "the order is: <setup script> <parameter generator> <sbatch template> <worker script>",
    )


def _check_include(path: Path) -> None:
    _check_name(path)
    if not os.path.lexists(path):
        raise BadInput(f"there is no include {path}")
    if not path.is_dir():
        os.close(open_source(path))
        return
    for entry in tree_entries(path):
        if entry.kind in (Kind.FILE, Kind.EXECUTABLE) and not os.access(path / entry.relative, os.R_OK):
            raise BadInput(f"can't read {path / entry.relative}")


def _check_name(path: Path) -> None:
    text = str(path)
    if any(character in text for character in "\n\r"):
        raise BadInput(f"the path {text!r} holds a newline, which no path of a workflow may", "rename it")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadInput(f"the path {text!r} is not valid UTF-8, so no workflow file can hold it", "rename it") from None


def _beside(owner: Path, target: Path | None) -> Path:
    """Return the file to write, which has to be in the same directory. Raises BadInput."""
    if target is None:
        return owner
    if target.parent.resolve() != owner.parent.resolve():
        raise BadInput(
            f"{target} is not beside {owner}, so its paths would mean other files", "write it into the same directory"
        )
    return target


def _still_as_it_is(path: Path) -> Callable[[], None]:
    """Return what raises Busy where a workflow file has changed since: what is written would take that back."""

    def content() -> bytes | None:
        try:
            return read_limited(path, workflow.FILE_LIMIT)
        except (OSError, CorruptState):  # who reads it for what it says tells why
            return None

    before = content()

    def check() -> None:
        if content() != before:
            raise Busy(f"{path} was changed by another process meanwhile, so nothing was written", "repeat the command")

    return check


def _keep(made: Workflow, update: bool, keep_place: bool, context: Context) -> Workflow:
    """Return the workflow with the requirements of the file that is written anew, and of 0.0.4's beside it on request.

    `keep_place`: also with its place of the runs, for elsewhere all would be run once more.
    """
    old = made.path.with_name(workflow.OLD_NAME)
    beside = made.path.name == workflow.DEFAULT_NAME and old.exists()
    before = workflow.load(made.path) if made.path.exists() else None
    if before is not None:
        made = _keep_requirements(made, before)
        if before.requires:
            context.say(f"{made.path}: keeping its {len(before.requires)} requirement(s)")
        if keep_place and before.workdirpath != made.workdirpath:
            made = made._replace(workdirpath=before.workdirpath)
            context.say(f"{made.path}: keeping {before.workdirpath} for the runs; --workdir-path ./ is beside it")
        _tell_amounts(before, made, context)
    if beside and update:
        other = workflow.load(old)
        made = _keep_requirements(made, other)
        context.say(
            f"{made.path}: taking over {len(other.requires)} requirement(s) and "
            f"{len(other.freeze_requirements)} pin(s) of {old}"
        )
    elif beside:
        context.say(
            f"note: {old} (0.0.4's name) stays as it is: commands that name it use it; its requirements and "
            f"pins are taken over with --update"
        )
    elif made.path.name == workflow.OLD_NAME and made.path.with_name(workflow.DEFAULT_NAME).exists():
        context.say(
            f"note: {made.path.with_name(workflow.DEFAULT_NAME)} stays as it is, and comes first where no "
            f"workflow file is named"
        )
    return made


def _keep_requirements(made: Workflow, other: Workflow) -> Workflow:
    """Return a workflow with the requirements, pins and unknown keys of another one besides, which outrank its own."""
    taken = {*other.requires_names.values()}
    own = [path for path in made.requires if path not in other.requires and made.requires_names.get(path) not in taken]
    return made._replace(
        requires=(*own, *other.requires),
        requires_names={**_only(made.requires_names, own), **other.requires_names},
        freeze_requirements={**_only(made.freeze_requirements, own), **other.freeze_requirements},
        extra={**made.extra, **other.extra},
    )


def _only(values: Mapping[str, str], paths: Container[str]) -> dict[str, str]:
    return {path: value for path, value in values.items() if path in paths}


def _tell_amounts(before: Workflow, made: Workflow, context: Context) -> None:
    for was, now, what, option in (
        (before.maxparallel, made.maxparallel, "tasks at a time", "-m"),
        (before.tasks_per_job, made.tasks_per_job, "tasks in a job", "--tasks-per-job"),
        (before.tasks_parallel, made.tasks_parallel, "of a job's tasks at a time", "--parallel"),
    ):
        if was != now:
            context.say(f"{made.path}: {now} {what} from now on, not {was}, as {option} says, or its default")


def _check_acyclic(made: Workflow) -> None:
    """Resolve the graph as it would be; hashes don't matter here."""

    def read(path: Path) -> Workflow:
        return made if key_of(path) == key_of(made.path) else workflow.load(path)

    resolve(made.path, read, lambda path: "")
