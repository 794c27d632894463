"""Read and write the times and memory sizes of Slurm's options, as sbatch(1) describes them."""

from __future__ import annotations

import math
import re

from esis.errors import BadInput

_LIMIT = re.compile(r"(?:(\d+)-(?=\d|\Z))?(\d*)(?::(\d+))?(?::(\d+))?\Z", re.ASCII)
_UNLIMITED = frozenset({"UNLIMITED", "INFINITE", "-1"})
_DURATION = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?(?:\.\d+)?\Z")
_MEMORY = re.compile(r"(\d+)(?:([KMGT])B?)?\Z", re.IGNORECASE | re.ASCII)
_MEBIBYTES = {"K": 1 / 1024, "": 1.0, "M": 1.0, "G": 1024.0, "T": 1024.0**2}


def parse_limit(text: str) -> int:
    """Return the seconds of a `--time` value: minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S.

    Raises BadInput, also where the value means that there is no limit.
    """
    match = _LIMIT.match(text.strip())
    seconds = _seconds(match) if match is not None and any(match.groups()) else 0
    if not seconds:
        raise BadInput(f"{text!r} is no time limit that can be computed with", "write it like 90, 1:30:00 or 2-0")
    return seconds


def _seconds(match: re.Match[str]) -> int:
    days, first, second, third = (int(part) if part else None for part in match.groups())
    if days is not None:
        return days * 86400 + (first or 0) * 3600 + (second or 0) * 60 + (third or 0)
    if third is not None:
        return (first or 0) * 3600 + (second or 0) * 60 + third
    return (first or 0) * 60 + (second or 0)


def is_unlimited(text: str) -> bool:
    """Return whether a `--time` value means that there is no limit; Slurm takes 0 for that, too, in every form."""
    match = _LIMIT.match(text.strip())
    return text.strip().upper() in _UNLIMITED or (match is not None and any(match.groups()) and not _seconds(match))


def parse_elapsed(text: str) -> int | None:
    """Return the seconds of a time that squeue shows ([D-][H:]M:S); None for INVALID, UNLIMITED and the like."""
    match = _DURATION.match(text.strip())
    if match is None:
        return None
    days, first, second, third = (int(part) if part is not None else None for part in match.groups())
    if second is None:
        return None
    if third is None:
        return (days or 0) * 86400 + (first or 0) * 60 + second
    return (days or 0) * 86400 + (first or 0) * 3600 + second * 60 + third


def parse_start(text: str) -> float | None:
    """Return the seconds since 1970 of a moment that Slurm shows in local time, without the last digit; None: N/A.

    Where clocks were put back meanwhile the earlier one of two such moments.
    """
    from datetime import datetime

    try:
        return datetime.fromisoformat(f"{text}0").timestamp()
    except ValueError:
        return None


def format_limit(seconds: float) -> str:
    """Return a `--time` value of at least that many seconds, in whole minutes: D-HH:MM:00."""
    minutes = max(1, math.ceil(seconds / 60))
    days, rest = divmod(minutes, 1440)
    return f"{days}-{rest // 60:02d}:{rest % 60:02d}:00"


def parse_memory(text: str) -> float:
    """Return the MiB of a `--mem` value; 0, as with Slurm, is all of a node. Raises BadInput."""
    match = _MEMORY.match(text.strip())
    if match is None:
        raise BadInput(f"{text!r} is no amount of memory", "write it like 4000M or 64G")
    return float(match.group(1)) * _MEBIBYTES[(match.group(2) or "").upper()]


def format_memory(mebibytes: float) -> str:
    """Return a `--mem` value of at least that many MiB."""
    return f"{max(1, math.ceil(mebibytes))}M"


def show_duration(seconds: float) -> str:
    """Return a time for people: D-HH:MM:SS without what is zero at the front."""
    total = max(0, round(seconds))
    days, rest = divmod(total, 86400)
    text = f"{rest // 3600}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days}-{text.zfill(8)}" if days else text
