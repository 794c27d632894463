"""A submission's record survives its file, and a broken one is never half believed."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esis.errors import CorruptState, EsisError
from esis.model.index_sets import as_sequence
from esis.model.limits import Limits
from esis.model.workdir import RunDir
from esis.operations.submission.arrays import Packing, plan
from esis.records import submissions
from esis.records.claims import claims, read_claim
from esis.records.origin import origin_here
from esis.records.submissions import SCHEMA, Array, Cluster, Job, Origin, Outcome, Submission, read_all, save

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy

text = st.text(max_size=12)
tasks = st.sets(st.integers(0, 10**6), min_size=1, max_size=20).map(lambda found: as_sequence(sorted(found)))
described = st.builds(
    lambda **told: Submission(**told),  # what has a default keeps it
    number=st.integers(1, 10**6),
    scheduler=st.sampled_from(["slurm", "local"]),
    tasks=st.just(()),
    arrays=st.just(()),
    script_digest=text,
    created=st.floats(0, 1e10),
    owner=text,
    records=st.booleans(),
    argv=st.lists(text, max_size=3).map(tuple),
    dependency=st.none() | text,
    outcome=st.sampled_from(Outcome),
    message=st.none() | text,
    answered=st.none() | st.floats(0, 1e10),
    returned=st.just(()) | tasks.map(tuple),
    throttle=st.integers(0, 99),
    unique_output=text,
    unique_error=text,
    parallel=st.integers(1, 9),
    options=st.lists(text, max_size=2).map(tuple),
    output=text,
    seen=st.lists(st.integers(1, 99).map(str), max_size=2).map(tuple),
    provenance=st.none()
    | st.builds(
        Origin,
        text,
        st.integers(0, 2**31),
        text,
        text,
        text,
        text,
        text,
        st.lists(text, max_size=2).map(tuple),
        st.none() | text,
        st.none() | text,
    ),
    cluster=st.none()
    | st.builds(Cluster, text, st.lists(text, max_size=2).map(tuple), st.lists(text, max_size=2).map(tuple)),
)


@st.composite
def made(draw: st.DrawFn) -> Submission:
    """A submission as `plan` cuts it: whole, in several arrays, mapped, packed."""
    several, per_job = draw(tasks), draw(st.integers(1, 5))
    limits = draw(st.none() | st.builds(Limits, st.integers(1, 10**6), st.integers(1, 9)))
    planned = plan(several, draw(st.integers(0, 9)), limits, Packing(per_job))
    jobs = draw(
        st.lists(st.builds(Job, st.integers(1, 10**12).map(str), st.none() | text), max_size=len(planned.arrays))
    )
    return draw(described)._replace(
        tasks=several, arrays=planned.arrays, mapped=planned.mapped, per_job=per_job, jobs=tuple(jobs)
    )


SAMPLE = Submission(
    1, "slurm", range(3), (Array("0-2%10", 0, 3),), "ab", 1.5, "owner", True, jobs=(Job("17", "c1"),), throttle=10
)


def run_at(path: Path) -> RunDir:
    run = RunDir(path / ("wrkdir." + "0" * 64))
    run.submissions.mkdir(parents=True)
    return run


@RELAXED
@given(made())
def test_a_record_survives_its_file(submission: Submission) -> None:
    """What is written is what is read."""
    again = json.loads(json.dumps(submission.to_json()))
    assert Submission.from_json(Path("0001.json"), again) == submission


def test_a_record_of_a_version_without_provenance_is_read() -> None:
    """The key is missing or null there."""
    old = {key: value for key, value in SAMPLE.to_json().items() if key != "provenance"}
    assert Submission.from_json(Path("0001.json"), old) == SAMPLE


RECORDS_OF_0_1 = sorted((Path(__file__).parents[1] / "data" / "submissions").glob("*.json"))


@pytest.mark.parametrize("path", RECORDS_OF_0_1, ids=lambda path: path.stem)
def test_records_of_0_1_0_are_read_and_written_as_they_are(path: Path) -> None:
    """A field that comes later may be missing: users' runs are older than their esis."""
    raw = json.loads(path.read_text())
    made = Submission.from_json(path, raw)
    assert made.to_json() == {"cluster": None, **raw}
    assert not made.unknown


