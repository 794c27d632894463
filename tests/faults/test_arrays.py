"""Runs of several arrays: every task once, with its own parameters, whatever limit or fault comes between two."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from esis.locks import Owner
from tests.faults.bench import TEMPLATE, Bench, only_run

TASKS, SIZE = 25, 11  # three arrays: tasks 0 to 10, 11 to 21, 22 to 24
WORKER = """#!/bin/sh
echo "$SLURM_ARRAY_TASK_ID" >>"did.$SLURM_ARRAY_TASK_ID"
echo "task $SLURM_ARRAY_TASK_ID"
cp "../parameters/parameters.$SLURM_ARRAY_TASK_ID.json" "seen.$SLURM_ARRAY_TASK_ID"
[ -e ../mended ] || case $SLURM_ARRAY_TASK_ID in 3|14|24) [ ! -e ../../flaky ] || exit 3;; esac
"""


@pytest.fixture
def place(bench: Bench) -> Path:
    """A workflow of three arrays."""
    bench.slurm.set(max_array_size=SIZE)
    return bench.workflow("a", TASKS, worker=WORKER)


def record(place: Path, number: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((only_run(place) / f"__esis__/submissions/{number:04d}.json").read_text())
    return found


def did(place: Path) -> dict[int, int]:
    """Return how often each task did its work, and see that each had its own parameters."""
    cwd = only_run(place) / "cwd"
    found = {int(path.name[4:]): len(path.read_text().splitlines()) for path in cwd.glob("did.*")}
    assert {task: json.loads((cwd / f"seen.{task}").read_text())["n"] for task in found} == {n: n for n in found}
    return dict(sorted(found.items()))


def once(*tasks: int, count: int = TASKS) -> dict[int, int]:
    return dict.fromkeys(tasks or range(count), 1)


def calls(bench: Bench, since: int = 0) -> tuple[int, int]:
    """Return how often sbatch was called, and how often any other client of Slurm."""
    found = Counter(call.program for call in bench.slurm.calls()[since:])
    return found["sbatch"], sum(found.values()) - found["sbatch"]


def specs(place: Path, number: int = 1) -> list[tuple[str, int, int]]:
    return [(item["array"], item["offset"], item["tasks"]) for item in record(place, number)["arrays"]]


def test_two_hundred_and_fifty_tasks_where_a_hundred_and_one_fit(bench: Bench) -> None:
    """MaxArraySize 101: three arrays, every task with its own parameters; three sbatch and at most two questions."""
    bench.slurm.set(max_array_size=101)
    place = bench.workflow("a", 250, worker=WORKER)
    shown = bench.esis(place, "run", "-m", "0").ok()
    assert "Traceback" not in shown.stderr
    before = len(bench.slurm.calls())
    assert (calls(bench)[0], calls(bench)[1] <= 2) == (3, True)
    assert specs(place) == [("0-100", 0, 101), ("0-100", 101, 101), ("0-47", 202, 48)]
    assert (only_run(place) / "__esis__/jobid.tx").read_text() == "1\n2\n3\n"
    assert bench.states(place) == {"waiting": 250}
    assert calls(bench, before)[1] == 1
    bench.slurm.run(parallel=4)
    before = len(bench.slurm.calls())
    assert bench.states(place) == {"done": 250}
    assert calls(bench, before)[1] <= 2
    assert did(place) == once(count=250)
    assert len(list((only_run(place) / "cwd").glob("slurm-*_*.out"))) == 250


def test_status_log_and_resubmit_know_the_arrays(bench: Bench, place: Path) -> None:
    """Tasks 3, 14 and 24 of three arrays fail: told by their own indices, and they alone are submitted again."""
    (place / "flaky").touch()
    bench.esis(place, "run").ok()
    bench.slurm.run(parallel=4)
    shown = json.loads(bench.esis(place, "status", "--json").stdout)["states"]
    assert shown["failed"] == {"count": 3, "tasks": "3,14,24", "reasons": {"exit code 3": "3,14,24"}}
    for task in (3, 14, 24, 21):
        assert bench.esis(place, "log", str(task)).ok().stdout.count(f"task {task}\n") == 1
    (only_run(place) / "mended").touch()
    before = len(bench.slurm.calls())
    bench.esis(place, "resubmit").ok()
    sent, asked = calls(bench, before)
    assert (sent, asked <= 2) == (2, True)
    assert specs(place, 2) == [("3%5", 0, 1), ("0,10%5", 14, 2)]
    bench.slurm.run()
    assert bench.states(place) == {"done": TASKS}
    assert did(place) == {**once(), 3: 2, 14: 2, 24: 2}


def test_cancel_knows_the_arrays(bench: Bench, place: Path) -> None:
    """Task 14 is index 3 of the second array; without tasks all of them, a call for each array."""
    bench.esis(place, "run").ok()
    bench.esis(place, "cancel", "--tasks", "3,14").ok()
    cancelled = [call.argv[-1] for call in bench.slurm.calls("scancel")]
    assert cancelled == ["1_[3]", "2_[3]"]
    assert bench.states(place) == {"waiting": TASKS - 2, "failed": 2}
    bench.esis(place, "cancel").ok()
    assert [call.argv[-1] for call in bench.slurm.calls("scancel")[2:]] == ["1_[0-2,4-10]", "2_[0-2,4-10]", "3_[0-2]"]
    assert bench.states(place) == {"failed": TASKS}


def test_f312_arrays_that_take_turns_share_a_new_throttle_by_turns(bench: Bench) -> None:
    """F312: two of three run together: eight are four and four; it was said, and three ran."""
    bench.slurm.set(max_array_size=11)
    place = bench.workflow("b", TASKS, worker=WORKER)
    bench.esis(place, "run", "-m", "2").ok()
    assert [job.throttle for job in bench.slurm.jobs()] == [1, 1, 1]
    assert "8 tasks at a time now" in bench.esis(place, "throttle", "8").ok().stderr
    assert [job.throttle for job in bench.slurm.jobs()] == [4, 4, 4]
    assert "5 tasks at a time now" in bench.esis(place, "throttle", "5").ok().stderr
    assert [job.throttle for job in bench.slurm.jobs()] == [3, 2, 3]
    told = bench.esis(place, "throttle", "1").ok().stderr
    assert "2 tasks at a time now" in told
    assert "not 1: each of the 2 arrays that may run together keeps one at least" in told
    assert [job.throttle for job in bench.slurm.jobs()] == [1, 1, 1]


def test_the_throttle_is_shared_by_the_arrays(bench: Bench, place: Path) -> None:
    """`-m 4` is 2, 1 and 1; `esis throttle 8` is 3, 3 and 2, as scontrol is told."""
    bench.esis(place, "run", "-m", "4").ok()
    assert [spec for spec, _, _ in specs(place)] == ["0-10%2", "0-10%1", "0-2%1"]
    assert [job.throttle for job in bench.slurm.jobs()] == [2, 1, 1]
    bench.esis(place, "throttle", "8").ok()
    assert [job.throttle for job in bench.slurm.jobs()] == [3, 3, 2]
    bench.esis(place, "throttle", "0").ok()
    assert [job.throttle for job in bench.slurm.jobs()] == [0, 0, 0]


def test_fewer_at_a_time_than_arrays_take_turns(bench: Bench) -> None:
    """`-m 2` with three arrays: the third waits for the first, and never more than two tasks run."""
    bench.slurm.set(max_array_size=SIZE)
    worker = (
        '#!/bin/sh\n: >"busy.$SLURM_ARRAY_TASK_ID"; ls busy.* | wc -l >"count.$SLURM_ARRAY_TASK_ID"; sleep 0.05\n'
        'rm "busy.$SLURM_ARRAY_TASK_ID"; [ "$SLURM_ARRAY_TASK_ID" != 4 ] || exit 3\n'
    )
    place = bench.workflow("a", TASKS, worker=worker)
    bench.esis(place, "run", "-m", "2").ok()
    assert [job.dependency for job in bench.slurm.jobs()] == [(), (), (("afterany", 1, None),)]
    bench.slurm.run(parallel=8)
    counts = [int(path.read_text()) for path in (only_run(place) / "cwd").glob("count.*")]
    assert (len(counts), max(counts)) == (TASKS, 2)
    assert bench.states(place) == {"done": TASKS - 1, "failed": 1}


def test_logs_keep_names_of_their_own(bench: Bench, place: Path) -> None:
    """`-o out_%a.log` would write the logs of three arrays over each other; the job's id keeps them apart."""
    text = TEMPLATE.replace("#SBATCH --time=5", "#SBATCH --time=5\n#SBATCH -o out_%a.log")
    (place / "template.sh").write_text(text)
    bench.esis(place, "run").ok()
    bench.slurm.run(parallel=4)
    names = {path.name for path in (only_run(place) / "cwd").glob("out_*.log")}
    assert names == {
        *(f"out_{n}.log" for n in range(11)),
        *(f"out_2_{n}.log" for n in range(11)),
        *(f"out_3_{n}.log" for n in range(3)),
    }
    for task in (0, 11, 22):
        assert bench.esis(place, "log", str(task)).ok().stdout.count(f"task {task}\n") == 1


