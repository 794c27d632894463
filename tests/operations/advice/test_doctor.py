"""esis doctor: each thing that people get wrong is one line; a workflow without faults has none."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esis.model import workflow as model
from esis.model.shelltext import quotations, without_redirections
from esis.model.workflow import Workflow
from esis.operations.advice import doctor
from esis.operations.advice.findings import Finding, Level
from esis.operations.advice.template import check_template
from esis.operations.advice.trial import attempt
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


def make(
    directory: Path,
    template: str = GOOD,
    worker: str = STOPPING,
    name: str = "t.sh",
    mode: Mapping[str, int] | None = None,
) -> Workflow:
    for file, text in {"setup": "#!/bin/sh\n", "gen": "#!/bin/sh\n", name: template, "worker": worker}.items():
        (directory / file).write_text(text)
        (directory / file).chmod((mode or {}).get(file, 0o755))
    return Workflow(directory / model.DEFAULT_NAME, "setup", "gen", name, "worker")


def found(workflow: Workflow, config: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    return [(item.level.value, item.message) for item in check_template(workflow, config or {})]


def test_a_template_with_all_lines_has_no_findings(tmp_path: Path) -> None:
    assert found(make(tmp_path)) == [("ok", str(tmp_path / "t.sh"))]


@pytest.mark.parametrize(
    ("before", "after", "level", "part"),
    [
        ("#SBATCH --open-mode=append\n", "", "problem", "add #SBATCH --open-mode=append"),
        ("--open-mode=append", "--open-mode=truncate", "problem", "add #SBATCH --open-mode=append"),
        ("#SBATCH --signal=USR1@120\n", "", "note", "#SBATCH --signal=USR1@120 tells it"),
        ("#SBATCH --requeue\n", "", "note", "add #SBATCH --requeue"),
        ("--requeue\n", "--no-requeue\n", "problem", "--no-requeue forbids it"),
        ("#SBATCH --time=1:00:00\n", "", "note", "no --time"),
        ("#ESIS_PRIVATE\n", "", "note", "no line #ESIS_PRIVATE"),
        ("set -euo pipefail\n", "", "problem", "without set -e"),
        ("srun WORKERSCRIPT", "WORKERSCRIPT", "note", "not called with srun"),
        ("srun WORKERSCRIPT", "exec srun WORKERSCRIPT", "problem", "leave exec out"),
        ("USR1@120", "B:USR1@120", "note", "hears it only when the worker"),
        ("#!/bin/bash", "#!/bin/csh", "note", "no script for a POSIX shell"),
        ("srun WORKERSCRIPT", "srun hostname", "problem", "no worker is called"),
        ("#SBATCH --array=TASKARRAYDEFINITION\n", "", "problem", "has no #SBATCH line with TASKARRAYDEFINITION"),
    ],
)
def test_each_fault_is_one_finding(tmp_path: Path, before: str, after: str, level: str, part: str) -> None:
    assert before in GOOD
    ((shown, message),) = found(make(tmp_path, GOOD.replace(before, after)))
    assert (shown, part in message) == (level, True), message


@pytest.mark.parametrize(
    "template",
    [
        GOOD.replace("#SBATCH --time=1:00:00", "#SBATCH -t 60"),
        GOOD.replace("#!/bin/bash", "#!/bin/bash -e").replace("set -euo pipefail\n", ""),
        GOOD.replace("set -euo pipefail", "set -o errexit"),
        GOOD.replace("USR1@120", "B:USR1@120").replace("srun WORKERSCRIPT", "srun WORKERSCRIPT &\nwait $!"),
        GOOD.replace("set -euo pipefail\n", "").replace("echo behind\n", "# a comment\n\n"),
        GOOD.replace("set -euo pipefail\n", "").replace(
            "srun WORKERSCRIPT\necho behind", "srun WORKERSCRIPT &\nwait $!"
        ),
        GOOD.replace("--open-mode=append", "--open-mode a"),
    ],
)
def test_other_ways_to_say_it_are_understood(tmp_path: Path, template: str) -> None:
    assert [level for level, _ in found(make(tmp_path, template))] == ["ok"]


def test_a_worker_that_needs_nothing_of_it_is_not_bothered(tmp_path: Path) -> None:
    plain = "#!/bin/bash\n#SBATCH --array=TASKARRAYDEFINITION\n#ESIS_PRIVATE\nsrun WORKERSCRIPT\n"
    assert [level for level, _ in found(make(tmp_path, plain, "#!/bin/sh\necho work\n"))] == ["ok"]


@pytest.mark.parametrize(("config", "level"), [({"JobRequeue": "1"}, "note"), ({"JobRequeue": "0"}, "problem")])
def test_whether_requeue_has_to_be_asked_for_tells_the_cluster(
    tmp_path: Path, config: dict[str, str], level: str
) -> None:
    ((shown, _),) = found(make(tmp_path, GOOD.replace("#SBATCH --requeue\n", "")), config)
    assert shown == level


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        ("scontrol requeue $SLURM_ARRAY_JOB_ID", True),
        ('scontrol requeue "${SLURM_JOB_ID}"', True),
        ('scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ESIS_INDEX"', False),
    ],
)
def test_requeueing_the_whole_array_is_a_problem(tmp_path: Path, line: str, bad: bool) -> None:
    shown = [message for level, message in found(make(tmp_path, worker=f"#!/bin/sh\n{line}\n")) if level == "problem"]
    assert [("whole array" in message) for message in shown] == [True] * bad


@pytest.mark.parametrize(
    ("lines", "bad"),
    [
        ("trap 'scontrol requeue \"$id\"; exit 0' USR1", True),
        ("trap 'scontrol requeue \"$id\" && exit' USR1", True),
        ("again() {\n    scontrol requeue $id || true\n    echo requeued; exit 0\n}", True),
        ("if [ $left -gt 0 ]; then scontrol requeue $id; fi\nexit 0", True),
        ("again() {\n    scontrol requeue $id\n}\nexit 0", False),
        ("trap 'scontrol requeue \"$id\"; exit 75' USR1", False),
        ("scontrol requeue $id\nexit 75\nexit 0", False),
        ("echo 'scontrol requeue'\nexit 01", False),
    ],
)
@pytest.mark.parametrize("where", ["template", "worker"])
def test_f183_who_asks_to_be_requeued_and_ends_with_0_is_warned(
    tmp_path: Path, lines: str, bad: bool, where: str
) -> None:
    """F183: cancelled while it waits, the task would be done: its script has said so."""
    template = GOOD.replace("srun", f"{lines}\nsrun") if where == "template" else GOOD
    worker = f"#!/bin/sh\n{lines}\n" if where == "worker" else STOPPING
    shown = [message for level, message in found(make(tmp_path, template, worker)) if level == "problem"]
    assert ["write exit 75" in message for message in shown if "requeued and ends" in message] == [True] * bad


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


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"setup": 0o644}, "setup script: "),
        ({"gen": 0o644}, "parameter generator: "),
        ({"worker": 0o644}, "template: it calls the worker"),
    ],
)
def test_scripts_have_to_be_executable(
    tmp_path: Path, change: dict[str, int], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (shown,) = problems(doctor.examine(make(tmp_path, mode=change), tmp_path))
    assert shown.startswith(part)
    assert "chmod +x" in shown


def test_a_worker_that_an_interpreter_starts_need_not_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    text = GOOD.replace("srun WORKERSCRIPT", "srun python3 -u WORKERSCRIPT")
    assert problems(doctor.examine(make(tmp_path, text, mode={"worker": 0o644}), tmp_path)) == []


def test_files_that_are_gone_or_have_no_interpreter_are_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    made = make(tmp_path, worker="echo no interpreter\n")
    (tmp_path / "gen").unlink()
    made = Workflow(made.path, "setup", "gen", "t.sh", "worker", ("nowhere",))
    shown = problems(doctor.examine(made, tmp_path))
    assert [text.partition(":")[0] for text in shown] == ["parameter generator", "worker script", "include"]


def test_f215_what_python_left_in_an_included_directory_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts in the hash, so that an import makes another run, of all tasks."""
    monkeypatch.setenv("PATH", str(tmp_path))
    make(tmp_path)
    (tmp_path / "lib" / "below").mkdir(parents=True)
    workflow = Workflow(tmp_path / "wf.esis.json", "setup", "gen", "t.sh", "worker", ("lib",))
    assert [item for item in doctor.examine(workflow, tmp_path) if item.subject == "include"] == []
    (tmp_path / "lib" / "below" / "__pycache__").mkdir()
    (shown,) = (item for item in doctor.examine(workflow, tmp_path) if item.subject == "include")
    assert (shown.level, "part of the hash" in shown.message) == (Level.NOTE, True)


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


