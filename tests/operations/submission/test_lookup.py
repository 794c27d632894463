"""A submission whose answer was lost: which job is its own, and when there is none."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from esis.errors import CorruptState, SlurmUnanswered
from esis.model.workdir import RunDir
from esis.operations.context import Context
from esis.operations.submission import lookup
from esis.operations.submission.lookup import check_recorded, look_up, typed_meanwhile
from esis.records.submissions import Array, Cluster, Job, Submission
from esis.schedulers.base import JobState, Sighting, Snapshot
from esis.schedulers.identity import script_argument

HERE, THERE = Cluster("here", ("ctl1",)), Cluster("there", ("ctl2",))
BROKEN = Snapshot(problem="slurm_load_jobs error")


class Clock:
    """A clock that goes on while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Asked:
    """A scheduler that gives one answer after the other, and then the last of them again; also by cluster."""

    name = "slurm"

    def __init__(
        self,
        *answers: Snapshot,
        by_cluster: Mapping[str, Snapshot] | None = None,
        present: tuple[Cluster | None, str | None] = (HERE, None),
        local: bool = False,
    ) -> None:
        self._answers = list(answers)
        self._by_cluster = by_cluster
        self._present = present
        self.queue = None if local else self
        self.asked: list[tuple[str, ...]] = []
        self.asked_where = 0

    def observe(self, clusters: Sequence[str], owners: Sequence[int] = ()) -> Snapshot:
        self.asked.append(tuple(clusters))
        if self._by_cluster is not None:
            return self._by_cluster[clusters[0]]
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def present(self, known: Sequence[Submission], again: bool = False) -> tuple[Cluster | None, str | None]:
        self.asked_where += 1
        return self._present


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(lookup, "time", made)
    return made


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = RunDir.of(tmp_path, "a" * 64)
    for directory in (made.path, *made.directories()):
        directory.mkdir(parents=True)
    made.script.write_text("#!/bin/sh\n")
    return made


def intent(jobs: Sequence[str] = (), number: int = 2, **more: object) -> Submission:
    """Return a submission of two arrays, as far as they are sent."""
    made = Submission(
        number, "slurm", range(4), (Array("0-1", 0, 2), Array("0-1", 2, 2)), "", 1.0, "", True, jobs=_jobs(jobs)
    )
    return made._replace(**more)  # type: ignore[arg-type]


def _jobs(ids: Sequence[str]) -> tuple[Job, ...]:
    return tuple(map(Job, ids))


def sent(run: RunDir, job: str, number: int = 2, position: int = 0, state: JobState = JobState.WAITING) -> Sighting:
    return Sighting(job, [0], state, state.name, place=f"{script_argument(run, number, position)}|{run.cwd}")


def typed(run: RunDir, job: str, state: JobState = JobState.WAITING) -> Sighting:
    return Sighting(job, [0], state, state.name, place=f"../sbatch.sh|{run.cwd}")


def old(run: RunDir, job: str) -> Sighting:
    return Sighting(job, [0], JobState.WAITING, "PENDING", place=f"{run.private}/../sbatch.sh|{run.cwd}")


def claim(run: RunDir, job: str, number: int = 2, position: int = 0) -> None:
    os.symlink(job, run.claim(number, position))


def note(run: RunDir, task: int, job: str, word: str = "slurm-CANCELLED", number: int = 2, end: int = 100) -> None:
    (run.tasks / f"{task}.{number:04d}.{job}.0.100.{word}.{end}").touch()


def found(
    run: RunDir, wanted: Submission, asked: Asked, known: Sequence[Submission] = (), grace: float = 0
) -> Job | None:
    return look_up(run, wanted, known, asked, Context(), grace)  # type: ignore[arg-type]


def test_the_job_is_the_one_of_that_array_of_that_submission(run: RunDir, clock: Clock) -> None:
    """Neither that of another array, nor of another submission, nor one that was typed."""
    others = (sent(run, "5", position=1), sent(run, "6", number=1), sent(run, "7", number=3), typed(run, "8"))
    assert found(run, intent(), Asked(Snapshot((*others, sent(run, "9"))))) == Job("9")
    assert found(run, intent(), Asked(Snapshot(others))) is None
    assert found(run, intent(["9"]), Asked(Snapshot((*others, sent(run, "9"))))) == Job("5")


def test_of_two_the_first_one_is_adopted(run: RunDir, clock: Clock) -> None:
    """By number, not by letters: it comes to the fence first."""
    assert found(run, intent(), Asked(Snapshot((sent(run, "10"), sent(run, "9"))))) == Job("9")


