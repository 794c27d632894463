"""No log is lost between the task that wrote it and the archive, whatever it is called; what is missing is told."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from esis.operations.logs.of_tasks import last_words
from tests.faults.bench import TEMPLATE, Bench, only_run

WORKER = """#!/bin/sh
echo "log of $SLURM_ARRAY_TASK_ID"
echo "trouble of $SLURM_ARRAY_TASK_ID" >&2
[ -e ../mended ] || [ ! -e "../../bad.$SLURM_ARRAY_TASK_ID" ]
"""


def scan(
    bench: Bench,
    tasks: int,
    option: str = "",
    size: int = 1001,
    per_job: int = 1,
    bad: tuple[int, ...] = (),
    setup: str = "true",
    name: str = "a",
    run: tuple[str, ...] = (),
) -> Path:
    """Run a scan to its end."""
    bench.slurm.set(max_array_size=size)
    place = bench.workflow(name, tasks, worker=WORKER)
    (place / "setup.sh").write_text(f"#!/bin/sh\n{setup}\n")
    (place / "template.sh").write_text(
        TEMPLATE.replace("#ESIS_PRIVATE", f"#SBATCH {option}\n#ESIS_PRIVATE") if option else TEMPLATE
    )
    path = place / "wf.esis.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tasks_per_job": per_job}))
    for task in bad:
        (place / f"bad.{task}").touch()
    bench.esis(place, "run", *run).ok()
    bench.slurm.run(parallel=4)
    return place


def archived(bench: Bench, place: Path, *options: str, code: int = 0) -> tuple[dict[str, str], str]:
    """Return what logs an archive holds, by names below the run, and what was said."""
    made = place.parent / "a.zip"
    shown = bench.esis(place, "archive", "-o", str(made), *options)
    assert shown.code == code, shown
    if code:
        return {}, shown.stderr
    assert bench.esis(place, "verify", str(made)).ok()
    with zipfile.ZipFile(made) as archive:
        found = {
            name: archive.read(name).decode()
            for name in archive.namelist()
            if not name.endswith("/") and name.startswith(("cwd/", "logs/"))
        }
    return found, shown.stderr


def of(logs: dict[str, str]) -> list[int]:
    """Return the tasks whose own words are in logs, as often as they are."""
    return sorted(int(line.split()[-1]) for text in logs.values() for line in text.splitlines() if "log of" in line)


def test_logs_of_packs_are_archived(bench: Bench) -> None:
    """Each task's own, and those of the packs."""
    place = scan(bench, 6, per_job=3)
    logs, said = archived(bench, place)
    assert (of(logs), len(logs)) == (list(range(6)), 8)
    assert "no log" not in said


def test_logs_of_all_arrays_are_archived(bench: Bench) -> None:
    """Also where ESIS put the job's id into the names."""
    place = scan(bench, 10, "-o log_%a.txt", size=4)
    logs, said = archived(bench, place)
    assert of(logs) == list(range(10))
    assert "no log" not in said


@pytest.mark.parametrize(
    ("option", "size", "per_job"),
    [
        ("-o log_%a.txt", 4, 1),
        ("", 4, 1),
        ("-o %x-%3a_%b.log -J scan", 4, 1),
        ("-o %A%a", 1001, 1),
        ("", 1001, 3),
        ("-o log_%a.txt", 2, 3),
        ("-o logs/%A/%a", 4, 1),
        ("-o ../logs/%a", 4, 1),
        ("-o %N.%a", 4, 1),
        ("-o %j.%a.out -e %j.%a.err", 1001, 1),
    ],
    ids=str,
)
def test_logs_of_failed_tasks_are_those_of_failed_tasks(bench: Bench, option: str, size: int, per_job: int) -> None:
    """By offset, pack and directory; nothing of other tasks, and nothing is missing."""
    setup = "for n in 1 2 3 4; do mkdir -p logs cwd/logs/$n; done"
    place = scan(bench, 10, option, size, per_job, bad=(5, 9), setup=setup)
    for task in (0, 5, 9) if "%N" not in option else ():  # the fake's nodes are not the hosts of its tasks
        assert f"log of {task}\n" in bench.esis(place, "log", str(task)).ok().stdout
    for chosen, tasks in (("failed", [5, 9]), ("all", list(range(10))), ("none", [])):
        for more in ((), ("--no-prepared",)):
            logs, said = archived(bench, place, "--incomplete", "--logs", chosen, *more)
            assert of(logs) == tasks, (chosen, sorted(logs))
            assert "no log" not in said
            assert "no error log" not in said