@pytest.mark.parametrize(
    ("kind", "level", "part"),
    [
        ("nfs4", Level.NOTE, "seen late"),
        ("lustre", Level.NOTE, "seen late"),
        ("tmpfs", Level.NOTE, "don't see"),
        ("xfs", Level.OK, "is on xfs"),
        (None, Level.OK, ""),
    ],
)
def test_the_file_system_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str | None, level: Level, part: str
) -> None:
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
    shown = [(item.level.value, item.subject) for item in doctor.findings_on_config(config)]
    assert shown == [("ok", "slurm"), ("ok", "limits"), ("note", "limits"), ("note", "accounting")]
    limits = [item.message for item in doctor.findings_on_config(config) if item.subject == "limits"]
    assert limits[0].startswith("MaxArraySize is 1001")
    off = [item for item in doctor.findings_on_config({**config, "MaxArraySize": "0"}) if item.level is Level.PROBLEM]
    assert ["no array jobs" in item.message for item in off] == [True]


# --- what becomes of the worker's status


HEAD = "#!/bin/bash\n#SBATCH --array=TASKARRAYDEFINITION\n#ESIS_PRIVATE\n"
OWN_TRAP = """trap 'code=$?; rm -rf "$scratch"
      if type esis_end >/dev/null 2>&1; then esis_end "$code" || code=75; fi
      exit "$code"' EXIT
scratch=$(mktemp -d)
"""


