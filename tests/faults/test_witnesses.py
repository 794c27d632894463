"""Witnesses that lie, are blind, are somebody else's, or claim too much."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

import pytest

from esis.model.workdir import RunDir
from esis.operations.witness.evidence import gather
from esis.operations.witness.keep import look_and_keep
from esis.records.tasks import TaskRecord
from esis.schedulers.slurm import Slurm
from tests.faults.bench import TEMPLATE, Bench, only_run
from tests.faults.test_disk import age

HEADER = "esis|ARRAY_JOB_ID|ARRAY_TASK_ID|STATE|REASON|TIME|COMMAND|WORK_DIR|end\n"
OWN_TRAP = TEMPLATE.replace("WORKERSCRIPT", "trap 'rm -rf scratch' EXIT\nWORKERSCRIPT")
# A task that can't write its record, as under a full quota: task 1 leaves none.
UNRECORDED = '[ "$SLURM_ARRAY_TASK_ID" != 1 ] || { rm -f ../__esis__/tasks/1.*; esis_record=; }'
ONE_FAILS = '#!/bin/sh\necho >>"did.$SLURM_ARRAY_TASK_ID"\n[ "$SLURM_ARRAY_TASK_ID" != 1 ]\n'


@pytest.mark.parametrize(
    ("kind", "details"),
    [
        ("empty", {}),
        ("say", {"stdout": "<html>Bad gateway</html>\n"}),
        ("say", {"stdout": "\n"}),
        ("say", {"stdout": "1|0-2|RUNNING|None|0:01|x|/y\n"}),
        ("say", {"stdout": HEADER[:-5]}),
        ("cut", {"bytes": 0}),
        ("cut", {"bytes": len(HEADER) - 1}),
        ("cut", {"bytes": len(HEADER) + 3}),
        ("cut", {"bytes": len(HEADER) + 40}),
    ],
)
def test_f52_what_is_no_whole_answer_of_squeue_proves_nothing(
    bench: Bench, kind: str, details: Mapping[str, Any]
) -> None:
    """F52: it ends with 0, and tasks run: they aren't lost, and nothing is submitted beside them."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    age(only_run(place))
    bench.slurm.fail("squeue", kind, times=None, **details)
    assert bench.states(place) == {"unknown": 3}
    assert "squeue" in bench.esis(place, "run").stderr
    assert [bench.esis(place, command).code for command in ("resubmit", "cancel")] == [6, 6]
    assert len(bench.slurm.jobs()) == 1
    bench.slurm.set(faults=[])
    assert bench.states(place) == {"waiting": 3}


def test_f52_what_accounting_calls_running_is_not_lost(bench: Bench) -> None:
    """F52: squeue was cut at the end of a line, which nobody can tell; sacct knows better."""
    bench.slurm.set(accounting=True)
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    age(only_run(place))
    bench.slurm.fail("squeue", "say", times=None, stdout=HEADER)
    assert bench.states(place) == {"unknown": 3}
    assert "sacct says PENDING" in bench.esis(place, "status").stdout
    assert "left out" in bench.esis(place, "resubmit").ok().stderr
    assert len(bench.slurm.jobs()) == 1


@pytest.mark.parametrize("records", [True, False])
@pytest.mark.parametrize("accounting", [True, False])
def test_f15_an_id_that_the_users_own_job_got_tells_nothing(bench: Bench, records: bool, accounting: bool) -> None:
    """F15, F45: slurmctld lost the job, and its id went to an array from cwd/, which runs and ends well."""
    bench.slurm.set(accounting=accounting)
    place = bench.workflow("a")
    bench.esis(place, "run", *([] if records else ["--no-task-records"])).ok()
    run = only_run(place)
    bench.slurm.forget(1, reuse_id=True)
    (run / "cwd/post.sh").write_text("#!/bin/sh\n")
    bench.slurm.call("sbatch", "--array=0-2", "post.sh", cwd=run / "cwd").check_returncode()
    assert [job.id for job in bench.slurm.jobs()] == [1]
    age(run)
    assert bench.states(place) == {"unknown": 3}
    bench.slurm.run()
    assert bench.states(place) == {"unknown": 3}
    bench.slurm.purge()
    assert bench.states(place) == {"lost": 3} if records else {"unknown": 3}


