"""Write and read wf_starttime: local time as users' scripts of 0.0.4 parse it; ESIS 0.1 wrote seconds since 1970."""

from __future__ import annotations

import math
from datetime import datetime

_FORM = "%d.%m.%Y-%H:%M:%S"
_LATEST = datetime(9999, 1, 1).timestamp()


def format_start_time(seconds: float) -> str:
    """Return a time, given in seconds since 1970, as DD.MM.YYYY-HH:MM:SS."""
    return datetime.fromtimestamp(seconds).strftime(_FORM)


def parse_start_time(text: str) -> float | None:
    """Return the seconds since 1970 that a text means, in either form; None where it means no time."""
    text = text.strip()
    try:
        seconds = float(text)
    except ValueError:
        seconds = _parse_date(text)
    return seconds if math.isfinite(seconds) and 0 <= seconds < _LATEST else None


def _parse_date(text: str) -> float:
    try:
        try:
            return datetime.strptime(text, _FORM).timestamp()
        except ValueError:
            return datetime.fromisoformat(text).timestamp()
    except (OverflowError, OSError, ValueError):
        return math.nan
