"""task.sh where a piece is missing or damaged: nobody works on other tasks than told, and the fence never opens."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esis.model.template import Pack, checksum
from esis.model.workdir import RunDir
from esis.records import stage
from esis.records.stage import Stage, State
from tests.records.jobs import (
    BLOCK,
    SHELLS,
    Job,
    every_shell,
    make_run,
    read_records,
    shebang,
    some_shells,
    states,
    wait_for,
)

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy
EARLIER = (Path(__file__).parent / "earlier_task.sh").read_text("utf-8")
ENDLESS = 2**40  # bytes, sparse: `read` would take hours
SHOW = "echo work $SLURM_ARRAY_TASK_ID"


def refused(one: Job, *said: str, **how: Any) -> None:
    """Assert that the job ends with 75, says why, and works on nothing."""
    before = read_records(one.run_dir.tasks)
    code, out, err = one.run(**{"task": 0, **how})
    assert (code, out) == (75, "")
    for text in said:
        assert text in err
    assert all(record.code == 75 for record in read_records(one.run_dir.tasks) if record not in before)
    assert not list(one.run_dir.cwd.glob("slurm-*"))


# --- the fence


def _directory(path: Path) -> None:
    path.mkdir()


def _directory_of_jobs(path: Path) -> None:
    (path.parent / "66").mkdir()
    path.symlink_to("66")


ODD: dict[str, Callable[[Path], object]] = {
    "a directory": _directory,
    "a file": lambda path: path.write_text("77"),
    "a FIFO": os.mkfifo,
    "a link to a text": lambda path: path.symlink_to("seventy"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to an absolute path": lambda path: path.symlink_to("/dev/null"),
}


@every_shell
@pytest.mark.parametrize("kind", ODD)
def test_f57_a_claim_that_names_no_job_is_no_open_door(tmp_path: Path, shell: str, kind: str) -> None:
    """F57: 75, and the claim is named."""
    run = make_run(tmp_path)
    ODD[kind](run.claim(1))
    refused(Job(run, SHOW, shell), str(run.claim(1)), fenced="0001")
    assert states(run) == []
    if run.claim(1).is_dir():
        assert os.listdir(run.claim(1)) == []


@every_shell
def test_f57_a_claim_of_another_job_leads_nowhere(tmp_path: Path, shell: str) -> None:
    """F57: `ln` makes its link inside of a directory that a claim happens to lead to; the claim counts all the same."""
    run = make_run(tmp_path)
    _directory_of_jobs(run.claim(1))
    assert Job(run, SHOW, shell).run(fenced="0001")[:2] == (0, "")
    assert states(run) == []


@every_shell
@pytest.mark.parametrize("kind", ["missing", "a file"])
def test_f57_a_claim_that_cannot_be_made_is_no_open_door(tmp_path: Path, shell: str, kind: str) -> None:
    """F57: 75, with what `ln` said; by hand there is no fence."""
    run = make_run(tmp_path)
    run.submissions.rmdir()
    if kind == "a file":
        run.submissions.write_text("")
    job = Job(run, SHOW, shell)
    refused(job, "so job 77 doesn't: ", "No such file" if kind == "missing" else "Not a directory", fenced="0001")
    assert job.run()[:2] == (0, "work 3\n")


@every_shell
def test_f57_a_full_disk_closes_the_fence(tmp_path: Path, shell: str) -> None:
    """F57: no inodes, quota, read-only: `ln` fails, and the reason is in the log."""
    if shell == "busybox":
        pytest.skip("busybox has a ln of its own")
    run = make_run(tmp_path)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ln").write_text("#!/bin/sh\necho 'ln: No space left on device' >&2\nexit 1\n")
    (tools / "ln").chmod(0o755)
    refused(Job(run, SHOW, shell), "No space left on device", fenced="0001", PATH=f"{tools}:{os.environ['PATH']}")
    assert states(run) == []
    run.claim(1).symlink_to("77")
    assert Job(run, SHOW, shell).run(fenced="0001", PATH=f"{tools}:{os.environ['PATH']}")[0] == 0


@some_shells
@pytest.mark.parametrize("fence", ["0002", "0001x", "x", "0002.1", "../0001"])
def test_f57_a_fence_of_another_submission_is_none(tmp_path: Path, shell: str, fence: str) -> None:
    """F57: whose claim would be taken away."""
    run = make_run(tmp_path)
    refused(Job(run, SHOW, shell), "is not submission 0001", fenced=fence)
    assert os.listdir(run.submissions) == []


@every_shell
@pytest.mark.parametrize("lost", [{"SLURM_ARRAY_JOB_ID": "", "SLURM_JOB_ID": ""}, {"SLURM_ARRAY_TASK_ID": ""}])
def test_f57_a_fenced_job_that_knows_not_what_it_is(tmp_path: Path, shell: str, lost: dict[str, str]) -> None:
    """F57: without its index or id."""
    run = make_run(tmp_path)
    job = Job(run, SHOW, shell)
    with job.start({**job.environment(fenced="0001"), **lost}) as child:
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (75, "")
    assert "has no SLURM_ARRAY_JOB_ID or no SLURM_ARRAY_TASK_ID" in err
    assert os.listdir(run.submissions) == []


# --- the hook itself


@some_shells
@pytest.mark.parametrize("kind", ["missing", "a directory", "empty", "a FIFO", "unreadable"])
@pytest.mark.parametrize("needs", ["fence", "offset", "map", "pack", "arrays", ""])
def test_f57_without_its_hook_a_job_does_only_what_it_can(tmp_path: Path, shell: str, kind: str, needs: str) -> None:
    """F57: a submission of ESIS's, or one whose indices aren't its tasks, ends with 75; a plain one by hand runs."""
    if kind == "unreadable" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    run = make_run(tmp_path)
    how: dict[str, dict[str, Any]] = {
        "offset": {"offset": 5},
        "pack": {"pack": Pack(2, 1, 0, 9)},
        "map": {"mapped": (4, 9)},
        "arrays": {"arrays": 2},
    }
    job = Job(run, SHOW, shell, **how.get(needs, {}))
    run.task_hook.unlink()
    if kind == "a directory":
        run.task_hook.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(run.task_hook)
    elif kind == "empty":
        run.task_hook.write_text("")
    elif kind == "unreadable":
        run.task_hook.write_text("exit 0")
        run.task_hook.chmod(0)
    if needs:
        refused(job, "task.sh is missing, unreadable or cut", fenced="0001" if needs == "fence" else None)
    else:
        assert job.run(0) == (0, "work 0\n", "")


@pytest.mark.parametrize("shell", [name for name in ("bash", "dash", "busybox") if name in SHELLS])
@pytest.mark.parametrize("part", range(8))
def test_f57_a_hook_that_is_cut_lets_nothing_run(tmp_path: Path, shell: str, part: int) -> None:
    """F57: a power cut may leave any part of it; whatever that says, no worker starts."""
    run = make_run(tmp_path)
    job = Job(run, SHOW, shell)
    lines = run.task_hook.read_text().splitlines(keepends=True)
    for count in range(2 + part, len(lines), 8 * 5):
        run.task_hook.write_text("".join(lines[:count]))
        code, out, _ = job.run(fenced="0001")
        assert code != 0
        assert out == "", count


# --- maps


@some_shells
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "harm",
    [
        "missing",
        "a directory",
        "a FIFO",
        "empty",
        "cut",
        "cut in a number",
        "a line less",
        "a line more",
        "swapped",
        "another number",
        "garbage",
        "NUL bytes",
        "unreadable",
    ],
)
def test_f57_a_map_is_whole_or_nobody_works(tmp_path: Path, shell: str, packed: bool, harm: str) -> None:
    """F57: also where the line of this very task is there and right."""
    if harm == "unreadable" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    run = make_run(tmp_path)
    job = Job(run, SHOW, shell, mapped=(4, 9, 30, 69, 712), pack=Pack(2, 1, 4, 712) if packed else None)
    path, text = run.map(1), run.map(1).read_text()
    path.unlink()
    if harm == "a directory":
        path.mkdir()
    elif harm == "a FIFO":
        os.mkfifo(path)
    elif harm != "missing":
        path.write_text(
            {
                "empty": "",
                "cut": "4\n9\n",
                "cut in a number": text[:-3] + "\n",
                "a line less": text.replace("9\n", "", 1),
                "a line more": text + "713\n",
                "swapped": text.replace("30\n69", "69\n30"),
                "another number": text.replace("30", "31"),
                "garbage": text.replace("30", "3x"),
                "NUL bytes": text.replace("30", "\0\0"),
                "unreadable": text,
            }[harm]
        )
        if harm == "unreadable":
            path.chmod(0)
    refused(job, "0001.map is missing, unreadable or not as it was made")
    assert states(run) == []


@settings(RELAXED, max_examples=25)
@given(tasks=st.lists(st.integers(0, 10**12 - 1), min_size=1, max_size=30, unique=True).map(sorted), data=st.data())
def test_f57_of_any_map_each_position_is_its_own_task(
    tmp_path_factory: pytest.TempPathFactory, tasks: list[int], data: st.DataObject
) -> None:
    """F57: shell and Python agree on the checksum, with any awk; one changed character is seen."""
    run = make_run(tmp_path_factory.mktemp("map"))
    job = Job(run, SHOW, "dash", mapped=tasks)
    position = data.draw(st.integers(0, len(tasks) - 1))
    assert job.run(position)[:2] == (0, f"work {tasks[position]}\n")
    text = run.map(1).read_text()
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.sampled_from(["", "0", "7", "\n", "1\n", "x"])) + text[at + 1 :]
    run.map(1).write_text(changed)
    code, out, _ = job.run(position, job=78)
    assert (code, out) == (75, "") or [int(line) for line in changed.split()] == tasks


def test_the_checksum_tells_orders_and_neighbours_apart() -> None:
    """It depends on the place of each number, and stays exact where numbers are doubles."""
    assert checksum([1, 2]) != checksum([2, 1]) != checksum([2, 2])
    assert checksum(range(100_000)) == 179_100_056
    assert all((value * 31 + 10**12) < 2**53 for value in (2**31,))


# --- offsets


@every_shell
def test_f57_an_array_whose_offset_got_lost_works_on_nothing(tmp_path: Path, shell: str) -> None:
    """F57: sbatch.sh has that of the first array alone; a site may take variables of the submission away."""
    run = make_run(tmp_path)
    job = Job(run, SHOW, shell, arrays=3, offset=7)
    for fence in ("0001", "0001.2", "0001.3"):
        refused(job, "SLURM_ESIS_OFFSET got lost", fenced=fence)
    assert Job(run, SHOW, shell).run(0, fenced="0001.2")[0] == 75
    assert job.run(0, fenced="0001.2", SLURM_ESIS_OFFSET="100")[:2] == (0, "work 100\n")
    assert states(run) == [(100, "0001", "77", 0, 0)]


@every_shell
def test_f57_an_array_that_lost_fence_and_offset_is_known_by_its_id(tmp_path: Path, shell: str) -> None:
    """F57: the submission's record names it, or is about to; what somebody submits by hand is the first array."""
    run = make_run(tmp_path)
    job = Job(run, SHOW, shell, arrays=2)
    record = {"outcome": "submitted", "jobs": [{"id": "76", "cluster": None}, {"id": "77", "cluster": None}]}
    run.submission(1).write_text(json.dumps(record, indent=2))
    refused(job, "which of its 2 arrays job 77 is got lost")
    assert job.run(0, job=99)[:2] == (0, "work 0\n")
    assert job.run(0, job=77, SLURM_ESIS_OFFSET="5")[:2] == (0, "work 5\n")
    run.submission(1).write_text(json.dumps({**record, "outcome": "open", "jobs": []}, indent=2))
    refused(job, "which of its 2 arrays job 98 is got lost", job=98)


