"""Read the few #SBATCH options that ESIS has to understand itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from esis.model.template import directive_options

_PATTERN = re.compile(r"%(\d{0,2})([%AaJjNnstux])")


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
        words = [*directive_options(script), *given]
        names = {"-o": "output", "--output": "output", "-e": "error", "--error": "error", "-J": "job_name",
                 "--job-name": "job_name", "-D": "directory", "--chdir": "directory", "--open-mode": "open_mode",
                 "-c": "cpus", "--cpus-per-task": "cpus", "-n": "ntasks", "--ntasks": "ntasks"}
        for position, word in enumerate(words):
            following = words[position + 1] if position + 1 < len(words) else ""
            if word.startswith("--"):
                option, equals, value = word.partition("=")
                value = value if equals else following
            else:
                option, value = word[:2], word[2:].removeprefix("=") or following
            if option in names:
                found[names[option]] = value
        append = found.pop("open_mode", "truncate").startswith("a")
        return cls(append=append, **found)


def expand_log_name(pattern: str, values: Mapping[str, str]) -> str:
    """Put `values`, by letter, into a file name pattern; `%3a` pads numbers with zeros."""
    def expand(match: re.Match[str]) -> str:
        value = "%" if match.group(2) == "%" else values[match.group(2)]
        width = int(match.group(1)) if match.group(1) else 0
        return value.zfill(width) if value.isdigit() else value

    return _PATTERN.sub(expand, pattern)