def test_a_job_of_0_1_0_tells_no_number_and_is_adopted_if_nobody_knows_it(run: RunDir, clock: Clock) -> None:
    answer = Snapshot((old(run, "9"),))
    assert found(run, intent(), Asked(answer)) == Job("9")
    assert found(run, intent(seen=("9",)), Asked(answer)) is None
    assert found(run, intent(["9"]), Asked(answer)) is None
    assert found(run, intent(), Asked(answer), known=[intent(["9"], number=1)]) is None


def test_absence_counts_once_it_has_lasted(run: RunDir, clock: Clock) -> None:
    """It is looked at every two seconds, or five times where the grace period is short; and the caller is told once."""
    said: list[str] = []
    asked = Asked(Snapshot())
    assert look_up(run, intent(), (), asked, Context(say=said.append), 30.0) is None  # type: ignore[arg-type]
    assert clock.slept == [2.0] * 15
    assert len(asked.asked) == 16
    assert asked.asked_where == 0
    assert [text.partition(": ")[2] for text in said] == [
        "not in the queue; watching it for 30 s before submitting again"
    ]
    clock.slept.clear()
    assert found(run, intent(), Asked(Snapshot()), grace=5.0) is None
    assert clock.slept == [1.0] * 5


def test_a_job_that_shows_up_late_is_adopted(run: RunDir, clock: Clock) -> None:
    said: list[str] = []
    asked = Asked(Snapshot(), Snapshot(), Snapshot((sent(run, "9"),)))
    assert look_up(run, intent(), (), asked, Context(say=said.append), 30.0) == Job("9")  # type: ignore[arg-type]
    assert clock.slept == [2.0, 2.0]
    assert said[-1].endswith("Slurm has it as job 9")


def test_a_failed_answer_is_never_absence(run: RunDir, clock: Clock) -> None:
    """Also where it names the job, and where the failure comes after answers without it."""
    for asked in (Asked(BROKEN), Asked(BROKEN._replace(sightings=(sent(run, "9"),))), Asked(Snapshot(), BROKEN)):
        with pytest.raises(SlurmUnanswered, match=r"tasks 0-3 may or may not be queued.*slurm_load_jobs") as raised:
            found(run, intent(), asked, grace=30.0)
        assert raised.value.advice == "repeat the command later: it finds out"


def test_absence_elsewhere_proves_nothing(run: RunDir, clock: Clock) -> None:
    """A submission that went to one cluster isn't missed on another one, and no more where nobody can tell."""
    lost = intent(cluster=THERE)
    for present in ((HERE, None), (None, "scontrol: no answer")):
        with pytest.raises(SlurmUnanswered) as raised:
            found(run, lost, Asked(Snapshot(), present=present))
        assert raised.value.advice == "repeat the command there: it finds out"
    assert found(run, lost, Asked(Snapshot(), present=(THERE, None))) is None
    assert found(run, lost, Asked(Snapshot(), present=(None, None))) is None
    assert found(run, lost, Asked(Snapshot(), local=True)) is None
    named = Asked(Snapshot())
    assert found(run, lost._replace(options=("--clusters=there",)), named) is None
    assert (named.asked, named.asked_where) == ([("there",)], 0)


def test_what_is_in_the_queue_needs_no_word_of_where_that_is(run: RunDir, clock: Clock) -> None:
    asked = Asked(Snapshot((sent(run, "9"),)))
    assert found(run, intent(cluster=THERE), asked) == Job("9")
    assert asked.asked_where == 0


def test_a_job_that_has_claimed_the_work_is_the_one(run: RunDir, clock: Clock) -> None:
    """It has started, so nobody has to ask; the claim of another array says nothing of this one."""
    claim(run, "9", position=0)
    asked = Asked(BROKEN)
    assert found(run, intent(), asked) == Job("9")
    assert found(run, intent(options=("--clusters=a",)), asked) == Job("9", "a")
    assert asked.asked == []
    with pytest.raises(SlurmUnanswered):
        found(run, intent(["9"]), asked)


def test_the_cluster_of_a_claim_is_the_one_that_shows_the_job(run: RunDir, clock: Clock) -> None:
    """Of several, where ids are counted by each; where none shows it any more, no name is made up."""
    wanted = intent(options=("--clusters=a,b",))
    both = {"a": Snapshot((sent(run, "8"),)), "b": Snapshot((sent(run, "9"),))}
    assert found(run, wanted, Asked(by_cluster=both)) == Job("8", "a")
    claim(run, "9")
    assert found(run, wanted, Asked(by_cluster=both)) == Job("9", "b")
    assert found(run, wanted, Asked(by_cluster={**both, "a": BROKEN})) == Job("9", "b")
    assert found(run, wanted, Asked(by_cluster={**both, "b": Snapshot()})) == Job("9")
    assert found(run, wanted, Asked(by_cluster={"a": BROKEN, "b": BROKEN})) == Job("9")


