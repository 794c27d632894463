"""Folding a complete run removes nothing before what holds it is on the disk, and every command reads both forms."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path

import pytest

from esis.files import write_atomic
from esis.locks import require
from esis.model.workdir import RunDir
from esis.operations import compact as folding
from esis.operations.compact import compact
from esis.operations.context import Context
from esis.records import results
from esis.records.results import Results
from esis.schedulers.slurm import Slurm
from tests.faults.bench import Bench, differences, only_run

WORKER = """#!/bin/sh
echo "log of $SLURM_ARRAY_TASK_ID"
cat "../parameters/parameters.$SLURM_ARRAY_TASK_ID.json" >"../results/results.$SLURM_ARRAY_TASK_ID.json"
"""
LINES = '#!/bin/sh\nn=0; while [ $n -lt 5 ]; do echo "{\\"n\\": $n}"; n=$((n+1)); done >parameters.jsonl\necho 5\n'


@pytest.fixture
def complete(bench: Bench) -> Path:
    """Run five tasks to their end."""
    place = bench.workflow("a", 5, worker=WORKER)
    (place / "gen.sh").write_text(LINES)
    bench.esis(place, "run").ok()
    bench.slurm.run()
    bench.esis(place, "wait").ok()
    return place


def content(run: Path) -> tuple[set[str], set[str], dict[int, object]]:
    """Return the records, the logs and the results of a run, in whatever form they are."""
    records = set(os.listdir(run / "__esis__/tasks"))
    folded = run / "__esis__/tasks.txt"
    if folded.exists():
        records |= {line.split(" ")[0] for line in folded.read_text().splitlines()}
    logs = {path.read_text() for path in (run / "cwd").glob("slurm-*.out")}
    if (run / "__esis__/logs.zip").exists():
        with zipfile.ZipFile(run / "__esis__/logs.zip") as archive:
            logs |= {archive.read(name).decode() for name in archive.namelist()}
    results = {
        int(path.name.split(".")[1]): json.loads(path.read_text()) for path in (run / "results").glob("results.*.json")
    }
    if (run / "results/results.jsonl").exists():
        for line in (run / "results/results.jsonl").read_text().splitlines():
            value = json.loads(line)
            results.setdefault(value["task"], value["results"])
    return records, logs, results


def test_a_compact_run_says_the_same_with_fewer_files(bench: Bench, complete: Path) -> None:
    """Records, logs and results are one file each, and commands show what they showed."""
    run = only_run(complete)
    before = content(run)
    rows = bench.esis(complete, "status", "--tasks", "--csv").ok().stdout
    assert len(before[0]) == len(before[1]) == len(before[2]) == 5
    told = bench.esis(complete, "compact", "--results").ok().stderr
    assert "folded 5 records, 5 logs, 5 results" in told
    assert "results.<n>.json are lines of results/results.jsonl now" in told
    assert content(run) == before
    assert os.listdir(run / "__esis__/tasks") == os.listdir(run / "cwd") == []
    assert os.listdir(run / "results") == ["results.jsonl"]
    assert bench.esis(complete, "status", "--tasks", "--csv").ok().stdout == rows
    assert bench.esis(complete, "log", "3").ok().stdout == "log of 3\n"
    assert bench.esis(complete, "log", "3", "--grep", "of").ok().stdout == "log of 3\n"
    assert "nothing to fold" in bench.esis(complete, "compact", "--results").ok().stderr


def test_results_and_logs_are_left_alone_unless_wanted(bench: Bench, complete: Path) -> None:
    """People's own programs may read them."""
    run = only_run(complete)
    bench.esis(complete, "compact", "--keep-logs").ok()
    assert len(list((run / "results").glob("results.*.json"))) == len(list((run / "cwd").glob("slurm-*.out"))) == 5
    assert os.listdir(run / "__esis__/tasks") == []


def test_what_is_no_log_stays_in_cwd(bench: Bench, complete: Path) -> None:
    """Only names that the template's pattern gives are logs, and only regular files."""
    cwd = only_run(complete) / "cwd"
    kept = ("slurm-1_x.out", "slurm-1_2.out.bak", "data.txt", "slurm-.out")
    for name in kept:
        (cwd / name).write_text("mine")
    (cwd / "slurm-1_4.out").unlink()
    (cwd / "slurm-1_4.out").symlink_to("data.txt")
    bench.esis(complete, "compact").ok()
    assert sorted(os.listdir(cwd)) == sorted([*kept, "slurm-1_4.out"])


