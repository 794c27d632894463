"""A task's record is one file whose name tells the state; the latest attempt counts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esis.errors import CorruptState
from esis.model.workdir import RunDir
from esis.records.task_details import Details, read_details
from esis.records.tasks import TaskRecord, TaskRecords, read_records


def latest(found: Iterable[TaskRecord]) -> dict[int, TaskRecord]:
    """Return what counts of these records."""
    return dict(TaskRecords(record.name for record in found))


RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy

records = st.builds(
    lambda **told: TaskRecord(**told),  # what has a default keeps it
    task=st.integers(0, 10**12 - 1),
    submission=st.integers(1, 10**9 - 1),
    job=st.integers(0, 10**19).map(str),
    restart=st.integers(0, 10**9 - 1),
    start=st.integers(0, 10**15 - 1),
)
saved = st.builds(
    lambda record, end: record._replace(code=75, end=end, resumable=True), records, st.integers(0, 10**15 - 1)
)
ended = st.builds(
    lambda record, code, end: record._replace(code=code, end=end),
    records,
    st.integers(0, 255),
    st.integers(0, 10**15 - 1),
)


@st.composite
def histories(draw: st.DrawFn, task: int = 0) -> list[TaskRecord]:
    """Draw what can happen to a task: submissions, jobs started by hand, requeues; in the order of time."""
    made: list[TaskRecord] = []
    now, job = draw(st.integers(0, 10**9)), draw(st.integers(1, 99))
    for submission in range(1, draw(st.integers(1, 3)) + 1):
        for _ in range(draw(st.integers(0, 2))):
            job += draw(st.integers(1, 50))
            for restart in range(draw(st.integers(1, 3))):
                now += draw(st.integers(1, 1000))
                record = TaskRecord(task, submission, str(job), restart, now)
                if draw(st.booleans()):
                    record = record._replace(code=draw(st.sampled_from([0, 0, 1, 143])), end=now + 1)
                made.append(record)
    return made


@RELAXED
@given(records | ended | saved)
def test_a_record_survives_its_name(record: TaskRecord) -> None:
    """The file name holds everything."""
    assert TaskRecord.parse(record.name) == record
    assert record.ended == (".exit" in record.name or ".resumable." in record.name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "0.0001.7.0.100",
        "0.0001.7.0.100.exit0",
        "0.0001.7.0.100.exit0.",
        "0.0001.7.0.100.exit.105",
        "0.0001.7.0.100.exit0.105.bak",
        "0.0001.7.0.100.exit0.105~",
        "0.0001.7.0.100.exit0.105\n",
        "0.0001.7.0.100.Running",
        ".0.0001.7.0.100.4711",
        "a.0001.7.0.100.running",
        "-1.0001.7.0.100.running",
        "0.1.7.0.100.running",
        "0.0001.7.0.100.exit-1.105",
        "0.0001.7.0.100.exit1000.105",
        ".nfs0000000000000001",
        "0..7.0.100.running",
    ],
)
def test_what_is_no_record_is_none(name: str) -> None:
    """Temporary files, copies and garbage are never taken for a record: a cut name is not done."""
    assert TaskRecord.parse(name) is None


@RELAXED
@given(st.text())
def test_no_name_at_all_raises(name: str) -> None:
    """F07: whatever lies in the directory, it is a record or it is not."""
    found = TaskRecord.parse(name)
    assert found is None or found.task >= 0


@RELAXED
@given(histories(), st.randoms(use_true_random=False))
def test_the_latest_attempt_counts_in_whatever_order_they_are_listed(history: list[TaskRecord], random: object) -> None:
    """A later submission, then a later job, then a later restart wins; the listing's order doesn't matter."""
    shuffled = list(history)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert latest(shuffled) == ({0: history[-1]} if history else {})


@RELAXED
@given(histories(), st.integers(0, 255))
def test_the_end_of_an_attempt_is_later_than_its_start(history: list[TaskRecord], code: int) -> None:
    """A network file system may list a record under both names while it is renamed: it has ended."""
    running = TaskRecord(0, 9, "77", 0, 5)
    end = running._replace(code=code, end=6)
    for order in ([running, end], [end, running]):
        assert latest(history + order) == latest(order + history) == {0: end}


@pytest.mark.parametrize(
    ("later", "earlier"),
    [
        ("0.0002.5.0.100.running", "0.0001.9.3.900.exit0.901"),  # a new submission, although its clock is behind
        ("0.10000.5.0.100.running", "0.9999.5.0.100.running"),  # numbers, not texts
        ("0.0001.5.10.100.running", "0.0001.5.9.100.exit0.101"),  # restarts are numbers as well
        ("0.0001.5.1.100.running", "0.0001.5.0.200.exit1.201"),  # a requeue on a node whose clock is behind
        ("0.0001.8.0.200.exit1.201", "0.0001.9.0.100.exit0.101"),  # job ids are used again: time decides between jobs
        ("0.0001.10.0.100.exit0.101", "0.0001.9.0.100.exit1.100"),  # in the same second: the higher id
        ("0.0001.5.0.100.exit1.101", "0.0001.5.0.100.running"),
    ],
)
def test_which_attempt_is_the_later_one(later: str, earlier: str) -> None:
    """Submission, then time between jobs, then restart within a job, then end before start."""
    one, other = TaskRecord.parse(later), TaskRecord.parse(earlier)
    assert one is not None
    assert other is not None
    assert one.supersedes(other)
    assert not other.supersedes(one)


def test_every_task_has_a_latest_attempt_of_its_own() -> None:
    """Tasks don't mix."""
    first, second = TaskRecord(1, 2, "5", 0, 1), TaskRecord(2, 1, "4", 0, 1, 0, 2)
    assert latest([first, second]) == {1: first, 2: second}
    assert latest([]) == {}