# --- whose script this is


@every_shell
def test_f57_a_script_works_in_its_own_run_alone(tmp_path: Path, shell: str) -> None:
    """F57: submitted from another run's cwd/ it would record its tasks there; a run that was renamed is its own."""
    run, other = make_run(tmp_path), make_run(tmp_path, "cd" * 32)
    job = Job(run, SHOW, shell)
    code, out, err = job.run(cwd=other.cwd)
    assert (code, out) == (75, "")
    assert f"this script is one of wrkdir.{run.digest}, not of {other.path}" in err
    assert states(other) == []
    moved = RunDir(run.path.with_name("results of last year"))
    run.path.rename(moved.path)
    assert job.run(cwd=moved.cwd, SLURM_SUBMIT_DIR=str(moved.cwd)) == (0, "work 3\n", "")
    assert states(moved) == [(3, "0001", "77", 0, 0)]


# --- requirements


@some_shells
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "harm", ["missing", "empty", "a line less", "a directory", "a FIFO", "a dangling link", "too large"]
)
def test_f57_a_list_of_requirements_that_is_not_whole(tmp_path: Path, shell: str, packed: bool, harm: str) -> None:
    """F57: nobody knows what is required, so nothing starts."""
    run, other = make_run(tmp_path), make_run(tmp_path, "cd" * 32)
    (other.tasks / "0.0001.7.0.100.exit0.101").touch()
    line = f"0:0:{other.path}\n"
    job = Job(run, SHOW, shell, required=2, pack=Pack(2, 1, 0, 3) if packed else None)
    if harm == "a directory":
        run.requirements.mkdir()
    elif harm == "a FIFO":
        os.mkfifo(run.requirements)
    elif harm == "a dangling link":
        run.requirements.symlink_to("nowhere")
    elif harm == "too large":
        run.requirements.touch()
        os.truncate(run.requirements, ENDLESS)
    elif harm != "missing":
        run.requirements.write_text(line if harm == "a line less" else "")
    refused(job, "requirements is missing, unreadable or cut", fenced="0001")
    assert job.run(0)[0] == (0 if harm == "missing" else 75), "archives hold no such list"
    if harm == "a directory":
        run.requirements.rmdir()
    run.requirements.unlink(missing_ok=True)
    run.requirements.write_text(line * 2)
    assert job.run(0, restart=1, fenced="0001")[0] == 0


