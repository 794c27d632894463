"""The protocol of submission as a model: every state of it, and mutations that have to break it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.model_check.check import ALL, MODEL, Case, check, missing

LACKING = missing()
CASES = [(kind, case) for kind, cases in ALL.items() for case in cases]


@pytest.mark.skipif(LACKING is not None, reason=f"there is no {LACKING}")
@pytest.mark.parametrize(("kind", "case"), CASES, ids=[f"{kind}: {case.title}" for kind, case in CASES])
def test_the_protocol_holds_in_all_states_and_its_mutations_break_it(tmp_path: Path, kind: str, case: Case) -> None:
    result = check(case, tmp_path / "spin")
    assert result.fits(case), result.output


def test_every_switch_of_the_model_is_used() -> None:
    text = MODEL.read_text()
    for _, case in CASES:
        for name in case.mutations.split():
            assert f"#ifdef {name}\n" in text or f"#ifndef {name}\n" in text
        for item in case.bounds.split():
            assert f"#define {item.partition('=')[0]} " in text
