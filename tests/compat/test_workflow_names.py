"""Scripts of 0.0.4's users name wf.esis2.json right after `esis setup`, which writes wf.esis.json."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from esis.model.fingerprint import text_digest
from esis.model.requirements import resolve
from esis.model.workflow import DEFAULT_NAME, OLD_NAME, load, locate, name_note, stand_in
from tests.contract.site import FakeSite, Workflow, make_workflow

FILES = ("setup.sh", "gen.py", "template.sh", "worker.sh")


def digest(flow: Workflow) -> str:
    return resolve(flow.directory / DEFAULT_NAME).digest


def bare(site: FakeSite, name: str) -> Workflow:
    """Return a workflow that isn't set up yet."""
    flow = make_workflow(site, name, 2)
    (flow.directory / DEFAULT_NAME).unlink()
    return flow


@pytest.mark.parametrize(
    ("there", "named", "used", "noted"),
    [
        ((DEFAULT_NAME,), OLD_NAME, DEFAULT_NAME, True),
        ((DEFAULT_NAME,), DEFAULT_NAME, DEFAULT_NAME, False),
        ((OLD_NAME,), OLD_NAME, OLD_NAME, False),
        ((OLD_NAME,), "", OLD_NAME, True),
        ((OLD_NAME, DEFAULT_NAME), OLD_NAME, OLD_NAME, True),
        ((OLD_NAME, DEFAULT_NAME), DEFAULT_NAME, DEFAULT_NAME, True),
        ((OLD_NAME, DEFAULT_NAME), "", DEFAULT_NAME, True),
        ((), OLD_NAME, OLD_NAME, False),
        ((DEFAULT_NAME,), "other.json", "other.json", False),
    ],
)
def test_the_named_file_counts_and_the_present_one_stands_in(
    tmp_path: Path, there: tuple[str, ...], named: str, used: str, noted: bool
) -> None:
    """A note wherever there could be a doubt."""
    for name in there:
        (tmp_path / name).write_text("{}")
    path, note = locate(str(tmp_path / named))
    assert path == tmp_path / used
    assert (note is not None) is noted
    if named:
        assert stand_in(tmp_path / named) == path
        assert name_note(tmp_path / named) == note


def test_a_script_of_0_0_4_runs_as_it_is(site: FakeSite) -> None:
    """setup in A, setup in B, require and dependency by 0.0.4's names; the order of 0.0.4's arguments."""
    flows = {name: bare(site, name) for name in ("A", "B")}
    for flow in flows.values():
        flow.esis("setup", "setup.sh", "template.sh", "worker.sh", "gen.py", "-m", "3").ok()
    told = flows["B"].esis("require", "../A/wf.esis2.json", "first", "wf.esis2.json").ok()
    assert told.stderr.count("using the wf.esis.json beside it") == 2
    shown = flows["B"].esis("dependency", "wf.esis2.json").ok()
    assert "there is no" in shown.stderr
    assert len(shown.stdout.split()) == 2
    listed = flows["B"].esis("list-requirements").ok().stdout.split("\t")
    assert (listed[0], listed[3:]) == ("first", ["current", "exists\n"])
    for command in ("status", "log", "errors", "why", "cancel", "wait"):
        arguments = ["0"] if command == "log" else []
        assert "there is no workflow file" not in flows["B"].esis(command, *arguments, "wf.esis2.json").stderr, command


def test_the_path_counts_in_the_hash_as_it_is_stored(site: FakeSite) -> None:
    """As it is named, so that the hash is the one that 0.0.4 had for the same files."""
    flows = {name: make_workflow(site, name, 2) for name in ("A", "B", "C")}
    flows["B"].esis("require", "../A/wf.esis2.json", "first").ok()
    flows["C"].esis("require", "../A/wf.esis.json", "first").ok()
    stored = json.loads((flows["B"].directory / DEFAULT_NAME).read_text())
    assert stored["requires"] == ["../A/wf.esis2.json"]
    assert stored["requires_names"] == {"../A/wf.esis2.json": "first"}
    node = resolve(flows["B"].directory / DEFAULT_NAME)
    assert node.status_text.endswith(f"\n../A/wf.esis2.json:{digest(flows['A'])}")
    assert node.digest == text_digest(node.status_text) != digest(flows["C"])
    # Where 0.0.4 wrote the file of that name, with the same files, the hash is the same.
    shutil.move(flows["A"].directory / DEFAULT_NAME, flows["A"].directory / OLD_NAME)
    assert digest(flows["B"]) == node.digest


