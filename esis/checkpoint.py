"""Keep the checkpoint interface of ESIS 0.0.4 working, with its names and its layout; new workers: esis.checkpoints.

    __checkpoints__/<name>/storage/…              the files
    __checkpoints__/<name>/checkpoint.meta.json   name, seed, iteration
    __checkpoints__/<name>/checkpoint.ok          there once set_OK was called
    __checkpoints__/<name>/storage.before/        the former files, while a plain checkpoint is written anew
    __checkpoints__/<name>/kept/<number>/         of an iterative one: a copy of the files as of the last set_iteration

The last two are new. They are why a worker that is killed while it writes into `storage/` finds the state before.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePath
from typing import Any

from esis.errors import BadInput, CorruptState, FileTrouble
from esis.files import fsync_directory, read_json_object, write_atomic, write_json
from esis.model.workdir import RunDir, is_run_name
from esis.worker.checkpoints import Checkpoint, Checkpoints
from esis.worker.durable import aside, discard, fsync_tree, sweep
from esis.worker.seeds import digest_of, seed_of

_STORAGE, _BEFORE, _KEPT, _META, _OK = "storage", "storage.before", "kept", "checkpoint.meta.json", "checkpoint.ok"


class checkpoint:  # noqa: N801  the names of 0.0.4
    """Be a plain checkpoint: files that are there as a whole, or not at all."""

    def __init__(self, directory: Path, name: str, baseseed: object, files: Path, readonly: bool) -> None:
        """Name its directory; a facility makes these."""
        self._directory = directory
        self._name = name
        self._baseseed = baseseed
        self._files = files
        self._readonly = readonly

    def get_file_name(self, name: str) -> str:
        """Return the path of a file of the checkpoint."""
        return str(self._files / _inner(name, "a file in a checkpoint"))

    def get_seed(self) -> str:
        """Return 64 hex digits: the SHA-256 of base seed and name, or what the checkpoint was made with."""
        stored = _meta(self._directory).get("seed")
        return stored if isinstance(stored, str) else digest_of(self._baseseed, self._name)

    def get_seed_int(self) -> int:
        """Return a seed of 63 bits, made as `esis.task().seed` is; or the one that the checkpoint was made with."""
        stored = _meta(self._directory).get("seed_int")
        return stored if isinstance(stored, int) else seed_of(self._baseseed, self._name)

    def set_OK(self) -> None:  # noqa: N802
        """Declare the files complete."""
        self._check_writable()
        with _trouble(f"completing the checkpoint {self._name}"):
            fsync_tree(self._files)
            fsync_directory(self._directory)
            self._write_meta()
            write_atomic(self._directory / _OK, "")
            if (self._directory / _BEFORE).exists():
                discard(self._directory / _BEFORE)

    def _write_meta(self, **more: object) -> None:
        write_json(self._directory / _META, {"name": self._name, "seed": digest_of(self._baseseed, self._name),
                                             "seed_int": seed_of(self._baseseed, self._name), **more})

    def _check_writable(self) -> None:
        if self._readonly:
            raise BadInput(f"the checkpoint {self._name} was opened to be read", "make one of your own to write to")


class iterative_checkpoint(checkpoint):  # noqa: N801
    """Be the state of a calculation that goes on step by step: write the files, then call set_iteration."""

    def __init__(self, directory: Path, name: str, baseseed: object, files: Path, readonly: bool) -> None:
        """Start from what was kept last."""
        super().__init__(directory, name, baseseed, files, readonly)
        self._saved = _kept(directory)
        self._iteration, self._ok, self._finished = 0, False, False

    def get_iteration(self) -> int:
        """Return the iteration that the files belong to; 0 in the beginning."""
        return self._iteration

    def set_iteration(self, iteration: int) -> None:
        """Keep the files as they are now, as those of this iteration. A kill later on leads back here."""
        self._iteration = int(iteration)
        self._keep()

    def set_OK(self) -> None:  # noqa: N802
        """Keep the files as they are now, and call them complete."""
        self._ok = True
        self._keep()

    def set_run_OK(self) -> None:  # noqa: N802
        """Declare the iterations finished."""
        self._ok = self._finished = True
        self._keep()

    def _load(self, state: dict[str, Any], ok: bool) -> None:
        number = state.get("iteration", 0)
        self._iteration = number if isinstance(number, int) else 0
        self._ok, self._finished = ok, state.get("finished") is True

    def _keep(self) -> None:
        self._check_writable()
        state = {"iteration": self._iteration, "finished": self._finished}
        with _trouble(f"keeping the checkpoint {self._name}"):
            with self._saved.save(self._iteration, ok=self._ok, **state) as copy:
                shutil.copytree(self._files, copy / _STORAGE, symlinks=True)
            self._write_meta(**state)
            if self._ok:
                write_atomic(self._directory / _OK, "")


class checkpoint_facility:  # noqa: N801
    """Make and find checkpoints of a run by their names."""

    def __init__(self, baseseed: object = 0, external_storage_path: str | os.PathLike[str] | None = None,
                 overwrite_path: str | os.PathLike[str] | None = None) -> None:
        """Use the __checkpoints__ of the present run, or the given place instead: a run, or any directory."""
        given = overwrite_path if overwrite_path is not None else external_storage_path
        self._baseseed = baseseed
        self._readonly = False
        self._root = _root(Path(given)) if given is not None else _own_root()
        self._last: iterative_checkpoint | None = None

    @classmethod
    def open_external(cls, path: str | os.PathLike[str]) -> checkpoint_facility:
        """Return the checkpoints of another run, e.g. of a requirement, to be read."""
        other = cls(0, overwrite_path=path)
        if not other._root.is_dir():
            raise BadInput(f"there are no checkpoints in {path}", "is it the wrkdir of a run?")
        other._readonly = True
        return other

    def has_checkpoint(self, name: str) -> bool:
        """Return whether there is a complete checkpoint of that name."""
        return self._plain_files(name) is not None

    def create_checkpoint(self, name: str) -> checkpoint:
        """Begin a checkpoint; one of that name that is complete stays valid until the new one is."""
        directory = self._for_writing(name)
        with _trouble(f"beginning the checkpoint {name}"):
            files = directory / _STORAGE
            if (directory / _OK).exists() and files.is_dir():
                if (directory / _BEFORE).exists():
                    discard(directory / _BEFORE)
                files.rename(directory / _BEFORE)
            # In this order: an ok beside an empty storage would be a lie.
            (directory / _OK).unlink() if (directory / _OK).exists() else None
            fsync_directory(directory)
            _empty(files)
        return checkpoint(directory, name, self._baseseed, files, readonly=False)

    def load_checkpoint(self, name: str) -> checkpoint:
        """Return a complete checkpoint. Raises BadInput where there is none."""
        files = self._plain_files(name)
        if files is None:
            raise BadInput(f"there is no complete checkpoint {name} in {self._root}", "has_checkpoint tells before")
        return checkpoint(files.parent, name, self._baseseed, files, readonly=True)

    def has_iterative_checkpoint(self, name: str) -> bool:
        """Return whether an iterative checkpoint of that name was kept at least once."""
        directory = self._directory(name)
        return _kept(directory).latest is not None or (directory / _META).exists()

    def create_iterative_checkpoint(self, name: str) -> iterative_checkpoint:
        """Begin an iterative checkpoint at iteration 0, without files."""
        directory = self._for_writing(name)
        with _trouble(f"beginning the checkpoint {name}"):
            _empty(directory / _STORAGE)
        self._last = iterative_checkpoint(directory, name, self._baseseed, directory / _STORAGE, readonly=False)
        return self._last

    def open_iterative(self, name: str) -> iterative_checkpoint:
        """Return an iterative checkpoint with its files as of the last set_iteration. Raises BadInput."""
        directory = self._directory(name)
        if not self.has_iterative_checkpoint(name):
            raise BadInput(f"there is no iterative checkpoint {name} in {self._root}",
                           "has_iterative_checkpoint tells before")
        latest = _kept(directory).latest
        files = directory / _STORAGE
        if latest is not None:
            files = latest / _STORAGE if self._readonly else self._restore(latest, files, name)
        found = iterative_checkpoint(directory, name, self._baseseed, files, self._readonly)
        state = dict(latest.note) if latest is not None else _meta(directory)
        found._load(state, bool(state.get("ok")) if latest is not None else (directory / _OK).exists())
        self._last = found
        return found

    def iterative_checkpoint_is_finished(self, name: str) -> bool:
        """Return whether set_run_OK was called for that checkpoint."""
        latest = _kept(self._directory(name)).latest
        state = latest.note if latest is not None else _meta(self._directory(name))
        return state.get("finished") is True

    def set_run_OK(self, name: str | None = None) -> None:  # noqa: N802
        """Declare an iterative checkpoint finished: that of `name`, else the last one made or opened here."""
        found = self._last if name is None or (self._last and self._last._name == name) else self.open_iterative(name)
        if found is None:
            raise BadInput("no iterative checkpoint was made or opened here", "name it: set_run_OK('name')")
        found.set_run_OK()

    def _directory(self, name: str) -> Path:
        return self._root / _inner(name, "a checkpoint")

    def _for_writing(self, name: str) -> Path:
        if self._readonly:
            raise BadInput(f"{self._root} was opened with open_external, to be read", "use a facility of your own")
        directory = self._directory(name)
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def _plain_files(self, name: str) -> Path | None:
        directory = self._directory(name)
        if (directory / _OK).exists() and (directory / _STORAGE).is_dir():
            return directory / _STORAGE
        return directory / _BEFORE if (directory / _BEFORE).is_dir() else None

    @staticmethod
    def _restore(latest: Checkpoint, files: Path, name: str) -> Path:
        with _trouble(f"restoring the checkpoint {name}"):
            sweep(files.parent)
            fresh = aside(files.parent)
            shutil.copytree(latest / _STORAGE, fresh, symlinks=True)
            if files.exists():
                discard(files)
            fresh.rename(files)
        return files


class _trouble:  # noqa: N801  reads like a function
    """Turn an OSError of the block into one that says what was being done."""

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (OSError, shutil.Error)):
            raise FileTrouble.of(error, self._doing, "the one before it is as it was") from error


def _kept(directory: Path) -> Checkpoints:
    return Checkpoints(directory / _KEPT, keep=1)


def _meta(directory: Path) -> dict[str, Any]:
    """Return what stands in checkpoint.meta.json; nothing where it can't be read as JSON."""
    try:
        return read_json_object(directory / _META)
    except (FileNotFoundError, CorruptState):
        return {}


def _empty(directory: Path) -> None:
    sweep(directory.parent)
    if directory.exists():
        discard(directory)
    directory.mkdir()


def _inner(name: str, what: str) -> str:
    """Return a name that stays inside of its directory. Raises BadInput."""
    parts = PurePath(name).parts
    if not parts or PurePath(name).is_absolute() or ".." in parts or "\0" in name:
        raise BadInput(f"{name!r} can't be the name of {what}", "give a relative path without '..'")
    return name


def _root(place: Path) -> Path:
    """Return the directory of checkpoints that a path means: that of a run, or the path itself."""
    run = RunDir(place.absolute())
    return run.checkpoints if is_run_name(run.path.name) or run.checkpoints.is_dir() else run.path


def _own_root() -> Path:
    from esis.worker.task import around_here

    return RunDir(around_here()).checkpoints
