"""Know all that the power is cut in the middle of, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.crash_states import cancelling, commands, workers
from tests.crash_states.cancelling import Cancelling
from tests.crash_states.commands import Command
from tests.crash_states.states import Subject
from tests.crash_states.workers import Worker
from tests.faults.bench import Nursery

Maker = Callable[[Path, Nursery], Subject]


def _command(name: str, directory: Path, nursery: Nursery) -> Subject:
    return Command.make(directory, name, nursery)


def _worker(scenario: str, directory: Path, nursery: Nursery) -> Subject:
    return Worker.make(directory, scenario)


SUBJECTS: dict[str, Maker] = {
    **{name: partial(_command, name) for name in commands.COMMANDS},
    "cancel": Cancelling.make,
    "export": partial(_worker, "results"),
    "export_array": partial(_worker, "arrays"),
    "checkpoints": partial(_worker, "new"),
    "set_iteration": partial(_worker, "iterative"),
    "set_ok": partial(_worker, "plain"),
}
# Each break of the product, with the subjects that have to notice it.
BREAKS = {
    **dict.fromkeys(commands.BREAKS, ("run",)),
    **dict.fromkeys(cancelling.BREAKS, ("cancel",)),
    **dict.fromkeys(workers.BREAKS, ("export", "checkpoints")),
    "checkpoint-renamed-before-its-sync": ("checkpoints",),
}