def test_a_dependant_waits_for_all_arrays(bench: Bench, place: Path) -> None:
    """And starts when the last of them has ended well; its own arrays wait each."""
    child = bench.workflow("b", TASKS, worker=WORKER, requires=["a"])
    bench.esis(child, "dependency").ok()
    jobs = bench.slurm.jobs()
    assert [{target for _, target, _ in job.dependency} for job in jobs] == [set(), set(), set(), *[{1, 2, 3}] * 3]
    bench.slurm.run(only=1)
    bench.slurm.run(only=2)
    assert did(child) == {}
    bench.slurm.run(parallel=4)
    assert (did(place), did(child)) == (once(), once())
    assert bench.states(child) == {"done": TASKS}


# --- faults between two arrays


def test_f10_the_lost_reply_of_the_second_array_is_looked_up(bench: Bench, place: Path) -> None:
    """F10: its job is adopted, the third is sent; each task once."""
    bench.slurm.fail("sbatch", "lost_reply", skip=1, lookups=2)
    shown = bench.esis(place, "run", env={"ESIS_LOOKUP_GRACE": "20"}).ok()
    assert "Slurm has it as job 2" in shown.stderr
    assert len(bench.slurm.calls("sbatch")) == 3
    assert [job["id"] for job in record(place)["jobs"]] == ["1", "2", "3"]
    assert record(place)["outcome"] == "submitted"
    bench.slurm.run(parallel=4)
    assert did(place) == once()


def test_f16_the_second_array_sent_twice_does_the_work_once(bench: Bench, place: Path) -> None:
    """F16: it appears after the grace period: the fence of that array lets one job work, and the others are whole."""
    bench.slurm.fail("sbatch", "lost_reply", skip=1, lookups=1000)
    assert "submitting again" in bench.esis(place, "run").ok().stderr
    assert len(bench.slurm.jobs()) == 4
    bench.slurm.reveal()
    bench.slurm.run(parallel=4)
    assert did(place) == once()
    assert bench.states(place) == {"done": TASKS}
    names = {path.name for path in (only_run(place) / "__esis__/submissions").glob("*.claim")}
    assert names == {"0001.claim", "0001.2.claim", "0001.3.claim"}


def test_f14_the_controller_goes_down_between_two_arrays(bench: Bench, place: Path) -> None:
    """F14: what is sent is recorded and judged; the rest is sent by the same command later, under the same number."""
    bench.slurm.fail("sbatch", "timeout", skip=1)
    bench.slurm.fail("squeue", "timeout")
    assert bench.esis(place, "run").code == 6
    assert ([job["id"] for job in record(place)["jobs"]], record(place)["outcome"]) == (["1"], "open")
    assert bench.states(place) == {"waiting": 11, "unknown": 14}
    bench.slurm.run(parallel=4)
    bench.esis(place, "run").ok()
    assert len(record(place)["jobs"]) == 3
    bench.slurm.run(parallel=4)
    assert did(place) == once()
    assert bench.states(place) == {"done": TASKS}


def test_f24_a_submit_limit_between_two_arrays(bench: Bench, place: Path) -> None:
    """F24: the submitted ones are recorded, the next command submits the rest only."""
    bench.slurm.set(submit_limit=15)
    shown = bench.esis(place, "run").ok()
    assert "job submit limit" in shown.stderr
    assert "leaves 14 tasks unsubmitted" in shown.stderr
    assert (record(place)["tasks"], record(place)["outcome"]) == ("0-10", "submitted")
    assert bench.states(place) == {"waiting": 11, "unsubmitted": 14}
    again = bench.esis(place, "run").ok()
    assert "14 tasks are left" in again.stderr
    assert len(bench.slurm.jobs()) == 1
    bench.slurm.run(parallel=4)
    bench.esis(place, "run").ok()
    bench.slurm.run(parallel=4)
    assert bench.states(place) == {"done": TASKS}
    assert did(place) == once()