def test_there_are_records_of_each_kind() -> None:
    kinds = {
        (made.scheduler, made.mapped, made.packed, len(made.arrays) > 1, made.outcome)
        for made in (Submission.from_json(path, json.loads(path.read_text())) for path in RECORDS_OF_0_1)
    }
    assert kinds >= {
        ("slurm", False, False, False, Outcome.SUBMITTED),
        ("slurm", False, False, True, Outcome.SUBMITTED),
        ("slurm", True, False, False, Outcome.OPEN),
        ("slurm", False, True, False, Outcome.REFUSED),
        ("local", False, False, False, Outcome.SUBMITTED),
    }


@RELAXED
@given(made(), st.dictionaries(st.text(max_size=5).map("new {}".format), st.none() | text | st.lists(st.integers())))
def test_what_a_newer_esis_noted_stays_in_the_record(submission: Submission, more: dict[str, object]) -> None:
    """It is of no consequence for what this one knows (SCHEMA would be another), and the newer one reads it again."""
    again = Submission.from_json(Path("0001.json"), {**submission.to_json(), **more})
    assert again._replace(unknown={}) == submission
    assert again._replace(outcome=Outcome.REFUSED).to_json() == {
        **submission._replace(outcome=Outcome.REFUSED).to_json(),
        **more,
    }


def test_every_field_stands_in_the_record_once() -> None:
    names = set(Submission._fields) - {"unknown"}
    assert set(submissions._CODECS) == names
    assert len(SAMPLE.to_json()) == len(names) + 1


def test_a_submission_says_who_made_it_where_and_with_what(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without starting a program."""
    monkeypatch.setenv("LOADEDMODULES", "gcc/12:openmpi/4")
    monkeypatch.setattr("subprocess.Popen", None)
    here = origin_here()
    assert (here.uid, here.host, here.modules) == (os.getuid(), os.uname().nodename, ("gcc/12", "openmpi/4"))
    assert here.user
    assert here.python


def test_the_file_carries_its_schema() -> None:
    """Ranges, not lists of a hundred thousand numbers, and a schema number."""
    raw = SAMPLE.to_json()
    assert (raw["schema"], raw["tasks"], raw["jobs"]) == (SCHEMA, "0-2", [{"id": "17", "cluster": "c1"}])
    assert raw["arrays"] == [{"array": "0-2%10", "offset": 0, "tasks": 3}]
    assert (raw["throttle"], raw["per_job"], raw["parallel"], raw["mapped"]) == (10, 1, 1, False)


def test_a_million_tasks_make_a_short_record() -> None:
    """Written and read, they stay a range."""
    many = SAMPLE._replace(tasks=range(1_000_000), arrays=(Array("0-999999%10", 0, 1_000_000),))
    text = json.dumps(many.to_json())
    assert len(text) < 2000
    assert Submission.from_json(Path("x.json"), json.loads(text)).tasks == range(1_000_000)


def test_all_are_read_in_their_order(tmp_path: Path) -> None:
    """Submissions come by number; temporary files, claims and strangers are no records."""
    run = run_at(tmp_path)
    for number in (2, 10, 1):
        save(run, Submission(number, "slurm", (0,), (Array("0", 0, 1),), "ab", float(number), "o", True))
    for name in (".esis-tmp-1-ab", "0001.json~", "notes.json", "1.json"):
        (run.submissions / name).write_text("{")
    run.claim(1).symlink_to("77")
    assert [item.number for item in read_all(run)] == [1, 2, 10]
    assert sorted(name for name in os.listdir(run.submissions) if name.endswith("0.json")) == ["0010.json"]


def test_no_directory_means_no_submission(tmp_path: Path) -> None:
    """A run that was never submitted, or 0.0.4's."""
    assert read_all(RunDir(tmp_path / ("wrkdir." + "0" * 64))) == []


def test_a_claim_names_the_job(tmp_path: Path) -> None:
    """The claim is a link to nowhere whose target is the job's id."""
    run = run_at(tmp_path)
    assert read_claim(run, 1) is None
    run.claim(1).symlink_to("4711")
    assert read_claim(run, 1) == "4711"


@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "no job", "loop"])
def test_f57_a_claim_that_cannot_be_read_is_not_no_claim(tmp_path: Path, kind: str) -> None:
    """F57: something stands there, so somebody may be at work: an error that names it."""
    run = run_at(tmp_path)
    path = run.claim(2)
    make: Mapping[str, Callable[[], object]] = {
        "file": lambda: path.write_text("4711"),
        "directory": path.mkdir,
        "fifo": lambda: os.mkfifo(path),
        "no job": lambda: path.symlink_to("../4711"),
        "loop": lambda: path.symlink_to(path.name),
    }
    make[kind]()
    with pytest.raises(CorruptState, match=r"0002\.claim"):
        read_claim(run, 2)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENAMETOOLONG])
