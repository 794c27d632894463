"""Judge the state of a task from its three witnesses: its own records, squeue, and sacct where there is one.

A query that fails, or a task absent from an answer, proves nothing by itself: where no witness is left the state is
`unknown`, never `failed` or `done`. A Slurm verdict of failure outranks an exit status of 0.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from functools import cached_property

from esis.operations.witness import words
from esis.operations.witness.evidence import Evidence
from esis.operations.witness.packs import CUT_OFF, TERMINATED, Packs, cuts_off, is_alone, leaves_no_ends, of_pack
from esis.operations.witness.queued import judge_queued, packed_by
from esis.operations.witness.sightings import Owners, Sightings
from esis.operations.witness.status import (
    ACTIVE_STATES,
    CLAIMED,
    RESUMABLE,
    Held,
    TaskState,
    TaskStatus,
    Unrecorded,
    Verdict,
)
from esis.records import tasks
from esis.records.submissions import LOCAL, Outcome, Submission
from esis.records.task_details import read_details
from esis.records.tasks import TaskRecord
from esis.schedulers.base import JobState, Sighting, Snapshot

# A network file system may show a directory as it was a minute ago (NFS: acdirmax 60 s).
GRACE_SECONDS = 65.0
_FUTURE_SECONDS = 3600.0  # clocks of nodes that nobody sets differ by minutes

_NO_END = "COMPLETED, no record of the end"
_NO_ENDS = "its script leaves no records of ends in this pack"


class Judge:
    """Hear the witnesses of one run's tasks."""

    def __init__(self, evidence: Evidence, snapshot: Snapshot, now: float) -> None:
        """Sort the sightings by task; `now` is in seconds since 1970."""
        self._evidence = evidence
        self._problem = snapshot.problem
        self._now = now
        taken = [item for item in evidence.submissions if item.outcome is not Outcome.REFUSED]
        self._owners = Owners(evidence.indices, taken)
        self._returned: dict[int, tuple[int, ...]] = {}  # by task, the submissions that gave it back
        for item in taken:
            for task in item.returned:
                self._returned[task] = (*self._returned.get(task, ()), item.number)
        self._sightings = Sightings(evidence, snapshot, taken)
        self._packs = Packs(evidence.records)
        self._begun_of: dict[int, Container[int]] = {}  # by submission
        # Jobs of Slurm's that no submission names, as a record tells; and whose, if squeue isn't asked about that user.
        self._strange: dict[str, str | None] = {}
        # What Slurm said and forgets: of records that it contradicts or completes, and of tasks that wrote none.
        self.outranked: dict[int, tuple[TaskRecord, str]] = {}
        self.unrecorded: dict[int, Unrecorded] = {}

    @property
    def queue(self) -> tuple[Held, ...]:
        """Return the run's jobs that wait or run."""
        return tuple(self._sightings.queue)

    @property
    def awaits_verdicts(self) -> bool:
        """Return whether sacct hasn't heard of an end yet, and squeue tells nothing of it either."""
        return self._sightings.awaits_ends

    def groups(self) -> dict[Verdict, list[int]]:
        """Return the tasks of each verdict, sorted.

        There may be a million of them: those of which everybody says the same are judged once. `_said` has to name
        every witness that `verdict` hears, and `_is_one_of_many` the tasks of which it hears more than that: what is
        left out there gives tasks the verdict of others.
        """
        found: dict[Verdict, list[int]] = {}
        alike: dict[object, list[int]] = {}
        indices = self._evidence.indices
        said_of_each = self._said(indices)
        if said_of_each is None:
            return {self.verdict(indices[0]): list(indices)} if indices else {}
        for task, said in zip(indices, said_of_each):
            tasks_alike = alike.get(said)
            if tasks_alike is None:
                verdict = self.verdict(task)
                tasks_alike = found.setdefault(verdict, [])
                if self._is_one_of_many(task, verdict):
                    alike[said] = tasks_alike
            tasks_alike.append(task)
        return found

    def task(self, task: int) -> TaskStatus:
        """Return the verdict on one task, and how long it took or has taken."""
        verdict = self.verdict(task)
        record, seen = self._evidence.records.get(task), self._sightings.live.get(task)
        if verdict.state is TaskState.RUNNING:
            if seen is not None and packed_by(self._sightings, seen) is None:
                return TaskStatus(verdict, seen.elapsed)
            own = record is not None and record.job == verdict.job  # else of an earlier attempt
            return TaskStatus(verdict, max(0.0, self._now - record.start) if record is not None and own else None)
        if verdict.state not in (TaskState.DONE, TaskState.FAILED):
            return TaskStatus(verdict)
        if record is not None and record.job == verdict.job and record.code is not None and record.end is not None:
            return TaskStatus(verdict, float(record.end - record.start))
        told = self._sightings.ended(verdict.job or "", task)
        return TaskStatus(verdict, told.elapsed if told is not None and not self._is_packed(task) else None)

    def verdict(self, task: int) -> Verdict:
        """Return the verdict on one task."""
        perhaps = self._sightings.perhaps.get(task)
        verdict = self._certain(task)
        if perhaps is None or verdict.state in ACTIVE_STATES:
            return verdict
        does = "waits" if perhaps.state is JobState.WAITING else "runs"
        return Verdict(TaskState.UNKNOWN, f"job {perhaps.job} {does}, and may hold it", job=perhaps.job, passing=True)

    def _certain(self, task: int) -> Verdict:
        """Judge a task by what is certainly about it."""
        record = self._evidence.records.get(task)
        submission, position = self._owners.place(task)
        current = record is not None and (submission is None or record.submission >= submission.number)
        seen = self._sightings.live.get(task)
        held = (seen, *self._sightings.more.get(task, ())) if seen is not None else ()
        queued = [found for job in held if (found := judge_queued(self._sightings, self._evidence.records, task, job))]
        if queued:
            return next((verdict for verdict in queued if verdict.state is TaskState.RUNNING), queued[0])
        if (
            submission is not None
            and submission.number in self._returned.get(task, ())
            and (
                record is None
                or record.submission < submission.number
                or submission.position_of(record.job) is not None
            )
        ):
            return Verdict(TaskState.UNSUBMITTED, "given back")
        if record is not None and current:
            return self._recorded(task, record, submission)
        if submission is None and self._evidence.state is None:
            if self._evidence.claimed:
                return Verdict(TaskState.DONE, CLAIMED)
            return Verdict(TaskState.UNKNOWN, "submitted by an ESIS that kept no records (0.0.4)")
        if submission is None:
            return Verdict(TaskState.UNSUBMITTED)
        verdict = self._unrecorded(task, submission, position)
        if verdict.state is TaskState.LOST and record is not None and record.start >= submission.created:
            # Its answer came too late, and so did it: it was at work behind a resubmission that Slurm lost.
            own = next((item for item in self._evidence.submissions if item.number == record.submission), None)
            return self._recorded(task, record, own)._replace(unread=True)
        return verdict

    def _said(self, tasks_: Sequence[int]) -> Iterable[object] | None:
        """Return for each task a key that is the same where all witnesses say the same; None: nobody says anything."""
        said: list[Iterable[object]] = []
        if self._evidence.records:
            said.append(self._evidence.records.kinds(tasks_))
        if self._owners.any:
            # A job of packs may be seen with tasks of another submission, so that the place counts, too.
            said.append(self._owners.numbers(tasks_))
        if self._sightings.live:
            said.append(map(id, map(self._sightings.live.get, tasks_)))
        if self._sightings.perhaps:
            said.append(map(id, map(self._sightings.perhaps.get, tasks_)))
        if self._sightings.alive:
            said.append(map(id, map(self._sightings.alive.get, tasks_)))
        if self._sightings.any_ended:
            said.append(self._sightings.kinds(tasks_))
        if self._returned:
            said.append(map(self._returned.get, tasks_))
        return zip(*said) if said else None

    def _is_packed(self, task: int) -> bool:
        submission, _ = self._owners.place(task)
        return submission is not None and submission.packed

    def _is_one_of_many(self, task: int, verdict: Verdict) -> bool:
        """Return whether its verdict holds for all tasks of which the same is said.

        Not where records and queue are compared task by task (packs, SLUIDs), where the place in a pack, a start time
        or a process counts, or where the record has to be put right.
        """
        if task in self.outranked or task in self.unrecorded:
            return False
        submission, _ = self._owners.place(task)
        packed = submission is not None and submission.packed
        seen = self._sightings.live.get(task)
        if seen is not None:
            return packed_by(self._sightings, seen) is None
        record = self._evidence.records.get(task)
        told = self._sightings.ended(record.job, task) if record is not None else None
        if told is not None and (told.sluid or (told.start and record is not None and not record.done)):
            return False
        earlier = record is None or (submission is not None and record.submission < submission.number)
        if earlier and submission is not None:
            late = record is not None and (verdict.state is TaskState.LOST or record.start >= submission.created)
            if late or self._begun(submission):
                return False
        if packed and record is None and (self._sightings.any_ended or self._evidence.records):
            return False
        if packed and record is not None and (not record.done or self._failure(record) is not None):
            return False
        return record is None or record.ended or earlier

    def _recorded(self, task: int, record: TaskRecord, submission: Submission | None) -> Verdict:
        """Judge a task whose present attempt left a record."""
        seen, failed = self._told(record), self._failure(record)
        rival = self._evidence.records.rival(task)
        also = f"; {rival.outcome} was recorded as well" if rival is not None else ""
        if (
            submission is not None
            and not record.done
            and self._packs.has_begun(submission, task, record.job, record.restart)
        ):
            return Verdict(TaskState.UNKNOWN, words.BEGUN_UNRECORDED, job=record.job, unread=True)
        if record.verdict == CUT_OFF:
            return Verdict(TaskState.UNSUBMITTED, "cut off at the end of its job")
        if record.verdict == tasks.COMPLETED and failed is None:
            return Verdict(TaskState.DONE, _NO_END + also, job=record.job)
        packed = submission is not None and submission.packed
        if record.verdict == tasks.UNRECORDED and (failed is None or packed):
            return Verdict(TaskState.UNKNOWN, words.unrecorded_end(record, packed), job=record.job)
        if not record.done and seen is not None and self._is_later(record, seen):
            self.unrecorded[task] = Unrecorded(record.submission, record.job, tasks.UNRECORDED, record.restart + 1)
            return Verdict(TaskState.UNKNOWN, words.LATER_UNRECORDED, job=record.job, unread=True)
        if record.verdict is not None:
            reason = words.failure_reason(failed, None, started=True) if failed is not None else record.verdict
            return Verdict(TaskState.FAILED, reason + also, job=record.job)
        if record.resumable:
            # Whatever became of its job afterwards: the state is saved.
            return Verdict(TaskState.FAILED, RESUMABLE, record.code, record.job)
        if failed is not None and packed and submission is not None and record.code == 0:
            packed = not is_alone(self._evidence.records, submission, record)
        if failed is not None and (not packed or record.code in (None, TERMINATED)):
            word = failed.word.split()[0]
            if packed and submission is not None and cuts_off(word, record.code is None):
                if record.code is None and leaves_no_ends(self._evidence.records, submission, record):
                    return self._absent(task, record.start, record.job, _NO_ENDS)
                if not submission.leads_pack(task):
                    self.outranked[task] = (record, CUT_OFF)
                    return Verdict(TaskState.UNSUBMITTED, "cut off at the end of its job", unread=record.code is None)
            if not record.code:
                self.outranked[task] = (record, word)
            return Verdict(
                TaskState.FAILED,
                words.failure_reason(failed, record.code, started=True),
                record.code or None,
                record.job,
            )
        if record.code is not None:
            state = TaskState.DONE if record.code == 0 else TaskState.FAILED
            reason = f"{words.exit_reason(record.code)}{also}".removeprefix("; ")
            return Verdict(state, reason, record.code, record.job)
        local = submission is not None and submission.scheduler == LOCAL
        nameless = submission is None or submission.position_of(record.job) is None
        if local or (nameless and record.job not in self._strange):  # else Slurm's: nothing to read
            from esis.operations.witness import on_machine

            details = read_details(self._evidence.run.tasks, record)
            if details is not None and details.boot:
                return on_machine.by_hand(record, details, lambda: self._sessions)
            if local and submission is not None:
                return on_machine.of_local_run(record, details, submission, lambda: self._sessions)
            whose = on_machine.stranger(self._evidence, record)  # who may keep what stands in it to himself
            if whose is not None or (details is not None and details.job):  # its other tasks need not be looked at
                self._strange[record.job] = whose
        if seen is not None:
            if seen.state is JobState.COMPLETED:
                self.outranked[task] = (record, tasks.COMPLETED)
                return Verdict(TaskState.DONE, _NO_END, job=record.job)
            return Verdict(TaskState.UNKNOWN, seen.word, job=record.job)
        if (stranger := self._strange.get(record.job)) is not None:
            return Verdict(TaskState.UNKNOWN, f"begun by {stranger}, whose jobs aren't asked for", job=record.job)
        return self._absent(task, record.start, record.job, "started, and left no record of its end")

    def _is_later(self, record: TaskRecord, seen: Sighting) -> bool:
        """Return whether Slurm says COMPLETED of a later start than that whose bad end was recorded (a requeue).

        A script may as well record a failure itself and end with 0: both are about one start then. Slurm lets two
        minutes pass before the next one.
        """
        if seen.state is not JobState.COMPLETED or record.end is None:
            return False
        details = read_details(self._evidence.run.tasks, record) if seen.sluid else None
        if details is not None and details.sluid:
            return details.sluid != seen.sluid
        return seen.began is not None and seen.began > record.end

    def _failure(self, record: TaskRecord) -> Sighting | None:
        """Return Slurm's verdict that the job of a record's attempt has failed, if there is one."""
        seen = self._told(record)
        return seen if seen is not None and seen.state is JobState.FAILED else None

    def _told(self, record: TaskRecord) -> Sighting | None:
        """Return what was said of the end of a record's attempt.

        Ids are used again, and requeued tasks keep theirs: where Slurm names attempts, what contradicts the record has
        to be about this one.
        """
        seen = self._sightings.ended(record.job, record.task)
        if seen is not None and record.code == 0 and words.never_began(seen):
            return None  # queued again behind its end, and cancelled there: that end stands
        if (
            seen is None
            or not seen.sluid
            or record.code not in (None, 0)
            or (record.code == 0 and seen.state is not JobState.FAILED)
        ):
            return seen
        details = read_details(self._evidence.run.tasks, record)
        return seen if details is None or details.sluid in ("", seen.sluid) else None

    def _unrecorded(self, task: int, submission: Submission, position: int) -> Verdict:
        """Judge a task whose present submission left no record of it."""
        if submission.scheduler == LOCAL:
            from esis.operations.witness import on_machine

            return on_machine.waits(submission, task, self._begun(submission))
        job = self._sightings.job_of(submission, position)
        if job is None:
            return Verdict(TaskState.UNKNOWN, "outcome of the submission unknown")
        sure = submission.records or submission.arrays[position].tasks == 1
        seen = self._sightings.ended(job, task) or self._sightings.ended_whole(job, sure)
        if seen is None and self._evidence.is_old:  # which of its jobs has the task isn't recorded
            earlier = (self._sightings.ended(item.jobs[0].id, task) for item in reversed(self._evidence.submissions))
            seen = next((told for told in earlier if told is not None), None)
        begun = self._packs.has_begun(submission, task, job)
        if seen is not None:
            word = seen.word.split()[0]
            if self._packs.is_through(submission, task, job, seen):
                begun = True  # and nothing else would tell it
                self.unrecorded[task] = Unrecorded(submission.number, job, tasks.UNRECORDED)
            if begun and seen.state is not JobState.COMPLETED:
                return Verdict(TaskState.UNKNOWN, words.BEGUN_UNRECORDED, job=job, unread=True)
            if submission.packed and cuts_off(word, any(of_pack(self._evidence.records, submission, task, job))):
                return Verdict(TaskState.UNSUBMITTED, f"its job ended before it came to it: {word}", unread=True)
            if seen.state is JobState.COMPLETED or (seen.state is JobState.FAILED and not submission.records):
                word = tasks.UNRECORDED if submission.records else word
                self.unrecorded[task] = Unrecorded(submission.number, job, word)
            if seen.state is JobState.FAILED:
                return Verdict(
                    TaskState.FAILED, words.failure_reason(seen, None, started=not submission.records), seen.code, job
                )
            if seen.state is JobState.COMPLETED and not submission.records:
                return Verdict(TaskState.DONE, "COMPLETED, no task records", job=job, fleeting=True)
            return Verdict(TaskState.UNKNOWN, f"{seen.word}, {words.NO_RECORD}", job=job, unread=True)
        since = submission.answered or submission.created
        if not submission.records and self._problem is None:
            if self._evidence.claimed:
                return Verdict(TaskState.DONE, CLAIMED, job=job)
            return Verdict(TaskState.UNKNOWN, "Slurm has forgotten it, and it writes no task records", job=job)
        verdict = self._absent(task, since, job, "Slurm doesn't know it, and it left no record")
        if begun and verdict.state is TaskState.LOST:
            return verdict._replace(state=TaskState.UNKNOWN, reason=words.BEGUN_UNRECORDED)
        return verdict

    def _begun(self, submission: Submission) -> Container[int]:
        """Return which tasks of a local run have a process, and perhaps no record."""
        if submission.scheduler != LOCAL:
            return ()
        if submission.number not in self._begun_of:
            from esis.operations.witness import on_machine

            self._begun_of[submission.number] = on_machine.just_begun(submission)
        return self._begun_of[submission.number]

    @cached_property
    def _sessions(self) -> Container[int]:
        """Return which sessions of this machine have processes."""
        from esis.processes import sessions

        return sessions()

    def _absent(self, task: int, since: float, job: str, what: str) -> Verdict:
        """Judge a task that should be in the queue and isn't."""
        if self._problem is not None:
            return Verdict(TaskState.UNKNOWN, f"squeue: {self._problem}", job=job, passing=True)
        accounted = self._sightings.said_alive(job, task)
        if accounted is not None:
            return Verdict(
                TaskState.UNKNOWN, f"sacct says {accounted.word}, and squeue doesn't show it", job=job, passing=True
            )
        if since - self._now > _FUTURE_SECONDS:
            return Verdict(
                TaskState.UNKNOWN, "not in the queue, and submitted in the future: a clock was set back", job=job
            )
        if self._now - since < GRACE_SECONDS:
            return Verdict(
                TaskState.UNKNOWN, f"not in the queue; judged after {GRACE_SECONDS:.0f} s", job=job, passing=True
            )
        return Verdict(TaskState.LOST, what, job=job, unread=True)