@pytest.mark.parametrize("records", [True, False])
def test_f55_what_slurm_said_outlasts_slurms_memory(bench: Bench, records: bool) -> None:
    """F55: nobody wrote an end record, a sibling failed, there is no accounting; somebody looked in time."""
    place = bench.workflow("a", worker=ONE_FAILS)
    (place / "template.sh").write_text(OWN_TRAP if records else TEMPLATE)
    bench.esis(place, "run", *([] if records else ["--no-task-records"])).ok()
    bench.slurm.run()
    assert bench.states(place) == {"done": 2, "failed": 1}
    bench.slurm.purge()
    age(only_run(place))
    assert bench.states(place) == {"done": 2, "failed": 1}
    assert "1 task" in bench.esis(place, "resubmit").ok().stderr


def test_f66_a_worker_that_claims_completion_hides_nothing(bench: Bench) -> None:
    """F66: 0.0.4 told its users to let the worker write 1 at its end, which the first task does."""
    claim = '#!/bin/sh\n[ "$SLURM_ARRAY_TASK_ID" != 1 ] || exit 3\necho 1 >../__esis__/completed.state\n'
    place = bench.workflow("a", worker=claim)
    bench.workflow("b", requires=["a"])
    bench.esis(place, "run").ok()
    only_run(place).joinpath("__esis__/completed.state").write_text("1")
    assert bench.states(place) == {"waiting": 3}
    assert "nothing to resubmit" in bench.esis(place, "resubmit").ok().stderr
    bench.slurm.run()
    assert bench.states(place) == {"done": 2, "failed": 1}
    assert bench.esis(place, "wait").code == 8
    assert bench.esis(bench.home / "b", "run").code == 3
    assert "1 task" in bench.esis(place, "resubmit").ok().stderr
    assert bench.states(place) == {"done": 2, "waiting": 1}


def test_evidence_is_overruled_by_hand_in_a_way_of_its_own(bench: Bench) -> None:
    """A line in `__esis__/complete` declares the run complete; taken away, the tasks are judged again."""
    place = bench.workflow("a", worker=ONE_FAILS)
    bench.workflow("b", requires=["a"])
    bench.esis(place, "run").ok()
    bench.slurm.run()
    assert bench.states(place) == {"done": 2, "failed": 1}
    mark = only_run(place) / "__esis__/complete"
    mark.write_text("by hand: task 1 is not needed\n")
    assert bench.states(place) == {"done": 3}
    bench.esis(bench.home / "b", "run").ok()
    mark.write_text("")
    assert bench.states(place) == {"done": 2, "failed": 1}


def test_f53_the_owner_of_a_run_is_asked_about(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """F53: not who looks; a user whom the machine doesn't know, and a site that hides jobs, prove nothing."""
    for name, value in bench.env().items():
        monkeypatch.setenv(name, value)
    bench.slurm.call("sbatch", "--hold", "--wrap=true").check_returncode()
    me = os.getuid()

    def asked(*owners: int) -> tuple[int, str | None]:
        found = Slurm().observe((), owners)
        return len(found.sightings), found.problem

    assert asked() == asked(me) == (1, None)
    assert "--me" in bench.slurm.calls("squeue")[-1].argv
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)  # root sees all
    assert asked(me, 65534) == (1, None)
    assert f"{me},65534" in bench.slurm.calls("squeue")[-1].argv
    assert "Invalid user" in (asked(me, 4242424242)[1] or "")
    bench.slurm.set(private_data="accounts,jobs")
    assert asked(me) == (1, None)
    seen, problem = asked(65534)
    assert (seen, "PrivateData" in (problem or "")) == (0, True)
    bench.slurm.fail("scontrol", "error", times=None)
    assert asked(65534)[1] is not None


