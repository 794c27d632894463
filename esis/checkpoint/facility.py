"""Make and find the checkpoints of a run by their names, as ESIS 0.0.4 does."""

from __future__ import annotations

import atexit
import os

from esis.checkpoint import disk
from esis.checkpoint.checkpoint import checkpoint, iterative_checkpoint
from esis.checkpoint.disk import CheckpointTrouble, NoSuchPlace, trouble
from esis.checkpoint.endings import ended_well, watch
from esis.checkpoint.opened import enter, marks, may_put_back
from esis.checkpoint.restore import restore
from esis.checkpoint.writers import BEGUN, Writer, claim, forget, forget_quietly, note, noted
from esis.errors import BadInput, CorruptState
from esis.files import fsync_directory, write_atomic
from esis.model.workdir import PREFIX, RunDir, is_run_name
from esis.worker.attempts import check_own
from esis.worker.checkpoints import Checkpoint, Checkpoints
from esis.worker.durable import discard, insist, make, sweep
from esis.worker.task import check_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from esis.checkpoint.opened import Mark


class checkpoint_facility:  # noqa: N801  the names of 0.0.4
    """Make and find checkpoints of a run by their names."""

    def __init__(
        self,
        baseseed: object = 0,
        external_storage_path: str | os.PathLike[str] | None = None,
        overwrite_path: str | os.PathLike[str] | None = None,
    ) -> None:
        """Use the run around the working directory, or the one at `overwrite_path`.

        `external_storage_path` is the root for large files alone (get_file_name with store_external). Raises
        CheckpointTrouble (a ValueError) outside of a run; where the run isn't there, what is asked of it raises
        NoSuchPlace (a FileNotFoundError).
        """
        from pathlib import Path

        self._baseseed = disk.base_seed(baseseed)
        self._external = os.path.abspath(external_storage_path) if external_storage_path is not None else None
        self._run = RunDir(Path(self.get_workdir() if overwrite_path is None else os.path.abspath(overwrite_path)))
        self._readonly = False

    @classmethod
    def open_external(cls, path: str | os.PathLike[str]) -> checkpoint_facility:
        """Return the checkpoints of another run, e.g. of a requirement, to be read.

        Raises NoSuchPlace (a FileNotFoundError).
        """
        if not os.path.isdir(path):
            raise NoSuchPlace(f"there is no run {path}", "is it the wrkdir of a run?", os.fspath(path))
        other = cls(overwrite_path=path)
        other._readonly = True
        return other

    @classmethod
    def get_workdir(cls) -> str:
        """Return the run around the working directory. Raises CheckpointTrouble (a ValueError) outside of one."""
        found = _around_here()
        if found is not None:
            return str(found)
        from esis.worker.task import around_here

        try:
            return str(around_here())  # a worker may have gone elsewhere: the job knows its run
        except BadInput as error:
            raise CheckpointTrouble(
                error.message, "go to its cwd/, or name the run: overwrite_path='wrkdir.…'"
            ) from None

    def has_checkpoint(self, name: str) -> bool:
        """Return whether there is a complete checkpoint of that name."""
        return disk.is_ok(self._directory(name))

    def create_checkpoint(self, name: str) -> checkpoint:
        """Begin a checkpoint. Raises CheckpointTrouble (a ValueError) where there is one.

        What a killed worker began and didn't complete is begun anew.
        """
        directory, meta = self._begin(name, disk.PLAIN)
        return checkpoint(directory, name, meta, directory / disk.STORAGE, fresh=True)

    def load_checkpoint(self, name: str) -> checkpoint:
        """Return a checkpoint, also one that isn't complete. Raises CheckpointTrouble (a ValueError) for none."""
        directory = self._directory(name)
        if not disk.exists(directory) and _kept(directory) is None:
            raise CheckpointTrouble(
                f"there is no checkpoint {name} in {self._run.checkpoints}", "has_checkpoint tells before"
            )
        if _stored(directory).get("__type__") == disk.ITERATIVE:
            return self.open_iterative(name)
        meta = self._meta(directory, disk.PLAIN, _stored(directory))
        return checkpoint(directory, name, meta, directory / disk.STORAGE, self._readonly)

    def has_iterative_checkpoint(self, name: str) -> bool:
        """Return whether there is an iterative checkpoint of that name.

        One whose maker was killed before anything was kept isn't: there is nothing to go on from. Where that can't be
        known (another task, on another machine) it is there.
        """
        directory = self._directory(name)
        if not _is_iterative(directory):
            return False
        begun = noted(directory, BEGUN)
        ended = begun and all(writer.has_ended(self._run.tasks) for writer in begun)
        return not ended or _kept(directory) is not None

    def create_iterative_checkpoint(self, name: str) -> iterative_checkpoint:
        """Begin an iterative checkpoint at iteration 0, without files. Raises as create_checkpoint does."""
        directory, meta = self._begin(name, disk.ITERATIVE)
        # A maker that ends by itself leaves something that exists, as with 0.0.4; only a killed one is begun anew.
        atexit.register(forget_quietly, directory, BEGUN)
        return iterative_checkpoint(directory, name, meta, directory / disk.STORAGE, fresh=True)

    def open_iterative(self, name: str) -> iterative_checkpoint:
        """Return an iterative checkpoint with its files as of the last set_iteration.

        Or as they were left, where all who wrote came to a good end. Where another one has it open and lives, or may
        live, they stay as they are.
        Raises CheckpointTrouble (a ValueError) where there is none, CorruptState where nothing tells the iteration.
        """
        directory = self._directory(name)
        if not _is_iterative(directory):
            raise CheckpointTrouble(
                f"there is no iterative checkpoint {name} in {self._run.checkpoints}",
                "has_iterative_checkpoint tells before",
            )
        latest = _kept(directory)
        stored = _stored(directory) if latest is not None else disk.read_meta(directory)
        files = directory / disk.STORAGE
        meta = self._meta(directory, disk.ITERATIVE, stored)
        if latest is not None and not _belongs(latest, stored, disk.is_ok(directory)):
            latest = None
        known = marks(directory, fresh=not self._readonly)  # one look for all that follows: other ranks may open it
        alone = not self._readonly and may_put_back(directory, known)
        if alone and (directory / disk.KEPT).is_dir():
            with trouble(f"opening the checkpoint {name}"):
                sweep(directory / disk.KEPT)  # at once: to put files back takes long, and others may copy by then
        if latest is not None and (self._readonly or alone or "iteration" not in stored):
            meta["iteration"] = latest.step
        well = latest is not None and ended_well(known, files)
        if latest is not None and self._readonly:
            files = files if well else latest / disk.STORAGE
        elif latest is not None and alone:
            self._go_on(latest, directory, meta, back=not well)
        if not self._readonly:
            # Who only looks leaves what tells of the others' ends.
            self._note_open(directory, name, known, alone and (not well or Writer.current().writes))
        disk.iteration_in(meta, directory)
        return iterative_checkpoint(directory, name, meta, files, self._readonly)

    def iterative_checkpoint_is_finished(self, name: str) -> bool:
        """Return whether set_OK was called on that checkpoint."""
        directory = self._directory(name)
        return _is_iterative(directory) and disk.is_ok(directory)

    def set_run_OK(self) -> None:  # noqa: N802
        """Write 1 into the run's completed.state: this worker says that the whole run is complete."""
        self._check_writable()
        with trouble(f"marking {self._run.path} as complete"):
            self._run.private.mkdir(exist_ok=True)
            write_atomic(self._run.completed, "1")

    def _directory(self, name: str) -> Path:
        inside = disk.inner(name, "a checkpoint")
        self._check_there()
        return self._run.checkpoints / inside

    def _check_there(self) -> None:
        try:
            check_there(self._run)
        except BadInput as error:
            raise NoSuchPlace(error.message, error.advice, str(self._run.path)) from None

    def _check_writable(self) -> None:
        if self._readonly:
            raise CheckpointTrouble(
                f"{self._run.path} was opened with open_external, to be read", "use a facility of your own"
            )
        self._check_there()
        check_own(self._run)

    def _begin(self, name: str, kind: str) -> tuple[Path, dict[str, Any]]:
        """Make the directory of a new checkpoint, with what stands in its meta data. Raises CheckpointTrouble."""
        self._check_writable()
        directory = self._directory(name)
        begun = noted(directory, BEGUN)
        _check_unused(directory, name, begun)
        _check_nobody_makes_it(directory, name, begun, self._run.tasks)
        external = self._external or os.environ.get(disk.EXTERNAL_VARIABLE) or None
        meta = disk.new_meta(kind, directory, self._run.path, self._baseseed, external)
        with trouble(f"beginning the checkpoint {name}"):
            make(directory)
            if not claim(directory, begun):
                raise _being_made(directory, name, "another process")
            try:
                _check_unused(directory, name, begun)  # whoever was faster may have completed it meanwhile
            except CheckpointTrouble:
                forget(directory, BEGUN)
                raise
            sweep(directory)
            if not noted(directory, BEGUN):  # a slow one had taken the mark, and it was swept before he put it back
                note(directory, BEGUN)
            if kind == disk.ITERATIVE:
                enter(directory, marks(directory), alone=True, writes=True)
                watch(directory, directory / disk.STORAGE)
            for leftover in (disk.STORAGE, disk.KEPT):
                if (directory / leftover).is_dir():
                    discard(directory / leftover)
            for mark in (disk.OK, disk.EXTERNAL):  # an ok beside an empty storage would be a lie
                if (directory / mark).is_symlink() or (directory / mark).is_file():
                    (directory / mark).unlink()
            disk.write_meta(directory, meta)
            (directory / disk.STORAGE).mkdir()
            fsync_directory(directory)
        return directory, meta

    def _meta(self, directory: Path, kind: str, stored: dict[str, Any]) -> dict[str, Any]:
        """Return the meta data of a checkpoint that is there: its own, and where they lack something, this run's."""
        meta = {**disk.new_meta(kind, directory, self._run.path, self._baseseed, self._external), **stored}
        if not isinstance(meta["baseseed"], (int, str)):
            meta["baseseed"] = self._baseseed
        if not isinstance(meta["workdir_name"], str) or os.path.basename(meta["workdir_name"]) != meta["workdir_name"]:
            meta["workdir_name"] = self._run.path.name
        if not meta["external_storage_path"]:
            meta["external_storage_path"] = self._external
        return meta

    @staticmethod
    def _note_open(directory: Path, name: str, known: list[Mark], alone: bool) -> None:
        """Write down that this process has it open, `alone`: in place of all that is known of others."""
        with trouble(f"opening the checkpoint {name}"):
            enter(directory, known, alone)
            watch(directory, directory / disk.STORAGE)

    @staticmethod
    def _go_on(latest: Checkpoint, directory: Path, meta: dict[str, Any], back: bool) -> None:
        """Let meta data be those of the copy, and if they go `back` the files; a kill may have left both behind it."""
        with trouble(f"restoring the checkpoint {directory.name}"):
            sweep(directory)
            if back:
                restore(latest / disk.STORAGE, directory / disk.STORAGE, directory)
            if _stored(directory) != meta:
                insist(lambda: disk.write_meta(directory, meta))
            forget(directory, BEGUN)