def told(directory: Path, body: str, head: str = HEAD, name: str = "t.sh") -> list[tuple[str, str]]:
    return [
        item
        for item in found(make(directory, head + body, "#!/bin/sh\n", name=name))
        if "not called with srun" not in item[1]
    ]


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("srun WORKERSCRIPT | tee log\n", "pipefail"),
        ("set -e\nsrun WORKERSCRIPT 2>&1 | tee log\n", "pipefail"),
        ("srun WORKERSCRIPT \\\n  --long | tee log\n", "status"),
        ("srun WORKERSCRIPT &\nwait\n", "wait alone"),
        ("for n in 1 2; do srun WORKERSCRIPT & done\nwait\n", "status"),
        ("if srun WORKERSCRIPT; then echo well; fi\n", "if, while"),
        ("srun WORKERSCRIPT || true\n", "||"),
        ("srun WORKERSCRIPT || echo failed\n", "||"),
        ("(srun WORKERSCRIPT; rm -rf scratch)\n", "status"),
        ("work() { srun WORKERSCRIPT; echo done; }\nset +e\nwork\n", "status"),
        ("echo $(srun WORKERSCRIPT)\n", "status"),
        ("timeout 5 srun WORKERSCRIPT; echo $?\n", "status"),
        ("srun WORKERSCRIPT; srun ../post\n", "status"),
        ("srun WORKERSCRIPT\ncode=$?\nmodule purge\n", "without set -e"),
        ("set +e\nworker=$(realpath WORKERSCRIPT)\nsrun $worker\necho\n", "status"),
        ("exec >log 2>&1\ncd /tmp\nsrun WORKERSCRIPT\n/bin/rm -rf scratch\n", "without set -e"),
    ],
)
def test_a_failing_worker_that_ends_as_done_is_found_by_trying(tmp_path: Path, body: str, part: str) -> None:
    """The script ends with 0 though its worker ended with 3, whatever the form."""
    ((level, message),) = told(tmp_path, body)
    assert (level, "tried with one that ends with 3" in message, part in message) == ("problem", True, True), message


