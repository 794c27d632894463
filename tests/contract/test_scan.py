"""What a scan promises, on the fake and on the real cluster alike."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.contract.site import TEMPLATE, WORKER, Site, Workflow, generator, make_workflow


def test_every_task_of_an_array_sees_its_own_parameters(site: Site) -> None:
    """A 10-task array with %4 runs, at most four at a time, each task with its own parameters."""
    worker = (
        WORKER
        + """
begin=$(date +%s%N); sleep 0.3; echo "$begin $(date +%s%N)" >"span.$SLURM_ARRAY_TASK_ID"
"""
    )
    flow = make_workflow(site, "scan", 10, worker=worker, options=["-m", "4"])
    shown = flow.esis("run").ok()
    run = flow.only_run()
    assert shown.stdout.strip() == str(site.inside(run))
    assert "0-9%4" in (run / "sbatch.sh").read_text()
    site.settle()
    for task in range(10):
        assert json.loads((run / f"cwd/seen.{task}").read_text()) == {"n": task, "square": task * task}
    assert flow.states() == {"done": 10}
    spans = [tuple(map(int, (run / f"cwd/span.{task}").read_text().split())) for task in range(10)]
    assert max(sum(1 for a, b in spans if a <= begin < b) for begin, _ in spans) <= 4
    assert (run / "__esis__/completed.state").read_text() == "1"
    assert len(list((run / "cwd").glob("slurm-*_*.out"))) == 10


def test_the_directory_is_the_contract(site: Site) -> None:
    """A run holds the files that DESIGN.md lists, with the ids that Slurm gave, its snapshot read-only."""
    flow = make_workflow(site, "layout", 2)
    flow.esis("run").ok()
    run = flow.only_run()
    names = {str(path.relative_to(run)) for path in run.rglob("*")}
    assert {
        "README",
        "sbatch.sh",
        "setup.sh",
        "gen.py",
        "template.sh",
        "worker.sh",
        "includes",
        "results",
        "cwd",
        "parameters/parameters.0.json",
        "parameters/parameters.1.json",
        "__checkpoints__",
        "__esis__/wf_status",
        "__esis__/workflow_definition.json",
        "__esis__/state.json",
        "__esis__/provenance.json",
        "__esis__/generator.log",
        "__esis__/setup.log",
        "__esis__/submissions/0001.json",
        "__esis__/tasks",
        "__esis__/jobid.tx",
        "__esis__/wf_starttime",
        "__esis__/completed.state",
    } <= names
    record = json.loads((run / "__esis__/submissions/0001.json").read_text())
    assert record["outcome"] == "submitted"
    assert [f"{job['id']}\n" for job in record["jobs"]] == [(run / "__esis__/jobid.tx").read_text()]
    assert re.fullmatch(r"\d+\n", (run / "__esis__/jobid.tx").read_text())
    assert re.fullmatch(r"\d\d\.\d\d\.\d{4}-\d\d:\d\d:\d\d", (run / "__esis__/wf_starttime").read_text())
    for name in ("setup.sh", "gen.py", "template.sh", "worker.sh"):
        assert not (run / name).stat().st_mode & 0o222
    assert not [name for name in names if ".esis-tmp-" in name or name.endswith("lock")]
    site.settle()


def test_a_second_run_submits_nothing(site: Site) -> None:
    """Running again, while active and when complete, submits nothing and doesn't run the setup script again."""
    flow = make_workflow(site, "twice", 2)
    flow.esis("run").ok()
    flow.esis("run").ok()
    site.settle()
    again = flow.esis("run").ok()
    assert "nothing to submit" in again.stderr
    assert site.submissions() == 1
    assert len((flow.only_run() / "setup-ran").read_text().splitlines()) == 1


def test_a_run_can_be_finished_by_hand(site: Site) -> None:
    """`sbatch ../sbatch.sh` typed in cwd/ reruns the tasks, and the records tell of it."""
    flow = make_workflow(site, "byhand", 3, worker=WORKER + '[ -e ../mended ] || [ "$SLURM_ARRAY_TASK_ID" != 1 ]\n')
    flow.esis("run").ok()
    site.settle()
    assert flow.states() == {"done": 2, "failed": 1}
    run = flow.only_run()
    site.run(["touch", "../mended"], run / "cwd").ok()
    site.run(["sbatch", "--array=1", "../sbatch.sh"], run / "cwd").ok()
    site.settle()
    assert flow.states() == {"done": 3}


