"""Options of templates and command lines that contradict those of ESIS, with a Slurm around it."""

from __future__ import annotations

import zipfile

import pytest

from tests.contract.site import TEMPLATE, Site, make_workflow

LINE = "#SBATCH --array=TASKARRAYDEFINITION\n"


@pytest.mark.parametrize(
    "header",
    ["#SBATCH --arr 1-2", "#SBATCH -HD /tmp", "#SBATCH -W", "#PBS -J 1-3", "#SBATCH hetjob", "#SBATCH --test-only"],
)
def test_f60_a_template_that_contradicts_is_refused_before_anything_is_written(site: Site, header: str) -> None:
    """F60: exit code 2, the line is named, nothing is made and nothing submitted; esis doctor says the same."""
    assert LINE in TEMPLATE
    flow = make_workflow(site, "contradicts", 2)
    flow.write("template.sh", TEMPLATE.replace(LINE, f"{LINE}{header}\n"))
    before = site.submissions()
    number = TEMPLATE.split("\n").index(LINE.strip()) + 2
    for command in ("run", "dependency"):
        refused = flow.esis(command)
        assert refused.code == 2, refused
        assert f"line {number}: " in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    assert flow.runs() == []
    assert site.submissions() == before
    told = flow.esis("doctor")
    assert told.code == 1
    assert f"line {number}: " in told.stdout


def test_f60_a_dependency_of_the_template_and_that_of_esis_both_hold(site: Site) -> None:
    """F60: sbatch takes the joined one, and the chain comes to its end."""
    first = make_workflow(site, "first", 2)
    second = make_workflow(
        site, "second", 2, template=TEMPLATE.replace(LINE, f"{LINE}#SBATCH --dependency=singleton\n#ESIS_PRIVATE\n")
    )
    second.esis("require", "../first/wf.esis.json", "first").ok()
    first.write("worker.sh", "#!/bin/sh\nwhile ! [ -e ../go ]; do sleep 0.1; done\n")
    done = second.esis("dependency").ok()
    assert ",singleton" in (second.only_run() / "sbatch.sh").read_text(), done.stderr
    assert second.states() == {"waiting": 2}
    site.run(["touch", "go"], first.only_run()).ok()
    site.settle()
    assert second.states() == {"done": 2}


def test_f60_a_dependency_of_0_in_the_template_is_none(site: Site) -> None:
    """F60: sbatch reads 0 as no dependency, and refuses it in a list."""
    make_workflow(site, "first", 1)
    second = make_workflow(
        site, "second", 1, template=TEMPLATE.replace(LINE, f"{LINE}#SBATCH --dependency=0\n#ESIS_PRIVATE\n")
    )
    second.esis("require", "../first/wf.esis.json", "first").ok()
    second.esis("dependency").ok()
    site.settle()
    assert second.states() == {"done": 1}


def test_f60_another_script_behind_the_dashes_is_refused(site: Site) -> None:
    """F60: `esis resubmit -- --time=5 other.sh` would submit other.sh."""
    flow = make_workflow(site, "other", 2, worker="#!/bin/sh\nexit 3\n")
    flow.esis("run").ok()
    site.settle()
    before = site.submissions()
    for words in (["--time=5", "other.sh"], ["--time", "5", "other.sh"], ["--hold", "../sbatch.sh"], ["-HD/tmp"]):
        refused = flow.esis("resubmit", "--", *words)
        assert refused.code == 2, refused
    assert site.submissions() == before
    flow.esis("resubmit", "--", "--time", "5", "-n1").ok()
    site.settle()


