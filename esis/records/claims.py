"""Read which job does the work of an array of a submission: the fence in its script made the claim, a link."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from esis.errors import CorruptState
from esis.files import fsync_directory
from esis.model.workdir import RunDir
from esis.records.submissions import JOB_ID, Submission

_ADVICE = "squeue shows whether a job of it runs; esis doc faults"


def read_claim(run: RunDir, number: int, position: int = 0) -> str | None:
    """Return the id of the job that does the work of an array of a submission; None where none has started.

    Raises CorruptState, OSError where something is there that can't be read: somebody may be at work.
    """
    path = run.claim(number, position)
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


def make_claim(run: RunDir, number: int, position: int, job: str) -> str:
    """Name the job that does the work of an array, as the fence does; return which one does. Raises as read_claim."""
    with suppress(FileExistsError):
        os.symlink(job, run.claim(number, position))  # noqa: PTH211
        fsync_directory(run.submissions)
        return job
    return read_claim(run, number, position) or ""


def claims(run: RunDir, submission: Submission) -> list[str | None]:
    """Return the claim of each of its arrays. Raises as read_claim does."""
    return [read_claim(run, submission.number, position) for position in range(len(submission.arrays))]
