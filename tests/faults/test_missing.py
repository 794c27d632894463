"""Pieces of a run are gone, as after a power cut or a slip of the hand: nothing is discarded or numbered anew (F56)."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esis.locks import Owner
from esis.model.workdir import RunDir
from esis.operations.build.interrupted import check_untouched
from esis.records.stage import Stage, State
from tests.faults.bench import Bench, only_run

STATES: dict[str, Callable[[Path], object]] = {
    "empty": lambda state: state.write_bytes(b""),
    "missing": lambda state: state.unlink(),
    "garbage": lambda state: state.write_bytes(b"\0" * 100),
    "of before": lambda state: state.write_text(json.dumps({**json.loads(state.read_text()), "stage": "snapshot"})),
    "absurd": lambda state: state.write_text(json.dumps({**json.loads(state.read_text()), "count": 10**30})),
}


def emptied(run: Path) -> None:
    """Take all away that submissions and tasks leave, parameter sets and state of the build as well."""
    for place in ("parameters", "results", "cwd", "__checkpoints__", "__esis__/submissions", "__esis__/tasks"):
        for path in (run / place).iterdir():
            path.unlink()
    for name in ("jobid.tx", "wf_starttime"):
        (run / "__esis__" / name).unlink()
    (run / "__esis__/completed.state").write_text("0")


TRACES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "an unreadable submission": ("0001.json", lambda run: (run / "__esis__/submissions/0001.json").write_bytes(b"\0")),
    "a map": ("0001.map", lambda run: (run / "__esis__/submissions/0001.map").write_text("1\n")),
    "a claim": ("0001.2.claim", lambda run: (run / "__esis__/submissions/0001.2.claim").symlink_to("7")),
    "half a submission": (".esis-tmp-1-ab", lambda run: (run / "__esis__/submissions/.esis-tmp-1-ab").touch()),
    "a record": ("0.0001.1.0.5.running", lambda run: (run / "__esis__/tasks/0.0001.1.0.5.running").touch()),
    "folded records": ("tasks.txt", lambda run: (run / "__esis__/tasks.txt").write_text("0.0001.1.0.5.exit0.6 {}\n")),
    "folded logs": ("logs.zip", lambda run: (run / "__esis__/logs.zip").touch()),
    "a job id": ("jobid.tx", lambda run: (run / "__esis__/jobid.tx").write_text("1")),
    "a start": ("wf_starttime", lambda run: (run / "__esis__/wf_starttime").write_text("1")),
    "a completed run": ("completed.state", lambda run: (run / "__esis__/completed.state").write_text("1")),
    "results": ("results.0.json", lambda run: (run / "results/results.0.json").write_text("{}")),
    "checkpoints": ("task.0", lambda run: (run / "__checkpoints__/task.0").mkdir()),
    "a log": ("slurm-1_0.out", lambda run: (run / "cwd/slurm-1_0.out").touch()),
}


def seen(root: Path) -> dict[str, object]:
    """Return every name below `root` with its content; what is damaged is compared as it is."""
    return {
        str(path): os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


def refused(bench: Bench, place: Path, word: str) -> None:
    """See that no command does anything but say what is there."""
    before = seen(bench.home)
    calls = len(bench.slurm.calls("sbatch"))
    for command in (["run"], ["run", "--local"], ["dependency"], ["resubmit"], ["run", "--take-over"]):
        if command == ["dependency"] and word == "completed.state":
            continue  # it has nothing to submit
        shown = bench.esis(place, *command)
        assert shown.code == 1, (command, shown)
        assert word in shown.stderr, (command, shown.stderr)
        assert "nothing was removed" in shown.stderr or "is corrupt" in shown.stderr
        assert len(shown.stderr.splitlines()) == 1
    assert seen(bench.home) == before
    assert len(bench.slurm.calls("sbatch")) == calls


@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.parametrize("state", ["empty", "of before"])
def test_f56_any_single_trace_of_a_submission_keeps_the_run(bench: Bench, state: str, trace: str) -> None:
    """F56: whatever is left of it, and however it reads: it is named, and nothing is removed or submitted."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    run = only_run(place)
    emptied(run)
    STATES[state](run / "__esis__/state.json")
    word, leave = TRACES[trace]
    leave(run)
    refused(bench, place, word)


