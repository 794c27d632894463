"""The files of a world's workflow, and where everything of a world lies."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.contract.site import BIN
from tests.fakes.fake_slurm.store import BIN as SLURM_BIN

FILES = ("setup.sh", "gen.sh", "template.sh", "worker.sh")
SETUP = "#!/bin/sh\necho ran >>setup-ran\n"
GENERATOR = """#!/bin/sh
n=0
while [ $n -lt {tasks} ]; do printf '{{"n": %s}}\\n' $n >parameters.$n.json; n=$((n + 1)); done
echo {tasks}
"""
TEMPLATE = """#!/bin/sh
#SBATCH --array=TASKARRAYDEFINITION
#SBATCH --time=5
#ESIS_PRIVATE
set -e
WORKERSCRIPT
"""
# The work begins when it says so, and ends when the world says how.
WORKER = """#!/bin/sh
read -r set <../parameters/parameters.$SLURM_ARRAY_TASK_ID.json
go=$WORLD/go.$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}.$SLURM_ARRAY_TASK_ID
mkfifo "$go"
echo "$SLURM_ARRAY_TASK_ID $SLURM_JOB_ID ${SLURM_RESTART_COUNT:-0} $set" >"$WORLD/begun"
read -r code <"$go"
exit "$code"
"""
OWN = "#!/bin/sh\n# a job of the user's own\nexec sleep 1000\n"
SLEEP = "#!/bin/sh\n"
# Called by the hook before it writes a record: the moment at which a node may die.
DATE = '#!/bin/sh\n[ ! -e "$WORLD/die" ] || kill -9 0\nread -r now <"$WORLD/clock"\necho "$now"\n'
# Called by the job that submits the rest: the world runs it, and says how it ended.
CALL = """#!/bin/sh
trap '' TERM
mkfifo "$WORLD/go.$SLURM_JOB_ID.call"
echo "{name} $*" >"$WORLD/begun"
read -r code <"$WORLD/go.$SLURM_JOB_ID.call"
rm "$WORLD/go.$SLURM_JOB_ID.call"
exit "$code"
"""


@dataclass(frozen=True)
class Places:
    """The directories of one world."""

    root: Path

    @property
    def workflow(self) -> Path:
        return self.root / "home" / "scan"

    @property
    def base(self) -> Path:
        """The workflow that the other one requires, in worlds that have it."""
        return self.root / "home" / "base"

    @property
    def slurm(self) -> Path:
        return self.root / "slurm"

    @property
    def clock(self) -> Path:
        """The file that tells jobs the time."""
        return self.root / "clock"

    @property
    def death(self) -> Path:
        """The file whose presence lets a job die where its hook is about to write a record."""
        return self.root / "die"

    def environment(self) -> dict[str, str]:
        """Return the environment of the user's commands, which the jobs inherit."""
        return {
            "PATH": f"{self.root / 'bin'}:{SLURM_BIN}:{BIN}:/usr/bin:/bin",
            "HOME": str(self.root / "home"),
            "USER": "user",
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "WORLD": str(self.root),
            "ESIS_REQUIREMENT_WAIT": "5",
            "XDG_CACHE_HOME": str(self.root / "cache"),
        }

    def lay_out(self, tasks: int, base: int, feed: bool) -> None:
        """Write the workflows' files, and what jobs call; `base`: the tasks of the required one, 0: there is none.

        `feed`: jobs submit what is left over.
        """
        self.workflow.mkdir(parents=True)
        self.slurm.mkdir()
        (self.root / "bin").mkdir()
        files = [(self.root / "own.sh", OWN), (self.root / "bin" / "date", DATE), *self._files(self.workflow, tasks)]
        if base:
            # A job gives what it requires a while, which would be one of real time.
            files += [*self._files(self.base, base), (self.root / "bin" / "sleep", SLEEP)]
            self.base.mkdir()
        if feed:
            files += [(self.root / "bin" / name, CALL.format(name=name)) for name in ("python", "scontrol")]
        for path, text in files:
            path.write_text(text)
            path.chmod(0o755)
        os.mkfifo(self.root / "begun")

    def _files(self, place: Path, tasks: int) -> list[tuple[Path, str]]:
        worker = f"{WORKER}# {place.name}\n"  # one of its own, so that no run is the other one's
        texts = (SETUP, GENERATOR.format(tasks=tasks), TEMPLATE, worker)
        return [(place / name, text) for name, text in zip(FILES, texts)]


def age(root: Path, now: float) -> None:
    """Give files and directories that carry the real time the world's, which is later."""
    for directory, names, files in os.walk(root, topdown=False):
        for name in (*names, *files):
            path = os.path.join(directory, name)
            if os.lstat(path).st_mtime < 2e9:
                os.utime(path, (now, now), follow_symlinks=False)
        if os.lstat(directory).st_mtime < 2e9:
            os.utime(directory, (now, now))


@contextmanager
def scratch() -> Iterator[Path]:
    """Lend a directory in memory, where there is such a file system."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    root = Path(tempfile.mkdtemp(prefix="esis-world-", dir=base))
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)