def test_logs_of_a_resubmission_by_a_list_are_told_from_earlier_ones(bench: Bench) -> None:
    """Index 1 of the list is another task than index 1 of the range before."""
    place = scan(bench, 30, "-o log_%a.txt", size=12, bad=(1, 7, 13, 20, 27))
    (place / "bad.1").unlink()
    bench.esis(place, "resubmit").ok()
    assert json.loads((only_run(place) / "__esis__/submissions/0002.json").read_text())["mapped"]
    bench.slurm.run(parallel=4)
    logs, said = archived(bench, place, "--incomplete", "--logs", "failed")
    assert set(of(logs)) == {7, 13, 20, 27}, sorted(logs)
    assert "no log" not in said
    (only_run(place) / "mended").touch()
    bench.esis(place, "resubmit").ok()
    bench.slurm.run(parallel=4)
    logs, said = archived(bench, place)
    assert set(of(logs)) == set(range(30))
    assert "no log" not in said


def test_a_shared_log_is_that_of_each_of_its_tasks(bench: Bench) -> None:
    """One file for all: it goes in where any of them failed."""
    place = scan(bench, 3, "-o all.log --open-mode=append", bad=(1,))
    assert of(archived(bench, place, "--incomplete", "--logs", "failed")[0]) == [0, 1, 2]
    (only_run(place) / "mended").touch()
    bench.esis(place, "resubmit").ok()
    bench.slurm.run()
    assert archived(bench, place, "--logs", "failed")[0] == {}


def test_logs_that_are_gone_are_named_once(bench: Bench) -> None:
    """A note with their number, the tasks and the first name, however many they are; of those that are wanted."""
    place = scan(bench, 300, bad=(7,))
    run = only_run(place)
    for path in (run / "cwd").glob("slurm-*_*[13579].out"):
        path.unlink()
    logs, said = archived(bench, place, "--incomplete")
    assert len(of(logs)) == 150
    (told,) = [line for line in said.splitlines() if "no log" in line]
    assert "no log of 150 tasks that began, 1,3,5," in told
    assert "slurm-1_1.out" in told
    assert len(told) < 600
    said = archived(bench, place, "--incomplete", "--logs", "failed")[1]
    assert "no log of 1 task that began, 7: in cwd/ there is no slurm-1_7.out\n" in said
    assert "no log" not in archived(bench, place, "--incomplete", "--logs", "none")[1]


def test_error_output_that_is_gone_is_named(bench: Bench) -> None:
    place = scan(bench, 3, "-e err_%a")
    (only_run(place) / "cwd/err_2").unlink()
    logs, said = archived(bench, place)
    assert {"cwd/err_0", "cwd/err_1"} < set(logs)
    assert "no error log of 1 task that began, 2: in cwd/ there is no err_2\n" in said


def test_logs_outside_of_the_run_are_named(bench: Bench) -> None:
    """They aren't packed; and those that lie in it by an absolute name are."""
    place = scan(bench, 3, f"-o '{bench.directory}/out_%a' -e /dev/null")
    logs, said = archived(bench, place)
    assert logs == {}
    assert f"left out: logs that lie outside of the run, {bench.directory}/out_%a\n" in said
    assert "/dev/null" not in said
    assert "outside" not in archived(bench, place, "--logs", "none")[1]
    bench.esis(place, "resubmit", "--tasks", "1", "--state", "done", "--", f"--output={only_run(place)}/cwd/in_%a").ok()
    bench.slurm.run()
    assert list(archived(bench, place)[0]) == ["cwd/in_1"]


def test_a_log_that_cannot_be_packed_is_named(bench: Bench) -> None:
    """A link to nowhere was to be a log, and is told."""
    place = scan(bench, 3)
    log = only_run(place) / "cwd/slurm-1_1.out"
    log.unlink()
    log.symlink_to("gone")
    assert "left out: cwd/slurm-1_1.out is a link to gone" in archived(bench, place)[1]


