"""Count how often each task of a run was handed to a scheduler."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

from esis.records.submissions import Outcome, Submission


class Attempts:
    """Hold the counts by task; of a million tasks each is looked at once for each submission of it."""

    def __init__(self, indices: Sequence[int], submissions: Iterable[Submission]) -> None:
        """Count for the tasks `indices`, which are sorted; what was refused, or given back undone, is no attempt."""
        self._first = indices[0] if len(indices) else 0
        self._counts = array("l", [0]) * (indices[-1] - self._first + 1 if len(indices) else 0)
        for submission in submissions:
            if submission.outcome is not Outcome.REFUSED:
                self._add(1, submission.tasks)
                self._add(-1, submission.returned)

    def __getitem__(self, task: int) -> int:
        at = task - self._first
        return self._counts[at] if 0 <= at < len(self._counts) else 0

    def _add(self, number: int, tasks: Iterable[int]) -> None:
        for task in tasks:
            at = task - self._first
            if 0 <= at < len(self._counts):
                self._counts[at] += number
