"""How often a task was tried is counted in one place."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from esis.model.index_sets import as_sequence
from esis.records.attempts import Attempts
from esis.records.submissions import Array, Outcome, Submission

indices = st.sets(st.integers(0, 40), max_size=12).map(sorted)


@st.composite
def submissions(draw: st.DrawFn) -> Submission:
    tasks = draw(indices)
    returned = draw(st.sets(st.sampled_from(tasks))) if tasks else ()
    return Submission(
        1,
        "slurm",
        as_sequence(tasks),
        (Array("0"),),
        "",
        0.0,
        "",
        True,
        outcome=draw(st.sampled_from(Outcome)),
        returned=tuple(sorted(returned)),
    )


@settings(deadline=None)
@given(indices, st.lists(submissions(), max_size=5))
def test_an_attempt_is_a_submission_that_was_not_refused_and_not_given_back(
    tasks: list[int], made: list[Submission]
) -> None:
    """Also one that was never acknowledged: it may run. Submissions may name tasks that the run hasn't any more."""
    counts = Attempts(tasks, made)
    for task in tasks:
        assert counts[task] == sum(
            task in item.tasks and task not in item.returned for item in made if item.outcome is not Outcome.REFUSED
        )
