"""Read the few #SBATCH options that ESIS has to understand itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from esis.environment import named_clusters
from esis.model import log_pattern
from esis.model.options import line_options, script_options

_KEPT = {
    "output": "output",
    "error": "error",
    "job-name": "job_name",
    "chdir": "directory",
    "open-mode": "open_mode",
    "cpus-per-task": "cpus",
    "ntasks": "ntasks",
    "clusters": "cluster",
}


@dataclass(frozen=True)
class Options:
    """Hold the options that mean something on one machine, or name the logs."""

    output: str = log_pattern.DEFAULT
    error: str | None = None
    job_name: str = "sbatch.sh"
    directory: str | None = None
    append: bool = False
    cpus: str | None = None
    ntasks: str | None = None
    cluster: str | None = None

    @classmethod
    def of(cls, script: str, given: Sequence[str] = ()) -> Options:
        """Read them from a script's #SBATCH lines and from given ones; the last of a kind counts, as with sbatch."""
        found: dict[str, str] = {}
        for option in [*script_options(script), *line_options(given)]:
            if option.name in _KEPT:
                found[_KEPT[option.name]] = option.value or ""
        append = found.pop("open_mode", "truncate").startswith("a")
        return cls(append=append, **found)


def chosen_clusters(script: str, given: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the clusters among which sbatch chooses; none where it asks the default one.

    As with sbatch, the environment outranks the script.
    """
    named = Options.of(script, given).cluster or ""
    return named_clusters() or tuple(name for name in named.split(",") if name)
