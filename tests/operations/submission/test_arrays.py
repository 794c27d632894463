"""A submission is cut into arrays that Slurm takes, and every task stands in exactly one of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esis.model.index_sets import as_sequence, parse_ranges
from esis.model.limits import Limits
from esis.operations.submission.arrays import ARRAY_SPEC_LIMIT, UNPACKED, Packing, Plan, plan, share
from esis.records.submissions import Job, Submission

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy

scattered = st.sets(st.integers(0, 400) | st.integers(0, 10**6), min_size=1, max_size=120).map(
    lambda found: as_sequence(sorted(found))
)
ranges = st.builds(lambda first, count: range(first, first + count), st.integers(0, 10**5), st.integers(1, 700))
every_second = st.builds(
    lambda first, count: tuple(range(first, first + 2 * count, 2)), st.integers(0, 3000), st.integers(2, 3000)
)
many = ranges | scattered | every_second
limits = st.builds(Limits, st.integers(1, 60) | st.integers(61, 2000), st.none() | st.integers(1, 300))
packings = st.just(UNPACKED) | st.builds(Packing, st.integers(2, 40), st.integers(1, 4))
throttles = st.just(0) | st.integers(1, 30) | st.integers(31, 500)


def submitted(tasks: Sequence[int], throttle: int, planned: Plan, packing: Packing = UNPACKED) -> Submission:
    """Return the submission of a plan, its jobs called 100, 101, …"""
    jobs = tuple(Job(str(100 + number)) for number in range(len(planned.arrays)))
    return Submission(
        1,
        "slurm",
        tasks,
        planned.arrays,
        "ab",
        1.5,
        "o",
        True,
        jobs=jobs,
        throttle=throttle,
        mapped=planned.mapped,
        per_job=packing.per_job,
        parallel=packing.parallel,
    )


def indices(spec: str) -> list[int]:
    return list(parse_ranges(spec.partition("%")[0]))


@RELAXED
@given(many, throttles, limits, packings)
def test_every_task_is_in_exactly_one_array(tasks: Sequence[int], throttle: int, cap: Limits, packing: Packing) -> None:
    """In the order of the tasks, under indices that Slurm takes, in specifications that it takes."""
    planned = plan(tasks, throttle, cap, packing)
    found = submitted(tasks, throttle, planned, packing)
    held: list[int] = []
    for position, array in enumerate(planned.arrays):
        units = indices(array.spec)
        assert units == sorted(set(units))
        assert units[0] >= 0
        assert units[-1] < cap.max_array_size
        assert cap.max_array_tasks is None or len(units) <= cap.max_array_tasks
        assert len(array.spec.partition("%")[0]) <= ARRAY_SPEC_LIMIT
        own = list(found.tasks_at(position, units))
        assert len(own) == array.tasks > 0
        held += own
    assert held == list(tasks)


@RELAXED
@given(many, throttles, limits, packings)
def test_places_and_tasks_are_inverse(tasks: Sequence[int], throttle: int, cap: Limits, packing: Packing) -> None:
    """What Slurm calls job and index is one task, or one pack of them, and back again."""
    found = submitted(tasks, throttle, plan(tasks, throttle, cap, packing), packing)
    for at, task in enumerate(tasks):
        position, index = found.place_of(task)
        behind = list(found.tasks_at(position, (index,)))
        assert behind == (
            [task] if not found.packed else list(tasks[at // found.per_job * found.per_job :][: found.per_job])
        )
        assert index in set(indices(found.arrays[position].spec)) if at < 50 else index >= 0


@RELAXED
@given(many, throttles, limits, packings)
def test_no_more_run_at_a_time_than_asked_for(
    tasks: Sequence[int], throttle: int, cap: Limits, packing: Packing
) -> None:
    """The shares of the arrays that may run side by side add up to the throttle, or less; lanes included."""
    found = submitted(tasks, throttle, plan(tasks, throttle, cap, packing), packing)
    parts = [array.throttle for array in found.arrays]
    if throttle == 0:
        assert set(parts) == {0}
        return
    assert min(parts) >= 1
    assert sum(parts[: found.lanes or len(parts)]) <= throttle
    assert sum(parts) == throttle or found.lanes
    assert max(parts) - min(parts) <= 1


@RELAXED
@given(st.integers(0, 1000), st.integers(1, 1000))
def test_shares(throttle: int, arrays: int) -> None:
    """As even as whole numbers are; none gets nothing, for 0 would mean no limit."""
    parts = share(throttle, arrays)
    assert len(parts) == arrays
    assert (0 in parts) == (throttle == 0)
    if throttle >= arrays:
        assert sum(parts) == throttle
        assert max(parts) - min(parts) <= 1
    elif throttle:
        assert parts == [1] * arrays


@pytest.mark.parametrize(
    ("tasks", "throttle", "expected"),
    [([0], 0, "0"), ([0, 1, 2, 3], 10, "0-3%10"), ([1, 3, 4, 9], 1, "1,3-4,9%1"), (range(1, 1001), 0, "1-1000")],
)
@pytest.mark.parametrize("cap", [None, Limits()])
def test_what_fits_is_one_array_of_the_tasks_own_indices(
    tasks: list[int], throttle: int, expected: str, cap: Limits | None
) -> None:
    """Ranges, and the throttle behind a percent sign; 0 means none."""
    planned = plan(tasks, throttle, cap)
    assert [(array.spec, array.offset) for array in planned.arrays] == [(expected, 0)]
    assert not planned.mapped


def test_an_array_of_no_tasks_is_never_written() -> None:
    """An empty --array makes Slurm submit a plain job, so it must not come to that."""
    with pytest.raises(ValueError, match="at least one task"):
        plan([], 5, Limits())


def test_a_thousand_tasks_and_a_limit_of_a_hundred() -> None:
    """MaxArraySize 101: the largest index is 100; the first array keeps the tasks' own indices."""
    planned = plan(range(250), 10, Limits(101))
    assert [(array.spec, array.offset, array.tasks) for array in planned.arrays] == [
        ("0-100%4", 0, 101),
        ("0-100%3", 101, 101),
        ("0-47%3", 202, 48),
    ]
    assert not planned.mapped