@pytest.mark.parametrize(
    "body",
    [
        "srun WORKERSCRIPT & pid=$!; wait $pid\n",
        'srun WORKERSCRIPT &\npid=$!\nwait "$pid"\n',
        "set -o pipefail\nsrun WORKERSCRIPT | tee log\n",
        "set -e\nexec > >(tee log) 2>&1\nsource ~/env\nexport PATH=$HOME/bin:$PATH\nsrun WORKERSCRIPT >out 2>'err'\n"
        "echo\n",
        "srun WORKERSCRIPT || exit 1\n",
        "if ! srun WORKERSCRIPT; then echo bad; exit 1; fi\n",
        "module purge && srun WORKERSCRIPT && echo well\n",
        "work() { srun WORKERSCRIPT; }\nwork\n",
        "srun WORKERSCRIPT\ncode=$?\nrm -rf scratch\nexit $code\n",
        "time srun WORKERSCRIPT\n",
        "/usr/bin/time -v timeout 5 srun WORKERSCRIPT\n",
        'call=(srun -n 1 WORKERSCRIPT)\n"${call[@]}"\n',
        "cat >in <<'EOF'\na > b $(\nEOF\nsrun WORKERSCRIPT <in\n",
        "set -eu\nif (( SLURM_NTASKS > 3 )) || [[ a > b ]]; then echo; fi\nsrun WORKERSCRIPT ${NAME:-a>b}\necho\n",
        OWN_TRAP + "srun WORKERSCRIPT\n",
        "worker=$(realpath WORKERSCRIPT)\ncd /tmp\nsrun $worker\n",
        'set -e\nworker=$(readlink -f WORKERSCRIPT)\nsrun "$worker"\necho\n',
        "set -e\nchmod +x WORKERSCRIPT || :\nsrun WORKERSCRIPT\n",
        'place=$(dirname WORKERSCRIPT)\nname=$(basename WORKERSCRIPT)\nsrun "$place/$name"\n',
        "sed -i s/x/y/ WORKERSCRIPT\nsrun WORKERSCRIPT\n",
    ],
)
def test_a_status_that_arrives_is_no_finding(tmp_path: Path, body: str) -> None:
    """What the script does with it counts, not what it looks like."""
    assert [level for level, _ in told(tmp_path, body)] == ["ok"], told(tmp_path, body)


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("! srun WORKERSCRIPT\n", "if, while"),
        ("while true; do srun WORKERSCRIPT || true; sleep 1; done\n", "||"),
        ("set -e\nflag -c 'srun WORKERSCRIPT; echo'\n", "shell inside"),
        ("zsh -c 'WORKERSCRIPT | tee log'\n", "shell inside"),
        ("cat < <(srun WORKERSCRIPT)\n", "process substitution"),
        ("ln -s WORKERSCRIPT here\n./here\n", "without set -e"),
        ("cp WORKERSCRIPT /tmp/here\n/tmp/here\n", "without set -e"),
        ("[ -e nowhere ] && srun WORKERSCRIPT | tee log\n", "pipefail"),
    ],
)
def test_what_can_not_be_tried_is_told_by_its_form(tmp_path: Path, body: str, part: str) -> None:
    ((level, message),) = told(tmp_path, body)
    assert (level, "may count as done" in message, part in message) == ("note", True, True), message


@pytest.mark.parametrize(
    ("first", "body", "part"),
    [
        ("/bin/sh", "if [[ 1 ]]; then srun WORKERSCRIPT; fi\n", "doesn't know [["),
        ("/bin/sh", "set -e\nsrun WORKERSCRIPT &>log\n", "doesn't know &>"),
        ("/usr/bin/env dash", "((1)) && srun WORKERSCRIPT\n", "dash doesn't know (("),
        ("/bin/dash", "srun WORKERSCRIPT | cat\nexit ${PIPESTATUS[0]}\n", "doesn't know PIPESTATUS"),
        ("/bin/sh", 'srun WORKERSCRIPT | cat\nexit "${PIPESTATUS[0]}" # \'\n', "doesn't know PIPESTATUS"),
        ("/bin/sh", "trap 'exit 1' ERR\nsrun WORKERSCRIPT\necho\n", "doesn't know trap … ERR"),
        ("/bin/ksh", 'srun WORKERSCRIPT | cat\nexit "${PIPESTATUS[0]}"\n', "ksh doesn't know PIPESTATUS"),
        ("/bin/ksh", "set -e\nfunction work {\n  srun WORKERSCRIPT\n  echo\n}\nwork\n", "ksh93 set -e doesn't hold"),
    ],
)
def test_f134_words_of_bash_in_scripts_for_others_are_noted(tmp_path: Path, first: str, body: str, part: str) -> None:
    """F134: the worker isn't called, goes on in the background, or its status is lost, and the script ends with 0."""
    ((level, message),) = told(tmp_path, body, HEAD.replace("/bin/bash", first))
    assert (level, part in message) == ("note", True), message


