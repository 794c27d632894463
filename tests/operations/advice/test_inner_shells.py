"""esis doctor and shells inside of a template: it says of each what bash really does with it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from esis.model import workflow as model
from esis.model.shelltext import WORKER
from esis.model.workflow import Workflow
from esis.operations.advice.template import check_template

HEAD = "#!/bin/bash\n#SBATCH --array=TASKARRAYDEFINITION\n#ESIS_PRIVATE\n"
LAUNCHER = """#!/bin/bash
while [ $# -gt 0 ]; do case $1 in -n) shift 2;; -*|exec|img|node) shift;; *) break;; esac; done
"""
PROGRAMS = {
    "srun": LAUNCHER + 'exec "$@"\n',
    "mpirun": LAUNCHER + 'exec "$@"\n',
    "singularity": LAUNCHER + 'exec "$@"\n',
    "ssh": LAUNCHER + 'exec bash -c "$*"\n',
    "parallel": LAUNCHER + 'exec bash -c "$1"\n',
    "module": "#!/bin/sh\n",
    WORKER: '#!/bin/sh\nexit "$CODE"\n',
}
LOST = [
    "srun bash -c 'WORKERSCRIPT; echo done'",
    'srun sh -c "WORKERSCRIPT; sync"',
    "srun bash -c 'cd . && WORKERSCRIPT; date'",
    'srun singularity exec img bash -c "WORKERSCRIPT; ls"',
    "bash -lc 'WORKERSCRIPT; ls'",
    "srun bash --norc -xc 'WORKERSCRIPT; ls'",
    'sh -c "WORKERSCRIPT | tee log"',
    "sh -c 'WORKERSCRIPT &'",
    "srun bash -c 'WORKERSCRIPT & wait'",
    "srun bash -c 'WORKERSCRIPT || true'",
    "srun bash -c 'if WORKERSCRIPT; then date; fi'",
    "srun bash -c 'WORKERSCRIPT > log 2>&1; date >> log'",
    "srun bash <<EOF\nWORKERSCRIPT\necho\nEOF",
    "srun sh <<'EOF' || exit 1\nWORKERSCRIPT\ndate\nEOF\ndate",
    "cat <<EOF | bash\nWORKERSCRIPT\ndate\nEOF",
    'bash <<<"WORKERSCRIPT; date"',
    'echo "WORKERSCRIPT; date" | bash',
    "echo a | xargs -I{} sh -c 'WORKERSCRIPT {}; date'",
    "parallel 'WORKERSCRIPT; date' ::: 1",
    'ssh node "cd . && WORKERSCRIPT; date"',
    "time bash -c 'WORKERSCRIPT; date'",
    "timeout 5 bash -c 'WORKERSCRIPT; date'",
    "nice -n 5 stdbuf -oL env A=1 bash -c 'WORKERSCRIPT; date'",
    "mpirun -n 2 /bin/bash -c 'WORKERSCRIPT; date'",
    "$SHELL -c 'WORKERSCRIPT; date'",
    "f() { WORKERSCRIPT; date; }\nf",
    "work() { WORKERSCRIPT; }\nexport -f work\nsrun bash -c 'work; date'",
    "echo \"$(bash -c 'WORKERSCRIPT; date')\"",
    'eval "WORKERSCRIPT; date"',
    'cmd="cd .; WORKERSCRIPT; date"\nsrun bash -c "$cmd"',
    'srun bash -c "mkdir -p $HOME/a.$$; WORKERSCRIPT; rm -rf $HOME/a.$$"',
    'srun bash -c \'"$0" "$@"; date\' WORKERSCRIPT a',
    "set -e\nsrun bash -c '\nmodule load x\nWORKERSCRIPT\ndate\n'",
    "srun bash -c \"bash -c 'WORKERSCRIPT; date'\"",
    "srun bash -c 'trap \"exit 0\" EXIT; WORKERSCRIPT'",
    'set -e\nfor n in {1..3}; do bash -c "WORKERSCRIPT $n; date"; done',
    "srun WORKERSCRIPT |& cat",
    "exec 3>&1; srun bash -c 'WORKERSCRIPT >&3; date'",
    "set -e\nfind . -maxdepth 0 -exec WORKERSCRIPT {} \\;",
    "srun find . -maxdepth 0 -exec WORKERSCRIPT {} ';'",
    "find . -maxdepth 0 -exec bash -ec 'WORKERSCRIPT; date' \\;",
    "cat >run.sh <<EOF\nset -e\nWORKERSCRIPT\ndate\nEOF\nbash run.sh\ndate",
    "cat <<EOF >run.sh\nset -e\nWORKERSCRIPT\ndate\nEOF\nchmod +x run.sh; bash ./run.sh\nrm run.sh",
]
KEPT = [
    "bash -c 'set -e; WORKERSCRIPT; date'",
    "bash -ec 'WORKERSCRIPT; date'",
    "bash -euo pipefail -c 'WORKERSCRIPT | tee log; date'",
    "bash -c 'module load x && WORKERSCRIPT'",
    'bash -c "cd .; exec WORKERSCRIPT"',
    "bash -c 'WORKERSCRIPT || exit $?; date'",
    "bash -c 'WORKERSCRIPT; rc=$?; sync; exit $rc'",
    'bash -c "WORKERSCRIPT; rc=\\$?; sync; exit \\$rc"',
    "bash -c 'WORKERSCRIPT; if [ $? -ne 0 ]; then exit 1; fi; date'",
    "bash -c 'WORKERSCRIPT | cat; exit ${PIPESTATUS[0]}'",
    "bash -c 'WORKERSCRIPT & p=$!; wait $p; rc=$?; date; exit $rc'",
    "bash -c 'set -e; WORKERSCRIPT; date' || exit 1",
    "if ! bash -c 'set -e; WORKERSCRIPT; date'; then exit 4; fi",
    "bash -c 'set -e; WORKERSCRIPT > \"a log\" 2>&1; date >> log'",
    "bash -c 'trap date EXIT; WORKERSCRIPT'",
    "bash -c 'until WORKERSCRIPT; do exit 1; done'",
    "srun bash -e <<'EOF'\nWORKERSCRIPT\ndate\nEOF",
    "srun bash -s a <<'EOF'\nset -e\nWORKERSCRIPT \"$1\"\ndate\nEOF",
    "srun sh <<'EOF' || exit 1\nWORKERSCRIPT\nEOF\ndate",
    "cat <<EOF | bash\nset -e\nWORKERSCRIPT\ndate\nEOF",
    "echo a | xargs -n1 WORKERSCRIPT",
    "echo a b | xargs -n 1 bash -c 'WORKERSCRIPT \"$1\" || exit 255; date' _",
    'ssh node "cd . && WORKERSCRIPT"',
    "work() { WORKERSCRIPT; }\nexport -f work\nsrun bash -c work",
    'eval "srun WORKERSCRIPT"',
    'eval "WORKERSCRIPT; rc=\\$?; date"; exit $rc',
    'set -e; eval "WORKERSCRIPT; date"',
    'cmd="cd . && WORKERSCRIPT"\nsrun bash -c "$cmd"',
    'srun bash -c \'"$0" "$@"\' WORKERSCRIPT a',
    'srun sh -c \'cd "$1"; shift; exec "$@"\' sh . WORKERSCRIPT',
    "srun bash -c '\n  cd .\n  # a comment\n  exec WORKERSCRIPT\n'",
    "srun bash -c \"bash -c 'set -e; WORKERSCRIPT; date' && date\"",
    'echo "starting WORKERSCRIPT; please wait"\nsrun WORKERSCRIPT',
    "srun WORKERSCRIPT 'a; b' \"c|d\"",
    "find . -maxdepth 0 -exec WORKERSCRIPT {} +",
    "set -e\nfind . -maxdepth 0 -exec date \\;\nWORKERSCRIPT\nfind . -maxdepth 0 -exec date \\;",
    "cat >run.sh <<EOF\nset -e\nWORKERSCRIPT\ndate\nEOF\nbash run.sh",
    "set -e\ncat >run.sh <<EOF\n#!/bin/bash -e\nWORKERSCRIPT\ndate\nEOF\nchmod +x run.sh\nsrun ./run.sh\nrm run.sh",
    "cat >run.sh <<EOF\nWORKERSCRIPT\nEOF\nchmod +x run.sh && ./run.sh",
    'srun WORKERSCRIPT &\nwhile told=; wait $! && code=0 || code=$?; [ -n "$told" ]; do :; done\nexit "$code"',
    "srun WORKERSCRIPT & pid=$!\nif wait $pid; then exit 0; else exit 1; fi",
]


def really(directory: Path, body: str, code: int) -> int:
    """Return how bash ends with the template, and with programs that do what those of the names do."""
    programs = directory / "bin"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (directory / "script").write_text(body.replace("WORKERSCRIPT", WORKER))
    env = {
        "PATH": f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "HOME": str(directory),
        "CODE": str(code),
        "SHELL": "/bin/bash",
    }
    return subprocess.run(
        ["bash", "script"], cwd=directory, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False
    ).returncode


def findings(directory: Path, body: str, mode: int = 0o755) -> list[tuple[str, str]]:
    """Return what doctor finds in a template."""
    for name, text in {
        "setup": "#!/bin/sh\n",
        "gen": "#!/bin/sh\n",
        "t.sh": f"{HEAD}{body}\n",
        "worker": "#!/bin/sh\n",
    }.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    (directory / "worker").chmod(mode)
    made = Workflow(directory / model.DEFAULT_NAME, "setup", "gen", "t.sh", "worker")
    return [(item.level.value, item.message) for item in check_template(made, {})]


def told(directory: Path, body: str) -> list[tuple[str, str]]:
    """Return what doctor finds besides that srun isn't used."""
    return [item for item in findings(directory, body) if "not called with srun" not in item[1]]


@pytest.mark.parametrize("body", LOST)
def test_a_status_that_a_shell_inside_loses_is_a_problem(tmp_path: Path, body: str) -> None:
    """Bash ends with 0 behind a worker that ended with 3, and doctor says so."""
    assert really(tmp_path, body, 3) == 0
    ((level, message),) = told(tmp_path, body)
    assert (level, "counts as done" in message) == ("problem", True), message


@pytest.mark.parametrize("body", KEPT)
def test_a_status_that_a_shell_inside_keeps_is_none(tmp_path: Path, body: str) -> None:
    """Bash fails behind a worker that ended with 3, and doctor is content."""
    assert really(tmp_path, body, 3) != 0
    assert [level for level, _ in told(tmp_path, body)] in ([], ["ok"]), told(tmp_path, body)


@pytest.mark.parametrize(
    ("body", "lost"),
    [
        ("bash -c 'WORKERSCRIPT; date'", True),
        ("bash -c 'cd x && WORKERSCRIPT; date'", True),
        ("bash -c 'WORKERSCRIPT | tee log'", True),
        ("bash -c 'WORKERSCRIPT || true'", True),
        ("bash -c 'WORKERSCRIPT &'", True),
        ("bash -c 'WORKERSCRIPT & wait'", True),
        ("bash -ec 'WORKERSCRIPT & date'", True),
        ("set -e\nbash -c '\nWORKERSCRIPT\ndate\n'", True),
        ("bash <<EOF\nWORKERSCRIPT\ndate\nEOF", True),
        ("bash <<<'WORKERSCRIPT; date'", True),
        ("set -o pipefail\necho 'WORKERSCRIPT; date' | bash", True),
        ("flag -c 'WORKERSCRIPT; date'", True),
        ("bash -c 'set -e; WORKERSCRIPT; date'", False),
        ("bash -ec 'WORKERSCRIPT; date'", False),
        ("bash -euo pipefail -c 'WORKERSCRIPT | tee log; date'", False),
        ("bash -c 'cd x && WORKERSCRIPT'", False),
        ("bash -c 'cd x; exec WORKERSCRIPT'", False),
        ("bash -c 'WORKERSCRIPT || exit $?; date'", False),
        ("bash -c 'WORKERSCRIPT; rc=$?; sync; exit $rc'", False),
        ("bash -c 'WORKERSCRIPT & wait $!'", False),
        ("bash -c '{ WORKERSCRIPT; }'", False),
        ("bash <<EOF\nset -e\nWORKERSCRIPT\ndate\nEOF", False),
        ("set -e\necho 'WORKERSCRIPT; soon'\nWORKERSCRIPT", False),
    ],
)
def test_without_bash_the_form_of_the_text_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, lost: bool
) -> None:
    """Nothing can be tried there, so it is a note."""
    monkeypatch.setattr("esis.operations.advice.trial.shutil.which", lambda *_, **__: None)
    assert [level for level, _ in told(tmp_path, body) if level != "ok"] == ["note"] * lost, told(tmp_path, body)


