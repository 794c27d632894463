"""Make a failing story shorter, as long as it fails in the same way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields, replace

from tests.simulation.steps import Settings, Step, Story

MOST = 300  # trials


def kind_of(problem: str) -> str:
    """Return a problem without its numbers and paths: what it is a case of."""
    return re.sub(r"/\S+|\[[^]]*\]|\d+", "#", problem)


def shrink(story: Story, fails: Callable[[Story], tuple[str, ...]], most: int = MOST) -> Story:
    """Return a story from which no step can be taken away, nor be made simpler, without a loss of the problem."""
    found = fails(story)
    if not found:
        return story
    wanted = kind_of(found[0])
    left = most
    better = True
    while better and left > 0:
        better = False
        for trial in _simpler(story):
            left -= 1
            if wanted in map(kind_of, fails(trial)):
                story, better = trial, True
                break
            if left <= 0:
                break
    return story


def _simpler(story: Story) -> Iterator[Story]:
    """Yield stories that are a little simpler, the boldest first."""
    size = len(story.steps)
    chunk = size // 2
    while chunk:
        for start in range(0, size, chunk):
            yield replace(story, steps=story.steps[:start] + story.steps[start + chunk :])
        chunk //= 2
    for at, step in enumerate(story.steps):
        for changed in _plainer(step):
            yield replace(story, steps=(*story.steps[:at], changed, *story.steps[at + 1 :]))
    for item in fields(Settings):
        usual = getattr(Settings(), item.name)
        if getattr(story.settings, item.name) != usual:
            yield replace(story, settings=replace(story.settings, **{item.name: usual}))
    if story.settings.tasks > 1:
        yield replace(story, settings=replace(story.settings, tasks=story.settings.tasks - 1))


def _plainer(step: Step) -> Iterator[Step]:
    if step.stop is not None:
        yield step._replace(stop=None)
    if step.late:
        yield step._replace(late=False)
    if step.host != "a":
        yield step._replace(host="a")
    if step.number > 1:
        yield step._replace(number=1)
    if step.number:
        yield step._replace(number=0)
