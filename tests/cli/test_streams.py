"""F64: closed, full and broken standard streams, terminals and signals: the code tells of the work."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from esis.cli.streams import Stream
from tests.contract.site import TEMPLATE, generator
from tests.fakes import FakeSlurm

ESIS = Path(sys.executable).parent / "esis"
FULL = "/dev/full"
ODD_WORKER = "#!/bin/sh\nprintf 'a\\033]0;evil\\007\\033[31mred\\033[0m\\rx\\033[2Jy\\n'\n"


class Place:
    """A workflow beside a fake Slurm, and commands whose streams go where a shell's redirections say."""

    def __init__(self, directory: Path, slurm: FakeSlurm) -> None:
        self.directory = directory
        self.slurm = slurm
        self.env = slurm.env()
        for name, text in {
            "setup.sh": "#!/bin/sh\n",
            "gen.py": generator(2),
            "t.sh": TEMPLATE,
            "w.sh": ODD_WORKER,
        }.items():
            (directory / name).write_text(text)
            (directory / name).chmod(0o755)
        assert self.shell("setup setup.sh gen.py t.sh w.sh").returncode == 0

    def shell(self, line: str) -> subprocess.CompletedProcess[str]:
        return self.start("bash", "-c", f"{ESIS} {line}")

    def start(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.directory, env=self.env, check=False, capture_output=True, text=True, timeout=120
        )

    def terminal(self, *arguments: str) -> str:
        """Return what a terminal gets on stdout and stderr."""
        return on_terminal([str(ESIS), *arguments], self.env, self.directory)


def on_terminal(command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None) -> str:
    """Run a command; return what a terminal gets on stdout and stderr."""
    outside, inside = pty.openpty()
    child = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=inside, stderr=inside)
    os.close(inside)
    found = b""
    with contextlib.suppress(OSError):  # Linux says EIO once the other end is closed
        while data := os.read(outside, 65536):
            found += data
    os.close(outside)
    child.wait(60)
    return found.decode("utf-8", "replace").replace("\r\n", "\n")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "flow").mkdir()
    with FakeSlurm(tmp_path / "slurm", auto=True) as slurm:
        yield Place(tmp_path / "flow", slurm)


@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&-", ">&- 2>&- <&-", "<&- >&-", "2>/dev/full", "2>&- >&-"])
def test_f64_closed_streams_change_no_exit_code(place: Place, streams: str) -> None:
    """F64: a submission is made once, `wait` tells how it went, data commands end well."""
    assert place.shell(f"run {streams}").returncode == 0
    assert place.shell(f"wait --interval 0.2 {streams}").returncode == 0
    for line in ("status", "status --json", "list", "run", "errors", "log 0", "export", "--version", "--help", "doc"):
        done = place.shell(f"{line} {streams}")
        assert (done.returncode, "internal error" in done.stderr, "Traceback" in done.stderr) == (0, False, False), line
    assert place.shell(f"status nowhere {streams}").returncode == 2
    assert len(place.slurm.jobs()) == 1


def test_f64_a_closed_stream_never_gets_into_a_file_of_the_run(place: Place) -> None:
    """F64: with descriptors 0 to 2 free, the next files to be opened would get them."""
    place.shell("run --local >&- 2>&- <&-")
    (run,) = place.directory.glob("wrkdir.*")
    assert not [path for path in run.rglob("*") if path.is_file() and b"esis: " in path.read_bytes()[:6]]


