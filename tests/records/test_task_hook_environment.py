"""task.sh and the environment: whatever a variable, a function or an option is outside, the job's own value counts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esis.model.parametersets import write_index
from esis.model.template import Pack, Values, render
from tests.records.jobs import SHELLS, Job, every_shell, make_run, read_records, some_shells, states
from tests.records.test_task_hook_arrays import codes, logs

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy
HOOK = (Path(__file__).parents[2] / "esis" / "records" / "task.sh").read_text("utf-8")
SCRIPT = render("#!/bin/sh\n#SBATCH --array=TASKARRAYDEFINITION\n", "t.sh", Values("0-9", "w", 1)).text
OWN = sorted(set(re.findall(r"\besis_[a-z]+(?:_[a-z]+)*", HOOK + SCRIPT)))
CALLED = sorted(set(re.findall(r"\bcommand ([a-z]+)", HOOK)))
# Not OPTIND, RANDOM and other numbers: some shells don't start with texts in these.
TELLING = (
    "BASH_VERSION",
    "BASH_VERSINFO",
    "ZSH_VERSION",
    "KSH_VERSION",
    "EPOCHSECONDS",
    "EPOCHREALTIME",
    "REPLY",
    "CDPATH",
    "IFS",
    "PS4",
)
FEATURES = ("", "map", "offset", "pack")


def job_of(tmp_path: Path, shell: str, feature: str) -> tuple[Job, list[int]]:
    """Return a job of a run whose parameters are lines, and the tasks that its index 1 works on."""
    run = make_run(tmp_path, f"{len(list(tmp_path.rglob('wrkdir.*'))):064x}")
    run.parameters_lines.write_text("".join(f'{{"n": {n}}}\n' for n in range(40)))
    write_index(run.parameters_lines)
    body = 'cat "../parameters/parameters.$SLURM_ARRAY_TASK_ID.json"'
    if feature == "map":
        return Job(run, body, shell, mapped=(4, 9, 30)), [9]
    if feature == "offset":
        return Job(run, body, shell, offset=20), [21]
    if feature == "pack":
        return Job(run, body, shell, pack=Pack(2, 1, 5, 20)), [7, 8]
    return Job(run, body, shell), [1]


def check(job: Job, tasks: list[int], **environment: str) -> None:
    """Assert that the job works on these tasks with their own parameters, and records that."""
    run = job.run_dir
    code, out, err = job.run(1, variables=environment)
    assert (code, err) == (0, "")
    outputs = logs(run) or {tasks[0]: out}
    assert outputs == {task: f'{{"n": {task}}}\n' for task in tasks}
    assert codes(run) == dict.fromkeys(tasks, 0)
    assert {(record.submission, record.job, record.restart) for record in read_records(run.tasks)} == {(1, "77", 0)}
    assert all(1_600_000_000 < record.start <= (record.end or 0) for record in read_records(run.tasks))
    assert sorted(os.listdir(run.parameters)) == ["parameters.index", "parameters.jsonl"]


@every_shell
@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("value", ["5", "", "5.2.15(1)-release", "1 1 0 3", "$(touch canary)", "a[$(touch canary)]"])
def test_f48_the_shells_own_variables_are_the_jobs_own(tmp_path: Path, shell: str, feature: str, value: str) -> None:
    """F48: all names that hook and script use, and those that tell which shell it is, are set outside."""
    job, tasks = job_of(tmp_path, shell, feature)
    check(job, tasks, **dict.fromkeys([*OWN, *TELLING], value))
    assert not list(tmp_path.rglob("canary"))


@pytest.mark.parametrize("shell", [name for name in ("bash", "dash") if name in SHELLS])
@pytest.mark.parametrize("feature", FEATURES)
@settings(RELAXED, max_examples=8)
@given(
    values=st.dictionaries(
        st.sampled_from([*OWN, *TELLING, "PWD", "OLDPWD", "PPID", "TMOUT"]),
        st.sampled_from(["0", "1", "77", "no", "yes", "/tmp", "5.1", " ", "/", "x" * 300, "-n"]),
    )
)
def test_f48_any_of_them_with_any_value(
    tmp_path_factory: pytest.TempPathFactory, shell: str, feature: str, values: Mapping[str, str]
) -> None:
    """F48: the same, with some of them and values of their own."""
    job, tasks = job_of(tmp_path_factory.mktemp("any"), shell, feature)
    check(job, tasks, **values)


@pytest.mark.skipif("bash" not in SHELLS, reason="no bash here")
@pytest.mark.parametrize("feature", FEATURES)
def test_f48_functions_of_the_environment_are_not_called(tmp_path: Path, feature: str) -> None:
    """F48: bash takes them over; each program and command that the hook calls is one that fails and talks."""
    assert {"date", "mv", "ln", "readlink", "printf", "cd", "echo", "awk", "ls", "rm", "uname", "mkdir"} <= {*CALLED}
    job, tasks = job_of(tmp_path, "bash", feature)
    text = job.spool.read_text()
    job.spool.write_text(text.replace('cat "', 'date; command cat "') if feature == "" else text)
    evil = {f"BASH_FUNC_{name}%%": "() { command echo evil >&2; builtin echo evil; return 3; }" for name in CALLED}
    if feature == "":
        # The script's own lines see them.
        code, out, err = job.run(1, variables=evil, fenced="0001")
        assert (code, out, err) == (0, 'evil\n{"n": 1}\n', "evil\n")
        assert codes(job.run_dir) == {1: 0}
        return
    check(job, tasks, **evil)


@pytest.mark.skipif("bash" not in SHELLS, reason="no bash here")
@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize(
    "options",
    [
        "noclobber",
        "errexit",
        "nounset",
        "pipefail",
        "allexport",
        "noglob",
        "posix",
        "monitor",
        "physical",
        "functrace",
        "errexit:noclobber:nounset:pipefail:allexport:noglob",
    ],
)
def test_f48_options_of_the_shell_from_the_environment(tmp_path: Path, feature: str, options: str) -> None:
    """F48: SHELLOPTS and BASHOPTS set options before the script's first line, also in the tasks of a pack."""
    job, tasks = job_of(tmp_path, "bash", feature)
    check(
        job, tasks, SHELLOPTS=options, BASHOPTS="extglob:nocasematch:nullglob:failglob:xpg_echo:lastpipe:expand_aliases"
    )