def _check_unused(directory: Path, name: str, begun: list[Writer]) -> None:
    """Raise CheckpointTrouble where something of that name is of use; `begun`: who had begun it."""
    if disk.is_ok(directory):
        raise CheckpointTrouble(
            f"there is a complete checkpoint {name} in {directory.parent}", "load it, or choose another name"
        )
    going_on = not begun and _stored(directory).get("__type__") == disk.ITERATIVE and disk.exists(directory)
    if going_on or _kept(directory) is not None:
        raise CheckpointTrouble(
            f"there is an iterative checkpoint {name} in {directory.parent}, with an iteration to go on from",
            "open_iterative opens it",
        )


def _check_nobody_makes_it(directory: Path, name: str, begun: list[Writer], records: Path) -> None:
    """Raise CheckpointTrouble where somebody who has begun it is at it, or may be."""
    maker = next((writer for writer in begun if not writer.has_ended(records)), None)
    if maker is not None and maker.lives():
        raise _being_made(directory, name, f"process {maker.pid}")
    if maker is not None:
        raise _being_made(
            directory, name, f"process {maker.pid} on {maker.host}", f"if that is gone: remove {directory}"
        )


def _being_made(directory: Path, name: str, by: str, advice: str = "choose another name") -> CheckpointTrouble:
    return CheckpointTrouble(f"the checkpoint {name} in {directory.parent} is being made by {by}", advice)