@pytest.mark.parametrize("state", STATES)
def test_f56_without_stage_and_parameters_nothing_is_discarded_while_tasks_are_queued(bench: Bench, state: str) -> None:
    """F56: the run with its results used to be removed and submitted anew under number 1."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    run = only_run(place)
    STATES[state](run / "__esis__/state.json")
    for path in (run / "parameters").iterdir():
        path.unlink()
    refused(bench, place, "0001.json")
    assert len(bench.slurm.jobs()) == 1


@pytest.mark.parametrize("state", [name for name in STATES if name != "of before"])
def test_f56_without_any_trace_the_run_is_built_anew(bench: Bench, state: str) -> None:
    """F07: then nothing is lost."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    run = only_run(place)
    emptied(run)
    STATES[state](run / "__esis__/state.json")
    bench.esis(place, "run").ok()
    assert len((only_run(place) / "setup-ran").read_text().splitlines()) == 1
    assert len(list((only_run(place) / "parameters").iterdir())) == 3


def test_f56_what_an_interrupted_setup_script_left_keeps_nothing(bench: Bench) -> None:
    """A setup script may fill results/, cwd/ and __checkpoints__/; its interrupted build is built again."""
    place = bench.workflow("a")
    (place / "setup.sh").write_text("#!/bin/sh\ntouch cwd/data results/plan __checkpoints__/seed\n[ -e ../../go ]\n")
    assert bench.esis(place, "run").code == 4
    (bench.home / "go").touch()
    bench.esis(place, "run").ok()


def test_f56_parameter_sets_of_some_tasks_are_missing_and_so_is_the_stage(bench: Bench) -> None:
    """F56: the number of tasks isn't derived from what happens to be left."""
    place = bench.workflow("a", 5)
    bench.esis(place, "run").ok()
    bench.slurm.run()
    run = only_run(place)
    (run / "__esis__/state.json").write_bytes(b"")
    for task in (3, 4):
        (run / f"parameters/parameters.{task}.json").unlink()
    refused(bench, place, "3 parameter sets")
    shown = bench.esis(place, "status")
    assert shown.code == 1
    assert "complete" not in shown.stdout


@pytest.mark.parametrize("form", ["files", "lines", "none"])
def test_f67_tasks_without_parameter_sets_are_not_submitted(bench: Bench, form: str) -> None:
    """F67: the stage is there, parameter sets aren't; the first missing one is named, and nothing is queued."""
    place = bench.workflow("a")
    (place / "flaky").touch()
    if form == "lines":
        (place / "gen.sh").write_text("#!/bin/sh\nprintf '{}\\n{}\\n{}\\n' >parameters.jsonl\necho 3\n")
    bench.esis(place, "run").ok()
    bench.slurm.run()
    run = only_run(place)
    if form == "lines":
        (run / "parameters/parameters.index").unlink()
        (run / "parameters/parameters.jsonl").write_text("{}\n{}\n")
    elif form == "files":
        (run / "parameters/parameters.2.json").unlink()
    else:
        shutil.rmtree(run / "parameters")
        (run / "parameters").mkdir()
    refused = bench.esis(place, "resubmit")
    assert refused.code == 1
    assert f"{run}/parameters holds no parameter sets of {2 if form == 'none' else 1} tasks" in refused.stderr
    assert f"{1 if form == 'none' else 2} the first of them" in refused.stderr
    assert len(bench.slurm.jobs()) == 1