# --- claims of completion


@some_shells
@pytest.mark.parametrize(
    ("claim", "records", "complete"),
    [
        ("1", [], True),
        ("1\n", [], True),
        ("1\n2\n", [], True),
        ("0", [], False),
        ("10", [], False),
        ("", [], False),
        ("1", ["0.0001.7.0.100.exit1.101"], False),
        ("1", ["0.0001.7.0.100.running"], False),
        ("1", ["0.0001.7.0.100.exit0.101"], False),
        ("1", ["1.0001.7.0.100.slurm-TIMEOUT.101"], False),
        ("0", ["0.0001.7.0.100.exit0.101", "1.0001.7.0.100.exit0.101"], True),
        ("1", ["5.0001.7.0.100.exit1.101"], True),
        ("1", ["README", ".0.0001.7.0.100.9"], True),
    ],
)
@pytest.mark.parametrize("folded", [False, True])
def test_f66_evidence_outranks_a_claim_of_completion(
    tmp_path: Path, shell: str, claim: str, records: list[str], complete: bool, folded: bool
) -> None:
    """F66: workers of 0.0.4 write 1 at their end; where a task of the run has a record, the records decide."""
    run, other = make_run(tmp_path), make_run(tmp_path, "cd" * 32)
    other.completed.write_text(claim)
    for name in [] if folded else records:
        (other.tasks / name).touch()
    if folded:
        other.folded_tasks.write_text("".join(f"{name} {{}}\n" for name in records))
        other.tasks.rmdir()
    run.requirements.write_text(f"0:1:{other.path}\n")
    assert Job(run, SHOW, shell, required=1).run()[0] == (0 if complete else 75)


