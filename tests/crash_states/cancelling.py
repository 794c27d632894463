"""Cut the power while tasks are cancelled: what was told is so, when nothing but the run's notes knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.crash_states import trace
from tests.crash_states.commands import argv_of
from tests.crash_states.disk import Operation
from tests.crash_states.states import State
from tests.faults.bench import Bench, Nursery

TASKS = 3
_TOLD = "told"  # beside what the controller has: somebody has read the answer
_TELL = 'told=$1; shift; "$@" && mkdir "$told"'
BREAKS = {
    "cancelled-without-fsync": "import esis.operations.active.unbegun as m\nm.fsync_directory = lambda path: None"
}
_LATE = {"esis.operations.witness.judge.GRACE_SECONDS": 0}


@dataclass(frozen=True)
class Cancelling:
    """`esis cancel` of a run whose tasks wait, on a cluster without accounting that forgets what has ended at once."""

    bench: Bench
    place: Path
    breaks: ClassVar[Mapping[str, str]] = BREAKS
    jobs: ClassVar[bool] = False

    @classmethod
    def make(cls, directory: Path, nursery: Nursery | None) -> Cancelling:
        """Queue the tasks."""
        bench = Bench(directory, nursery)
        place = bench.workflow("a", TASKS)
        bench.esis(place, "run").ok()
        return cls(bench, place)

    @property
    def home(self) -> Path:
        return self.bench.home

    @property
    def elsewhere(self) -> Path:
        return self.bench.slurm.state_dir

    def trace(self, broken: str) -> list[tuple[Path, Operation]]:
        told = self.elsewhere / _TOLD
        argv = ["sh", "-c", _TELL, "sh", str(told), *argv_of(["cancel"], self.breaks.get(broken, ""))]
        operations = trace.record(argv, self.place, self.bench.env(), [self.home, self.elsewhere])
        assert told.is_dir()
        return operations

    def check(self, state: State, jobs_first: bool) -> list[str]:
        bench = self.bench
        state.home.write(bench.home)
        state.elsewhere.write(bench.slurm.state_dir)
        told = (bench.slurm.state_dir / _TOLD).exists()
        bench.slurm.purge()
        found = bench.states(self.place)
        if told and found != {"failed": TASKS}:
            return [f"told as cancelled, and they are {found}"]
        wrong = []
        again = bench.esis(self.place, "cancel", patch=_LATE)
        if (again.code != 0 and "nothing to cancel" not in again.stderr) or "Traceback" in again.stderr:
            wrong.append(f"the same command again ended with {again.code}: {again.stderr.strip()}")
        bench.slurm.purge()
        sent = bench.esis(self.place, "resubmit", patch=_LATE)
        if sent.code != 0:
            wrong.append(f"esis resubmit ended with {sent.code}: {sent.stderr.strip()}")
        bench.slurm.run()
        if bench.states(self.place) != {"done": TASKS}:
            wrong.append(f"submitted again, and they are {bench.states(self.place)}")
        did = {path.name: path.read_text().splitlines() for path in bench.home.rglob("did.*")}
        if len(did) != TASKS or any(len(lines) != 1 for lines in did.values()):
            wrong.append(f"what they did: {did}")
        return wrong

    def close(self) -> None:
        self.bench.slurm.close()
