"""esis doctor with a Slurm around it."""

from __future__ import annotations

import json

from tests.contract.site import Site, make_workflow


def test_a_good_workflow_has_no_problem_and_slurm_is_seen(site: Site) -> None:
    flow = make_workflow(site, "doctor", 2)
    shown = flow.esis("doctor").ok().stdout.splitlines()
    assert all(line.split("\t")[0] in ("ok", "note") and line.count("\t") == 2 for line in shown), shown
    assert any(line.startswith("ok\tslurm\tversion ") for line in shown)
    assert any(line.startswith("ok\tlimits\tMaxArraySize is 1001") for line in shown)
    assert any(line.startswith("note\taccounting\toff") for line in shown)
    before = sorted(path.name for path in flow.directory.iterdir())
    found = json.loads(flow.esis("doctor", "--json").ok().stdout)
    assert [[item["level"], item["subject"], item["message"]] for item in found["findings"]] == [
        line.split("\t") for line in shown
    ]
    assert sorted(path.name for path in flow.directory.iterdir()) == before


def test_a_problem_is_told_by_the_exit_code(site: Site) -> None:
    flow = make_workflow(site, "ill", 2)
    flow.write("worker.sh", "#!/usr/bin/env python3\nimport esis\nesis.requeue()\n")
    done = flow.esis("doctor")
    assert done.code == 1
    assert [line.split("\t")[0:2] for line in done.stdout.splitlines() if line.startswith("problem")] == [
        ["problem", "template"]
    ]
    assert "--open-mode=append" in done.stdout


def test_without_a_workflow_it_looks_at_the_rest(site: Site) -> None:
    site.run(["mkdir", "empty"], site.home).ok()
    shown = site.run(["esis", "doctor"], site.home / "empty").ok().stdout
    assert shown.startswith("note\tworkflow\tthere is no workflow file")
    assert site.run(["esis", "doctor", "nowhere.json"], site.home / "empty").code == 2