@pytest.mark.parametrize("logs", ["logs", "../logs"])
def test_logs_behind_a_link_are_named(bench: Bench, logs: str) -> None:
    """A directory that the setup script put elsewhere stays there."""
    place = scan(bench, 3, f"-o {logs}/%a", setup=f'at=$PWD/../../elsewhere; mkdir "$at"; cd cwd; ln -s "$at" {logs}')
    assert bench.esis(place, "log", "1").ok().stdout.startswith("log of 1\n")
    found, said = archived(bench, place)
    assert of(found) == []
    assert f"left out: logs behind the link {logs.replace('../', '') if '/' in logs else 'cwd/logs'}\n" in said


def test_a_directory_of_logs_that_cannot_be_read_is_an_error(bench: Bench) -> None:
    """Nothing is packed where nobody knows what would be missing."""
    place = scan(bench, 3, "-o logs/%a", setup="mkdir cwd/logs")
    logs = only_run(place) / "cwd/logs"
    logs.rename(logs.with_name("moved"))
    logs.symlink_to("logs")
    assert f"looking for logs: {logs}/: " in archived(bench, place, code=1)[1]
    assert not (place.parent / "a.zip").exists()


def test_folded_logs_are_none_that_are_missing(bench: Bench) -> None:
    """`esis compact` put them into one file, which goes in."""
    place = scan(bench, 6, per_job=3)
    bench.esis(place, "compact").ok()
    assert list((only_run(place) / "cwd").iterdir()) == []
    said = archived(bench, place)[1]
    assert "no log" not in said
    assert bench.esis(place, "log", "4").ok().stdout.startswith("log of 4\n")


def test_folding_takes_logs_of_all_arrays_and_packs(bench: Bench) -> None:
    """And every one can be read as before."""
    place = scan(bench, 10, "-o log_%a.txt", size=2, per_job=2)
    before = [bench.esis(place, "log", str(task)).ok().stdout for task in range(10)]
    bench.esis(place, "compact").ok()
    assert [path.name for path in (only_run(place) / "cwd").iterdir()] == []
    assert [bench.esis(place, "log", str(task)).ok().stdout for task in range(10)] == before


def test_the_log_of_an_earlier_submission_is_not_that_of_a_launch_failure(bench: Bench) -> None:
    """It failed before its script began, so it has no log: what an earlier attempt said is not shown as its own."""
    place = scan(bench, 3, bad=(1,))
    bench.esis(place, "resubmit").ok()
    job = max(view.id for view in bench.slurm.jobs())
    bench.slurm.set_state(job, "FAILED", task=1, exit_code="0:53")
    assert bench.states(place) == {"done": 2, "failed": 1}
    (group,) = json.loads(bench.esis(place, "errors", "--json").ok().stdout)["groups"]
    assert (group["reason"], group["line"], group["example"]) == ("launch failure", "", None)
    logs, said = archived(bench, place, "--incomplete")
    assert of(logs) == [0, 1, 2]
    assert f"slurm-{job}_1.out" in said
    missing = bench.esis(place, "log", "1")
    assert missing.code == 2
    assert f"slurm-{job}_1.out: there is no such log (yet)" in missing.stderr
    assert f"earlier attempts left theirs in {only_run(place)}/cwd" in missing.stderr


OTHERS = [
    ("-o run_%a.log", ["run_2020.log", "run_2021.log"]),
    ("", ["slurm-77_1.out", "slurm-1_2020.out"]),
    ("-o %j.%a.txt", ["9999.1.txt", "1.2020.txt"]),
    ("-o conf.%j.out", ["conf.100.out"]),
    ("-o logs/%N_%12j", ["logs/x_000000000100"]),
    ("-o all_%a -e err_%a", ["err_2020"]),
]


