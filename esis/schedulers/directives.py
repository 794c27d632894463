"""Read the few #SBATCH options that ESIS has to understand itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from esis.model.options import line_options, script_options

_PATTERN = re.compile(r"%(\d*)([%AabJjNnrSstux])")
_WIDEST = 10  # digits to which Slurm fills up

_KEPT = {"output": "output", "error": "error", "job-name": "job_name", "chdir": "directory", "open-mode": "open_mode",
         "cpus-per-task": "cpus", "ntasks": "ntasks", "clusters": "cluster"}


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
    cluster: str | None = None

    @property
    def clusters(self) -> tuple[str, ...]:
        """Return the clusters among which sbatch chooses; none where it asks the default one."""
        return tuple(name for name in (self.cluster or "").split(",") if name)

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
    """Put `values`, by letter, into a file name pattern; `%3a` pads numbers with zeros. Other letters stay."""
    def expand(match: re.Match[str]) -> str:
        value = "%" if match.group(2) == "%" else values.get(match.group(2), match.group())
        width = min(int(match.group(1) or 0), _WIDEST)
        return value.zfill(width) if value.isdigit() else value

    if "\\" in pattern:
        return pattern.replace("\\", "")  # which keeps sbatch from replacing anything
    return _PATTERN.sub(expand, pattern)


def fill_names(pattern: str, job_name: str, user: str) -> str:
    """Put what is the same for all tasks into a file name pattern, so that it means no other files."""
    names = {"x": job_name.replace("%", "%%"), "u": user.replace("%", "%%")}
    return _PATTERN.sub(lambda match: names.get(match.group(2), match.group()), pattern)


def missing_directories(options: Options, cwd: Path) -> list[Path]:
    """Return the directories of logs that aren't there: a task whose log can't be made fails before it begins."""
    parents = {Path(pattern).parent for pattern in (options.output, options.error) if pattern}
    return sorted(cwd / parent for parent in parents if "%" not in str(parent) and not (cwd / parent).is_dir())
