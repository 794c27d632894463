"""The scripts in ci/ install what is missing as root or by a sudo that asks nothing, and say what they can't do."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CI = Path(__file__).parents[2] / "ci"
TOOLS = ("bash", "sh", "env", "dirname", "timeout", "tail", "cat", "grep", "sleep", "true")


class Machine:
    """A PATH with few programs; some stand in for id, sudo, docker and apt-get, which notes its calls in `log`."""

    def __init__(self, place: Path, *, root: bool = False, sudo: bool = True, docker: str = "absent") -> None:
        self.place = place
        self.log = place / "log"
        self.log.touch()
        for name in TOOLS:
            (place / name).symlink_to(str(shutil.which(name)))
        self.program(
            "id",
            f'if [ "$1" = -un ]; then echo "${{AS:-ada}}"; elif [ -n "$AS" ]; then echo 0; '
            f"else echo {0 if root else 1000}; fi",
        )
        if sudo:
            self.program("sudo", 'while [ "${1#-}" != "$1" ]; do shift; done; AS=root exec "$@"')
        else:
            self.program("sudo", "echo a password is required >&2; exit 1")
        self.program("apt-get", f'echo "${{AS:-ada}} ${{DEBIAN_FRONTEND:-}} apt-get $*" >>{self.log}; echo read lists')
        if docker != "absent":
            answer = {"all": "true", "root": '[ -n "$AS" ]'}[docker]
            self.program("docker", f'[ "$1" = info ] && {answer}')

    def program(self, name: str, text: str) -> None:
        (self.place / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.place / name).chmod(0o755)

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(CI / script), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={"PATH": str(self.place), "TMPDIR": str(self.place), "AS": ""},
        )

    def noted(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.mark.parametrize(("root", "sudo", "shown"), [(True, False, "1:"), (True, True, "1:"), (False, True, "1:root")])
def test_a_command_runs_as_root_directly_or_by_sudo(tmp_path: Path, root: bool, sudo: bool, shown: str) -> None:
    made = Machine(tmp_path, root=root, sudo=sudo)
    assert made.run("as-root", "sh", "-c", 'echo "$#:$AS"', "sh", "a b").stdout == f"{shown}\n"
    assert made.run("as-root", "sh", "-c", "exit 3").returncode == 3


def test_without_a_way_to_be_root_the_command_does_not_run(tmp_path: Path) -> None:
    done = Machine(tmp_path, sudo=False).run("as-root", "sh", "-c", "echo ran")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "ci/as-root: user ada is not root, and sudo would ask for a password\n"


def test_packages_are_installed_without_questions(tmp_path: Path) -> None:
    made = Machine(tmp_path)
    done = made.run("apt-install", "strace", "ksh")
    assert (done.returncode, done.stdout) == (0, "")
    assert made.noted() == [
        "root  apt-get update",
        "root noninteractive apt-get install -y --no-install-recommends strace ksh",
    ]


@pytest.mark.parametrize(
    ("sudo", "apt", "reason"),
    [(False, True, "sudo would ask for a password"), (True, False, "there is no apt-get on this machine")],
)
def test_what_can_not_be_installed_is_said_last(tmp_path: Path, sudo: bool, apt: bool, reason: str) -> None:
    made = Machine(tmp_path, sudo=sudo)
    if not apt:
        (tmp_path / "apt-get").unlink()
    done = made.run("apt-install", "strace")
    assert (done.returncode, made.noted()) == (1, [])
    assert done.stderr.splitlines()[-1].endswith(reason)


def test_a_package_that_is_unknown_keeps_no_other_out(tmp_path: Path) -> None:
    """apt-get installs nothing where one name of many is unknown."""
    made = Machine(tmp_path)
    made.program(
        "apt-get",
        f'case "$*" in update) ;; *ksh*) exit 100 ;; *) for last; do :; done; '
        f'cat {tmp_path}/id >{tmp_path}/"$last"; /bin/chmod 755 {tmp_path}/"$last" ;; esac',
    )
    done = made.run("test-programs")
    assert (done.returncode, (tmp_path / "strace").exists()) == (0, True)
    assert done.stderr.splitlines() == [
        f"test-programs: without {name}: the tests that need it are skipped" for name in ("ksh", "mksh")
    ]


def test_an_engine_that_answers_is_left_alone(tmp_path: Path) -> None:
    made = Machine(tmp_path, docker="all")
    assert (made.run("container-engine").returncode, made.noted()) == (0, [])


def test_an_engine_that_answers_root_alone_is_told_with_the_group(tmp_path: Path) -> None:
    """Nothing is installed or started beside it: what a user lacks is the group."""
    made = Machine(tmp_path, docker="root")
    done = made.run("container-engine")
    assert (done.returncode, made.noted()) == (1, [])
    assert "docker runs, but not for user ada" in done.stderr
    assert "usermod -aG docker ada" in done.stderr


def test_without_an_engine_and_root_it_says_what_is_needed(tmp_path: Path) -> None:
    done = Machine(tmp_path, sudo=False).run("container-engine")
    assert done.returncode == 1
    assert "no engine answers 'docker info' for user ada" in done.stderr
