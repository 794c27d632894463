"""What Slurm itself does with a job's identity, with filters, users and signals: the fake has to do the same."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.site import Site, make_workflow

LATER = "--begin=now+1hour"
MARKED = "esis|%F|%K|%T|%r|%M|%o|%Z|end"
HEADER = "esis|ARRAY_JOB_ID|ARRAY_TASK_ID|STATE|REASON|TIME|COMMAND|WORK_DIR|end\n"
SCRIPT = "#!/bin/bash\n{lines}sleep 600\n"


@pytest.fixture
def place(site: Site) -> Iterator[Path]:
    """A directory `cwd` beside a script job.sh; nothing of the user's is left in the queue."""
    site.run(["mkdir", "-p", "run/cwd"], site.home).ok()
    site.run(["scancel", "--me"], site.home)
    yield site.home / "run/cwd"
    site.run(["scancel", "--me"], site.home)
    site.settle()


def write(site: Site, path: Path, *lines: str) -> None:
    text = SCRIPT.format(lines="".join(f"{line}\n" for line in lines))
    site.run(["sh", "-c", 'printf %s "$1" >"$2"', "sh", text, str(site.inside(path))], site.home).ok()


def submitted(site: Site, cwd: Path, command: str) -> str:
    return site.run(["bash", "-c", command], cwd).ok().stdout.strip()


def shown(site: Site, job: str, *fields: str, env: dict[str, str] | None = None) -> list[tuple[str, ...]]:
    """Return fields of the rows of a job, without the user's other jobs."""
    done = site.run(["squeue", "-h", "-t", "all", "--me", "-o", "|".join(("%F", *fields))], site.home, env).ok()
    rows = [tuple(row.split("|")) for row in done.stdout.splitlines()]
    return sorted(row[1:] for row in rows if row[0] == job)


def test_squeue_prints_its_header_with_the_marks_of_the_format(site: Site, place: Path) -> None:
    """Each %x becomes its title, other text stays; also where there are no jobs to show."""
    assert site.run(["squeue", "--me", "-n", "no-such-name", "-o", MARKED], place).ok().stdout == HEADER
    write(site, place / "../job.sh")
    submitted(site, place, f"sbatch --parsable --array=0-2 {LATER} ../job.sh")
    head, row = site.run(["squeue", "--me", "-o", MARKED], place).ok().stdout.splitlines()
    assert f"{head}\n" == HEADER
    assert row.startswith("esis|")
    assert row.endswith(f"|../job.sh|{site.inside(place)}|end")


def test_squeue_cuts_a_field_at_its_width(site: Site, place: Path) -> None:
    """Titles, too: of when an attempt began nobody needs the last digit."""
    assert site.run(["squeue", "--me", "-n", "no-such-name", "-o", "%M %4S|"], place).ok().stdout == "TIME STAR|\n"


def test_a_command_is_shown_as_it_was_typed(site: Site, place: Path) -> None:
    """Relative and with detours; a name without a slash becomes a path; --wrap and stdin have none."""
    write(site, place / "../job.sh")
    write(site, place / "own.sh")
    inside = str(site.inside(place))
    typed = {
        "../job.sh": "../job.sh",
        f"{inside}/../job.sh": f"{inside}/../job.sh",
        f"{inside}//./../job.sh": f"{inside}//./../job.sh",
        "own.sh": f"{inside}/own.sh",
        "./own.sh": "./own.sh",
        "--wrap 'sleep 600'": "(null)",
        "<own.sh": "(null)",
    }
    jobs = {word: submitted(site, place, f"sbatch --parsable {LATER} {word}") for word in typed}
    found = {word: shown(site, job, "%o", "%Z") for word, job in jobs.items()}
    assert found == {word: [(command, inside)] for word, command in typed.items()}


def test_arguments_of_a_script_follow_its_path_in_old_versions_alone(site: Site, place: Path) -> None:
    """22.05 shows them, joined with blanks and unquoted; 24.11 doesn't."""
    write(site, place / "../job.sh")
    job = submitted(site, place, f"sbatch --parsable {LATER} ../job.sh --first 'a b'")
    version = site.run(["squeue", "--version"], place).ok().stdout.split()[-1]
    old = tuple(map(int, version.split(".")[:2])) < (24, 11)
    assert shown(site, job, "%o") == [("../job.sh --first a b" if old else "../job.sh",)]


@pytest.mark.parametrize(
    "line",
    [
        "#SBATCH --chdir=/",
        "#SBATCH -D /",
        "#SBATCH --chd=/",
        "#SBATCH -HD /",
        "#SBATCH --time=5 --chdir='/'",
        "#SBATCH-D/",
    ],
)
def test_another_directory_hides_where_a_relative_command_was_meant(site: Site, place: Path, line: str) -> None:
    """The command stays as it was typed, the directory is the other one."""
    write(site, place / "../job.sh", line)
    job = submitted(site, place, f"sbatch --parsable {LATER} ../job.sh")
    assert shown(site, job, "%o", "%Z") == [("../job.sh", "/")]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("#SBATCH --array=0-2", "#SBATCH --array=5-6"), "5-6"),
        (("#SBATCH --array=0-2", "#SBATCH -a 5"), "5"),
        (("#SBATCH --array=0-2", "#SBATCH --arr=5"), "5"),
        (("#SBATCH --array=0-2", ":", "#SBATCH --array=5-6"), "0-2"),
        (("#SBATCH --array=0-2 # --array=5-6",), "0-2"),
        (("#SBATCH --array=0-2", " #SBATCH --array=5-6", "##SBATCH --array=5-6"), "0-2"),
    ],
)
def test_of_two_arrays_the_later_counts(site: Site, place: Path, lines: tuple[str, ...], expected: str) -> None:
    """Options may be abbreviated; they end at the first line that is no comment."""
    write(site, place / "../job.sh", *lines)
    job = submitted(site, place, f"sbatch --parsable {LATER} ../job.sh")
    assert shown(site, job, "%K") == [(expected,)]


