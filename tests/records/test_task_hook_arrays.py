"""task.sh where Slurm's index isn't the task: shifted arrays, maps, packs of tasks; and parameters in one file."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from esis.model.parametersets import write_index
from esis.model.template import Pack
from esis.model.workdir import RunDir
from tests.records.jobs import BLOCK, Job, every_shell, make_run, read_records, states, wait_for

SHOW = "echo $SLURM_ARRAY_TASK_ID; sh -c 'echo $SLURM_ARRAY_TASK_ID'"


def logs(run: RunDir, job: int = 77) -> dict[int, str]:
    """Return what each task of a pack wrote."""
    prefix = f"slurm-{job}_task"
    return {int(path.name[len(prefix) : -len(".out")]): path.read_text() for path in run.cwd.glob(f"{prefix}*.out")}


def codes(run: RunDir) -> dict[int, int | None]:
    """Return the exit code of each task that has a single record."""
    found = read_records(run.tasks)
    assert len(found) == len({record.task for record in found})
    return {record.task: record.code for record in sorted(found, key=lambda record: record.task)}


# --- shifted and mapped arrays


@every_shell
def test_an_offset_makes_the_task_of_the_index(tmp_path: Path, shell: str) -> None:
    """Worker, steps and record see the parameter's own index."""
    run = make_run(tmp_path)
    job = Job(run, SHOW, shell, offset=1000)
    assert job.run(task=0) == (0, "1000\n1000\n", "")
    assert job.run(task=23) == (0, "1023\n1023\n", "")
    assert states(run) == [(1000, "0001", "77", 0, 0), (1023, "0001", "77", 0, 0)]
    assert {json.loads((run.tasks / record.name).read_text())["index"] for record in read_records(run.tasks)} == {0, 23}


@every_shell
@pytest.mark.parametrize("first", [0, 7])
def test_a_further_array_gets_its_offset_from_the_environment(tmp_path: Path, shell: str, first: int) -> None:
    """The script holds that of the first array, which is outranked, by 0 too; and jobs in the job don't inherit it."""
    run = make_run(tmp_path)
    job = Job(run, f"{SHOW}\nenv | grep -i esis_offset", shell, offset=first)
    assert job.run(task=3, fenced="0001.2", SLURM_ESIS_OFFSET="200") == (1, "203\n203\n", "")
    assert job.run(task=3, fenced="0001", SLURM_ESIS_OFFSET="0") == (1, "3\n3\n", "")


@every_shell
def test_a_map_and_an_offset(tmp_path: Path, shell: str) -> None:
    """The second array of scattered tasks: index plus offset is the position in the list."""
    run = make_run(tmp_path)
    job = Job(run, SHOW, shell, mapped=(5, 17, 4099, 5000, 6001))
    assert job.run(task=1)[:2] == (0, "17\n17\n")
    assert job.run(task=1, SLURM_ESIS_OFFSET="3")[:2] == (0, "6001\n6001\n")
    assert sorted(codes(run)) == [17, 6001]


@every_shell
def test_a_position_that_the_map_has_not_is_an_error(tmp_path: Path, shell: str) -> None:
    """`sbatch --array=9` typed by hand, or a map that was cut: no task is worked on in its place."""
    run = make_run(tmp_path)
    code, out, err = Job(run, SHOW, shell, mapped=(5, 17)).run(task=2)
    assert (code, out) == (75, "")
    assert "0001.map has no task at position 2" in err
    assert os.listdir(run.tasks) == []


