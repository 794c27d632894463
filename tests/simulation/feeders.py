"""The jobs of `esis run --feed`: the real script in a real shell; the programs that it calls are the world's."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from tests.simulation import child
from tests.simulation.commands import Command, Commands
from tests.simulation.jobs import Running
from tests.simulation.messages import Stop
from tests.simulation.steps import Story
from tests.simulation.truth import FEEDER

NODE = "node"  # where they run


class Feeders(Commands):
    """Run the commands that jobs call, and tell the jobs how they ended."""

    def __init__(self, root: Path, story: Story, injector: ModuleType) -> None:
        super().__init__(root, story, injector)
        self.jobs.calls = self
        self.stop_next: Stop | None = None  # what befalls the next command that a job calls
        self._ending: set[int] = set()  # jobs that are about to be told no more

    def called(self, item: Running, words: Sequence[str]) -> None:
        """Run what a job calls: `python -m esis …` or `scontrol …`."""
        true = self.truth.job(item.job)
        assert true is not None, "the job runs"
        run = Path(true.run)
        env = {"SLURM_JOB_ID": str(item.job)}
        if item.restart:
            env["SLURM_RESTART_COUNT"] = str(item.restart)
        if words[0] == "scontrol":
            reply = self.slurm.call(words, str(run / "__esis__"), {**self._environment, **env}, 300.0)
            self.log.append(f"    job {item.job}: {' '.join(words)}")
            self.rules.append(" ".join(words[:2]))
            self._reply(item, reply.code)
            self.jobs.obey()
            if item in self.jobs.running:
                self.jobs.follow(item)
            return
        self.log.append(f"    job {item.job}: {' '.join(words[2:])}")
        stop, self.stop_next = self.stop_next, None
        self.esis(tuple(words[3:]), NODE, stop, place=run.parent, more=env, cwd=run / "__esis__", caller=item)

    def interrupt(self, item: Running) -> None:
        """Let a command hear SIGTERM that a job waits for, and come to its end."""
        command = self._of(item)
        if command is not None:
            self._ending.add(item.process.pid)
            self.held.remove(command)
            os.kill(command.pid, signal.SIGTERM)
            self._follow(command)

    def kill(self, item: Running) -> None:
        """Let a command die with the node on which a job called it."""
        command = self._of(item)
        if command is not None:
            self.held.remove(command)
            os.kill(command.pid, signal.SIGKILL)
            child.reap(command.pid)
            command.line.close()

    def waiting_feeders(self, run: str) -> list[int]:
        """Return the jobs that wait to submit the rest of a run, let go or not."""
        jobs = self.slurm.cluster().jobs
        found = [true.id for true in self.truth.of_run(run) if true.maker == FEEDER and true.id in jobs]
        return [number for number in found if jobs[number].unfinished()]

    def _of(self, item: Running) -> Command | None:
        return next((command for command in self.held if command.caller is item), None)

    def _ended(self, command: Command) -> None:
        super()._ended(command)
        item = command.caller
        if item is not None and item in self.jobs.running:
            code = command.code or 0
            self._reply(item, code if code >= 0 else 128 - code)
            if item.process.pid not in self._ending:
                self.jobs.follow(item)

    def _reply(self, item: Running, code: int) -> None:
        with (self.places.root / f"go.{item.job}.call").open("w") as stream:
            stream.write(f"{code}\n")
