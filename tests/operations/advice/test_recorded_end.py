"""esis doctor tells a call of `esis_end` that records another end than the script has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.operations.advice.test_doctor import HEAD, told

WORK = "scratch=$(mktemp -d)\nsrun WORKERSCRIPT\n"
DONE = "a worker that failed counts as done"
NO_NUMBER = "its tasks count as failed"
WRONG = [
    ("trap 'rm -rf \"$scratch\"; esis_end $?' EXIT\n", DONE),
    ('cleanup() { rm -rf "$scratch"; esis_end $?; }; trap cleanup EXIT\n', DONE),
    ('cleanup() {\n  rm -rf "$scratch"\n  esis_end $?\n}\ntrap cleanup EXIT\n', DONE),
    ('scratch=/tmp/x\ntrap "rm -rf $scratch; esis_end $?" EXIT\n', DONE),
    ("trap 'if type esis_end >/dev/null 2>&1; then esis_end $?; fi' EXIT\n", DONE),
    ("trap 'esis_end 0' EXIT\n", DONE),
    ("trap 'rm -rf \"$scratch\"; esis_end' EXIT\n", NO_NUMBER),
    ('trap \'rm -rf "$scratch"; esis_end ""\' EXIT\n', NO_NUMBER),
    ('trap "code=$?; rm -rf x; esis_end $code" EXIT\n', NO_NUMBER),
    ("trap 'esis_end failed' EXIT\n", NO_NUMBER),
    ("trap 'esis_end 1' EXIT\n", "ended well counts as failed"),
]
RIGHT = [
    'trap \'esis_code=$?; rm -rf x; esis_end "$esis_code" || esis_code=75; exit "$esis_code"\' EXIT\n',
    "trap 'code=$?; esis_end $code; esis_end 0; exit $code' EXIT\n",
    "trap 'esis_end $?; rm -rf x' EXIT\n",
    'trap "code=\\$?; rm -rf x; esis_end \\"\\$code\\"" EXIT\n',
    "over() { rm -rf x; esis_end \"$1\"; }\ntrap 'over $?' EXIT\n",
    "cleanup() {\n  code=$?\n  rm -rf x\n  esis_end $code\n  return $code\n}\ntrap cleanup EXIT\n",
    "trap 'code=$?; # esis_end failed\n  esis_end \"$code\"' EXIT\n",
]
UNTRIED = HEAD.replace("/bin/bash", "/bin/zsh")


@pytest.mark.parametrize(("trap", "part"), WRONG)
def test_f271_an_end_that_is_told_wrongly_is_a_problem(tmp_path: Path, trap: str, part: str) -> None:
    """F271: the record outlives what Slurm knows; a failed worker's said exit0."""
    ((level, message),) = told(tmp_path, trap + WORK)
    assert (level, part in message, 'esis_end "$code"' in message) == ("problem", True, True), message


@pytest.mark.parametrize("trap", RIGHT)
def test_f271_an_end_that_is_told_well_is_no_finding(tmp_path: Path, trap: str) -> None:
    assert [level for level, _ in told(tmp_path, trap + WORK)] == ["ok"]


def test_f271_a_last_line_that_tells_an_end_has_to_tell_its_number(tmp_path: Path) -> None:
    ((level, message),) = told(tmp_path, "set -e; srun WORKERSCRIPT; esis_end\n")
    assert (level, NO_NUMBER in message) == ("problem", True), message
    assert told(tmp_path, "srun WORKERSCRIPT\ncode=$?\nesis_end $code\nexit $code\n")[0][0] == "ok"
    assert told(tmp_path, "set -e\nsrun WORKERSCRIPT\nesis_end 0\n")[0][0] == "ok"


def test_f271_a_trap_that_tells_of_failures_alone_leaves_good_ends_out(tmp_path: Path) -> None:
    ((level, message),) = told(tmp_path, "trap 'code=$?; [ $code = 0 ] || esis_end $code' EXIT\n" + WORK)
    assert (level, "no end is recorded" in message) == ("problem", True), message


