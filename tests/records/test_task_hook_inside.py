"""task.sh in a script that starts itself again, as it does to be in a container or in another group: one attempt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esis.model.parametersets import write_index
from esis.model.template import Pack
from tests.records.jobs import SHELLS, Job, every_shell, make_run, read_records, states
from tests.records.test_task_hook_arrays import codes, logs

ONCE_MORE = {
    "exec": 'exec {shell} "$0"',
    "nice": 'exec nice {shell} "$0"',
    "below": '{shell} "$0"; exit $?',
    "beside": '{shell} "$0" & wait $!; exit $?',
    "limited": 'timeout 60 {shell} "$0"; exit $?',
    "exec, and a child": 'exec timeout 60 {shell} "$0"',
    "exec, a child, and once more": 'exec timeout 60 {shell} -c \'{shell} "$0"; exit $?\' "$0"',
}
KINDS: dict[str, tuple[dict[str, Any], int]] = {
    "a map": ({"mapped": [1, 3, 5, 7, 9, 11, 13]}, 7),
    "an offset": ({"offset": 1000}, 1003),
    "several arrays": ({"offset": 1000, "arrays": 3}, 1003),
    "as it is": ({}, 3),
}


def body(how: str, shell: str, end: str = "exit 0", outside: str = ":") -> str:
    again = ONCE_MORE[how].format(shell=SHELLS[shell] + (" sh" if shell == "busybox" else ""))
    inside = f'echo "task $SLURM_ARRAY_TASK_ID"\n{end}'
    return f'if [ -z "${{INSIDE:-}}" ]; then\nexport INSIDE=1\n{outside}\n{again}\nfi\n{inside}'


@every_shell
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ONCE_MORE)
def test_f261_a_script_that_starts_itself_again_keeps_its_task(tmp_path: Path, shell: str, how: str, kind: str) -> None:
    """F261: the index is looked up once; one record, with the end of the outer script, or of what replaced it."""
    given, task = KINDS[kind]
    run = make_run(tmp_path)
    job = Job(run, body(how, shell), shell, **given)
    second = "arrays" in given
    variables = {"SLURM_ESIS_OFFSET": "1000"} if second else {}
    assert job.run(3, fenced="0001.2" if second else "0001", variables=variables) == (0, f"task {task}\n", "")
    assert states(run) == [(task, "0001", "77", 0, 0)]


@every_shell
@pytest.mark.parametrize("how", ONCE_MORE)
def test_f261_its_failure_is_one(tmp_path: Path, shell: str, how: str) -> None:
    """F261: also where the inner one was well, and the outer one isn't."""
    run = make_run(tmp_path)
    assert Job(run, body(how, shell, "exit 4"), shell, mapped=[2, 4, 6, 8]).run(3, fenced="0001")[0] == 4
    assert states(run) == [(8, "0001", "77", 0, 4)]
    if how == "below":
        script = body(how, shell).replace("exit $?", "exit 9")
        assert Job(run, script, shell, number=2, mapped=[2, 4, 6, 8]).run(3, 78, fenced="0002")[0] == 9
        assert states(run)[-1] == (8, "0002", "78", 0, 9)


@every_shell
@pytest.mark.parametrize("how", ONCE_MORE)
def test_f261_in_a_pack_each_task_is_one_attempt(tmp_path: Path, shell: str, how: str) -> None:
    """F261: every task of a pack is this script once more by itself already."""
    run = make_run(tmp_path)
    job = Job(run, body(how, shell), shell, pack=Pack(3, 1, 0, 5))
    assert job.run(1, fenced="0001")[0] == 0
    assert codes(run) == {3: 0, 4: 0, 5: 0}
    assert logs(run) == {task: f"task {task}\n" for task in (3, 4, 5)}


@every_shell
@pytest.mark.parametrize("how", ONCE_MORE)
def test_f261_parameters_of_one_file_are_there_inside_and_taken_away_at_the_end(
    tmp_path: Path, shell: str, how: str
) -> None:
    run = make_run(tmp_path)
    lines = run.parameters / "parameters.jsonl"
    lines.write_text("".join(f'{{"n": {n}}}\n' for n in range(10)))
    write_index(lines)
    job = Job(run, body(how, shell, "cat ../parameters/parameters.$SLURM_ARRAY_TASK_ID.json"), shell)
    assert job.run(3, fenced="0001") == (0, 'task 3\n{"n": 3}\n', "")
    assert sorted(path.name for path in run.parameters.iterdir()) == ["parameters.index", "parameters.jsonl"]


@every_shell
def test_f261_another_run_s_script_in_a_task_is_no_part_of_it(tmp_path: Path, shell: str) -> None:
    """F261: a worker may start what it likes; only the same script, for the same task, in the same job is the same."""
    run = make_run(tmp_path)
    inner = Job(run, 'echo "inner $SLURM_ARRAY_TASK_ID"', shell)
    outer = Job(run, 'SLURM_ARRAY_TASK_ID=5 "$INNER"', shell)
    assert outer.run(3, fenced="0001", INNER=str(inner.spool)) == (0, "inner 5\n", "")
    assert sorted((record.task, record.code) for record in read_records(run.tasks)) == [(3, 0), (5, 0)]


def test_f301_where_several_replace_it_none_records_an_end(tmp_path: Path) -> None:
    """F301: the first of them to end would tell for all, before another one has failed."""
    run = make_run(tmp_path)
    script = 'if [ -z "${INSIDE:-}" ]; then export INSIDE=1; exec xargs -n 1 -a list "$0"; fi\n[ "$1" = well ]'
    (run.cwd / "list").write_text("well\nfailed\n")
    assert Job(run, script).run(3, fenced="0001")[0] == 123
    assert states(run) == [(3, "0001", "77", 0, None)]


def test_f301_a_node_that_does_not_show_the_first_one_s_process_records_no_end(tmp_path: Path) -> None:
    """F301: it may be there or not; were it there, two would record."""
    run = make_run(tmp_path)
    hidden = 'export SLURM_ESIS_INSIDE="${SLURM_ESIS_INSIDE%%:$$:*}:999999999:${SLURM_ESIS_INSIDE#*:$$:}"'
    assert Job(run, body("exec, and a child", "bash", outside=hidden), "bash").run(3, fenced="0001")[0] == 0
    assert states(run) == [(3, "0001", "77", 0, None)]