@pytest.mark.parametrize("line", ["run", "status", "status --json", "list", "log 0", "export", "--version", "doctor"])
def test_f64_a_full_standard_output_is_told_after_the_work(place: Place, line: str) -> None:
    """F64: exit code 1, one line that names the cause, and the submission is made and recorded."""
    place.shell("run").check_returncode()
    place.shell("wait --interval 0.2").check_returncode()
    done = place.shell(f"{line} >{FULL}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("esis: standard output: No space left on device (ENOSPC)")


def test_f64_a_code_of_the_work_outranks_a_full_output(place: Place) -> None:
    (place.directory / "w.sh").write_text("#!/bin/sh\nexit 3\n")
    assert place.shell(f"run --local >{FULL}").returncode == 8


def test_f64_a_submission_with_a_full_output_is_recorded(place: Place) -> None:
    assert place.shell(f"run >{FULL} 2>{FULL}").returncode == 1
    assert place.shell("run").returncode == 0
    assert len(place.slurm.jobs()) == 1


@pytest.mark.parametrize("line", ["run", "status", "list", "doc workers", "export", "--help"])
def test_f64_a_reader_that_went_away_is_no_error(place: Place, line: str) -> None:
    """F64: `esis … | head -0`: nothing on stderr, and the code of the work."""
    place.shell("run").check_returncode()
    script = f"{{ trap '' PIPE; {ESIS} {line}; echo code $? >&2; }} | true"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=place.directory,
        env=place.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr.splitlines()[-1] == "code 0"
    assert "Broken pipe" not in done.stderr


def test_f64_a_followed_log_ends_with_its_reader(place: Place) -> None:
    """F64: nobody reads any more, so there is nothing to follow for; the task runs on."""
    (place.directory / "w.sh").write_text("#!/bin/sh\nwhile ! [ -e ../go ]; do echo line; sleep 0.05; done\n")
    place.shell("run").check_returncode()
    try:
        done = place.shell("log 0 --follow | head -2")
        assert done.stdout.splitlines() == ["line"] * 2
    finally:
        next(place.directory.glob("wrkdir.*")).joinpath("go").touch()


def test_f64_a_terminal_gets_no_control_characters_of_a_log(place: Place) -> None:
    """F64: colours pass, and a carriage return ends the line; a pipe gets every byte."""
    place.shell("run --local").check_returncode()
    raw = place.shell("log 0").stdout
    assert "\x1b]0;evil\x07" in raw
    assert "\x1b[2J" in raw
    shown = place.terminal("log", "0")
    assert shown == "a\\x1b]0;evil\\x07\x1b[31mred\x1b[0m\nx\\x1b[2Jy\n"


def test_f64_a_terminal_gets_no_control_characters_of_names_and_reasons(place: Place) -> None:
    """F64: of a directory, of a failed task's last words, of parameters."""
    odd = place.directory / "odd\x1b]0;evil\x07\u202e"
    odd.mkdir()
    for name in ("setup.sh", "t.sh"):
        (odd / name).write_text((place.directory / name).read_text())
    (odd / "gen.py").write_text(generator(1).replace('"n": n', '"n\\x1b[2J": "\\x9b"'))
    (odd / "w.sh").write_text("#!/bin/sh\nprintf 'last \\033[2Jwords\\n'; exit 3\n")
    for name in ("setup.sh", "gen.py", "t.sh", "w.sh"):
        (odd / name).chmod(0o755)
    place.directory = odd
    assert place.shell("setup setup.sh gen.py t.sh w.sh").returncode == 0
    shown = place.terminal("run", "--local")
    for arguments in (
        ["status"],
        ["status", "--tasks"],
        ["status", "--json"],
        ["status", "--tasks", "--json"],
        ["errors"],
        ["list"],
        ["status", "nowhere\x1b]0;x\x07"],
        ["export"],
        ["log", "0", "--path"],
        ["doctor"],
    ):
        shown += place.terminal(*arguments)
    assert "evil" in shown
    assert not [letter for letter in ("\x1b]", "\x1b[2J", "\x07", "\x9b", "\u202e") if letter in shown]


@settings(deadline=None)
@example([b"\x1b[2J", b"\x1b[1;1H"], 0)
@given(
    st.lists(
        st.sampled_from(
            [
                b"\x1b",
                b"[",
                b"3",
                b"1",
                b"m",
                b"2J",
                b"\x1b[1;1H",
                b"\r",
                b"\n",
                b"\xc2",
                b"\x9b",
                b"\xe2",
                b"\x80",
                b"\xae",
                b"a",
                b"\x07",
                b"\x1b[31m",
            ]
        ),
        max_size=20,
    ),
    st.integers(0, 20),
)
def test_f64_how_output_is_cut_changes_nothing(pieces: Sequence[bytes], at: int) -> None:
    """F64: a sequence that comes in two pieces is the same sequence."""

    def filtered(parts: Sequence[bytes]) -> bytes:
        reading, writing = os.pipe()
        stream = Stream.on(writing)
        stream._filtered = True
        for part in parts:
            stream.write(part)
        stream.finish()
        os.close(writing)
        with open(reading, "rb") as found:
            return found.read()

    whole = b"".join(pieces)
    assert filtered([whole]) == filtered([whole[:at], whole[at:]]) == filtered(pieces)
    assert b"\x07" not in filtered(pieces)


def interrupted(
    directory: Path, module: str, arguments: Sequence[str], env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Start esis so that it gets a SIGINT while it imports `module`."""
    (directory / f"{module}.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    return subprocess.run(
        [sys.executable, "-m", "esis", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(directory), **env},
        timeout=60,
    )


@pytest.mark.parametrize("module", ["click", "json"])
@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (["status"], {}),
        (["--help"], {}),
        ([], {"_ESIS_COMPLETE": "bash_complete", "COMP_WORDS": "esis st", "COMP_CWORD": "1"}),
    ],
)
def test_f64_an_interrupt_at_the_start_is_one_line(
    tmp_path: Path, module: str, arguments: Sequence[str], env: Mapping[str, str]
) -> None:
    """F64: also while modules are imported, and during completion: no traceback, 130."""
    done = interrupted(tmp_path, module, arguments, env)
    if module == "click" or arguments == ["status"]:  # what is imported for that
        assert done.returncode == 130
        assert done.stderr.split() == ["esis:", "interrupted"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "env"),
    [
        ("-i", {}),
        ("", {"PYTHONINSPECT": "1"}),
        ("-OO", {}),
        ("", {"PYTHONIOENCODING": "ascii"}),
        ("-X dev -X warn_default_encoding -W error", {}),
    ],
)
def test_f47_what_python_is_told_changes_no_exit_code(place: Place, options: str, env: Mapping[str, str]) -> None:
    """F47: the environment is input, Python's variables too: no warning, no traceback."""
    place.env.update(env)
    for line in ("run", "wait --interval 0.2", "status --json", "export", "list", "verify", "doctor"):
        done = subprocess.run(
            [sys.executable, *options.split(), "-m", "esis", *line.split()],
            cwd=place.directory,
            env=place.env,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, (line, done.stderr)
        assert "Warning" not in done.stderr and "Traceback" not in done.stderr
    assert place.shell("status no-such-run").returncode == 2


def test_what_libraries_leave_for_the_end_of_python_is_done(place: Place) -> None:
    """Where HOME can't be written to, matplotlib has a temporary directory for that time."""
    text = (
        "import atexit, sys; sys.argv[1:] = ['list']; "
        "atexit.register(print, 'the end'); from esis.__main__ import start; start()"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=place.directory, env=place.env, check=True, capture_output=True, text=True
    )
    assert done.stdout.endswith("the end\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_f64_other_signals_end_it_without_a_traceback(place: Place, number: signal.Signals) -> None:
    """F64: they end it as they end any program."""
    (place.directory / "w.sh").write_text("#!/bin/sh\nwhile ! [ -e ../go ]; do sleep 0.05; done\n")
    place.shell("run").check_returncode()
    child = subprocess.Popen(
        [str(ESIS), "wait", "--interval", "0.2"], cwd=place.directory, env=place.env, stderr=subprocess.PIPE, text=True
    )
    try:
        assert child.stderr is not None
        assert "wrkdir." in child.stderr.readline()
        child.send_signal(number)
        rest = child.stderr.read()
        assert child.wait(30) in (-number, 128 + number)
        assert "Traceback" not in rest
    finally:
        next(place.directory.glob("wrkdir.*")).joinpath("go").touch()


def ignoring_children(place: Place, arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as one who ignores SIGCHLD does; some shells don't hand that on."""
    code = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    return place.start(sys.executable, "-c", code, str(ESIS), *arguments.split())


@pytest.mark.parametrize("script", ["gen.py", "setup.sh"])
def test_f201_a_script_that_fails_below_who_ignores_sigchld_has_failed(place: Place, script: str) -> None:
    """F201: nothing is submitted on what it left."""
    with (place.directory / script).open("a") as stream:
        stream.write("exit(3)\n" if script == "gen.py" else "exit 3\n")
    done = ignoring_children(place, "run")
    assert (done.returncode, "ended with exit code 3" in done.stderr) == (4, True), done.stderr
    assert not place.slurm.calls("sbatch")


def test_f201_a_local_task_that_fails_below_who_ignores_sigchld_has_failed(place: Place) -> None:
    """F201: also where the script writes no records, so that its exit status is all that tells."""
    (place.directory / "t.sh").write_text(
        "#!/usr/bin/env python3\n#SBATCH --array=TASKARRAYDEFINITION\n#ESIS_PRIVATE\n"
        "import sys; sys.exit(3)  # WORKERSCRIPT\n"
    )
    done = ignoring_children(place, "run --local")
    assert done.returncode == 8, done.stderr
    assert place.shell("status").stdout.splitlines()[1:] == ["failed\t2\t0-1\texit code 3"]


def test_f204_a_name_that_the_locale_lacks_is_no_internal_error(place: Place) -> None:
    """F204: the operating system is given names in the encoding of the locale."""
    (place.directory / "d\u00e4.txt").write_text("x")
    place.shell("setup setup.sh gen.py t.sh w.sh d\u00e4.txt").check_returncode()
    place.env.update({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    done = place.shell("run")
    assert (done.returncode, "LC_ALL=C.UTF-8" in done.stderr) == (2, True), done.stderr
    assert not place.slurm.calls("sbatch")