LOST: dict[str, tuple[str, Callable[[Path], object]]] = {
    "the record": ("jobid.tx", lambda run: (run / "__esis__/submissions/0001.json").unlink()),
    "the record and the job id, a claim is left": (
        "0001.claim",
        lambda run: (
            (run / "__esis__/submissions/0001.json").unlink(),
            (run / "__esis__/jobid.tx").unlink(),
            (run / "__esis__/submissions/0001.claim").symlink_to("1"),
        ),
    ),
    "all but a task's record": (
        "left records",
        lambda run: (
            shutil.rmtree(run / "__esis__/submissions"),
            (run / "__esis__/jobid.tx").unlink(),
            (run / "__esis__/submissions").mkdir(),
            (run / "__esis__/tasks/0.0001.1.0.5.running").touch(),
        ),
    ),
    "the first of two": (
        "0001.claim",
        lambda run: (
            (run / "__esis__/submissions/0001.json").rename(run / "__esis__/submissions/0002.json"),
            (run / "__esis__/submissions/0002.json").write_text(
                (run / "__esis__/submissions/0002.json").read_text().replace('"number": 1', '"number": 2')
            ),
            (run / "__esis__/submissions/0001.claim").symlink_to("1"),
        ),
    ),
}


@pytest.mark.parametrize("what", LOST)
def test_f56_a_submission_whose_record_was_lost_is_not_made_again(bench: Bench, what: str) -> None:
    """F56: its tasks may be queued; the stage alone doesn't tell that nothing was submitted."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    run = only_run(place)
    word, lose = LOST[what]
    lose(run)
    refused(bench, place, word)


def test_f223_a_job_tells_that_the_record_of_its_submission_was_lost(bench: Bench) -> None:
    """F223: nobody else knows its number, which the next submission would take, nor for sure its tasks."""
    place = bench.workflow("a", 3)
    bench.slurm.verdict("FAILED", run=False)
    bench.esis(place, "run").ok()
    bench.slurm.run()
    bench.slurm.set(verdicts={})
    bench.esis(place, "resubmit", "--tasks", "1").ok()
    job = bench.slurm.jobs()[-1].id
    (only_run(place) / "__esis__/submissions/0002.json").unlink()
    assert bench.states(place) == {"failed": 2, "unknown": 1}
    told = bench.esis(place, "resubmit", "--tasks", "2")
    assert told.code == 1
    assert f"0002.json is missing, and job {job} shows that submission 2 was made" in told.stderr
    assert bench.slurm.jobs()[-1].id == job
    bench.slurm.call("scancel", str(job), cwd=place)
    bench.esis(place, "resubmit", "--tasks", "2").ok()


def test_f56_records_that_were_deleted_of_a_complete_run_are_not_missed(bench: Bench) -> None:
    """`esis doc layout` says that they may go; the run stays complete, and can be run again, under a new number."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    bench.slurm.run()
    bench.esis(place, "wait").ok()
    run = only_run(place)
    for path in (run / "__esis__/submissions").iterdir():
        path.unlink()
    bench.esis(place, "run").ok()
    assert len(bench.slurm.jobs()) == 1
    bench.esis(place, "resubmit", "--state", "done", "--tasks", "1").ok()
    assert [path.name for path in (run / "__esis__/submissions").glob("*.json")] == ["0002.json"]
    bench.slurm.run()
    bench.esis(place, "resubmit", "--state", "done", "--tasks", "2").ok()
    assert len(bench.slurm.jobs()) == 3


RECORDS: dict[str, Callable[[Path], object]] = {
    "tasks/": lambda private: shutil.rmtree(private / "tasks"),
    "what is in tasks/": lambda private: [path.unlink() for path in (private / "tasks").iterdir()],
    "tasks/ and submissions/": lambda private: [shutil.rmtree(private / name) for name in ("tasks", "submissions")],
    "what is in tasks/ and submissions/": lambda private: [
        path.unlink() for name in ("tasks", "submissions") for path in (private / name).iterdir()
    ],
}


