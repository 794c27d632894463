"""Know all that the power is cut in the middle of, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.crash_states import commands
from tests.crash_states.commands import Command
from tests.crash_states.states import Subject
from tests.faults.bench import Nursery

Maker = Callable[[Path, Nursery], Subject]


def _command(name: str, directory: Path, nursery: Nursery) -> Subject:
    return Command.make(directory, name, nursery)


SUBJECTS: dict[str, Maker] = {name: partial(_command, name) for name in commands.COMMANDS}
# Each break of the product, with the subjects of which somebody has to notice it.
BREAKS = {**dict.fromkeys(commands.BREAKS, ("run",))}
