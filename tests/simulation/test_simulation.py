"""The simulation itself: a sample of worlds is clean, breaks are caught, and a seed is the same world each time."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import FakeSlurm
from tests.simulation import child
from tests.simulation.breaks import BREAKS, broken_copy, live_broken
from tests.simulation.files import scratch
from tests.simulation.shrink import shrink
from tests.simulation.slurm import Clock, Slurm
from tests.simulation.steps import Settings, Step, Story, chained, fed, invent, mixed, parse
from tests.simulation.world import World

REPOSITORY = Path(__file__).parents[2]
# Each came out wrong once, in the product as it was or in one that is broken so; `why` says what was promised.
STORIES = {
    "F170: queued by hand, and squeue fails: a refused run isn't submitted": """
        world tasks=1
        fault sbatch:refuse
        esis run
        hand
        fault squeue:error
        esis run
    """,
    "F171: one pack is past a task, another one waits: it isn't submitted again": """
        world tasks=2 pack=2
        esis run
        start 1
        hand
        end fail
        esis status
        esis resubmit
    """,
    "a reply that is late by less than the grace is no reason to send again": """
        world tasks=2
        fault sbatch:lost_reply 20
        esis run
        start 2
    """,
    "a job that is late by more than the grace steps aside": """
        world tasks=2
        fault sbatch:lost_reply 100
        esis run
        tick 100
        start 4
    """,
    "slurmctld loses an acknowledged job, and a stranger from cwd/ gets its id": """
        world tasks=2
        esis run
        crash
        esis status
        stranger own
        start 3
        tick 70
        esis status
        esis resubmit
    """,
    "two at once, one of them held right before it calls sbatch: the other one goes": """
        world tasks=1
        esis run holdcall=3
        esis run
        go
    """,
    "what was queued by hand behind a refusal isn't submitted as well": """
        world tasks=2
        fault sbatch:refuse
        esis run
        hand
        esis run
    """,
    "by hand, one of two arrays, and nobody knows which: what it may hold is left alone": """
        world tasks=4 largest=2
        esis run
        start 4
        end fail
        end fail
        end fail
        end fail
        hand
        esis resubmit
    """,
    "F174: by hand while the answer is missing, and Slurm never got it": """
        world tasks=2
        fault sbatch:timeout
        esis run killcall=4
        hand
        esis run
        start 1
        esis run
    """,
    "F179: a job that comes late isn't taken for one of another submission": """
        world tasks=3 largest=2 limit=3
        fault sbatch:lost_reply 100
        esis run kill=248
        tick 40
        esis run
        esis run killcall=3
        tick 60
        esis run
    """,
    "F177: squeue is silent and sacct late: a run isn't complete for good": """
        world tasks=1 accounting=True lag=90
        esis run
        start 1
        end oom0
        down
        esis run
        up
        esis status
    """,
    "F256: a failed task of a pack isn't submitted again while the pack's job may be requeued": """
        world tasks=2 pack=2
        esis run
        start 1
        end fail
        esis resubmit
        end requeue
        start 2
        end ok
        end ok
    """,
    "F176: what a late job did counts where the job of the resubmission is lost": """
        world tasks=1
        fault sbatch:lost_reply 400
        esis run
        esis cancel
        esis resubmit
        crash
        tick 400
        start 1
        end ok
        tick 400
        esis status
    """,
}


def simulation(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "tests.simulation", *arguments]
    return subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=600)


def test_a_sample_of_worlds_is_clean() -> None:
    """The first seeds; `make simulate` lives many more."""
    done = simulation("--worlds", "50", "--workers", "2", "--no-shrink")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_sample_of_worlds_with_chains_is_clean() -> None:
    """With 25 among them: done tasks of a run that are queued by hand, while a task of what it requires has failed."""
    done = simulation("--chains", "1", "--seed", "10", "--worlds", "20", "--workers", "2", "--no-shrink")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dependency 0" in done.stdout


def test_a_sample_of_worlds_with_feeding_jobs_is_clean() -> None:
    done = simulation("--feeds", "1", "--seed", "4", "--worlds", "8", "--workers", "2", "--no-shrink")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "scontrol requeue" in done.stdout
    assert "resubmit 0" in done.stdout


def test_some_worlds_have_feeding_jobs() -> None:
    stories = [(invent(seed), fed(invent(seed), 0.5)) for seed in range(40)]
    changed = [after for before, after in stories if before != after]
    assert 10 < len(changed) < 30
    assert all(story.settings.feed and story.settings.limit for story in changed)
    assert any(step.verb == "start" and step.stop for story in changed for step in story.steps)
    assert all(fed(story, 0) == story for story, _ in stories)
    assert all(parse(str(story)) == story for story in changed)


def test_a_feeding_job_submits_all_with_nobody_there() -> None:
    """One command; then jobs start and end, and time passes."""
    story = Story(Settings(tasks=5, limit=3, feed=True), (Step("esis", "run"),))
    with scratch() as root:
        world = World(root, story, child.warm_up())
        try:
            world.live()
            for _ in range(40):
                world.do_start(Step("start", number=3))
                world.do_end(Step("end", "ok"))
                world.do_tick(Step("tick", number=100))
                world.settle()
            run = str(world.run)
            assert [task for task in range(5) if not world.truth.is_done(run, task)] == []
            assert (world.problems, world.waiting_feeders(run), world.counts["commands"] > 3) == ([], [], True)
        finally:
            world.kill_held()
            world.jobs.close()


def test_some_worlds_have_chains() -> None:
    stories = [(invent(seed), chained(invent(seed), 0.5)) for seed in range(40)]
    changed = [(before, after) for before, after in stories if before != after]
    assert 10 < len(changed) < 30
    assert all(after.settings.base for _, after in changed)
    assert any(step.base for _, after in changed for step in after.steps)
    assert all(chained(story, 0) == story for story, _ in stories)


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_what_went_wrong_once(story: str, tmp_path: Path) -> None:
    path = tmp_path / "story"
    path.write_text(story)
    done = simulation("--replay", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "story"),
    [
        ("first-by-hand-unseen", 0),
        ("one-job-a-task", 1),
        ("grace-0", 2),
        ("no-fence", 3),
        ("absence-is-failure", 4),
        ("lock-not-held", 5),
        ("queue-not-asked", 6),
        ("doubtful-job-is-ignored", 7),
    ],
)
def test_a_broken_product_is_caught_by_its_story(name: str, story: int, tmp_path: Path) -> None:
    path = tmp_path / "story"
    path.write_text(list(STORIES.values())[story])
    (tmp_path / "copy").mkdir()
    done = live_broken(name, tmp_path / "copy", ["--replay", str(path)])
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_product_is_caught_by_some_world(tmp_path: Path) -> None:
    """The README's table tells within how many; this is the quickest one."""
    done = live_broken(
        "adopts-the-latest", tmp_path, ["--worlds", "40", "--workers", "2", "--stop-at", "1", "--no-shrink"]
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "which isn't its job" in done.stdout


@pytest.mark.parametrize("name", BREAKS)
def test_each_break_changes_what_it_means(name: str, tmp_path: Path) -> None:
    """A text that the product doesn't hold any more would break nothing."""
    broken = BREAKS[name]
    copy = broken_copy(broken, tmp_path)
    assert broken.new in (copy / "esis" / broken.file).read_text("utf-8")


def test_a_story_can_be_written_down() -> None:
    for seed in range(300):
        for story in (invent(seed), mixed(invent(seed), 0.5), chained(invent(seed), 1)):
            assert parse(str(story)) == story


def test_a_seed_is_the_same_world_each_time(tmp_path: Path) -> None:
    """In another process, with other process ids, at another time."""
    told = [simulation("--replay", "3").stdout for _ in range(2)]
    lines = [[line for line in text.splitlines() if not line.startswith("    esis: ")] for text in told]
    assert lines[0] == lines[1]
    assert any("exit code" in line for line in lines[0])


def test_a_failing_story_is_made_as_short_as_can_be() -> None:
    """One that fails if a certain step comes before another one."""

    def fails(story: Story) -> tuple[str, ...]:
        verbs = [step.verb for step in story.steps]
        early = "crash" in verbs and "hand" in verbs[verbs.index("crash") :]
        return (f"wrong {len(verbs)}",) if early else ()

    chance = random.Random(1)
    steps = [Step(chance.choice(("crash", "hand", "start", "tick", "end")), number=4) for _ in range(30)]
    short = shrink(Story(Settings(tasks=4, pack=2), tuple(steps)), fails)
    assert [str(step) for step in short.steps] == ["crash", "hand"]
    assert short.settings == replace(Settings(), tasks=1)


CALLS = (
    ("squeue", "-t", "all", "--me", "-o", "esis|%F|%K|%T|%r|%o|%Z|end"),
    ("sbatch", "--parsable", "--array=0-3%2", "job.sh"),
    ("sbatch", "--parsable", "--array=0-9999", "job.sh"),
    ("sbatch", "--parsable", "no-such-file"),
    ("squeue", "-t", "all", "--me", "-o", "esis|%F|%K|%T|%r|%o|%Z|end"),
    ("scontrol", "update", "jobid=1", "ArrayTaskThrottle=3"),
    ("scancel", "1_[2-3]"),
    ("squeue", "-t", "all", "--me", "-o", "esis|%F|%K|%T|%r|%o|%Z|end"),
    ("squeue", "-j", "77"),
    ("sacct", "-X", "-n", "-P", "-j", "1"),
    ("scancel", "1"),
    ("squeue", "-t", "all", "--me", "-o", "esis|%F|%K|%T|%r|%o|%Z|end"),
)


def test_the_model_answers_as_the_fake_executables_do(tmp_path: Path) -> None:
    """The contract tests hold those to the real Slurm."""
    (tmp_path / "job.sh").write_text("#!/bin/sh\n")
    env = {"PATH": "/usr/bin:/bin", "SLURM_BITSTR_LEN": "0"}
    model = Slurm(str(tmp_path / "model"), Clock(tmp_path / "clock"))
    with FakeSlurm(tmp_path / "fake") as fake:
        for program, *arguments in CALLS:
            told = fake.call(program, *arguments, cwd=tmp_path, env={"SLURM_BITSTR_LEN": "0"})
            reply = model.call([program, *arguments], str(tmp_path), env, 60.0)
            assert (reply.code, os.fsdecode(reply.stdout), os.fsdecode(reply.stderr)) == (
                told.returncode,
                told.stdout,
                told.stderr,
            ), (program, arguments)