def test_a_stale_file_is_never_taken_silently(site: FakeSite) -> None:
    """Both are there: the one that was named, and every command that uses it says so."""
    flows = {name: make_workflow(site, name, 2) for name in ("A", "B")}
    old = flows["A"].directory / OLD_NAME
    shutil.copy(flows["A"].directory / DEFAULT_NAME, old)
    old.write_text(old.read_text().replace("worker.sh", "older.sh"))
    flows["A"].write("older.sh", "#!/bin/sh\n")
    told = flows["B"].esis("require", "../A/wf.esis2.json", "first").ok()
    assert "holds wf.esis.json and wf.esis2.json" in told.stderr
    for command in (["list-requirements"], ["dependency"]):
        shown = flows["B"].esis(*command).ok()
        assert "first: " in shown.stderr
        assert "using wf.esis2.json" in shown.stderr
    assert (next(flows["A"].directory.glob("wrkdir.*")) / "older.sh").exists()
    assert "wf.esis.json and wf.esis2.json" in flows["B"].esis("run").stderr


def test_setup_beside_an_old_file_says_so_and_takes_over_when_asked(site: FakeSite) -> None:
    """Requirements and pins come with --update alone; the old file stays as it is."""
    flows = {name: make_workflow(site, name, 2) for name in ("A", "B")}
    flow = flows["B"]
    flow.esis("require", "../A/wf.esis.json", "first").ok()
    flows["A"].esis("run").ok()
    flow.esis("freeze-requirement", "first", digest(flows["A"])).ok()
    old = flow.directory / OLD_NAME
    (flow.directory / DEFAULT_NAME).rename(old)
    before = old.read_bytes()
    told = flow.esis("setup", *FILES).ok()
    assert "wf.esis2.json" in told.stderr
    assert "--update" in told.stderr
    assert load(flow.directory / DEFAULT_NAME).requires == ()
    flow.esis("setup", "--update", *FILES).ok()
    made = load(flow.directory / DEFAULT_NAME)
    assert (made.requires, dict(made.requires_names)) == (("../A/wf.esis.json",), {"../A/wf.esis.json": "first"})
    assert dict(made.freeze_requirements) == {"../A/wf.esis.json": digest(flows["A"])}
    assert old.read_bytes() == before
    flow.esis("setup", *FILES).ok()
    assert load(flow.directory / DEFAULT_NAME).requires == made.requires, "its own are kept"


def test_f315_an_update_keeps_what_the_present_file_requires_itself(site: FakeSite) -> None:
    """F315: of one name that of the old file counts."""
    for name in ("A", "C"):
        make_workflow(site, name, 2)
    flow = make_workflow(site, "B", 2)
    flow.esis("require", "../A/wf.esis.json", "first").ok()
    (flow.directory / DEFAULT_NAME).rename(flow.directory / OLD_NAME)
    flow.esis("setup", *FILES).ok()
    for path, name in (("../A/./wf.esis.json", "first"), ("../C/wf.esis.json", "second")):
        flow.esis("require", path, name).ok()
    flow.esis("setup", "--update", *FILES).ok()
    named = dict(load(flow.directory / DEFAULT_NAME).requires_names)
    assert named == {"../A/wf.esis.json": "first", "../C/wf.esis.json": "second"}
    assert {*load(flow.directory / DEFAULT_NAME).requires} == {*named}


def test_setup_writes_where_it_is_told(site: FakeSite) -> None:
    """-o and --workflow-out; 0.0.4's name, too, and then it says which one comes first."""
    flow = bare(site, "A")
    for option, name in (("-o", "x.json"), ("--workflow-out", "y.json"), ("-o", OLD_NAME)):
        assert flow.esis("setup", option, name, *FILES).ok().stdout == f"{name}\n"
        assert load(flow.directory / name).workerscript == "worker.sh"
    assert not (flow.directory / DEFAULT_NAME).exists()
    flow.esis("run").ok()
    flow.esis("setup", *FILES).ok()
    assert "comes first" in flow.esis("setup", "-o", OLD_NAME, *FILES).ok().stderr


