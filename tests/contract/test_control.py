"""Status, resubmission and control of a run, on the fake and on the real cluster alike."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.contract.site import BIN, TEMPLATE, WORKER, FakeSite, Site, make_workflow, until

FLAKY = (
    WORKER
    + """
[ -e ../mended ] || case $SLURM_ARRAY_TASK_ID in 1|4) echo "bad beta=$SLURM_ARRAY_TASK_ID" >&2; exit 3;; esac
"""
)
SLOW = WORKER + "while ! [ -e ../go ]; do sleep 0.1; done\n"


def mend(site: Site, run: Path) -> None:
    """Let the flaky tasks succeed."""
    site.run(["touch", "mended"], run).ok()


def test_a_task_that_saved_its_state_is_resumable(site: Site) -> None:
    """Its worker leaves the marker, the record tells, and `esis resubmit --resumable` takes it."""
    worker = """#!/bin/sh
set -e
n=$SLURM_ARRAY_TASK_ID
[ "$n" != 2 ] || exit 3
[ -e "state.$n" ] && echo more >>"state.$n" && exit 0
echo begun >"state.$n"
[ "$n" != 1 ] || exit 0
: >"$SLURM_ESIS_RECORD.resume"
exit 75
"""
    flow = make_workflow(site, "resumable", 4, worker=worker)
    flow.esis("run").ok()
    site.settle()
    rows = json.loads(flow.esis("status", "--tasks", "--json").stdout)["rows"]
    assert [(row["state"], row["reason"]) for row in rows] == [
        ("failed", "resumable"),
        ("done", ""),
        ("failed", "exit code 3"),
        ("failed", "resumable"),
    ]
    assert flow.esis("resubmit", "--resumable", "--tasks", "2").ok().stderr.count("nothing to resubmit") == 1
    assert "2 tasks (0,3%10)" in flow.esis("resubmit", "--resumable").ok().stderr
    site.settle()
    assert flow.states() == {"done": 3, "failed": 1}
    states = {path.name: path.read_text() for path in flow.only_run().glob("cwd/state.*")}
    assert states == {"state.0": "begun\nmore\n", "state.1": "begun\n", "state.3": "begun\nmore\n"}


def test_only_what_failed_is_resubmitted(site: Site) -> None:
    """The same run, indices and parameters; the setup script isn't run again; the run becomes complete."""
    flow = make_workflow(site, "flaky", 6, worker=FLAKY)
    flow.esis("run").ok()
    site.settle()
    run = flow.only_run()
    assert flow.states() == {"done": 4, "failed": 2}
    mend(site, run)
    shown = flow.esis("resubmit").ok()
    assert "2 tasks (1,4%10)" in shown.stderr
    site.settle()
    assert flow.states() == {"done": 6}
    record = json.loads((run / "__esis__/submissions/0002.json").read_text())
    assert record["tasks"] == "1,4"
    attempts = [path.name.split(".")[0] for path in (run / "__esis__/tasks").iterdir()]
    assert sorted(attempts) == ["0", "1", "1", "2", "3", "4", "4", "5"]
    assert len((run / "setup-ran").read_text().splitlines()) == 1
    again = flow.esis("resubmit").ok()
    assert "nothing to resubmit" in again.stderr
    assert site.submissions() == 2


def test_tasks_are_chosen_by_index_state_and_parameters(site: Site) -> None:
    """--tasks, --failed and --where; done tasks are left out with a note; at most N attempts."""
    flow = make_workflow(site, "chosen", 6, worker=FLAKY)
    flow.esis("run").ok()
    site.settle()
    assert "left out, for they are done: 0" in flow.esis("resubmit", "--tasks", "0-1").ok().stderr
    site.settle()
    flow.esis("resubmit", "--where", "n>3 and square==16").ok()
    site.settle()
    tasks = [
        json.loads(path.read_text())["tasks"]
        for path in sorted((flow.only_run() / "__esis__/submissions").glob("*.json"))
    ]
    assert tasks == ["0-5", "1", "4"]
    worn = flow.esis("resubmit", "--failed", "--max-attempts", "2").ok()
    assert "left out after 2 attempts: 1,4" in worn.stderr
    assert flow.esis("resubmit", "--tasks", "99").code == 2
    assert flow.esis("resubmit", "--where", "gamma==1").code == 2
    assert site.submissions() == 3


