"""Know the job around a worker, from the variables that Slurm and task.sh set."""

from __future__ import annotations

import os

from esis.hook import INDEX_VARIABLE, LOCAL_VARIABLE, PACKED_VARIABLE, RECORD_VARIABLE
from esis.worker.task import own_record


class JobHere:
    """Hold what names the job, and how far Slurm can be asked to act on it."""

    def __init__(self, name: str, local: bool, packed: bool, record: str | None) -> None:
        """Take what the environment says."""
        self.name = name  # of this one task, never of the whole array
        self.local = local  # esis run --local: Slurm knows nothing of it
        self.packed = packed  # several tasks share it
        self.record = record  # of this attempt, without its last word

    @classmethod
    def here(cls) -> JobHere | None:
        """Return the job around this process; None outside of one."""
        array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
        record = own_record()
        if record is not None or not os.environ.get(RECORD_VARIABLE):  # else both are those of another job
            # The hook may have put the task's index into SLURM_ARRAY_TASK_ID; Slurm knows its own one only.
            index = os.environ.get(INDEX_VARIABLE) or index
        plain = os.environ.get("SLURM_JOB_ID")
        if array and index:
            # Not SLURM_JOB_ID: in the last task of an array that is the array's own id, which names all of its tasks.
            name = f"{array}_{index}"
        elif plain and not array:
            name = plain
        else:
            return None
        return cls(name, bool(os.environ.get(LOCAL_VARIABLE)), bool(os.environ.get(PACKED_VARIABLE)), record)


def asking_environment(**extra: str) -> dict[str, str]:
    """Return the environment in which Slurm is asked about the job around this process.

    A filter of the user's would leave the job out, and other clusters don't have it, or another one of its number.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SLURM_CLUSTERS"))}
    return {**kept, **extra}
