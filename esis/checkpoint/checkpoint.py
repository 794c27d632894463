"""Be one checkpoint of 0.0.4's: files that are there as a whole, or the state of a calculation that goes on."""

from __future__ import annotations

import os

from esis.checkpoint import disk
from esis.checkpoint.disk import CheckpointTrouble, trouble
from esis.checkpoint.endings import watch
from esis.checkpoint.opened import declare
from esis.checkpoint.writers import BEGUN, forget
from esis.files import fsync_directory
from esis.model.workdir import RunDir
from esis.worker.attempts import check_own
from esis.worker.checkpoints import Checkpoints
from esis.worker.durable import fsync_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


class checkpoint:  # noqa: N801  the names of 0.0.4
    """Be a plain checkpoint: files that count once set_OK was called."""

    def __init__(
        self, directory: Path, name: str, meta: dict[str, Any], files: Path, readonly: bool = False, fresh: bool = False
    ) -> None:
        """Name its directory, and that of its files; a facility makes these. `fresh`: it was begun just now."""
        self._directory = directory
        self._name = os.fspath(name)  # also a Path
        self._meta = meta
        self._files = files
        self._readonly = readonly
        self._fresh = fresh
        self._external_known = readonly  # the link leads to files of its own; what is only read may be anybody's

    def __repr__(self) -> str:
        return f"<checkpoint {self._directory}>"

    def get_file_name(self, name: str | os.PathLike[str], store_external: bool = False) -> str:
        """Return the path of a file of the checkpoint; with `store_external` on the storage for large files.

        Raises CheckpointTrouble (a ValueError) where no such storage was chosen.
        """
        inside = disk.inner(name, "a file in a checkpoint")
        return str((self._external() if store_external else self._files) / inside)

    def get_external_storage_path(self) -> str:
        """Return the root of the storage for large files. Raises CheckpointTrouble where none was chosen."""
        root = self._meta.get("external_storage_path") or os.environ.get(disk.EXTERNAL_VARIABLE)
        if not isinstance(root, str) or not root:
            raise CheckpointTrouble(
                f"the checkpoint {self._name} has no storage for large files",
                f"give external_storage_path=…, or set {disk.EXTERNAL_VARIABLE}",
            )
        return os.path.abspath(root)

    def get_seed(self) -> str:
        """Return the base seed and the name, joined."""
        return disk.seed_text(self._meta["baseseed"], self._name, self._step())

    def get_seed_int(self) -> int:
        """Return the sum that 0.0.4 made of base seed and name."""
        return disk.seed_number(self._meta["baseseed"], self._name, self._step())

    def set_OK(self) -> None:  # noqa: N802
        """Declare the files complete."""
        self._check_writable()
        with trouble(f"completing the checkpoint {self._name}"):
            self._sync()
            disk.write_meta(self._directory, self._meta)
            disk.say_ok(self._directory)

    def _step(self) -> int | None:
        """Return what the seeds change with."""
        return None

    def _sync(self) -> None:
        """Bring all files to the disk. Raises OSError."""
        fsync_tree(self._files)
        fsync_directory(self._directory)
        if (self._directory / disk.EXTERNAL).is_dir():
            fsync_tree((self._directory / disk.EXTERNAL).resolve())

    def _external(self) -> Path:
        """Return the link to where the large files are, made on first use."""
        from pathlib import Path

        link = self._directory / disk.EXTERNAL
        if link.is_symlink() or link.is_dir():
            if not self._external_known and not disk.is_ok(self._directory):
                doing = f"finding the large files of the checkpoint {self._name}"
                with trouble(doing, f"see that their storage is there, or begin anew without the link {link}"):
                    disk.check_external(link, self._directory)
                self._external_known = True
            return link
        root = self._meta["external_storage_path"] = self.get_external_storage_path()
        place = Path(root, self._meta["workdir_name"], self._name)
        if self._readonly:
            return place
        with trouble(f"making room for large files of the checkpoint {self._name}", disk.ELSEWHERE):
            disk.make_external(place, self._directory, self._fresh)
            try:
                link.symlink_to(place)
            except FileExistsError:
                return link
            fsync_directory(self._directory)
        return link

    def _check_writable(self) -> None:
        if self._readonly:
            raise CheckpointTrouble(
                f"the checkpoint {self._name} was opened to be read", "make one of your own to write to"
            )
        check_own(RunDir(self._directory.parents[1]))


class iterative_checkpoint(checkpoint):  # noqa: N801
    """Be the state of a calculation that goes on step by step: write the files, then call set_iteration."""

    def get_iteration(self) -> int:
        """Return the iteration that the files belong to; 0 in the beginning."""
        return disk.iteration_in(self._meta, self._directory)

    def set_iteration(self, i: int) -> None:
        """Keep the files as they are now, as those of this iteration. A kill later on leads back here."""
        self._keep(int(i), disk.is_ok(self._directory))

    def get_latest(self, name: str | os.PathLike[str], store_external: bool = False) -> str:
        """Return the path of a file, as get_file_name does."""
        return self.get_file_name(name, store_external)

    def set_OK(self) -> None:  # noqa: N802
        """Keep the files as they are now, and call the iterations finished."""
        self._keep(self.get_iteration(), True)
        with trouble(f"completing the checkpoint {self._name}"):
            self._sync()
            disk.say_ok(self._directory)

    def _step(self) -> int:
        return self.get_iteration()

    def _keep(self, iteration: int, finished: bool) -> None:
        """Copy the files, then let the meta data follow; what is between the two is told by `before`."""
        self._check_writable()
        with trouble(f"keeping the checkpoint {self._name}"):
            import shutil  # draws in much

            saved = Checkpoints(self._directory / disk.KEPT, keep=1, sweeps=False)  # all ranks may be at it
            with saved.save(iteration, before=self._meta["iteration"], finished=finished) as copy:
                shutil.copytree(self._files, copy / disk.STORAGE, symlinks=True)
            meta = {**self._meta, "iteration": iteration}
            disk.write_meta(self._directory, meta)
            self._meta = meta
            declare(self._directory)
            watch(self._directory, self._files)
            forget(self._directory, BEGUN)
