"""esis doctor: each thing that people get wrong is one line; a workflow without faults has none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from esis.model import workflow as model
from esis.model.workflow import Workflow
from esis.operations import doctor
from esis.operations.findings import Finding, Level
from esis.operations.script import check_template
from esis.schedulers.config import parse_config

GOOD = """#!/bin/bash
#SBATCH --array=TASKARRAYDEFINITION
#SBATCH --time=1:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#ESIS_PRIVATE
set -euo pipefail
srun WORKERSCRIPT
echo behind
"""
STOPPING = "#!/usr/bin/env python3\nimport esis\nwith esis.stopping() as stop:\n    esis.requeue()\n"


def make(directory: Path, template: str = GOOD, worker: str = STOPPING, name: str = "t.sh",
         mode: Mapping[str, int] | None = None) -> Workflow:
    for file, text in {"setup": "#!/bin/sh\n", "gen": "#!/bin/sh\n", name: template, "worker": worker}.items():
        (directory / file).write_text(text)
        (directory / file).chmod((mode or {}).get(file, 0o755))
    return Workflow(directory / model.DEFAULT_NAME, "setup", "gen", name, "worker")


def found(workflow: Workflow, config: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    return [(item.level.value, item.message) for item in check_template(workflow, config or {})]


def test_a_template_with_all_lines_has_no_findings(tmp_path: Path) -> None:
    assert found(make(tmp_path)) == [("ok", str(tmp_path / "t.sh"))]


@pytest.mark.parametrize(("before", "after", "level", "part"), [
    ("#SBATCH --open-mode=append\n", "", "problem", "add #SBATCH --open-mode=append"),
    ("--open-mode=append", "--open-mode=truncate", "problem", "add #SBATCH --open-mode=append"),
    ("#SBATCH --signal=USR1@120\n", "", "note", "#SBATCH --signal=USR1@120 tells it"),
    ("#SBATCH --requeue\n", "", "note", "add #SBATCH --requeue"),
    ("--requeue\n", "--no-requeue\n", "problem", "--no-requeue forbids it"),
    ("#SBATCH --time=1:00:00\n", "", "note", "no --time"),
    ("#ESIS_PRIVATE\n", "", "note", "no line #ESIS_PRIVATE"),
    ("set -euo pipefail\n", "", "note", "without set -e"),
    ("srun WORKERSCRIPT", "WORKERSCRIPT", "note", "not called with srun"),
    ("srun WORKERSCRIPT", "exec srun WORKERSCRIPT", "problem", "leave exec out"),
    ("USR1@120", "B:USR1@120", "note", "hears it only when the worker"),
    ("#!/bin/bash", "#!/bin/csh", "note", "no script for a POSIX shell"),
    ("srun WORKERSCRIPT", "srun hostname", "problem", "no worker is called"),
    ("#SBATCH --array=TASKARRAYDEFINITION\n", "", "problem", "has no #SBATCH line with TASKARRAYDEFINITION"),
])
def test_each_fault_is_one_finding(tmp_path: Path, before: str, after: str, level: str, part: str) -> None:
    assert before in GOOD
    ((shown, message),) = found(make(tmp_path, GOOD.replace(before, after)))
    assert (shown, part in message) == (level, True), message


@pytest.mark.parametrize("template", [
    GOOD.replace("#SBATCH --time=1:00:00", "#SBATCH -t 60"),
    GOOD.replace("#!/bin/bash", "#!/bin/bash -e").replace("set -euo pipefail\n", ""),
    GOOD.replace("set -euo pipefail", "set -o errexit"),
    GOOD.replace("USR1@120", "B:USR1@120").replace("srun WORKERSCRIPT", "srun WORKERSCRIPT &\nwait $!"),
    GOOD.replace("set -euo pipefail\n", "").replace("echo behind\n", "# a comment\n\n"),
    GOOD.replace("set -euo pipefail\n", "").replace("srun WORKERSCRIPT\necho behind", "srun WORKERSCRIPT &\nwait $!"),
    GOOD.replace("--open-mode=append", "--open-mode a"),
])
def test_other_ways_to_say_it_are_understood(tmp_path: Path, template: str) -> None:
    assert [level for level, _ in found(make(tmp_path, template))] == ["ok"]


def test_a_worker_that_needs_nothing_of_it_is_not_bothered(tmp_path: Path) -> None:
    plain = "#!/bin/bash\n#SBATCH --array=TASKARRAYDEFINITION\n#ESIS_PRIVATE\nsrun WORKERSCRIPT\n"
    assert [level for level, _ in found(make(tmp_path, plain, "#!/bin/sh\necho work\n"))] == ["ok"]


@pytest.mark.parametrize(("config", "level"), [({"JobRequeue": "1"}, "note"), ({"JobRequeue": "0"}, "problem")])
def test_whether_requeue_has_to_be_asked_for_tells_the_cluster(tmp_path: Path, config: dict[str, str],
                                                              level: str) -> None:
    ((shown, _),) = found(make(tmp_path, GOOD.replace("#SBATCH --requeue\n", "")), config)
    assert shown == level


@pytest.mark.parametrize(("line", "bad"), [
    ("scontrol requeue $SLURM_ARRAY_JOB_ID", True), ('scontrol requeue "${SLURM_JOB_ID}"', True),
    ('scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ESIS_INDEX"', False),
])
def test_requeueing_the_whole_array_is_a_problem(tmp_path: Path, line: str, bad: bool) -> None:
    shown = [message for level, message in found(make(tmp_path, worker=f"#!/bin/sh\n{line}\n")) if level == "problem"]
    assert [("whole array" in message) for message in shown] == [True] * bad


def test_an_include_that_stops_in_time_counts_too(tmp_path: Path) -> None:
    (tmp_path / "loop.py").write_text("import esis\nesis.should_stop()\n")
    made = make(tmp_path, GOOD.replace("#SBATCH --open-mode=append\n", ""), "#!/bin/sh\n")
    assert [level for level, _ in found(made)] == ["ok"]
    including = Workflow(made.path, "setup", "gen", "t.sh", "worker", ("loop.py",))
    assert [level for level, _ in found(including)] == ["problem"]


def test_jinja2_templates_are_read_by_their_own_mark(tmp_path: Path) -> None:
    text = GOOD.replace("TASKARRAYDEFINITION", "{{ array }}").replace("WORKERSCRIPT", "{{ worker | quote }}")
    assert [level for level, _ in found(make(tmp_path, text, name="t.j2"))] == ["ok"]
    bare = text.replace("set -euo pipefail\n", "")
    assert ["without set -e" in message for _, message in found(make(tmp_path, bare, name="t.j2"))] == [True]


def problems(findings: list[Finding]) -> list[str]:
    return [f"{item.subject}: {item.message}" for item in findings if item.level is Level.PROBLEM]


@pytest.mark.parametrize(("change", "part"), [
    ({"setup": 0o644}, "setup script: "), ({"gen": 0o644}, "parameter generator: "),
    ({"worker": 0o644}, "template: it calls the worker"),
])
def test_scripts_have_to_be_executable(tmp_path: Path, change: dict[str, int], part: str,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (shown,) = problems(doctor.examine(make(tmp_path, mode=change), tmp_path))
    assert shown.startswith(part)
    assert "chmod +x" in shown


def test_a_worker_that_an_interpreter_starts_need_not_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    text = GOOD.replace("srun WORKERSCRIPT", "srun python3 -u WORKERSCRIPT")
    assert problems(doctor.examine(make(tmp_path, text, mode={"worker": 0o644}), tmp_path)) == []


def test_files_that_are_gone_or_have_no_interpreter_are_problems(tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    made = make(tmp_path, worker="echo no interpreter\n")
    (tmp_path / "gen").unlink()
    made = Workflow(made.path, "setup", "gen", "t.sh", "worker", ("nowhere",))
    shown = problems(doctor.examine(made, tmp_path))
    assert [text.partition(":")[0] for text in shown] == ["parameter generator", "worker script", "include"]


def test_without_slurm_it_says_that_local_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    shown = {item.subject: item for item in doctor.examine(None, tmp_path)}
    assert shown["slurm"].level is Level.NOTE
    assert "--local" in shown["slurm"].message


def test_a_directory_that_others_may_exchange_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert ["everybody may write" in text for text in problems(list(doctor._place(tmp_path / "open")))] == [True]
    (tmp_path / "open").chmod(0o1777)
    assert problems(list(doctor._place(tmp_path / "open"))) == []
    assert os.listdir(tmp_path / "open") == []


@pytest.mark.parametrize(("kind", "level", "part"), [
    ("nfs4", Level.NOTE, "seen late"), ("lustre", Level.NOTE, "seen late"), ("tmpfs", Level.NOTE, "don't see"),
    ("xfs", Level.OK, "is on xfs"), (None, Level.OK, ""),
])
def test_the_file_system_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str | None, level: Level,
                                 part: str) -> None:
    monkeypatch.setattr(doctor, "_file_system", lambda path: kind)
    (shown,) = [item for item in doctor._place(tmp_path) if item.subject == "directory"]
    assert (shown.level, part in shown.message) == (level, True)


def test_the_kind_of_a_mounted_file_system_is_found() -> None:
    assert doctor._file_system(Path("/proc/self")) == "proc"


def test_the_configuration_is_read_and_judged() -> None:
    text = """Configuration data as of 2026-01-01T00:00:00
AccountingStorageType   = (null)
ClusterName             = esis
JobRequeue              = 1
MaxArraySize            = 1001
MinJobAge               = 300 sec
SchedulerParameters     = sched_interval=5,max_array_tasks=50

Slurmctld(primary) at ctl is UP
"""
    config = parse_config(text)
    assert (config["MaxArraySize"], config["SchedulerParameters"]) == ("1001", "sched_interval=5,max_array_tasks=50")
    shown = [(item.level.value, item.subject) for item in doctor.judge_config(config)]
    assert shown == [("ok", "slurm"), ("ok", "limits"), ("note", "limits"), ("note", "accounting")]
    assert "go up to 1000" in next(item.message for item in doctor.judge_config(config) if item.subject == "limits")
    off = [item for item in doctor.judge_config({**config, "MaxArraySize": "0"}) if item.level is Level.PROBLEM]
    assert ["no array jobs" in item.message for item in off] == [True]