def test_f11_a_later_array_refused_for_good_is_an_error_and_the_rest_goes_on_later(bench: Bench, place: Path) -> None:
    """F11: not a limit, so no success: exit code 5, what was taken is recorded, the next command submits the rest."""
    bench.slurm.fail(
        "sbatch",
        "refuse",
        skip=1,
        message="sbatch: error: Batch job submission failed: Invalid account or account/partition "
        "combination specified",
    )
    refused = bench.esis(place, "run")
    assert refused.code == 5
    assert "Invalid account" in refused.stderr
    assert "job 1 was queued" in refused.stderr
    assert (record(place)["tasks"], record(place)["outcome"]) == ("0-10", "submitted")
    assert bench.states(place) == {"waiting": 11, "unsubmitted": 14}
    bench.esis(place, "run").ok()
    bench.slurm.run(parallel=4)
    assert bench.states(place) == {"done": TASKS}
    assert did(place) == once()


@pytest.mark.parametrize("shown", [True, False], ids=["before it is sent again", "behind that"])
@pytest.mark.parametrize("sent", [0, 1])
def test_f222_what_comes_late_and_was_refused_meanwhile_steps_aside(
    bench: Bench, place: Path, sent: int, shown: bool
) -> None:
    """F222: an array gets no answer, nothing is seen of it, and it meets a limit when it is sent again.

    The first try may itself be what that limit counts.
    """
    bench.slurm.fail("sbatch", "lost_reply", lookups=10**6, skip=sent)
    bench.slurm.fail(
        "sbatch",
        "refuse",
        message="sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: "
        "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
    )
    bench.esis(place, "run", "-m", "0").ok()
    for reveal in (shown, not shown):
        if reveal:
            bench.slurm.reveal()
        bench.esis(place, "run", "-m", "0").ok()
    assert bench.states(place) == {"waiting": TASKS}
    bench.slurm.run(parallel=4)
    assert bench.states(place) == {"done": TASKS}
    assert did(place) == once()


def finish_in_parts(bench: Bench, place: Path, number: int = 1) -> None:
    """Repeat the command where a part of one array fits, until each task has done its work once."""
    bench.esis(place, "run").ok()
    assert specs(place, number) == [("0-4%10", 0, 5)]
    for _ in range(8):
        bench.slurm.run(parallel=4)
        bench.esis(place, "run").ok()
    assert bench.states(place) == {"done": TASKS}
    assert did(place) == once()


@pytest.mark.parametrize(("asked", "shared"), [("8", "4"), ("1", "1"), ("3", "2, 1")])
def test_f311_arrays_that_were_taken_share_the_limit_of_all(bench: Bench, place: Path, asked: str, shared: str) -> None:
    """F311: each kept its share among arrays that were refused, so that few tasks ran at a time for weeks."""
    bench.slurm.set(submit_limit=23)  # two of three arrays
    bench.esis(place, "run", "-m", asked).ok()
    jobs = sorted(bench.slurm.jobs(), key=lambda job: job.id)
    limits = [int(number) for number in shared.split(", ")] * 2
    assert [job.throttle for job in jobs] == limits[:2]
    assert [spec.rpartition("%")[2] for spec, _, _ in specs(place)] == [str(job.throttle) for job in jobs]


def test_f311_a_limit_that_cannot_be_changed_is_said(bench: Bench, place: Path) -> None:
    """F311: the record tells what Slurm has."""
    bench.slurm.set(submit_limit=15)
    bench.slurm.fail("scontrol", "error", skip=1, times=9)  # behind the question for the limits
    shown = bench.esis(place, "run", "-m", "9").ok().stderr
    (job,) = bench.slurm.jobs()
    assert f"job {job.id} keeps its limit of {job.throttle} at a time" in shown
    assert specs(place) == [(f"0-10%{job.throttle}", 0, 11)]


def test_f24_where_the_first_array_does_not_fit_a_part_of_it_does(bench: Bench, place: Path) -> None:
    """F24: arrays are refused whole, so a smaller one is tried; the same command, repeated, finishes the run."""
    bench.slurm.set(submit_limit=6)
    finish_in_parts(bench, place)
    numbers = sorted(path.name for path in (only_run(place) / "__esis__/submissions").glob("*.json"))
    assert numbers == [f"{number:04d}.json" for number in range(1, len(numbers) + 1)]


def test_f24_max_job_count_is_such_a_limit(bench: Bench, place: Path) -> None:
    """F24: the job table of the cluster is full."""
    bench.slurm.set(max_job_count=15)
    bench.esis(place, "run").ok()
    assert bench.states(place) == {"waiting": 11, "unsubmitted": 14}


def test_f24_resubmission_stops_at_the_limit_too(bench: Bench, place: Path) -> None:
    """F24: what found no room is failed as before, and the same command goes on."""
    bench.esis(place, "run", "-m", "0").ok()
    bench.slurm.verdict("FAILED", run=False)
    bench.slurm.run(parallel=4)
    bench.slurm.set(verdicts={}, submit_limit=15)
    bench.esis(place, "resubmit").ok()
    assert bench.states(place) == {"waiting": 11, "failed": 14}
    bench.slurm.run(parallel=4)
    bench.esis(place, "resubmit").ok()
    bench.slurm.run(parallel=4)
    assert bench.states(place) == {"done": TASKS}
    assert did(place) == once()


@pytest.mark.parametrize(
    ("limit", "knobs"),
    [
        ("max_array_size", {"max_array_size": 11}),
        ("max_array_tasks", {"scheduler_parameters": "bf_continue,max_array_tasks=11"}),
    ],
)
def test_f91_limits_that_were_lowered_are_asked_for_anew_once(bench: Bench, limit: str, knobs: dict[str, Any]) -> None:
    """F91: Slurm refuses an array for its size: the tasks are cut anew, what is noted counts for the next command."""
    bench.slurm.set(max_array_size=101)
    place = bench.workflow("a", 30, worker=WORKER)
    bench.slurm.verdict("FAILED", run=False)
    bench.esis(place, "run", "-m", "0").ok()
    bench.slurm.run(parallel=4)
    bench.slurm.set(verdicts={}, **knobs)
    before = len(bench.slurm.calls())
    told = bench.esis(place, "resubmit").ok().stderr
    assert "by now Slurm has MaxArraySize" in told
    assert "11: cutting the tasks anew" in told
    assert Counter(call.program for call in bench.slurm.calls()[before:])["scontrol"] == 1
    assert [tasks for _, _, tasks in specs(place, 2)] == [11, 11, 8]
    noted = json.loads((only_run(place) / "__esis__/provenance.json").read_text())
    assert noted["slurm_limits"][limit] == 11
    assert noted["workflow_file"] == str(place / "wf.esis.json")
    bench.slurm.run(parallel=4)
    assert bench.states(place) == {"done": 30}
    assert did(place) == once(count=30)
    before = len(bench.slurm.calls())
    assert "by now" not in bench.esis(place, "resubmit", "--state", "done").ok().stderr
    assert calls(bench, before)[0] == 3


