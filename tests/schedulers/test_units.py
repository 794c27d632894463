"""Times and sizes of Slurm's options: what sbatch takes is read as it does (22.05 to 26.05), the rest is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esis.errors import BadInput
from esis.schedulers.units import format_limit, format_memory, is_unlimited, parse_limit, parse_memory


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 5400),
        ("1:30", 90),
        ("0:30", 30),
        ("1:30:00", 5400),
        ("2-0", 172800),
        ("2-", 172800),
        ("1-2:30", 95400),
        ("1-2:30:10", 95410),
        (" 5 ", 300),
    ],
)
def test_limits(text: str, seconds: int) -> None:
    assert parse_limit(text) == seconds
    assert not is_unlimited(text)


@pytest.mark.parametrize("text", ["0", "0:0", "0-0", "0:00:00", "UNLIMITED", "unlimited", "infinite", "-1", "00"])
def test_f62_what_means_no_limit_is_not_computed_with(text: str) -> None:
    """F62: Slurm takes these for UNLIMITED; a number made of them would be a limit of a minute."""
    assert is_unlimited(text)
    with pytest.raises(BadInput):
        parse_limit(text)


@pytest.mark.parametrize("text", ["", "now+1hour", "1:2:3:4", "30s", "1.5", "1 0", "-", ":", "-5", "partition", "²"])
def test_what_sbatch_refuses_is_no_limit(text: str) -> None:
    assert not is_unlimited(text)
    with pytest.raises(BadInput):
        parse_limit(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("4GB", 4096),
        ("4gb", 4096),
        ("4G", 4096),
        ("4MB", 4),
        ("2T", 2 * 1024**2),
        ("1024k", 1),
        ("1024KB", 1),
        ("0", 0),
        ("0G", 0),
    ],
)
def test_sizes(text: str, size: float) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    "text", ["", "4Gi", "4GiB", "1.5G", "1P", "4 G", "MaxMemPerNode", "-1", "4X", "B", "max", "²G"]
)
def test_what_sbatch_refuses_is_no_size(text: str) -> None:
    with pytest.raises(BadInput):
        parse_memory(text)


@given(st.integers(1, 10**7))
def test_what_is_written_is_read_again(number: int) -> None:
    assert number <= parse_limit(format_limit(number)) < number + 60
    assert parse_memory(format_memory(number)) == number
