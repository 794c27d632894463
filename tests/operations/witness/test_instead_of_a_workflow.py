"""A run where a workflow file is wanted: it is named as one, and with it the workflow file that it has."""

from __future__ import annotations

import pytest

from tests.contract.site import FakeSite, make_workflow


@pytest.mark.parametrize("command", ["run", "dependency", "list-requirements"])
def test_f294_inside_of_a_run_its_workflow_file_is_named(site: FakeSite, command: str) -> None:
    """F294: quickstart leads there (cd "$(esis run --local)"); esis resubmit and esis status work there."""
    flow = make_workflow(site, "w")
    flow.esis("run").ok()
    run = flow.only_run()
    for place in (run, run / "cwd"):
        shown = site.run(["esis", command], place)
        assert (shown.code, f"{run} is a run; its workflow file is {flow.directory}/wf.esis.json" in shown.stderr) == (
            2,
            True,
        ), shown
        assert "esis resubmit submits" in shown.stderr
        site.run(["esis", "status"], place).ok()
    assert site.submissions() == 1


@pytest.mark.parametrize("name", [slice(None), slice(15)])
def test_f294_a_run_that_is_named_is_no_workflow_file(site: FakeSite, name: slice) -> None:
    flow = make_workflow(site, "w")
    flow.esis("run").ok()
    given = flow.only_run().name[name]
    shown = flow.esis("run", given)
    assert (shown.code, "is a run; its workflow file is" in shown.stderr) == (2, True), shown
    assert f"esis resubmit {given} submits" in shown.stderr
    (flow.directory / "wf.esis.json").unlink()
    assert "isn't there any more" in flow.esis("run", given).stderr


@pytest.mark.parametrize("command", ["status", "resubmit", "run", "why"])
def test_f317_a_run_under_another_name_is_named_with_its_own(site: FakeSite, command: str) -> None:
    """F317: unpacked as `unzip -d scan`, or renamed; "make one with: esis setup" was the advice."""
    flow = make_workflow(site, "w")
    flow.esis("run").ok()
    run = flow.only_run()
    renamed = run.with_name("scan")
    run.rename(renamed)
    for given, place in ((["scan"], flow.directory), ([], renamed), ([], renamed / "cwd")):
        shown = site.run(["esis", command, *given], place)
        assert (shown.code, f"{renamed} is the run {run.name} under another name" in shown.stderr) == (2, True), shown
    (flow.directory / run.name).mkdir()
    assert "which is beside it, too" in flow.esis(command, "scan").stderr


def test_f294_elsewhere_there_is_just_no_workflow_file(site: FakeSite) -> None:
    shown = site.run(["esis", "run"], site.home)
    assert (shown.code, "there is no workflow file" in shown.stderr) == (2, True), shown
