"""task.sh and signals: whatever ends the script, or its worker, under every POSIX shell, never ends as exit0."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.records.jobs import SHELLS, Job, every_shell, make_run, read_records, states, wait_for

# All but KILL and what stops a process or does nothing by itself; 32 and 33 are those of the C library.
ENDING = [
    number
    for number in range(1, signal.SIGRTMAX + 1)
    if number
    not in {
        signal.SIGKILL,
        signal.SIGCHLD,
        signal.SIGCONT,
        signal.SIGSTOP,
        signal.SIGTSTP,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGURG,
        signal.SIGWINCH,
        32,
        33,
    }
]
CHILD = "sh -c ': >ready.$SLURM_ARRAY_TASK_ID; while [ ! -e go.$SLURM_ARRAY_TASK_ID ]; do sleep 0.01; done'"
BUSY = ": >ready.$SLURM_ARRAY_TASK_ID; while [ ! -e go.$SLURM_ARRAY_TASK_ID ]; do :; done"
BODIES = {
    "a child in the foreground": f"{CHILD}\nexit 0",
    "a child in the foreground, set -e": f"set -e\n{CHILD}\nexit 0",
    "wait": f"{CHILD} & wait $!\nexit 0",
    "wait, set -e": f"set -e\n{CHILD} & wait $!\nexit 0",
    "between commands": f"{BUSY}\nexit 0",
    "between commands, set -e": f"set -eu\n{BUSY}\nexit 0",
}


def loses(shell: str, number: int) -> bool:
    """ksh93 (u+m 1.0.4) now and then takes SIGPWR for ignored in `wait`, whatever its trap: then the script goes on."""
    return shell == "ksh" and number == signal.SIGPWR


def ends(tmp_path: Path, shell: str, body: str, group: bool = False) -> Mapping[int, tuple[int, int | None]]:
    """Send each signal to a task of its own; return exit status and recorded code by signal."""
    run = make_run(tmp_path)
    job = Job(run, body, shell)

    def end(number: int) -> int:
        with job.start(job.environment(number)) as child:
            wait_for((run.cwd / f"ready.{number}").exists)
            (os.killpg if group else os.kill)(child.pid, number)
            (run.cwd / f"go.{number}").touch()
            child.communicate(timeout=60)
        return child.returncode

    with ThreadPoolExecutor(4) as pool:
        seen = dict(zip(ENDING, pool.map(end, ENDING)))
    codes = {record.task: record.code for record in read_records(run.tasks)}
    return {number: (seen[number], codes[number]) for number in ENDING}


@every_shell
@pytest.mark.parametrize("state", BODIES)
def test_f50_every_signal_that_ends_the_script_is_recorded(tmp_path: Path, shell: str, state: str) -> None:
    """F50: 128 and its number; or, where a shell knows it not, no end at all and death by that signal."""
    for number, (seen, code) in ends(tmp_path, shell, BODIES[state]).items():
        if shell == "ksh" and state == "wait, set -e":
            # In `wait` it leaves all traps but that of EXIT out, and its own status is 1.
            assert (seen, code) in {(1, 1), (128 + number, 128 + number)}
        elif shell == "zsh" and number >= signal.SIGRTMIN:
            assert (seen, code) == (-number, None)
        elif state == "wait" and loses(shell, number):
            assert (seen, code) in {(0, 0), (128 + number, 128 + number)}
        else:
            assert (seen, code) == (128 + number, 128 + number)


@every_shell
def test_f50_a_signal_to_the_whole_job_is_recorded(tmp_path: Path, shell: str) -> None:
    """F50: Slurm signals all processes of a step: the script's end is the signal, whatever its worker makes of it."""
    for number, (seen, code) in ends(tmp_path, shell, BODIES["wait"], group=True).items():
        if loses(shell, number) and seen == 0:
            assert code == 0
            continue
        assert code is None or code == 128 + number == seen
        assert seen != 0


@every_shell
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_f50_a_signal_while_the_end_is_written_is_for_nobody_else(tmp_path: Path, shell: str, number: int) -> None:
    """F50: there is no worker any more: none of the same group gets it, and nothing waits for one without end."""
    run = make_run(tmp_path)
    slow = tmp_path / "bin" / "mv"
    slow.parent.mkdir()
    slow.write_text('#!/bin/sh\n: >moving\nwhile [ ! -e go ]; do sleep 0.01; done\nexec /bin/mv "$@"\n')
    slow.chmod(0o755)
    beside = "(trap ': >hit; exit' TERM USR1; : >ready; while [ ! -e over ]; do sleep 0.01; done) &"
    job = Job(run, f"sh -c {shlex.quote(beside)} >/dev/null 2>&1\nexit 0", shell)
    with job.start(job.environment(PATH=f"{slow.parent}:{os.environ['PATH']}")) as child:
        wait_for((run.cwd / "moving").exists)
        wait_for((run.cwd / "ready").exists)
        os.kill(child.pid, number)
        (run.cwd / "go").touch()
        assert child.wait(timeout=30) == 128 + number
        (run.cwd / "over").touch()
    assert states(run) == [(3, "0001", "77", 0, 0)]
    assert not (run.cwd / "hit").exists()


