"""`esis why`: each difference is named, and nothing else."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from esis.model.workdir import RunDir
from esis.operations.compare import nearest
from esis.operations.witness.target import node_of
from esis.records import stage
from tests.contract.site import FakeSite, Workflow, make_workflow

INCLUDE = ("setup.sh", "gen.py", "template.sh", "worker.sh", "lib")


def with_directory(site: FakeSite, name: str = "w") -> Workflow:
    flow = make_workflow(site, name)
    (flow.directory / "lib").mkdir()
    for file in ("same", "other"):
        flow.write(f"lib/{file}", f"{file}\n", executable=False)
    flow.esis("setup", *INCLUDE).ok()
    return flow


def test_an_unchanged_workflow_has_the_run_itself(site: FakeSite) -> None:
    """One line, the run; a note says so."""
    flow = with_directory(site)
    flow.esis("run").ok()
    shown = flow.esis("why").ok()
    assert shown.stdout == f"{flow.only_run().resolve()}\n"
    assert "is the run of the present files" in shown.stderr
    assert json.loads(flow.esis("why", "--json").ok().stdout)["same"] is True


def test_every_kind_of_difference_is_named(site: FakeSite) -> None:
    """Scripts, files of a directory (changed, added, removed, made executable), includes that came and went."""
    flow = with_directory(site)
    flow.write("old", "old\n")
    flow.esis("setup", *INCLUDE, "old").ok()
    flow.esis("run").ok()
    flow.write("worker.sh", "#!/bin/sh\n")
    flow.write("lib/other", "order\n", executable=False)  # of the same size
    flow.write("lib/same", "same\n")
    flow.write("lib/new", "new\n")
    flow.write("new", "new\n")
    flow.esis("setup", *INCLUDE, "new").ok()
    lines = flow.esis("why").ok().stdout.splitlines()
    assert lines == [
        str(flow.only_run().resolve()),
        "changed\tworkerscript\tworker.sh",
        "changed\tinclude\tlib",
        "  added\tfile\tnew",
        "  changed\tfile\tother",
        "  changed\tfile\tsame",
        "added\tinclude\tnew",
        "removed\tinclude\told",
    ]


def test_a_requirement_is_explained_down_to_its_files(site: FakeSite) -> None:
    """Recursively, each once; what can't be compared any more is said."""
    base, middle, top = (make_workflow(site, name) for name in ("base", "middle", "top"))
    middle.esis("require", "../base/wf.esis.json", "base").ok()
    top.esis("require", "../middle/wf.esis.json", "middle").ok()
    top.esis("require", "../base/wf.esis.json", "base").ok()
    top.esis("dependency").ok()
    base.write("worker.sh", "#!/bin/sh\n")
    run = str(top.only_run().resolve())
    changed = "changed\trequirement\t"
    assert top.esis("why").ok().stdout.splitlines() == [
        run,
        f"{changed}../base/wf.esis.json",
        "  changed\tworkerscript\t../base/worker.sh",
        f"{changed}../middle/wf.esis.json",
        f"  {changed}../base/wf.esis.json\tas above",
    ]
    shutil.rmtree(base.only_run())
    label = json.loads(top.esis("why", "--json").ok().stdout)["changes"][0]
    assert label["note"] == f"its earlier run wrkdir.{label['before'][:12]} is not there any more"


def test_a_frozen_requirement_says_so(site: FakeSite) -> None:
    """Another pin is another hash, whatever the files are."""
    base, top = make_workflow(site, "base"), make_workflow(site, "top")
    top.esis("require", "../base/wf.esis.json", "base").ok()
    top.esis("dependency").ok()
    first = base.only_run()
    base.write("worker.sh", "#!/bin/sh\n")
    base.esis("run").ok()
    (second,) = set(base.runs()) - {first}
    top.esis("freeze-requirement", "base", second.name).ok()
    line = top.esis("why").ok().stdout.splitlines()[1]
    assert line.endswith(f"\tfrozen to {second.name[:19]}, was {first.name[:19]}")


def test_the_nearest_run_is_taken_and_of_equal_ones_the_latest(site: FakeSite) -> None:
    """Fewest differences first, then time; any other one can be named, also by standing in it."""
    flow = make_workflow(site, "w")
    runs: list[Path] = []
    for number in range(3):
        flow.write("worker.sh", f"#!/bin/sh\n# {number}\n")
        if number == 2:
            flow.write("setup.sh", "#!/bin/sh\n# other\n")
        flow.esis("run").ok()
        (made,) = set(flow.runs()) - set(runs)
        os.utime(made / "__esis__/wf_status", (0, time.time() + [100, 0, 200][number]))
        runs.append(made)
    flow.write("setup.sh", (runs[0] / "setup.sh").read_text())
    flow.write("worker.sh", "#!/bin/sh\n# now\n")
    assert flow.esis("why").ok().stdout.splitlines() == [str(runs[0].resolve()), "changed\tworkerscript\tworker.sh"]
    named = flow.esis("why", runs[2].name[:20]).ok().stdout
    assert named.splitlines()[0] == str(runs[2].resolve())
    assert "setupscript" in named
    assert flow.esis("why", ".", runs[2].name).ok().stdout == named
    inside = site.run(["esis", "why"], runs[2] / "cwd").ok().stdout
    assert inside.replace("../../", "") == named


def test_what_can_not_be_compared_is_bad_input(site: FakeSite) -> None:
    """No run yet, two workflow files, a damaged wf_status: a line and an exit code."""
    flow = make_workflow(site, "w")
    refused = flow.esis("why")
    assert (refused.code, len(refused.stderr.splitlines())) == (2, 1)
    assert "esis run builds one" in refused.stderr
    assert flow.esis("why", "a", "b").code == 2
    flow.esis("run").ok()
    status = flow.only_run() / "__esis__/wf_status"
    status.write_text(status.read_text().replace("a", "b"))
    assert flow.esis("why").code == 2
    damaged = flow.esis("why", flow.only_run().name)
    assert (damaged.code, len(damaged.stderr.splitlines())) == (1, 1)
    assert "wf_status is corrupt" in damaged.stderr


def test_a_neighbours_run_that_cannot_be_read_is_no_run_to_compare_with(
    site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left out, as one that is damaged is."""
    flow = with_directory(site)
    flow.esis("run").ok()
    closed = RunDir.of(flow.directory, "0" * 64)
    closed.private.mkdir(parents=True)
    really = stage.read

    def read(run: RunDir) -> stage.State | None:
        if run.path.name == closed.path.name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(run.state))
        return really(run)

    monkeypatch.setattr(stage, "read", read)
    node = node_of(flow.directory / "wf.esis.json")
    assert nearest(node).path.name != closed.path.name