@pytest.mark.parametrize("trap", [*(trap for trap, _ in WRONG), "TRAPEXIT() { rm -rf x; esis_end $? }\n"])
def test_f271_where_nothing_can_be_tried_the_text_is_judged(tmp_path: Path, trap: str) -> None:
    ((level, message),) = told(tmp_path, trap + WORK, UNTRIED)
    assert (level, "may be recorded wrongly" in message) == ("note", True), message


@pytest.mark.parametrize("trap", [*RIGHT, "TRAPEXIT() { esis_end $? }\n"])
def test_f271_a_text_that_is_right_is_no_finding(tmp_path: Path, trap: str) -> None:
    assert [level for level, _ in told(tmp_path, trap + WORK, UNTRIED)] == ["ok"]


@pytest.mark.parametrize(
    "again",
    ['exec bash "$0"', 'exec apptainer exec img bash "$0"', 'sg group "$0"; exit', 'timeout 60 bash "$0"; exit $?'],
)
def test_f272_a_script_that_starts_itself_again_is_no_finding(tmp_path: Path, again: str) -> None:
    body = f'if [ -z "${{INSIDE:-}}" ]; then export INSIDE=1; {again}; fi\nset -e\nsrun WORKERSCRIPT\necho\n'
    assert [level for level, _ in told(tmp_path, body)] == ["ok"]


@pytest.mark.parametrize("program", ["srun -n 1", "podman run --rm img", "/usr/bin/mpirun"])
def test_f301_exec_of_what_starts_it_again_elsewhere_is_a_problem(tmp_path: Path, program: str) -> None:
    """F301: nobody is left who could record the end."""
    body = f'if [ -z "${{INSIDE:-}}" ]; then export INSIDE=1; exec {program} bash "$0"; fi\nset -e\nsrun WORKERSCRIPT\n'
    assert ("problem", True) in [(level, "leave exec out" in message) for level, message in told(tmp_path, body)]
    kept = body.replace("exec ", "").replace('"$0"', '"$0"; exit $?')
    assert [level for level, _ in told(tmp_path, kept)] == ["ok"]


@pytest.mark.parametrize(
    "body",
    [
        "(exec srun WORKERSCRIPT)\n",
        "set -e\n(cd x && exec srun WORKERSCRIPT)\necho\n",
        "exec srun WORKERSCRIPT & wait $!\n",
        "set -o pipefail; exec srun WORKERSCRIPT 2>&1 | tee log\n",
        "exec 3<WORKERSCRIPT\nsrun WORKERSCRIPT\n",
    ],
)
def test_f274_exec_that_leaves_the_script_its_shell_is_no_finding(tmp_path: Path, body: str) -> None:
    assert [level for level, _ in told(tmp_path, body)] == ["ok"]


@pytest.mark.parametrize("body", ["exec srun WORKERSCRIPT 2>&1\n", "(cd x); exec srun WORKERSCRIPT\n"])
def test_f274_exec_in_the_script_itself_is_a_problem(tmp_path: Path, body: str) -> None:
    ((level, message),) = told(tmp_path, body)
    assert (level, "leave exec out" in message) == ("problem", True), message


@pytest.mark.parametrize("wait", ['for p in $(jobs -p); do wait "$p"; done\n', "wait $(jobs -p)\n"])
def test_f274_jobs_forgets_those_that_have_ended(tmp_path: Path, wait: str) -> None:
    ((level, message),) = told(tmp_path, f"srun WORKERSCRIPT 1 & srun WORKERSCRIPT 2 &\n{wait}")
    assert (level, "jobs -p leaves out" in message) == ("note", True), message
    kept = 'pids=\nfor n in 1 2; do srun WORKERSCRIPT $n & pids="$pids $!"; done\n'
    advised = told(tmp_path, kept + 'for p in $pids; do wait "$p" || exit; done\n')
    assert not any("may count as done" in message or "counts as done" in message for _, message in advised)
