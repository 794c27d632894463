"""Try many pairs in a few processes, each of which keeps one situation at a time."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import groupby
from multiprocessing import get_context
from typing import NamedTuple

from tests.interleavings.pairs import pairs, writing
from tests.interleavings.trial import Bench, Pair, Told, points
from tests.simulation.files import scratch
from tests.simulation.running import begin, injector

_TWICE = 0.4  # how many of a sample of trials have two switches, where both commands write


class Plan(NamedTuple):
    """Say how much of the pairs is tried."""

    every_step: bool = False
    switches: int = 2
    sample: int = 0  # trials of each pair; 0: all
    seed: int = 1


class Tried(NamedTuple):
    """What a worker tells of a pair."""

    pair: Pair
    once: int  # trials with one switch
    twice: int
    failed: tuple[Told, ...]


def try_some(some: Sequence[Pair], plan: Plan) -> list[Tried]:
    """Try pairs of one situation and one first command."""
    with scratch() as root:
        bench = Bench(root, some[0].situation, injector())
        try:
            steps = bench.steps(some[0].first)
            return [_try_pair(bench, pair, steps, plan) for pair in some]
        finally:
            bench.close()


def _try_pair(bench: Bench, pair: Pair, steps: Sequence[str], plan: Plan) -> Tried:
    firsts = points(steps, plan.every_step)
    once: list[Told | None] = []
    twice: list[Told | None] = []
    if plan.sample and firsts:
        chance = random.Random(f"{plan.seed} {pair}")
        for _ in range(plan.sample):
            at = chance.choice(firsts)
            seconds = _seconds(bench, pair, at, plan) if chance.random() < _TWICE else []
            if seconds:
                twice.append(bench.two(pair, at, chance.choice(seconds)))
            else:
                once.append(bench.one(pair, at))
    elif firsts:
        once += [bench.one(pair, at) for at in firsts]
        twice += [bench.two(pair, at, then) for at in firsts for then in _seconds(bench, pair, at, plan)]
    told_once, told_twice = [told for told in once if told is not None], [told for told in twice if told is not None]
    failed = tuple(told for told in (*told_once, *told_twice) if told.problems)
    return Tried(pair, len(told_once), len(told_twice), failed)


def _seconds(bench: Bench, pair: Pair, at: int, plan: Plan) -> list[int]:
    """Return at which of its steps the second can be held as well; only where both write."""
    both = plan.switches > 1 and writing(pair)
    return points(bench.steps_beside(pair, at), plan.every_step) if both else []


def try_all(wanted: Sequence[Pair], plan: Plan, workers: int) -> Iterator[Tried]:
    """Yield what became of each pair, in any order."""
    together = [list(some) for _, some in groupby(wanted, lambda pair: (pair.situation, pair.first))]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=begin) as pool:
        for future in as_completed([pool.submit(try_some, some, plan) for some in together]):
            yield from future.result()


def chosen(first: str | None, second: str | None, situation: str | None) -> list[Pair]:
    """Return the pairs of the table that are meant."""
    return [
        pair
        for pair in pairs()
        if first in (None, pair.first) and second in (None, pair.second) and situation in (None, pair.situation)
    ]


def one_of_each(seed: int) -> list[Pair]:
    """Return one pair of each two commands; which is the first and in which situation is left to the seed."""
    together = [list(some) for _, some in groupby(pairs(), lambda pair: (pair.situation, pair.first))]
    random.Random(seed).shuffle(together)
    met = set[frozenset[str]]()
    wanted = []
    for some in together:  # few situations, for each takes its time
        new = [pair for pair in some if frozenset((pair.first, pair.second)) not in met]
        met.update(frozenset((pair.first, pair.second)) for pair in new)
        wanted += new
    return wanted
