"""Whose a job is that Slurm shows: by its script and what the run knows of it, never by the directory alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esis.model.workdir import RunDir
from esis.schedulers.base import JobState, Sighting, Snapshot
from esis.schedulers.identity import (
    Whose,
    is_feeder,
    is_in_cwd,
    script_argument,
    sent_as,
    whose_accounted,
    whose_in_queue,
)
from tests.mounts import bound

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
NAME = "wrkdir." + "0" * 64
RUN = RunDir(Path("/scratch/a b|c") / NAME)
OTHER = RunDir(RUN.path.parent / ("wrkdir." + "1" * 64))
OURS, DOUBTFUL, FOREIGN = Whose.OURS, Whose.DOUBTFUL, Whose.FOREIGN


@pytest.mark.parametrize(
    ("command", "workdir", "stranger", "known"),
    [
        (script_argument(RUN, 1, 0), "/elsewhere", OURS, OURS),
        (str(RUN.script), "/elsewhere", OURS, OURS),
        (f"{RUN.script} some x|y arguments", "/elsewhere", OURS, OURS),  # 22.05 shows them
        (f"{RUN.cwd}/../sbatch.sh", "/e|f", OURS, OURS),
        (f"{RUN.path}//./sbatch.sh", "/e", OURS, OURS),
        ("../sbatch.sh", str(RUN.cwd), OURS, OURS),  # typed by hand in cwd/
        ("../sbatch.sh a|b c", str(RUN.cwd), OURS, OURS),
        ("./sbatch.sh", str(RUN.path), OURS, OURS),
        ("sbatch.sh", str(RUN.path), OURS, OURS),
        (f"{NAME}/sbatch.sh", str(RUN.path.parent), OURS, OURS),
        ("../sbatch.sh", "/tmp", FOREIGN, DOUBTFUL),  # --chdir hides from where it was meant
        ("../sbatch.sh", "/elsewhere/cwd", FOREIGN, DOUBTFUL),
        ("../sbatch.sh", str(OTHER.cwd), FOREIGN, FOREIGN),
        (str(OTHER.script), str(RUN.cwd), FOREIGN, DOUBTFUL),
        (f"{RUN.cwd}/post.sh", str(RUN.cwd), FOREIGN, DOUBTFUL),  # the user's own, from cwd/
        ("post.sh", str(RUN.cwd), FOREIGN, DOUBTFUL),
        ("(null)", str(RUN.cwd), FOREIGN, DOUBTFUL),  # --wrap, or a script from standard input
        ("", str(RUN.cwd), FOREIGN, DOUBTFUL),
        (f"{RUN.cwd}/sbatch.sh", str(RUN.cwd), FOREIGN, DOUBTFUL),
        ("sbatch.sh", str(RUN.cwd), FOREIGN, DOUBTFUL),
        (f"{RUN.cwd}/post.sh {RUN.script}", str(RUN.cwd), FOREIGN, DOUBTFUL),
        (f"{RUN.cwd}/post.sh", f"{RUN.cwd}x", FOREIGN, FOREIGN),
        (f"{RUN.script}.old", "/elsewhere", FOREIGN, FOREIGN),
        ("/x/sbatch.sh", str(RUN.path), FOREIGN, FOREIGN),
        ("/scratch/sbatch.sh", "/elsewhere", FOREIGN, FOREIGN),
        ("", "", FOREIGN, FOREIGN),
    ],
)
def test_f45_a_job_is_a_runs_by_its_script(command: str, workdir: str, stranger: Whose, known: Whose) -> None:
    """F15, F45, F46: an id that the run knows makes nothing its own, only doubtful where the directory is its."""
    assert whose_in_queue(RUN, f"{command}|{workdir}", known=False) is stranger
    assert whose_in_queue(RUN, f"{command}|{workdir}", known=True) is known


def test_f45_a_copy_of_a_run_is_another_run(tmp_path: Path) -> None:
    """The copy knows the same ids; its commands must not touch the jobs of the original. A link is the same run."""
    original, copy = RunDir(tmp_path / "original" / NAME), RunDir(tmp_path / "copy" / NAME)
    for run in (original, copy):
        run.cwd.mkdir(parents=True)
        run.private.mkdir()
    (tmp_path / "link").symlink_to("original")
    for place in (f"{script_argument(original, 1, 0)}|/tmp", f"../sbatch.sh|{original.cwd}"):
        assert whose_in_queue(original, place, known=True) is OURS
        assert whose_in_queue(copy, place, known=True) is FOREIGN
        linked = place.replace("/original/", "/link/")
        assert whose_in_queue(original, linked, known=False) is OURS
        assert whose_in_queue(copy, linked, known=True) is FOREIGN
    # Another host may have it under a name that isn't there on this one.
    away = f"/mnt/of-another-host/{NAME}/sbatch.sh|/tmp"
    assert whose_in_queue(copy, away, known=True) is OURS
    assert whose_in_queue(copy, away, known=False) is FOREIGN


def test_f180_a_directory_that_a_node_made_for_a_log_is_no_copy(tmp_path: Path) -> None:
    """Slurm 24.11 does, where a run was that was moved while its tasks wait: these are still its own."""
    moved, husk = RunDir(tmp_path / "new" / NAME), RunDir(tmp_path / "old" / NAME)
    moved.private.mkdir(parents=True)
    husk.cwd.mkdir(parents=True)
    for place in (f"{script_argument(husk, 1, 0)}|{husk.cwd}", f"../sbatch.sh|{husk.cwd}"):
        assert whose_in_queue(moved, place, known=True) is OURS
        assert whose_in_queue(moved, place, known=False) is FOREIGN
    assert whose_accounted(moved, f"{husk.cwd}|sbatch --parsable {script_argument(husk, 1, 0)}") is OURS
    assert whose_in_queue(RunDir(tmp_path / "new" / OTHER.path.name), f"{husk.script}|/", known=True) is FOREIGN
    husk.private.mkdir()
    assert whose_in_queue(moved, f"{husk.script}|{husk.cwd}", known=True) is FOREIGN


@pytest.fixture
def two_names(tmp_path: Path) -> Iterator[tuple[RunDir, RunDir]]:
    """One run by two names, the second by a bind mount, which no path tells."""
    first, second = tmp_path / "home", tmp_path / "data"
    RunDir(first / NAME).cwd.mkdir(parents=True)
    second.mkdir()
    with bound(first, second):
        yield RunDir(first / NAME), RunDir(second / NAME)


@pytest.mark.parametrize("known", [True, False])
def test_f85_a_job_is_the_runs_by_every_name_of_its_directory(two_names: tuple[RunDir, RunDir], known: bool) -> None:
    """F85: submitted by the one name and looked at by the other, it isn't lost."""
    for run, other in (two_names, two_names[::-1]):
        submitted = f"{script_argument(other, 1, 0)}|{other.cwd}"
        for place in (submitted, f"{other.script}|/tmp", f"../sbatch.sh|{other.cwd}"):
            assert whose_in_queue(run, place, known) is OURS
        assert whose_in_queue(run, f"post.sh|{other.cwd}", known) is (DOUBTFUL if known else FOREIGN)
        assert is_in_cwd(run, f"slurm.sh|{other.cwd}", known) is (OURS if known else FOREIGN)
        assert sent_as(run, submitted)
        assert not sent_as(run, f"{other.script}|{other.cwd}")
        assert is_feeder(run, f"{other.feed_script}|{other.private}")
        for place in (f"{other.cwd}|", str(other.cwd), f"{other.cwd}|sbatch ../sbatch.sh", f"/|sbatch {other.script}"):
            assert whose_accounted(run, place) is OURS
        assert whose_accounted(run, f"{other.cwd}|sbatch post.sh") is FOREIGN


