"""Versions side by side: some of a world's commands are the last release's, on the same files and locks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import esis
from tests.simulation import child, old
from tests.simulation.breaks import live_broken
from tests.simulation.steps import invent, mixed, parse
from tests.simulation.test_simulation import simulation
from tests.simulation.world import World

SHA256 = "564f71716adfc8a55ad79ac50518305a92921763113b455d6a521f4f171c951e"


def test_the_old_release_is_as_it_was() -> None:
    """tests/data/README.md tells how it was made."""
    assert hashlib.sha256(old.ARCHIVE.read_bytes()).hexdigest() == SHA256


def test_a_command_is_of_the_version_that_its_step_names(tmp_path: Path) -> None:
    """By the hook that it gives to jobs; the product is itself again behind a command of the other one."""
    release = old.unpack(tmp_path / "release")
    injector = child.warm_up(release)
    here = {"": Path(esis.__file__).parents[1], " old": release}
    hooks = {word: (place / "esis/records/task.sh").read_bytes() for word, place in here.items()}
    assert hooks[""] != hooks[" old"]
    for number, word in enumerate(("", " old", "")):
        world = World(tmp_path / str(number), parse(f"world tasks=1\nesis run{word}"), injector)
        try:
            world.live()
        finally:
            world.jobs.close()
        assert world.run is not None
        assert (world.run / "__esis__/task.sh").read_bytes() == hooks[word]
        assert not world.problems


def test_shares_are_all_none_or_some() -> None:
    story = invent(5)
    commands = sum(step.verb == "esis" for step in story.steps)
    assert [sum(step.old for step in mixed(story, share).steps) for share in (0, 1)] == [0, commands]
    assert [mixed(story, share).settings.old for share in (0, 0.4, 0.5, 1)] == [0, 3, 2, 1]
    assert mixed(mixed(story, 0.5), 0) == story
    some = [step for seed in range(20) for step in mixed(invent(seed), 0.5).steps if step.verb == "esis"]
    assert 0.3 * len(some) < sum(step.old for step in some) < 0.7 * len(some)


def test_a_sample_of_mixed_worlds_is_clean() -> None:
    """What one version does wrong in the same world by itself isn't the mixture's."""
    done = simulation("--old", "0.5", "--worlds", "20", "--workers", "1", "--no-shrink")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "; 0 worlds failed" in done.stdout


def test_what_only_breaks_the_mixture_is_caught(tmp_path: Path) -> None:
    """With all commands of one version this world is clean, else it would be excused."""
    arguments = ["--old", "0.5", "--worlds", "1", "--seed", "3", "--workers", "1", "--no-shrink"]
    done = live_broken("records-of-its-own", tmp_path, arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "; 1 worlds failed" in done.stdout


@pytest.mark.parametrize(("first", "second"), [(" old", ""), ("", " old")], ids=["old-first", "new-first"])
def test_both_versions_share_the_lock(first: str, second: str, tmp_path: Path) -> None:
    """One is held right before it calls sbatch, the other one has to go; with two locks both submit."""
    path = tmp_path / "story"
    path.write_text(f"world tasks=1\nesis run holdcall=3{first}\nesis run{second}\ngo\n")
    done = simulation("--replay", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "copy").mkdir()
    done = live_broken("lock-elsewhere", tmp_path / "copy", ["--replay", str(path)])
    assert done.returncode == 1, done.stdout + done.stderr
    assert "once more" in done.stdout


def test_a_submission_that_the_old_release_sends_once_more_is_fenced(tmp_path: Path) -> None:
    """0.1.0 doesn't find the job of a later version whose answer was lost, by its longer path; only one may work."""
    path = tmp_path / "story"
    path.write_text("world tasks=2\nesis run killcall=4\nesis run old\nesis status\nstart 4\n")
    done = simulation("--replay", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "job 2 by esis: tasks [0, 1] 0001" in done.stdout
    (tmp_path / "copy").mkdir()
    done = live_broken("no-fence", tmp_path / "copy", ["--replay", str(path)])
    assert done.returncode == 1, done.stdout + done.stderr
    assert "did work of the same submission" in done.stdout