def test_a_first_task_that_is_no_index_is_taken_from_all() -> None:
    """The largest index is one less than MaxArraySize."""
    assert [(array.spec, array.offset) for array in plan([1000], 0, Limits(1001)).arrays] == [("1000", 0)]
    assert [(array.spec, array.offset) for array in plan([1001, 1002], 0, Limits(1001)).arrays] == [("0-1", 1001)]


def test_the_number_of_tasks_of_an_array_may_be_limited_too() -> None:
    """max_array_tasks caps the count, MaxArraySize the index."""
    planned = plan(range(1, 251), 0, Limits(1001, 100))
    assert [(array.spec, array.offset) for array in planned.arrays] == [("1-100", 0), ("0-99", 101), ("0-49", 201)]


def test_where_slurm_takes_no_arrays_the_cutting_ends_all_the_same() -> None:
    """MaxArraySize=0 turns arrays off: sbatch says so of an array of one."""
    assert [(array.spec, array.offset) for array in plan(range(2), 0, Limits(0)).arrays] == [("0", 0), ("0", 1)]
    assert [array.spec for array in plan(range(3), 0, Limits(1001, 0)).arrays] == ["0-2"]


def test_f23_scattered_tasks_beyond_the_length_of_a_specification_are_positions_in_a_list() -> None:
    """F23: exact ranges where they fit, which a person can read; else a dense array and a map."""
    few, more = list(range(0, 1000, 2)), list(range(0, 20000, 2))
    assert plan(few, 0, Limits(100_000)).arrays[0].spec.startswith("0,2,4,6,")
    planned = plan(more, 0, Limits(100_000))
    assert planned.mapped
    assert [(array.spec, array.offset, array.tasks) for array in planned.arrays] == [("0-9999", 0, 10000)]


def test_scattered_tasks_need_no_more_than_one_array_more_than_dense_ones() -> None:
    """137 of a million tasks are not 137 arrays for the sake of their own indices."""
    tasks = list(range(0, 1_000_000, 7300))
    planned = plan(tasks, 0, Limits(101))
    assert planned.mapped
    assert len(planned.arrays) == 2


def test_a_specification_of_3500_characters_is_taken_as_it_is() -> None:
    """3,544 were seen accepted: one more than that bound is a map."""
    tasks = [*range(10_000, 11_160, 2), 100_000, 100_002, 100_004]
    planned = plan(tasks, 0, Limits(200_000))
    assert (len(planned.arrays[0].spec), planned.mapped) == (3500, False)
    longer = [*tasks[:579], *range(100_000, 100_008, 2)]
    assert len(plan(longer, 0, None).arrays[0].spec) == 3501
    assert plan(longer, 0, Limits(200_000)).mapped


def test_one_array_more_than_dense_ones_is_worth_the_tasks_own_indices() -> None:
    """A person can read them; two arrays more are too many."""
    apart = plan([*range(10), *range(150, 160)], 0, Limits(101))
    assert [(array.spec, array.offset) for array in apart.arrays] == [("0-9", 0), ("0-9", 150)]
    assert not apart.mapped
    assert plan([*range(10), *range(150, 160), *range(300, 310)], 0, Limits(101)).mapped


def test_packs_of_tasks_in_a_row_need_no_map() -> None:
    """Wherever the row begins: the first task and the index tell the others."""
    assert not plan(range(3, 9), 0, Limits(), Packing(2)).mapped
    assert plan([3, 4, 6], 0, Limits(), Packing(2)).mapped


def test_what_is_not_packed_is_one_task_after_the_other() -> None:
    assert (UNPACKED.per_job, UNPACKED.parallel) == (1, 1)


def test_packs_are_units_of_their_own() -> None:
    """20,000 tasks packed 500 to a job: 40 elements; the last pack may be smaller."""
    planned = plan(range(20_000), 0, Limits(), Packing(500, 2))
    assert [(array.spec, array.offset, array.tasks) for array in planned.arrays] == [("0-39", 0, 20_000)]
    assert not planned.mapped
    small = plan([1, 2, 5, 9, 11], 3, Limits(2), Packing(2))
    assert small.mapped
    assert [(array.spec, array.offset, array.tasks) for array in small.arrays] == [("0-1%2", 0, 4), ("0%1", 2, 1)]


def test_without_limits_one_array_of_any_size_will_do() -> None:
    """On this machine there is no Slurm to refuse it."""
    assert [array.spec for array in plan(range(5_000_000), 7, None).arrays] == ["0-4999999%7"]