def test_f85_a_directory_that_cannot_be_looked_at_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F85: nor does one with the inode of the run's on another device, as a file system that is mounted twice has."""
    run, other, twice = (RunDir(tmp_path / name / NAME) for name in ("here", "closed", "twice"))
    for made in (run, other, twice):
        made.cwd.mkdir(parents=True)
        made.private.mkdir()
    real, asked = os.stat, list[str]()

    def stat(path: str | Path, **how: Any) -> os.stat_result:
        asked.append(str(path))
        if str(path) == str(other.path):
            raise PermissionError(13, "Permission denied", str(path))
        found = list(real(run.path if str(path) == str(twice.path) else path, **how))
        found[2] += str(path) == str(twice.path)
        return os.stat_result(found)

    monkeypatch.setattr(os, "stat", stat)
    for away in (other, twice):
        place = f"{script_argument(away, 1, 0)}|{away.cwd}"
        assert whose_in_queue(run, place, known=True) is DOUBTFUL
        assert whose_in_queue(run, place, known=False) is FOREIGN
        assert whose_in_queue(run, f"{script_argument(away, 1, 0)}|/tmp", known=True) is DOUBTFUL
        assert whose_in_queue(run, f"post.sh|{away.cwd}", known=True) is DOUBTFUL
        assert not sent_as(run, place)
        assert whose_accounted(run, f"{away.cwd}|sbatch {script_argument(away, 1, 0)}") is DOUBTFUL
    asked.clear()
    sightings = [seen("7", JobState.ACTIVE, script_argument(other, 1, 0), index) for index in range(1000)]
    snapshot = Snapshot(tuple(sightings), accounting=tuple(sightings))
    assert {item.state for item in [*snapshot.of_run(run, {"7"}), *snapshot.accounted(run)]} <= {JobState.UNKNOWN}
    assert (snapshot.submitted(run), len(asked) < 20) == ({}, True)