@pytest.mark.parametrize("records", [True, False])
def test_f113_who_looks_at_somebody_elses_run_leaves_no_files_there(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, records: bool
) -> None:
    """F113: root may write everywhere; the owner's workers then couldn't write their 1 into completed.state."""
    place = bench.workflow("a")
    bench.esis(place, "run", *([] if records else ["--no-task-records"])).ok()
    bench.slurm.run()
    for name, value in bench.env().items():
        monkeypatch.setenv(name, value)
    run = only_run(place)
    before = sorted(str(path) for path in run.rglob("*"))
    found = gather(RunDir(run))
    assert found is not None
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert look_and_keep(found, Slurm()).complete
    assert (sorted(str(path) for path in run.rglob("*")), (run / "__esis__/completed.state").read_text()) == (
        before,
        "0",
    )
    assert look_and_keep(found, Slurm()).complete
    assert (run / "__esis__/completed.state").read_text() == "1"


def test_f45_a_copy_of_a_run_takes_nothing_over_from_the_accounting(bench: Bench) -> None:
    """F45: it knows the same ids; what the original's job did isn't its own work."""
    bench.slurm.set(accounting=True)
    place = bench.workflow("a")
    bench.esis(place, "run", "--no-task-records").ok()
    shutil.copytree(place, bench.home / "copy", symlinks=True)
    bench.slurm.run()
    bench.slurm.purge()
    assert bench.states(place) == {"done": 3}
    assert bench.states(bench.home / "copy") == {"unknown": 3}
    assert not (only_run(bench.home / "copy") / "__esis__/complete").exists()


def test_f66_a_mark_of_esis_is_void_once_a_rerun_by_hand_has_left_a_record(bench: Bench) -> None:
    """F66: and what waits by hand behind a mark can be cancelled, and keeps a run from being folded."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    bench.slurm.run()
    assert bench.states(place) == {"done": 3}
    run = only_run(place)
    assert (run / "__esis__/complete").read_text().startswith("esis ")
    bench.slurm.call("sbatch", "../sbatch.sh", cwd=run / "cwd").check_returncode()
    assert bench.esis(place, "compact").code == 2
    bench.slurm.verdict("FAILED", run=False)
    bench.slurm.run()
    bench.slurm.set(verdicts={})
    (run / "worker.sh").chmod(0o755)
    bench.slurm.call("sbatch", "../sbatch.sh", cwd=run / "cwd").check_returncode()
    bench.esis(place, "cancel").ok()
    (run / "worker.sh").write_text("#!/bin/sh\nexit 3\n")
    bench.slurm.call("sbatch", "../sbatch.sh", cwd=run / "cwd").check_returncode()
    bench.slurm.run()
    assert bench.states(place) == {"failed": 3}


def test_f66_a_mark_of_another_run_says_nothing(bench: Bench) -> None:
    """F66: a copy of __esis__/ carries it along."""
    for name in ("a", "b"):
        bench.esis(bench.workflow(name, 3 if name == "a" else 2), "run").ok()
        if name == "a":
            bench.slurm.run()
            assert bench.states(bench.home / "a") == {"done": 3}
    mark = only_run(bench.home / "b") / "__esis__/complete"
    shutil.copy(only_run(bench.home / "a") / "__esis__/complete", mark)
    assert bench.states(bench.home / "b") == {"waiting": 2}


def test_folding_keeps_a_run_complete_without_asking_anybody(bench: Bench) -> None:
    """The mark is one of the records as they are then."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    bench.slurm.run()
    assert bench.states(place) == {"done": 3}
    bench.esis(place, "compact").ok()
    asked = len(bench.slurm.calls("squeue"))
    assert bench.states(place) == {"done": 3}
    assert len(bench.slurm.calls("squeue")) == asked


