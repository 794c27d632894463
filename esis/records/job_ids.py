"""Keep jobid.tx, the ids of the latest submission's jobs for users' own scripts, as ESIS 0.0.4 did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from esis.errors import CorruptState
from esis.files import read_limited, write_atomic
from esis.model.workdir import RunDir
from esis.records.submissions import Submission


def save(run: RunDir, submission: Submission, check: Callable[[], None]) -> None:
    """Write the ids of a submission, a line each, if `check` raises nothing at the last moment. Raises OSError."""
    write_atomic(run.job_ids, _text(submission), check=check)


def mend(run: RunDir, known: Sequence[Submission], check: Callable[[], None]) -> None:
    """Write them again where a kill kept them behind the records. Raises OSError, and what `check` raises."""
    last = next((item for item in reversed(known) if item.jobs), None)
    if last is None:
        return
    with suppress(CorruptState, OSError):
        if read_limited(run.job_ids) == _text(last).encode():
            return
    save(run, last, check)


def _text(submission: Submission) -> str:
    return "".join(f"{job.id}\n" for job in submission.jobs)