def test_each_cluster_has_to_answer(run: RunDir, clock: Clock) -> None:
    wanted = intent(options=("--clusters=a,b",))
    assert found(run, wanted, Asked(by_cluster={"a": Snapshot(), "b": Snapshot()})) is None
    assert found(run, wanted, Asked(by_cluster={"a": BROKEN, "b": Snapshot((sent(run, "9"),))})) == Job("9", "b")
    for broken in ("a", "b"):
        with pytest.raises(SlurmUnanswered):
            found(run, wanted, Asked(by_cluster={"a": Snapshot(), "b": Snapshot(), broken: BROKEN}))


def test_a_job_that_was_cancelled_before_it_began_is_known_by_the_notes_of_that(run: RunDir, clock: Clock) -> None:
    """Of that array's tasks, with that number; not one that others have, and not what began: that was typed."""
    for task, job in ((0, "7"), (1, "7"), (1, "10"), (2, "8"), (3, "8")):
        note(run, task, job)
    note(run, 0, "6", number=1)
    note(run, 0, "5", word="exit0")
    note(run, 0, "4", end=101)
    gone = Asked(Snapshot())
    assert found(run, intent(), gone) == Job("7")
    assert found(run, intent(options=("--clusters=a",)), gone) == Job("7", "a")
    assert found(run, intent(options=("--clusters=a,b",)), Asked(by_cluster=dict.fromkeys("ab", Snapshot()))) == Job(
        "7"
    )
    assert found(run, intent(seen=("7",)), gone) == Job("10")
    assert found(run, intent(seen=("7", "10")), gone) is None
    assert found(run, intent(["7"]), gone) == Job("8")


def test_of_two_in_the_notes_the_one_with_more_tasks_counts_then_the_earlier(run: RunDir, clock: Clock) -> None:
    for task, job in ((0, "9"), (0, "10"), (1, "10")):
        note(run, task, job)
    assert found(run, intent(), Asked(Snapshot())) == Job("10")
    note(run, 1, "9")
    assert found(run, intent(), Asked(Snapshot())) == Job("9")


def by_hand(run: RunDir, asked: Asked, known: Sequence[Submission] = (), **more: object) -> Mapping[str, bool]:
    return typed_meanwhile(run, intent(**more), known, asked)  # type: ignore[arg-type]


def test_what_was_typed_meanwhile_is_told_with_whether_it_may_still_run(run: RunDir) -> None:
    """From the queue and from the records of tasks, sorted by number."""
    (run.tasks / "0.0002.20.0.100.running").touch()
    (run.tasks / "0.0001.21.0.100.running").touch()  # another submission's
    seen = (
        typed(run, "10", JobState.ACTIVE),
        typed(run, "10", JobState.COMPLETED),
        typed(run, "9", JobState.COMPLETED),
        typed(run, "8", JobState.WAITING),
        sent(run, "7", number=1),
    )
    told = by_hand(run, Asked(Snapshot(seen)))
    assert list(told.items()) == [("8", True), ("9", False), ("10", True), ("20", False)]
    assert by_hand(run, Asked(Snapshot((typed(run, "20"),)))) == {"20": True}


def test_what_others_are_was_not_typed_meanwhile(run: RunDir) -> None:
    """What was seen before, and the jobs of submissions."""
    (run.tasks / "0.0002.20.0.100.running").touch()
    seen = Asked(Snapshot((typed(run, "8"), typed(run, "9"))))
    assert by_hand(run, seen, known=[intent(["8"], number=1)], seen=("20",)) == {"9": True}


def test_nobody_knows_what_was_typed_where_slurm_is_not_heard(run: RunDir) -> None:
    with pytest.raises(SlurmUnanswered, match="slurm_load_jobs error"):
        by_hand(run, Asked(BROKEN))


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.ACTIVE])
def test_a_job_of_a_submission_without_a_record_stops_the_next_one(run: RunDir, state: JobState) -> None:
    """Nobody knows its tasks, and the next submission would get its number."""
    snapshot = Snapshot((sent(run, "9", number=3, state=state),))
    with pytest.raises(CorruptState, match="job 9 shows that submission 3 was made"):
        check_recorded(run, [intent()], snapshot)
    check_recorded(run, [intent(number=3)], snapshot)


@pytest.mark.parametrize(
    "shown",
    [
        lambda run: sent(run, "9", number=3, state=JobState.COMPLETED),
        lambda run: old(run, "9"),
        lambda run: typed(run, "9"),
    ],
    ids=["over", "of 0.1.0", "typed"],
)
def test_other_jobs_without_a_record_stop_nothing(run: RunDir, shown: Callable[[RunDir], Sighting]) -> None:
    """What is over, what tells no number, and what isn't of ESIS."""
    check_recorded(run, [intent()], Snapshot((shown(run),)))
