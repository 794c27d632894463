"""ESIS, the Easy SLURM Isolated Scanner: parameter scans on Slurm clusters.

For workers, optional and made of the standard library alone (`esis doc workers`):

    import esis

    task = esis.task()
    esis.export(energy=work(task.parameters, task.seed))

Everything is imported when it is first used, so that `import esis` by itself costs next to nothing.
"""

from __future__ import annotations

# typing.TYPE_CHECKING without the import of typing, which is what would cost most here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    __version__: str

    from esis import checkpoint
    from esis.worker.attempts import Overtaken
    from esis.worker.checkpoints import Checkpoint, Checkpoints
    from esis.worker.requeue import Requeued, requeue
    from esis.worker.stop import Stop, should_stop, stopping
    from esis.worker.task import Task, checkpoints, export, export_array, task

__all__ = [
    "Checkpoint",
    "Checkpoints",
    "Overtaken",
    "Requeued",
    "Stop",
    "Task",
    "__version__",
    "checkpoint",
    "checkpoints",
    "export",
    "export_array",
    "requeue",
    "should_stop",
    "stopping",
    "task",
]

_PLACES = (
    ("esis.worker.attempts", ("Overtaken",)),
    ("esis.worker.task", ("Task", "checkpoints", "export", "export_array", "task")),
    ("esis.worker.checkpoints", ("Checkpoint", "Checkpoints")),
    ("esis.worker.stop", ("Stop", "should_stop", "stopping")),
    ("esis.worker.requeue", ("Requeued", "requeue")),
)


def __getattr__(name: str) -> Any:
    """Import what a worker asks for."""
    from importlib import import_module

    if name == "checkpoint":
        return import_module("esis.checkpoint")
    if name == "__version__":
        return import_module("esis.version").VERSION
    for module, names in _PLACES:
        if name in names:
            found = globals()[name] = getattr(import_module(module), name)
            return found
    raise AttributeError(f"module 'esis' has no attribute {name!r}")