def test_a_failed_task_is_named_with_its_exit_code(site: Site) -> None:
    """Status names the failed tasks and why; the run isn't complete."""
    flow = make_workflow(site, "failing", 5, worker="#!/bin/sh\n[ $SLURM_ARRAY_TASK_ID -lt 3 ] || exit 7\n")
    flow.esis("run").ok()
    site.settle()
    lines = flow.esis("status").ok().stdout.splitlines()
    assert lines[0] == str(site.inside(flow.only_run()))
    assert lines[1:] == ["done\t3\t0-2", "failed\t2\t3-4\texit code 7"]
    assert (flow.only_run() / "__esis__/completed.state").read_text() == "0"


def chain(site: Site, links: dict[str, list[str]], tasks: int = 2) -> dict[str, Workflow]:
    """Make workflows that require each other; each generator keeps what it was told, each task when it ran."""
    flows: dict[str, Workflow] = {}
    keep = 'open("told.json", "w").write(os.environ["ESIS2_REQUIREMENTS"])'
    worker = WORKER + 'date +%s%N >"begin.$SLURM_ARRAY_TASK_ID"; sleep 0.2; date +%s%N >"end.$SLURM_ARRAY_TASK_ID"\n'
    for name, required in links.items():
        flows[name] = make_workflow(site, name, worker=worker, generator_text=generator(tasks, keep))
        for other in required:
            flows[name].esis("require", f"../{other}/wf.esis.json", other).ok()
    return flows


def times(run: Path, what: str) -> list[int]:
    """Return when the tasks of a run began or ended."""
    return [int(path.read_text()) for path in (run / "cwd").glob(f"{what}.*")]


@pytest.mark.parametrize(
    "links",
    [{"a": [], "b": ["a"], "c": ["b"]}, {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}],
    ids=["chain", "diamond"],
)
def test_chains_run_in_the_right_order(site: Site, links: dict[str, list[str]]) -> None:
    """Later workflows wait for earlier ones by Slurm's own dependencies; a second call submits nothing."""
    flows = chain(site, links)
    last = list(links)[-1]
    shown = flows[last].esis("dependency").ok()
    runs = {name: flow.only_run() for name, flow in flows.items()}
    assert shown.stdout.split() == [str(site.inside(runs[name])) for name in links]
    flows[last].esis("dependency").ok()
    assert site.submissions() == len(links)
    for name, required in links.items():
        script = (runs[name] / "sbatch.sh").read_text()
        assert ("#SBATCH --dependency=afterok:" in script) == bool(required)
        ids = [(runs[other] / "__esis__/jobid.tx").read_text().strip() for other in required]
        assert all(job in script for job in ids)
    site.settle()
    for name, required in links.items():
        assert flows[name].states() == {"done": 2}
        told = json.loads((runs[name] / "parameters/told.json").read_text())
        assert told == {other: str(site.inside(runs[other])) for other in required}
        for other in required:
            assert max(times(runs[other], "end")) <= min(times(runs[name], "begin"))
    flows[last].esis("dependency").ok()
    assert site.submissions() == len(links)


def test_a_frozen_requirement_keeps_the_old_run(site: Site) -> None:
    """After A's setup script was edited, B still uses the run that it is frozen to."""
    flows = chain(site, {"a": [], "b": ["a"]})
    flows["a"].esis("run").ok()
    site.settle()
    old = flows["a"].only_run()
    flows["b"].esis("freeze-requirement", "a", old.name[len("wrkdir.") :][:10]).ok()
    flows["a"].write("setup.sh", "#!/bin/sh\necho edited\n")
    flows["b"].esis("run").ok()
    site.settle()
    told = json.loads((flows["b"].only_run() / "parameters/told.json").read_text())
    assert told == {"a": str(site.inside(old))}
    assert flows["a"].runs() == [old]
    flows["b"].esis("freeze-requirement", "a", "--unfreeze").ok()
    refused = flows["b"].esis("run")
    assert refused.code == 3
    assert "wf.esis.json" in refused.stderr
    assert "esis run" in refused.stderr


def test_missing_requirements_are_fatal_and_named(site: Site) -> None:
    """`esis run` lists each requirement that isn't complete and writes nothing."""
    flows = chain(site, {"a": [], "b": ["a"]})
    refused = flows["b"].esis("run")
    assert refused.code == 3
    assert str(site.inside(flows["a"].directory / "wf.esis.json")) in refused.stderr
    assert flows["b"].runs() == []
    assert site.submissions() == 0