@some_shells
@pytest.mark.parametrize("kind", ["a FIFO", "a directory", "zeros without end", "too large", "nothing"])
def test_f58_a_claim_of_completion_that_is_no_file_is_none(tmp_path: Path, shell: str, kind: str) -> None:
    """F58: and nobody waits for it."""
    run, other = make_run(tmp_path), make_run(tmp_path, "cd" * 32)
    other.completed.unlink()
    if kind == "a FIFO":
        os.mkfifo(other.completed)
    elif kind == "a directory":
        other.completed.mkdir()
    elif kind == "zeros without end":
        other.completed.symlink_to("/dev/zero")
    elif kind == "too large":
        for path in (other.completed, other.complete_mark):
            path.touch()
            os.truncate(path, ENDLESS)
    run.requirements.write_text(f"0:1:{other.path}\n")
    assert Job(run, SHOW, shell, required=1).run()[0] == 75


@some_shells
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    ("names", "complete"),
    [
        (["0.0001.7.0.100.exit0.101", "0.0001.7.0.100.slurm-TIMEOUT.101"], False),
        (["0.0001.7.0.90.slurm-CANCELLED.90", "0.0001.7.0.100.exit0.101"], True),
        (["0.0001.7.0.100.exit0.101", "0.0001.7.0.100.slurm-OUT_OF_MEMORY.120"], False),
        (["0.0001.7.0.100.running", "0.0001.7.0.100.exit0.101"], True),
    ],
)
def test_f51_of_two_ends_of_one_attempt_a_rule_decides(
    tmp_path: Path, shell: str, names: list[str], complete: bool, first: int
) -> None:
    """F51: the later end, in the same second the worse one, in whichever order they are listed."""
    run, other = make_run(tmp_path), make_run(tmp_path, "cd" * 32)
    other.folded_tasks.write_text(f"{names[first]} {{}}\n{names[1 - first]} {{}}\n")
    run.requirements.write_text(f"0:0:{other.path}\n")
    assert Job(run, SHOW, shell, required=1).run()[0] == (0 if complete else 75)