@every_shell
def test_f16_each_array_is_fenced_by_itself(tmp_path: Path, shell: str) -> None:
    """F16: 0001.claim and 0001.2.claim: the arrays of one submission all work, a second try of one steps aside."""
    run = make_run(tmp_path)
    job = Job(run, "echo $SLURM_ARRAY_TASK_ID", shell)
    assert job.run(task=0, job=77, fenced="0001", SLURM_ESIS_OFFSET="0") == (0, "0\n", "")
    assert job.run(task=0, job=78, fenced="0001.2", SLURM_ESIS_OFFSET="9") == (0, "9\n", "")
    code, out, err = job.run(task=1, job=88, fenced="0001.2", SLURM_ESIS_OFFSET="9")
    assert (code, out) == (0, "")
    assert err == "ESIS: job 78 does the work of this submission; job 88 steps aside\n"
    assert job.run(task=1, job=78, fenced="0001.2", SLURM_ESIS_OFFSET="9") == (0, "10\n", "")
    assert (os.readlink(run.claim(1)), os.readlink(run.claim(1, 1))) == ("77", "78")
    assert states(run) == [(0, "0001", "77", 0, 0), (9, "0001", "78", 0, 0), (10, "0001", "78", 0, 0)]


# --- the end that can't be recorded


@every_shell
@pytest.mark.parametrize(("code", "seen"), [(0, 75), (6, 6)])
@pytest.mark.parametrize("packed", [False, True])
def test_a_task_whose_end_cannot_be_recorded_did_not_end_well(
    tmp_path: Path, shell: str, code: int, seen: int, packed: bool
) -> None:
    """F09: 75, or Slurm's COMPLETED would make it done; a failure keeps its own code. In a pack it fails alone."""
    run = make_run(tmp_path)
    pack = Pack(2, 1, 3, 4) if packed else None
    body = f"[ $SLURM_ARRAY_TASK_ID = 4 ] || rm ../__esis__/tasks/3.*\nexit {code}"
    job = Job(run, body, shell, pack=pack)
    done, _, err = job.run(task=0 if packed else 3)
    assert done == (1 if packed else seen)
    assert "can't write the record of this task's end" in (logs(run)[3] if packed else err)
    assert codes(run) == ({4: code} if packed else {})


# --- packs


@every_shell
def test_a_pack_is_worked_through_task_by_task(tmp_path: Path, shell: str) -> None:
    """Each has its own record, log and index; the last pack may be smaller; one beyond the end has none."""
    run = make_run(tmp_path)
    job = Job(run, SHOW, shell, pack=Pack(3, 1, 5, 11))
    assert job.run(task=0) == (0, "", "")
    assert logs(run) == {task: f"{task}\n{task}\n" for task in (5, 6, 7)}
    assert states(run) == [(task, "0001", "77", 0, 0) for task in (5, 6, 7)]
    assert job.run(task=2) == (0, "", "")
    assert sorted(codes(run)) == [5, 6, 7, 11]
    assert job.run(task=3) == (0, "", "")
    assert sorted(codes(run)) == sorted(logs(run)) == [5, 6, 7, 11]
    assert job.run(task=0, SLURM_ESIS_OFFSET="1", job=78) == (0, "", "")
    assert sorted(logs(run, 78)) == [8, 9, 10]


@every_shell
def test_a_pack_of_scattered_tasks_comes_from_the_map(tmp_path: Path, shell: str) -> None:
    """Of K tasks a line each; the last pack may be smaller."""
    run = make_run(tmp_path)
    scattered = (2, 3, 5, 7, 110, 130, 170)
    job = Job(run, SHOW, shell, pack=Pack(3, 2, 2, 170), mapped=scattered)
    for index, tasks in ((1, (7, 110, 130)), (2, (170,)), (0, (2, 3, 5))):
        assert job.run(task=index) == (0, "", "")
        assert set(tasks) <= set(logs(run))
    assert codes(run) == dict.fromkeys(scattered, 0)
    assert logs(run) == {task: f"{task}\n{task}\n" for task in scattered}


