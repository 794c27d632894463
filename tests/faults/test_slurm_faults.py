"""What Slurm may answer, or not answer, to a submission: one execution, its id recorded, nothing guessed."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from esis.model.workdir import RunDir
from esis.operations.context import Context
from esis.operations.submission import send
from esis.schedulers import slurm as client
from esis.schedulers.query import QUERY_SECONDS
from tests.faults.bench import Bench, only_run
from tests.faults.conftest import FULL
from tests.faults.test_disk import age

SUBMIT = "esis.schedulers.slurm.SUBMIT_SECONDS"
QUERY = "esis.schedulers.query.QUERY_SECONDS"
FLAKY = """#!/bin/sh
echo "$SLURM_ARRAY_TASK_ID" >>"did.$SLURM_ARRAY_TASK_ID"
[ -e ../mended ] || case $SLURM_ARRAY_TASK_ID in 1|4) exit 3;; esac
"""
REFUSALS = (
    "Invalid job array specification",
    "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
    "Requested node configuration is not available",
    "Job dependency problem",
    "Invalid account or account/partition combination specified",
    "Requested time limit is invalid (missing or exceeds some limit)",
)


def submission(place: Path, number: int = 1) -> dict[str, object]:
    """Return a submission's record."""
    found: dict[str, object] = json.loads((only_run(place) / f"__esis__/submissions/{number:04d}.json").read_text())
    return found


def did(place: Path) -> dict[str, int]:
    """Return how often each task did its work."""
    return {path.name: len(path.read_text().splitlines()) for path in (only_run(place) / "cwd").glob("did.*")}


@pytest.mark.parametrize("lookups", [1, 2])
def test_f10_a_lost_reply_is_looked_up_until_the_job_appears(bench: Bench, lookups: int) -> None:
    """F10: sbatch ends with 1, the first look-ups are empty: one job, its id adopted, each task done once."""
    place = bench.workflow("a")
    bench.slurm.fail("sbatch", "lost_reply", seconds=0.7, lookups=lookups)
    shown = bench.esis(place, "run", env={"ESIS_LOOKUP_GRACE": "10"}).ok()
    assert "Socket timed out" in shown.stderr
    assert len(bench.slurm.jobs()) == len(bench.slurm.calls("sbatch")) == 1
    assert submission(place)["jobs"] == [{"id": "1", "cluster": None}]
    assert (only_run(place) / "__esis__/jobid.tx").read_text() == "1\n"
    bench.slurm.run()
    assert did(place) == {f"did.{n}": 1 for n in range(3)}
    assert bench.states(place) == {"done": 3}


def test_f10_a_lost_reply_is_looked_up_on_the_cluster_that_the_template_names(bench: Bench) -> None:
    """F10: elsewhere nobody knows the job, which would prove nothing; the cluster is kept with the id."""
    bench.slurm.set(accounting=True, clusters=["alpha", "fake"])
    place = bench.workflow("a")
    template = (place / "template.sh").read_text()
    (place / "template.sh").write_text(template.replace("#SBATCH --time=5\n", "#SBATCH --time=5\n#SBATCH -M alpha\n"))
    bench.slurm.fail("sbatch", "lost_reply", seconds=0.0, lookups=1)
    bench.esis(place, "run", env={"ESIS_LOOKUP_GRACE": "10"}).ok()
    assert all(call.argv[-2:] == ("-M", "alpha") for call in bench.slurm.calls("squeue"))
    assert submission(place)["jobs"] == [{"id": "1", "cluster": "alpha"}]


def test_f60_a_dependency_of_the_templates_own_holds_for_every_array(bench: Bench) -> None:
    """F60: the command line outranks the script, so it is said there, too."""
    bench.slurm.set(max_array_size=2)
    place = bench.workflow("a", 3)
    template = (place / "template.sh").read_text()
    (place / "template.sh").write_text(template.replace("#ESIS_PRIVATE", "#SBATCH -d singleton\n#ESIS_PRIVATE"))
    bench.esis(place, "run").ok()
    first, second = bench.slurm.calls("sbatch")
    assert not [word for word in first.argv if word.startswith("--dependency")]
    assert "--dependency=singleton" in second.argv
    assert submission(place)["dependency"] == "singleton"


