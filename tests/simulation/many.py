"""Live many worlds in a few processes, and add up what they tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from tests.simulation.running import begin, injector
from tests.simulation.shrink import shrink
from tests.simulation.steps import Shares, Story, mixed, story_of
from tests.simulation.telling import Report, tell

_CHUNK = 20  # worlds that a worker lives before it tells


@dataclass(frozen=True)
class Told:
    """What a worker tells of some worlds."""

    failed: tuple[tuple[int, tuple[str, ...]], ...]
    excused: tuple[tuple[int, str, str], ...]  # mixed ones that fail with one version alone, too: which, with what
    worlds: int
    counts: Counter[str]
    rules: Counter[str]
    pairs: frozenset[tuple[str, str]]


def live(story: Story) -> Report:
    """Live one world."""
    try:
        return tell(story, injector())
    except Exception as error:  # of the simulation itself: told like a finding, with the seed
        return Report((f"the world broke: {type(error).__name__}: {error}",), (), (), Counter())


def alone(story: Story) -> str:
    """Return which version fails by itself in a mixed world, with the same steps; "": none does."""
    for name, share in (("old", 1), ("new", 0)):
        if live(mixed(story, share)).problems:
            return name
    return ""


def problems_of(story: Story) -> tuple[str, ...]:
    """Return what is wrong in a world; of a mixed one, only if it isn't in one version's worlds."""
    problems = live(story).problems
    return problems if problems and not (story.settings.old and alone(story)) else ()


def _some(seeds: range, shares: Shares) -> Told:
    failed, excused, counts, rules, pairs = [], [], Counter[str](), Counter[str](), set()
    for seed in seeds:
        story = story_of(seed, shares)
        report = live(story)
        excuse = alone(story) if report.problems and 0 < shares.old < 1 else ""
        if excuse:
            excused.append((seed, excuse, report.problems[0]))
        elif report.problems:
            failed.append((seed, report.problems))
        counts.update(report.counts)
        rules.update(report.rules)
        pairs |= {(one, other) for at, one in enumerate(report.rules) for other in report.rules[at + 1 :]}
    return Told(tuple(failed), tuple(excused), len(seeds), counts, rules, frozenset(pairs))


def shrunk(story: Story) -> Story:
    """Return a shorter story that fails in the same way."""
    return shrink(story, problems_of)


def live_all(
    first: int, worlds: int, workers: int, stop_at: int, shares: Shares, release: Path | None = None
) -> Iterator[Told]:
    """Yield what became of worlds, some at a time, in any order; no more once `stop_at` have failed.

    `release`: where the last one lies, if there will be commands of it.
    """
    chunks = [range(at, min(at + _CHUNK, first + worlds)) for at in range(first, first + worlds, _CHUNK)]
    context = get_context("spawn")
    failed = 0
    with ProcessPoolExecutor(workers, mp_context=context, initializer=begin, initargs=(release,)) as pool:
        waiting = [pool.submit(_some, chunk, shares) for chunk in chunks]
        for at, future in enumerate(waiting):
            told = future.result()
            failed += len(told.failed)
            yield told
            if failed >= stop_at:
                for later in waiting[at + 1 :]:
                    later.cancel()
                return
