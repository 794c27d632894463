"""A sample of `python -m tests.crash_states`, and the models of disks by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import traced as strace
from tests.crash_states.disk import (
    Disk,
    Gone,
    Kind,
    Made,
    Model,
    Moved,
    Node,
    Operation,
    Synced,
    Written,
    after,
    lost,
    pending,
)
from tests.crash_states.states import Traced
from tests.crash_states.subjects import BREAKS, SUBJECTS
from tests.faults.bench import Nursery

SAMPLE = 8  # states of each
NEW = Node(Kind.FILE, 0o644)


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    if not strace.works():
        pytest.skip("strace is not installed, or may not trace here")
    made = Nursery()
    yield made
    made.close()


@pytest.mark.parametrize("name", SUBJECTS)
def test_f67_after_a_power_cut_it_goes_on_clean(tmp_path: Path, nursery: Nursery, name: str) -> None:
    """F67: whatever was not synced is missing, or there in part; one submission, the files of an undisturbed run."""
    traced = Traced.make(SUBJECTS[name](tmp_path / name, nursery))
    states = list(traced.states())
    assert len(states) > SAMPLE
    for number in range(SAMPLE):
        state = states[number * (len(states) - 1) // (SAMPLE - 1)]
        assert traced.subject.check(state, jobs_first=number % 3 == 0) == [], state.what
    traced.subject.close()


@pytest.mark.parametrize(("broken", "name"), [(broken, name) for broken, names in BREAKS.items() for name in names])
def test_f67_what_is_not_synced_is_noticed(tmp_path: Path, nursery: Nursery, broken: str, name: str) -> None:
    """F67: these tests can fail: of a product that leaves a sync out some states are unclean."""
    traced = Traced.make(SUBJECTS[name](tmp_path / name, nursery), broken)
    # Behind the last operation of a command nothing may be missing that its answer rests on.
    # What others read meanwhile has to be whole at each moment: of a worker all states are looked at.
    last = max(state.cut for state in traced.states()) if traced.subject.jobs else 0
    assert any(traced.subject.check(state, jobs_first=False) for state in traced.states() if state.cut >= last)
    traced.subject.close()


def disk() -> Disk:
    return Disk({0: Node(Kind.DIRECTORY, 0o755)})


def contents(operations: list[Operation], model: Model) -> list[dict[str, bytes]]:
    """Return what may be on a disk that was empty, each once."""
    found: list[dict[str, bytes]] = []
    for _, missing, half in lost(operations, pending(operations, len(operations), model), model):
        left = after(disk(), operations, len(operations), missing, half)
        shown = {path: node.data for path, node in left.reachable() if path}
        if shown not in found:
            found.append(shown)
    return found


REPLACED: list[Operation] = [Made(0, "new", 1, NEW), Written(1, 0, b"ab"), Moved(0, "new", 0, "old", 1)]


@pytest.mark.parametrize("model", Model)
def test_a_file_that_was_renamed_without_a_sync_may_be_empty(model: Model) -> None:
    """What was written is durable with a sync of the file alone, whatever becomes of its names."""
    assert {"old": b""} in contents(REPLACED, model)
    assert {"old": b"a"} in contents(REPLACED, model)
    assert {} in contents(REPLACED, model)
    synced = [*REPLACED[:2], Synced(1), *REPLACED[2:]]
    assert all(set(shown.values()) <= {b"ab"} for shown in contents(synced, model))
    assert contents([*synced, Synced(0)], model) == [{"old": b"ab"}]


def test_of_two_names_without_a_sync_either_may_be_there_by_the_weak_model_alone() -> None:
    """By the other one they come in their order."""
    two: list[Operation] = [Made(0, "first", 1, NEW), Made(0, "second", 2, NEW)]
    assert {"second": b""} in contents(two, Model.WEAK)
    assert {"second": b""} not in contents(two, Model.ORDERED)
    assert {"first": b""} in contents(two, Model.ORDERED)


def test_a_sync_of_a_file_makes_names_durable_by_the_ordered_model_alone() -> None:
    """POSIX doesn't promise that; a sync of the directory, or of all, does by both."""
    made: list[Operation] = [Made(0, "name", 1, NEW), Synced(1)]
    assert {} in contents(made, Model.WEAK)
    assert contents(made, Model.ORDERED) == [{"name": b""}]
    for synced in (0, None):
        assert contents([*made, Synced(synced)], Model.WEAK) == [{"name": b""}]


def test_a_name_that_was_taken_away_may_come_back() -> None:
    """Until its directory is synced."""
    gone: list[Operation] = [Made(0, "name", 1, NEW), Synced(None), Gone(0, "name", 1)]
    assert {"name": b""} in contents(gone, Model.WEAK)
    assert contents([*gone, Synced(0)], Model.WEAK) == [{}]