@pytest.mark.parametrize("records", ["records", "no records"])
@pytest.mark.parametrize("what", RECORDS)
def test_f120_a_complete_run_whose_records_were_removed_stays_complete(bench: Bench, what: str, records: str) -> None:
    """F120: the directories, or all that is in them: nothing is done again but what is asked for, dependants start."""
    place, after = bench.workflow("a"), bench.workflow("b", 1, requires=["a"])
    bench.esis(place, "run", *(["--no-task-records"] if records == "no records" else [])).ok()
    bench.slurm.run()
    bench.esis(place, "wait").ok()
    bench.slurm.purge()
    run, later = only_run(place), {"esis.operations.witness.judge.GRACE_SECONDS": 0.0}
    RECORDS[what](run / "__esis__")
    assert bench.states(place) == {"done": 3}
    assert "nothing to submit: 3 done" in bench.esis(place, "run").ok().stderr
    assert "nothing to cancel: 3 done" in bench.esis(place, "cancel", patch=later).stderr
    if "submissions" in what:
        assert "the record of its submission was removed" in bench.esis(place, "log", "1").stderr
    bench.esis(after, "dependency").ok()
    bench.slurm.run()
    assert bench.states(after) == {"done": 1}
    bench.esis(place, "resubmit", "--state", "done", "--tasks", "1", patch=later).ok()
    assert (run / "__esis__/submissions/0002.json").exists()
    assert bench.states(place) == {"done": 2, "waiting": 1}
    bench.slurm.run()
    assert bench.states(place) == {"done": 3}
    assert [len((run / f"cwd/did.{task}").read_text().splitlines()) for task in range(3)] == [1, 2, 1]
    bench.esis(after, "resubmit", "--state", "done").ok()
    bench.slurm.run()
    assert bench.states(after) == {"done": 1}


def test_f120_the_others_stay_done_wherever_a_resubmission_is_killed(bench: Bench) -> None:
    """F120: they are noted all at once, and until then the run is complete."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    bench.slurm.run()
    bench.esis(place, "wait").ok()
    RECORDS["what is in tasks/ and submissions/"](only_run(place) / "__esis__")
    bench.keep()
    whole = bench.broken(place, ["resubmit", "--state", "done", "--tasks", "1"], "kill", 0)
    assert whole.result.code == 0
    unmarked = next(at for at, step in enumerate(whole.steps) if step.startswith("os.remove ") and "complete" in step)
    for at in range(unmarked - 10, unmarked + 3):
        bench.restore()
        assert bench.broken(place, ["resubmit", "--state", "done", "--tasks", "1"], "kill", at).hit is not None
        assert bench.states(place) == {"done": 3}


def test_f120_what_was_overruled_by_hand_is_not_noted_as_done(bench: Bench) -> None:
    """F120: a mark by hand tells nothing of the tasks once it is gone."""
    place = bench.workflow("a")
    bench.slurm.fail("sbatch", "refuse", message="sbatch: error: Batch job submission failed: Invalid account")
    assert bench.esis(place, "run").code == 5
    run = only_run(place)
    (run / "__esis__/complete").write_text("by hand: nobody needs it\n")
    bench.esis(place, "resubmit", "--state", "done", "--tasks", "1").ok()
    assert bench.states(place) == {"unsubmitted": 2, "waiting": 1}


def test_f120_what_a_worker_has_claimed_is_not_noted_as_done(bench: Bench) -> None:
    """F120: a 1 in completed.state may come from the first task; in a record nothing would outrank it."""
    place = bench.workflow("a")
    bench.esis(place, "run", "--no-task-records").ok()
    bench.slurm.run()
    bench.slurm.purge()
    (only_run(place) / "__esis__/completed.state").write_text("1")
    assert bench.states(place) == {"done": 3}
    bench.esis(place, "resubmit", "--state", "done", "--tasks", "1").ok()
    assert bench.states(place) == {"unknown": 2, "waiting": 1}


def test_f120_failures_are_told_where_the_record_of_their_submission_is_gone(bench: Bench) -> None:
    """F120: the task's own record names it; which log is its own nobody knows, and nobody says that it never ran."""
    place = bench.workflow("a")
    (place / "flaky").touch()
    bench.esis(place, "run").ok()
    bench.slurm.run()
    (only_run(place) / "__esis__/submissions/0001.json").unlink()
    assert bench.esis(place, "errors").ok().stdout.startswith("2 failed  1-2  exit code 1\n")
    assert "the record of its submission was removed" in bench.esis(place, "log", "1").stderr


