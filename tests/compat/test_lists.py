"""`esis list` as 0.0.4's users call it, and the files that their scripts read."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esis.model.workdir import RunDir
from esis.operations.runs import list_runs
from esis.records import old
from esis.records.start_time import format_start_time, parse_start_time
from tests.contract.site import FakeSite, generator, make_workflow
from tests.operations.made import make_run

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy


# --- wf_starttime


@RELAXED
@given(st.integers(0, 4 * 10**9))
def test_a_start_time_is_local_time_and_reads_back(seconds: int) -> None:
    """DD.MM.YYYY-HH:MM:SS; an hour of the year stands there twice."""
    text = format_start_time(seconds)
    assert re.fullmatch(r"\d\d\.\d\d\.\d{4}-\d\d:\d\d:\d\d", text)
    assert text == time.strftime("%d.%m.%Y-%H:%M:%S", time.localtime(seconds))
    found = parse_start_time(text)
    assert found is not None
    assert abs(found - seconds) in (0, 3600)
    assert parse_start_time(f" {seconds}.250\n") == seconds + 0.25  # ESIS 0.1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "nan",
        "inf",
        "-1",
        "1e400",
        "1e30",
        "32.01.2020-00:00:00",
        "01.13.2020-00:00:00",
        "01.01.2020",
        "\0",
        "00.00.0000-00:00:00",
    ],
)
def test_f58_what_is_no_time_is_none(text: str) -> None:
    """F58: absurd numbers are no times, and break no list."""
    assert parse_start_time(text) is None


def test_one_of_iso_is_read_too() -> None:
    assert parse_start_time("2020-01-02T03:04:05") == parse_start_time("02.01.2020-03:04:05")


def test_the_files_of_0_0_4_hold_what_its_users_read(site: FakeSite) -> None:
    """wf_starttime: local time, to the second. jobid.tx: the id and a newline."""
    flow = make_workflow(site, "w", 2)
    before = int(time.time())
    flow.esis("run").ok()
    private = flow.only_run() / "__esis__"
    assert (private / "jobid.tx").read_text() == "1\n"
    text = (private / "wf_starttime").read_text()
    assert before <= time.mktime(time.strptime(text, "%d.%m.%Y-%H:%M:%S")) <= time.time()


# --- list


def started(parent: Path, digit: str, when: str, job: str = "7") -> RunDir:
    """Make a run that began at a time, given as its wf_starttime has it."""
    run = make_run(parent, [1], {}, digest=digit * 64)
    run.start_time.write_text(when)
    run.job_ids.write_text(job)
    return run


def test_it_lists_the_runs_of_that_directory(site: FakeSite) -> None:
    """`wd=$(esis list | grep wrkdir)` holds one path; -r goes down the tree."""
    place = site.home / "place"
    here, below = make_run(place, [1], {}, digest="a" * 64), make_run(place / "deeper", [1], {}, digest="b" * 64)
    shell = 'wd=$(esis list --grep | grep wrkdir); cd "$wd" && pwd'
    assert site.run(["sh", "-c", shell], place).ok().stdout == f"{here.path}\n"
    assert site.run(["esis", "list", "place"], site.home).ok().stdout == f"{here.path}\n"
    assert site.run(["esis", "list"], site.home).ok().stdout == ""
    for option in ("-r", "--recursive"):
        found = site.run(["esis", "list", option, "place"], site.home).ok().stdout.split()
        assert found == sorted([str(below.path), str(here.path)])
    shown = json.loads(site.run(["esis", "list", "-r", "--json"], site.home).ok().stdout)
    assert [item["path"] for item in shown["runs"]] == found


def test_by_time_and_by_jobid_print_what_they_sort_by_and_a_tab(site: FakeSite) -> None:
    """By time, not by the letters of the date; both forms of a time are read, and printed as 0.0.4 did."""
    place = site.home / "place"
    seconds = time.mktime(time.strptime("15.06.2021-10:00:00", "%d.%m.%Y-%H:%M:%S"))
    runs = [
        started(place, "a", "02.01.2022-00:00:00", "9\n"),
        started(place, "b", "31.12.2020-23:59:59", "10\n"),
        started(place, "c", f"{seconds:.3f}", "8\n11\n"),
    ]
    never = make_run(place, [1], {}, digest="d" * 64)
    by_time = site.run(["esis", "list", "--by-time"], place).ok().stdout
    assert by_time == "".join(
        [
            f"31.12.2020-23:59:59\t{runs[1].path}\n",
            f"15.06.2021-10:00:00\t{runs[2].path}\n",
            f"02.01.2022-00:00:00\t{runs[0].path}\n",
            f"-\t{never.path}\n",
        ]
    )
    by_job = site.run(["esis", "list", "--by-jobid", "--grep"], place).ok().stdout
    assert by_job == "".join(
        [f"9\t{runs[0].path}\n", f"10\t{runs[1].path}\n", f"11\t{runs[2].path}\n", f"-\t{never.path}\n"]
    )


def test_runs_of_before_0_0_4_are_listed_with_their_job_and_time(site: FakeSite) -> None:
    """jobid.tx and wf_starttime at their root, no __esis__; whatever their name is behind wrkdir."""
    place = site.home / "place"
    for name, day in (("wrkdir.2f7a", 5), (f"wrkdir.{'e' * 64}", 4)):
        (place / name / "parameters").mkdir(parents=True)
        (place / name / "jobid.tx").write_text(f"{10 + day}\n")
        (place / name / "wf_starttime").write_text(f"0{day}.03.2019-08:00:00")
    (place / "wrkdir.other").mkdir()
    shown = site.run(["esis", "list", "--by-time"], place).ok().stdout
    assert shown == (f"04.03.2019-08:00:00\t{place}/wrkdir.{'e' * 64}\n05.03.2019-08:00:00\t{place}/wrkdir.2f7a\n")
    assert site.run(["esis", "list", "--by-jobid"], place).ok().stdout.split()[::2] == ["14", "15"]
    refused = site.run(["esis", "status", f"wrkdir.{'e' * 64}"], place)
    assert refused.code == 2
    assert "before 0.0.4" in refused.stderr


def test_f58_a_special_file_in_the_place_of_one_hangs_no_list(tmp_path: Path) -> None:
    """F58: a FIFO, a directory or a megabyte of noise is no job id and no time: told, and the others are listed."""
    runs = [started(tmp_path, digit, "x") for digit in "abc"]
    good = started(tmp_path, "d", "x")
    for run in runs:
        run.job_ids.unlink()
        run.start_time.unlink()
    os.mkfifo(runs[0].job_ids)
    os.mkfifo(runs[0].start_time)
    runs[1].job_ids.mkdir()
    runs[2].job_ids.write_bytes(b"1 " * 10**6)
    runs[2].start_time.write_bytes(b"\xff" * 10**6)
    assert [old.job_ids_in(run.job_ids) for run in runs] == [(), (), ()]
    told: list[str] = []
    assert [item.run for item in list_runs(tmp_path, tell=told.append)] == [good]
    assert sorted(str(run.path) in text for run, text in zip(runs, sorted(told))) == [True] * 3


# --- generators


@pytest.mark.parametrize("count", [1, 4])
def test_a_generator_may_print_the_last_index(site: FakeSite, count: int) -> None:
    """As 0.0.4's do; all parameter sets become tasks, and a note says so."""
    text = generator(count).replace(f"print({count})", f"print({count - 1})")
    flow = make_workflow(site, "w", generator_text=text)
    done = flow.esis("run", "--local").ok()
    assert "the last index" in done.stderr
    assert flow.states() == {"done": count}
