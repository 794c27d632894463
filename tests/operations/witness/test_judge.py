"""The state of a task from its witnesses: arrays with offsets, packs, and groups that agree with single tasks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esis.locks import Owner, user_name
from esis.model.index_sets import as_sequence
from esis.model.limits import Limits
from esis.model.workdir import RunDir
from esis.operations.submission.arrays import UNPACKED, Packing, plan
from esis.operations.witness import on_machine
from esis.operations.witness.evidence import Evidence
from esis.operations.witness.judge import GRACE_SECONDS, Judge
from esis.operations.witness.keep import keep
from esis.operations.witness.look import status_of
from esis.operations.witness.packs import CUT_OFF
from esis.operations.witness.status import TaskState, Verdict
from esis.processes import process_start
from esis.records.stage import Stage, State
from esis.records.submissions import Array, Job, Outcome, Submission
from esis.records.tasks import TaskRecord, TaskRecords, read_records
from esis.schedulers.answers import classify
from esis.schedulers.base import JobState, Sighting, Snapshot
from tests.ground.openings import opened

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
NOW = 1_000_000.0
RUN = RunDir(Path("/nowhere/wrkdir." + "0" * 64))
HERE, STRANGE = f"{RUN.script}|{RUN.cwd}", "/else/sbatch.sh|/else"
ACCOUNTED = f"{RUN.cwd}|sbatch --parsable {RUN.script}"
TASKS = 24


def sighting(job: str, indices: Sequence[int] | None, word: str, place: str = HERE, **more: object) -> Sighting:
    """Return what squeue would say, in Slurm's own words."""
    return Sighting(job, indices, classify(word), word, place=place, **more)  # type: ignore[arg-type]


def a_record(
    task: int,
    job: str,
    code: int | None = None,
    number: int = 1,
    start: int = 100,
    restart: int = 0,
    verdict: str | None = None,
) -> TaskRecord:
    ended = code is not None or verdict is not None
    return TaskRecord(task, number, job, restart, start, code, start + 7 if ended else None, verdict)


def submission(tasks: Sequence[int], jobs: Sequence[str], *arrays: Array, **more: object) -> Submission:
    made = Submission(
        1,
        "slurm",
        as_sequence(tasks),
        arrays,
        "ab",
        50.0,
        "o",
        True,
        outcome=Outcome.SUBMITTED,
        jobs=tuple(map(Job, jobs)),
        answered=51.0,
    )
    return made._replace(**more)  # type: ignore[arg-type]


def evidence(
    found: Sequence[Submission], records: Sequence[TaskRecord] = (), tasks: int = TASKS, run: RunDir = RUN
) -> Evidence:
    return Evidence(
        run,
        State(Stage.PREPARED, 0, tasks),
        range(tasks),
        tuple(found),
        TaskRecords(record.name for record in records),
        marked_complete=False,
    )


def verdicts(
    told: Evidence, *seen: Sighting, accounted: Sequence[Sighting] = (), problem: str | None = None, now: float = NOW
) -> dict[int, Verdict]:
    """Return the verdict of each task, and see that groups and single tasks agree."""
    snapshot = Snapshot(seen, problem, tuple(item._replace(place=ACCOUNTED) for item in accounted))
    return agreed(told, snapshot, now)


def agreed(told: Evidence, snapshot: Snapshot, now: float = NOW) -> dict[int, Verdict]:
    grouping, single = Judge(told, snapshot, now), Judge(told, snapshot, now)
    found: dict[int, Verdict] = {}
    for verdict, tasks in grouping.groups().items():
        assert tasks == sorted(tasks)
        assert not found.keys() & set(tasks)
        found.update(dict.fromkeys(tasks, verdict))
    assert found == {task: single.verdict(task) for task in told.indices}
    assert {task: single.task(task).verdict for task in told.indices} == found
    assert grouping.outranked == single.outranked
    assert grouping.unrecorded == single.unrecorded
    return found


def states(found: dict[int, Verdict]) -> dict[str, list[int]]:
    shown: dict[str, list[int]] = {}
    for task, verdict in sorted(found.items()):
        shown.setdefault(verdict.state.value, []).append(task)
    return shown


# --- groups and single tasks


WORDS = (
    "PENDING",
    "RUNNING",
    "COMPLETED",
    "FAILED",
    "TIMEOUT",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "CANCELLED by 1000",
    "PREEMPTED",
    "BOOT_FAIL",
    "FROBNICATED",
)
subsets = st.sets(st.integers(0, TASKS - 1), min_size=1).map(lambda found: as_sequence(sorted(found)))


@st.composite
def situations(draw: st.DrawFn) -> tuple[Evidence, Snapshot, list[tuple[str, str]]]:
    """Draw submissions (arrays, maps, packs, local ones), records, and what squeue and sacct say of any of them."""
    found: list[Submission] = []
    claims: list[tuple[int, int, str]] = []
    job = 10
    for number in range(1, draw(st.integers(0, 3)) + 1):
        tasks = range(TASKS) if number == 1 and draw(st.booleans()) else draw(subsets)
        packing = draw(st.sampled_from([UNPACKED, UNPACKED, Packing(3), Packing(5, 2)]))
        local = draw(st.integers(0, 5)) == 0
        planned = plan(
            tasks, 0, None if local else Limits(draw(st.sampled_from([2, 7, 9, 1001]))), UNPACKED if local else packing
        )
        jobs = tuple(Job(str(job + at)) for at in range(draw(st.integers(0, len(planned.arrays)))))
        job += 10
        outcome = draw(st.sampled_from([Outcome.OPEN, Outcome.REFUSED, Outcome.SUBMITTED, Outcome.SUBMITTED]))
        owner = draw(st.sampled_from(["", Owner.current().text(), replace(Owner.current(), pid=2**22 + 1).text()]))
        packed = len(planned.arrays) > 0 and not local and packing.per_job > 1
        found.append(
            Submission(
                number,
                "local" if local else "slurm",
                tasks,
                planned.arrays,
                "ab",
                draw(st.sampled_from([10.0, NOW - 1])),
                owner,
                draw(st.integers(0, 4)) > 0,
                outcome=outcome,
                jobs=jobs,
                mapped=planned.mapped,
                answered=draw(st.sampled_from([None, 20.0, NOW - 2])),
                returned=tuple(draw(subsets)) if draw(st.integers(0, 4)) == 0 else (),
                per_job=packing.per_job if packed else 1,
                parallel=packing.parallel if packed else 1,
            )
        )
        if draw(st.integers(0, 3)) == 0:
            claims.append((number, draw(st.integers(0, len(planned.arrays) - 1)), str(job + draw(st.integers(0, 2)))))
    ids = st.sampled_from([item.id for sub in found for item in sub.jobs] + [str(job), "99"])
    records = draw(
        st.lists(
            st.builds(
                a_record,
                st.integers(0, TASKS - 1),
                ids,
                st.sampled_from([None, 0, 0, 1, 143]),
                st.integers(1, 3),
                st.sampled_from([100, 200, int(NOW) - 3]),
                st.integers(0, 1),
                st.sampled_from([None, None, None, None, "CANCELLED", "OUT_OF_MEMORY", CUT_OFF]),
            ),
            max_size=40,
        )
    )
    records = [record if record.verdict is None else record._replace(code=None) for record in records]
    seen = st.builds(
        sighting,
        ids,
        st.none() | subsets | st.integers(0, 6).map(lambda index: (index,)),
        st.sampled_from(WORDS),
        st.sampled_from([HERE, HERE, HERE, STRANGE]),
        reason=st.sampled_from(["None", "Priority"]),
        code=st.sampled_from([None, 0, 3]),
        signal=st.sampled_from([None, 0, 53]),
        used=st.sampled_from(["", "0:07"]),
    )
    snapshot = Snapshot(
        tuple(draw(st.lists(seen, max_size=8))),
        draw(st.sampled_from([None, None, "timed out"])),
        tuple(
            item._replace(place=draw(st.sampled_from([ACCOUNTED, ACCOUNTED, "/else|sbatch x"])))
            for item in draw(st.lists(seen, max_size=8))
        ),
    )
    links = [(RUN.claim(number, position).name, target) for number, position, target in claims]
    return evidence(found, records), snapshot, links