@pytest.mark.skipif("bash" not in SHELLS, reason="no bash here")
@pytest.mark.parametrize("feature", FEATURES)
def test_f48_what_a_site_sets_up_for_each_shell(tmp_path: Path, feature: str) -> None:
    """F48: BASH_ENV is read before the script: aliases, a `cd` that prints, IFS, options."""
    profile = tmp_path / "profile"
    profile.write_text(
        "shopt -s expand_aliases\nalias mv='mv -i' rm='rm -i' ls='ls -l' date=false\nset -C\nIFS=1072:\n"
        'cd() { builtin cd "$@" && pwd && ls; }\nexport -f cd\nexport CDPATH=/:/tmp\n'
    )
    job, tasks = job_of(tmp_path, "bash", feature)
    check(job, tasks, BASH_ENV=str(profile), ENV=str(profile))


@some_shells
@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_f48_what_programs_read_from_the_environment(tmp_path: Path, shell: str, feature: str, locale: str) -> None:
    """F48: options, quoting and language of ls, grep, awk and others."""
    job, tasks = job_of(tmp_path, shell, feature)
    check(
        job,
        tasks,
        QUOTING_STYLE="shell-escape-always",
        GREP_OPTIONS="--color=always -v",
        GREP_COLOR="1",
        LS_COLORS="x",
        POSIXLY_CORRECT="1",
        _POSIX2_VERSION="199209",
        LC_ALL=locale,
        LANG=locale,
        TZ="Pacific/Kiritimati",
        COLUMNS="1",
        BLOCKSIZE="7",
        AWKPATH="/",
        VERSION_CONTROL="numbered",
        TMOUT="1",
    )


@some_shells
@pytest.mark.parametrize("style", ["c", "shell-always"])
def test_f48_quoted_names_complete_a_run(tmp_path: Path, shell: str, style: str) -> None:
    """F48: `ls` may put names into quotation marks; and after a requeue a pack finds what is done."""
    run, other = make_run(tmp_path), make_run(tmp_path, "cd" * 32)
    (other.tasks / "0.0001.7.0.100.exit0.101").touch()
    (run.tasks / "4.0001.77.0.100.exit0.101").touch()
    run.requirements.write_text(f"0:0:{other.path}\n")
    job = Job(run, "echo $SLURM_ARRAY_TASK_ID >>did", shell, pack=Pack(2, 1, 4, 5), required=1)
    assert job.run(0, restart=1, QUOTING_STYLE=style, SHELLOPTS="pipefail") == (0, "", "")
    assert (run.cwd / "did").read_text() == "5\n"


