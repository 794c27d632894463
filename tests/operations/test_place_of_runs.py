"""Where the runs are made: a link to nowhere hides all that are there already."""

from __future__ import annotations

import json

import pytest

from tests.contract.site import FakeSite, Workflow, make_workflow

FILES = ["setup.sh", "gen.py", "template.sh", "worker.sh"]


def at_scratch(site: FakeSite, name: str, deep: str) -> Workflow:
    """Make a workflow whose runs are behind a link to a scratch."""
    (site.home / "scratch" / deep).mkdir(parents=True, exist_ok=True)
    flow = make_workflow(site, name, options=["--workdir-path", f"{name}-runs/{deep}".rstrip("/")])
    link = flow.directory / f"{name}-runs"
    link.symlink_to(site.home / "scratch")
    return flow


def unmount(site: FakeSite) -> None:
    (site.home / "scratch").rename(site.home / "elsewhere")


@pytest.mark.parametrize("deep", ["", "of/mine"])
@pytest.mark.parametrize(
    "command", [["run"], ["run", "--dry-run"], ["run", "--local"], ["dependency"], ["status"], ["resubmit"], ["why"]]
)
def test_f292_a_link_that_leads_nowhere_is_named(site: FakeSite, command: list[str], deep: str) -> None:
    """F292: the runs are somewhere else just now; nothing is made or submitted once more."""
    flow = at_scratch(site, "w", deep)
    flow.esis("run").ok()
    unmount(site)
    shown = flow.esis(*command)
    assert (shown.code, site.submissions()) == (2, 1), shown
    assert f"{flow.directory}/w-runs is a link to {site.home}/scratch, and nothing is there" in shown.stderr
    assert not (site.home / "scratch").exists()
    (site.home / "elsewhere").rename(site.home / "scratch")
    assert "nothing to submit" in flow.esis("run").ok().stderr
    assert site.submissions() == 1


@pytest.mark.parametrize("command", [["run"], ["dependency"], ["status"]])
def test_f292_also_where_the_runs_that_are_required_would_be(site: FakeSite, command: list[str]) -> None:
    first = at_scratch(site, "first", "")
    flow = make_workflow(site, "w")
    flow.esis("require", "../first/wf.esis.json", "first").ok()
    flow.esis("dependency").ok()
    before = site.submissions()
    unmount(site)
    shown = flow.esis(*command)
    assert (shown.code, f"{first.directory.name}/first-runs is a link to" in shown.stderr) == (2, True), shown
    assert site.submissions() == before


def test_f315_setup_once_more_keeps_the_place_and_says_what_it_changes(site: FakeSite) -> None:
    """F315: `esis setup -m 20` forgot --workdir-path, and all was submitted once more beside the workflow file."""
    flow = make_workflow(site, "w", options=["--workdir-path", "../scratch", "--tasks-per-job", "2"])
    flow.esis("run").ok()
    told = flow.esis("setup", *FILES, "-m", "20").ok().stderr
    assert "keeping ../scratch for the runs; --workdir-path ./ is beside it" in told
    assert "20 tasks at a time from now on, not 10" in told
    assert "1 tasks in a job from now on, not 2" in told
    assert "nothing to submit" in flow.esis("run").ok().stderr
    assert site.submissions() == 1
    again = flow.esis("setup", *FILES, "-m", "20").ok().stderr
    assert "from now on" not in again
    assert "keeping" not in flow.esis("setup", *FILES, "--workdir-path", "./").ok().stderr
    assert json.loads((flow.directory / "wf.esis.json").read_text())["workdirpath"] in (".", "./")


def test_f292_esis_list_and_doctor_name_it(site: FakeSite) -> None:
    flow = at_scratch(site, "w", "")
    flow.esis("run").ok()
    unmount(site)
    shown = flow.esis("list", "w-runs")
    assert (shown.code, "w-runs is a link to" in shown.stderr) == (2, True), shown
    findings = json.loads(flow.esis("doctor", "--json").stdout)["findings"]
    assert any("w-runs is a link to" in item["message"] for item in findings if item["level"] == "problem")


def test_f292_a_place_that_is_not_there_yet_is_made(site: FakeSite) -> None:
    """What no link leads to is made, as ever, also behind a link that leads somewhere."""
    flow = at_scratch(site, "w", "")
    flow.esis("setup", "--workdir-path", "w-runs/new/deep", *FILES).ok()
    flow.esis("run").ok()
    assert len(list((site.home / "scratch/new/deep").glob("wrkdir.*"))) == 1


@pytest.mark.parametrize("place", ["~", "~/scratch", "~me/runs", "$SCRATCH/runs", "${SCRATCH}/runs", "runs/$USER"])
def test_f295_a_place_that_no_shell_has_replaced_is_refused(site: FakeSite, place: str) -> None:
    """F295: no directory called ~ is made, neither by esis setup nor by what reads the workflow file."""
    flow = make_workflow(site, "w")
    text = (flow.directory / "wf.esis.json").read_text()
    shown = flow.esis("setup", "--workdir-path", place, *FILES)
    assert (shown.code, "shell" in shown.stderr) == (2, True), shown
    assert (flow.directory / "wf.esis.json").read_text() == text
    flow.write("wf.esis.json", text.replace('"./"', json.dumps(place)))
    before = sorted(flow.directory.iterdir())
    for command in ("run", "dependency", "status"):
        shown = flow.esis(command)
        assert (shown.code, "workdirpath" in shown.stderr) == (2, True), shown
    assert (sorted(flow.directory.iterdir()), site.submissions()) == (before, 0)


@pytest.mark.parametrize("place", ["~/runs", "$SCRATCH/runs"])
def test_f295_a_directory_that_is_there_already_goes_on(site: FakeSite, place: str) -> None:
    """F295: an earlier ESIS made it, and the runs are in it."""
    flow = make_workflow(site, "w")
    (flow.directory / place).mkdir(parents=True)
    flow.write("wf.esis.json", (flow.directory / "wf.esis.json").read_text().replace('"./"', json.dumps(place)))
    flow.esis("run").ok()
    assert len(list((flow.directory / place).glob("wrkdir.*"))) == 1


def test_f295_a_dollar_in_the_name_of_a_directory_is_no_variable(site: FakeSite) -> None:
    """F295: users' directories may be called anything."""
    flow = make_workflow(site, "a $b")
    flow.esis("setup", "--workdir-path", f"{flow.directory}/runs", *FILES).ok()
    flow.esis("setup", "-o", "../wf.esis.json", "--workdir-path", "new~", *FILES).ok()
    flow.esis("run", "../wf.esis.json").ok()
    assert len(list((flow.directory / "new~").glob("wrkdir.*"))) == 1