def test_f179_a_job_that_appears_too_late_is_not_taken_for_another_array(bench: Bench) -> None:
    """Two answers were lost: the job of the first array comes while that of the second one is looked for."""
    bench.slurm.set(max_array_size=2)
    place = bench.workflow("a", 4)
    bench.slurm.fail("sbatch", "lost_reply", seconds=0.0, lookups=1)
    bench.slurm.fail("sbatch", "timeout", skip=1)
    bench.esis(place, "run", env={"ESIS_LOOKUP_GRACE": "0"}).ok()
    assert submission(place)["jobs"] == [{"id": "2", "cluster": None}, {"id": "3", "cluster": None}]
    bench.slurm.run()
    assert did(place) == {f"did.{n}": 1 for n in range(4)}
    assert bench.states(place) == {"done": 4}


def test_f10_a_job_that_appears_too_late_does_no_work_twice(bench: Bench) -> None:
    """F10: even when the grace period is over too soon and the array is sent twice, the fence lets one work."""
    place = bench.workflow("a")
    bench.slurm.fail("sbatch", "lost_reply", lookups=1000)
    shown = bench.esis(place, "run").ok()
    assert "submitting again" in shown.stderr
    assert len(bench.slurm.jobs()) == 2
    bench.slurm.reveal()
    bench.slurm.run()
    assert did(place) == {f"did.{n}": 1 for n in range(3)}
    assert bench.states(place) == {"done": 3}


def test_f10_one_look_proves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """F10: at least 30 s and twice MessageTimeout of error-free absence allow a new attempt, and no less."""
    for name, value in bench.env().items():
        monkeypatch.setenv(name, value)
    unbuilt = RunDir(bench.home / "wrkdir.x")
    assert send._grace(unbuilt, client.Slurm(), Context()) == 30.0
    bench.slurm.set(message_timeout=100)
    assert send._grace(unbuilt, client.Slurm(), Context()) == 200.0
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    bench.slurm.set(down=True)
    assert send._grace(RunDir(only_run(place)), client.Slurm(), Context()) == 200.0, "noted when the run was built"


@pytest.mark.parametrize("message", REFUSALS)
def test_f11_a_definite_refusal_is_shown_and_the_next_run_submits(bench: Bench, message: str) -> None:
    """F11: Slurm's own words, the prepared run is kept, the setup script isn't run again; a limit has its own code."""
    place = bench.workflow("a")
    bench.slurm.fail("sbatch", "refuse", message=message, times=None)
    refused = bench.esis(place, "run")
    assert refused.code == (11 if "job submit limit" in message else 5)
    assert message in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    # A limit on the number of jobs may leave room for fewer tasks: 3, then 1.
    assert len(bench.slurm.calls("sbatch")) == (2 if "job submit limit" in message else 1)
    bench.slurm.set(faults=[])
    assert bench.slurm.jobs() == []
    assert bench.states(place) == {"unsubmitted": 3}
    bench.esis(place, "run").ok()
    assert len(bench.slurm.jobs()) == 1
    assert os.listdir(only_run(place) / "__esis__/submissions") == ["0001.json"]
    assert (only_run(place) / "setup-ran").read_text() == "ran\n"


def test_f61_all_that_a_site_says_of_its_refusal_is_shown(bench: Bench) -> None:
    """F61: the reason of job_submit.lua stands before the last line, "Unspecified error"; it is kept as well."""
    place = bench.workflow("a")
    bench.slurm.fail(
        "sbatch",
        "refuse",
        message="Unspecified error",
        before="sbatch: error: name a project\nsbatch: error: ask \x1b[31mhpc@site",
    )
    refused = bench.esis(place, "run")
    assert refused.code == 5
    assert "name a project | sbatch: error: ask \\x1b[31mhpc@site | " in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    bench.esis(place, "run").ok()


def test_f61_a_refusal_that_never_left_the_machine_is_one(bench: Bench) -> None:
    """F61: cli_filter, in the client: exit code 5 at once, no look into the queue, and the next command submits."""
    place = bench.workflow("a")
    bench.slurm.fail(
        "sbatch",
        "client",
        message="sbatch: error: lua: no project\nsbatch: error: cli_filter plugin terminated with error",
    )
    refused = bench.esis(place, "run")
    assert refused.code == 5
    assert "lua: no project" in refused.stderr
    assert bench.slurm.calls("squeue") == []
    assert bench.states(place) == {"unsubmitted": 3}
    bench.esis(place, "run").ok()
    assert len(bench.slurm.jobs()) == 1


