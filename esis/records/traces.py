"""See what in a run's directory only submissions and tasks leave: where there is any of it, nothing is built anew.

A power cut or a slip of the hand can take state.json, parameter sets or records of submissions away while jobs are
queued and results are there. So every name counts, whether the file can be read or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from esis.errors import CorruptState
from esis.files import PROBE_PREFIX, fsync_directory, is_there, names_in
from esis.model.workdir import RunDir
from esis.records.stage import Stage, is_claimed
from esis.records.submissions import Submission
from esis.records.tasks import submission_numbers

KEPT = (
    "nothing was removed or submitted; squeue shows whether tasks still wait or run: restore what is missing, or "
    "move what is worth keeping away, remove the run, and esis run builds it again"
)
_OF_A_SUBMISSION = re.compile(r"([0-9]{4,9})\.(.+)\Z", re.DOTALL)
_CLAIM = ".claim"
_RESULT = re.compile(r"results\.")
_SHOWN = 3  # names of a kind in a message


def found(run: RunDir, stage: Stage | None) -> list[str]:
    """Describe what submissions and tasks have left; `stage`: as far as the build is known to be. Raises OSError.

    A setup script may put what it likes into results/, cwd/ and __checkpoints__/. Before it runs, and where nothing
    tells whether it was over, what is there counts.
    """
    # What asks a file server tells of nothing; half a record does.
    intents = [name for name in sorted(names_in(run.submissions)) if not name.startswith(PROBE_PREFIX)]
    told = [_shown(run.submissions, intents), _shown(run.tasks, sorted(names_in(run.tasks)))]
    single = [
        path
        for path in (run.folded_tasks, run.folded_logs, run.job_ids, run.start_time, run.complete_mark)
        if is_there(path)
    ]
    told += [path.name for path in single]
    if is_claimed(run):
        told.append(f"a 1 in {run.completed.name}")
    results = sorted(names_in(run.results))
    told.append(_shown(run.results, results if stage is None else [name for name in results if _RESULT.match(name)]))
    if stage in (None, Stage.SNAPSHOT):
        told += [_shown(place, sorted(names_in(place))) for place in (run.cwd, run.checkpoints)]
    return [text for text in told if text]


def check_submissions(run: RunDir, known: Iterable[Submission]) -> None:
    """Raise CorruptState where a submission has left traces and its record isn't there any more. Raises OSError."""
    recorded = {item.number for item in known}
    latest = max(recorded, default=0)
    named = list(_numbered(run))
    if not (
        recorded
        or any(map(is_there, (run.job_ids, run.start_time)))
        or any(not name.endswith(_CLAIM) for _, name in named)
    ):
        return  # ESIS has built it; somebody may have submitted its script by hand
    lost = {number: name for number, name in named if number not in recorded}
    if lost:
        number, name = min(lost.items())
        raise CorruptState(
            f"{run.submission(number)} is missing, and {name} shows that submission {number} was made", KEPT
        )
    # Records of earlier ones may be deleted once a run is complete.
    later = sorted(number for number in submission_numbers(run) if number > latest)
    if later:
        raise CorruptState(
            f"{run.submission(later[0])} is missing, and tasks of submission {later[0]} have left records", KEPT
        )
    if not recorded and is_there(run.job_ids):
        raise CorruptState(f"{run.submissions} is empty, and {run.job_ids.name} shows that a job was submitted", KEPT)


def next_number(run: RunDir, known: Iterable[Submission], refused: Iterable[int]) -> int:
    """Return a number that no submission has had, as far as any trace of one tells. Raises OSError.

    `refused`: numbers of submissions that left nothing in Slurm. They are used again unless a job was there after all.
    """
    free = set(refused)
    used = {item.number for item in known if item.number not in free} | submission_numbers(run)
    for number, name in _numbered(run):
        if number not in free or not name.endswith((".json", ".map")):
            used.add(number)
    return max(used, default=0) + 1


def _numbered(run: RunDir) -> Iterable[tuple[int, str]]:
    for name in sorted(names_in(run.submissions)):
        match = _OF_A_SUBMISSION.match(name)
        if match is not None:
            yield int(match.group(1)), name


def _shown(place: Path, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more} in {place.name}/"


def bring_back(run: RunDir) -> None:
    """Make the directories again that a copy without empty ones has left out: without them no task leaves a record."""
    for directory in run.often_empty():
        if not is_there(directory):
            directory.mkdir()
            fsync_directory(directory.parent)
