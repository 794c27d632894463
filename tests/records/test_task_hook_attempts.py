"""task.sh with two attempts at one task: the later one is known, and neither takes away what the other needs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from esis.model.parametersets import write_index
from esis.model.template import Pack
from esis.model.workdir import RunDir
from esis.records.tasks import TaskRecords
from tests.records.jobs import Job, every_shell, make_run, read_records, some_shells, states, wait_for

# Each attempt waits until it is told to end.
UNTIL_TOLD = (
    'sh -c ": >ready.$NAME; while [ ! -e end.$NAME ]; do sleep 0.01; done"\n'
    'cat "../parameters/parameters.$SLURM_ARRAY_TASK_ID.json"'
)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = make_run(tmp_path)
    run.parameters_lines.write_text("".join(f'{{"n": {n}}}\n' for n in range(9)))
    write_index(run.parameters_lines)
    return run


class Attempts:
    """Attempts that run until they are told to end, or are killed."""

    def __init__(self, job: Job, stack: ExitStack) -> None:
        self.job, self.stack = job, stack
        self.children: dict[str, object] = {}

    def start(self, name: str, restart: int = 0, job: int = 77, fenced: str | None = "0001") -> None:
        env = self.job.environment(3, job, restart, fenced, NAME=name)
        child = self.stack.enter_context(self.job.start(env))
        self.children[name] = child
        wait_for((self.job.run_dir.cwd / f"ready.{name}").exists)

    def end(self, name: str) -> tuple[int, str]:
        child = self.children.pop(name)
        (self.job.run_dir.cwd / f"end.{name}").touch()
        out, _ = child.communicate(timeout=60)  # type: ignore[attr-defined]
        return child.returncode, out  # type: ignore[attr-defined]


@contextmanager
def attempts(job: Job) -> Iterator[Attempts]:
    with ExitStack() as stack:
        yield Attempts(job, stack)


def marker(run: RunDir, task: int = 3) -> str | None:
    path = run.latest_attempt(task)
    return path.read_text().strip() if path.exists() else None


@every_shell
@pytest.mark.parametrize("order", ["old first", "new first"])
def test_f54_two_attempts_leave_each_other_the_parameters(run: RunDir, shell: str, order: str) -> None:
    """F54: the first attempt goes on beside the requeued one; whichever ends first, the other still finds its file."""
    with attempts(Job(run, UNTIL_TOLD, shell)) as two:
        two.start("old")
        assert marker(run) is None
        two.start("new", restart=1)
        latest = marker(run)
        assert latest is not None
        assert latest.startswith("3.0001.77.1.")
        first, second = order.split()[0], "new" if order.startswith("old") else "old"
        assert two.end(first) == (0, '{"n": 3}\n')
        assert json.loads(run.parameter_file(3).read_text()) == {"n": 3}
        assert two.end(second) == (0, '{"n": 3}\n')
    assert states(run) == [(3, "0001", "77", 0, 0), (3, "0001", "77", 1, 0)]
    assert sorted(os.listdir(run.parameters)) == ["parameters.index", "parameters.jsonl"]


@some_shells
def test_f54_of_three_attempts_the_last_to_end_tidies_up(run: RunDir, shell: str) -> None:
    """F54: in any order."""
    with attempts(Job(run, UNTIL_TOLD, shell)) as three:
        for restart, name in enumerate(("a", "b", "c")):
            three.start(name, restart)
        for name in ("c", "a", "b"):
            assert run.parameter_file(3).exists()
            assert three.end(name) == (0, '{"n": 3}\n')
    assert not run.parameter_file(3).exists()


@every_shell
def test_f54_an_attempt_that_was_killed_may_still_run(run: RunDir, shell: str) -> None:
    """F54: nobody can tell it from one on a lost node, so its file stays; `esis compact` removes it."""
    with attempts(Job(run, UNTIL_TOLD, shell)) as two:
        two.start("old")
        two.start("new", restart=1)
        assert two.end("new") == (0, '{"n": 3}\n')
    assert run.parameter_file(3).exists()


@every_shell
def test_f54_where_there_is_one_attempt_there_is_no_other_file(run: RunDir, shell: str) -> None:
    """F54: a file for each task would be too many: only what is, or may be, a second attempt leaves its name."""
    Job(run, "exit 0", shell).run(3, fenced="0001")
    Job(run, "exit 0", shell, number=2, pack=Pack(2, 1, 4, 5)).run(0, fenced="0002")
    assert not run.latest_attempt(3).exists()
    assert sorted(os.listdir(run.attempts)) == ["4", "5"], "those of a second submission"
    Job(run, "exit 0", shell, pack=Pack(2, 1, 6, 7)).run(0, fenced="0001")
    assert sorted(os.listdir(run.attempts)) == ["4", "5"]
    Job(run, "exit 0", shell).run(8, job=99)
    assert sorted(os.listdir(run.attempts)) == ["4", "5", "8"], "by hand"


@every_shell
def test_f54_an_attempt_is_known_by_its_own_name(run: RunDir, shell: str) -> None:
    """F54: a worker in any language compares SLURM_ESIS_RECORD with what is there."""
    job = Job(run, 'cat "../__esis__/attempts/3"; echo "${SLURM_ESIS_RECORD##*/}"', shell, number=2)
    for restart in (0, 1, 2):
        _, out, _ = job.run(3, restart=restart, fenced="0002")
        one, other = out.split()
        assert one == other
        assert one.startswith(f"3.0002.77.{restart}.")


@every_shell
@pytest.mark.parametrize(
    ("latest", "runs"),
    [
        ("3.0003.77.0.100", False),
        ("3.0002.77.2.100", False),
        ("3.10000.9.0.100", False),
        ("3.0002.77.0.100", True),
        ("3.0001.77.9.9999999999", True),
        ("", True),
        ("garbage", True),
        ("4.0003.77.0.100", True),
        ("3.0003.77.0", True),
        ("3.0003..0.100", True),
        ("3.0002.77.1.99", True),
        (f"3.{'9' * 17}.77.0.100", True),
        (f"3.0003.77.{'9' * 40}.1", True),
    ],
)
def test_f54_an_earlier_attempt_does_not_begin_behind_a_later_one(
    run: RunDir, shell: str, latest: str, runs: bool
) -> None:
    """F54: a job of an earlier submission, or an earlier start of this one, that comes late: 75, and it is said."""
    run.attempts.mkdir()
    run.latest_attempt(3).write_text(f"{latest}\n")
    code, out, err = Job(run, "echo work", shell, number=2).run(3, restart=1, fenced="0002")
    assert (code, out) == ((0, "work\n") if runs else (75, ""))
    assert (f"is a later attempt at this task, as {run.latest_attempt(3)} says" in err) is not runs
    assert len(states(run)) == runs


@every_shell
def test_f54_a_clock_that_was_set_back_makes_no_attempt_an_earlier_one(run: RunDir, shell: str) -> None:
    """F54: by hand, on a node whose clock is late: the start that counts is behind that of the one before."""
    run.attempts.mkdir()
    run.latest_attempt(3).write_text("3.0001.98.0.1999999999\n")
    assert Job(run, "exit 0", shell).run(3, job=97)[0] == 0
    (record,) = read_records(run.tasks)
    assert record.start == 2_000_000_000
    assert marker(run) == "3.0001.97.0.2000000000"


@every_shell
@pytest.mark.parametrize("end", ["exit1.1999999999", "slurm-CANCELLED.1999999999", "running"])
@pytest.mark.parametrize("folded", [False, True])
def test_f304_a_task_by_hand_starts_behind_all_others_of_its_submission(
    run: RunDir, shell: str, end: str, folded: bool
) -> None:
    """F304: the clock of another node, or of the login node that notes a cancellation, was ahead."""
    before = f"3.0001.76.0.1999999999.{end}"
    others = ["3.0002.76.0.3000000000.running", "33.0001.76.0.3000000000.running", "3.0001.76.0.3000000000.other"]
    if folded:
        run.folded_tasks.write_text(f"{before} {{}}\n")
    else:
        (run.tasks / before).touch()
    for other in others:
        (run.tasks / other).touch()
    assert Job(run, "exit 0", shell).run(3)[0] == 0
    (name,) = {path.name for path in run.tasks.iterdir()} - {before, *others}
    assert name.startswith("3.0001.77.0.2000000000.exit0.")
    assert TaskRecords([before, name])[3].name == name


@every_shell
def test_f58_a_name_without_end_is_none(run: RunDir, shell: str) -> None:
    """F58: it isn't read, and the next one takes its place."""
    run.attempts.mkdir()
    run.latest_attempt(3).touch()
    os.truncate(run.latest_attempt(3), 2**40)
    assert Job(run, "echo work", shell).run(3, restart=1, fenced="0001") == (0, "work\n", "")
    (record,) = read_records(run.tasks)
    assert marker(run) == f"3.0001.77.1.{record.start}"