def test_a_missing_directory_has_no_records(tmp_path: Path) -> None:
    """Somebody deleted __esis__: nothing is known, and nothing breaks."""
    assert dict(read_records(RunDir(tmp_path / "absent"))) == {}


def test_one_listing_tells_all(tmp_path: Path) -> None:
    """The state stands in the names: files that can't be read, or are empty, count."""
    run = RunDir(tmp_path)
    run.tasks.mkdir(parents=True)
    for name in ("3.0001.7.0.100.running", "4.0001.7.0.100.exit0.105", ".5.0001.7.0.100.9", "notes.txt"):
        (run.tasks / name).touch(mode=0)
    assert sorted(record.name for record in read_records(run).values()) == [
        "3.0001.7.0.100.running",
        "4.0001.7.0.100.exit0.105",
    ]


def test_folded_records_count_like_files(tmp_path: Path) -> None:
    """One file may hold many of them, a line each; a later attempt in a file of its own outranks them."""
    run = RunDir(tmp_path)
    run.tasks.mkdir(parents=True)
    run.folded_tasks.write_text('3.0001.7.0.100.exit0.105 {"host": "n1"}\n4.0001.7.0.100.exit0.105\nrubbish\n')
    (run.tasks / "4.0002.8.0.200.exit3.205").touch()
    assert {task: record.code for task, record in read_records(run).items()} == {3: 0, 4: 3}


def test_a_record_in_a_file_and_in_a_line_is_one(tmp_path: Path) -> None:
    """A fold that was killed, or an older copy of the files that came back: no second end was recorded."""
    run = RunDir(tmp_path)
    run.tasks.mkdir(parents=True)
    names = ["0.0001.7.0.5.exit0.6", "1.0001.7.0.5.exit3.6"]
    run.folded_tasks.write_text("".join(f"{name} {{}}\n" for name in names))
    for name in names:
        (run.tasks / name).touch()
    found = read_records(run)
    assert [found.rival(task) for task in (0, 1)] == [None, None]
    assert found.kind(0) != found.kind(1)


def test_f309_what_was_noted_twice_is_no_other_end() -> None:
    """F309: two looks at one moment note the same, a second apart; of two ends of one kind neither contradicts."""
    same = ["0.0001.7.0.5.slurm-COMPLETED.5", "0.0001.7.0.6.slurm-COMPLETED.6"]
    other = ["1.0001.7.0.5.slurm-COMPLETED.5", "1.0001.7.0.6.slurm-FAILED.6"]
    ends = ["2.0001.7.0.5.exit3.6", "2.0001.7.0.5.exit3.7"]
    found = TaskRecords([*same, *other, *ends])
    assert [rival and rival.outcome for rival in map(found.rival, range(3))] == [None, "COMPLETED", None]