@pytest.mark.parametrize("text", ["Welcome to the cluster.\n", "12345 users\nquota: 17\n", "\x1b[1mnews\x1b[0m\n\n"])
def test_f12_a_banner_before_the_id_does_not_matter(bench: Bench, text: str) -> None:
    """F12: the last line that is an id counts."""
    place = bench.workflow("a")
    bench.slurm.fail("sbatch", "banner", text=text)
    bench.esis(place, "run").ok()
    assert submission(place)["jobs"] == [{"id": "1", "cluster": None}]


def test_f12_the_cluster_is_kept_and_asked(bench: Bench) -> None:
    """F12: `id;cluster` is parsed, and later questions name the cluster; without one `-M` is never used."""
    bench.slurm.set(accounting=True, clusters=["alpha", "fake"])
    place = bench.workflow("a")
    bench.slurm.fail("sbatch", "cluster", name="alpha")
    bench.esis(place, "run").ok()
    assert submission(place)["jobs"] == [{"id": "1", "cluster": "alpha"}]
    assert bench.states(place) == {"waiting": 3}
    argv = bench.slurm.calls("squeue")[-1].argv
    assert argv[argv.index("-M") + 1] == "alpha"
    other = bench.workflow("b")
    bench.esis(other, "run").ok()
    bench.esis(other, "status").ok()
    assert "-M" not in bench.slurm.calls("squeue")[-1].argv


def test_f13_sbatch_is_given_the_time_that_its_own_retries_take() -> None:
    """F13: it waits at least 150 s, and more than 200 s as sbatch retries by itself for about 120 s."""
    assert client.SUBMIT_SECONDS >= 150
    assert client.SUBMIT_SECONDS > 200
    assert QUERY_SECONDS >= 30


@pytest.mark.parametrize("accepted", [True, False])
def test_f13_where_sbatch_hangs_and_nobody_can_be_asked_the_outcome_is_unknown(bench: Bench, accepted: bool) -> None:
    """F13: exit code 6, no second submission; later the same command finds out."""
    place = bench.workflow("a")
    bench.slurm.fail("sbatch", "hang", seconds=30, accepted=accepted)
    bench.slurm.fail("squeue", "timeout", times=2)
    unknown = bench.esis(place, "run", patch={SUBMIT: 0.5})
    assert unknown.code == 6, unknown.stderr
    assert "may or may not be queued" in unknown.stderr
    assert len(bench.slurm.calls("sbatch")) == 1
    assert submission(place)["outcome"] == "open"
    assert bench.esis(place, "run").code == 6
    assert len(bench.slurm.calls("sbatch")) == 1
    bench.esis(place, "run").ok()
    assert len(bench.slurm.jobs()) == 1
    assert len(bench.slurm.calls("sbatch")) == (1 if accepted else 2)


def test_f13_a_hanging_sbatch_that_was_heard_is_adopted(bench: Bench) -> None:
    """F13: no answer, but the job is there: its id is recorded by the same command."""
    place = bench.workflow("a")
    bench.slurm.fail("sbatch", "hang", seconds=30, accepted=True)
    shown = bench.esis(place, "run", patch={SUBMIT: 0.5}).ok()
    assert "gave no answer" in shown.stderr
    assert "Slurm has it as job 1" in shown.stderr
    assert len(bench.slurm.jobs()) == 1


def test_f14_without_a_controller_the_intent_is_kept_and_the_next_run_goes_on(bench: Bench) -> None:
    """F14: a clear error naming the controller; when it is back, one submission, without another build."""
    place = bench.workflow("a")
    bench.slurm.set(down=True)
    for _ in range(2):
        refused = bench.esis(place, "run")
        assert refused.code == 6, refused.stderr
        assert "Unable to contact slurm controller" in refused.stderr
        assert "repeat the command" in refused.stderr
    assert submission(place)["outcome"] == "open"
    shown = bench.esis(place, "status")
    assert shown.code == 6
    assert "done" not in shown.stdout
    bench.slurm.set(down=False)
    bench.esis(place, "run").ok()
    assert len(bench.slurm.jobs()) == 1
    assert (only_run(place) / "setup-ran").read_text() == "ran\n"


