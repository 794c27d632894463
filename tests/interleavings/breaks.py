"""Break a copy of the product on purpose: each way has to be caught by a pair. README.md here has the table."""

from __future__ import annotations

from typing import NamedTuple

from tests.interleavings.trial import Pair
from tests.simulation.breaks import BREAKS as SIMULATED
from tests.simulation.breaks import Break


class Caught(NamedTuple):
    """A way to break the product, and a pair that shows it."""

    broken: Break
    by: Pair


BREAKS = {
    "lock-not-held": Caught(SIMULATED["lock-not-held"], Pair("resubmit", "resubmit", "failed")),
    "still-not-asked": Caught(
        Break(
            "nobody asks whether he still has the run before he writes",
            "locks.py",
            "    me = Owner.parse(Owner.current().text())\n    others = []\n",
            "    return\n    me = Owner.parse(Owner.current().text())\n    others = []\n",
        ),
        Pair("run", "run --take-over", "built"),
    ),
    "read-before-the-lock": Caught(
        Break(
            "what a run tells is read before it is locked",
            "operations/build/prepare.py",
            "    acquire(run.lock, owner, run.label, context.take_over)\n    try:\n        sweep(run.lock)\n"
            "        refresh(run.submissions)  # another login node may have submitted a moment ago\n"
            "        found = _gathered(run)\n",
            "    found = _gathered(run)\n    acquire(run.lock, owner, run.label, context.take_over)\n    try:\n",
        ),
        Pair("resubmit", "resubmit", "failed"),
    ),
    "looks-once-at-records": Caught(
        Break(
            "esis compact doesn't look whether a task has begun since it asked",
            "operations/compact.py",
            "    return stage.records_moment(run) == moment\n",
            "    return True\n",
        ),
        Pair("compact", "a task is requeued and begins", "complete"),
    ),
    "looks-once-at-files": Caught(
        Break(
            "esis compact doesn't look once more at a file that it has moved aside",
            "operations/unchanged.py",
            "follow_symlinks=False))[:3] == signature[:3]:\n",
            "follow_symlinks=False)):\n",
        ),
        Pair("compact", "a task is requeued and runs", "complete"),
    ),
    "sender-not-seen": Caught(
        Break(
            "esis cancel doesn't care who is still handing over arrays",
            "operations/active/asked.py",
            "    under_way = any(",
            "    under_way = False and any(",
        ),
        Pair("run", "cancel", "arrays"),
    ),
    "removed-before-it-is-folded": Caught(
        Break(
            "results are removed before the file that holds them is in its place",
            "operations/compact.py",
            "        write_lines(descriptor, lines())\n",
            "        write_lines(descriptor, lines())\n        remove(run.results, written)\n",
        ),
        Pair("compact", "export", "complete"),
    ),
    "verdict-of-the-latest": Caught(
        Break(
            "Slurm's verdict on an attempt goes into the name of the latest record of the task",
            "records/tasks.py",
            "        (directory / record.name).rename(directory / kept.name)\n",
            "        sorted(directory.glob(f'{record.task}.*'))[-1].rename(directory / kept.name)\n",
        ),
        Pair("status", "a task is resubmitted and begins", "out of memory"),
    ),
}