def test_f45_what_esis_submitted_is_told_from_what_was_typed() -> None:
    """Only the former may be adopted where an answer was lost: a rerun by hand has another array, and no fence."""
    assert sent_as(RUN, f"{script_argument(RUN, 1, 0)}|/x")
    for command in (str(RUN.script), "../sbatch.sh", f"{RUN.cwd}/../sbatch.sh", script_argument(OTHER, 1, 0), "(null)"):
        assert not sent_as(RUN, f"{command}|{RUN.cwd}")
    assert os.path.normpath(script_argument(RUN, 1, 0)) == str(RUN.script)
    assert sent_as(RUN, f"{RUN.private}/../sbatch.sh|{RUN.cwd}") == (0, 0), "as 0.1.0 did"


AWAY = RunDir(Path("/mnt/of-another-host") / NAME)


@pytest.mark.parametrize(
    ("script", "workdir", "feeds"),
    [
        (RUN.feed_script, RUN.private, True),
        (OTHER.feed_script, RUN.private, False),
        (RUN.feed_script, OTHER.private, False),
        (RUN.feed_script, RUN.path, False),
        (RUN.feed_script, RUN.cwd, False),
        (RUN.script, RUN.private, False),
        (AWAY.feed_script, RUN.private, False),
        (RUN.feed_script, AWAY.private, False),
    ],
)
def test_a_feeding_job_is_known_by_its_script_and_its_directory(script: Path, workdir: Path, feeds: bool) -> None:
    """Both are the run's, here and now: who takes another one for it leaves the rest to nobody."""
    assert is_feeder(RUN, f"{script}|{workdir}") is feeds


def test_esis_names_its_scripts_by_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is named as seen from somewhere was typed, though this process may stand in the same place."""
    run = RunDir(tmp_path / NAME)
    run.private.mkdir(parents=True)
    monkeypatch.chdir(run.path)
    assert sent_as(run, f"{run.private}/../sbatch.sh|/") == (0, 0)
    assert sent_as(run, f"./{run.private.name}/../sbatch.sh|{run.path}") is None
    assert is_feeder(run, f"{run.feed_script}|{run.private}")
    assert not is_feeder(run, f"./{run.private.name}/{run.feed_script.name}|{run.private}")


def test_a_job_that_esis_submitted_has_the_runs_script_at_a_name_that_is_there() -> None:
    """A path alone is no script; and what was submitted on another host, by another name, isn't told here."""
    assert sent_as(RUN, str(RUN.path)) is None
    assert sent_as(RUN, f"{script_argument(AWAY, 1, 0)}|/tmp") is None
    assert whose_in_queue(RUN, f"{script_argument(AWAY, 1, 0)}|/tmp", known=True) is OURS


