"""Index sets of tasks: parameter files on disk, ranges as people write them, array specifications of Slurm."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from esis.errors import BadInput, UserScriptFailed

_FILES = re.compile(r"^parameters\.(0|[1-9][0-9]{0,11})\.json$", re.MULTILINE)
_SHOWN = 60  # characters of a text in a message
_RANGE = re.compile(r"([0-9]{1,12})(?:-([0-9]{1,12}))?\Z")
MOST_TASKS = 10_000_000  # of a run; more is a typing error, or a damaged file, and would take all memory


def find_parameter_files(directory: Path) -> Sequence[int]:
    """Return the sorted indices n of the files `parameters.<n>.json` in `directory`; a range where they are one."""
    names = os.listdir(directory)
    text = "\n".join(names)  # a hundred thousand names are faster looked at together
    if text.count("\n") >= len(names):
        text = "\n".join(name for name in names if "\n" not in name)
    found = list(map(int, _FILES.findall(text)))
    if found and max(found) - min(found) + 1 == len(found):  # no two names have the same number
        return range(min(found), max(found) + 1)
    return sorted(found)


def check_indices(indices: Sequence[int], announced: int) -> bool:
    """Check what a generator wrote against what it announced; the files are the truth.

    Returns True where it announced the last index instead of the number (as 0.0.4's examples do).
    Raises UserScriptFailed where there are no files, a gap, or another number was announced.
    """
    if not indices:
        raise UserScriptFailed(
            "the parameter generator wrote no parameters.<n>.json, and no parameters.jsonl",
            "it has to write them into its working directory",
        )
    first = indices[0]
    if first not in (0, 1):
        raise UserScriptFailed(f"the parameter files start at index {first}", "start at 0 or 1")
    count = len(indices)
    if count > MOST_TASKS:
        raise UserScriptFailed(
            f"the parameter generator wrote {count} parameter sets, and a run has {MOST_TASKS} at most",
            "make several workflows of it, or let a task do more",
        )
    if indices[-1] - first + 1 != count:
        present = set(indices)
        missing = next(n for n in range(first, indices[-1]) if n not in present)
        raise UserScriptFailed(
            f"parameters.{missing}.json is missing: found {count} files up to index {indices[-1]}",
            "write them without a gap",
        )
    if announced == count:
        return False
    if announced == indices[-1]:
        return True
    what = (
        f"parameters.{indices[-1] + 1}.json is the first one missing"
        if announced > count
        else f"parameters.{first + announced}.json is the first one too many"
    )
    raise UserScriptFailed(
        f"the parameter generator announced {announced} parameter sets and wrote {count}: {what}",
        "print the number of parameter sets",
    )


def format_ranges(indices: Iterable[int]) -> str:
    """Write sorted indices as Slurm and people do: `0-3,7,9-10`."""
    if isinstance(indices, range) and indices.step == 1 and indices:
        return _part(indices[0], indices[-1])
    parts: list[str] = []
    start = previous = None
    for index in indices:
        if previous is not None and index == previous + 1:
            previous = index
            continue
        if start is not None and previous is not None:
            parts.append(_part(start, previous))
        start = previous = index
    if start is not None and previous is not None:
        parts.append(_part(start, previous))
    return ",".join(parts)


def as_sequence(indices: Sequence[int]) -> Sequence[int]:
    """Return sorted indices as a range where they are one, else as a tuple."""
    if indices and indices[-1] - indices[0] + 1 == len(indices):
        return range(indices[0], indices[-1] + 1)
    return tuple(indices)


def parse_ranges(text: str) -> Sequence[int]:
    """Read what `format_ranges` writes; also unsorted, overlapping or spaced. Raises BadInput.

    What is one range stays one: a million tasks take no more room than one. Holds no more than MOST_TASKS.
    """
    ranges: list[range] = []
    for low, high in sorted(map(_bounds, text.split(","))):
        if ranges and low <= ranges[-1].stop:
            ranges[-1] = range(ranges[-1].start, max(ranges[-1].stop, high + 1))
        else:
            ranges.append(range(low, high + 1))
    if len(ranges) == 1 and len(ranges[0]) <= MOST_TASKS:
        return ranges[0]
    if sum(map(len, ranges)) > MOST_TASKS:
        raise BadInput(f"{_short(text)!r} are more than {MOST_TASKS} tasks", "write it like 3,5-7")
    return list(chain.from_iterable(ranges))


def _bounds(part: str) -> tuple[int, int]:
    match = _RANGE.match(part.strip())
    if match is None:
        raise BadInput(f"{_short(part)!r} is not a set of task indices", "write it like 3,5-7")
    low = int(match.group(1))
    high = int(match.group(2)) if match.group(2) is not None else low
    if high < low:
        raise BadInput(f"the range {part.strip()!r} is not usable", "write it like 5-7")
    return low, high


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _part(start: int, end: int) -> str:
    return str(start) if start == end else f"{start}-{end}"