def test_a_run_that_is_not_complete_is_left_alone(bench: Bench) -> None:
    """Its records may still change."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    refused = bench.esis(place, "compact")
    assert refused.code == 2
    assert "is not complete: 3 waiting" in refused.stderr


def test_later_attempts_outrank_what_was_folded(bench: Bench, complete: Path) -> None:
    """A task that is run again after the folding leaves new files, which count, and are folded in their turn."""
    run = only_run(complete)
    bench.esis(complete, "compact", "--results").ok()
    (run / "parameters/parameters.jsonl").write_text('{"n": 9}\n' * 5)
    bench.esis(complete, "resubmit", "--state", "done", "--tasks", "3").ok()
    assert bench.states(complete) == {"done": 4, "waiting": 1}
    bench.slurm.run()
    bench.esis(complete, "wait").ok()
    assert json.loads((run / "results/results.3.json").read_text()) == {"n": 9}
    bench.esis(complete, "compact", "--results").ok()
    records, logs, results = content(run)
    assert results == {0: {"n": 0}, 1: {"n": 1}, 2: {"n": 2}, 3: {"n": 9}, 4: {"n": 4}}
    assert len(records) == 6
    assert len(logs) == 5
    assert sorted(line.split(".")[0] for line in (run / "__esis__/tasks.txt").read_text().splitlines()) == [
        "0",
        "1",
        "2",
        "3",
        "3",
        "4",
    ]


def test_results_of_numbers_that_are_no_tasks_stay_too(bench: Bench, complete: Path) -> None:
    """Folded once, folded again behind a rerun, and where the first time was killed between two removals."""
    run = only_run(complete)
    for number in (1000, 1002):
        (run / f"results/results.{number}.json").write_text(f'{{"n": {number}}}')
    before = content(run)[2]
    for killed in (False, True):
        bench.esis(complete, "compact", "--results").ok()
        assert os.listdir(run / "results") == ["results.jsonl"]
        assert content(run)[2] == before
        if killed:
            for number in (3, 1002):
                (run / f"results/results.{number}.json").write_text(f'{{"n": {number}}}')
        else:
            bench.esis(complete, "resubmit", "--state", "done", "--tasks", "0").ok()
            bench.slurm.run()
            bench.esis(complete, "wait").ok()
    bench.esis(complete, "compact", "--results").ok()
    assert content(run)[2] == before


def test_a_table_is_the_same_whatever_texts_and_numbers_were_folded(bench: Bench, complete: Path) -> None:
    """What the workers wrote stays as it is, apart from ends of lines."""
    run = only_run(complete)
    texts = (
        '{"x": "caf\\udce9", "y": "\\ud83d"}',
        '{"x": 3.14159265358979323846264338327950288, "x": 2}',
        '{"x": 1e400,\n "y": NaN}',
    )
    for task, text in enumerate(texts):
        (run / f"results/results.{task}.json").write_text(text)
    table = bench.esis(complete, "export").ok().stdout
    for _ in range(2):
        bench.esis(complete, "compact", "--results").ok()
        assert bench.esis(complete, "export").ok().stdout == table
        lines = (run / "results/results.jsonl").read_text("ascii").splitlines()
        assert lines[:3] == [
            f'{{"task": {task}, "results": {text}}}'.replace("\n", " ") for task, text in enumerate(texts)
        ]
        (run / "results/results.4.json").write_text('{"n": 4}')


def test_results_that_no_line_can_hold_stay_where_they_are(
    bench: Bench, complete: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are named, and outrank the line of an earlier attempt as ever."""
    run = RunDir(only_run(complete))
    bench.esis(complete, "compact", "--results").ok()
    run.result_file(3).write_text('{"long": "%s"}' % ("x" * 300))
    run.result_file(4).write_text('{"n": 44}')
    monkeypatch.setattr(results, "LINE_LIMIT", 300)
    said: list[str] = []
    done = compact(run, Slurm(), Context(said.append), logs=False, results=True)
    assert done.results == 1
    assert said == [
        f"{run.label}: left where it is: {run.result_file(3)}: its line would have 336 bytes, of which 300 can be read"
    ]
    assert sorted(os.listdir(run.results)) == ["results.3.json", "results.jsonl"]
    assert [value for _, value in Results(run).iterate(range(5))] == [
        {"n": 0},
        {"n": 1},
        {"n": 2},
        {"long": "x" * 300},
        {"n": 44},
    ]