@pytest.mark.parametrize("started", [False, True])
def test_f15_a_job_that_slurmctld_lost_is_lost_and_never_somebody_elses(bench: Bench, started: bool) -> None:
    """F15: the id is used again by another job: the tasks are unknown, then lost; resubmitted, they are done."""
    place = bench.workflow("a", worker="#!/bin/sh\n[ -e ../mended ] || sleep 30\n")
    bench.esis(place, "run").ok()
    run = only_run(place)
    if started:
        bench.slurm.set(auto=True)
        bench.slurm.kick()
        bench.slurm.wait(lambda: len(list((run / "__esis__/tasks").glob("*.running"))) == 3, what="three tasks")
        bench.slurm.set(auto=False)
    bench.slurm.forget(1)
    other = bench.home / "other"
    other.mkdir()
    (other / "job.sh").write_text("#!/bin/sh\nexit 0\n")
    bench.slurm.call("sbatch", "--array=0-2", "job.sh", cwd=other).check_returncode()
    assert [job.id for job in bench.slurm.jobs()] == [1]
    assert bench.states(place) == {"unknown": 3}
    age(run)
    assert bench.states(place) == {"lost": 3}
    bench.slurm.wait_idle() if started else None
    bench.slurm.run(only=1)
    assert bench.slurm.job(1).states == dict.fromkeys(range(3), "COMPLETED")
    assert bench.states(place) == {"lost": 3}
    (run / "mended").touch()
    bench.esis(place, "resubmit").ok()
    bench.slurm.run()
    assert bench.states(place) == {"done": 3}


def test_f15_an_open_submission_does_not_adopt_another_job(bench: Bench) -> None:
    """F15: of an unanswered submission only a job of this run's own place is adopted, and none of an earlier one."""
    place = bench.workflow("a", 6, worker=FLAKY)
    other = bench.workflow("b")
    bench.esis(place, "run").ok()
    bench.slurm.run()
    bench.esis(other, "run").ok()
    bench.slurm.fail("sbatch", "timeout")
    shown = bench.esis(place, "resubmit").ok()
    assert "submitting again" in shown.stderr
    jobs = [job.id for job in bench.slurm.jobs() if Path(job.workdir).is_relative_to(place)]
    assert len(jobs) == 2
    assert submission(place, 2)["jobs"] == [{"id": str(jobs[1]), "cluster": None}]


def test_f16_of_an_array_submitted_twice_one_does_the_work(bench: Bench) -> None:
    """F16: the fence: every task works once, the other array's tasks step aside with 0, and the run is complete."""
    place = bench.workflow("a", 20)
    bench.esis(place, "run").ok()
    run = only_run(place)
    again = bench.slurm.call(
        "sbatch", "--parsable", "../sbatch.sh", cwd=run / "cwd", env={"SLURM_ESIS_SUBMISSION": "0001"}
    )
    assert again.stdout == "2\n"
    bench.slurm.run(parallel=8)
    assert did(place) == {f"did.{n}": 1 for n in range(20)}
    logs = [path.read_text() for path in (run / "cwd").glob("slurm-*.out")]
    assert len(logs) == 40
    assert sum("steps aside" in log for log in logs) == 20
    assert bench.states(place) == {"done": 20}


@pytest.mark.parametrize("how", ["missing", "disabled", "empty", "failing"])
def test_f17_without_accounting_queue_and_records_count(bench: Bench, how: str) -> None:
    """F17: one warning at most, the states come from squeue and the tasks' records, failures included."""
    place = bench.workflow("a", 6, worker=FLAKY)
    if how in ("empty", "failing"):
        bench.slurm.set(accounting=True)
        bench.slurm.fail("sacct", "empty" if how == "empty" else "error", times=None)
    if how == "missing":
        bench.without = ("sacct",)
    bench.esis(place, "run").ok()
    bench.slurm.run()
    bench.slurm.purge()
    age(only_run(place))
    shown = bench.esis(place, "status").ok()
    assert shown.stdout.splitlines()[1:] == ["done\t4\t0,2-3,5", "failed\t2\t1,4\texit code 3"]
    assert len(shown.stderr.splitlines()) <= 1
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("kind", ["timeout", "error", "hang"])
def test_f18_where_squeue_gives_no_answer_the_last_known_state_is_shown_with_its_age(bench: Bench, kind: str) -> None:
    """F18: exit code 6, the records' states and how old they are; nothing counts as done or failed for that."""
    place = bench.workflow("a", 4)
    bench.esis(place, "run").ok()
    bench.slurm.run(max_tasks=2)
    age(only_run(place))
    details = {"seconds": 20} if kind == "hang" else {}
    bench.slurm.fail("squeue", kind, times=None, **details)
    shown = bench.esis(place, "status", patch={QUERY: 0.5})
    assert shown.code == 6
    assert "s old" in shown.stderr
    assert "could not be asked" in shown.stderr
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("unknown")]
    assert line.split("\t")[1:3] == ["2", "2-3"]
    assert "failed" not in shown.stdout + shown.stderr
    assert "lost" not in shown.stdout
    assert bench.esis(place, "status", "--check", patch={QUERY: 0.5}).code != 0