@pytest.mark.parametrize(("option", "others"), OTHERS, ids=str)
@pytest.mark.parametrize("per_job", [1, 2])
def test_what_is_only_called_like_a_log_is_none(bench: Bench, option: str, others: list[str], per_job: int) -> None:
    """Its index is no task's, or its job none of the run's: it comes with --cwd alone, and compact leaves it."""
    place = scan(bench, 3, option, per_job=per_job, setup="mkdir cwd/logs")
    cwd = only_run(place) / "cwd"
    for name in others:
        (cwd / name).write_text("data")
    data = {f"cwd/{name}" for name in others}
    everything = {str(path.relative_to(cwd.parent)) for path in cwd.rglob("*") if path.is_file()}
    assert set(archived(bench, place)[0]) == everything - data
    patterns = [word for name in others for word in ("--cwd", f"{name[:-1]}?")]
    for chosen in ("none", "failed"):
        logs, said = archived(bench, place, "--logs", chosen, *patterns)
        assert (set(logs), "left out" in said) == (data, False)
    bench.esis(place, "compact").ok()
    assert data <= {f"cwd/{path.relative_to(cwd)}" for path in cwd.rglob("*")}
    for task in range(3 if "%N" not in option else 0):  # the fake's nodes are not the hosts of its tasks
        assert f"log of {task}\n" in bench.esis(place, "log", str(task)).ok().stdout


def test_a_log_that_cwd_matches_and_logs_leaves_out_is_named(bench: Bench) -> None:
    """Its whole name chooses it, whatever --logs says."""
    place = scan(bench, 12)
    (only_run(place) / "cwd/slurm.dat").write_text("data")
    logs, said = archived(bench, place, "--logs", "none", "--cwd", "slurm*", "--cwd", "slurm-1_3.out")
    assert set(logs) == {"cwd/slurm.dat", "cwd/slurm-1_3.out"}
    assert "left out: 11 logs that --cwd matches" in said
    assert "cwd/slurm-1_0.out, cwd/slurm-1_1.out, cwd/slurm-1_10.out" in said


def test_logs_of_jobs_by_hand_are_the_runs(bench: Bench) -> None:
    """The records know their jobs, also of an attempt that a later one followed."""
    for name, option, made in (("a", "", "slurm-{}_1.out"), ("b", "-o %j.txt", "{}.txt")):
        place = scan(bench, 3, option, name=name)
        run = only_run(place)
        assert bench.slurm.call("sbatch", "--array=1", "../sbatch.sh", cwd=run / "cwd").returncode == 0
        bench.slurm.run()
        by_hand = max(view.id for view in bench.slurm.jobs())
        bench.esis(place, "resubmit", "--state", "done", "--tasks", "1").ok()
        bench.slurm.run()
        bench.esis(place, "wait").ok()
        assert f"cwd/{made.format(by_hand)}" in archived(bench, place)[0]
        bench.esis(place, "compact").ok()
        assert list((run / "cwd").iterdir()) == []


@pytest.mark.parametrize("option", ["", "-o %j.txt"])
def test_without_records_any_job_may_be_the_runs(bench: Bench, option: str) -> None:
    """Nobody knows which jobs were submitted by hand."""
    place = scan(bench, 3, option, run=("--no-task-records",))
    run = only_run(place)
    assert bench.slurm.call("sbatch", "--array=1", "../sbatch.sh", cwd=run / "cwd").returncode == 0
    bench.slurm.run()
    logs, _ = archived(bench, place, "--incomplete")
    assert of(logs) == [0, 1, 1, 2]


def test_f273_a_hole_in_front_of_a_message_does_not_hide_it(tmp_path: Path) -> None:
    """F273: NUL bytes, left where a log was cut under its writer, or by a file server."""
    log = tmp_path / "log"
    log.write_bytes(b"before\n" + b"\0" * 5000 + b"no room left\n" + b"\0" * 500)
    assert last_words(log) == "no room left"


def test_f273_who_asks_for_a_log_that_goes_to_a_device_is_told(bench: Bench) -> None:
    place = scan(bench, 2, "-o /dev/null")
    shown = bench.esis(place, "log", "1")
    assert shown.code == 2, shown
    assert "its template sends the logs to /dev/null" in shown.stderr
    assert "leave -o" in shown.stderr
    assert bench.esis(place, "log", "1", "--path").ok().stdout == "/dev/null\n"
