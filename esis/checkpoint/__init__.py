"""Keep the checkpoint interface of ESIS 0.0.4 working, with its names, values and files; new workers: esis.checkpoints.

    __checkpoints__/<name>/storage/…              the files
    __checkpoints__/<name>/checkpoint.meta.json   base seed, iteration, places
    __checkpoints__/<name>/checkpoint.ok          1 and a newline, once set_OK was called
    __checkpoints__/<name>/external               a link to where its large files are, once one was asked for
    __checkpoints__/<name>/checkpoint.begun       which process is making it, until there is something to go on from
    __checkpoints__/<name>/kept/<number>/         of an iterative one: a copy of the files as of the last set_iteration
    __checkpoints__/<name>/checkpoint.opened/     of an iterative one: which processes have it open, and how they ended

The last three are not 0.0.4's. They are why a worker that is killed while it writes into `storage/` finds the state
before, and why one that never came that far doesn't stand in its own way.
"""

from __future__ import annotations

from esis.checkpoint.checkpoint import iterative_checkpoint
from esis.checkpoint.facility import checkpoint_facility

__all__ = ["checkpoint_facility", "iterative_checkpoint"]