def test_results_that_are_written_while_they_are_folded_stay(
    bench: Bench, complete: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that was begun by hand: its results are those that count."""
    run = RunDir(only_run(complete))

    def meanwhile(lock: Path, label: str) -> None:
        require(lock, label)
        write_atomic(run.result_file(3), '{"n": 9}')
        run.result_file(2).unlink(missing_ok=True)

    monkeypatch.setattr(folding, "require", meanwhile)
    assert (
        compact(run, Slurm(), Context(), logs=False, results=True).results == 3
    )  # what was folded and is gone: the others did that themselves
    assert sorted(os.listdir(run.results)) == ["results.3.json", "results.jsonl"]
    assert content(run.path)[2] == {0: {"n": 0}, 1: {"n": 1}, 2: {"n": 2}, 3: {"n": 9}, 4: {"n": 4}}


def test_a_rerun_goes_on_with_what_was_folded(bench: Bench, complete: Path) -> None:
    """esis.export adds to what an earlier attempt has exported, and attempts count on."""
    run = only_run(complete)
    worker = f"#!{sys.executable}\nimport esis\nesis.export(gap=esis.task().attempt)\n"
    bench.esis(complete, "compact", "--results").ok()
    for script in run.glob("*"):
        if script.is_file() and script.read_text() == WORKER:
            script.chmod(0o700)
            script.write_text(worker)
    bench.esis(complete, "resubmit", "--state", "done", "--tasks", "2").ok()
    bench.slurm.run()
    bench.esis(complete, "wait").ok()
    for _ in range(2):
        assert content(run)[2][2] == {"n": 2, "gap": 2}
        bench.esis(complete, "compact", "--results").ok()


@pytest.mark.parametrize("kind", ["kill", "ENOSPC"])
def test_nothing_is_lost_at_any_step_and_the_same_command_goes_on(bench: Bench, complete: Path, kind: str) -> None:
    """Broken before and after every step until an untouched pass; what is there is the same at each moment."""
    run = only_run(complete)
    bench.keep()
    before = content(run)
    bench.esis(complete, "compact", "--results").ok()
    folded = bench.tree()
    at = 0
    while True:
        at += 1
        bench.restore()
        broken = bench.broken(complete, ["compact", "--results"], kind, at)
        if broken.hit is None:
            break
        assert content(run) == before, broken.hit
        again = bench.again(complete, "compact", "--results")
        assert again.code == 0, (broken.hit, again.stderr)
        wrong = [what for what in differences(folded, bench.tree()) if "logs.zip" not in what]
        assert wrong == [], broken.hit
        assert content(run) == before
    assert at > 20


@pytest.mark.parametrize("seconds", [0, -(10**9), 10**10], ids=["1970", "before 1970", "2286"])
def test_f59_a_log_of_any_date_is_folded(bench: Bench, complete: Path, seconds: int) -> None:
    """F59: a zip counts from 1980 to 2107; a wrong clock on a node broke the folding half-way."""
    run = only_run(complete)
    for log in (run / "cwd").glob("slurm-*.out"):
        os.utime(log, (seconds, seconds))
    before = content(run)
    assert "5 logs" in bench.esis(complete, "compact").ok().stderr
    assert content(run) == before
    assert bench.esis(complete, "log", "3").ok().stdout == "log of 3\n"


def test_f59_what_can_not_be_folded_stays_where_it_is_and_the_rest_is(bench: Bench, complete: Path) -> None:
    """F59: a name that no zip can hold, a record that is a FIFO, a directory among the parameters: named, left."""
    template = complete / "template.sh"
    template.write_text(template.read_text().replace("#ESIS_PRIVATE", "#SBATCH -o %N-%A_%a.log\n#ESIS_PRIVATE"))
    bench.esis(complete, "run").ok()
    bench.slurm.run()
    bench.esis(complete, "wait").ok()
    (run,) = [path for path in complete.glob("wrkdir.*") if list((path / "cwd").glob("*.log"))]
    log = next((run / "cwd").glob("*_1.log"))
    odd = os.fsencode(log.parent) + b"/\xff-" + log.name.rpartition("-")[2].encode()
    with open(odd, "w") as stream:
        stream.write("odd")
    record = next((run / "__esis__/tasks").glob("3.*"))
    record.unlink()
    os.mkfifo(record)
    (run / "parameters/parameters.4.json").mkdir()
    told = bench.esis(complete, "compact")
    assert told.code == 0, told.stderr
    assert f"{record} is not a regular file" in told.stderr
    assert "is no name that a zip can hold" in told.stderr
    assert "folded 4 records, 5 logs" in told.stderr
    assert os.path.exists(odd)
    assert os.listdir(run / "__esis__/tasks") == [record.name]
    assert bench.states(complete) == {"done": 5}


def test_f59_results_that_can_not_be_folded_are_found_before_anything_is(bench: Bench, complete: Path) -> None:
    """F59: the damaged one is named, and nothing is half done."""
    run = only_run(complete)
    (run / "results/results.2.json").write_text("{")
    before = content_names(run)
    refused = bench.esis(complete, "compact", "--results")
    assert refused.code == 1
    assert "results.2.json is no JSON" in refused.stderr
    assert content_names(run) == before


def content_names(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob("*"))


@pytest.mark.parametrize("damage", [b"", b"PK\5\6 garbage", b"x" * 100])
def test_f58_damaged_logs_are_named(bench: Bench, complete: Path, damage: bytes) -> None:
    """F58: the archive of logs, by the commands that read it; nothing is taken from cwd/ then."""
    run = only_run(complete)
    bench.esis(complete, "compact").ok()
    (run / "__esis__/logs.zip").write_bytes(damage)
    (run / "cwd/slurm-1_4.out").write_text("later")
    for command in (["log", "3"], ["compact"]):
        shown = bench.esis(complete, *command)
        assert shown.code == 1, (command, shown)
        assert f"{run}/__esis__/logs.zip is corrupt" in shown.stderr
    assert (run / "cwd/slurm-1_4.out").exists()


@pytest.mark.parametrize("output", ["%x-%a.out", "%u.%x-%a.out", "%x-%2a_%b.out", "%N-%a.out"])
def test_files_of_workers_that_look_like_logs_stay(bench: Bench, output: str) -> None:
    """Names of the job and the user are known; where a part of a log's name isn't, such logs are left alone."""
    place = bench.workflow("a", 3, worker=WORKER + 'echo own >"energy-$SLURM_ARRAY_TASK_ID.out"\n')
    text = (place / "template.sh").read_text()
    (place / "template.sh").write_text(text.replace("#ESIS_PRIVATE", f"#SBATCH -J scan -o {output}\n#ESIS_PRIVATE"))
    assert output in (place / "template.sh").read_text()
    bench.esis(place, "run").ok()
    bench.slurm.run()
    bench.esis(place, "wait").ok()
    shown = [bench.esis(place, "log", "1").stdout]
    bench.esis(place, "compact").ok()
    own = {f"energy-{n}.out" for n in range(3)}
    left = set(os.listdir(only_run(place) / "cwd"))
    assert left == own if "%N" not in output else left > own
    shown.append(bench.esis(place, "log", "1").stdout)
    assert shown == ["log of 1\n"] * 2 or "%N" in output  # the fake's nodes are not the hosts of its tasks


def test_a_missing_directory_of_logs_is_told_before_and_after(bench: Bench) -> None:
    """esis run says it once the setup script has run, esis errors says why there is no log."""
    place = bench.workflow("a", 2, worker=WORKER)
    text = (place / "template.sh").read_text()
    (place / "template.sh").write_text(text.replace("#ESIS_PRIVATE", "#SBATCH -o logs/%a.out\n#ESIS_PRIVATE"))
    told = bench.esis(place, "run").ok().stderr
    assert f"there is no directory {only_run(place)}/cwd/logs for the logs" in told
    bench.slurm.run()
    shown = bench.esis(place, "errors").stdout
    assert f"there is no directory {only_run(place)}/cwd/logs" in shown