@pytest.mark.parametrize("name", ["worker.sh", "__esis__/task.sh"])
def test_f233_nothing_is_submitted_without_what_all_tasks_need(bench: Bench, name: str) -> None:
    """F233: done tasks were submitted once more, as the user asked, could not do their work, and were failed then."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    bench.slurm.run()
    held = only_run(place) / name
    text = held.read_bytes()
    held.unlink()
    done = bench.esis(place, "resubmit", "--state", "done")
    assert (done.code, str(held) in done.stderr) == (1, True)
    assert len(bench.slurm.jobs()) == 1
    assert bench.states(place) == {"done": 3}
    held.write_bytes(text)
    held.chmod(0o555)
    bench.esis(place, "resubmit", "--state", "done").ok()
    bench.slurm.run()
    assert bench.states(place) == {"done": 3}


@pytest.mark.parametrize("command", [["run"], ["run", "--local"]])
def test_f121_empty_directories_that_a_copy_left_out_are_made_again(bench: Bench, command: list[str]) -> None:
    """F121: git, object stores and many copying programs keep none; tasks left no records then, and were done again."""
    place = bench.workflow("a", worker="#!/bin/sh\necho {} >../results/results.$SLURM_ARRAY_TASK_ID.json\n")
    bench.slurm.fail("sbatch", "refuse", message="sbatch: error: Batch job submission failed: Invalid account")
    assert bench.esis(place, "run").code == 5
    run = only_run(place)
    (run / "__esis__/submissions/0001.json").unlink()
    (run / "__esis__/wf_starttime").unlink()
    for name in ("cwd", "results", "__checkpoints__", "__esis__/tasks", "__esis__/submissions"):
        (run / name).rmdir()
    bench.esis(place, *command).ok()
    bench.slurm.run()
    assert bench.states(place) == {"done": 3}
    assert len(list((run / "results").iterdir())) == 3


def test_f121_a_lost_submission_is_sent_again_with_the_directories_that_are_missing(bench: Bench) -> None:
    """F121: the same where an answer was lost before."""
    place = bench.workflow("a")
    bench.slurm.fail("sbatch", "timeout", message="Socket timed out on send/recv operation", times=2)
    assert bench.esis(place, "run").code == 6
    run = only_run(place)
    for name in ("cwd", "__esis__/tasks"):
        (run / name).rmdir()
    bench.esis(place, "run").ok()
    bench.slurm.run()
    assert bench.states(place) == {"done": 3}


def test_f56_a_lost_answer_is_found_where_the_template_is_gone(bench: Bench) -> None:
    """F56: the whole submission is queued, so that nothing of the template is needed."""
    place = bench.workflow("a")
    bench.slurm.fail("sbatch", "lost_reply")
    bench.slurm.fail("squeue", "timeout")
    assert bench.esis(place, "run").code == 6
    (only_run(place) / "template.sh").unlink()
    assert "Slurm has it as job 1" in bench.esis(place, "run").ok().stderr
    assert bench.states(place) == {"waiting": 3}


def test_f121_a_working_directory_that_leads_nowhere_is_named(bench: Bench) -> None:
    """F121: a scratch was cleared behind a link; that isn't sbatch's fault."""
    place = bench.workflow("a")
    bench.slurm.fail("sbatch", "refuse", message="sbatch: error: Batch job submission failed: Invalid account")
    assert bench.esis(place, "run").code == 5
    run = only_run(place)
    (run / "cwd").rmdir()
    (run / "cwd").symlink_to(bench.home / "cleared")
    refused = bench.esis(place, "run")
    assert refused.code == 5
    assert f"sbatch can't be started in {run}/cwd: No such file or directory" in refused.stderr


def test_f121_a_complete_run_without_cwd_is_folded(bench: Bench) -> None:
    """F121: what is in there may be removed, and the directory with it."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    bench.slurm.run()
    run = only_run(place)
    shutil.rmtree(run / "cwd")
    assert "folded 3 records" in bench.esis(place, "compact").ok().stderr