def test_cancel_ends_every_job_of_the_chosen_tasks(bench: Bench) -> None:
    """A submission and a rerun by hand wait with the same tasks: one command is for both."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    bench.slurm.call("sbatch", "../sbatch.sh", cwd=only_run(place) / "cwd").check_returncode()
    bench.esis(place, "cancel").ok()
    assert {state for job in bench.slurm.jobs() for state in job.states.values()} == {"CANCELLED"}


@pytest.mark.parametrize(
    ("scancel", "said"), [("exit 1", "ended with 1"), ("echo scancel: error: no route >&2; exit 1", "no route")]
)
def test_f252_what_scancel_said_is_told_where_tasks_stay(bench: Bench, scancel: str, said: str) -> None:
    """F252: its exit status tells nothing where they go; where they don't, its words are the reason."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    bench.wrap("scancel", scancel)
    shown = bench.esis(place, "cancel", patch={"esis.operations.cancel._SETTLE_SECONDS": 0})
    assert (shown.code, "still active: 0-2: " in shown.stderr, said in shown.stderr) == (6, True, True), shown


def test_f110_cancelling_what_waits_makes_no_failure_of_what_slurm_has_forgotten(bench: Bench) -> None:
    """F110: without records and accounting: what was cancelled is known, what had ended isn't, and isn't run again."""
    place = bench.workflow("a")
    bench.esis(place, "run", "--no-task-records").ok()
    bench.slurm.run(max_tasks=1)
    bench.slurm.purge()
    assert bench.states(place) == {"waiting": 2, "unknown": 1}
    bench.esis(place, "cancel", "--pending").ok()
    assert bench.states(place) == {"failed": 2, "unknown": 1}
    assert "2 tasks (1-2" in bench.esis(place, "resubmit").ok().stderr


def test_what_a_rerun_without_records_came_to_outranks_the_earlier_record_for_dependants_too(bench: Bench) -> None:
    """Their jobs ask no Slurm: they would never start, whatever `esis status` says of the requirement."""
    worker = '#!/bin/sh\necho >>"did.$SLURM_ARRAY_TASK_ID"\n[ -e ../mended ] || [ "$SLURM_ARRAY_TASK_ID" != 1 ]\n'
    first = bench.workflow("a", worker=worker)
    second = bench.workflow("b", requires=["a"])
    bench.slurm.set(accounting=True)
    bench.esis(second, "dependency").ok()
    bench.slurm.run()
    assert bench.states(first) == {"done": 2, "failed": 1}
    (only_run(first) / "mended").touch()
    bench.esis(first, "resubmit", "--no-task-records").ok()
    bench.slurm.run()
    assert bench.states(first) == {"done": 3}
    bench.esis(second, "dependency").ok()
    bench.slurm.run()
    assert bench.states(second) == {"done": 3}
    assert bench.states(first) == {"done": 3}


def test_f177_what_sacct_has_not_heard_yet_is_not_taken_for_done_for_good(bench: Bench) -> None:
    """A task ran out of memory, its script ended with 0, accounting lags behind, and squeue fails just then."""
    bench.slurm.set(accounting=True, sacct_lag=10_000)
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    bench.slurm.verdict("OUT_OF_MEMORY", task=1)
    bench.slurm.run()
    bench.slurm.fail("squeue", "timeout")
    bench.esis(place, "run").ok()
    assert not (only_run(place) / "__esis__/complete").exists()
    assert bench.states(place) == {"done": 2, "failed": 1}