@every_shell
@pytest.mark.parametrize("end", ["exit 3", "exit 255", "kill -9 $$", "kill -TERM $$"])
def test_one_bad_task_fails_alone(tmp_path: Path, shell: str, end: str) -> None:
    """Whatever ends it, the others of its pack are worked on; the element's exit status is 1."""
    run = make_run(tmp_path)
    job = Job(run, f"echo work\n[ $SLURM_ARRAY_TASK_ID != 6 ] || {end}\necho more", shell, pack=Pack(4, 1, 5, 20))
    assert job.run(task=0)[0] == 1
    expected = {"exit 3": 3, "exit 255": 255, "kill -9 $$": None, "kill -TERM $$": 143}[end]
    assert codes(run) == {5: 0, 6: expected, 7: 0, 8: 0}
    assert {task: text for task, text in logs(run).items() if task != 6} == dict.fromkeys((5, 7, 8), "work\nmore\n")


@every_shell
def test_two_at_a_time_really_run_at_once(tmp_path: Path, shell: str) -> None:
    """Each waits for the other, so one after the other they would never end."""
    run = make_run(tmp_path)
    meet = (
        ": >here.$SLURM_ARRAY_TASK_ID; n=0\n"
        "until [ -e here.0 ] && [ -e here.1 ]; do sleep 0.02; n=$((n+1)); [ $n -lt 1000 ] || exit 9; done"
    )
    assert Job(run, meet, shell, pack=Pack(2, 2, 0, 1)).run(task=0) == (0, "", "")
    assert codes(run) == {0: 0, 1: 0}


@every_shell
def test_one_at_a_time_is_one_at_a_time(tmp_path: Path, shell: str) -> None:
    """A task that finds another one at work fails."""
    run = make_run(tmp_path)
    assert Job(run, "mkdir busy || exit 9\nsleep 0.02; rmdir busy", shell, pack=Pack(4, 1, 0, 3)).run(task=0)[0] == 0
    assert codes(run) == dict.fromkeys(range(4), 0)


@every_shell
def test_f21_a_requeue_does_not_repeat_what_is_done(tmp_path: Path, shell: str) -> None:
    """F21: of the tasks of the pack only those without a record of success are worked on again."""
    run = make_run(tmp_path)
    body = "echo $SLURM_ARRAY_TASK_ID >>did\n[ -e mended ] || [ $SLURM_ARRAY_TASK_ID != 12 ] || exit 4"
    job = Job(run, body, shell, pack=Pack(3, 1, 11, 22))
    (run.tasks / "14.0001.77.0.1.exit0.2").touch()  # of another pack; 1 and 2 are no part of it
    (run.tasks / "13.0001.66.0.1.exit0.2").touch()  # of another job
    assert job.run(task=0)[0] == 1
    (run.cwd / "mended").touch()
    assert job.run(task=0, restart=1)[0] == 0
    assert (run.cwd / "did").read_text().split() == ["11", "12", "13", "12"]
    assert {
        (record.task, record.restart, record.code)
        for record in read_records(run.tasks)
        if record.job == "77" and record.task < 14
    } == {(11, 0, 0), (12, 0, 4), (13, 0, 0), (12, 1, 0)}
    assert job.run(task=0, restart=2) == (0, "", ""), "nothing is left"
    assert (run.cwd / "did").read_text().split() == ["11", "12", "13", "12"]


@every_shell
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_after_a_signal_no_further_task_begins(tmp_path: Path, shell: str, number: int) -> None:
    """At the time limit the shell of the job is signalled: it ends at once, and what is left is never started."""
    run = make_run(tmp_path)
    job = Job(run, f"sh -c '{BLOCK}'", shell, pack=Pack(5, 1, 0, 4))
    with job.start(job.environment(task=0)) as child:
        wait_for((run.cwd / "ready").exists)
        os.kill(child.pid, number)
        assert child.wait(20) == 128 + number
        (run.cwd / "go").touch()
        wait_for(lambda: codes(run).get(0) is not None)
        with pytest.raises(ProcessLookupError):
            wait_for(lambda: os.killpg(child.pid, 0) is not None)  # until nothing of the job is left
    assert sorted(codes(run)) == [0]


