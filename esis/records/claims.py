"""Read which job does the work of an array of a submission: the fence in its script made the claim, a link."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from esis.errors import CorruptState
from esis.files import fsync_directory
from esis.model.workdir import RunDir
from esis.records.submissions import JOB_ID, Submission

_NOBODY = "0"  # the hook lets a job with another number step aside, and no job has this one
_ADVICE = "squeue shows whether a job of it runs; esis doc faults"


def read_claim(run: RunDir, number: int, position: int = 0) -> str | None:
    """Return the id of the job that does the work of an array of a submission; None where none has started.

    Raises CorruptState, OSError where something is there that can't be read: somebody may be at work.
    """
    job = _read(run.claim(number, position))
    return job if job != _NOBODY else None


def is_given_up(run: RunDir, number: int, position: int = 0) -> bool:
    """Return whether no job is to do the work of an array any more. Raises as read_claim does."""
    return _read(run.claim(number, position)) == _NOBODY


def give_up(run: RunDir, number: int, position: int) -> bool:
    """Let no job do the work of an array any more; False where one has begun. Raises as read_claim does."""
    with suppress(FileExistsError):
        os.symlink(_NOBODY, run.claim(number, position))  # noqa: PTH211
        fsync_directory(run.submissions)
    return is_given_up(run, number, position)


def claims(run: RunDir, submission: Submission) -> list[str | None]:
    """Return the claim of each of its arrays. Raises as read_claim does."""
    return [read_claim(run, submission.number, position) for position in range(len(submission.arrays))]


def _read(path: Path) -> str | None:
    try:
        job = os.readlink(path)  # noqa: PTH115  a path would tidy it up
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise CorruptState(f"{path} is corrupt: it is no symbolic link", _ADVICE) from None
    if JOB_ID.match(job) is None:
        raise CorruptState(f"{path} is corrupt: expected the id of a job, found {job[:60]!r}", _ADVICE)
    return job