def _is_iterative(directory: Path) -> bool:
    """Return whether there is a checkpoint that isn't a plain one; very old ones may not say what they are."""
    there = disk.exists(directory) or _kept(directory) is not None  # killed while the files were being restored
    return there and _stored(directory).get("__type__", disk.ITERATIVE) == disk.ITERATIVE


def _kept(directory: Path) -> Checkpoint | None:
    return Checkpoints(directory / disk.KEPT, keep=1).latest


def _belongs(latest: Checkpoint, stored: dict[str, Any], finished: bool) -> bool:
    """Return whether the copy is what the meta data speak of, or the next one: a kill may come between the two.

    Else something that makes no copies (0.0.4) has gone on with the checkpoint, or `finished` it, and its files count
    as they are.
    """
    if finished and "iteration" in stored and not latest.note.get("finished", False):
        return False
    known = (latest.step, latest.note.get("before", stored.get("iteration")))
    return stored.get("iteration", latest.step) in known


def _stored(directory: Path) -> dict[str, Any]:
    """Return the meta data; nothing where they can't be read."""
    try:
        return disk.read_meta(directory)
    except (OSError, CorruptState):
        return {}


def _around_here() -> Path | None:
    """Return the run at or above the working directory; 0.0.4 goes by the name alone."""
    from pathlib import Path

    try:
        here = Path.cwd()
    except FileNotFoundError:  # somebody has removed it
        return None
    places = [place for place in (here, *here.parents) if place.name.startswith(PREFIX)]
    return next((place for place in places if is_run_name(place.name)), places[0] if places else None)