def test_active_tasks_are_refused(site: Site) -> None:
    """What is waiting or running can't be submitted a second time."""
    flow = make_workflow(site, "active", 3, worker=SLOW)
    flow.esis("run").ok()
    run = flow.only_run()
    refused = flow.esis("resubmit", "--tasks", "1")
    assert refused.code == 2
    assert "waiting or running" in refused.stderr
    site.run(["touch", "go"], run).ok()
    site.settle()
    assert site.submissions() == 1


def test_sbatch_options_outrank_the_template_and_are_recorded(site: Site) -> None:
    """Behind `--`; and computed by --scale-time from what was requested."""
    flow = make_workflow(
        site, "options", 2, worker=WORKER + 'echo "$SLURM_JOB_NAME" >"name.$SLURM_ARRAY_TASK_ID"\n[ -e ../mended ]\n'
    )
    flow.esis("run").ok()
    site.settle()
    run = flow.only_run()
    flow.esis("resubmit", "--scale-time", "1.5", "--", "--job-name=again").ok()
    site.settle()
    record = json.loads((run / "__esis__/submissions/0002.json").read_text())
    assert record["options"] == ["--job-name=again", "--time=0-00:08:00"]
    assert (run / "cwd/name.0").read_text() == "again\n"
    for options in (["--array=0-9"], ["-a", "1"], ["--dep=singleton"], ["--wrap", "x"], ["script.sh"]):
        assert flow.esis("resubmit", "--", *options).code == 2, options


def test_status_shows_rows_groups_and_conditions(site: Site) -> None:
    """--tasks joins the parameters, --group-by counts by a value, --csv and --json hold the same."""
    flow = make_workflow(site, "rows", 6, worker=FLAKY)
    flow.esis("run").ok()
    site.settle()
    rows = list(csv.DictReader(io.StringIO(flow.esis("status", "--tasks", "--csv").ok().stdout)))
    assert [row["state"] for row in rows] == ["done", "failed", "done", "done", "failed", "done"]
    assert [row["square"] for row in rows] == ["0", "1", "4", "9", "16", "25"]
    assert rows[1]["code"] == "3"
    failed = json.loads(flow.esis("status", "--state", "failed", "--json").ok().stdout)["rows"]
    assert [(row["task"], row["reason"]) for row in failed] == [(1, "exit code 3"), (4, "exit code 3")]
    lines = flow.esis("status", "--tasks", "--where", "n>3").ok().stdout.splitlines()
    assert lines[0].split("\t")[:2] == ["task", "state"]
    assert [line.split("\t")[0] for line in lines[1:]] == ["4", "5"]
    file = "wf.esis.json"
    for arguments in (
        ["--tasks", "3,5"],
        ["-t3,5"],
        ["--only", "3,5"],
        ["--tasks=3,5", file],
        [file, "--tasks", "3,5"],
        ["--tasks", "--only", "3,5"],
        ["--only", "3,5", "--tasks", file],
    ):
        lines = flow.esis("status", *arguments).ok().stdout.splitlines()
        assert [line.split("\t")[0] for line in lines] == ["task", "3", "5"], arguments
    assert len(flow.esis("status", "--tasks", file).ok().stdout.splitlines()) == 7, "a word that means no tasks"
    assert flow.esis("status", "--tasks", "3", "--only", "4").code == 2
    grouped = flow.esis("status", "--group-by", "n", "--csv").ok().stdout.splitlines()
    assert grouped[0] == "n,tasks,done,failed"
    assert grouped[2] == "1,1,0,1"
    assert flow.esis("status", "--check").code == 8


def test_errors_are_grouped_by_their_last_words(site: Site) -> None:
    """One group for what differs only in numbers, with the count, the tasks and one log."""
    flow = make_workflow(site, "errors", 6, worker=FLAKY)
    flow.esis("run").ok()
    site.settle()
    (group,) = json.loads(flow.esis("errors", "--json").ok().stdout)["groups"]
    assert (group["count"], group["tasks"], group["reason"]) == (2, "1,4", "exit code 3")
    assert group["line"] == "bad beta=1"
    assert group["example"].endswith("_1.out")
    assert "bad beta=4" in flow.esis("log", "4").ok().stdout
    assert flow.esis("log", "4", "--grep", "^bad").ok().stdout == "bad beta=4\n"
    assert flow.esis("log", "0", "--path").ok().stdout.strip().endswith("_0.out")
    assert flow.esis("log", "77").code == 2


