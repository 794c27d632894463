"""ESIS asks squeue for arrays, not for elements: the folded answer must tell the same as a row for each element."""

from __future__ import annotations

from pathlib import Path

import pytest

from esis.schedulers.answers import parse_squeue
from esis.schedulers.base import JobState

DATA = Path(__file__).parents[1] / "data" / "squeue" / "arrays"


def with_sluid(row: str) -> str:
    """Add the field that is asked for since."""
    parts = row.split("|", 5)
    return "|".join([*parts[:5], "", *parts[5:]])


def elements(path: Path) -> dict[tuple[int, int], tuple[JobState, str, str, str]]:
    """Return what an answer tells of each element: by the array's place in the order of submission, and the index."""
    # Captured before the marks were asked for.
    rows = path.read_text("utf-8").splitlines()
    seen, problem = parse_squeue("".join(f"esis|{line}|end\n" for line in ("ARRAY_JOB_ID|", *map(with_sluid, rows))))
    assert problem is None
    jobs = sorted({int(item.job) for item in seen})
    found: dict[tuple[int, int], tuple[JobState, str, str, str]] = {}
    for item in seen:
        assert item.indices is not None
        for index in item.indices:
            key = jobs.index(int(item.job)), index
            assert key not in found
            found[key] = item.state, item.word, item.reason, item.place
    return found


@pytest.mark.parametrize("version", ["20.11", "22.05", "24.11"])
def test_a_folded_answer_tells_of_each_element(version: str) -> None:
    """Waiting behind a throttle, running, requeued, held, cancelled in part and whole: on every version alike."""
    found = elements(DATA / f"{version}-asked.txt")
    assert found == elements(DATA / f"{version}-rows.txt")
    irregular, requeued, partly, held, behind = (
        {index: seen[0] for (array, index), seen in found.items() if array == number} for number in range(5)
    )
    waiting, active, failed = JobState.WAITING, JobState.ACTIVE, JobState.FAILED
    assert irregular == {
        index: active if index in (0, 2) else waiting for index in (0, 2, 3, 4, 7, *range(9, 41, 3), *range(41, 61), 77)
    }
    assert requeued == {0: active, 1: waiting, 2: active, 3: waiting, 4: waiting, 5: waiting}
    assert partly == dict.fromkeys((10, 11, 13, 14, *range(18, 29)), failed)
    assert held == dict.fromkeys(range(1, 91), waiting)
    assert behind == dict.fromkeys((*range(50), *range(61, 101)), waiting)
    assert {seen[3] for seen in found.values()} == {"(null)|/home/alice/a b, ü|x/cwd"}