def test_f91_a_refusal_that_no_limit_explains_names_the_limits(bench: Bench, place: Path) -> None:
    """F91: asked once, and no second sbatch where they are what was noted."""
    bench.slurm.fail(
        "sbatch", "refuse", message="sbatch: error: Batch job submission failed: Invalid job array specification"
    )
    refused = bench.esis(place, "run")
    assert (refused.code, "(MaxArraySize 11)" in refused.stderr) == (5, True), refused
    assert calls(bench)[0] == 1


def test_f91_where_the_limits_can_not_be_asked_for_the_refusal_says_so(bench: Bench, place: Path) -> None:
    """F91: a run that was built when they could be."""
    bench.esis(place, "run", "-m", "0").ok()
    bench.slurm.run(parallel=4)
    bench.slurm.set(max_array_size=5)
    bench.slurm.fail("scontrol", "error", times=None)
    refused = bench.esis(place, "resubmit", "--state", "done")
    assert refused.code == 5
    assert "Invalid job array specification (what it takes couldn't be asked: " in refused.stderr


def test_f91_a_lost_submission_that_is_too_large_by_now_is_cut_anew(bench: Bench, place: Path) -> None:
    """F91: Slurm never got it, and refuses it for its size when it is sent again."""
    bench.slurm.fail("sbatch", "timeout", times=2)
    assert bench.esis(place, "run").code == 6
    bench.slurm.set(max_array_size=6)
    bench.esis(place, "run").ok()
    assert len(specs(place, 2)) == 5
    bench.slurm.run(parallel=4)
    assert did(place) == once()


def test_f92_a_lost_submission_that_meets_a_limit_is_cut_into_what_fits(bench: Bench, place: Path) -> None:
    """F92: exit code 0, as where the limit is met at once; the same command goes on."""
    bench.slurm.fail("sbatch", "timeout", times=2)
    assert bench.esis(place, "run").code == 6
    bench.slurm.set(submit_limit=6)
    finish_in_parts(bench, place, 2)  # what was refused behind a lost answer keeps its number


def test_feeding_finishes_a_run_without_anybody(bench: Bench, place: Path) -> None:
    """`esis run --feed`: a job of its own submits what the limit left, until nothing is left; then it is gone."""
    bench.slurm.set(submit_limit=13)
    shown = bench.esis(place, "run", "--feed").ok()
    assert "submits the rest" in shown.stderr
    for _ in range(8):
        bench.slurm.run(parallel=4)
    feed_log = only_run(place) / "__esis__/feed.log"
    assert bench.states(place) == {"done": TASKS}, feed_log.read_text() if feed_log.exists() else "no log"
    assert did(place) == once()
    feeders = [state for job in bench.slurm.jobs() if job.name == "esis-feed" for state in job.states.values()]
    assert set(feeders) <= {"COMPLETED", "CANCELLED"}


def test_feeding_takes_no_place_where_all_fits(bench: Bench, place: Path) -> None:
    """The feeding job is queued first, and cancelled when nothing is left over."""
    bench.esis(place, "run", "--feed").ok()
    (feeder,) = [job for job in bench.slurm.jobs() if job.name == "esis-feed"]
    assert set(feeder.states.values()) == {"CANCELLED"}
    assert bench.states(place) == {"waiting": TASKS}


def test_f90_a_held_feeder_of_a_command_that_did_not_come_to_its_end_is_taken_away(bench: Bench) -> None:
    """F90: status names it, the same command ends it, also where all tasks are done by then."""
    place = bench.workflow("b", 3, worker=WORKER)
    bench.slurm.fail("sbatch", "lost_reply", skip=1)
    bench.slurm.fail("squeue", "timeout")
    assert bench.esis(place, "run", "--feed").code == 6
    (feeder,) = feeders(bench)
    bench.slurm.run(parallel=4)
    for _ in range(2):
        told = bench.esis(place, "status").ok().stderr
        assert f"job {feeder} was to submit the rest, and there is none; esis run takes it away" in told
    assert feeders(bench) == {feeder: "PENDING"}
    assert f"job {feeder} kept a place" in bench.esis(place, "run").ok().stderr
    assert feeders(bench) == {feeder: "CANCELLED"}
    assert "was to submit" not in bench.esis(place, "status").ok().stderr
    assert did(place) == once(count=3)


def test_f90_a_held_feeder_that_a_later_command_finds_goes_where_its_arrays_are_refused(
    bench: Bench, place: Path
) -> None:
    """F90: whoever finds it has it to let go, or to take away."""
    bench.slurm.fail("sbatch", "timeout", skip=1, times=2)
    assert bench.esis(place, "run", "--feed").code == 6
    (feeder,) = feeders(bench)
    for state in ("PENDING", "CANCELLED"):  # the open submission is refused before a place is looked for
        bench.slurm.fail("sbatch", "refuse", message="sbatch: error: Batch job submission failed: Invalid account")
        assert bench.esis(place, "run", "--feed").code == 5
        assert feeders(bench) == {feeder: state}


def test_a_feeder_without_room_for_the_next_one_comes_again(bench: Bench, place: Path) -> None:
    """At the limit at that moment it goes back into the queue, under its own id, and submits the rest later."""
    bench.slurm.set(submit_limit=13)
    bench.esis(place, "run", "--feed").ok()
    (feeder,) = feeders(bench)
    bench.slurm.set(submit_limit=1)
    bench.slurm.run(max_tasks=12)
    assert feeders(bench) == {feeder: "PENDING"}
    assert bench.states(place) == {"done": 11, "unsubmitted": 14}
    bench.slurm.set(submit_limit=13)
    for _ in range(8):
        bench.slurm.run(parallel=4)
    assert bench.states(place) == {"done": TASKS}
    assert did(place) == once()