HIDING = {
    "SQUEUE_ACCOUNT": "nobody",
    "SQUEUE_LICENSES": "matlab",
    "SQUEUE_NAMES": "other",
    "SQUEUE_QOS": "other",
    "SQUEUE_STATES": "SUSPENDED",
}


@pytest.mark.parametrize("name", HIDING)
def test_squeue_takes_filters_from_the_environment(site: Site, place: Path, name: str) -> None:
    """Each of them hides a job from a query that doesn't name that filter itself."""
    write(site, place / "../job.sh")
    job = submitted(site, place, f"sbatch --parsable {LATER} ../job.sh")
    argv = ["squeue", "-h", "--me", "-o", "%F"]
    assert site.run(argv, place).ok().stdout.split() == [job]
    assert site.run(argv, place, {name: HIDING[name]}).ok().stdout == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SCANCEL_NAME", "other"),
        ("SCANCEL_STATE", "SUSPENDED"),
        ("SCANCEL_ACCOUNT", "nobody"),
        ("SCANCEL_QOS", "other"),
    ],
)
def test_scancel_takes_filters_from_the_environment(site: Site, place: Path, name: str, value: str) -> None:
    """A job that they leave out isn't cancelled, though its id is given."""
    write(site, place / "../job.sh")
    job = submitted(site, place, f"sbatch --parsable {LATER} ../job.sh")
    site.run(["scancel", job], place, {name: value})
    assert shown(site, job, "%T") == [("PENDING",)]
    site.run(["scancel", job], place).ok()
    assert shown(site, job, "%T") == [("CANCELLED",)]


def test_squeue_shows_the_jobs_of_the_users_that_are_named(site: Site, place: Path) -> None:
    """By name or number, several at a time; one that nobody knows makes no failure."""
    write(site, place / "../job.sh")
    job = submitted(site, place, f"sbatch --parsable {LATER} ../job.sh")
    user = site.run(["id", "-u"], place).ok().stdout.strip()
    for users in (user, f"{user},2", f"2,{user}", f"no-such-user,{user}"):
        assert site.run(["squeue", "-h", "-u", users, "-o", "%F"], place).ok().stdout.split() == [job], users
    unknown = site.run(["squeue", "-u", "no-such-user", "-o", "%F"], place).ok()
    assert unknown.stdout == "ARRAY_JOB_ID\n"
    assert "Invalid user: no-such-user" in unknown.stderr


SIGNALS = ("ILL", "TRAP", "ABRT", "BUS", "FPE", "SEGV", "XFSZ", "VTALRM", "SYS")


def test_a_signal_to_the_batch_shell_fails_its_task(site: Site) -> None:
    """F50: right after a command that ended with 0; no record says exit0, and no task is done."""
    call = f'WORKERSCRIPT\nset -- {" ".join(SIGNALS)}\nshift "$SLURM_ARRAY_TASK_ID"\nkill -s "$1" $$\nexit 42'
    text = f"#!/bin/bash\n#SBATCH --array=TASKARRAYDEFINITION\n#SBATCH --time=5\n#ESIS_PRIVATE\nulimit -c 0\n{call}\n"
    flow = make_workflow(site, "signals", len(SIGNALS), template=text)
    flow.esis("run").ok()
    site.settle()
    # Before anything looks at them: a verdict of Slurm's would be noted there.
    names = os.listdir(flow.only_run() / "__esis__/tasks")
    assert len(names) == len(SIGNALS)
    assert flow.states() == {"failed": len(SIGNALS)}
    assert [name for name in names if ".exit0." in name or ".exit42." in name] == []
    rows = json.loads(flow.esis("status", "--tasks", "--json").stdout)["rows"]
    assert all(row["reason"] for row in rows)


def test_the_name_of_an_attempt_is_the_same_in_the_queue_and_in_the_task(site: Site) -> None:
    """SLUID, from 26.05 on; before, the column is empty or holds the letters of the format, and no record has one."""
    flow = make_workflow(site, "sluid", 2)
    flow.esis("run").ok()
    site.settle()
    run = flow.only_run()
    told = {json.loads(path.read_text()).get("sluid", "") for path in (run / "__esis__/tasks").iterdir()}
    job = (run / "__esis__/jobid.tx").read_text().strip()
    done = site.run(["squeue", "-h", "-t", "all", "--me", "-o", "%F|%s"], site.home).ok()
    shown = {line.partition("|")[2] for line in done.stdout.splitlines() if line.startswith(f"{job}|")}
    assert told == shown if told != {""} else shown <= {"", "%s"}
    assert flow.states() == {"done": 2}