@given(st.integers(1, 10**6), st.integers(0, 10**7))
def test_f179_a_job_tells_which_array_of_which_submission_it_is(number: int, position: int) -> None:
    """In the path of its script, as a release that doesn't know that reads it, too."""
    argument = script_argument(RUN, number, position)
    assert sent_as(RUN, f"{argument}|/x|y") == (number, position)
    assert sent_as(OTHER, f"{argument}|{RUN.cwd}") is None
    assert argument.endswith("/__esis__/../sbatch.sh")
    assert len(argument) < len(str(RUN.script)) + 150
    assert whose_in_queue(RUN, f"{argument}|/x", known=False) is OURS
    assert whose_accounted(RUN, f"/x|sbatch --parsable {argument}") is OURS


@pytest.mark.parametrize(
    ("workdir", "line", "ours"),
    [
        (str(RUN.cwd), f"sbatch --parsable --mem=5 {script_argument(RUN, 1, 0)}", True),
        ("/tmp", f"sbatch --parsable {script_argument(RUN, 1, 0)}", True),
        (str(RUN.cwd), "sbatch ../sbatch.sh", True),
        (str(RUN.cwd), "sbatch --array=3 ../sbatch.sh a b", True),
        (str(RUN.path), "sbatch sbatch.sh", True),
        (str(RUN.path), "sbatch.sh", True),  # a site's own word for sbatch, of which nothing is told
        ("/tmp", str(RUN.script), True),
        ("", f"sbatch {RUN.script}", True),  # no directory is told
        (str(RUN.cwd), "sbatch sbatch.sh", False),
        ("/tmp", "sbatch --chdir=/tmp ../sbatch.sh", False),
        (str(RUN.cwd), "", True),  # 20.11 tells no line
        (str(RUN.cwd), "sbatch --array=0-3 post.sh", False),
        (str(RUN.cwd), "sbatch --wrap=hostname", False),
        (str(RUN.cwd), "sbatch", False),
        (str(RUN.cwd), f"sbatch {OTHER.script}", False),
        (str(OTHER.cwd), "sbatch ../sbatch.sh", False),
        ("/tmp", "", False),
        ("/tmp", "sbatch /tmp/sbatch.sh", False),
        (str(OTHER.cwd), "", False),
        (f"{RUN.cwd}x", "", False),
    ],
)
def test_f45_the_accounting_is_believed_of_the_runs_script_alone(workdir: str, line: str, ours: bool) -> None:
    """It is asked for ids that the run knows; another job may have had one of them since."""
    assert whose_accounted(RUN, f"{workdir}|{line}") is (OURS if ours else FOREIGN)


def test_a_directory_may_end_with_the_mark_that_stands_behind_it() -> None:
    run = RunDir(Path("/scratch/x|") / NAME)
    assert whose_accounted(run, f"{run.path.parent}|sbatch {NAME}/sbatch.sh") is OURS
    assert whose_in_queue(run, f"{NAME}/sbatch.sh a||{run.path.parent}", known=False) is OURS


def seen(job: str, state: JobState, command: str, index: int = 0) -> Sighting:
    return Sighting(job, [index], state, state.name, place=f"{command}|{RUN.cwd}")


@pytest.mark.parametrize("state", list(JobState))
def test_f45_nothing_is_told_of_a_doubtful_job_but_that_it_is_there(state: JobState) -> None:
    """It may run, so its tasks aren't lost; it may be another's, so they neither wait nor run nor ended."""
    snapshot = Snapshot((seen("7", state, "post.sh"), seen("8", state, "post.sh"), seen("7", state, "../sbatch.sh")))
    doubtful, sure = snapshot.of_run(RUN, {"7"})
    assert (doubtful.state, doubtful.indices) == (JobState.UNKNOWN, [0])
    assert "another script: post.sh" in doubtful.word
    assert sure.state is state
    assert [item.job for item in snapshot.of_run(RUN, ())] == ["7"]


words = st.sampled_from(["sbatch.sh", "/", "|", " ", NAME, str(RUN.path), str(RUN.cwd), "..", "x", "\n", "__esis__"])


@RELAXED
@given(st.lists(words, max_size=12).map("".join), st.booleans())
def test_no_place_at_all_raises(place: str, known: bool) -> None:
    """Names may hold anything; and what a stranger's job shows never makes it certain by its directory alone."""
    assert whose_accounted(RUN, place) in Whose
    if whose_in_queue(RUN, place, known) is OURS:
        assert "sbatch.sh" in place