@every_shell
def test_a_signal_to_the_whole_pack_is_recorded(tmp_path: Path, shell: str) -> None:
    """Slurm signals all processes: the task under way records it, and no further one begins."""
    run = make_run(tmp_path)
    job = Job(run, f"sh -c '{BLOCK}'", shell, pack=Pack(5, 1, 0, 4))
    with job.start(job.environment(task=0)) as child:
        wait_for((run.cwd / "ready").exists)
        os.killpg(child.pid, signal.SIGTERM)
        assert child.wait(20) == 143
        wait_for(lambda: codes(run) == {0: 143})


@every_shell
def test_a_job_that_a_packed_task_submits_is_no_part_of_the_pack(tmp_path: Path, shell: str) -> None:
    """It inherits the variable that marks a task of a pack; the job's id tells it apart."""
    run = make_run(tmp_path)
    inner = Job(run, "echo inner $SLURM_ARRAY_TASK_ID", shell, number=2)
    packed = Job(run, "echo packed $SLURM_ARRAY_TASK_ID", shell, number=3, pack=Pack(2, 1, 8, 9))
    env = "SLURM_ARRAY_TASK_ID=0 SLURM_ARRAY_JOB_ID"
    runs = "\n".join(f'[ -e out{job} ] || {env}={job} "$JOB{job}" >out{job}' for job in (98, 99))
    outer = Job(run, runs, shell, pack=Pack(2, 1, 6, 7), number=1)
    assert outer.run(task=0, JOB98=str(inner.spool), JOB99=str(packed.spool))[0] == 0, logs(run)
    assert (run.cwd / "out98").read_text() == "inner 0\n"
    assert logs(run, 99) == {8: "packed 8\n", 9: "packed 9\n"}
    assert {(record.task, record.job) for record in read_records(run.tasks)} == {
        (6, "77"),
        (7, "77"),
        (0, "98"),
        (8, "99"),
        (9, "99"),
    }


@every_shell
def test_f26_a_pack_behind_an_incomplete_run_does_nothing(tmp_path: Path, shell: str) -> None:
    """F26: looked at once for the pack: 75, no task began; later it works."""
    run, other = make_run(tmp_path), make_run(tmp_path, "cd" * 32)
    run.requirements.write_text(f"0:0:{other.path}\n")
    job = Job(run, "echo work", shell, pack=Pack(2, 2, 0, 3))
    code, out, err = job.run(task=0)
    assert (code, out) == (75, "")
    assert err.count(f"ESIS: the required run {other.path} is not complete") == 1
    assert os.listdir(run.tasks) == []
    other.completed.write_text("1")
    assert job.run(task=0) == (0, "", "")
    assert codes(run) == {0: 0, 1: 0}


@every_shell
def test_f16_a_pack_is_fenced_once(tmp_path: Path, shell: str) -> None:
    """F16: a second job for the same pack steps aside; the tasks of the first one pass."""
    run = make_run(tmp_path)
    job = Job(run, "echo work", shell, pack=Pack(2, 1, 0, 3))
    assert job.run(task=0, job=77, fenced="0001") == (0, "", "")
    code, _, err = job.run(task=1, job=88, fenced="0001")
    assert (code, err) == (0, "ESIS: job 77 does the work of this submission; job 88 steps aside\n")
    assert codes(run) == {0: 0, 1: 0}


@every_shell
def test_a_packed_task_reads_nothing_and_sees_the_job_s_variables(tmp_path: Path, shell: str) -> None:
    """The list of tasks is nothing that a task could read away; a step's variables are those of the job."""
    run = make_run(tmp_path)
    job = Job(run, 'cat; echo "$SLURM_JOB_ID $SLURM_ARRAY_JOB_ID"', shell, pack=Pack(3, 1, 0, 2))
    assert job.run(task=0) == (0, "", "")
    assert logs(run) == dict.fromkeys(range(3), "78 77\n")


# --- parameters in one file