@every_shell
def test_f48_what_another_job_left_in_the_environment(tmp_path: Path, shell: str) -> None:
    """F48: a job submitted from inside of another one inherits its variables, of a pack and of --local, too."""
    job, tasks = job_of(tmp_path, shell, "")
    left = {
        "SLURM_ESIS_FROM": "0",
        "SLURM_ESIS_PACKED": f"76::host:{tmp_path}",
        "SLURM_ESIS_INDEX": "9",
        "SLURM_ESIS_RECORD": "/x/1.0001.76.0.1",
        "SLURM_ESIS_INSIDE": f"76:0:1:0001:{job.run_dir.digest}:{os.getpid()}:host 6.1",
        "SLURM_ESIS_LOCAL": "1",
    }
    text = job.spool.read_text()
    job.spool.write_text(text.replace("\ncat ", "\nenv | grep '^SLURM_ESIS_[^R]' >seen || :\ncat "))
    check(job, tasks, **left)
    seen = (job.run_dir.cwd / "seen").read_text().split("\n")
    assert [line.partition(":0:")[0] for line in sorted(seen)] == ["", "SLURM_ESIS_INDEX=1", "SLURM_ESIS_INSIDE=77"]


CHANGES = {
    "a path without mv": "PATH=/nowhere",
    "no path": "unset PATH",
    "libraries that are none": "export LD_LIBRARY_PATH=$PWD/broken",
    "neither": "PATH=/nowhere LD_LIBRARY_PATH=$PWD/broken; export PATH LD_LIBRARY_PATH",
    "no variables of Slurm": (
        "set -u; for name in $(env | sed -n 's/^\\(SLURM_[A-Z_]*\\)=.*/\\1/p'); do unset \"$name\"; done"
    ),
}


@every_shell
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("own", [False, True])
def test_f132_what_the_script_sets_anew_does_not_touch_the_end(
    tmp_path: Path, shell: str, change: str, own: bool
) -> None:
    """Its work is done, and recorded as that; a trap of the script's own goes on with what the script has set."""
    run = make_run(tmp_path)
    run.parameters_lines.write_text('{"n": 0}\n{"n": 1}\n')
    write_index(run.parameters_lines)
    (run.cwd / "broken").mkdir()
    (run.cwd / "broken" / "libc.so.6").write_text("no library\n")
    trap = (
        """trap 'esis_code=$?; esis_end "$esis_code" || esis_code=75; echo "${PATH-none}"; exit "$esis_code"' EXIT\n"""
    )
    job = Job(run, f'{trap * own}cat "../parameters/parameters.$SLURM_ARRAY_TASK_ID.json"\n{CHANGES[change]}', shell)
    code, out, err = job.run(1)
    assert (code, err) == (0, "")
    path = {"a path without mv": "/nowhere", "neither": "/nowhere", "no path": "none"}.get(change, os.environ["PATH"])
    assert out == '{"n": 1}\n' + f"{path}\n" * own
    assert codes(run) == {1: 0}
    assert all(1_600_000_000 < record.start <= (record.end or 0) for record in read_records(run.tasks))
    assert sorted(os.listdir(run.parameters)) == ["parameters.index", "parameters.jsonl"]


@every_shell
def test_f132_a_path_that_cannot_be_set_back(tmp_path: Path, shell: str) -> None:
    """It is taken as it is."""
    run = make_run(tmp_path)
    assert Job(run, 'PATH="$PATH:/nowhere"; readonly PATH', shell).run()[:2] == (0, "")
    assert codes(run) == {3: 0}


@some_shells
@pytest.mark.parametrize("name", ["SLURM_ARRAY_TASK_ID", "SLURM_ESIS_OFFSET"])
@pytest.mark.parametrize("value", ["x", "-1", "03", "1.5", "a[$(touch canary)]", "9" * 17, "1 2"])
def test_f48_a_number_that_is_none_is_refused(tmp_path: Path, shell: str, name: str, value: str) -> None:
    """F48: whoever types it; nothing is computed with it, and no other task is worked on."""
    run = make_run(tmp_path)
    job = Job(run, "echo work", shell)
    with job.start({**job.environment(1), name: value}) as child:
        out, err = child.communicate(timeout=60)
    code = child.returncode
    assert (code, out) == (75, "")
    assert f"{name}={value} is no " in err
    assert os.listdir(run.tasks) == []
    assert not list(tmp_path.rglob("canary"))


@some_shells
@pytest.mark.parametrize("value", ["x", "", "-1", "07", "../../x"])
def test_f48_a_job_or_a_restart_that_is_no_number(tmp_path: Path, shell: str, value: str) -> None:
    """F48: no record is made that nobody can read."""
    run = make_run(tmp_path)
    assert Job(run, "echo work", shell).run(SLURM_RESTART_COUNT=value)[:2] == (0, "work\n")
    assert states(run) == [(3, "0001", "77", 0, 0)]
    job = f"{value}x" if value else ""
    assert Job(run, "echo work", shell).run(SLURM_ARRAY_JOB_ID=job, SLURM_JOB_ID="")[:2] == (0, "work\n")
    assert [state[2] for state in states(run)] == ["0", "77"]
