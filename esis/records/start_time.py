"""Write and read wf_starttime: local time as users' scripts of 0.0.4 parse it; ESIS 0.1 wrote seconds since 1970."""

from __future__ import annotations

import math
import re
import time

_FORM = "%d.%m.%Y-%H:%M:%S"
_DATE = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})-(\d{1,2}):(\d{1,2}):(\d{1,2})\Z", re.ASCII)  # as that
_LATEST = 253_370_764_800  # the year 9999


def format_start_time(seconds: float) -> str:
    """Return a time, given in seconds since 1970, as DD.MM.YYYY-HH:MM:SS."""
    return time.strftime(_FORM, time.localtime(seconds))


def parse_start_time(text: str) -> float | None:
    """Return the seconds since 1970 that a text means, in either form; None where it means no time."""
    text = text.strip()
    try:
        seconds = float(text)
    except ValueError:
        seconds = _parse_date(text)
    return seconds if math.isfinite(seconds) and 0 <= seconds < _LATEST else None


def _parse_date(text: str) -> float:
    from datetime import datetime  # whoever submits only writes

    try:
        found = _DATE.match(text)
        if found is None:
            return datetime.fromisoformat(text).timestamp()
        day, month, year, hour, minute, second = map(int, found.groups())
        return datetime(year, month, day, hour, minute, second).timestamp()
    except (OverflowError, OSError, ValueError):
        return math.nan
