"""Read the few #SBATCH options that ESIS has to understand itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from esis.model.options import line_options, script_options

_PATTERN = re.compile(r"%(\d{0,2})([%AaJjNnstux])")

_KEPT = {"output": "output", "error": "error", "job-name": "job_name", "chdir": "directory", "open-mode": "open_mode",
         "cpus-per-task": "cpus", "ntasks": "ntasks"}


@dataclass(frozen=True)
class Options:
    """Hold the options that mean something on one machine, or name the logs."""

    output: str = "slurm-%A_%a.out"
    error: str | None = None
    job_name: str = "sbatch.sh"
    directory: str | None = None
    append: bool = False
    cpus: str | None = None
    ntasks: str | None = None

    @classmethod
    def of(cls, script: str, given: Sequence[str] = ()) -> Options:
        """Read them from a script's #SBATCH lines and from given ones; the last of a kind counts, as with sbatch."""
        found: dict[str, str] = {}
        for option in [*script_options(script), *line_options(given)]:
            if option.name in _KEPT:
                found[_KEPT[option.name]] = option.value or ""
        append = found.pop("open_mode", "truncate").startswith("a")
        return cls(append=append, **found)


def expand_log_name(pattern: str, values: Mapping[str, str]) -> str:
    """Put `values`, by letter, into a file name pattern; `%3a` pads numbers with zeros."""
    def expand(match: re.Match[str]) -> str:
        value = "%" if match.group(2) == "%" else values[match.group(2)]
        width = int(match.group(1)) if match.group(1) else 0
        return value.zfill(width) if value.isdigit() else value

    return _PATTERN.sub(expand, pattern)