def test_f310_a_feeder_that_was_let_go_is_not_put_off_by_the_same_command(bench: Bench, place: Path) -> None:
    """F310: repeated every few minutes, as by cron, it moved its start away each time, and it held the only place."""
    bench.slurm.set(submit_limit=1)
    bench.esis(place, "run", "--feed").ok()
    (feeder,) = feeders(bench)
    begins = [job.begin for job in bench.slurm.jobs()]
    assert begins[0] > 0
    assert f"job {feeder} submits the rest" in bench.esis(place, "run", "--feed").ok().stderr
    assert (feeders(bench), [job.begin for job in bench.slurm.jobs()]) == ({feeder: "PENDING"}, begins)


def test_a_feeder_whose_own_place_is_the_last_one_leaves_it_to_tasks(bench: Bench, place: Path) -> None:
    """A limit of two: it and the one that it keeps a place for would fill it for ever, and no task would get in."""
    bench.slurm.set(submit_limit=2)
    bench.esis(place, "run", "--feed").ok()
    for _ in range(4 * TASKS):
        bench.slurm.run(parallel=4)
        if bench.states(place) == {"done": TASKS}:
            break
    assert bench.states(place) == {"done": TASKS}
    assert did(place) == once()
    assert "PENDING" not in feeders(bench).values()


def test_a_feeder_that_is_refused_for_good_ends_and_says_so(bench: Bench, place: Path) -> None:
    """No limit: nothing is gained by coming again. Its log has Slurm's words, and `esis status` what to do."""
    bench.slurm.set(submit_limit=13)
    bench.esis(place, "run", "--feed").ok()
    (feeder,) = feeders(bench)
    bench.slurm.fail(
        "sbatch", "refuse", times=None, message="sbatch: error: Batch job submission failed: Invalid account"
    )
    bench.slurm.run(max_tasks=12)
    assert feeders(bench) == {feeder: "FAILED"}
    log = (only_run(place) / "__esis__/feed.log").read_text()
    assert "Invalid account" in log
    assert "nothing submits the rest any more" in log
    assert "esis run --feed goes on" in bench.esis(place, "status").ok().stderr


@pytest.mark.parametrize("silent", [True, False])
def test_f144_a_feeder_goes_on_where_a_lost_node_has_left_the_lock(bench: Bench, place: Path, silent: bool) -> None:
    """F144: after 15 minutes without a sign of life, as somebody on a login node would; before, it comes again."""
    bench.slurm.set(submit_limit=13)
    bench.esis(place, "run", "--feed").ok()
    (feeder,) = feeders(bench)
    run = only_run(place)
    entry = run / "__esis__/lock" / Owner("node17", "boot", 77, 5, "alice", "0").text()
    entry.parent.mkdir()
    entry.touch()
    if silent:
        os.utime(entry, (0, 0))
    bench.slurm.run(max_tasks=12)
    if not silent:
        assert feeders(bench) == {feeder: "PENDING"}
        os.utime(entry, (0, 0))
    for _ in range(8):
        bench.slurm.run(parallel=4)
    assert bench.states(place) == {"done": TASKS}
    assert did(place) == once()


def test_a_place_that_is_kept_for_nothing_is_given_back(bench: Bench, place: Path) -> None:
    """Where the array is refused for good, the job that was to submit the rest isn't left held in the queue."""
    bench.slurm.set(submit_limit=13)
    bench.slurm.fail(
        "sbatch", "refuse", skip=1, times=None, message="sbatch: error: Batch job submission failed: Invalid account"
    )
    assert bench.esis(place, "run", "--feed").code == 5
    assert set(feeders(bench).values()) == {"CANCELLED"}


def test_no_room_has_an_exit_code_of_its_own(bench: Bench, place: Path) -> None:
    """Who calls it in a script waits and repeats it; a refusal has to be mended."""
    bench.slurm.call("sbatch", "--hold", "--wrap", "true", cwd=place.parent).check_returncode()
    bench.slurm.set(submit_limit=1)
    refused = bench.esis(place, "run")
    assert (refused.code, bench.states(place)) == (11, {"unsubmitted": TASKS})
    assert bench.esis(place, "run", "--feed").code == 11
    bench.slurm.set(submit_limit=None)
    bench.esis(place, "run").ok()


def requeues(bench: Bench) -> int:
    """Return how often a feeding job has put itself back."""
    return sum(call.argv[:1] == ("requeue",) for call in bench.slurm.calls("scontrol"))


def feeders(bench: Bench) -> dict[str, str]:
    """Return the states of the feeding jobs by their ids."""
    return {
        str(job.id): state for job in bench.slurm.jobs() if job.name == "esis-feed" for state in job.states.values()
    }


def test_a_run_that_is_fed_is_waited_for(bench: Bench, place: Path) -> None:
    """While a job is there to submit the rest the run is active; `esis status` names it; one squeue tells all of it."""
    bench.slurm.set(submit_limit=13)
    bench.esis(place, "run", "--feed").ok()
    (feeder,) = feeders(bench)
    bench.slurm.call("scontrol", "hold", feeder).check_returncode()
    bench.slurm.run(parallel=4)
    held = bench.esis(place, "wait")
    assert held.code == 10, held.stderr
    assert f"scontrol release {feeder}" in bench.esis(place, "status").ok().stderr
    bench.slurm.call("scontrol", "release", feeder).check_returncode()
    before = len(bench.slurm.calls("squeue"))
    shown = bench.esis(place, "status", "--json", "--check")
    assert shown.code == 9
    assert len(bench.slurm.calls("squeue")) == before + 1
    assert json.loads(shown.stdout)["feeding_jobs"] == [feeder]
    assert f"job {feeder} submits the rest" in shown.stderr
    waited = bench.esis(place, "wait", "--timeout", "0")
    assert waited.code == 9
    assert f"job {feeder} submits the rest" in waited.stderr
    bench.esis(place, "cancel").ok()
    assert "esis run --feed goes on" in bench.esis(place, "status").ok().stderr
    assert bench.esis(place, "wait").code == 10


@pytest.mark.parametrize("options", [(), ("--pending",)])
def test_what_is_cancelled_is_not_fed(bench: Bench, place: Path, options: tuple[str, ...]) -> None:
    """A cancellation of everything ends the job that would submit the rest, too, and says so."""
    bench.slurm.set(submit_limit=13)
    bench.esis(place, "run", "--feed").ok()
    (feeder,) = feeders(bench)
    shown = bench.esis(place, "cancel", *options).ok()
    assert f"cancelled: job {feeder}, which would have submitted the rest" in shown.stderr
    assert "cancelled: 0-10" in shown.stderr
    bench.slurm.run(parallel=4)
    assert bench.states(place) == {"failed": 11, "unsubmitted": 14}
    assert feeders(bench) == {feeder: "CANCELLED"}
    assert did(place) == {}
    assert bench.esis(place, "cancel").code == 2