# --- other versions


def with_earlier_hook(run: RunDir) -> None:
    run.task_hook.write_text(EARLIER)


@every_shell
def test_a_script_works_with_the_hook_of_an_earlier_version(tmp_path: Path, shell: str) -> None:
    """A run keeps the hook that it was built with; whoever resubmits its tasks renders the script anew."""
    run = make_run(tmp_path)
    with_earlier_hook(run)
    assert Job(run, SHOW, shell).run(0, fenced="0001")[:2] == (0, "work 0\n")
    assert Job(run, SHOW, shell, number=2, offset=10).run(1, fenced="0002", esis_pack="1 1 0 1")[:2] == (0, "work 11\n")
    assert Job(run, SHOW, shell, number=3, mapped=(20, 30)).run(1, fenced="0003")[:2] == (0, "work 30\n")
    further = Job(run, SHOW, shell, number=4, arrays=2)
    assert further.run(1, fenced="0004.2", SLURM_ESIS_OFFSET="40", esis_offset="7")[:2] == (0, "work 41\n")
    assert Job(run, SHOW, shell, number=5, pack=Pack(2, 1, 50, 60)).run(1, fenced="0005")[0] == 0
    assert [(state[0], state[1], state[4]) for state in states(run)] == [
        (0, "0001", 0),
        (11, "0002", 0),
        (30, "0003", 0),
        (41, "0004", 0),
        (52, "0005", 0),
        (53, "0005", 0),
    ]


def earlier_script(run: RunDir, shell: str, lines: str, body: str = SHOW) -> Path:
    """Return a script as earlier versions rendered it."""
    script = run.cwd / "earlier.sh"
    script.write_text(f"""{shebang(shell)}
#SBATCH --array=0-9
# ESIS writes the task records from here (__esis__/task.sh); the job also runs without.
esis_submission=0001
{lines}esis_hook=../__esis__/task.sh
[ -r "$esis_hook" ] || esis_hook="${{SLURM_SUBMIT_DIR:-..}}/../__esis__/task.sh"
if [ -r "$esis_hook" ]; then . "$esis_hook"; fi
{body}
""")
    script.chmod(0o755)
    return script