def test_f19_purged_without_accounting_and_records_is_unknown(bench: Bench) -> None:
    """F19: a script that writes no records, forgotten by Slurm: unknown, not done, and not resubmitted by itself."""
    place = bench.workflow("a")
    bench.esis(place, "run", "--no-task-records").ok()
    bench.slurm.run()
    bench.slurm.purge()
    assert bench.states(place) == {"unknown": 3}
    age(only_run(place), 10_000)
    assert bench.states(place) == {"unknown": 3}
    bench.esis(place, "resubmit").ok()
    bench.esis(place, "run").ok()
    assert len(bench.slurm.jobs()) == 1
    assert (only_run(place) / "__esis__/completed.state").read_text() == "0"


def test_f19_purged_with_its_records_deleted_is_not_done(bench: Bench) -> None:
    """F19: where records were to be written and there are none, the tasks count as lost after the grace period."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    bench.slurm.run()
    bench.slurm.purge()
    run = only_run(place)
    for record in (run / "__esis__/tasks").iterdir():
        record.unlink()
    assert bench.states(place) == {"unknown": 3}
    age(run)
    assert bench.states(place) == {"lost": 3}


WAITING = "PENDING CONFIGURING REQUEUED REQUEUE_HOLD REQUEUE_FED RESV_DEL_HOLD SPECIAL_EXIT EXPEDITING"
ACTIVE = "RUNNING COMPLETING RESIZING SIGNALING STAGE_OUT SUSPENDED STOPPED"
FAILED = "FAILED TIMEOUT DEADLINE OUT_OF_MEMORY NODE_FAIL BOOT_FAIL LAUNCH_FAILED CANCELLED PREEMPTED"
UNKNOWN = "FROBNICATED POWERING_DOWN"


def test_f20_every_state_is_mapped_and_an_unknown_word_is_kept(bench: Bench) -> None:
    """F20: waiting, active and failed states as SLURM.md classes them; another word is unknown, verbatim."""
    words = {
        **dict.fromkeys(WAITING.split(), "waiting"),
        **dict.fromkeys(ACTIVE.split(), "running"),
        **dict.fromkeys(FAILED.split(), "failed"),
        **dict.fromkeys(UNKNOWN.split(), "unknown"),
    }
    place = bench.workflow("a", len(words))
    bench.esis(place, "run", "-m", "0").ok()
    for task, word in enumerate(words):
        bench.slurm.set_state(1, word, task)
    rows = json.loads(bench.esis(place, "status", "--tasks", "--json").stdout)["rows"]
    found = {word: (row["state"], row["reason"]) for word, row in zip(words, rows)}
    assert {word: state for word, (state, _) in found.items()} == words
    for word in UNKNOWN.split():
        assert word in found[word][1]
    for word in FAILED.split()[1:]:
        assert found[word][1] == word


def test_f20_cancelled_by_somebody_is_cancelled(bench: Bench) -> None:
    """F20: sacct says "CANCELLED by 1000"; the first word counts."""
    bench.slurm.set(accounting=True)
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    bench.slurm.call("scancel", "1").check_returncode()
    bench.slurm.purge()
    assert "CANCELLED by" in bench.slurm.call("sacct", "-X", "-n", "-P", "-j", "1", "-o", "State").stdout
    shown = json.loads(bench.esis(place, "status", "--json").stdout)["states"]
    assert shown == {"failed": {"count": 3, "tasks": "0-2", "reasons": {"CANCELLED": "0-2"}}}


def test_f21_a_requeued_task_counts_once(bench: Bench) -> None:
    """F21: its node dies, Slurm starts it again: the same id, restart 1, one record of success."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    bench.slurm.verdict("NODE_FAIL", job=1, task=1, requeue=True)
    bench.slurm.run()
    task = bench.slurm.job(1).task(1)
    assert (task.restarts, task.state) == (1, "COMPLETED")
    run = only_run(place)
    ends = [path.name.split(".") for path in (run / "__esis__/tasks").glob("1.*.exit0.*")]
    assert max(int(restart) for _, _, _, restart, *_ in ends) == 1
    assert bench.states(place) == {"done": 3}
    assert len(bench.slurm.jobs()) == 1