def test_waiting_and_running_tasks_are_cancelled(site: Site) -> None:
    """Some first, then the rest; afterwards nothing is active, and they can be resubmitted."""
    flow = make_workflow(site, "cancel", 4, worker=SLOW, options=["-m", "2"])
    flow.esis("run").ok()
    run = flow.only_run()
    until(lambda: flow.states().get("running") == 2, 60)
    assert flow.states() == {"running": 2, "waiting": 2}
    flow.esis("cancel", "--tasks", "0").ok()
    assert flow.states().get("failed") == 1
    flow.esis("cancel", "--pending").ok()
    assert set(flow.states()) == {"running", "failed"}
    flow.esis("cancel").ok()
    assert flow.states() == {"failed": 4}
    assert flow.esis("cancel").code == 2
    site.run(["touch", "go"], run).ok()
    flow.esis("resubmit").ok()
    site.settle()
    assert flow.states() == {"done": 4}


@pytest.mark.parametrize("by_esis", [True, False])
def test_f81_a_done_task_that_is_queued_again_and_cancelled_is_done(site: Site, by_esis: bool) -> None:
    """F81: Slurm's word on an attempt that never began says nothing of the one before."""
    flow = make_workflow(site, "again", 2)
    flow.esis("run").ok()
    until(lambda: flow.states() == {"done": 2}, 90)
    run = flow.only_run()
    element = f"{(run / '__esis__/jobid.tx').read_text().strip()}_1"
    if isinstance(site, FakeSite):
        site.slurm.set(requeue_delay=60.0)  # a real one lets two minutes pass
    for word in ("requeue", "hold"):
        site.run(["scontrol", word, element], run).ok()
    (run / "__esis__/complete").unlink()
    assert flow.states() == {"done": 1, "waiting": 1}
    if by_esis:
        told = flow.esis("cancel", "--tasks", "1").ok().stderr
        assert ("done all the same: 1" in told, "cancelled: 1" in told) == (True, False)
    else:
        site.run(["scancel", element], run).ok()
    until(lambda: flow.states().get("waiting") is None, 30)
    assert flow.states() == {"done": 2}


def test_the_throttle_of_a_queued_array_is_changed_live(site: Site) -> None:
    """`esis throttle N` lets more tasks run."""
    flow = make_workflow(site, "throttle", 4, worker=SLOW, options=["-m", "1"])
    flow.esis("run").ok()
    until(lambda: flow.states().get("running") == 1, 60)
    flow.esis("throttle", "3").ok()
    until(lambda: flow.states().get("running") == 3, 60)
    site.run(["touch", "go"], flow.only_run()).ok()
    assert flow.esis("wait", "--interval", "0.5").ok().stderr
    assert flow.states() == {"done": 4}
    assert flow.esis("throttle", "2").code == 2


def test_wait_tells_by_its_exit_code(site: Site) -> None:
    """0 for a complete run, 8 where tasks failed, 9 when the time is over."""
    flow = make_workflow(site, "wait", 2, worker=SLOW + "exit 4\n")
    flow.esis("run").ok()
    assert flow.esis("wait", "--timeout", "0").code == 9
    assert flow.esis("status", "--check").code == 9
    site.run(["touch", "go"], flow.only_run()).ok()
    assert flow.esis("wait", "--interval", "0.5").code == 8


def test_a_run_is_named_by_its_directory_or_from_inside(site: Site) -> None:
    """Every command takes the workflow file, the wrkdir, or nothing inside of a wrkdir."""
    flow = make_workflow(site, "named", 2)
    flow.esis("run").ok()
    site.settle()
    run = flow.only_run()
    shown = flow.esis("status").ok().stdout
    assert flow.esis("status", run.name).ok().stdout == shown
    assert flow.esis("status", "wf.esis.json").ok().stdout == shown
    assert site.run(["esis", "status"], run / "cwd").ok().stdout == shown


def test_without_task_records_slurm_is_the_witness(site: Site) -> None:
    """--no-task-records and scripts of other languages: no hook in sbatch.sh, squeue's word counts."""
    flow = make_workflow(site, "hookless", 2)
    flow.esis("run", "--no-task-records").ok()
    site.settle()
    run = flow.only_run()
    assert "esis" not in (run / "sbatch.sh").read_text()
    assert os.listdir(run / "__esis__/tasks") == []
    assert flow.states() == {"done": 2}
    template = "#!/usr/bin/env python3\n#SBATCH TASKARRAYDEFINITION\nimport os\nos.system('WORKERSCRIPT')\n"
    python = make_workflow(site, "python", 2, template=template)
    python.esis("run").ok()
    site.settle()
    assert python.states() == {"done": 2}
    assert (python.only_run() / "cwd/seen.1").exists()