@RELAXED
@given(situations())
def test_groups_and_single_tasks_agree(situation: tuple[Evidence, Snapshot, list[tuple[str, str]]]) -> None:
    """What is judged once for many is what each of them would get; every task is in exactly one group."""
    told, snapshot, links = situation
    with tempfile.TemporaryDirectory() as scratch:
        run = RunDir(Path(scratch) / RUN.path.name)
        run.submissions.mkdir(parents=True)
        for name, target in links:
            if not (run.submissions / name).is_symlink():
                (run.submissions / name).symlink_to(target)

        def moved(found: Sequence[Sighting]) -> tuple[Sighting, ...]:
            place = f"{run.script}|{run.cwd}"
            return tuple(seen._replace(place=place if seen.place == HERE else seen.place) for seen in found)

        agreed(
            told._replace(run=run),
            snapshot._replace(sightings=moved(snapshot.sightings), accounting=moved(snapshot.accounting)),
        )


@st.composite
def alike(draw: st.DrawFn) -> tuple[Evidence, Snapshot]:
    """Draw one submission whose tasks mostly share what is said of them: only where they stand may tell them apart."""
    packing = draw(st.sampled_from([UNPACKED, Packing(4, 2), Packing(5, 1), Packing(24, 3)]))
    tasks = draw(st.sampled_from([range(TASKS), as_sequence([0, 2, 3, 5, 8, 9, 10, 17, 20, 21])]))
    planned = plan(tasks, 0, Limits(draw(st.sampled_from([2, 1001]))), packing)
    jobs = [str(10 + position) for position in range(len(planned.arrays))]
    packed = packing.per_job > 1
    found = submission(
        tasks,
        jobs,
        *planned.arrays,
        mapped=planned.mapped,
        records=draw(st.booleans()),
        per_job=packing.per_job if packed else 1,
        parallel=packing.parallel if packed else 1,
    )
    code = st.sampled_from([draw(st.sampled_from([None, 0, 1, 143])), draw(st.sampled_from([None, 0, 143]))])
    records = [a_record(task, jobs[found.place_of(task)[0]], draw(code)) for task in tasks if draw(st.integers(0, 3))]
    words = st.sampled_from([draw(st.sampled_from(WORDS)), draw(st.sampled_from(WORDS))])
    seen = [
        sighting(job, [index], draw(words))
        for position, job in enumerate(jobs)
        for index in range(-(-planned.arrays[position].tasks // packing.per_job))
    ]
    squeue = draw(st.booleans())
    return evidence([found], records), Snapshot(tuple(seen) if squeue else (), None, () if squeue else tuple(seen))


@RELAXED
@given(alike())
def test_groups_and_single_tasks_agree_where_the_same_is_said(situation: tuple[Evidence, Snapshot]) -> None:
    """Two tasks of one pack may fare differently though record and queue say the same of them."""
    agreed(*situation)


def test_a_pack_that_was_ended_cuts_off_the_tasks_that_had_a_part_of_its_time() -> None:
    """TIMEOUT, SIGTERM for all: the two that it began with have failed, those that came later go on in another job."""
    found = submission(range(8), ["10"], Array("0-1", 0, 8), per_job=4, parallel=2)
    records = [a_record(task, "10", 143) for task in (0, 1, 2, 4, 5, 6)]
    told = verdicts(evidence([found], records, tasks=8), sighting("10", [0, 1], "TIMEOUT"))
    assert states(told) == {"failed": [0, 1, 4, 5], "unsubmitted": [2, 3, 6, 7]}
    assert told[2].reason == "cut off at the end of its job"


def test_f173_what_is_said_of_a_job_with_one_task_of_a_pack_is_said_of_that_task() -> None:
    """F173: its script ended with 0 all the same; where several tasks were at work nobody knows whose the word is."""
    found = submission(range(5), ["10"], Array("0-2", 0, 5), per_job=2)
    records = [a_record(task, "10", 0) for task in range(5)]
    told = verdicts(evidence([found], records, tasks=5), sighting("10", [0, 1, 2], "OUT_OF_MEMORY"))
    assert states(told) == {"done": [0, 1, 2, 3], "failed": [4]}
    earlier = [a_record(0, "10", 0), a_record(1, "10", 0, start=200, restart=1)]
    told = verdicts(evidence([found], [*earlier, *records[2:]], tasks=5), sighting("10", [0], "OUT_OF_MEMORY"))
    assert states(told) == {"done": [0, 2, 3, 4], "failed": [1]}
    later = [a_record(0, "10", 0), a_record(1, "11", 0, start=200)]  # who knows what job 10 did to the second one
    told = verdicts(evidence([found], [*later, *records[2:]], tasks=5), sighting("10", [0], "FAILED"))
    assert states(told) == {"done": [0, 1, 2, 3, 4]}


@RELAXED
@given(situations())
def test_nothing_is_done_without_a_word_of_it(situation: tuple[Evidence, Snapshot, list[tuple[str, str]]]) -> None:
    """Done is what a record of success says, or Slurm's COMPLETED for its job: never anything else."""
    told, snapshot, _ = situation
    completed = {seen.job for seen in (*snapshot.sightings, *snapshot.accounting) if seen.state is JobState.COMPLETED}
    for task, verdict in agreed(told, snapshot).items():
        if verdict.state is TaskState.DONE:
            record = told.records.get(task)
            assert (record is not None and record.code == 0) or verdict.job in completed


# --- arrays with offsets


THREE = submission(range(24), ["71", "72", "73"], Array("0-8", 0, 9), Array("0-8", 9, 9), Array("0-5", 18, 6))


def test_each_array_speaks_of_its_own_tasks() -> None:
    """Index 2 of the second array is task 11, index 2 of the third is task 20."""
    found = verdicts(
        evidence([THREE]),
        sighting("71", range(9), "PENDING"),
        sighting("72", (2,), "RUNNING"),
        sighting("72", (0, 1, *range(3, 9)), "PENDING"),
        sighting("73", (2,), "FAILED"),
        sighting("73", (0, 1, 3, 4, 5), "PENDING"),
    )
    assert states(found) == {"waiting": [*range(11), *range(12, 20), 21, 22, 23], "running": [11], "failed": [20]}
    assert {found[task].job for task in range(9, 18)} == {"72"}


def test_a_verdict_of_failure_outranks_the_record_of_the_very_task() -> None:
    """Accounting speaks in shifted indices too."""
    records = [a_record(task, "72", 0) for task in range(9, 18)]
    found = verdicts(evidence([THREE], records), accounted=[sighting("72", (2,), "OUT_OF_MEMORY")])
    assert found[11].state is TaskState.FAILED
    assert {found[task].state for task in range(9, 18) if task != 11} == {TaskState.DONE}


def test_the_array_whose_answer_is_missing_is_unknown_and_the_sent_ones_are_not() -> None:
    """Of an open submission only what was acknowledged is judged by the queue."""
    sent = THREE._replace(jobs=THREE.jobs[:1], outcome=Outcome.OPEN)
    found = verdicts(evidence([sent]), sighting("71", range(9), "PENDING"))
    assert states(found) == {"waiting": list(range(9)), "unknown": list(range(9, 24))}


def test_a_cancelled_rest_of_an_array_keeps_to_that_array() -> None:
    """A row without indices speaks of its own array alone."""
    found = verdicts(
        evidence([THREE]),
        sighting("71", range(9), "PENDING"),
        sighting("72", None, "CANCELLED"),
        sighting("73", range(6), "PENDING"),
    )
    assert states(found)["failed"] == list(range(9, 18))


def test_a_job_submitted_by_hand_counts_as_the_latest_script_does() -> None:
    """`sbatch ../sbatch.sh` is the first array of the latest submission, with its offset."""
    scattered = submission([1, 3, 5, 7], ["72"], Array("0-3", 0, 4), number=2, mapped=True)
    found = verdicts(evidence([THREE._replace(jobs=()), scattered]), sighting("99", (2,), "RUNNING"))
    assert found[5].state is TaskState.RUNNING


def test_of_a_job_by_hand_that_left_no_ends_one_record_is_opened(tmp_path: Path) -> None:
    """It tells that Slurm knows, or knew, of them all."""
    run = RunDir.of(tmp_path, "ab" * 32)
    run.tasks.mkdir(parents=True)
    records = [a_record(task, "99") for task in range(TASKS)]
    for record in records:
        (run.tasks / record.name).write_text(json.dumps({"host": "h", "pid": 1, "job": str(100 + record.task)}))
    told = evidence([THREE], records, run=run)
    with opened(run.path) as names:
        assert {verdict.state for verdict in Judge(told, Snapshot(), NOW).groups()} == {TaskState.LOST}
    assert names == [records[0].name]


@pytest.mark.parametrize("readable", [True, False])
def test_f151_a_task_that_another_user_began_by_hand_is_unknown_until_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readable: bool
) -> None:
    """F151: several may share a run; squeue is asked for the jobs of its owner, so that theirs are never in it."""
    run = RunDir.of(tmp_path, "ab" * 32)
    run.tasks.mkdir(parents=True)
    began, ended, own = a_record(1, "99"), a_record(2, "99", 0), a_record(3, "71")
    for record in (began, ended, own):
        (run.tasks / record.name).write_text(json.dumps({"host": "h", "pid": 1, "job": record.job} if readable else {}))
    assert verdicts(evidence([THREE], [began, ended, own], run=run))[1].state is TaskState.LOST
    monkeypatch.setattr(Evidence, "owners", (4242,))
    found = verdicts(evidence([THREE], [began, ended, own], run=run))
    assert (found[1].state, found[2].state, found[3].state) == (TaskState.UNKNOWN, TaskState.DONE, TaskState.LOST)
    assert found[1].reason == f"begun by {user_name(os.getuid())}, whose jobs aren't asked for"


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("begun", [0, 1])
def test_f147_of_tasks_that_are_alike_those_are_told_apart_that_a_killed_local_run_had_just_started(
    monkeypatch: pytest.MonkeyPatch, earlier: bool, begun: int
) -> None:
    """F147: also where an earlier submission left the same record of each."""
    monkeypatch.setattr(on_machine, "just_begun", lambda item: {begun} if item.number == 2 else ())
    dead = replace(Owner.current(), pid=2**22 + 1, started=1)
    first = submission(range(3), ["10"], Array("0-2", 0, 3), scheduler="local", owner=dead.text())
    second = first._replace(number=2, jobs=(Job("20"),))
    records = [a_record(task, "10", 1) for task in range(3)] if earlier else []
    found = states(verdicts(evidence([first, second], records, tasks=3)))
    assert found == {"running": [begun], "unsubmitted": sorted({0, 1, 2} - {begun})}


SENT = f"{RUN.private}/../sbatch.sh|{RUN.cwd}"  # how Slurm shows a job that ESIS submitted


def test_f77_a_job_that_esis_sent_is_one_of_the_arrays_whose_answers_are_missing() -> None:
    """F77: nobody knows which; the tasks of arrays that were acknowledged have nothing to do with it."""
    sent = THREE._replace(jobs=THREE.jobs[:1], outcome=Outcome.OPEN)
    told = [sighting("71", range(9), "PENDING"), sighting("72", (0, 6), "PENDING", SENT)]
    found = verdicts(evidence([sent]), *told)
    assert states(found) == {"waiting": list(range(9)), "unknown": list(range(9, 24))}
    maybe = [task for task, verdict in found.items() if "job 72 waits" in verdict.reason]
    assert maybe == [9, 15, 18]
    assert all(found[task].passing for task in maybe)


def test_f77_a_job_that_esis_sent_is_never_taken_for_a_known_one() -> None:
    """F77: a submission that was made since its records were read, or one job too many of an earlier one."""
    one = submission(range(24), ["71"], Array("0-23", 0, 24))
    found = verdicts(evidence([one], [a_record(3, "71", 1)]), sighting("72", (3,), "PENDING", SENT))
    assert (found[3].state, found[3].job) == (TaskState.UNKNOWN, "72")
    found = verdicts(evidence([one], [a_record(3, "72")]), sighting("72", (3, 4), "RUNNING", SENT))
    assert states(found)["running"] == [3, 4], "its record tells"


PACKED = submission(range(24), ["80"], Array("0-5", 0, 24), number=2, per_job=4)


@pytest.mark.parametrize(
    ("job", "seen", "expected"),
    [
        ("75", ("75",), {"waiting": [2]}),  # it was there before the packs
        ("81", (), {"waiting": [8, 9, 10, 11]}),  # it came behind them
        ("75", (), {"unknown": [2, 8, 9, 10, 11]}),  # in between: the script may have been either
    ],
)
def test_f78_ids_tell_which_script_a_job_by_hand_runs(
    job: str, seen: tuple[str, ...], expected: dict[str, list[int]]
) -> None:
    """F78: a submission names the jobs that were there before it; ids grow."""
    one = submission(range(24), ["71"], Array("0-23", 0, 24))
    records = [a_record(task, "71", 3) for task in range(24)]
    found = states(verdicts(evidence([one, PACKED._replace(seen=seen)], records), sighting(job, (2,), "PENDING")))
    assert {state: tasks for state, tasks in found.items() if state in ("waiting", "unknown")} == expected


def test_f78_a_job_by_hand_may_run_the_script_of_a_refused_submission() -> None:
    """F78: that is what one tries where sbatch refuses."""
    one = submission(range(24), ["71"], Array("0-23", 0, 24))
    refused = PACKED._replace(outcome=Outcome.REFUSED, jobs=(), seen=())
    records = [a_record(task, "71", 3) for task in range(24)]
    found = verdicts(evidence([one, refused], records), sighting("75", (2,), "PENDING"))
    assert states(found)["unknown"] == [2, 8, 9, 10, 11]
    found = verdicts(
        evidence([one, refused], [*records[:8], a_record(8, "75", number=2)]), sighting("75", (2,), "RUNNING")
    )
    assert (found[8].state, found[9].state) == (TaskState.RUNNING, TaskState.WAITING)


def test_f78_what_a_job_has_begun_with_an_offset_of_its_own_is_not_lost() -> None:
    """F78: its record names the task, its index another one; as long as the job is there, it may be at work."""
    second = submission([12, 13, 14], ["80"], Array("0-2", 12, 3), number=2)
    one = submission(range(24), ["71"], Array("0-23", 0, 24))
    found = verdicts(evidence([one, second], [a_record(3, "81", number=2)]), sighting("81", (3,), "RUNNING"))
    assert (found[3].state, "job 81 runs" in found[3].reason) == (TaskState.UNKNOWN, True)


def test_f78_a_pack_by_hand_comes_again_to_what_an_earlier_job_did() -> None:
    """F78: what waits by hand is waiting, whatever was recorded of its tasks before."""
    packed = PACKED._replace(number=1)
    records = [a_record(task, "80", 3) for task in range(24)]
    found = verdicts(evidence([packed], records), sighting("81", (2,), "RUNNING"))
    assert states(found)["waiting"] == [8, 9, 10, 11]
    begun = [*records[:8], a_record(8, "81", 0), a_record(9, "81"), *records[10:]]
    found = verdicts(evidence([packed], begun), sighting("81", (2,), "RUNNING"))
    assert [found[task].state.value for task in range(8, 12)] == ["done", "running", "waiting", "waiting"]


@pytest.mark.parametrize(
    ("word", "used", "code", "state"),
    [
        ("CANCELLED", "0:00", 0, "done"),
        ("CANCELLED by 1000", "0", 0, "done"),
        ("DEADLINE", "0:00", 0, "done"),  # --deadline passed while it waited; seen on 24.11
        ("DEADLINE", "0:01", 0, "failed"),
        ("CANCELLED", "0:01", 0, "failed"),
        ("CANCELLED", "", 0, "failed"),
        ("CANCELLED", "0:00", 4, "failed"),
        ("CANCELLED", "0:00", None, "failed"),
        ("NODE_FAIL", "0:00", 0, "failed"),
        ("TIMEOUT", "0:00", 0, "failed"),
    ],
)
def test_f81_only_an_attempt_that_began_outranks_a_good_end(word: str, used: str, code: int | None, state: str) -> None:
    """F81: a done task that was requeued, and taken away while it waited, is still done."""
    one = submission(range(24), ["71"], Array("0-23", 0, 24))
    told = evidence([one], [a_record(3, "71", code)])
    assert verdicts(told, sighting("71", (3,), word, used=used))[3].state.value == state


@pytest.mark.parametrize(
    ("queued", "accounted", "kept"),
    [((), (), True), ((), ("COMPLETED",), True), ((), ("RUNNING",), False), (("COMPLETED",), ("RUNNING",), True)],
)
def test_f177_an_end_that_nobody_told_yet_is_awaited(
    queued: Sequence[str], accounted: Sequence[str], kept: bool
) -> None:
    """Once squeue has forgotten it: sacct takes its time, and may come to another verdict than the record."""
    told = evidence([submission(range(2), ["10"], Array("0-1", 0, 2))], [a_record(0, "10", 0), a_record(1, "10", 0)], 2)
    snapshot = Snapshot(
        tuple(sighting("10", range(2), word) for word in queued),
        None,
        tuple(sighting("10", range(2), word, ACCOUNTED) for word in accounted),
        accounting_asked=True,
    )
    status = status_of(told, snapshot, NOW)
    assert (status.complete, status.news.complete) == (True, kept)


def test_f176_what_came_later_than_a_lost_resubmission_counts() -> None:
    """Job 10 came after its tasks had been resubmitted, as job 20, which Slurm lost."""
    first = submission(range(6), ["10"], Array("0-5", 0, 6))
    second = first._replace(number=2, jobs=(Job("20"),), created=500.0, answered=501.0)
    records = [a_record(0, "10", 0, start=600), a_record(1, "10", 3, start=600), a_record(2, "10", 0, start=400)]
    found = verdicts(evidence([first, second], [*records, a_record(3, "10", start=600)], tasks=6))
    assert states(found) == {"done": [0], "failed": [1], "lost": [2, 3, 4, 5]}
    assert found[1].reason == "exit code 3"
    waits = verdicts(evidence([first, second], records, tasks=6), sighting("20", range(6), "PENDING"))
    assert states(waits) == {"waiting": [0, 1, 2, 3, 4, 5]}


def test_absence_is_judged_by_the_age_of_its_own_submission() -> None:
    """In the grace period unknown, afterwards lost; with a silent queue never lost."""
    fresh = THREE._replace(answered=NOW - 1)
    assert states(verdicts(evidence([fresh]))) == {"unknown": list(range(24))}
    assert states(verdicts(evidence([THREE]))) == {"lost": list(range(24))}
    assert states(verdicts(evidence([fresh]), now=NOW + GRACE_SECONDS)) == {"lost": list(range(24))}
    assert states(verdicts(evidence([THREE]), problem="timed out")) == {"unknown": list(range(24))}


def test_what_was_submitted_in_the_future_is_unknown_and_nobody_waits_for_that() -> None:
    """A clock was set back: how long it has been absent can't be told, and a month later is too late."""
    found = verdicts(evidence([THREE._replace(answered=NOW + 30 * 86400)]))
    assert states(found) == {"unknown": list(range(24))}
    assert "a clock was set back" in found[0].reason
    assert not found[0].passing
    assert verdicts(evidence([THREE._replace(answered=NOW + 600)]))[0].passing, "clocks differ"


# --- whose job is it, and what did it really do


PLAIN = submission(range(4), ["71"], Array("0-3", 0, 4))


def judged(
    *records: TaskRecord,
    seen: Sequence[Sighting] = (),
    accounted: Sequence[Sighting] = (),
    sub: Submission = PLAIN,
    claimed: bool = False,
) -> Verdict:
    """Return the verdict on task 0 of four."""
    told = evidence([sub], records, 4)._replace(claim=claimed)
    return verdicts(told, *seen, accounted=accounted)[0]


@pytest.mark.parametrize("word", ["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"])
def test_f45_a_known_id_with_another_script_makes_nothing_of_a_task(word: str) -> None:
    """F45: it may be ours, so nothing is lost; it may not be, so what was recorded stands."""
    own = [sighting("71", range(4), word, f"post.sh|{RUN.cwd}")]
    assert judged(seen=own).state is TaskState.UNKNOWN
    assert judged(a_record(0, "71", 0), seen=own).state is TaskState.DONE
    assert judged(a_record(0, "71", 3), seen=own).state is TaskState.FAILED
    assert judged(a_record(0, "71"), seen=own).state is TaskState.UNKNOWN
    assert judged(sub=PLAIN._replace(records=False), seen=own).state is TaskState.UNKNOWN
    stranger = [sighting("99", range(4), word, f"post.sh|{RUN.cwd}")]
    assert judged(a_record(0, "71", 0), seen=stranger).state is TaskState.DONE
    assert judged(seen=stranger).state is TaskState.LOST


@pytest.mark.parametrize("asked", ["squeue", "sacct"])
def test_f49_preempted_is_a_verdict_of_failure(asked: str) -> None:
    """F49: also where the script trapped the signal and ended with 0. One that is queued again waits."""
    told = [sighting("71", range(4), "PREEMPTED")]
    ways = {"seen": told} if asked == "squeue" else {"accounted": told}
    for records in ([], [a_record(0, "71", 0)], [a_record(0, "71", 143)], [a_record(0, "71")]):
        found = judged(*records, **ways)  # type: ignore[arg-type]
        assert (found.state, found.reason) == (TaskState.FAILED, "PREEMPTED")
    again = judged(a_record(0, "71", 0), seen=[sighting("71", (0,), "PENDING")], accounted=told)
    assert again.state is TaskState.WAITING


@pytest.mark.parametrize("word", ["RUNNING", "PENDING", "SUSPENDED"])
def test_f52_what_sacct_says_is_alive_is_not_lost(word: str) -> None:
    """F52: an answer of squeue without it is no proof of absence then; of other tasks it is."""
    for records in ([], [a_record(0, "71")]):
        found = judged(*records, accounted=[sighting("71", (0,), word)])
        assert (found.state, found.passing) == (TaskState.UNKNOWN, True)
        assert word in found.reason
        assert judged(*records, accounted=[sighting("71", (1,), word)]).state is TaskState.LOST
    assert judged(a_record(0, "71", 0), accounted=[sighting("71", (0,), word)]).state is TaskState.DONE


@pytest.mark.parametrize("records", [True, False])
def test_f110_a_cancelled_rest_of_an_array_is_none_of_its_other_tasks(records: bool) -> None:
    """F110: Slurm doesn't name the rest, and forgets what has ended: a task that writes no records may be either."""
    rest, own = sighting("71", None, "CANCELLED"), sighting("71", (1,), "RUNNING")
    sub = PLAIN._replace(records=records)
    found = judged(sub=sub, seen=[rest, own])
    expected = (TaskState.FAILED, "CANCELLED") if records else (TaskState.UNKNOWN, "CANCELLED in part")
    assert (found.state, found.reason.partition(",")[0]) == expected
    # sacct lists all that have begun, and an array of one task has no rest.
    for more in ([own], [rest, sighting("71", (2,), "COMPLETED")]):
        assert judged(sub=sub, seen=[rest], accounted=more).reason == "CANCELLED"
    assert judged(sub=sub, seen=[rest], accounted=[sighting("71", (0,), "TIMEOUT")]).reason == "TIMEOUT"
    assert judged(sub=sub, seen=[rest], accounted=[sighting("70", (1,), "COMPLETED")]).state is expected[0]
    one = submission(range(1), ["71"], Array("0", 0, 1), records=records)
    assert judged(sub=one, seen=[rest]).reason == "CANCELLED"


def test_f112_an_attempt_that_was_given_back_and_cancelled_is_not_alive() -> None:
    """F112: of a task that waits again sacct says PENDING, so REQUEUED for ever is nothing that may be running."""
    told = [sighting("71", (0,), "REQUEUED")]
    assert judged(a_record(0, "71"), accounted=told).state is TaskState.LOST
    assert judged(accounted=told).state is TaskState.LOST
    silent = verdicts(evidence([PLAIN], [a_record(0, "71")], 4), accounted=told, problem="squeue: timed out")
    assert silent[0].state is TaskState.WAITING


@pytest.mark.parametrize(
    ("first", "second", "state", "said"),
    [
        (a_record(0, "71", 0), a_record(0, "71", verdict="TIMEOUT"), TaskState.FAILED, "exit code 0"),
        (a_record(0, "71", 3), a_record(0, "71", verdict="TIMEOUT"), TaskState.FAILED, "exit code 3"),
        (a_record(0, "71", 0, start=100), a_record(0, "71", 3, start=101), TaskState.FAILED, "exit code 0"),
        (a_record(0, "71", 3, start=100), a_record(0, "71", 0, start=101), TaskState.DONE, "exit code 3"),
        (a_record(0, "71", 3), a_record(0, "71", 0), TaskState.FAILED, "exit code 0"),
    ],
)
def test_f51_of_two_ends_of_one_attempt_a_rule_decides_and_both_are_shown(
    first: TaskRecord, second: TaskRecord, state: TaskState, said: str
) -> None:
    """F51: Slurm's word, then the later end, then the worse one; not the order of the directory."""
    for records in ((first, second), (second, first)):
        found = judged(*records)
        assert found.state is state
        assert f"{said} was recorded as well" in found.reason


def test_f258_what_ended_well_and_left_no_record_stays_unknown(tmp_path: Path) -> None:
    """F258: Slurm forgets that it said COMPLETED; lost it is not, for nobody would do once more what may be done.

    A record that a file server showed late counts all the same, whatever was noted meanwhile.
    """
    run = RunDir(tmp_path / RUN.path.name)
    run.submissions.mkdir(parents=True)
    run.tasks.mkdir()
    plain = submission(range(2), ["71"], Array("0-1", 0, 2))
    said = sighting("71", (0, 1), "COMPLETED", f"{run.script}|{run.cwd}")
    first = status_of(evidence([plain], (), 2, run), Snapshot((said,), accounting_problem="there is none"), NOW)
    keep(first)
    (run.tasks / a_record(1, "71", 0, start=20).name).touch()
    kept = [found for path in run.tasks.iterdir() if (found := TaskRecord.parse(path.name)) is not None]
    later = status_of(evidence([plain], kept, 2, run), Snapshot(), NOW + 10_000)
    assert (first.tasks[0].state, first.tasks[1].state) == (TaskState.UNKNOWN, TaskState.UNKNOWN)
    assert (later.tasks[0].state, later.tasks[0].reason) == (TaskState.UNKNOWN, "COMPLETED, and no record of the task")
    assert later.tasks[1].state is TaskState.DONE
    failed = sighting("71", (0,), "OUT_OF_MEMORY", f"{run.script}|{run.cwd}")
    assert status_of(evidence([plain], kept, 2, run), Snapshot((failed,)), NOW).tasks[0].state is TaskState.FAILED


def started(moment: float) -> str:
    """Return a moment as Slurm shows it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment))[:18]


@pytest.mark.parametrize("asked", ["squeue", "sacct"])
@pytest.mark.parametrize(
    ("record", "start", "state"),
    [
        (a_record(0, "71", 143, start=1000), 1200, "unknown"),
        (a_record(0, "71", 75, start=1000)._replace(resumable=True), 1200, "unknown"),
        (a_record(0, "71", verdict="NODE_FAIL", start=1000), 1200, "unknown"),
        (a_record(0, "71", 3, start=1000), 1000, "failed"),  # esis_end 3; exit 0
        (a_record(0, "71", 3, start=1000), None, "failed"),
        (a_record(0, "71", 0, start=1000), 1200, "done"),
        (a_record(0, "70", 143, start=1000), 1200, "failed"),  # another job's
    ],
)
def test_f306_completed_is_about_a_later_start_than_the_failure_that_was_recorded(
    asked: str, record: TaskRecord, start: int | None, state: str
) -> None:
    """F306: it was requeued, and its second start left no record; where no time tells that, the failure counts."""
    told = [sighting("71", (0,), "COMPLETED", start="N/A" if start is None else started(start))]
    found = judged(record, **{"seen" if asked == "squeue" else "accounted": told})  # type: ignore[arg-type]
    assert found.state.value == state
    assert (found.reason == "COMPLETED, and no record of that start") == (state == "unknown")
    packed = PLAIN._replace(per_job=4, arrays=(Array("0", 0, 4),))
    assert judged(record, seen=told, sub=packed).state.value == state, "all of the pack that wasn't done was done again"


def test_f306_slurms_name_of_an_attempt_tells_more_than_its_time(tmp_path: Path) -> None:
    """F306: from 26.05 on."""
    run = RunDir(tmp_path / RUN.path.name)
    run.submissions.mkdir(parents=True)
    run.tasks.mkdir()
    record = a_record(0, "71", 143)
    (run.tasks / record.name).write_text(json.dumps({"host": "h", "pid": 1, "job": "7", "sluid": "s1EDM8C3HYJ800"}))
    for sluid, start, state in (
        ("s1EDM8C3HYJ800", started(5000), TaskState.FAILED),
        ("s1EDM8C3HZ4G00", "N/A", TaskState.UNKNOWN),
    ):
        seen = sighting("71", (0,), "COMPLETED", f"{run.script}|{run.cwd}", sluid=sluid, start=start)
        assert verdicts(evidence([PLAIN], [record], 4, run), seen)[0].state is state


def test_f306_what_a_later_start_did_without_a_record_stays_unknown(tmp_path: Path) -> None:
    """F306: Slurm forgets it; a record of that start that shows late counts."""
    run = RunDir(tmp_path / RUN.path.name)
    run.submissions.mkdir(parents=True)
    run.tasks.mkdir()
    (run.tasks / a_record(0, "71", 143, start=1000).name).touch()
    told = evidence([PLAIN], (), 1, run)

    def look(*seen: Sighting) -> Verdict:
        status = status_of(told._replace(listed=read_records(run)), Snapshot(seen), NOW)
        keep(status)
        return status.tasks[0].verdict

    seen = sighting("71", (0,), "COMPLETED", f"{run.script}|{run.cwd}", start=started(1200))
    reason = "COMPLETED, and no record of that start"
    assert [(one.state, one.reason) for one in (look(seen), look(seen), look())] == [(TaskState.UNKNOWN, reason)] * 3
    assert len(list(run.tasks.iterdir())) == 2, "noted once"
    (run.tasks / a_record(0, "71", 0, start=1200, restart=1).name).touch()
    assert look().state is TaskState.DONE


def test_f51_a_lost_cancellation_is_outdone_by_what_the_task_did() -> None:
    """F51: it was noted for a task that waited; Slurm lost it, and the task began all the same."""
    note = a_record(0, "71", verdict="CANCELLED", start=200)._replace(end=200)
    for records in ((note, a_record(0, "71", 0, start=300)), (a_record(0, "71", 0, start=300), note)):
        assert judged(*records) == Verdict(TaskState.DONE, "", 0, "71")
    live = [sighting("71", (0,), "RUNNING")]
    assert judged(note, a_record(0, "71", start=300), seen=live).state is TaskState.RUNNING
    assert judged(a_record(0, "71", start=300), note).state is TaskState.LOST
    assert judged(note).state is TaskState.FAILED


def test_a_verdict_on_another_attempt_contradicts_no_record(tmp_path: Path) -> None:
    """From 26.05 on Slurm names attempts: the same id and index may be those of another one."""
    run = RunDir(tmp_path / RUN.path.name)
    run.submissions.mkdir(parents=True)
    run.tasks.mkdir()
    records = [a_record(0, "71", 0), a_record(1, "71"), a_record(2, "71", 3), a_record(3, "71", 0)]
    for record in records[:3]:
        content = {"host": "h", "pid": 1, "job": "7", "sluid": "s1EDM8C3HYJ800"}
        (run.tasks / record.name).write_text(json.dumps(content))
    place = f"{run.script}|{run.cwd}"

    def said(sluid: str) -> dict[int, Verdict]:
        seen = sighting("71", range(4), "TIMEOUT", place, sluid=sluid)
        return verdicts(evidence([PLAIN], records, 4, run), seen)

    assert {verdict.state for verdict in said("s1EDM8C3HYJ800").values()} == {TaskState.FAILED}
    assert {verdict.state for verdict in said("").values()} == {TaskState.FAILED}
    other = said("s1EDM8C3HZ4G00")
    assert [other[task].state for task in range(3)] == [TaskState.DONE, TaskState.LOST, TaskState.FAILED]
    assert other[3].state is TaskState.FAILED, "its record doesn't name its attempt"


def test_f55_what_slurm_said_of_an_end_that_nobody_recorded_is_kept(tmp_path: Path) -> None:
    """F55: an EXIT trap of the script's own, a sibling that failed, no accounting: done stays done."""
    run = RunDir(tmp_path / RUN.path.name)
    run.submissions.mkdir(parents=True)
    run.tasks.mkdir()
    records = [a_record(task, "71") for task in range(4)]
    for record in records:
        (run.tasks / record.name).touch()
    place = f"{run.script}|{run.cwd}"
    seen = (
        sighting("71", (0, 1), "COMPLETED", place),
        sighting("71", (2,), "FAILED", place, code=3),
        sighting("71", (3,), "RUNNING", place),
    )
    told = evidence([PLAIN], records, 4, run)
    names = sorted(path.name for path in run.tasks.iterdir())
    before = status_of(told, Snapshot(seen), NOW)
    assert before.counts() == {TaskState.DONE: 2, TaskState.RUNNING: 1, TaskState.FAILED: 1}
    assert sorted(path.name for path in run.tasks.iterdir()) == names, "to judge writes nothing"
    keep(before)
    kept = told._replace(listed=read_records(run))
    after = status_of(kept, Snapshot(), NOW).counts()
    assert after == {TaskState.DONE: 2, TaskState.FAILED: 1, TaskState.LOST: 1}


@pytest.mark.parametrize(("problem", "kept"), [("Slurm accounting storage is disabled", True), (None, False)])
def test_f55_the_same_of_tasks_that_write_no_records_where_nobody_else_remembers(
    tmp_path: Path, problem: str | None, kept: bool
) -> None:
    """F55: sacct remembers by itself; without it squeue's word is noted, once."""
    run = RunDir(tmp_path / RUN.path.name)
    run.submissions.mkdir(parents=True)
    run.tasks.mkdir()
    place = f"{run.script}|{run.cwd}"
    silent = PLAIN._replace(records=False)
    seen = (
        sighting("71", (0,), "COMPLETED", place),
        sighting("71", (1,), "FAILED", place, code=3),
        sighting("71", (2, 3), "RUNNING", place),
    )
    asked = Snapshot(seen, accounting_asked=True, accounting_problem=problem)
    for _ in range(2):
        keep(status_of(evidence([silent], (), 4, run)._replace(listed=read_records(run)), asked, NOW))
    assert len(list(run.tasks.iterdir())) == (2 if kept else 0)
    after = status_of(evidence([silent], (), 4, run)._replace(listed=read_records(run)), Snapshot(), NOW).counts()
    assert after == ({TaskState.DONE: 1, TaskState.FAILED: 1, TaskState.UNKNOWN: 2} if kept else {TaskState.UNKNOWN: 4})


def test_f66_a_claim_of_completion_is_outranked_by_all_that_is_known() -> None:
    """F66: a worker of 0.0.4 writes it after the first task. It decides where there is no evidence about tasks."""
    live = [sighting("71", (0,), "RUNNING")]
    assert judged(claimed=True, seen=live).state is TaskState.RUNNING
    assert judged(a_record(0, "71", 3), claimed=True).state is TaskState.FAILED
    assert judged(claimed=True).state is TaskState.LOST
    silent = PLAIN._replace(records=False)
    assert judged(sub=silent, claimed=True).state is TaskState.DONE
    assert judged(sub=silent).state is TaskState.UNKNOWN
    assert judged(sub=silent, claimed=True, seen=live).state is TaskState.RUNNING
    failed = [sighting("71", (0,), "FAILED", code=3)]
    assert judged(sub=silent, claimed=True, seen=failed).state is TaskState.FAILED
    assert verdicts(evidence([silent], (), 4)._replace(claim=True), problem="no")[0].state is TaskState.UNKNOWN
    assert verdicts(evidence([], (), 4)._replace(claim=True))[0].state is TaskState.UNSUBMITTED
    old = evidence([], (), 4)._replace(claim=True, state=None)
    assert verdicts(old)[0].state is TaskState.DONE
    assert verdicts(old._replace(claim=False))[0].state is TaskState.UNKNOWN


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, TaskState.WAITING),
        ({"pid": 2**22 + 1}, TaskState.UNSUBMITTED),
        ({"boot": "another-boot/1"}, TaskState.UNKNOWN),
        ({"host": "elsewhere"}, TaskState.UNKNOWN),
    ],
)
def test_f65_a_local_run_is_judged_only_where_its_processes_can_be_seen(
    change: dict[str, object], expected: TaskState, tmp_path: Path
) -> None:
    """F65: the same host name says nothing in another boot or PID name space."""
    owner = replace(Owner.current(), **change)  # type: ignore[arg-type]
    sub = PLAIN._replace(scheduler="local", owner=owner.text())
    assert judged(sub=sub).state is expected
    run = RunDir(tmp_path / RUN.path.name)
    run.submissions.mkdir(parents=True)
    run.tasks.mkdir()
    record, started = a_record(0, "71"), process_start(os.getpid())
    told = evidence([sub], [record], 4, run)

    def state(pid: int, started: int | None) -> TaskState:
        (run.tasks / record.name).write_text(json.dumps({"host": "h", "pid": pid, "job": "7", "started": started}))
        return verdicts(told)[0].state

    unseen = expected is TaskState.UNKNOWN
    assert state(os.getpid(), started) is (TaskState.UNKNOWN if unseen else TaskState.RUNNING)
    assert state(os.getpid(), 1) is (TaskState.UNKNOWN if unseen else TaskState.LOST)  # the number was used again
    assert state(2**22 + 1, started) is (TaskState.UNKNOWN if unseen else TaskState.LOST)
    # Without the start time only the run's own process, while it lives, vouches for the number.
    assert state(os.getpid(), None) is (TaskState.RUNNING if expected is TaskState.WAITING else TaskState.UNKNOWN)