@every_shell
@pytest.mark.parametrize(
    ("lines", "maps", "fenced", "expected"),
    [
        ("", False, "", "work 1\n"),
        ("", False, "0001", "work 1\n"),
        ("esis_offset=30\n", False, "0001", "work 31\n"),
        ("", True, "0001", "work 9\n"),
        ("esis_pack='2 1 4 20'\nesis_script=$0\n", False, "0001", ""),
    ],
)
def test_a_script_of_an_earlier_version_works_with_this_hook(
    tmp_path: Path, shell: str, lines: str, maps: bool, fenced: str, expected: str
) -> None:
    """It tells less; a map counts where there is one."""
    run = make_run(tmp_path)
    if maps:
        run.map(1).write_text("4\n9\n")
    job = Job(run, SHOW, shell)
    job.spool = earlier_script(run, shell, lines)
    assert job.run(1, fenced=fenced or None) == (0, expected, "")
    tasks = [6, 7] if "pack" in lines else [int(expected.split()[1])]
    assert [(state[0], state[4]) for state in states(run)] == [(task, 0) for task in tasks]


# --- what else a record could lie about


@every_shell
def test_a_task_does_not_start_while_its_run_is_built(tmp_path: Path, shell: str) -> None:
    """The run was removed and is built again, and a job of before still waited: what setup makes isn't there yet."""
    run = make_run(tmp_path)
    for told in (Stage.SNAPSHOT, Stage.GENERATING, Stage.SETTING_UP):
        stage.save(run, State(told, 0, 3))
        code, out, err = Job(run, "echo work", shell).run(fenced="0001")
        assert (code, out) == (75, "")
        assert "is being built" in err
        assert os.listdir(run.tasks) == os.listdir(run.submissions) == []
    for text in ("", "not json", '{"schema": 1}\n'):
        run.state.write_text(text)  # a power cut may leave that; the job was there before
        assert Job(run, "echo work", shell).run(fenced="0001")[:2] == (0, "work\n")
    stage.save(run, State(Stage.PREPARED, 0, 3))
    assert Job(run, "echo work", shell).run(fenced="0001")[:2] == (0, "work\n")


@every_shell
@pytest.mark.parametrize("code", [0, 3])
def test_a_rename_whose_answer_got_lost_has_been_done(tmp_path: Path, shell: str, code: int) -> None:
    """NFS asks again, and hears that there is no such file: the end is recorded, and no task failed for it."""
    run = make_run(tmp_path)
    job = Job(run, f"exit {code}", shell)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "mv").write_text(f'#!/bin/sh\n{shutil.which("mv")} "$@"\necho "no such file" >&2\nexit 1\n')
    (tools / "mv").chmod(0o755)
    ended, _, err = job.run(fenced="0001", PATH=f"{tools}:{os.environ['PATH']}")
    assert (ended, err) == (code, "")
    (name,) = os.listdir(run.tasks)
    assert f".exit{code}." in name


@every_shell
@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize("built", [False, True])
def test_f181_a_task_whose_run_is_moved_records_its_end_there(
    tmp_path: Path, shell: str, code: int, built: bool
) -> None:
    """F181: cwd/ goes with its shell; another run that is built at the old place gets nothing of it."""
    run, moved = make_run(tmp_path), tmp_path / "elsewhere"
    job = Job(run, f"{BLOCK}; exit {code}", shell)
    with job.start(job.environment(fenced="0001")) as child:
        wait_for((run.cwd / "ready").exists)
        run.path.rename(moved)
        if built:
            make_run(tmp_path)
        (moved / "cwd" / "go").touch()
        _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (code, "")
    (name,) = os.listdir(moved / "__esis__" / "tasks")
    assert f".exit{code}." in name
    assert os.listdir(run.tasks) == [] if built else not run.path.exists()


MOVED = """
import os, time
import esis
task, saved = esis.task(), esis.checkpoints()
open("ready", "w").close()
while not os.path.exists("go"):
    time.sleep(0.01)
esis.export(mass=1)
task.export_array("field", [1.0])
with saved.save(7):
    pass
esis.requeue()
"""


