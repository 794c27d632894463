"""Two commands at once leave what one of the two orders leaves: each two once, and what shows broken products."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.interleavings.breaks import BREAKS
from tests.interleavings.many import one_of_each
from tests.interleavings.pairs import FIRSTS, pairs
from tests.interleavings.scene import Scene
from tests.interleavings.situations import COMMANDS, EVENTS, SITUATIONS, make
from tests.interleavings.trial import points
from tests.simulation import child
from tests.simulation.breaks import broken_copy, run_broken
from tests.simulation.messages import Stop

REPOSITORY = Path(__file__).parents[2]
PARTS = 4  # tests, for xdist to spread
# Enough of a pair to show its break, and quick.
QUICK = ("sender-not-seen", "removed-before-it-is-folded")


@pytest.mark.parametrize("part", range(PARTS))
def test_each_two_commands_leave_what_one_of_their_orders_leaves(part: int) -> None:
    """One step of each pair, somewhere; `make interleavings` tries all steps, in all situations."""
    argv = [sys.executable, "-m", "tests.interleavings", "--one-of-each", "--part", f"{part}/{PARTS}", "--workers", "1"]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sample_meets_each_two_commands() -> None:
    met = {frozenset((pair.first, pair.second)) for pair in one_of_each(1)}
    assert met == {frozenset((pair.first, pair.second)) for pair in pairs()}
    assert {name for both in met for name in both} == {*COMMANDS, *EVENTS}


def test_each_situation_is_used() -> None:
    assert {place for places in FIRSTS.values() for place in places} == set(SITUATIONS)


def test_a_scene_goes_back_to_the_very_moment_that_was_kept(tmp_path: Path) -> None:
    """The same command takes the same steps there, and Slurm gives the same ids."""
    (tmp_path / "world").mkdir()
    scene = Scene(tmp_path / "world", SITUATIONS["failed"].settings, child.warm_up())
    try:
        make(scene, SITUATIONS["failed"])
        scene.keep(tmp_path / "kept")
        told = []
        for _ in range(2):
            done = scene.command(("resubmit",), stop=Stop("list", 0))
            assert scene.finish()
            steps = Path(f"{done.out}.steps").read_text().splitlines()
            told.append((len(steps), points(steps), [job.id for job in scene.truth.jobs], done.stderr))
            scene.restore()
        assert told[0] == told[1]
        assert told[0][0] > 30
    finally:
        scene.end_all()
        scene.jobs.close()


@pytest.mark.parametrize("name", QUICK)
def test_a_broken_product_is_caught_by_its_pair(name: str, tmp_path: Path) -> None:
    """The README's table tells of the others."""
    broken, pair = BREAKS[name]
    meant = ["--first", pair.first, "--second", pair.second, "--situation", pair.situation]
    done = run_broken(broken, tmp_path, "tests.interleavings", [*meant, "--switches", "1", "--workers", "1"])
    assert done.returncode == 1, done.stdout + done.stderr
    assert "WRONG" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("name", BREAKS)
def test_each_break_changes_what_it_means(name: str, tmp_path: Path) -> None:
    """A text that the product doesn't hold any more would break nothing."""
    broken, pair = BREAKS[name]
    assert broken.new in (broken_copy(broken, tmp_path) / "esis" / broken.file).read_text("utf-8")
    assert pair in list(pairs())
