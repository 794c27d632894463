"""ESIS, the Easy SLURM Isolated Scanner: parameter scans on Slurm clusters."""

from esis.version import VERSION

__version__ = VERSION

__all__ = ["__version__"]