@pytest.mark.parametrize("built", [False, True], ids=["nothing", "another run"])
def test_f225_what_a_worker_writes_goes_with_its_run(tmp_path: Path, built: bool) -> None:
    """F225: as its record does (F181); at the old place there may be another run by now, or nothing."""
    run = make_run(tmp_path)
    moved = RunDir.of(tmp_path, run.digest)
    (run.parameters / "parameters.3.json").write_text("{}")
    (run.cwd / "worker.py").write_text(MOVED)
    job = Job(run, f"{shlex.quote(sys.executable)} worker.py")
    with job.start(job.environment(fenced="0001")) as child:
        wait_for((run.cwd / "ready").exists)
        run.path.rename(moved.path)
        if built:
            make_run(tmp_path)
        (moved.cwd / "go").touch()
        child.communicate(timeout=60)
    assert child.returncode == 75
    assert [record.resumable for record in read_records(moved.tasks)] == [True]
    assert sorted(os.listdir(moved.results)) == ["results.3.field.npy", "results.3.json"]
    assert json.loads(moved.result_file(3).read_text()) == {"mass": 1, "field": "results.3.field.npy"}
    assert os.listdir(moved.checkpoints_of(3, "main")) == ["1"]
    if not built:
        assert not run.path.exists()
    else:
        assert [os.listdir(place) for place in (run.results, run.checkpoints, run.tasks)] == [[], [], []]


@every_shell
def test_two_attempts_of_one_name_keep_a_record_each(tmp_path: Path, shell: str) -> None:
    """The same job id, restart count and second, as when somebody starts the script twice: none ends the other's."""
    run = make_run(tmp_path)
    job = Job(run, "while [ ! -e go ]; do sleep 0.01; done; exit 3", shell)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "date").write_text("#!/bin/sh\necho 1700000000\n")
    (tools / "date").chmod(0o755)
    env = {**job.environment(fenced="0001", PATH=f"{tools}:{os.environ['PATH']}"), "ZSH_VERSION": "x"}
    with job.start(env) as one, job.start(env) as two:
        ended = threading.Event()

        def both() -> bool:
            return len(os.listdir(run.tasks)) == 2

        deadline = 2000
        while not both() and deadline:
            deadline -= 1
            ended.wait(0.01)
        assert both(), os.listdir(run.tasks)
        (run.cwd / "go").touch()
        one.communicate(timeout=60)
        two.communicate(timeout=60)
    assert {one.returncode, two.returncode} == {3}
    assert [record.code for record in read_records(run.tasks)] == [3, 3]
    assert len({record.start for record in read_records(run.tasks)}) == 2 or shell == "busybox"


@every_shell
def test_slurms_own_identity_of_the_job_is_kept(tmp_path: Path, shell: str) -> None:
    """Slurm 26.05 tells jobs apart whose ids are the same; characters that no such name has become _."""
    run = make_run(tmp_path)
    job = Job(run, "exit 0", shell)
    job.run(SLURM_JOB_SLUID='s1ABC"x')
    job.run(job=78)
    found = {record.job: json.loads((run.tasks / record.name).read_text()) for record in read_records(run.tasks)}
    assert found["77"]["sluid"] == "s1ABC_x"
    assert "sluid" not in found["78"]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here")
def test_shellcheck_has_nothing_to_say(tmp_path: Path) -> None:
    """Of the hook, nor of the lines in sbatch.sh."""
    run = make_run(tmp_path)
    Job(run, "echo work", first="#!/bin/sh", offset=3, pack=Pack(2, 1, 0, 3), mapped=(1, 2))
    # It can't follow the one into the other.
    text = run.script.read_text().replace('. "$esis_hook"', ":")
    run.script.write_text(text.replace("#SBATCH", "# shellcheck disable=SC2034\n#SBATCH", 1))
    done = subprocess.run(
        ["shellcheck", "-s", "sh", str(run.task_hook), str(run.script)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