def test_a_feeder_that_comes_again_is_cancelled_again(bench: Bench, place: Path) -> None:
    """Slurm takes its request to requeue it also just behind the cancellation, when SIGTERM has yet to end it."""
    marks = bench.directory / "marks"
    marks.mkdir()
    bench.wrap(
        "scontrol",
        f'[ "$1" = requeue ] || exec REAL "$@"\ntrap "" TERM\n: >{marks}/reached\n'
        'while [ "$(squeue -h -j "$2" -o %T)" = RUNNING ]; do sleep 0.05; done\nexec REAL "$@"',
    )
    bench.slurm.set(submit_limit=13)
    bench.esis(place, "run", "--feed").ok()
    (feeder,) = feeders(bench)
    bench.slurm.set(submit_limit=1, requeue_delay=120)
    bench.slurm.set(auto=True)
    bench.slurm.kick()
    bench.slurm.wait((marks / "reached").exists, 60, "the feeding job wants to come again")
    bench.esis(place, "cancel").ok()
    assert requeues(bench) == 1
    assert bench.slurm.job(int(feeder)).task().restarts == 1
    assert feeders(bench) == {feeder: "CANCELLED"}
    assert bench.states(place) == {"done": 11, "unsubmitted": 14}


def test_a_feeder_alone_is_something_to_cancel(bench: Bench, place: Path) -> None:
    """No task is active any more, and the feeding job waits its turn."""
    bench.slurm.set(submit_limit=13)
    bench.esis(place, "run", "--feed").ok()
    (feeder,) = feeders(bench)
    bench.slurm.call("scontrol", "hold", feeder).check_returncode()
    bench.slurm.run(parallel=4)
    assert bench.states(place) == {"done": 11, "unsubmitted": 14}
    shown = bench.esis(place, "cancel").ok()
    assert f"job {feeder}" in shown.stderr
    assert feeders(bench) == {feeder: "CANCELLED"}


def test_chosen_tasks_are_cancelled_and_the_rest_is_fed(bench: Bench, place: Path) -> None:
    """With --tasks the feeding job stays, and a line says that it does."""
    bench.slurm.set(submit_limit=13)
    bench.esis(place, "run", "--feed").ok()
    (feeder,) = feeders(bench)
    shown = bench.esis(place, "cancel", "--tasks", "3").ok()
    assert f"job {feeder} goes on to submit the rest" in shown.stderr
    assert feeders(bench) == {feeder: "PENDING"}
    for _ in range(8):
        bench.slurm.run(parallel=4)
    assert bench.states(place) == {"done": TASKS - 1, "failed": 1}


def test_the_feeder_of_another_run_is_left_alone(bench: Bench, place: Path) -> None:
    """Whose it is, its script and its directory tell; another run's, and the user's own from there, go on."""
    bench.slurm.set(submit_limit=13)
    bench.esis(place, "run", "--feed").ok()
    (first,) = feeders(bench)
    bench.slurm.set(submit_limit=100)
    own = only_run(place) / "__esis__/own.sh"
    own.write_text("#!/bin/sh\n")
    bench.slurm.call("sbatch", str(own), cwd=own.parent).check_returncode()
    (mine,) = [job for job in bench.slurm.jobs() if job.name == "own.sh"]
    bench.slurm.set(submit_limit=27)
    other = bench.workflow("b", TASKS, worker=WORKER)
    bench.esis(other, "run", "--feed").ok()
    (second,) = set(feeders(bench)) - {first}
    bench.esis(place, "cancel").ok()
    assert feeders(bench) == {first: "CANCELLED", second: "PENDING"}
    assert next(set(job.states.values()) for job in bench.slurm.jobs() if job.id == mine.id) == {"PENDING"}


# --- parameters in one file


LINES = f"""#!/bin/sh
n=0; while [ $n -lt {TASKS} ]; do echo "{{\\"n\\": $n}}"; n=$((n+1)); done >parameters.jsonl
echo {TASKS}
"""


@pytest.mark.parametrize("local", [True, False])
def test_parameters_in_one_file(bench: Bench, place: Path, local: bool) -> None:
    """The worker reads its own file as ever; afterwards only the one file and its index are there."""
    (place / "gen.sh").write_text(LINES)
    bench.esis(place, "run", *(["--local", "-j", "4"] if local else [])).ok()
    if not local:
        bench.slurm.run(parallel=4)
    assert bench.states(place) == {"done": TASKS}
    assert did(place) == once()
    assert sorted(path.name for path in (only_run(place) / "parameters").iterdir()) == [
        "parameters.index",
        "parameters.jsonl",
    ]
    assert len(record(place)["arrays"]) == (1 if local else 3)


# --- packs


def pack(place: Path, per_job: int, parallel: int = 1) -> None:
    """Let the workflow pack its tasks."""
    path = place / "wf.esis.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tasks_per_job": per_job, "tasks_parallel": parallel}))


def test_packs_from_end_to_end(bench: Bench, place: Path) -> None:
    """Each task has its own record, log and exit code; one bad task fails alone; what is left is packed again."""
    (place / "flaky").touch()
    pack(place, 10, 2)
    bench.esis(place, "run").ok()
    assert specs(place) == [("0-2%10", 0, TASKS)]
    assert bench.states(place) == {"waiting": TASKS}
    bench.slurm.run(parallel=4)
    assert set(bench.slurm.job(1).states.values()) == {"FAILED"}
    shown = json.loads(bench.esis(place, "status", "--json").stdout)["states"]
    assert shown["done"]["count"] == TASKS - 3
    assert shown["failed"]["reasons"] == {"exit code 3": "3,14,24"}
    assert bench.esis(place, "log", "14").ok().stdout.count("task 14\n") == 1
    (only_run(place) / "mended").touch()
    bench.esis(place, "resubmit").ok()
    assert (record(place, 2)["mapped"], record(place, 2)["per_job"], specs(place, 2)) == (True, 10, [("0%10", 0, 3)])
    bench.slurm.run()
    assert bench.states(place) == {"done": TASKS}
    assert did(place) == {**once(), 3: 2, 14: 2, 24: 2}


