"""The table in README has the rows of the benchmark, which runs here with few tasks: its times mean nothing."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.bench import __main__ as command
from tests.bench import export, includes, million, peers, run, startup, status, traced
from tests.bench.figure import Figure
from tests.bench.scan import ENVIRONMENT
from tests.bench.startup import ROOT, Installed


class Here(Installed):
    """The environment of the tests; what stands for the smallest click program doesn't matter."""

    @property
    def smallest(self) -> str:
        return self.esis


HERE = Here(ENVIRONMENT)
PARTS: dict[str, Callable[[], list[Figure]]] = {
    "startup": lambda: startup.measure(HERE, rounds=1),
    "run": lambda: run.measure(HERE, 200, 20, rounds=1),
    "includes": lambda: includes.measure(HERE, mib=1, rounds=1),
    "status": lambda: status.measure(HERE, 1200, rounds=1),
    "export": lambda: export.measure(HERE, 200, 20, rounds=1),
    "million": lambda: million.measure(HERE, 40_000),
}


def without_numbers(name: str) -> str:
    return re.sub(r"\d[\d.,]*", "N", name)


def rows_in_readme() -> dict[str, str]:
    """Return the rows of the table by their names without numbers."""
    text = (ROOT / "README.md").read_text("utf-8")
    section = text.partition("## How fast it is")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return {without_numbers(line.split(" | ")[0][2:]): line for line in rows if not line.startswith("| | ")}


def test_every_part_is_tried_here() -> None:
    """The other programs of the field need a registry; they have a test of their own."""
    assert {*PARTS, "peers"} == {*command.PARTS}


@pytest.mark.parametrize("part", list(PARTS))
def test_readme_has_the_rows_of_a_part(part: str) -> None:
    """Each figure has its row there, with the same goal."""
    if not traced.works():
        pytest.skip("strace is not installed, or may not trace here")
    rows = rows_in_readme()
    for figure in PARTS[part]():
        row = rows.get(without_numbers(figure.name))
        assert row is not None, figure.name
        assert figure.goal is None or f"| ≤ {figure.goal:g}" in row


def test_readme_has_the_rows_of_the_peers() -> None:
    """Those that are started, and those whose jobs are counted."""
    rows = rows_in_readme()
    assert all(any(name.startswith(text) for name in rows) for text in peers.STARTS.values())
    assert all(f"{name}, N jobs" in rows for name in peers.WORK)


def test_readme_has_no_row_that_nobody_measures() -> None:
    """The number of rows that each part is known to have."""
    figures = {"startup": 4, "run": 5, "includes": 6, "status": 11, "export": 6, "million": 5, "peers": 7}
    assert len(rows_in_readme()) == sum(figures.values())


def test_the_table_says_what_is_not_met() -> None:
    """And what was left out has no figure's place taken by a zero that looks good."""
    shown = command.table([Figure("a", 1.0, 2.0, "x"), Figure("b", 3.0, 2.0, "x", "why"), Figure("c", 5000.4, None)])
    lines = [re.sub(" +", " ", line) for line in shown.splitlines()]
    assert lines[2:] == ["| a | 1 | ≤ 2 | x | |", "| b | 3 | ≤ 2, not met | x | why |", "| c | 5000 | | | |"]