def test_a_run_that_was_first_submitted_by_hand_goes_on_with_esis(bench: Bench) -> None:
    """Built by an esis that was killed before it submitted: there is no record that could be missing."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    bench.slurm.run()
    run = only_run(place)
    for name in ("submissions/0001.json", "jobid.tx", "wf_starttime"):
        (run / "__esis__" / name).unlink()
    assert (run / "__esis__/submissions/0001.claim").is_symlink()
    bench.esis(place, "resubmit", "--state", "done", "--tasks", "1").ok()
    assert (run / "__esis__/submissions/0002.json").exists()


def test_f56_a_directory_without_esis_own_corner_is_left_alone(bench: Bench) -> None:
    """F56: nobody knows what it is; that it is in the way is said."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    run = only_run(place)
    shutil.rmtree(run / "__esis__")
    before = seen(bench.home)
    shown = bench.esis(place, "run")
    assert shown.code == 1
    assert f"{run} is in the way" in shown.stderr
    assert seen(bench.home) == before


@pytest.mark.parametrize("left", ["0001.claim", "record"])
def test_f56_the_number_of_a_refused_submission_is_used_again_only_without_a_trace(bench: Bench, left: str) -> None:
    """F56: a refusal that was none (a job began after all) keeps its number, or the fence turns the new job away."""
    place = bench.workflow("a")
    bench.slurm.fail("sbatch", "refuse", message="sbatch: error: Batch job submission failed: Invalid account")
    assert bench.esis(place, "run").code == 5
    run = only_run(place)
    if left == "record":
        (run / "__esis__/tasks/0.0001.99.0.5.running").touch()
    else:
        (run / "__esis__/submissions" / left).symlink_to("99")
    bench.esis(place, "resubmit", "--tasks", "1-2").ok()
    assert sorted(os.listdir(run / "__esis__/submissions"))[-1] == "0002.json"


def test_f65_the_script_of_an_interrupted_build_on_another_host_is_not_taken_for_dead(bench: Bench) -> None:
    """F65: its PID means nothing here: exit code 7, the host is named, and --take-over goes on."""
    place = bench.workflow("a")
    (place / "setup.sh").write_text("#!/bin/sh\n[ -e ../../go ]\n")
    assert bench.esis(place, "run").code == 4
    state = only_run(place) / "__esis__/state.json"
    told = json.loads(state.read_text())
    assert (told["stage"], told["pid"], told["process"]) == ("setting up", None, None), "its end was noted"
    here = Owner.current()
    far = Owner("login7", here.boot, os.getpid(), 5, here.user, "00000000")
    state.write_text(json.dumps({**told, "pid": far.pid, "pid_started": far.started, "process": far.text()}))
    (bench.home / "go").touch()
    busy = bench.esis(place, "run")
    assert busy.code == 7
    assert f"process {far.pid} on login7" in busy.stderr
    assert "--take-over" in busy.stderr
    bench.esis(place, "run", "--take-over").ok()