@some_shells
def test_f54_a_name_that_cannot_be_left_is_said(run: RunDir, shell: str) -> None:
    """F54: the job runs on."""
    run.attempts.write_text("")
    code, out, err = Job(run, "echo work", shell).run(3, restart=1, fenced="0001")
    assert (code, out) == (0, "work\n")
    assert err.startswith("ESIS: can't tell earlier attempts at this task of this one in ")


@every_shell
def test_f54_a_requeued_pack_writes_logs_of_its_own(run: RunDir, shell: str) -> None:
    """F54: the first attempt, which goes on writing, doesn't write into the log of the second."""
    job = Job(run, UNTIL_TOLD, shell, pack=Pack(1, 1, 3, 8))
    with ExitStack() as stack:
        old = stack.enter_context(job.start(job.environment(0, NAME="old", fenced="0001")))
        wait_for((run.cwd / "ready.old").exists)
        new = stack.enter_context(job.start(job.environment(0, NAME="new", restart=1, fenced="0001")))
        wait_for((run.cwd / "ready.new").exists)
        (run.cwd / "end.new").touch()
        new.communicate(timeout=60)
        log = run.cwd / "slurm-77_task3.out"
        assert log.read_text() == '{"n": 3}\n'
        (run.cwd / "end.old").touch()
        old.communicate(timeout=60)
        assert log.read_text() == '{"n": 3}\n'
    assert (old.returncode, new.returncode) == (0, 0)


@some_shells
def test_a_requeued_pack_with_more_done_tasks_than_a_program_takes_arguments(run: RunDir, shell: str) -> None:
    """What is done of the whole array is looked at, 40,000 names; what is left is worked on."""
    run.parameters_lines.unlink()
    for task in range(100_000, 140_000):
        (run.tasks / f"{task}.0001.77.0.1700000000.exit0.1700000001").touch()
    job = Job(run, "echo $SLURM_ARRAY_TASK_ID >>did", shell, pack=Pack(3, 1, 99_999, 150_000))
    assert job.run(0, restart=1, fenced="0001")[0] == 0
    assert (run.cwd / "did").read_text() == "99999\n"