@pytest.mark.parametrize(
    "body",
    [
        "cat >run.sh <<EOF\n#!/bin/bash\nWORKERSCRIPT\ndate\nEOF\nbash run.sh",
        "set -e\ncat <<'EOF' >run.sh\nWORKERSCRIPT | cat\nEOF\nchmod +x run.sh; srun ./run.sh",
        "srun WORKERSCRIPT &\nwhile [ -e x ]; do sleep 1; done; wait\ndate",
    ],
)
def test_a_status_that_a_script_of_the_scripts_own_loses_is_noted(tmp_path: Path, body: str) -> None:
    """Bash ends with 0; what is written into a file is judged by itself."""
    assert really(tmp_path, body, 3) == 0
    ((level, message),) = told(tmp_path, body)
    assert (level, "may count as done" in message) == ("note", True), message


def test_more_shells_than_can_be_tried_are_no_problem_but_a_note(tmp_path: Path) -> None:
    """What comes to no end soon is left, and the first text decides."""
    body = 'set -e\nfor n in {1..40}; do bash -c "WORKERSCRIPT $n; date"; done'
    assert [level for level, _ in told(tmp_path, body)] == ["note"]
    assert [level for level, _ in told(tmp_path, body.replace("WORKERSCRIPT", "set -e; WORKERSCRIPT"))] in ([], ["ok"])


@pytest.mark.parametrize(
    ("body", "mode", "parts"),
    [
        ("srun bash -c '\ncd .\nexec WORKERSCRIPT\n'", 0o755, []),
        ("srun sh <<EOF\nexec WORKERSCRIPT\nEOF", 0o755, []),
        ("bash -c 'srun WORKERSCRIPT'", 0o755, []),
        ("exec srun bash -c 'cd .; WORKERSCRIPT'", 0o755, ["leave exec out"]),
        ("bash -c 'WORKERSCRIPT'", 0o755, ["not called with srun"]),
        ("srun bash -c 'WORKERSCRIPT'", 0o644, ["is not executable"]),
        ("srun bash -c 'cd .; python3 WORKERSCRIPT'", 0o644, []),
        ('srun python3 "WORKERSCRIPT"', 0o644, []),
    ],
)
def test_how_a_shell_inside_calls_the_worker_is_looked_at(
    tmp_path: Path, body: str, mode: int, parts: list[str]
) -> None:
    """srun and exec are those of the template's own line, the executable bit is the text's affair."""
    shown = [message for level, message in findings(tmp_path, body, mode) if level != "ok"]
    assert len(shown) == len(parts), shown
    assert all(part in message for part, message in zip(parts, shown)), shown
