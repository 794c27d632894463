"""Submitting once: lost answers, refusals, and what is asked before anything is sent again."""

from __future__ import annotations

import json

import pytest

from tests.contract.site import FakeSite, make_workflow


def test_a_lost_reply_is_adopted_by_the_same_command(site: FakeSite) -> None:
    """F10: sbatch says "Socket timed out", the job shows up after two empty look-ups: one job, its id recorded."""
    flow = make_workflow(site, "w")
    site.slurm.fail("sbatch", "lost_reply", lookups=2)
    shown = flow.esis("run", env={"ESIS_LOOKUP_GRACE": "20"}).ok()
    assert "Slurm has it as job 1" in shown.stderr
    assert site.submissions() == 1
    assert len(site.slurm.calls("sbatch")) == 1
    assert (flow.only_run() / "__esis__/jobid.tx").read_text() == "1\n"


def test_a_submission_that_never_arrived_is_sent_once_more(site: FakeSite) -> None:
    """After a grace period of error-free "not there" answers, under the same number."""
    flow = make_workflow(site, "w")
    site.slurm.fail("sbatch", "timeout")
    flow.esis("run").ok()
    assert len(site.slurm.calls("sbatch")) == 2
    assert len(site.slurm.calls("squeue")) >= 3
    assert site.submissions() == 1
    (record,) = (flow.only_run() / "__esis__/submissions").glob("*.json")
    assert json.loads(record.read_text())["outcome"] == "submitted"


@pytest.mark.parametrize("grace", ["nan", "inf", "-1", "1e9", "ten", " "])
def test_a_grace_period_that_is_none_is_refused_before_anything_is_sent(site: FakeSite, grace: str) -> None:
    """The environment is input: a time without an end would be waited for, and none would let a job run twice."""
    flow = make_workflow(site, "w")
    refused = flow.esis("run", env={"ESIS_LOOKUP_GRACE": grace})
    assert (refused.code, "ESIS_LOOKUP_GRACE" in refused.stderr) == (2, True)
    assert not site.slurm.calls("sbatch")


@pytest.mark.parametrize(
    "arguments",
    [
        ("wait", "--interval", "nan"),
        ("wait", "--timeout", "inf"),
        ("status", "--watch", "--interval", "nan"),
        ("run", "--script-timeout", "nan"),
    ],
)
def test_no_time_to_wait_is_endless(site: FakeSite, arguments: tuple[str, ...]) -> None:
    """Nobody would ever be told, or with an internal error."""
    flow = make_workflow(site, "w")
    flow.esis("run").ok()
    refused = flow.esis(*arguments)
    assert (refused.code, "is no number that can be worked with" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{{ '\\ud800' }}", "surrogates"),
        ("{{ '\\x00' }}", "NUL"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "recursion"),
    ],
)
def test_a_template_that_makes_no_script_is_bad_input(site: FakeSite, text: str, part: str) -> None:
    """What jinja2 makes of it has to be a text that a file and sbatch can hold."""
    flow = make_workflow(site, "w")
    path = flow.directory / "made.sh.j2"
    path.write_text(f"#!/bin/bash\n#SBATCH --array={{{{ array }}}}\nsrun {{{{ worker }}}}\n# {text}\n")
    names = json.loads((flow.directory / "wf.esis.json").read_text())
    scripts = [names[key] for key in ("setupscript", "param_generator", "workerscript")]
    refused = flow.esis("setup", scripts[0], scripts[1], path.name, scripts[2])
    assert (refused.code, part in refused.stderr) == (2, True), refused


def test_it_does_not_go_on_for_ever(site: FakeSite) -> None:
    """Two tries without an answer are enough for one command; a later one finishes the matter."""
    flow = make_workflow(site, "w")
    site.slurm.fail("sbatch", "timeout", times=2)
    refused = flow.esis("run")
    assert refused.code == 6
    assert len(site.slurm.calls("sbatch")) == 2
    flow.esis("run").ok()
    assert site.submissions() == 1


def test_nothing_is_sent_again_while_slurm_cannot_be_asked(site: FakeSite) -> None:
    """F14: the intent is kept, the exit code is 6, and no second sbatch is called."""
    flow = make_workflow(site, "w")
    site.slurm.fail("sbatch", "lost_reply", lookups=0)
    site.slurm.fail("squeue", "error", times=None, message="slurm_load_jobs error: Unable to contact slurm controller")
    for _ in range(2):
        refused = flow.esis("run")
        assert refused.code == 6
        assert "may or may not be queued" in refused.stderr
    assert len(site.slurm.calls("sbatch")) == 1
    site.slurm.set(faults=[])
    flow.esis("run").ok()
    assert len(site.slurm.calls("sbatch")) == 1
    assert site.submissions() == 1


def test_a_job_of_the_same_run_submitted_by_hand_is_not_taken_for_the_lost_one(site: FakeSite) -> None:
    """Jobs that were there before are remembered in the intent."""
    flow = make_workflow(site, "w", worker="#!/bin/sh\nexit 1\n")
    flow.esis("run").ok()
    site.slurm.run()
    run = flow.only_run()
    by_hand = site.run(["sbatch", "--parsable", "--array=0", "../sbatch.sh"], run / "cwd").ok().stdout.strip()
    site.slurm.run()
    site.slurm.fail("sbatch", "timeout")
    flow.esis("resubmit").ok()
    record = json.loads((run / "__esis__/submissions/0002.json").read_text())
    assert set(record["seen"]) == {"1", by_hand}
    assert not {job["id"] for job in record["jobs"]} & {"1", by_hand}


@pytest.mark.parametrize("forgotten", [False, True])
def test_f89_a_job_that_was_cancelled_before_its_answer_was_settled_is_adopted(site: FakeSite, forgotten: bool) -> None:
    """F89: also when Slurm has forgotten it: what `esis cancel` noted of its tasks shows that it was there."""
    flow = make_workflow(site, "w")
    site.slurm.fail("sbatch", "lost_reply")
    site.slurm.fail("squeue", "timeout")
    assert flow.esis("run").code == 6
    flow.esis("cancel").ok()
    if forgotten:
        site.slurm.purge()
    shown = flow.esis("run")
    assert "submitting again" not in shown.stderr
    assert "Slurm has it as job 1" in shown.stderr
    assert len(site.slurm.calls("sbatch")) == 1
    record = json.loads((flow.only_run() / "__esis__/submissions/0001.json").read_text())
    assert (record["outcome"], [job["id"] for job in record["jobs"]]) == ("submitted", ["1"])
    flow.esis("resubmit").ok()
    site.slurm.run()
    flow.esis("status", "--check").ok()


def test_f89_what_ran_by_hand_meanwhile_is_not_taken_for_the_lost_job(site: FakeSite) -> None:
    """F89: its records have the number of that submission as well, for they share a script; it is fenced by nothing."""
    flow = make_workflow(site, "w")
    site.slurm.fail("sbatch", "timeout", times=2)
    assert flow.esis("run").code == 6
    by_hand = (
        site.run(["sbatch", "--parsable", "--array=0", "../sbatch.sh"], flow.only_run() / "cwd").ok().stdout.strip()
    )
    site.slurm.run()
    site.slurm.purge()
    assert "submitting again" in flow.esis("run").stderr
    record = json.loads((flow.only_run() / "__esis__/submissions/0001.json").read_text())
    assert by_hand not in {job["id"] for job in record["jobs"]}
