"""Patterns of log names mean what sbatch(1) says, and a name that was made by one is read by it as what it is."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esis.model.log_pattern import DEFAULT, Pattern, Reading, kept_apart

VALUES = {
    "A": "1234",
    "a": "57",
    "b": "7",
    "j": "1290",
    "J": "1290",
    "n": "0",
    "r": "0",
    "t": "0",
    "N": "node-1.2",
    "s": "batch",
    "u": "ada",
    "x": "my job",
}
numbers = st.integers(0, 10**9)
words = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=5)
fields = st.builds("%{}{}".format, st.sampled_from(["", "1", "2", "04", "10", "12"]), st.sampled_from("AajbNxu"))
texts = st.text("ab0-_.9%", max_size=3).map(lambda text: text.replace("%", "%%"))
patterns = st.lists(st.one_of(fields, texts), max_size=6).map("".join)


def read(pattern: str, name: str, *jobs: str) -> list[tuple[str | None, int | None]]:
    return [(found.job, found.index) for found in Pattern.of(pattern).read(name, jobs)]


@given(patterns, numbers, numbers, numbers, words, words)
def test_what_was_expanded_is_read_back(pattern: str, job: int, index: int, task: int, host: str, name: str) -> None:
    """Whatever the fields, their widths and what is beside them, the truth is among the readings."""
    values = {"A": str(job), "a": str(index), "b": str(index % 10), "j": str(task), "N": host, "x": name, "u": "ada"}
    made = Pattern.of(pattern)
    found = set(made.read(str(made.filled(values))))
    truth = Reading(str(job) if "A" in made.letters else None, index if "a" in made.letters else None)
    assert truth in found or not str(made)
    known = made.filled({letter: value for letter, value in values.items() if letter in "xuN"})
    assert truth in set(known.read(str(made.filled(values)))) or not str(made)


@given(patterns, numbers, numbers)
def test_a_reading_is_one_that_gives_the_name(pattern: str, job: int, index: int) -> None:
    """What is read, put in again, makes the same name, where job and index are all that is in it."""
    made = Pattern.of(pattern)
    if made.letters <= {"A", "a", "b"}:
        name = str(made.filled({"A": str(job), "a": str(index), "b": str(index % 10)}))
        for found in made.read(name):
            values = {"A": found.job or "", "a": str(found.index)}
            if "a" in made.letters:
                values["b"] = str((found.index or 0) % 10)
            assert str(made.filled(values)) == name or ("b" in made.letters and "a" not in made.letters)


@given(st.text("%aAjbNxu0129\\/q. -", max_size=12))
def test_any_text_is_a_pattern(text: str) -> None:
    """None raises, and one whose letters are turned off is its own name."""
    made = Pattern.of(text)
    name = str(made.filled(VALUES))
    assert made.matches(name)
    if "\\" in text:
        assert name == text.replace("\\", "") == made.fixed


@given(patterns)
def test_names_are_kept_apart(pattern: str) -> None:
    """The pattern that is given to sbatch holds the job, and the index where the script's pattern has none to show."""
    apart = kept_apart(pattern)
    if apart:
        assert {"A", "a"} <= Pattern.of(apart).letters
        assert not Pattern.of(pattern).letters & {"A", "J", "j"}
    else:
        assert Pattern.of(pattern).letters & {"A", "J", "j"}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("log_%a.txt", "log_%A_%a.txt"),
        ("log_%04a", "log_%A_%04a"),
        ("log", "log.%A_%a"),
        ("l%%a", "l%%a.%A_%a"),
        (r"l\%a", "l%%a.%A_%a"),
        (DEFAULT, ""),
        ("%j", ""),
        ("/dev/null", ""),
    ],
)
def test_the_pattern_that_keeps_arrays_apart(pattern: str, expected: str) -> None:
    assert kept_apart(pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        (DEFAULT, "slurm-10_3.out", [("10", 3)]),
        (DEFAULT, "slurm-10_03.out", []),  # nobody writes such a name
        (DEFAULT, "slurm-10_3.out.bak", []),
        ("%4a", "0007", [(None, 7)]),
        ("%4a", "7", []),
        ("%4a", "12345", [(None, 12345)]),
        ("%4a", "01234", []),
        ("log", "log", [(None, None)]),
        ("%j.out", "12.out", [(None, None)]),
        ("%A%a", "1015", [("10", 15), ("101", 5)]),  # as nobody knows the job
        ("%a-%b", "17-7", [(None, 17)]),
        ("%a-%b", "17-6", []),
        ("%a-%b", "17-%b", [(None, 17)]),  # as 22.05 writes it
        ("%a.%a", "3.3", [(None, 3)]),
        ("%a.%a", "3.4", []),
        ("%N-%a.out", "node-1-5.out", [(None, 5)]),
        ("%N/%a", "a/b/5", []),
        ("logs/%A/%a", "logs/7/0", [("7", 0)]),
        (r"l\%a", "l%a", [(None, None)]),
        (r"l\%a", "l3", []),
    ],
)
def test_reading(pattern: str, name: str, expected: list[tuple[str | None, int | None]]) -> None:
    """Names that a pattern can't have made are none of its."""
    assert read(pattern, name) == expected


def test_known_jobs_decide_between_readings() -> None:
    """Of `%A%a` nobody else can tell where one number ends."""
    assert read("%A%a", "1015", "101") == [("101", 5)]
    assert read("%A%a", "1015", "101", "10") == [("10", 15), ("101", 5)]


def test_only_numbers_are_filled_up() -> None:
    """A width is for numbers; a job's name may be made of digits."""
    assert str(Pattern.of("%6x-%4a-%99A").filled({"x": "12", "a": "3", "A": "4"})) == "12-0003-0000000004"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("log_%a", "cwd/log_%a"),
        ("./logs//%A/%a", "cwd/logs/%A/%a"),
        ("../logs/%a", "logs/%a"),
        ("a/../%a", "cwd/%a"),
        ("../../%a", None),
        ("/r/cwd/%a", "cwd/%a"),
        ("/r2/%a", None),
        ("/dev/null", None),
    ],
)
def test_where_in_a_run_logs_are(pattern: str, expected: str | None) -> None:
    """Relative names are as seen from cwd/; absolute ones may lead into the run."""
    found = Pattern.of(pattern).inside("/r", "cwd")
    assert (str(found) if found is not None else None) == expected


@given(patterns, words)
def test_a_wildcard_finds_the_name(pattern: str, name: str) -> None:
    """Fixed text stands for itself, whatever a shell would make of it."""
    made = Pattern.of(pattern).filled({"x": name})
    assert fnmatchcase(str(made.filled(VALUES)), made.wildcard())