@RELAXED
@given(
    st.lists(
        st.one_of(
            st.text(max_size=30),
            records.map(lambda record: record.name),
            ended.map(lambda record: record.name),
            st.tuples(records, st.text("\n.0a", max_size=3), ended).map(
                lambda three: f"{three[0].name}{three[1]}{three[2].name}"
            ),
        )
    )
)
def test_many_names_are_read_as_each_by_itself(names: list[str]) -> None:
    """Reading them together is for speed alone: whatever else lies there, with newlines in its name, is left out."""
    one_by_one: dict[int, TaskRecord] = {}
    for record in filter(None, map(TaskRecord.parse, names)):
        if record.task not in one_by_one or record.supersedes(one_by_one[record.task]):
            one_by_one[record.task] = record
    assert dict(TaskRecords(names)) == one_by_one


@RELAXED
@given(st.tuples(histories(0), histories(1), histories(2)))
def test_records_of_one_kind_differ_by_task_and_times_alone(several: tuple[list[TaskRecord], ...]) -> None:
    """What is judged once for a kind has to hold for all of it."""
    found = TaskRecords(record.name for history in several for record in history)

    def kind(record: TaskRecord) -> tuple[object, ...]:
        return record.submission, record.job, record.restart, record.code, record.verdict

    for one in found:
        for other in found:
            assert (found.kind(one) == found.kind(other)) == (kind(found[one]) == kind(found[other]))
    assert found.kind(99) is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            '{"host": "n1", "pid": 12, "job": "7", "partition": "p", "nodes": "n[1-2]", "cpus": 8, "kernel": "6.1", '
            '"modules": "gcc/12:mpi"}',
            Details("n1", 12, "7", "p", "n[1-2]", 8, "6.1", ("gcc/12", "mpi")),
        ),
        ('{"host": "n1", "pid": 12, "job": "7", "cpus": null, "modules": ""}', Details("n1", 12, "7")),
        ('{"host": "n1", "pid": 12, "job": "7"}', Details("n1", 12, "7")),
        ('{"host": "n1", "pid": 12, "job": 7}', None),
        ('{"host": "n1", "pid": "12"}', None),
        ('{"host": 3, "pid": 12}', None),
        ("{}", None),
        ("", None),
        ("[1]", None),
        ('{"host": "n1"', None),
        (None, None),
    ],
)
def test_the_process_of_an_attempt(tmp_path: Path, content: str | None, expected: Details | None) -> None:
    """Host, PID and job stand in the file; F07: a cut or missing file tells nothing."""
    record = TaskRecord(3, 1, "7", 0, 100)
    if content is not None:
        (tmp_path / record.name).write_text(content)
    assert read_details(tmp_path, record) == expected


def test_a_name_is_known_without_parsing() -> None:
    """Whatever the outcome, `name` agrees with the record that is parsed."""
    names = [
        "1.0001.7.0.100.exit0.120",
        "2.0001.7.0.100.running",
        "3.0001.7.0.100.slurm-TIMEOUT.120",
        "4.0001.7.0.100.resumable.120",
        "5.0001.7.0.100.exit3.120",
    ]
    assert TaskRecords(["1.0001.7.0.100.exit0.99"]).elapsed(1) is None, "a clock was set back"
    records = TaskRecords(names)
    assert [records.name(task) for task in records] == names == [record.name for record in records.values()]
    assert records.name(6) is None
    spent = [record.end - record.start if record.end is not None else None for record in records.values()]
    assert [records.elapsed(task) for task in records] == spent == [20, None, 20, 20, 20]
    assert records.elapsed(6) is None
    assert len({records.kind(task) for task in records}) == len(names)


def test_records_are_read_when_somebody_asks(tmp_path: Path) -> None:
    """Of a complete run nearly nobody does. What can't be read stays an error, also when it is asked for again."""
    run = RunDir(tmp_path)
    run.tasks.mkdir(parents=True)
    records = read_records(run, later=True)
    (run.tasks / "1.0001.7.0.100.exit0.120").touch()
    run.folded_tasks.mkdir()
    for _ in range(2):
        with pytest.raises((OSError, CorruptState)):
            len(records)
    run.folded_tasks.rmdir()
    run.folded_tasks.write_text("2.0001.7.0.100.exit0.120 {}\n")
    assert sorted(records) == [1, 2]