def test_f57_a_claim_that_the_file_system_keeps_back_is_not_no_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """F57: only ENOENT says that nobody has claimed the work."""

    def refuse(path: Path) -> str:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "readlink", refuse)
    with pytest.raises(OSError, match=r"0002\.claim"):
        read_claim(run_at(tmp_path), 2)


def test_each_array_has_a_claim_of_its_own(tmp_path: Path) -> None:
    """0001.claim for the first (and for those of one array, as ever), 0001.2.claim for the second."""
    run = run_at(tmp_path)
    assert (run.claim(1).name, run.claim(1, 1).name, run.claim(12, 2).name) == (
        "0001.claim",
        "0001.2.claim",
        "0012.3.claim",
    )
    run.claim(1, 1).symlink_to("4712")
    three = SAMPLE._replace(arrays=tuple(Array("0", number, 1) for number in range(3)))
    assert claims(run, three) == [None, "4712", None]
    save(run, three)
    assert read_all(run) == [three]


# --- which task stands where


def test_a_shifted_array() -> None:
    """Slurm's index plus the offset is the task."""
    arrays = (Array("0-99", 0, 100), Array("0-99", 100, 100), Array("0-49", 200, 50))
    found = SAMPLE._replace(tasks=range(250), arrays=arrays)
    assert [found.place_of(task) for task in (0, 99, 100, 249)] == [(0, 0), (0, 99), (1, 0), (2, 49)]
    assert found.tasks_at(1, range(3, 5)) == range(103, 105)
    assert list(found.tasks_at(2, (0, 7))) == [200, 207]


def test_a_mapped_array() -> None:
    """Slurm's index plus the offset is a position in the list; what is beyond it is no task."""
    scattered = tuple(range(0, 500, 2))
    found = SAMPLE._replace(tasks=scattered, mapped=True, arrays=(Array("0-199", 0, 200), Array("0-49", 200, 50)))
    assert found.place_of(400) == (1, 0)
    assert found.tasks_at(1, range(48, 52)) == [496, 498]


def test_a_packed_array() -> None:
    """Slurm's index plus the offset is a pack; the last one may be smaller."""
    found = SAMPLE._replace(tasks=range(5, 30), per_job=10, parallel=3, arrays=(Array("0-1", 0, 20), Array("0", 2, 5)))
    assert (found.packed, SAMPLE.packed) == (True, False)
    assert found.tasks_at(0, (1,)) == list(range(15, 25))
    assert found.tasks_at(1, (0,)) == list(range(25, 30))
    assert [found.place_of(task) for task in (5, 14, 15, 29)] == [(0, 0), (0, 0), (0, 1), (1, 0)]


def test_the_first_of_a_pack_lead_it() -> None:
    """As many as run at a time begin with the job; the others may not have had all of its time."""
    found = SAMPLE._replace(tasks=(2, 3, 5, 7, 11, 13, 17), per_job=3, parallel=2, mapped=True)
    assert [task for task in found.tasks if found.leads_pack(task)] == [2, 3, 7, 11, 17]
    assert all(SAMPLE._replace(tasks=range(9)).leads_pack(task) for task in range(9))


@pytest.mark.parametrize(
    ("throttle", "arrays", "lanes"), [(0, 3, 0), (1, 3, 1), (2, 3, 2), (3, 3, 0), (9, 3, 0), (1, 1, 0)]
)
def test_lanes(throttle: int, arrays: int, lanes: int) -> None:
    """Where fewer tasks may run at a time than there are arrays, that many arrays run side by side."""
    found = SAMPLE._replace(throttle=throttle, arrays=tuple(Array("0%1", number, 1) for number in range(arrays)))
    assert found.lanes == lanes