@pytest.mark.parametrize("killed", [True, False])
def test_f21_a_lost_node_without_requeue_is_a_failure_that_can_be_resubmitted(bench: Bench, killed: bool) -> None:
    """F21: NODE_FAIL outranks a record of success; the task, and it alone, is resubmitted."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    bench.slurm.verdict("NODE_FAIL", job=1, task=1, run=not killed)
    bench.slurm.run()
    shown = json.loads(bench.esis(place, "status", "--json").stdout)["states"]
    assert shown["failed"]["reasons"] == {"NODE_FAIL": "1"}
    assert shown["done"]["count"] == 2
    bench.esis(place, "resubmit").ok()
    assert submission(place, 2)["tasks"] == "1"
    bench.slurm.run()
    assert bench.states(place) == {"done": 3}


def test_f22_only_what_failed_is_resubmitted_and_not_what_ended_meanwhile(bench: Bench) -> None:
    """F22: tasks 1 and 4 failed; 1 was rerun by hand and is done by the time of `resubmit`: 4 alone is submitted."""
    place = bench.workflow("a", 6, worker=FLAKY)
    bench.esis(place, "run").ok()
    bench.slurm.run()
    run = only_run(place)
    assert bench.states(place) == {"done": 4, "failed": 2}
    (run / "mended").touch()
    bench.slurm.call("sbatch", "--parsable", "--array=1", "../sbatch.sh", cwd=run / "cwd").check_returncode()
    time.sleep(1.1)  # the records' clock counts whole seconds
    bench.slurm.run()
    shown = bench.esis(place, "resubmit", "--tasks", "1,4").ok()
    assert "left out, for they are done: 1;" in shown.stderr
    assert submission(place, 2)["tasks"] == "4"
    bench.slurm.run()
    assert bench.states(place) == {"done": 6}
    assert did(place) == {**{f"did.{n}": 1 for n in (0, 2, 3, 5)}, "did.1": 2, "did.4": 2}


def test_f22_what_waits_or_runs_is_left_alone(bench: Bench) -> None:
    """F22: while some tasks failed and others still wait, only the failed ones are submitted again."""
    place = bench.workflow("a", 6, worker=FLAKY)
    bench.esis(place, "run").ok()
    bench.slurm.run(max_tasks=3)
    assert bench.states(place) == {"done": 2, "waiting": 3, "failed": 1}
    bench.esis(place, "resubmit").ok()
    assert submission(place, 2)["tasks"] == "1"
    assert "nothing to resubmit" in bench.esis(place, "resubmit").ok().stderr
    (only_run(place) / "mended").touch()
    bench.slurm.run()
    assert bench.states(place) == {"done": 6}
    assert did(place) == {**{f"did.{n}": 1 for n in (0, 2, 3, 4, 5)}, "did.1": 2}


def test_f23_scattered_tasks_look_their_index_up_in_a_map(bench: Bench) -> None:
    """F23: beyond the limit of an array specification a dense array runs the very tasks that were chosen."""
    place = bench.workflow("a", 12)
    bench.esis(place, "run", "-m", "0").ok()
    bench.slurm.verdict("FAILED", run=False)
    bench.slurm.run()
    bench.slurm.set(verdicts={})
    chosen = [1, 3, 4, 7, 11]
    limit = {"esis.operations.submission.arrays.ARRAY_SPEC_LIMIT": 5}
    bench.esis(place, "resubmit", "--tasks", "1,3-4,7,11", patch=limit).ok()
    record = submission(place, 2)
    assert (record["mapped"], record["tasks"]) == (True, "1,3-4,7,11")
    assert record["arrays"] == [{"array": "0-4%10", "offset": 0, "tasks": 5}]
    bench.slurm.verdict("FAILED", job=bench.slurm.jobs()[-1].id, task=3)  # position 3 is task 7
    bench.slurm.run()
    assert did(place) == {f"did.{n}": 1 for n in chosen}
    rows = json.loads(bench.esis(place, "status", "--tasks", "--json").stdout)["rows"]
    assert [row["task"] for row in rows if row["state"] == "done"] == [1, 3, 4, 11]
    bench.slurm.set(verdicts={})
    bench.esis(place, "resubmit", patch=limit).ok()
    assert submission(place, 3)["tasks"] == "0,2,5-10"
    bench.slurm.run()
    assert bench.states(place) == {"done": 12}
    assert did(place) == {f"did.{n}": 2 if n == 7 else 1 for n in range(12)}


def test_f23_a_rerun_by_hand_of_scattered_tasks_is_cancelled_by_its_own_indices(bench: Bench) -> None:
    """F23, F45: the job isn't recorded, and runs the latest script: task 7 is its element 3."""
    place = bench.workflow("a", 12)
    bench.esis(place, "run", "-m", "0").ok()
    bench.slurm.verdict("FAILED", run=False)
    bench.slurm.run()
    bench.slurm.set(verdicts={})
    bench.esis(
        place, "resubmit", "--tasks", "1,3-4,7,11", patch={"esis.operations.submission.arrays.ARRAY_SPEC_LIMIT": 5}
    ).ok()
    bench.slurm.run()
    bench.slurm.call("sbatch", "--hold", "../sbatch.sh", cwd=only_run(place) / "cwd").check_returncode()
    job = bench.slurm.jobs()[-1].id
    bench.esis(place, "cancel", "--tasks", "7").ok()
    assert {index for index, state in bench.slurm.job(job).states.items() if state == "CANCELLED"} == {3}