def test_nothing_is_queued_behind_a_failed_requirement(site: Site) -> None:
    """`esis dependency` refuses to wait behind a run with failed tasks, naming it."""
    flows = chain(site, {"a": [], "b": ["a"]})
    flows["a"].write("worker.sh", "#!/bin/sh\nexit 3\n")
    flows["a"].esis("run").ok()
    site.settle()
    refused = flows["b"].esis("dependency")
    assert refused.code == 3
    assert str(site.inside(flows["a"].only_run())) in refused.stderr
    assert flows["b"].runs() == []
    told = flows["b"].esis("run")
    assert (told.code, f"esis resubmit {site.inside(flows['a'].only_run())}" in told.stderr) == (3, True)


def test_a_dependant_whose_requirement_was_lifted_does_not_start(site: Site) -> None:
    """Slurm may start a dependant of a failed run once it forgot it: the job itself checks and names the run."""
    flows = chain(site, {"a": [], "b": ["a"]})
    flows["a"].write("worker.sh", "#!/bin/sh\nsleep 1; exit 3\n")
    env = {"ESIS_REQUIREMENT_WAIT": "1"}
    flows["b"].esis("dependency", env=env).ok()
    site.settle()
    run = flows["b"].only_run()
    site.run(["sbatch", "--dependency=", "../sbatch.sh"], run / "cwd", env).ok()
    job = (run / "__esis__/jobid.tx").read_text().strip()
    site.run(["scancel", job], run / "cwd")
    site.settle()
    assert not list((run / "cwd").glob("begin.*"))
    assert flows["b"].states() == {"failed": 2}
    logs = "".join(path.read_text() for path in (run / "cwd").glob("slurm-*.out"))
    assert str(site.inside(flows["a"].only_run())) in logs


def test_a_template_without_the_dependency_line_is_refused_before_anything_is_submitted(site: Site) -> None:
    """The whole chain is checked first."""
    flows = chain(site, {"a": [], "b": ["a"]})
    flows["b"].write("template.sh", TEMPLATE.replace("#ESIS_PRIVATE\n", ""))
    refused = flows["b"].esis("dependency")
    assert refused.code == 2
    assert "#ESIS_PRIVATE" in refused.stderr
    assert site.submissions() == 0
    assert flows["a"].runs() == []


def test_a_refusal_keeps_the_run_and_the_same_command_goes_on(site: Site) -> None:
    """Slurm's line is shown, nothing counts as submitted, and once the cause is gone the same run is submitted."""
    flow = make_workflow(site, "refused", 2)
    refused = flow.esis("run", env={"SBATCH_PARTITION": "nowhere"})
    assert refused.code == 5, refused.stderr
    assert "partition" in refused.stderr
    assert flow.states() == {"unsubmitted": 2}
    flow.esis("run").ok()
    site.settle()
    assert flow.states() == {"done": 2}
    assert site.submissions() == 1
    assert [path.name for path in (flow.only_run() / "__esis__/submissions").glob("*.json")] == ["0001.json"]
    assert len((flow.only_run() / "setup-ran").read_text().splitlines()) == 1


def test_the_environment_of_the_caller_does_not_change_the_contract(site: Site) -> None:
    """F25: SBATCH_ARRAY_INX, SBATCH_WAIT, SBATCH_DEPENDENCY and SBATCH_JOB_NAME have no effect."""
    flow = make_workflow(site, "env", 2)
    env = {
        "SBATCH_ARRAY_INX": "7-9",
        "SBATCH_WAIT": "1",
        "SBATCH_DEPENDENCY": "afterok:1",
        "SBATCH_JOB_NAME": "x",
        "SLURM_ARRAY_TASK_ID": "17",
        "SLURM_JOB_ID": "99",
    }
    flow.esis("run", env=env).ok()
    site.settle()
    assert flow.states() == {"done": 2}
    assert "SLURM_ARRAY_TASK_ID" not in (flow.only_run() / "__esis__/generator.log").read_text()


@pytest.mark.parametrize("export", ["NONE", "NOTHING_SUCH"])
def test_templates_that_export_nothing_still_work(site: Site, export: str) -> None:
    """With --export=NONE the records and the fence work all the same."""
    template = TEMPLATE.replace("#SBATCH --time=5\n", f"#SBATCH --time=5\n#SBATCH --export={export}\n")
    flow = make_workflow(site, "export", 2, template=template.replace("srun ", ""))
    flow.esis("run").ok()
    site.settle()
    assert flow.states() == {"done": 2}
    assert (flow.only_run() / "__esis__/submissions/0001.claim").is_symlink()