@pytest.mark.parametrize(
    ("first", "body"),
    [
        ("/bin/bash", "if [[ 1 ]]; then srun WORKERSCRIPT &>log; fi\n"),
        ("/bin/sh", "set -e\necho '[[ ' \"&> a\" # (( &>\nsrun WORKERSCRIPT >log 2>&1\nx=$((1 + 1))\n"),
        ("/bin/sh", "set -e\nx=$(((1 + 2) * 3)) y=$(( ((1)) ))\nsrun WORKERSCRIPT\n"),
        ("/bin/sh", "cat >in <<EOF\n[[ it's ]]\n((1))\nEOF\nsed '\n[[ a\n' in\nset -e\nsrun WORKERSCRIPT\n"),
        ("/bin/sh", "srun bash -c 'set -e; WORKERSCRIPT | cat; exit ${PIPESTATUS[0]}'\n"),
        ("/bin/sh", "srun bash -s <<'EOF'\nset -e\nif [[ 1 ]]; then WORKERSCRIPT; fi\nEOF\n"),
        ("/bin/mksh", "srun WORKERSCRIPT | cat\nexit ${PIPESTATUS[0]}\n"),
        ("/bin/ksh", "set -e\nwork() {\n  srun WORKERSCRIPT\n  echo\n}\nwork\n"),
    ],
)
def test_f134_words_that_a_shell_knows_are_no_finding(tmp_path: Path, first: str, body: str) -> None:
    assert [level for level, _ in told(tmp_path, body, HEAD.replace("/bin/bash", first))] == ["ok"]


@pytest.mark.parametrize(
    "body",
    [
        "sbatch WORKERSCRIPT\n",
        "sbatch --wrap WORKERSCRIPT\n",
        "/usr/bin/screen -dm WORKERSCRIPT\n",
        "tmux new-session -d 'WORKERSCRIPT; true'\n",
        "gdb -batch -ex run --args WORKERSCRIPT\n",
    ],
)
def test_f134_what_does_not_wait_for_the_worker_loses_its_status(tmp_path: Path, body: str) -> None:
    """F134: they end with 0 once it has been started, or whatever it ended with."""
    ((level, message),) = told(tmp_path, body)
    assert (level, "tried with one that ends with 3" in message) == ("problem", True), message
    told_to_wait = body.replace("sbatch ", "sbatch --wait ").replace("gdb ", "gdb -return-child-result ")
    assert told_to_wait == body or [level for level, _ in told(tmp_path, told_to_wait)] == []


@pytest.mark.parametrize("body", ["./batch WORKERSCRIPT\n", "../includes/at WORKERSCRIPT\n"])
def test_f134_a_program_of_ones_own_with_such_a_name_is_like_any_other(tmp_path: Path, body: str) -> None:
    assert told(tmp_path, body) == []


@pytest.mark.parametrize(
    "body",
    [
        "python3 -c \"import os; os.system('WORKERSCRIPT')\"\n",
        "perl -e 'system(\"WORKERSCRIPT\")'\n",
        "awk 'BEGIN { system(\"WORKERSCRIPT\") }'\n",
    ],
)
def test_f134_a_text_for_another_program_is_noted(tmp_path: Path, body: str) -> None:
    """F134: nobody can tell what becomes of the status in there."""
    ((level, message),) = told(tmp_path, body)
    assert (level, "a program that is no shell" in message) == ("note", True), message


@pytest.mark.parametrize(
    "body", ["# srun WORKERSCRIPT\nsrun ../other\n", "#SBATCH -J WORKERSCRIPT\n  # WORKERSCRIPT\necho\n"]
)
def test_f134_a_worker_in_comments_alone_is_never_called(tmp_path: Path, body: str) -> None:
    ((level, message),) = told(tmp_path, body)
    assert (level, "no worker is called" in message) == ("problem", True), message