def test_f23_fifty_thousand_scattered_failures_are_resubmitted_by_one_call(bench: Bench) -> None:
    """F23: every second task failed (50,000 with ci/faults, 3,000 else): one sbatch, the map names them all."""
    number = 100_000 if FULL else 6_000
    place = bench.workflow("a")
    (place / "gen.sh").write_text(
        f"#!{sys.executable}\nfor n in range({number}):\n"
        "    open(f'parameters.{n}.json', 'w').write(str(n))\n"
        f"print({number})\n"
    )
    bench.slurm.set(max_array_size=number + 1, max_job_count=1_000_000)
    bench.esis(place, "run").ok()
    bench.slurm.set_state(1, "FAILED", range(0, number, 2))
    bench.slurm.set_state(1, "COMPLETED", range(1, number, 2))
    bench.esis(place, "resubmit").ok()
    assert len(bench.slurm.calls("sbatch")) == 2
    lines = (only_run(place) / "__esis__/submissions/0002.map").read_text().splitlines()
    assert lines == [str(task) for task in range(0, number, 2)]
    assert bench.slurm.jobs()[-1].pending == tuple(range(number // 2))
    assert bench.states(place)["waiting"] == number // 2


def test_f24_a_submit_limit_leaves_the_run_unsubmitted_and_one_command_goes_on(bench: Bench) -> None:
    """F24: where not even one task of the second run has room: a refusal, and the same command later goes on."""
    bench.slurm.set(submit_limit=3)
    first, second = bench.workflow("a"), bench.workflow("b", requires=["a"])
    refused = bench.esis(second, "dependency")
    assert refused.code == 11
    assert "AssocMaxSubmitJobLimit" in refused.stderr or "job submit limit" in refused.stderr
    assert (bench.states(first), bench.states(second)) == ({"waiting": 3}, {"unsubmitted": 3})
    bench.slurm.run()
    bench.esis(second, "dependency").ok()
    assert len(bench.slurm.jobs()) == 2
    bench.slurm.run()
    assert bench.states(second) == {"done": 3}


def test_f24_nothing_waits_for_a_frozen_run_that_is_submitted_in_part(bench: Bench) -> None:
    """F24: ESIS doesn't submit the rest of a frozen run, so its dependants would start when the part is done."""
    bench.slurm.set(submit_limit=2)
    first, second = bench.workflow("a"), bench.workflow("b", requires=["a"])
    bench.esis(first, "run")
    assert bench.states(first) == {"waiting": 1, "unsubmitted": 2}
    run = only_run(first)
    bench.esis(second, "freeze-requirement", "a", run.name.partition(".")[2]).ok()
    bench.slurm.set(submit_limit=0)
    refused = bench.esis(second, "dependency")
    assert (refused.code, f"esis resubmit {run} --unsubmitted" in refused.stderr) == (3, True)
    assert "tasks 1-2 were never submitted" in refused.stderr
    bench.esis(second, "resubmit", str(run), "--unsubmitted").ok()
    bench.esis(second, "dependency").ok()
    bench.slurm.run()
    assert bench.states(second) == {"done": 3}


@pytest.mark.parametrize("version", ["22.05.8", "24.11.5"])
def test_f26_a_dependant_of_a_failed_and_purged_run_does_not_start(bench: Bench, version: str) -> None:
    """F26: Slurm lifts the dependency on a job that it has forgotten: the job's own check stops it, naming the run."""
    bench.slurm.set(version=version)
    parent = bench.workflow("a", worker="#!/bin/sh\nexit 3\n")
    child = bench.workflow("b", requires=["a"])
    env = {"ESIS_REQUIREMENT_WAIT": "0"}
    bench.esis(child, "dependency", env=env).ok()
    bench.slurm.run()
    bench.slurm.purge(1)
    bench.slurm.run()
    assert did(child) == {}
    refused = bench.esis(child, "dependency")
    assert refused.code == 3
    assert str(only_run(parent)) in refused.stderr
    if bench.slurm.job(2).states == dict.fromkeys(range(3), "FAILED"):
        log = next((only_run(child) / "cwd").glob("slurm-2_*.out")).read_text()
        assert str(only_run(parent)) in log
    assert "done" not in bench.states(child)


def test_f26_a_parent_whose_id_was_used_again_is_not_waited_for(bench: Bench) -> None:
    """F26: slurmctld lost the parent and gave its id to another job: nothing is queued behind that one."""
    parent = bench.workflow("a")
    child = bench.workflow("b", requires=["a"])
    bench.esis(parent, "run").ok()
    bench.slurm.forget(1)
    stranger = bench.workflow("c")
    bench.esis(stranger, "run").ok()
    assert bench.slurm.job(1).workdir.startswith(str(stranger))
    age(only_run(parent))
    refused = bench.esis(child, "dependency")
    assert refused.code == 3
    assert str(only_run(parent)) in refused.stderr
    assert len(bench.slurm.jobs()) == 1
    assert list(child.glob("wrkdir.*")) == []


@pytest.mark.parametrize("version", ["22.05.8", "24.11.5"])
@pytest.mark.parametrize("good", [True, False])
def test_f27_a_parent_that_ends_between_check_and_sbatch(bench: Bench, version: str, good: bool) -> None:
    """F27: the child runs if and only if the parent's records are complete, and there is one job of it in the end."""
    bench.slurm.set(version=version)
    parent = bench.workflow("a", worker="#!/bin/sh\nexit 0\n" if good else "#!/bin/sh\nexit 3\n")
    child = bench.workflow("b", requires=["a"])
    bench.esis(parent, "run").ok()
    control = f"{sys.executable} -m tests.fakes.control {bench.slurm.state_dir}"
    bench.wrap(
        "sbatch",
        f'cd {Path(__file__).parents[2]} && {control} run >&2 && {control} purge 1 >&2\ncd "$OLDPWD" && exec REAL "$@"',
    )
    env = {"ESIS_REQUIREMENT_WAIT": "0"}
    first = bench.esis(child, "dependency", env=env)
    bench.unwrap()
    if first.code != 0:  # from 23.02 on Slurm refuses a dependency on what it doesn't know
        assert first.code == 5, first.stderr
        again = bench.esis(child, "dependency", env=env)
        assert again.code == (0 if good else 3), again.stderr
    bench.slurm.run()
    jobs = [job for job in bench.slurm.jobs() if Path(job.workdir).is_relative_to(child)]
    assert did(child) == ({f"did.{n}": 1 for n in range(3)} if good else {})
    assert len(jobs) == 1 if good else len(jobs) <= 1
    assert bench.states(child) == {"done": 3} if good else "done" not in bench.states(child)


@pytest.mark.parametrize("version", ["22.05.8", "24.11.5"])
def test_f27_a_lost_submission_of_a_child_is_sent_behind_what_its_parent_is_now(bench: Bench, version: str) -> None:
    """F27: sent again, it waits for its parent's present job, not for one that failed and is forgotten."""
    bench.slurm.set(version=version)
    parent = bench.workflow("a", worker=FLAKY, tasks=6)
    child = bench.workflow("b", requires=["a"])
    bench.slurm.fail("sbatch", "timeout", skip=1)
    bench.slurm.fail("squeue", "timeout", times=1)
    assert bench.esis(child, "dependency").code == 6
    bench.slurm.run()
    bench.slurm.purge()
    (only_run(parent) / "mended").touch()
    bench.esis(parent, "resubmit").ok()
    shown = bench.esis(child, "dependency").ok()
    jobs = {str(Path(job.workdir).relative_to(bench.home))[0]: job for job in bench.slurm.jobs()}
    assert [target for _, target, _ in jobs["b"].dependency] == [jobs["a"].id], shown.stderr
    bench.slurm.run()
    assert bench.states(child) == {"done": 3}
