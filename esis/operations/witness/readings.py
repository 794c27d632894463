"""Find out what a job works on whose id no submission names: one by hand, or one whose id esis never got.

Its indices are read by the script that it runs, sbatch.sh as it was then, with the offset of one of its arrays. A task
that has begun names the script in its record. Of a job that waits the ids tell which scripts it may have; where they
leave more than one reading, nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Optional

from esis.model.workdir import RunDir
from esis.operations.witness.evidence import Evidence
from esis.records.submissions import LOCAL, Outcome, Submission
from esis.schedulers.base import JobState, Sighting
from esis.schedulers.identity import sent_as

Place = tuple[Optional[Submission], int]  # a submission and the position of an array of it; None: indices are tasks


class Readings:
    """Read the indices of jobs that no submission names."""

    def __init__(self, evidence: Evidence, strangers: Iterable[Sighting]) -> None:
        """Find the places of these jobs; `places` holds those that are certain."""
        self._evidence = evidence
        indices = evidence.indices
        self._tasks = indices if isinstance(indices, range) else frozenset(indices)
        self.places: dict[str, Place] = {}
        self.sent: set[str] = set()  # those of them that ESIS sent, and whose ids it never got
        self._open: dict[str, Sequence[Place]] = {}  # the readings of a job, where they differ
        self._begun: dict[str, list[int]] = {}  # what such a job has begun all the same, with an offset of its own
        by_job: dict[str, list[Sighting]] = {}
        for seen in strangers:
            by_job.setdefault(seen.job, []).append(seen)
        recorded = self._recorded(by_job)
        for job, sightings in by_job.items():
            self._read(job, sightings, recorded.get(job, ()))

    def possible(self, seen: Sighting) -> Iterable[int]:
        """Yield the tasks that a job may hold of which nobody knows."""
        for submission, position in self._open.get(seen.job, ()):
            if submission is not None and seen.indices is not None:
                yield from self._of_run(submission.tasks_at(position, seen.indices))
        yield from self._begun.get(seen.job, ())

    def _read(self, job: str, sightings: Sequence[Sighting], begun: Sequence[int]) -> None:
        evidence = self._evidence
        if not evidence.submissions or evidence.is_old:
            self.places[job] = evidence.submissions[-1] if evidence.submissions else None, 0
            return
        indices = sorted({index for seen in sightings for index in seen.indices or ()})
        place = self._begun_in(indices, begun)
        if place is not None:
            self.places[job] = place
            return
        sent = sent_as(evidence.run, sightings[0].place)
        made = [item for item in evidence.submissions if sent is not None and item.number == sent.number]
        if sent is not None and made:
            if not _steps_aside(evidence.run, made[0], sent.position):
                self.places[job] = made[0], sent.position
                self.sent.add(job)
            return
        by_esis = sent is not None
        found: dict[tuple[int, ...], Place] = {}
        for submission, position in self._readings(job, by_esis):
            tasks = tuple(self._of_run(submission.tasks_at(position, indices)))
            if tasks:
                found[tasks] = submission, position
        # What ESIS itself sent may be of a submission that was made since the records were read.
        if len(found) == 1 and not by_esis and not begun:
            (self.places[job],) = found.values()
            return
        self._open[job] = tuple(found.values())
        if any(seen.state in (JobState.WAITING, JobState.ACTIVE) for seen in sightings):
            self._begun[job] = [task for task in begun if not evidence.records[task].ended]

    def _begun_in(self, indices: Sequence[int], begun: Sequence[int]) -> Place | None:
        """Return what the records of a job tell of its script; None where they don't, or not all of it."""
        if not begun:
            return None
        number = self._evidence.records[begun[0]].submission
        submission = next((item for item in self._evidence.submissions if item.number == number), None)
        if submission is None:
            return None
        position, index = submission.place_of(begun[0])
        # With another offset than that of an array the indices are other tasks; those that Slurm forgot prove nothing.
        at_work = [task for task in begun if not self._evidence.records[task].ended]
        if index < 0 or (at_work and set(submission.tasks_at(position, indices)).isdisjoint(at_work)):
            return None
        return submission, position

    def _readings(self, job: str, by_esis: bool) -> Iterable[tuple[Submission, int]]:
        """Yield the arrays that a job may be one of; the latest submission comes last."""
        candidates = self._candidates(job)
        unsent = [
            (item, position)
            for item in candidates
            if item.outcome is Outcome.OPEN and item.scheduler != LOCAL
            for position in range(len(item.jobs), len(item.arrays))
        ]
        if by_esis and unsent:
            return unsent
        return [(item, position) for item in candidates for position in range(len(item.arrays))]

    def _candidates(self, job: str) -> Sequence[Submission]:
        """Return the submissions whose script the job may run; that of a refused one stood there, too.

        A submission names the jobs that were there before it: these run an earlier script. A job that wasn't there when
        Slurm was asked, and got a higher id than the submission, has come behind it.
        """
        found: list[Submission] = []
        one_cluster = len({item.cluster for sub in self._evidence.in_slurm for item in sub.jobs}) <= 1
        for item in self._evidence.submissions:
            if job in item.seen:
                break
            behind = item.scheduler != LOCAL and bool(item.jobs) and one_cluster and int(item.jobs[0].id) < int(job)
            found = [item] if behind else [*found, item]
        return found

    def _of_run(self, tasks: Iterable[int]) -> Iterable[int]:
        return (task for task in tasks if task in self._tasks)

    def _recorded(self, jobs: Mapping[str, object]) -> dict[str, list[int]]:
        """Return the tasks whose latest record is one of these jobs'."""
        records = self._evidence.records
        samples = {records.kind(task): task for task in records}
        kinds = {kind: records[task].job for kind, task in samples.items() if records[task].job in jobs}
        found: dict[str, list[int]] = {}
        for task in records if kinds else ():
            job = kinds.get(records.kind(task))
            if job is not None:
                found.setdefault(job, []).append(task)
        return found


def _steps_aside(run: RunDir, submission: Submission, position: int) -> bool:
    """Return whether a job of an array is to do no work: Slurm refused it later, or others were typed in."""
    from esis.records.claims import is_given_up  # seldom needed

    return position >= len(submission.arrays) or (submission.records and is_given_up(run, submission.number, position))