@pytest.mark.parametrize(
    "body",
    [
        "srun \\\n  --ntasks=1 \\\n  WORKERSCRIPT \\\n  --long\n",
        'worker=WORKERSCRIPT\nsrun "$worker"\n',
        "export WORKER=WORKERSCRIPT\nset -e\nsrun $WORKER\n",
    ],
)
def test_f134_an_srun_on_another_line_is_found(tmp_path: Path, body: str) -> None:
    assert [level for level, _ in found(make(tmp_path, HEAD + body, "#!/bin/sh\n"))] == ["ok"]


def test_a_backslash_ends_no_comment(tmp_path: Path) -> None:
    """The shell goes on with the next line as with any other."""
    ((level, message),) = told(tmp_path, "# as on other clusters \\\nexec WORKERSCRIPT\n")
    assert (level, "exec in front of the worker" in message) == ("problem", True), message


def test_a_worker_called_in_a_loop_is_noted(tmp_path: Path) -> None:
    """The last call's status alone decides, and a failure of an earlier one is lost."""
    ((level, message),) = told(tmp_path, "for n in 1 2; do srun WORKERSCRIPT $n; done\n")
    assert (level, "several times" in message) == ("note", True)
    assert told(tmp_path, "set -e\nfor n in 1 2; do srun WORKERSCRIPT $n; done\n")[0][0] == "ok"


@pytest.mark.parametrize(
    "body",
    [
        "trap 'rm -rf \"$scratch\"' EXIT\nsrun WORKERSCRIPT\n",
        "clean() { rm -rf x; }\ntrap clean 0\nsrun WORKERSCRIPT\n",
        "trap 'rm -rf x' EXIT\nbash -c 'srun WORKERSCRIPT; exit 3'\n",
    ],
)
def test_f55_an_own_exit_trap_without_esis_end_is_a_problem(tmp_path: Path, body: str) -> None:
    """F55: no end is recorded; without accounting such tasks are lost."""
    assert [level for level, message in told(tmp_path, body) if "doesn't call esis_end" in message] == ["problem"]


def test_f134_an_exit_trap_of_zsh_is_one_too(tmp_path: Path) -> None:
    body = "TRAPEXIT() { print bye }\nsrun WORKERSCRIPT\n"
    ((level, message),) = told(tmp_path, body, HEAD.replace("/bin/bash", "/bin/zsh"))
    assert (level, "doesn't call esis_end" in message) == ("problem", True)


def test_trying_a_script_does_no_harm(tmp_path: Path) -> None:
    """No program starts, no file changes, no process is signalled, whatever the script holds."""
    victim = subprocess.Popen(["sleep", "60"])
    (tmp_path / "keep").write_text("kept")
    here = tmp_path / "keep"
    body = (
        f"kill -9 {victim.pid}\n/bin/kill -9 {victim.pid}\nbuiltin kill -9 {victim.pid}\n"
        f"command kill {victim.pid}\n"
        f"rm -rf {here}\n/bin/rm -rf {here}\n'/bin/rm' -rf {here}\nR=/bin/rm; $R -rf {here}\n"
        f"$(echo /bin/rm) {here}\n"
        f"echo gone >{here}\necho gone | tee {here}\n: >|{here}\nenable kill; kill {victim.pid}\n"
        f"exec {{fd}}>{here}\neval 'echo > {here}'\nPATH=/bin rm -rf {here}\nset +r\nbash -c 'rm -rf {here}'\n"
        f". {here}\nhistory -w {here}\nprintf x &>{here}\nenv rm {here}\nf() {{ f | f & }}\nf\n"
        "srun WORKERSCRIPT\n"
    )
    inside = [
        f"bash -c 'srun WORKERSCRIPT; echo >{here}; /bin/rm {here}; kill {victim.pid}; exec /bin/rm {here}'",
        f"bash -c '}}\n/bin/rm {here}\nenable kill\nkill {victim.pid}\nsrun WORKERSCRIPT'",
        f"eval 'srun WORKERSCRIPT; echo >{here}; kill {victim.pid}'",
        f"eval ':\n}}\nkill {victim.pid}\n/bin/rm {here}\nWORKERSCRIPT() {{ :'",
        f"sh <<EOF\nWORKERSCRIPT >{here}\n/bin/rm {here}\nkill {victim.pid}\n$(kill {victim.pid})\nEOF",
        f"w() {{ WORKERSCRIPT; kill {victim.pid}; }}\nexport -f w\nbash -c 'w; /bin/rm {here}'",
        f"bash -c '\"$@\"; $1 {here}' /bin/rm /bin/rm {here} WORKERSCRIPT",
    ]
    try:
        for tried in (body, *(f"{text}\nsrun WORKERSCRIPT\n" for text in inside)):
            told(tmp_path, tried)
            assert victim.poll() is None
            assert here.read_text() == "kept"
    finally:
        victim.kill()
        victim.wait()