def test_f131_a_trap_in_a_pack_lets_nothing_be_done_twice(bench: Bench, place: Path) -> None:
    """One bad task: what is done beside it, and left no end, isn't submitted again by `esis run`."""
    (place / "flaky").touch()
    template = place / "template.sh"
    template.write_text(TEMPLATE.replace("WORKERSCRIPT", "trap 'echo bye' EXIT\nWORKERSCRIPT"))
    pack(place, TASKS, 2)
    bench.esis(place, "run").ok()
    bench.slurm.run()
    for path in (only_run(place) / "__esis__/tasks").iterdir():  # a while ago
        path.rename(path.with_name(path.name.replace(path.name.split(".")[4], "1000000000")))
    assert bench.states(place) == {"lost": TASKS}
    bench.esis(place, "run")
    bench.slurm.run()
    assert did(place) == once()
    bench.esis(place, "resubmit").ok()
    bench.slurm.run()
    assert did(place) == dict.fromkeys(range(TASKS), 2)


def test_more_packs_than_an_array_takes(bench: Bench, place: Path) -> None:
    """The offset counts packs: 13 packs of 2 where 11 fit."""
    pack(place, 2)
    bench.esis(place, "run").ok()
    assert specs(place) == [("0-10%5", 0, 22), ("0-1%5", 11, 3)]
    bench.slurm.run(parallel=4)
    assert did(place) == once()
    assert bench.states(place) == {"done": TASKS}


@pytest.mark.parametrize("accounting", [False, True])
@pytest.mark.parametrize("word", ["TIMEOUT", "NODE_FAIL"])
def test_what_a_job_did_not_come_to_is_unsubmitted_and_run_goes_on(
    bench: Bench, place: Path, word: str, accounting: bool
) -> None:
    """At the time limit, or when the node dies: `esis run` submits what is left of the pack."""
    bench.slurm.set(accounting=accounting)
    pack(place, 10)
    bench.esis(place, "run").ok()
    bench.slurm.verdict(word, job=1, task=1, run=False)
    bench.slurm.run(parallel=4)
    if accounting:
        bench.slurm.purge()
    assert bench.states(place) == {"done": 15, "unsubmitted": 10}
    bench.slurm.set(verdicts={})
    bench.esis(place, "run").ok()
    assert record(place, 2)["tasks"] == "10-19"
    bench.slurm.run()
    assert bench.states(place) == {"done": TASKS}
    assert did(place) == once()


def test_a_throttle_of_packs_counts_packs_and_says_so(bench: Bench, place: Path) -> None:
    pack(place, 10)
    bench.esis(place, "run").ok()
    assert "2 packs of tasks at a time now" in bench.esis(place, "throttle", "2").ok().stderr


def test_a_part_of_a_pack_cannot_be_cancelled(bench: Bench, place: Path) -> None:
    """Exit code 2 names the others; all of the pack can, and the rest is left."""
    pack(place, 10)
    bench.esis(place, "run").ok()
    refused = bench.esis(place, "cancel", "--tasks", "12")
    assert refused.code == 2
    assert "10-11,13-19" in refused.stderr
    bench.esis(place, "cancel", "--tasks", "10-19").ok()
    assert [call.argv[-1] for call in bench.slurm.calls("scancel")] == ["1_[1]"]
    assert bench.states(place) == {"waiting": 15, "failed": 10}


def test_packs_from_measured_times(bench: Bench, place: Path) -> None:
    """`--tasks-per-job auto`: what fits into 80 % of the template's 5 minutes, by what the done tasks took."""
    (place / "flaky").touch()
    bench.esis(place, "run", "-m", "0").ok()
    refused = bench.esis(place, "resubmit", "--state", "waiting", "--tasks-per-job", "auto")
    assert refused.code == 2
    bench.slurm.run(parallel=4)
    run = only_run(place)
    for path in list((run / "__esis__/tasks").glob("*.exit0.*")):  # as if each had taken 12 s
        head, _, end = path.name.rpartition(".")
        path.rename(path.with_name(f"{head}.{int(path.name.split('.')[4]) + 12}"))
        assert end.isdigit()
    (run / "mended").touch()
    bench.esis(place, "resubmit", "--tasks-per-job", "auto").ok()
    assert (record(place, 2)["per_job"], record(place, 2)["tasks"]) == (20, "3,14,24")
    assert specs(place, 2) == [("0%10", 0, 3)]
    bench.slurm.run()
    assert bench.states(place) == {"done": TASKS}


def test_packs_from_measured_times_need_a_measurement(bench: Bench, place: Path) -> None:
    """No task is done: nothing tells how long they take; exit code 2 says to give a number."""
    bench.esis(place, "run", "-m", "0").ok()
    bench.slurm.verdict("FAILED", run=False)
    bench.slurm.run(parallel=4)
    refused = bench.esis(place, "resubmit", "--tasks-per-job", "auto")
    assert refused.code == 2
    assert "no task is done" in refused.stderr
    assert len(bench.slurm.jobs()) == 3


def test_a_local_run_packs_nothing(bench: Bench, place: Path) -> None:
    """On this machine each task is a process of its own."""
    pack(place, 10)
    bench.esis(place, "run", "--local", "-j", "4").ok()
    assert (record(place)["per_job"], len(record(place)["arrays"])) == (1, 1)
    assert did(place) == once()


# --- logs, and runs without Slurm


BOTH = '#!/bin/sh\necho "out of $SLURM_ARRAY_TASK_ID"\necho "err of $SLURM_ARRAY_TASK_ID" >&2\n'


def with_logs(bench: Bench, tasks: int) -> Path:
    place = bench.workflow("logs", tasks, worker=BOTH)
    template = place / "template.sh"
    template.write_text(template.read_text().replace("#ESIS_PRIVATE", "#SBATCH -o o%a -e e%a\n#ESIS_PRIVATE"))
    return place


def test_error_output_of_arrays_whose_indices_are_no_tasks_is_kept_apart(bench: Bench) -> None:
    """With `-e e%a` later arrays overwrote what the first had written; the archive has all of them."""
    bench.slurm.set(max_array_size=4)
    place = with_logs(bench, 10)
    bench.esis(place, "run").ok()
    bench.slurm.run()
    bench.esis(place, "wait").ok()
    run = only_run(place)
    for start, word in (("o", "out"), ("e", "err")):
        texts = [path.read_text() for path in (run / "cwd").iterdir() if path.name.startswith(start)]
        assert sorted(texts) == sorted(f"{word} of {task}\n" for task in range(10))
    told = bench.esis(place, "archive", "--logs", "all", "-o", "../logs.zip").ok()
    assert "log" not in told.stderr.replace("logs.zip", "").replace("/logs/", ""), told.stderr


