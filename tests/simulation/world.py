"""A world: what happens in it, step by step, to commands, jobs and Slurm."""

from __future__ import annotations

import os
from pathlib import Path

from tests.simulation.feeders import Feeders
from tests.simulation.files import FILES
from tests.simulation.steps import Step
from tests.simulation.truth import BY_HAND, STRANGER

CRASH_SECONDS = 5.0  # slurmctld saves its state so long after it has answered, at the latest


class World(Feeders):
    """Tell a story, and see what is true and what is said."""

    def live(self) -> None:
        """Tell the story to its end."""
        pack = self.story.settings.pack
        for place in reversed(self.truth.tasks):  # first what is required
            self.esis(("setup", *FILES, "--tasks-per-job", str(pack)), "a", place=place)
        if self.truth.required:
            self.esis(("require", "../base/wf.esis.json", "base"), "a")
        for step in self.story.steps:
            self.log.append(f"[{self.clock.now - 2.1e9:.0f}] {step}")
            self.counts["steps"] += 1
            self.perform(step)
            if self.problems:
                return

    def perform(self, step: Step) -> None:
        """Let one thing happen."""
        if step.verb == "esis":
            self._command(step)
        else:
            getattr(self, f"do_{step.verb}")(step)
        self.settle()

    def _command(self, step: Step) -> None:
        argv: tuple[str, ...] = (step.word,)
        feed = ("--feed",) if self.story.settings.feed and step.number % 4 != 3 else ()
        if step.word == "run":
            argv = ("run", *feed)
        elif step.word == "status":
            argv = ("status", "--json", "--tasks")
        elif step.word == "throttle":
            argv = ("throttle", str(step.number))
        elif step.word == "wait":
            argv = ("wait", "--timeout", "600")
        elif step.word == "cancel-pending":
            argv = ("cancel", "--pending")
        elif step.word == "take-over":
            argv = ("run", "--take-over", *feed)
            for held in self.held:
                held.overtaken = True
        self.esis(argv, step.host, step.stop, step.late, self.workflow_of(step), old=step.old)

    def workflow_of(self, step: Step) -> Path:
        """Return the directory of the workflow that a step is about."""
        return self.places.base if step.base and self.story.settings.base else self.places.workflow

    def do_go(self, step: Step) -> None:
        """Let a command that is held go on."""
        if self.held:
            command = self.held.pop(step.number % len(self.held))
            self.rules.append(f"go {command.argv[0]}")
            self._say(command, self.clock.now)
            self._follow(command)

    # --- Slurm and others

    def do_start(self, step: Step) -> None:
        self.stop_next = step.stop
        for _ in range(step.number):
            if not self.jobs.start(step.word == "dies"):
                break
            self.rules.append(f"start {step.word}".strip())
        self.stop_next = None

    def do_end(self, step: Step) -> None:
        if self.jobs.running:
            self.clock.pass_by(7)
            item = self.jobs.running[step.number % len(self.jobs.running)]
            self.rules.append(f"end {step.word}")
            self.log.append(f"    job {item.job}_{item.key}")
            self.jobs.end(item, step.word)

    def do_wake(self, step: Step) -> None:
        """Let an attempt end that Slurm takes for lost with its node."""
        if self.jobs.overtaken:
            self.rules.append(f"wake {step.word}")
            self.jobs.wake(self.jobs.overtaken[step.number % len(self.jobs.overtaken)], 1 if step.word == "fail" else 0)

    def do_control(self, step: Step) -> None:
        """Let the user hold, release or requeue a job of the run by hand, or a task of it that was started."""
        cluster = self.slurm.cluster()
        known = [
            cluster.jobs[true.id]
            for true in self.truth.of_run(str(self.truth.run_of(self.workflow_of(step))))
            if true.id in cluster.jobs
        ]
        named = [str(job.id) for job in known]
        if step.word == "requeue":
            named = [f"{job.id}_{task.index}" for job in known for task in job.ordered_tasks() if task.start]
        if named:
            self.rules.append(step.word)
            if step.word == "requeue":  # of one that is done: he wants it once more, whatever becomes of that
                job = self.truth.job(int(named[step.number % len(named)].partition("_")[0]))
                if job is not None:
                    job.again = True
            self.slurm.call(
                ("scontrol", step.word, named[step.number % len(named)]),
                str(self.places.root),
                self._environment,
                300.0,
            )
            self.jobs.obey()

    def do_tick(self, step: Step) -> None:
        self.rules.append(f"tick {step.number}")
        self.clock.pass_by(step.number)

    def do_fault(self, step: Step) -> None:
        program, _, kind = step.word.partition(":")
        details: dict[str, object] = {}
        if kind == "lost_reply":
            details["seconds"] = step.number
        elif kind == "hang":
            details["accepted"] = bool(step.number)
        elif kind == "cut":
            details["bytes"] = step.number
        elif kind == "refuse":
            details["message"] = "Invalid account or account/partition combination specified"
        self.slurm.store.add_fault({"program": program, "kind": kind, "times": 1, "skip": 0, **details})

    def do_down(self, step: Step) -> None:
        self.slurm.store.set_knobs(down=True)
        self.rules.append("down")

    def do_up(self, step: Step) -> None:
        self.slurm.store.set_knobs(down=False)

    def do_crash(self, step: Step) -> None:
        """Kill slurmctld: what it acknowledged a moment ago is lost, and the ids are used again."""
        cluster = self.slurm.cluster()
        lost = [true for true in self.truth.jobs if not true.lost and self.clock.now - true.accepted < CRASH_SECONDS]
        lost = [true for true in lost if true.id in cluster.jobs and not true.began]
        for true in lost:
            true.lost = True
            del cluster.jobs[true.id]
            self.log.append(f"    job {true.id} is lost")
        if lost:
            first = min(true.id for true in lost)
            # Ids are counted on from those that were saved.
            cluster.next_id = max([first, *(job + 1 for job in cluster.jobs)])
            self.rules.append("crash")
            self.slurm.store.write(cluster)

    def do_stranger(self, step: Step) -> None:
        """Let the user submit jobs of his own from the run's cwd/, or from elsewhere."""
        run = self.run
        place = str(run / "cwd") if run is not None and step.word != "elsewhere" else str(self.places.root / "home")
        if not os.path.isdir(place):
            return
        argv = (
            ["sbatch", "--wrap", "sleep 1000"] if step.word == "wrap" else ["sbatch", str(self.places.root / "own.sh")]
        )
        for _ in range(step.number):
            self._submit(argv, place, STRANGER)

    def do_hand(self, step: Step) -> None:
        """Let the user submit the latest script by hand, once the run is built."""
        run = self.truth.run_of(self.workflow_of(step))
        stage = run / "__esis__/state.json" if run is not None else None
        if run is not None and stage is not None and stage.exists() and '"prepared"' in stage.read_text():
            self._submit(["sbatch", "../sbatch.sh"], str(run / "cwd"), BY_HAND)

    def _submit(self, argv: list[str], place: str, maker: str) -> None:
        number = self.slurm.cluster().next_id
        self.slurm.call(argv, place, self._environment, 300.0)
        if self.slurm.cluster().next_id > number:
            self._note(number, self._environment, maker)
            self.rules.append(maker)