@pytest.mark.parametrize("word", ["", "TIMEOUT", "NODE_FAIL"])
def test_f305_what_a_pack_did_and_could_not_record_is_not_done_again(bench: Bench, word: str) -> None:
    """F305: a quota that was full for a while; task 0 failed, so that the pack's job did, or Slurm ended it later."""
    template = TEMPLATE.replace("WORKERSCRIPT", f"{UNRECORDED}\nWORKERSCRIPT")
    worker = '#!/bin/sh\necho >>"did.$SLURM_ARRAY_TASK_ID"\n[ "$SLURM_ARRAY_TASK_ID" != 0 ]\n'
    place = bench.workflow("a", 4, worker=worker)
    (place / "template.sh").write_text(template)
    bench.esis(place, "setup", "--tasks-per-job", "4", "setup.sh", "gen.sh", "template.sh", "worker.sh").ok()
    bench.esis(place, "run").ok()
    if word:
        bench.slurm.verdict(word)
    bench.slurm.run()
    assert bench.states(place) == {"failed": 1, "unknown": 1, "done": 2}
    bench.slurm.purge()
    age(only_run(place))
    assert bench.states(place) == {"failed": 1, "unknown": 1, "done": 2}
    assert "left out" in bench.esis(place, "resubmit").ok().stderr
    bench.slurm.set(verdicts={})
    bench.slurm.run()
    did = {path.name: len(path.read_text()) for path in (only_run(place) / "cwd").glob("did.*")}
    assert did == {"did.0": 2, "did.1": 1, "did.2": 1, "did.3": 1}


@pytest.mark.parametrize("accounting", [True, False])
@pytest.mark.parametrize("forgets", [True, False])
def test_f306_what_a_requeued_task_did_and_could_not_record_is_not_done_again(
    bench: Bench, accounting: bool, forgets: bool
) -> None:
    """F306: its first start failed, the second one found the quota full and did the work."""
    bench.slurm.set(accounting=accounting)
    worker = '#!/bin/sh\n[ "${SLURM_RESTART_COUNT:-0}" != 0 ] || exit 3\necho >>"did.$SLURM_ARRAY_TASK_ID"\n'
    place = bench.workflow("a", 1, worker=worker)
    full = '[ "${SLURM_RESTART_COUNT:-0}" = 0 ] || { rm -f ../__esis__/tasks/0.*.*.1.*.running; esis_record=; }'
    (place / "template.sh").write_text(TEMPLATE.replace("WORKERSCRIPT", f"{full}\nWORKERSCRIPT"))
    bench.esis(place, "run").ok()
    bench.slurm.verdict("NODE_FAIL", requeue=True)
    bench.slurm.run()
    (path,) = (only_run(place) / "__esis__/tasks").iterdir()
    record = TaskRecord.parse(path.name)
    assert record is not None
    assert record.code is not None
    assert record.end is not None
    path.rename(path.with_name(record._replace(start=record.start - 600, end=record.end - 600).name))
    if forgets and not accounting:
        assert bench.states(place) == {"unknown": 1}
    if forgets:
        bench.slurm.purge()
        age(only_run(place))
    assert bench.states(place) == {"unknown": 1}
    assert "left out" in bench.esis(place, "resubmit").ok().stderr
    assert (only_run(place) / "cwd/did.0").read_text() == "\n"


def test_f306_a_failure_that_a_script_records_itself_is_one_though_it_ends_with_0(bench: Bench) -> None:
    """F306: an EXIT trap of its own; Slurm's COMPLETED is about that very start."""
    place = bench.workflow("a", 1)
    (place / "template.sh").write_text(TEMPLATE.replace("WORKERSCRIPT", "WORKERSCRIPT\nesis_end 3; exit 0"))
    bench.esis(place, "run").ok()
    bench.slurm.run()
    assert bench.states(place) == {"failed": 1}
    assert "1 task" in bench.esis(place, "resubmit").ok().stderr


def test_f309_what_ended_without_a_record_is_not_said_to_be_running(bench: Bench) -> None:
    """F309: whoever wants it done again is told how."""
    place = bench.workflow("a")
    (place / "template.sh").write_text(TEMPLATE.replace("WORKERSCRIPT", f"{UNRECORDED}\nWORKERSCRIPT"))
    bench.esis(place, "run").ok()
    bench.slurm.run()
    said = bench.esis(place, "resubmit").ok().stderr
    assert "running" not in said
    assert "left out, for they have ended, and may be done: 1 (COMPLETED, and no record of the task)" in said
    assert "to do them again: --state unknown" in said
    assert "1 task" in bench.esis(place, "resubmit", "--state", "unknown").ok().stderr