def test_a_job_is_found_by_its_id() -> None:
    """The ids stand in the order of the arrays."""
    found = SAMPLE._replace(arrays=(Array("0", 0, 1), Array("0", 1, 1)), jobs=(Job("17"), Job("19")))
    assert [found.position_of(job) for job in ("17", "19", "18")] == [0, 1, None]
    assert (Array("0-2%10").throttle, Array("0-2").throttle) == (10, 0)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\0\0\0", b"\xff"])
def test_f07_garbage_is_corrupt_and_named(tmp_path: Path, content: bytes) -> None:
    """F07: a cut or overwritten record is an error that names the file; it is never left out silently."""
    run = run_at(tmp_path)
    save(run, SAMPLE)
    run.submission(2).write_bytes(content)
    with pytest.raises(CorruptState, match=r"0002\.json"):
        read_all(run)


@pytest.mark.parametrize("key", sorted(SAMPLE.to_json().keys() - {"cluster", "provenance", "unique_error"}))
def test_f07_a_missing_key_is_corrupt(key: str) -> None:
    """F07: every key is needed: a record that lacks one was not written by this schema."""
    raw = {name: value for name, value in SAMPLE.to_json().items() if name != key}
    with pytest.raises(CorruptState, match=r"x\.json is corrupt"):
        Submission.from_json(Path("x.json"), raw)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("number", "one"),
        ("number", None),
        ("tasks", "abc"),
        ("tasks", ""),
        ("outcome", "maybe"),
        ("outcome", None),
        ("jobs", 3),
        ("jobs", [3]),
        ("jobs", [{"id": "1"}]),
        ("created", "today"),
        ("argv", 3),
        ("seen", None),
        ("returned", "x"),
        ("schema", "1"),
        ("arrays", 3),
        ("arrays", [3]),
        ("arrays", [{"array": "0"}]),
        ("arrays", [{"array": "0", "offset": "x", "tasks": 1}]),
        ("throttle", None),
        ("per_job", "many"),
        ("parallel", []),
        ("options", 3),
    ],
)
def test_f07_a_wrong_value_is_corrupt(key: str, value: object) -> None:
    """F07: a value of another kind is an error that names the file."""
    with pytest.raises(CorruptState, match=r"x\.json"):
        Submission.from_json(Path("x.json"), {**SAMPLE.to_json(), key: value})


@pytest.mark.parametrize(("key", "value"), [("tasks", 3), ("tasks", None), ("returned", [1]), ("number", float("inf"))])
def test_f07_no_kind_of_value_gives_a_traceback(key: str, value: object) -> None:
    """F07: numbers where texts belong, and infinity, are corrupt as well."""
    with pytest.raises(CorruptState, match=r"x\.json"):
        Submission.from_json(Path("x.json"), {**SAMPLE.to_json(), key: value})


json_values = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.lists(st.integers(), max_size=2)


@RELAXED
@given(
    st.dictionaries(
        st.sampled_from([key for key in SAMPLE.to_json() if key not in ("tasks", "returned")]), json_values, max_size=3
    )
)
def test_f07_a_record_is_read_or_corrupt(changes: dict[str, Any]) -> None:
    """F07: nothing but a record or CorruptState comes out of any JSON."""
    try:
        found = Submission.from_json(Path("x.json"), {**SAMPLE.to_json(), **changes})
    except CorruptState:
        return
    assert found.outcome in Outcome


def test_a_newer_schema_is_told_apart() -> None:
    """A record of a newer ESIS says what to do, and is not called corrupt."""
    with pytest.raises(EsisError, match=r"schema 2, this esis knows 1; use a newer esis"):
        Submission.from_json(Path("x.json"), {**SAMPLE.to_json(), "schema": 2})


def test_the_intent_is_replaced_not_appended(tmp_path: Path) -> None:
    """Intent and answer are one file under one name; nothing else is left."""
    run = run_at(tmp_path)
    save(run, SAMPLE)
    save(run, SAMPLE)
    assert os.listdir(run.submissions) == ["0001.json"]