def test_a_local_task_whose_shell_was_killed_runs_as_long_as_what_it_started(tmp_path: Path) -> None:
    """Whoever submitted it again would have the work done twice, at the same time."""
    run = RunDir.of(tmp_path, "ab" * 32)
    run.tasks.mkdir(parents=True)
    shell = subprocess.Popen(
        ["bash", "-c", "set -m; sleep 600 >/dev/null & echo $!; wait"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert shell.stdout is not None
    with shell:
        started = process_start(shell.pid)
        left = int(shell.stdout.readline())
        shell.kill()
    dead = replace(Owner.current(), pid=2**22 + 17, started=1)
    record = TaskRecord(0, 1, "71", 0, 100)
    (run.tasks / record.name).write_text(json.dumps({"host": "h", "pid": shell.pid, "job": "71", "started": started}))
    sub = PLAIN._replace(scheduler="local", owner=dead.text(), jobs=(Job("71"),))

    def told() -> Verdict:
        return status_of(evidence([sub], [record], 4, run), Snapshot(), NOW).tasks[0].verdict

    try:
        assert told().state is TaskState.RUNNING
    finally:
        os.kill(left, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while told().state is TaskState.RUNNING and time.monotonic() < deadline:
        time.sleep(0.005)
    assert told().state is TaskState.LOST


# --- packs


PACKS = submission(range(24), ["71"], Array("0-3", 0, 24), per_job=6, parallel=2)


@pytest.mark.parametrize("word", ["FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "CANCELLED"])
def test_a_task_of_a_pack_that_is_done_stays_done(word: str) -> None:
    """The element's verdict is about the whole pack: one bad task makes it FAILED."""
    records = [a_record(0, "71", 0), a_record(1, "71", 3), a_record(2, "71", 0)]
    found = verdicts(evidence([PACKS], records), sighting("71", (0,), word), sighting("71", (1, 2, 3), "PENDING"))
    assert [found[task].state for task in (0, 1, 2)] == [TaskState.DONE, TaskState.FAILED, TaskState.DONE]
    assert found[1].reason == "exit code 3"


@pytest.mark.parametrize("word", ["TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL", "PREEMPTED"])
@pytest.mark.parametrize("asked", ["squeue", "sacct"])
def test_what_the_job_of_a_pack_did_not_come_to_is_unsubmitted(word: str, asked: str) -> None:
    """At the time limit, and when a node dies: tasks that never started are submitted again."""
    records = [a_record(task, "71", 0) for task in range(4)]
    seen = [sighting("71", (0,), word)]
    found = verdicts(
        evidence([PACKS], records), *(seen if asked == "squeue" else ()), accounted=seen if asked == "sacct" else ()
    )
    assert [found[task].state for task in range(6)] == [TaskState.DONE] * 4 + [TaskState.UNSUBMITTED] * 2
    assert word in found[4].reason


def test_the_task_that_was_cut_off_is_unsubmitted_unless_it_had_all_the_time() -> None:
    """Under way at the TIMEOUT: the first of the pack had the whole limit, so it failed; a later one had not."""
    records = [a_record(0, "71"), a_record(1, "71", 0), a_record(2, "71"), a_record(7, "71")]
    seen = [sighting("71", (0, 1), "TIMEOUT"), sighting("71", (2, 3), "PENDING")]
    told = evidence([PACKS], records)
    found = verdicts(told, *seen)
    assert (found[0].state, found[0].reason) == (TaskState.FAILED, "TIMEOUT")
    assert found[1].state is TaskState.DONE
    assert (found[2].state, found[2].reason) == (TaskState.UNSUBMITTED, "cut off at the end of its job")
    assert (found[7].state, found[7].reason) == (TaskState.FAILED, "TIMEOUT"), "two at a time: the second leads too"
    judge = Judge(told, Snapshot(tuple(seen)), NOW)
    judge.groups()
    assert {task: word for task, (_, word) in judge.outranked.items()} == {0: "TIMEOUT", 2: CUT_OFF, 7: "TIMEOUT"}


@pytest.mark.parametrize("word", ["PENDING", "RUNNING"])
@pytest.mark.parametrize("turned", [False, True])
def test_f171_what_another_job_will_come_to_waits(word: str, turned: bool) -> None:
    """F171: one works on, past a task that failed; the other, by hand, hasn't come to it. In any order."""
    records = [a_record(0, "71", 3), a_record(1, "71")]
    seen = [sighting("71", (0,), "RUNNING"), sighting("75", (0,), word)]
    found = verdicts(evidence([PACKS], records), *(reversed(seen) if turned else seen))
    assert (found[0].state, found[0].job) == (TaskState.WAITING, "75")


@pytest.mark.parametrize("turned", [False, True])
def test_f257_a_task_that_runs_in_one_job_runs_though_another_one_will_come_to_it(turned: bool) -> None:
    """F257: the job of its pack was requeued and waits; whoever cancels what waits must not be told of this one."""
    again = submission([0], ["80"], Array("0", 0, 1), number=2, per_job=6, parallel=2, created=200.0)
    records = [a_record(0, "71", 3), a_record(0, "80", number=2, start=300), a_record(1, "71")]
    seen = [sighting("71", (0,), "PENDING"), sighting("80", (0,), "RUNNING")]
    found = verdicts(evidence([PACKS, again], records), *(reversed(seen) if turned else seen))
    assert (found[0].state, found[0].job) == (TaskState.RUNNING, "80")
    assert (found[1].state, found[1].job) == (TaskState.WAITING, "71")


def test_what_is_said_of_a_whole_job_of_packs_is_said_of_each_pack() -> None:
    """sacct names no elements: what became of a task depends on whether its own pack had begun."""
    packs = submission(range(4), ["20"], Array("0-1", 0, 4), per_job=3)
    told = evidence([packs], [a_record(0, "20")], tasks=4)
    found = verdicts(told, accounted=[sighting("20", None, "FAILED")])
    assert states(found) == {"lost": [0], "unsubmitted": [1, 2], "failed": [3]}


def test_what_was_cut_off_stays_so_when_slurm_has_forgotten(tmp_path: Path) -> None:
    """The verdict is kept in the record's name, for a task that failed and for one that was cut off."""
    run = RunDir(tmp_path / RUN.path.name)
    run.submissions.mkdir(parents=True)
    run.tasks.mkdir()
    records = [a_record(0, "71"), a_record(2, "71"), *(a_record(task, "71", 0) for task in (1, 3, 4, 5))]
    for record in records:
        (run.tasks / record.name).touch()
    place = f"{run.script}|{run.cwd}"
    keep(status_of(evidence([PACKS], records, 6, run), Snapshot((sighting("71", (0,), "TIMEOUT", place),)), NOW))
    kept = [found for path in run.tasks.iterdir() if (found := TaskRecord.parse(path.name)) is not None]
    assert {record.task: record.verdict for record in kept if record.verdict} == {0: "TIMEOUT", 2: CUT_OFF}
    later = status_of(evidence([PACKS], kept, 6, run), Snapshot(), NOW + 10_000)
    assert [later.tasks[task].state for task in range(3)] == [TaskState.FAILED, TaskState.DONE, TaskState.UNSUBMITTED]


def test_what_was_cancelled_before_its_turn_failed() -> None:
    """Somebody wanted it to end: it isn't submitted again by itself, as with arrays of single tasks."""
    records = [a_record(0, "71", 0)]
    found = verdicts(
        evidence([PACKS], records), sighting("71", (0,), "CANCELLED by 1000"), sighting("71", (1, 2, 3), "PENDING")
    )
    assert states(found) == {"done": [0], "failed": [1, 2, 3, 4, 5], "waiting": list(range(6, 24))}
    assert {found[task].reason for task in range(1, 6)} == {"CANCELLED"}


def test_the_tasks_of_a_pack_under_way() -> None:
    """What has no record waits, though its job runs; what has one runs or has ended."""
    records = [a_record(0, "71", 0), a_record(1, "71", 5), a_record(2, "71"), a_record(3, "71")]
    found = verdicts(
        evidence([PACKS], records),
        sighting("71", (0, 1), "RUNNING"),
        sighting("71", (2, 3), "PENDING", reason="Priority"),
    )
    assert states(found) == {"done": [0], "failed": [1], "running": [2, 3], "waiting": list(range(4, 24))}
    assert (found[4].reason, found[6].reason, found[12].reason) == ("its job runs", "its job runs", "Priority")


def test_a_requeued_pack_that_waits_does_all_that_is_not_done_again() -> None:
    """Seen on 22.05: what a requeue cut off has ended with 143, and the job, which has its id still, is PENDING."""
    records = [a_record(0, "71", 0), a_record(1, "71", 143), a_record(2, "71", 3), a_record(6, "71", 143)]
    found = verdicts(
        evidence([PACKS], records),
        sighting("71", (0,), "PENDING", reason="BeginTime"),
        sighting("71", (1,), "RUNNING"),
        sighting("71", (2, 3), "PENDING"),
    )
    assert [found[task].state for task in (0, 1, 2, 3)] == [TaskState.DONE, *[TaskState.WAITING] * 3]
    assert found[1].reason == "BeginTime"
    assert found[6].state is TaskState.FAILED  # nothing tells that its job is on its second start


def test_a_requeued_pack_that_runs_tells_by_its_records_which_start_it_is() -> None:
    records = [
        a_record(0, "71", 0),
        a_record(1, "71", 143),
        a_record(2, "71", restart=1),
        a_record(3, "71", 3, restart=1),
        a_record(6, "71", 143),
    ]
    found = verdicts(evidence([PACKS], records), sighting("71", range(4), "RUNNING"))
    assert states(found) == {"done": [0], "running": [2], "failed": [3, 6], "waiting": [1, 4, 5, *range(7, 24)]}


def test_a_pack_that_failed_half_way_leaves_the_others_to_be_submitted() -> None:
    """Its shell was killed (seen on 22.05 under OverMemoryKill). Where it came to none of them, the job failed."""
    records = [a_record(task, "71", 0) for task in range(3)] + [a_record(3, "71"), a_record(6, "71")]
    found = verdicts(evidence([PACKS], records), sighting("71", (0, 1, 2), "FAILED"), sighting("71", (3,), "PENDING"))
    assert states(found) == {
        "done": [0, 1, 2],
        "unsubmitted": [3, 4, 5, *range(7, 12)],
        "failed": [6, *range(12, 18)],
        "waiting": list(range(18, 24)),
    }
    assert found[4].reason == "its job ended before it came to it: FAILED"


@pytest.mark.parametrize("word", ["FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "CANCELLED", None])
@pytest.mark.parametrize("parallel", [1, 2, 6])
def test_f305_what_a_pack_came_to_and_left_no_record_of_is_unknown(word: str | None, parallel: int) -> None:
    """F305: those behind it have begun, so it has, and may be done: whatever Slurm says of the job, or nothing."""
    packs = PACKS._replace(parallel=parallel)
    records = [a_record(0, "71", 3), *(a_record(task, "71", 0, start=200) for task in (2, 3))]
    seen = [sighting("71", (0,), word)] if word is not None else []
    found = verdicts(evidence([packs], records, tasks=6), *seen)
    assert (found[1].state, found[1].reason) == (TaskState.UNKNOWN, "its job came to it, and no record of the task")
    behind = {"FAILED": "unknown", "CANCELLED": "failed", None: "lost"}.get(word, "unsubmitted")
    assert {found[task].state.value for task in (4, 5)} == {behind}, "a script that came to its end began them, too"


@pytest.mark.parametrize(("parallel", "state"), [(1, "unknown"), (2, "unsubmitted"), (6, "unsubmitted")])
def test_f305_of_tasks_that_begin_together_some_may_not_have_begun_when_their_job_ends(
    parallel: int, state: str
) -> None:
    """F305: a job that lived a moment only: of two at a time the second one may be the first to record its start."""
    told = evidence([PACKS._replace(parallel=parallel)], [a_record(1, "71")], tasks=6)
    found = verdicts(told, sighting("71", (0,), "NODE_FAIL"))
    assert found[0].state.value == state
    later = evidence([PACKS._replace(parallel=parallel)], [a_record(1, "71", 143)], tasks=6)
    assert verdicts(later, sighting("71", (0,), "NODE_FAIL"))[0].state.value == "unknown", "7 s are no moment"


@pytest.mark.parametrize(
    ("code", "signal", "state"),
    [(None, None, "unknown"), (1, 0, "unknown"), (143, 0, "unsubmitted"), (0, 9, "unsubmitted")],
)
def test_f305_the_exit_status_of_a_pack_tells_whether_it_came_to_its_end(
    code: int | None, signal: int | None, state: str
) -> None:
    """F305: 1 where a task has failed. A signal, or a task that it ended, leaves what lies behind unbegun."""
    seen = sighting("71", (0,), "FAILED", code=code, signal=signal)
    records = [a_record(0, "71", 0), a_record(1, "71", 3)]
    assert verdicts(evidence([PACKS], records, tasks=6), seen)[4].state.value == state
    cut = [a_record(0, "71", 0), a_record(1, "71", 143)]
    assert verdicts(evidence([PACKS], cut, tasks=6), seen)[4].state is TaskState.UNSUBMITTED


def test_f305_a_task_of_a_requeued_pack_that_failed_before_may_be_done_by_now() -> None:
    """F305: the second start did all again that wasn't done, and could record nothing of the first two."""
    records = [a_record(0, "71", 3), a_record(1, "71"), *(a_record(n, "71", 0, start=300, restart=1) for n in (2, 3))]
    first = [*records[:2], a_record(2, "71", 0), a_record(3, "71", 0)]
    for word in ("FAILED", "TIMEOUT"):
        found = verdicts(evidence([PACKS], records, tasks=4), sighting("71", (0,), word))
        assert states(found) == {"unknown": [0, 1], "done": [2, 3]}
        assert verdicts(evidence([PACKS], first, tasks=4), sighting("71", (0,), word))[0].state is TaskState.FAILED


def test_f305_what_a_pack_that_failed_left_no_record_of_stays_unknown(tmp_path: Path) -> None:
    """F305: Slurm forgets it; and a look at what was noted comes to the same while Slurm still tells it."""
    run = RunDir(tmp_path / RUN.path.name)
    run.submissions.mkdir(parents=True)
    run.tasks.mkdir()
    for record in (a_record(0, "71", 3), a_record(1, "71", 0)):
        (run.tasks / record.name).touch()
    seen = Snapshot((sighting("71", (0,), "FAILED", f"{run.script}|{run.cwd}"),), accounting_problem="there is none")
    told = evidence([PACKS], (), 4, run)
    for snapshot in (seen, seen, Snapshot()):
        status = status_of(told._replace(listed=read_records(run)), snapshot, NOW)
        keep(status)
        assert {state: status.indices(state) for state in status.counts()} == {
            TaskState.DONE: [1],
            TaskState.FAILED: [0],
            TaskState.UNKNOWN: [2, 3],
        }


@pytest.mark.parametrize("word", ["FAILED", "TIMEOUT", "OUT_OF_MEMORY"])
def test_f131_where_more_lack_an_end_than_were_under_way_nobody_knows_which_are_done(word: str) -> None:
    """Two at a time, and three without an end: an EXIT trap of the script's own. Not submitted again by itself."""
    records = [a_record(task, "71") for task in (0, 1, 2)] + [a_record(6, "71"), a_record(7, "71")]
    seen = [sighting("71", (0, 1), word), sighting("71", (2, 3), "PENDING")]
    judge = Judge(evidence([PACKS], records), Snapshot(tuple(seen)), NOW)
    groups = states({task: judge.verdict(task) for task in range(12)})
    assert (groups["lost"], groups["failed"]) == ([0, 1, 2], [6, 7])
    assert 0 not in judge.outranked, "what nobody knows isn't kept"


def test_f131_ends_may_not_be_seen_yet_on_a_network_file_system() -> None:
    records = [a_record(task, "71", start=int(NOW) - 5) for task in (0, 1, 2)]
    found = verdicts(evidence([PACKS], records), sighting("71", (0,), "FAILED"), sighting("71", (1, 2, 3), "PENDING"))
    assert {found[task].state for task in (0, 1, 2)} == {TaskState.UNKNOWN}


def test_f131_what_a_requeue_cut_off_is_no_sign_of_it() -> None:
    """Two were under way in each of the starts."""
    records = [
        a_record(0, "71", 0, restart=1),
        *(a_record(task, "71", restart=1) for task in (1, 2)),
        a_record(3, "71"),
    ]
    found = verdicts(evidence([PACKS], records), sighting("71", (0,), "TIMEOUT"), sighting("71", (1, 2, 3), "PENDING"))
    assert (found[2].state, found[3].state) == (TaskState.UNSUBMITTED, TaskState.UNSUBMITTED)


def test_a_pack_resubmitted_is_judged_by_its_new_submission() -> None:
    """A record of the first attempt says nothing about the second one."""
    again = submission([2, 5, 7], ["80"], Array("0", 0, 3), number=2, mapped=True, per_job=6)
    records = [a_record(task, "71", 0) for task in range(24) if task not in (2, 5, 7)] + [
        a_record(2, "71", 1),
        a_record(5, "80", 0, number=2),
    ]
    found = verdicts(evidence([PACKS, again], records), sighting("80", (0,), "RUNNING"))
    assert states(found) == {"done": [task for task in range(24) if task not in (2, 7)], "waiting": [2, 7]}


def test_the_time_of_a_packed_task_is_its_own() -> None:
    """Not that of the job which works through its pack."""
    records = [a_record(0, "71", 0), a_record(1, "71", start=int(NOW) - 30)]
    judge = Judge(evidence([PACKS], records), Snapshot((sighting("71", (0,), "RUNNING", used="2:00:00"),)), NOW)
    assert (judge.task(0).elapsed, judge.task(1).elapsed, judge.task(2).elapsed) == (7.0, 30.0, None)