def test_a_local_run_of_scattered_tasks_needs_no_map(bench: Bench) -> None:
    """It was looked up with tasks for positions: other tasks ran than were recorded as done."""
    place = with_logs(bench, 12)
    bench.esis(place, "run", "--local").ok()
    run = only_run(place)
    for path in (run / "cwd").iterdir():
        path.unlink()
    bench.esis(
        place,
        "resubmit",
        "--local",
        "--state",
        "done",
        "--tasks",
        "1,3-4,7,11",
        patch={"esis.operations.submission.arrays.ARRAY_SPEC_LIMIT": 5},
    ).ok()
    assert not record(place, 2)["mapped"]
    assert {path.name: path.read_text() for path in (run / "cwd").iterdir() if path.name.startswith("o")} == {
        f"o{task}": f"out of {task}\n" for task in (1, 3, 4, 7, 11)
    }


def test_arrays_that_take_turns_do_so_when_what_they_wait_for_is_exchanged(bench: Bench) -> None:
    """More arrays than tasks may run at a time, behind a requirement that failed and was submitted again."""
    bench.slurm.set(max_array_size=6)
    worker = "#!/bin/sh\n[ -e ../mended ] || [ ! -e ../../flaky ]\n"
    first, second = bench.workflow("a", worker=worker), bench.workflow("b", 20, worker=worker, requires=["a"])
    (first / "flaky").touch()
    bench.esis(second, "dependency", "-m", "2").ok()
    before = [job.dependency for job in bench.slurm.jobs()[1:]]
    assert [len(found) for found in before] == [1, 1, 2, 2]
    bench.slurm.run()
    (only_run(first) / "mended").touch()
    bench.esis(first, "resubmit").ok()
    bench.esis(second, "dependency", "-m", "2").ok()
    again = bench.slurm.jobs()[-1].id
    after = [job.dependency for job in bench.slurm.jobs()[1:5]]
    assert after == [(("afterok", again, None), *found[1:]) for found in before]
    (second / "flaky").unlink(missing_ok=True)
    (first / "flaky").unlink()
    bench.slurm.run()
    assert bench.states(second) == {"done": 20}


@pytest.fixture
def cut(bench: Bench) -> tuple[Path, Path]:
    """A dependant of three arrays: one waits behind its requirement, a task of which fails, the others weren't sent."""
    bench.slurm.set(max_array_size=2)
    worker = "#!/bin/sh\necho >>did.$SLURM_ARRAY_TASK_ID\n[ -e ../mended ] || [ ! -e ../../flaky ]\n"
    first, second = bench.workflow("a", 2, worker=worker), bench.workflow("b", 5, worker=worker, requires=["a"])
    (first / "flaky").touch()
    bench.slurm.fail("sbatch", "timeout", skip=2)
    bench.slurm.fail("squeue", "timeout", skip=1)
    assert bench.esis(second, "dependency").code == 6
    bench.slurm.run()
    (only_run(first) / "mended").touch()
    return first, second


def dependencies(bench: Bench, place: Path) -> list[tuple[int, ...]]:
    """Return which jobs each job of a workflow waits behind."""
    jobs = [job for job in bench.slurm.jobs() if Path(job.workdir).is_relative_to(place)]
    return [tuple(target for _, target, _ in job.dependency) for job in jobs]


@pytest.mark.parametrize("version", ["22.05.8", "24.11.5"])
@pytest.mark.parametrize("how", ["active", "done", "forgotten"])
def test_f142_what_was_not_sent_waits_behind_what_its_requirement_is_now(
    bench: Bench, cut: tuple[Path, Path], version: str, how: str
) -> None:
    """F142: behind a job that failed it would wait for ever, and one that is forgotten Slurm refuses."""
    first, second = cut
    bench.slurm.set(version=version)
    bench.esis(first, "resubmit").ok()
    again = bench.slurm.jobs()[-1].id
    if how != "active":
        bench.slurm.run()
    if how == "forgotten":
        bench.slurm.purge()
    bench.esis(second, "dependency").ok()
    assert dependencies(bench, second) == [(again,) if how == "active" else ()] * 3
    bench.slurm.run()
    assert bench.states(second) == {"done": 5}
    assert [len((only_run(second) / f"cwd/did.{task}").read_text().splitlines()) for task in range(5)] == [1] * 5


@pytest.mark.parametrize("sent", [1, 2])
def test_f142_a_resubmission_lets_what_was_not_sent_wait_as_it_was_to(bench: Bench, sent: int) -> None:
    """F142: of the submission before; without anything to wait behind its tasks would start, and fail."""
    bench.slurm.set(max_array_size=2)
    bench.workflow("a", 2)
    second = bench.workflow("b", 4, requires=["a"])
    (second / "template.sh").write_text(TEMPLATE.replace("#ESIS_PRIVATE", "#SBATCH -d singleton\n#ESIS_PRIVATE"))
    bench.slurm.fail("sbatch", "timeout", skip=sent)
    bench.slurm.fail("squeue", "timeout", skip=1)
    assert bench.esis(second, "dependency").code == 6
    assert "nothing to resubmit: 4 waiting" in bench.esis(second, "resubmit").ok().stderr
    options = [option for call in bench.slurm.calls("sbatch")[1:] for option in call.argv if "dependency" in option]
    script = (only_run(second) / "sbatch.sh").read_text()
    assert "#SBATCH --dependency=afterok:1,singleton\n" in script
    assert set(options) == {"--dependency=afterok:1,singleton"}
    bench.slurm.run()
    assert bench.states(second) == {"done": 4}


def test_f142_an_array_whose_turn_comes_behind_one_that_is_forgotten_is_sent(bench: Bench) -> None:
    """F142: from 23.02 on Slurm refuses to let it wait for that; the same command sends it."""
    bench.slurm.set(max_array_size=2, version="24.11.5")
    place = bench.workflow("a", 5, worker=WORKER)
    bench.slurm.fail("sbatch", "timeout", skip=1)
    bench.slurm.fail("squeue", "timeout")
    assert bench.esis(place, "run", "-m", "1").code == 6
    bench.slurm.run()
    bench.slurm.purge()
    shown = bench.esis(place, "run", "-m", "1").ok()
    assert "Job dependency problem" in shown.stderr
    bench.slurm.run()
    assert bench.states(place) == {"done": 5}
    assert did(place) == once(count=5)
