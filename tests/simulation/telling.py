"""Tell a story: live it, and go on without faults until everything is done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from esis.errors import ExitCode
from tests.simulation.feeders import NODE
from tests.simulation.files import scratch
from tests.simulation.steps import Step, Story
from tests.simulation.world import World

_ROUNDS = 12  # in which the world has to come to its end, once nothing goes wrong any more
_REPEAT = (ExitCode.UNANSWERED, ExitCode.BUSY)


@dataclass(frozen=True)
class Report:
    """What came of a story."""

    problems: tuple[str, ...]
    log: tuple[str, ...]
    rules: tuple[str, ...]  # what happened, in order
    counts: Counter[str]


def tell(story: Story, injector: ModuleType) -> Report:
    """Live one world and return what came of it."""
    with scratch() as root:
        world = World(root, story, injector)
        try:
            world.live()
            if not world.problems:
                end_well(world)
        finally:
            world.kill_held()
            world.jobs.close()
        return Report(tuple(world.problems), tuple(world.log), tuple(world.rules), world.counts)


def end_well(world: World) -> None:
    """Let nothing go wrong any more and the user repeat what the messages name: all has to be done then."""
    world.log.append("--- from here on nothing goes wrong")
    world.slurm.store.set_knobs(faults=[], down=False)
    while world.held:
        world.do_go(Step("go"))
        world.settle()
    for _ in range(_ROUNDS * (1 + 2 * world.story.settings.feed)):  # a job has to come again for each task
        if world.problems or _round(world):
            return
    world.oracle.problems.append("not complete after all rounds without faults")


def _round(world: World) -> bool:
    """Let all jobs end, and the user look and repeat; return whether everything is done."""
    world.do_tick(Step("tick", number=700 if world.story.settings.feed else 400))  # a feeding job waits 600 s
    world.jobs.obey()
    while world.jobs.overtaken:
        world.do_wake(Step("wake", "ok"))
    world.jobs.release()
    world.jobs.end_strangers()
    while True:
        while world.jobs.running:
            world.do_end(Step("end", "ok"))
        if not world.jobs.start():
            break
        world.jobs.end_strangers()
    world.settle()
    return all(_is_over(world, place, tasks) for place, tasks in reversed(world.truth.tasks.items()))


def _is_over(world: World, place: Path, tasks: int) -> bool:
    """Let the user look at a run; return whether everything is done, else let him repeat what the messages name."""
    status = world.esis(("status", "--json", "--tasks"), "a", place=place)
    world.settle()
    told = status.stdout if status.code == 0 else ""
    states = {state for state in ("failed", "lost", "unsubmitted", "unknown", "waiting") if f'"{state}"' in told}
    run = str(world.truth.run_of(place))
    if status.code == 0 and not states:
        open_tasks = [task for task in range(tasks) if not any(item.good for item in world.truth.of_task(run, task))]
        wrong = [task for task in open_tasks if not world.truth.is_doubtful(run, task)]
        if wrong:
            world.oracle.problems.append(f"all tasks are called done, and {wrong} are not")
        idle = [number for number in world.waiting_feeders(run) if f"job {number}" not in status.stderr]
        if idle:
            world.oracle.problems.append(f"all tasks are done, and jobs {idle} wait to submit the rest, without a word")
        return True
    command = ("dependency",) if place in world.truth.required else ("run", "--feed")[: 1 + world.story.settings.feed]
    for host in "ab":
        done = world.esis(("resubmit",) if states & {"failed", "lost"} else command, host, place=place)
        world.settle()
        if done.code not in _REPEAT:
            break
    else:
        if f"on login-{NODE}" in done.stderr:  # a feeding job has died with its node
            world.esis((*command, "--take-over"), "a", place=place)
            world.settle()
    return False