@every_shell
@pytest.mark.parametrize("options", ["", "set -e\n"])
@pytest.mark.parametrize("number", [1, 4, 6, 7, 8, 9, 11, 14, 15, 24, 31, 34, 64])
def test_f50_a_worker_that_a_signal_ends_has_failed_with_it(
    tmp_path: Path, shell: str, options: str, number: int
) -> None:
    """F50: 128 and its number, also in ksh, which counts them from 256 on."""
    run = make_run(tmp_path)
    body = f"{options}sh -c 'ulimit -c 0; kill -{number} $$; sleep 60'"
    assert Job(run, body, shell).run()[0] == 128 + number
    assert states(run) == [(3, "0001", "77", 0, 128 + number)]


@every_shell
@pytest.mark.parametrize("code", [256, 257, 271, 320, 512, 1000])
def test_a_status_that_no_process_can_have_is_no_success(tmp_path: Path, shell: str, code: int) -> None:
    """`exit 256` would be 0 to Slurm where the shell doesn't see it itself; record and status say the same."""
    run = make_run(tmp_path)
    seen = Job(run, f"exit {code}", shell).run()[0]
    assert states(run) == [(3, "0001", "77", 0, seen)]
    # bash and zsh have it cut before anybody sees it.
    assert seen != 0 or (shell in ("bash", "zsh", "mksh", "ksh", "busybox") and code % 256 == 0)


@every_shell
def test_traps_of_the_hook_are_no_matter_to_the_worker(tmp_path: Path, shell: str) -> None:
    """A program that the script starts has the signals as they were: it dies of them."""
    run = make_run(tmp_path)
    body = "sh -c 'sh -c \"kill -ABRT \\$\\$; exit 0\"; echo $?' 2>/dev/null"
    assert Job(run, f"ulimit -c 0\n{body}", shell).run()[1] == "134\n"


HIDDEN = {
    "an unset variable": ("set -u\necho $nobody_sets_this\n:", False),
    "a file that cannot be sourced": (". ./there-is-none\n:", False),
    "set -e behind a pipe": ("set -eo pipefail\nsh -c 'exit 3' | cat\n:", False),
    "set -e and an ERR trap": ("set -e\ntrap : ERR\nsh -c 'exit 3'\n:", False),
    "a sum that has no value": ("x=$((1 / 0))\n:", False),
    "the end": ("sh -c 'exit 3'\n:", True),
    "exit": ("sh -c 'exit 0' && exit\n:", True),
    "exit in a function": ("f() { exit 0; }\nf\nfalse", True),
}


@pytest.mark.parametrize("shell", [name for name in ("ksh", "mksh") if name in SHELLS])
@pytest.mark.parametrize("what", HIDDEN)
def test_f190_an_end_that_the_shell_hides_is_no_success(tmp_path: Path, shell: str, what: str) -> None:
    """F190: where ksh and mksh end a script by themselves they tell an EXIT trap 0, and so it ended."""
    run = make_run(tmp_path)
    body, good = HIDDEN[what]
    code = Job(run, body, shell).run()[0]
    assert (code == 0) is good
    (record,) = read_records(run.tasks)
    assert record.code in ((0,) if good else (None, code))


OWN_TRAPS = {
    "as it is documented": 'code=$?; esis_end "$code" || code=75; exit "$code"',
    "its answer is no matter": 'code=$?; esis_end "$code"; exit "$code"',
}


@pytest.mark.parametrize("shell", [name for name in ("ksh", "mksh") if name in SHELLS])
@pytest.mark.parametrize("trap", OWN_TRAPS)
@pytest.mark.parametrize("what", HIDDEN)
def test_f221_nor_is_it_for_a_trap_of_the_scripts_own(tmp_path: Path, shell: str, what: str, trap: str) -> None:
    """F221: such a trap is told 0 as well, and hands that on; ksh ends with it, so that Slurm hears nothing else."""
    run = make_run(tmp_path)
    body, good = HIDDEN[what]
    Job(run, f"trap '{OWN_TRAPS[trap]}' EXIT\n{body}", shell).run()
    (record,) = read_records(run.tasks)
    assert record.done is good
    assert record.ended


@pytest.mark.parametrize("shell", [name for name in ("ksh", "mksh") if name in SHELLS])
def test_f190_without_the_hook_the_status_stays(tmp_path: Path, shell: str) -> None:
    """F190: by hand the script's last line alone must not make a success of it."""
    run = make_run(tmp_path)
    job = Job(run, "(exit 3)", shell)
    run.task_hook.unlink()
    assert job.run()[0] == 3
