"""Index sets survive being written and read, and a generator's files are checked against what it said."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esis.errors import BadInput, UserScriptFailed
from esis.model.index_sets import as_sequence, check_indices, find_parameter_files, format_ranges, parse_ranges

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy

indices = st.sets(st.integers(0, 60) | st.integers(0, 10**9), max_size=40).map(sorted)


@RELAXED
@given(indices)
def test_ranges_round_trip(wanted: list[int]) -> None:
    """What format_ranges writes, parse_ranges reads; it is the shortest way to say it."""
    text = format_ranges(wanted)
    if wanted:
        assert list(parse_ranges(text)) == wanted
        assert format_ranges(as_sequence(wanted)) == text
    else:
        assert text == ""
    starts = sum(1 for index in wanted if index - 1 not in set(wanted))
    assert len([part for part in text.split(",") if part]) == starts


@RELAXED
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), min_size=1), st.randoms())
def test_ranges_may_overlap_and_come_in_any_order(parts: list[tuple[int, int]], random: object) -> None:
    """People write ranges as they like; the set is the same."""
    text = " , ".join(f"{low}-{low + more}" for low, more in parts)
    assert list(parse_ranges(text)) == sorted({n for low, more in parts for n in range(low, low + more + 1)})


@pytest.mark.parametrize(
    "text",
    ["", ",", "a", "1,", "1-", "-1", "5-2", "1--2", "1-2-3", "1.5", "0x1", "1 2", "0-999999999999", "1" * 13, "1\n2"],
)
def test_what_is_no_set_of_indices_is_refused(text: str) -> None:
    """A typing error is named, never read as something else."""
    with pytest.raises(BadInput):
        parse_ranges(text)


@RELAXED
@given(indices)
def test_sorted_indices_are_kept_whole_in_little_room(wanted: list[int]) -> None:
    """A range where they are one, else a tuple; nothing is added or lost."""
    kept = as_sequence(wanted)
    assert list(kept) == wanted
    assert isinstance(kept, range) == (bool(wanted) and wanted[-1] - wanted[0] + 1 == len(wanted))


def test_a_million_tasks_take_no_more_room_than_one() -> None:
    """What was one range stays one."""
    assert parse_ranges("0-999999") == range(1_000_000)
    assert format_ranges(range(1_000_000)) == "0-999999"
    assert format_ranges(range(0, 10, 3)) == "0,3,6,9"
    assert format_ranges(range(0)) == ""


@RELAXED
@given(st.integers(0, 1), st.integers(1, 40))
def test_the_announced_number_is_right(first: int, count: int) -> None:
    """Files without a gap from 0 or 1 on, and their number announced, are accepted."""
    assert check_indices(range(first, first + count), count) is False


@RELAXED
@given(st.integers(1, 40))
def test_the_last_index_instead_of_the_number_is_noticed(last: int) -> None:
    """0.0.4's examples print the last index: accepted, and told apart."""
    assert check_indices(range(last + 1), last) is True


@RELAXED
@given(st.integers(0, 1), st.integers(2, 40), st.data())
def test_f35_the_first_gap_is_named(first: int, count: int, data: st.DataObject) -> None:
    """F35: of several files that are missing the first one is named."""
    whole = list(range(first, first + count + 1))
    missing = data.draw(st.sets(st.sampled_from(whole[1:-1]), min_size=1))
    with pytest.raises(UserScriptFailed) as caught:
        check_indices([index for index in whole if index not in missing], count)
    assert f"parameters.{min(missing)}.json is missing" in str(caught.value)


@pytest.mark.parametrize(
    ("present", "announced", "named"),
    [
        ([], 3, "wrote no parameters.<n>.json, and no parameters.jsonl"),
        ([2, 3], 2, "start at index 2"),
        ([0, 1, 2], 5, "parameters.3.json is the first one missing"),
        ([1, 2, 3], 5, "parameters.4.json is the first one missing"),
        ([0, 1, 2, 3], 2, "parameters.2.json is the first one too many"),
        ([1, 2, 3], 2, "parameters.3.json is the first one too many"),
        ([0, 1, 2], 0, "parameters.0.json is the first one too many"),
        ([0, 1, 2], 10**11, "announced 100000000000 parameter sets and wrote 3:"),
    ],
)
def test_f35_more_or_fewer_files_than_announced(present: list[int], announced: int, named: str) -> None:
    """F35: the message names the first index that is missing or too many, and both numbers."""
    with pytest.raises(UserScriptFailed) as caught:
        check_indices(present, announced)
    assert named in str(caught.value)


def test_only_parameter_files_count(tmp_path: Path) -> None:
    """Other names, leading zeros, signs and temporary files are no parameter sets."""
    for name in (
        "parameters.0.json",
        "parameters.10.json",
        "parameters.2.json",
        "parameters.01.json",
        "parameters.-1.json",
        "parameters.1.json.tmp",
        "parameters..json",
        "parameters.1e3.json",
        "parameters.json",
        "xparameters.5.json",
        "parameters.6.json\n",
        "parameters.1234567890123.json",
    ):
        (tmp_path / name).touch()
    assert find_parameter_files(tmp_path) == [0, 2, 10]