def test_f65_a_state_of_an_earlier_version_is_read(bench: Bench) -> None:
    """It has no `process`; a PID that nobody has any more is dead."""
    place = bench.workflow("a")
    (place / "setup.sh").write_text("#!/bin/sh\n[ -e ../../go ]\n")
    assert bench.esis(place, "run").code == 4
    state = only_run(place) / "__esis__/state.json"
    told = json.loads(state.read_text())
    del told["process"]
    state.write_text(json.dumps({**told, "pid": 2**22 + 1, "pid_started": 1}))
    (bench.home / "go").touch()
    bench.esis(place, "run").ok()


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_f75_a_run_that_cannot_be_looked_at_is_not_built_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """F75: a metadata server is away, and hides what a submission has left: nobody says that there is nothing."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    run = RunDir(only_run(place))
    really = os.lstat

    def refuse(path: Any, **options: Any) -> os.stat_result:
        if str(path) in (str(run.job_ids), str(run.start_time)):
            raise OSError(number, os.strerror(number), str(path))
        return really(path, **options)

    monkeypatch.setattr(os, "lstat", refuse)
    with pytest.raises(OSError, match=os.strerror(number)):
        check_untouched(run, State(Stage.SNAPSHOT))


NO_WAIT = {"ESIS_REQUIREMENT_WAIT": "0"}


def moved_after_failures(bench: Bench, name: str = "moved home") -> Path:
    """Let tasks of a workflow that requires another one fail, move all of it, and mend the cause; return its place."""
    bench.workflow("a")
    place = bench.workflow("b", requires=["a"])
    (place / "flaky").touch()
    bench.esis(place, "dependency", env=NO_WAIT).ok()
    bench.slurm.run()
    assert bench.states(place) == {"done": 1, "failed": 2}
    bench.home.rename(bench.directory / name)
    place = bench.directory / name / "b"
    (place / "flaky").unlink()
    return place


def test_f162_what_was_moved_together_finds_the_runs_that_it_requires(bench: Bench) -> None:
    """Its tasks used to end with 75, each time that they were resubmitted: the old path was written down."""
    place = moved_after_failures(bench)
    run, required = only_run(place), only_run(place.parent / "a")
    assert "there is no workflow file" not in bench.esis(place, "why", str(run)).ok().stderr
    assert "1,1,1,failed" in bench.esis(place, "export", "--requirements", "a:n").ok().stdout
    told = bench.esis(place, "resubmit", env=NO_WAIT).ok().stderr
    assert f"which is {required} by now" in told
    assert (run / "__esis__/requirements").read_text() == f"0:2:{required}\n"
    bench.slurm.run()
    assert bench.states(place) == {"done": 3}
    assert "by now" not in bench.esis(place, "resubmit", "--state", "done", env=NO_WAIT).ok().stderr


def test_f162_a_submission_without_an_answer_is_sent_again_from_where_it_is(bench: Bench) -> None:
    place = moved_after_failures(bench)
    place.parent.rename(bench.home)
    bench.slurm.fail("sbatch", "timeout", times=2)
    assert bench.esis(bench.home / "b", "resubmit", env=NO_WAIT).code == 6
    bench.home.rename(place.parent)
    bench.esis(place, "resubmit", "--tasks", "0", env=NO_WAIT).ok()
    bench.slurm.run()
    assert bench.states(place) == {"done": 3}


def test_f162_a_required_run_that_is_nowhere_is_called_that_and_the_list_stays(bench: Bench) -> None:
    place = moved_after_failures(bench)
    run = only_run(place)
    shutil.rmtree(only_run(place.parent / "a"))
    before = (run / "__esis__/requirements").read_text()
    bench.esis(place, "resubmit", "--tasks", "1", env=NO_WAIT).ok()
    assert (run / "__esis__/requirements").read_text() == before
    bench.slurm.run()
    assert "is not there" in bench.esis(place, "log", "1").stdout
    assert bench.states(place) == {"done": 1, "failed": 2}


@pytest.mark.parametrize("back", [False, True])
def test_f162_what_is_moved_once_more_is_found_again(bench: Bench, back: bool) -> None:
    """By then the list holds a place that is neither that of the build nor one of today."""
    place = moved_after_failures(bench)
    bench.esis(place, "resubmit", "--tasks", "1", env=NO_WAIT).ok()
    bench.slurm.run()
    assert bench.states(place) == {"done": 2, "failed": 1}
    home = bench.home if back else bench.directory / "elsewhere"
    place.parent.rename(home)
    told = bench.esis(home / "b", "resubmit", env=NO_WAIT).ok().stderr
    assert f"which is {only_run(home / 'a')} by now" in told
    bench.slurm.run()
    assert bench.states(home / "b") == {"done": 3}


def test_f162_one_that_was_copied_keeps_to_the_runs_of_the_first(bench: Bench) -> None:
    """They are there, and their hash is the same."""
    place = moved_after_failures(bench)
    shutil.copytree(place.parent, bench.home, symlinks=True)
    before = (only_run(place) / "__esis__/requirements").read_text()
    bench.esis(place, "resubmit", "--tasks", "1", env=NO_WAIT).ok()
    assert (only_run(place) / "__esis__/requirements").read_text() == before