def test_require_and_freeze_write_where_they_are_told(site: FakeSite) -> None:
    """-o leaves the file that is read as it is; a wf.esis2.json that isn't there means the present one here, too."""
    flows = {name: make_workflow(site, name, 2) for name in ("A", "B")}
    flow, source = flows["B"], flows["B"].directory / DEFAULT_NAME
    before = source.read_bytes()
    flow.esis("require", "../A/wf.esis2.json", "first", DEFAULT_NAME, "-o", "x.json").ok()
    assert source.read_bytes() == before
    assert load(flow.directory / "x.json").requires == ("../A/wf.esis2.json",)
    flows["A"].esis("run").ok()
    whole = flow.esis("freeze-requirement", "first", digest(flows["A"])[:12], "x.json", "-o", "y.json").ok().stdout
    assert whole.strip() == digest(flows["A"])
    assert load(flow.directory / "x.json").freeze_requirements == {}
    assert dict(load(flow.directory / "y.json").freeze_requirements) == {"../A/wf.esis2.json": whole.strip()}
    flow.esis("freeze-requirement", "first", "y.json", "--unfreeze", "-o", "z.json").ok()
    assert load(flow.directory / "z.json").freeze_requirements == {}
    assert flow.esis("freeze-requirement", "first", digest(flows["A"]), "x.json", "-o", "../A/y.json").code == 2
    flow.esis("require", "../A/wf.esis2.json", "first", OLD_NAME, "-o", OLD_NAME).ok()
    assert load(source).requires == ("../A/wf.esis2.json",)
    assert not (flow.directory / OLD_NAME).exists()


def test_a_requirement_is_frozen_to_a_run_by_its_path(site: FakeSite) -> None:
    """As scripts have it: wd=$(esis list | grep wrkdir); a run in another place is none of the requirement's."""
    flows = {name: make_workflow(site, name, 2) for name in ("A", "B")}
    flows["A"].esis("run").ok()
    flows["B"].esis("require", "../A/wf.esis2.json", "first").ok()
    listed = flows["A"].esis("list").ok().stdout.strip()
    run = Path(listed).name
    for path in (listed, f"{listed}/", f"../A/{run}", run):
        frozen = flows["B"].esis("freeze-requirement", "first", path).ok()
        assert frozen.stdout.strip() == digest(flows["A"])
    shutil.copytree(listed, flows["B"].directory / run, symlinks=True)
    for path in (f"./{run}", f"/{run}", "../A/worker.sh", "../A"):
        refused = flows["B"].esis("freeze-requirement", "first", path)
        assert refused.code == 2
        assert f"{path} is no run in {flows['A'].directory}" in refused.stderr


def test_one_workflow_is_not_required_twice_by_its_two_names(site: FakeSite) -> None:
    """The name that is stored already stays, and with it the hash."""
    flows = {name: make_workflow(site, name, 2) for name in ("A", "B")}
    flows["B"].esis("require", "../A/wf.esis.json", "first").ok()
    before = digest(flows["B"])
    told = flows["B"].esis("require", "../A/wf.esis2.json", "first").ok()
    assert "already" in told.stderr
    assert digest(flows["B"]) == before
    assert load(flows["B"].directory / DEFAULT_NAME).requires == ("../A/wf.esis.json",)
    flows["A"].esis("require", "../B/wf.esis2.json", "cycle")
    assert "cycle" in flows["A"].esis("require", "../B/wf.esis2.json", "cycle").stderr


def test_requirements_tell_whether_their_run_exists(site: FakeSite) -> None:
    flows = {name: make_workflow(site, name, 2) for name in ("A", "B")}
    flows["B"].esis("require", "../A/wf.esis2.json", "first").ok()
    run = f"wrkdir.{digest(flows['A'])}"
    row = f"first\t{flows['A'].directory / DEFAULT_NAME}\t{run}\tcurrent\t"
    assert flows["B"].esis("list-requirements").ok().stdout == f"{row}missing\n"
    flows["A"].esis("run").ok()
    assert flows["B"].esis("list-requirements", "wf.esis2.json").ok().stdout == f"{row}exists\n"