def test_f63_exported_values_reach_the_tasks_and_no_file_of_the_run(site: Site) -> None:
    """F63: records are for a run's group, and go into archives."""
    flow = make_workflow(site, "secret", 1, worker='#!/bin/sh\n[ "${TOKEN-}" = abcxyz1 ]\n')
    flow.esis("run").ok()
    site.settle()
    assert flow.states() == {"failed": 1}
    told = flow.esis("resubmit", "--", "--export=ALL,TOKEN=abcxyz1", "--comment=secret:abcxyz2").ok().stderr
    assert "has to be given the values again" in told
    assert "abcxyz" not in told
    site.settle()
    assert flow.states() == {"done": 1}
    held = [path for path in flow.only_run().rglob("*") if path.is_file() and b"abcxyz" in path.read_bytes()]
    assert [path.name for path in held] == ["worker.sh"]
    if site.name == "fake":  # login nodes of the cluster have no rocrate
        flow.esis("archive", "-o", "a.zip", "--title", "t").ok()
        with zipfile.ZipFile(flow.directory / "a.zip") as archive:
            assert [name for name in archive.namelist() if b"abcxyz" in archive.read(name)] == ["worker.sh"]
    refused = flow.esis("resubmit", "--unsubmitted", "--feed", "--", "--export=ALL,TOKEN=abcxyz1")
    assert refused.code == 2
    assert "--feed" in refused.stderr


@pytest.mark.parametrize(
    ("line", "arguments", "part"),
    [
        ("--mem=0", ["--scale-mem", "2"], "all memory of a node"),
        ("--mem=0G", ["--scale-mem", "2"], "all memory of a node"),
        ("--mem-per-cpu=0", ["--scale-mem", "2"], "all memory of a node"),
        ("--time=0", ["--scale-time", "2"], "is no limit"),
        ("-t UNLIMITED", ["--scale-time", "2"], "is no limit"),
    ],
)
def test_f62_special_values_are_not_computed_with(site: Site, line: str, arguments: list[str], part: str) -> None:
    """F62: `--scale-mem 2` on `--mem=0` asked for 1 MB."""
    flow = make_workflow(
        site,
        "special",
        1,
        worker="#!/bin/sh\nexit 3\n",
        template=TEMPLATE.replace("#SBATCH --time=5\n", f"#SBATCH {line}\n"),
    )
    flow.esis("run").ok()
    site.settle()
    before = site.submissions()
    refused = flow.esis("resubmit", *arguments)
    assert refused.code == 2, refused
    assert part in refused.stderr
    assert site.submissions() == before
    flow.esis("resubmit", "--", "--mem-per-cpu=4MB" if "per-cpu" in line else "--mem=4MB", "--time=3").ok()
    site.settle()
    assert "M" in flow.esis("resubmit", "--scale-mem", "2", "--scale-time", "2").ok().stderr
    site.settle()


def test_f62_packs_by_time_where_there_is_no_limit(site: Site) -> None:
    """F62: `--tasks-per-job auto` with --time=0: an hour is filled."""
    flow = make_workflow(site, "packs", 2, template=TEMPLATE.replace("--time=5", "--time=0"))
    flow.esis("run").ok()
    site.settle()
    flow.esis("resubmit", "--state", "done", "--tasks-per-job", "auto").ok()
    site.settle()
    assert flow.states() == {"done": 2}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--scale-mem", "nan"], "is no factor"),
        (["--scale-time", "inf"], "is no factor"),
        (["--scale-mem", "1e300"], "is no factor"),
        (["--scale-mem", "2", "--", "--mem-per-cpu=1G"], "contradicts --mem-per-cpu"),
        (["--scale-time", "2", "--", "-t", "5"], "contradicts --time"),
        (["--", "--time=5", "hetjob"], "hetjob"),
    ],
)
def test_f62_what_can_not_be_computed_with_is_refused(site: Site, given: list[str], said: str) -> None:
    """F62: and a word that sbatch would take for the script, also one that means something in a template."""
    template = TEMPLATE.replace("#ESIS_PRIVATE", "#SBATCH --mem=100M\n#ESIS_PRIVATE")
    flow = make_workflow(site, "factor", 1, template=template, worker="#!/bin/sh\nexit 3\n")
    flow.esis("run").ok()
    site.settle()
    refused = flow.esis("resubmit", *given)
    assert refused.code == 2, refused
    assert said in refused.stderr
    assert site.submissions() == 1
