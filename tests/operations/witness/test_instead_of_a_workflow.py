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


def test_f294_elsewhere_there_is_just_no_workflow_file(site: FakeSite) -> None:
    shown = site.run(["esis", "run"], site.home)
    assert (shown.code, "there is no workflow file" in shown.stderr) == (2, True), shown