def test_a_script_with_its_own_exit_trap_is_handled(site: Site) -> None:
    """The record of the end is missing then: Slurm's COMPLETED counts; with esis_end in the trap it isn't missing."""
    own = TEMPLATE.replace("srun WORKERSCRIPT", "trap 'rm -f scratch' EXIT\nsrun WORKERSCRIPT")
    flow = make_workflow(site, "trap", 2, template=own)
    flow.esis("run").ok()
    site.settle()
    assert flow.states() == {"done": 2}
    kind = own.replace("trap 'rm -f scratch' EXIT", "trap 'code=$?; rm -f scratch; esis_end $code' EXIT")
    kind_flow = make_workflow(site, "kindtrap", 2, template=kind, worker="#!/bin/sh\nexit 5\n")
    kind_flow.esis("run").ok()
    site.settle()
    shown = json.loads(kind_flow.esis("status", "--json").ok().stdout)
    assert shown["states"]["failed"]["reasons"] == {"exit code 5": "0-1"}


def test_cancelling_a_local_run_gives_its_tasks_back(tmp_path: Path) -> None:
    """As Ctrl-C does: what isn't finished is unsubmitted again, and the same command goes on."""
    site = FakeSite(tmp_path)
    flow = make_workflow(site, "local", 4, worker=SLOW)
    first = subprocess.Popen(
        [BIN / "esis", "run", "--local", "-j", "2"],
        cwd=flow.directory,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    until(lambda: len(list(flow.directory.glob("wrkdir.*/__esis__/tasks/*.running"))) == 2, 30)
    flow.esis("cancel").ok()
    _, said = first.communicate(timeout=30)
    assert first.returncode == 130, said
    assert flow.states() == {"unsubmitted": 4}
    (flow.only_run() / "go").touch()
    flow.esis("run", "--local").ok()
    assert flow.states() == {"done": 4}


@pytest.mark.parametrize("part", [("--pending",), ("--tasks", "0"), ("--tasks", "0-2")])
def test_a_part_of_a_local_run_is_not_cancelled(tmp_path: Path, part: tuple[str, ...]) -> None:
    """It ends as a whole: anything less is refused, and nothing is signalled; all tasks by name are all of it."""
    flow = make_workflow(FakeSite(tmp_path), "local", 4, worker=SLOW)
    first = subprocess.Popen(
        [BIN / "esis", "run", "--local", "-j", "2"],
        cwd=flow.directory,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    until(lambda: len(list(flow.directory.glob("wrkdir.*/__esis__/tasks/*.running"))) == 2, 30)
    refused = flow.esis("cancel", *part)
    assert refused.code == 2
    assert "as a whole" in refused.stderr
    assert "esis cancel without options" in refused.stderr
    assert flow.states() == {"running": 2, "waiting": 2}
    assert "cancelled: 0-3" in flow.esis("cancel", "--tasks", "0-3").ok().stderr
    _, said = first.communicate(timeout=30)
    assert first.returncode == 130, said
    assert flow.states() == {"unsubmitted": 4}


def test_local_runs_are_resubmitted_locally(tmp_path: Path) -> None:
    """`esis resubmit --local` reruns the failed tasks here."""
    site = FakeSite(tmp_path)
    flow = make_workflow(site, "local", 6, worker=FLAKY)
    assert flow.esis("run", "--local").code == 8
    again = flow.esis("resubmit", "--local", "--tasks", "4")
    assert (again.code, "1 of 1 tasks failed (4: exit code 3);" in again.stderr) == (8, True), again.stderr
    mend(site, flow.only_run())
    flow.esis("resubmit", "--local").ok()
    assert flow.states() == {"done": 6}
    assert site.submissions() == 0


def test_a_dependant_of_a_failed_run_is_revived(site: Site) -> None:
    """Its requirement failed, was resubmitted and is complete: esis dependency frees the job that waited for ever."""
    first = make_workflow(site, "a", 2, worker=FLAKY)
    second = make_workflow(site, "b", 2)
    second.esis("require", "../a/wf.esis.json", "a").ok()
    second.esis("dependency").ok()
    site.settle()
    assert first.states() == {"done": 1, "failed": 1}
    stuck = json.loads(second.esis("status", "--json").ok().stdout)
    assert stuck["states"]["waiting"]["reasons"] == {"DependencyNeverSatisfied": "0-1"}
    assert second.esis("dependency").code == 3
    mend(site, first.only_run())
    first.esis("resubmit").ok()
    shown = second.esis("dependency").ok()
    assert "waited for a job that failed" in shown.stderr
    site.settle()
    assert second.states() == {"done": 2}
    assert site.submissions() == 3


def test_a_verdict_of_slurm_outlasts_its_memory(tmp_path: Path) -> None:
    """OUT_OF_MEMORY with exit status 0: once seen it stays failed, also when Slurm has forgotten the job."""
    site = FakeSite(tmp_path)
    flow = make_workflow(site, "oom", 3)
    site.slurm.verdict("OUT_OF_MEMORY", task=1)
    flow.esis("run").ok()
    site.settle()
    assert flow.states() == {"done": 2, "failed": 1}
    site.slurm.purge()
    assert flow.states() == {"done": 2, "failed": 1}
    assert list((flow.only_run() / "__esis__/tasks").glob("1.*.slurm-OUT_OF_MEMORY.*"))
    assert (flow.only_run() / "__esis__/completed.state").read_text() == "0"
    site.slurm.set(verdicts={})
    flow.esis("resubmit").ok()
    site.settle()
    assert flow.states() == {"done": 3}


def test_a_run_is_not_marked_complete_while_a_witness_is_missing(tmp_path: Path) -> None:
    """A failed squeue and no accounting: the records say done, but a verdict of failure may be unheard."""
    site = FakeSite(tmp_path)
    flow = make_workflow(site, "deaf", 2)
    site.slurm.verdict("OUT_OF_MEMORY", task=1)
    flow.esis("run").ok()
    site.settle()
    site.slurm.fail("squeue", "error")
    flow.esis("status")
    assert (flow.only_run() / "__esis__/completed.state").read_text() == "0"
    assert flow.states() == {"done": 1, "failed": 1}


def test_nothing_is_resubmitted_while_the_queue_cannot_be_asked(tmp_path: Path) -> None:
    """The failed tasks may be running again, submitted by hand: exit code 6, no sbatch."""
    site = FakeSite(tmp_path)
    flow = make_workflow(site, "deaf", 4, worker=FLAKY)
    flow.esis("run").ok()
    site.settle()
    site.slurm.fail("squeue", "error")
    refused = flow.esis("resubmit")
    assert refused.code == 6
    assert site.submissions() == 1


def test_an_old_job_is_never_adopted_for_a_new_submission(tmp_path: Path) -> None:
    """The answer to a resubmission is lost while the first submission's job is still listed."""
    site = FakeSite(tmp_path)
    flow = make_workflow(site, "old", 4, worker=FLAKY)
    flow.esis("run").ok()
    site.settle()
    mend(site, flow.only_run())
    site.slurm.fail("sbatch", "timeout")
    flow.esis("resubmit").ok()
    site.settle()
    assert flow.states() == {"done": 4}
    assert site.submissions() == 2


def test_wait_does_not_wait_for_what_cannot_happen(site: Site) -> None:
    """A dependant whose requirement failed would wait for ever: exit code 8, and what to do."""
    first = make_workflow(site, "a", 2, worker="#!/bin/sh\nexit 1\n")
    second = make_workflow(site, "b", 2)
    second.esis("require", "../a/wf.esis.json", "a").ok()
    second.esis("dependency").ok()
    site.settle()
    waited = second.esis("wait", "--interval", "0.5")
    assert waited.code == 8
    assert "esis dependency" in waited.stderr
    second.esis("cancel").ok()
    assert first.states() == {"failed": 2}


def test_a_run_is_named_by_the_beginning_of_its_hash(site: Site) -> None:
    """Messages say wrkdir.<12 digits>: that is enough for every command."""
    flow = make_workflow(site, "short", 2)
    flow.esis("run").ok()
    site.settle()
    run = flow.only_run()
    assert flow.esis("status", run.name[:19]).ok().stdout.splitlines()[0] == str(site.inside(run))