HOSTILE = [
    {"n": 0},
    {"text": "%s %d \\n \\\\ $(touch canary) `touch canary` ' \" ; * ~ -n"},
    {"ü": "naïve ☃ \u2028"},
    {"long": "x" * 70_000},
    {"-e": None, "deep": [{"a": [1, 2.5e-3]}]},
    {},
    *({"n": n} for n in range(6, 13)),
]


def in_lines(run: RunDir, sets: Sequence[object] = HOSTILE) -> None:
    run.parameters_lines.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in sets))
    write_index(run.parameters_lines)


READ = 'cat "../parameters/parameters.$SLURM_ARRAY_TASK_ID.json"'


@every_shell
@pytest.mark.parametrize("end", ["", "exit 3", "kill -TERM $$"])
def test_a_task_finds_its_own_parameters(tmp_path: Path, shell: str, end: str) -> None:
    """Its line alone, byte for byte, for the time of the task, however it ends."""
    run = make_run(tmp_path)
    in_lines(run)
    job = Job(run, f"{READ}\n{end}", shell)
    for task in (0, 1, 3, 8, 12) if not end else (2,):
        _, out, err = job.run(task=task)
        assert (json.loads(out), err) == (HOSTILE[task], "")
        assert out.count("\n") == 1
    assert sorted(os.listdir(run.parameters)) == ["parameters.index", "parameters.jsonl"]
    assert not list(tmp_path.rglob("canary"))


@every_shell
def test_every_task_finds_its_own_parameters(tmp_path: Path, shell: str) -> None:
    """With an offset, from a map, and in a pack."""
    run = make_run(tmp_path)
    in_lines(run)
    assert json.loads(Job(run, READ, shell, offset=7).run(task=2)[1]) == {"n": 9}
    packed = Job(run, READ, shell, pack=Pack(4, 2, 0, 12))
    for index in range(4):
        assert packed.run(task=index) == (0, "", "")
    assert {task: json.loads(text) for task, text in logs(run).items()} == dict(enumerate(HOSTILE))
    assert json.loads(Job(run, READ, shell, mapped=(11, 4)).run(task=1)[1]) == HOSTILE[4]
    assert sorted(os.listdir(run.parameters)) == ["parameters.index", "parameters.jsonl"]


@every_shell
@pytest.mark.parametrize("harm", ["missing", "empty", "short", "cut", "garbage", "beyond"])
def test_without_its_index_a_task_gets_no_parameters_of_another_one(tmp_path: Path, shell: str, harm: str) -> None:
    """75 and a message; never the first line for all of them."""
    run = make_run(tmp_path)
    in_lines(run)
    index = run.parameters_index
    text = index.read_text()
    if harm == "missing":
        index.unlink()
    else:
        index.write_text(
            {
                "empty": "",
                "short": text[: 17 * 3],
                "cut": text[: 17 * 3 + 12],
                "garbage": "x" * len(text),
                "beyond": "9999999999999998\n" * 13,
            }[harm]
        )
    job = Job(run, READ, shell)
    for fenced, records in ((None, []), ("0001", [(3, "0001", "77", 0, 75)])):  # by hand: what it did before stands
        code, out, err = job.run(task=3, fenced=fenced)
        assert (code, out) == (75, "")
        assert "ESIS: can't write the parameters of task 3 into " in err
        assert states(run) == records
        assert not list(run.parameters.glob("parameters.3*"))


@every_shell
def test_f09_parameters_that_cannot_be_written_stop_the_task(tmp_path: Path, shell: str) -> None:
    """F09: the disk is full: no half file, 75, and the worker isn't started."""
    run = make_run(tmp_path)
    in_lines(run)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "head").write_text("#!/bin/sh\nexit 1\n")
    (tools / "head").chmod(0o755)
    if shell == "busybox":
        pytest.skip("busybox has a head of its own")
    code, out, _ = Job(run, f"echo work; {READ}", shell).run(task=3, PATH=f"{tools}:{os.environ['PATH']}")
    assert (code, out) == (75, "")
    assert sorted(os.listdir(run.parameters)) == ["parameters.index", "parameters.jsonl"]
