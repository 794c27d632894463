"""A worker that isn't executable: refused where its template calls it as a command, mended where a run has it so."""

from __future__ import annotations

import pytest

from tests.contract.site import SETUP, TEMPLATE, FakeSite, Workflow, make_workflow


def start(site: FakeSite) -> None:
    site.slurm.run()
    site.settle()


def bit_off(flow: Workflow) -> None:
    (flow.directory / "worker.sh").chmod(0o644)


def old_run(flow: Workflow, site: FakeSite) -> None:
    """Leave what an earlier ESIS did: a run whose worker can't be executed, and whose tasks failed."""
    flow.esis("run").ok()
    (flow.only_run() / "worker.sh").chmod(0o444)
    start(site)
    assert flow.states() == {"failed": 3}


@pytest.mark.parametrize("command", [["run"], ["run", "--local"], ["run", "--dry-run"], ["dependency"]])
def test_f291_no_run_is_built_whose_tasks_could_not_start_their_worker(site: FakeSite, command: list[str]) -> None:
    """F291: exit code 2, with what to do; nothing is written, nothing is submitted."""
    flow = make_workflow(site, "w")
    bit_off(flow)
    shown = flow.esis(*command)
    assert (shown.code, f"chmod +x {flow.directory}/worker.sh" in shown.stderr) == (2, True), shown
    assert (flow.runs(), site.submissions()) == ([], 0)


def test_f291_what_an_interpreter_reads_need_not_be_executable(site: FakeSite) -> None:
    flow = make_workflow(site, "w", template=TEMPLATE.replace("WORKERSCRIPT", "sh WORKERSCRIPT"))
    bit_off(flow)
    assert "not executable" not in flow.esis("run").ok().stderr
    start(site)
    assert flow.states() == {"done": 3}


def test_f291_where_nobody_can_tell_there_is_a_note(site: FakeSite) -> None:
    flow = make_workflow(site, "w", template=TEMPLATE.replace("srun", "run=; srun $run"))
    bit_off(flow)
    shown = flow.esis("run").ok().stderr
    assert "doesn't tell whether it has to be" in shown


@pytest.mark.parametrize(("last", "code"), [("chmod +x worker.sh", 0), ("chmod -x worker.sh", 2)])
def test_f291_what_the_setup_script_leaves_counts(site: FakeSite, last: str, code: int) -> None:
    """One that makes the run's worker executable always could; of one that doesn't nothing is submitted."""
    flow = make_workflow(site, "w", setup=f"{SETUP}{last}\n")
    bit_off(flow)
    shown = flow.esis("run")
    assert shown.code == code, shown
    assert site.submissions() == (code == 0)


def test_f291_a_run_from_before_is_given_the_bit_of_the_user_s_file(site: FakeSite) -> None:
    """F291: the same content, executable by now: the run's copy becomes so, and the tasks get done."""
    flow = make_workflow(site, "w")
    old_run(flow, site)
    assert "it is now" in flow.esis("resubmit").ok().stderr
    start(site)
    assert flow.states() == {"done": 3}
    assert (flow.only_run() / "worker.sh").stat().st_mode & 0o777 == 0o555


@pytest.mark.parametrize("change", ["the bit", "the content", "the file"])
def test_f291_where_that_is_not_the_same_resubmit_says_what_to_do(site: FakeSite, change: str) -> None:
    """F291: it is refused, for all would fail again; what the message names works."""
    flow = make_workflow(site, "w")
    old_run(flow, site)
    run = flow.only_run()
    if change == "the bit":
        bit_off(flow)
    elif change == "the content":
        flow.write("worker.sh", "#!/bin/sh\n")
    else:
        (flow.directory / "worker.sh").unlink()
    shown = flow.esis("resubmit", run.name)
    assert (shown.code, f"chmod +x {run}/worker.sh" in shown.stderr) == (2, True), shown
    assert site.submissions() == 1
    site.run(["chmod", "+x", str(run / "worker.sh")], flow.directory).ok()
    flow.esis("resubmit", run.name).ok()
    start(site)
    assert flow.states(run.name) == {"done": 3}


def test_f291_a_built_run_whose_copy_is_executable_goes_on(site: FakeSite) -> None:
    """What the user's file has lost since is no reason to refuse."""
    flow = make_workflow(site, "w")
    flow.esis("run").ok()
    start(site)
    bit_off(flow)
    flow.esis("run").ok()
    flow.esis("resubmit", "--state", "done").ok()
    start(site)
    assert (flow.states(), site.submissions()) == ({"done": 3}, 2)