def test_what_is_tried_comes_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop without an end is given up, and the forms decide."""
    monkeypatch.setattr("esis.operations.advice.trial._SECONDS", 0.5)
    assert attempt("#!/bin/bash\nwhile true; do squeue; done\nesis_the_worker\n") is None


@pytest.mark.parametrize("shell", ["#!/bin/zsh", "#!/usr/bin/env python3", "#!/bin/csh"])
def test_scripts_of_other_shells_are_not_tried(shell: str) -> None:
    assert attempt(f"{shell}\nesis_the_worker\necho\n") is None


@pytest.mark.parametrize(
    ("options", "noted"),
    [
        ("-o out.log", True),
        ("-o out.%A", True),
        ("-J name --output=%x.%N.log", True),
        ("-o out.log --open-mode=append", False),
        ("-o out.%j.log", False),
        ("-o %x_%3a.log", False),
        ("-o /dev/null", False),
        ("-e err.log", False),
    ],
)
def test_f135_a_log_that_all_tasks_write_over_is_noted(tmp_path: Path, options: str, noted: bool) -> None:
    """F135: what esis log shows of a task is what another one wrote."""
    shown = told(tmp_path, "srun WORKERSCRIPT\n", HEAD.replace("#ESIS_PRIVATE", f"#SBATCH {options}\n#ESIS_PRIVATE"))
    assert any(level == "note" and "write over one log" in message for level, message in shown) is noted, shown


def test_f135_tasks_of_packs_have_a_log_each(tmp_path: Path) -> None:
    """What the template names is then that of the elements."""
    workflow = make(
        tmp_path, HEAD.replace("#ESIS_PRIVATE", "#SBATCH -o all.log\n#ESIS_PRIVATE") + "srun WORKERSCRIPT\n"
    )
    for number in (1, 2):
        shown = found(workflow._replace(tasks_per_job=number))
        assert any("write over one log" in message for _, message in shown) is (number == 1)


@pytest.mark.parametrize(
    ("option", "setup", "expected"),
    [
        ("-o logs/%A_%a.out", "#!/bin/sh\n", ["mkdir -p cwd/logs"]),
        ("-o logs/%a.out", "#!/bin/sh\nmkdir cwd/logs\n", []),
        ("-e err/%a.err", "#!/bin/sh\n", ["mkdir -p cwd/err"]),
        ("-o /nowhere/x/%a", "#!/bin/sh\n", ["/nowhere/x"]),
        ("-o /dev/null", "#!/bin/sh\n", []),
        ("-o %x/%a", "#!/bin/sh\n", []),
        ("-o x-%a", "#!/bin/sh\n", []),
    ],
)
def test_directories_of_logs_that_will_be_missing_are_noted(
    tmp_path: Path, option: str, setup: str, expected: list[str]
) -> None:
    """A task whose log can't be made fails before it begins, without a word."""
    made = make(tmp_path, HEAD + f"#SBATCH {option}\nsrun WORKERSCRIPT\n", "#!/bin/sh\n")
    (tmp_path / "setup").write_text(setup)
    notes = [message for level, message in found(made) if level == "note"]
    assert len(notes) == len(expected)
    assert all(part in message for part, message in zip(expected, notes))


@settings(deadline=None)
@given(st.text(st.sampled_from("<>&|;()'\"`$#{}\\\n a1[-"), max_size=40))
def test_any_text_can_be_read_for_a_trial(text: str) -> None:
    """It comes back without redirections, or not at all; what is quoted in it is found."""
    without_redirections(text)
    assert all(quoted.text in text or "\\" in text for quoted in quotations(text))
