"""Building a run: the generator's number, scripts that fail, interrupted builds, two at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.contract.site import BIN, FakeSite, generator, make_workflow, until


def numbered(files: int, printed: str, first: int = 0, extra: str = "") -> str:
    """Return a generator that writes some files and prints some text."""
    return (
        f"#!/bin/sh\nn={first}\nwhile [ $n -lt {first + files} ]; do echo '{{}}' >parameters.$n.json; n=$((n+1)); "
        f"done\n{extra}\nprintf '%s' '{printed}'\n"
    )


@pytest.mark.parametrize(
    ("files", "printed", "first", "array", "noted"),
    [
        (3, "3", 0, "0-2", False),
        (3, "2\n", 0, "0-2", True),
        (1, "0", 0, "0", True),
        (1, "1", 0, "0", False),
        (3, "3", 1, "1-3", False),
        (1, "1", 1, "1", False),
    ],
)
def test_the_files_are_the_truth(site: FakeSite, files: int, printed: str, first: int, array: str, noted: bool) -> None:
    """Count or last index: the array covers the files, and a last index gets a note."""
    flow = make_workflow(site, "w", generator_text=numbered(files, printed, first))
    shown = flow.esis("run").ok()
    assert f"--array={array}%10\n" in (flow.only_run() / "sbatch.sh").read_text()
    assert ("the last index" in shown.stderr) == noted


_LACKING = """
import errno, os, stat, sys

CHMOD, DIRECTORIES, FILES = (getattr(errno, name, 0) for name in os.environ.pop("LACKS").split())
fsync = os.fsync


def hook(event, arguments):
    if event == "os.chmod" and CHMOD:
        raise OSError(CHMOD, os.strerror(CHMOD), arguments[0])


def lacking(descriptor):
    error = DIRECTORIES if stat.S_ISDIR(os.fstat(descriptor).st_mode) else FILES
    if error:
        raise OSError(error, os.strerror(error))
    fsync(descriptor)


sys.addaudithook(hook)
os.fsync = lacking
"""


@pytest.mark.parametrize(
    ("lacks", "notes"),
    [
        ("EPERM - -", ["copies of the workflow's files stay writable (Operation not permitted: "]),
        ("EOPNOTSUPP - -", ["copies of the workflow's files stay writable"]),
        ("- EINVAL -", ["syncs no directories"]),
        ("EPERM EOPNOTSUPP -", ["syncs no directories", "copies of the workflow's files stay writable"]),
    ],
)
def test_f293_a_file_system_that_lacks_something_gets_its_runs_and_a_note(
    site: FakeSite, tmp_path: Path, lacks: str, notes: list[str]
) -> None:
    """F293: some of FUSE refuse chmod, or to sync a directory; the command would fail for ever."""
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks/sitecustomize.py").write_text(_LACKING)
    flow = make_workflow(site, "w", 3)
    env = {"PYTHONPATH": str(tmp_path / "hooks"), "LACKS": lacks}
    shown = flow.esis("run", env=env).ok().stderr.splitlines()
    assert [len([line for line in shown if note in line]) for note in notes] == [1] * len(notes)
    assert len(site.slurm.jobs()) == 1
    flow.esis("verify").ok()


@pytest.mark.parametrize("lacks", ["- - EINVAL", "EIO - -", "- EIO -"])
def test_f293_what_a_disk_fails_at_is_an_error_as_ever(site: FakeSite, tmp_path: Path, lacks: str) -> None:
    """F293: that a file isn't on the disk is nothing to pass over."""
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks/sitecustomize.py").write_text(_LACKING)
    flow = make_workflow(site, "w", 3)
    refused = flow.esis("run", env={"PYTHONPATH": str(tmp_path / "hooks"), "LACKS": lacks})
    assert (refused.code, site.slurm.jobs()) == (1, [])
    assert lacks.replace("-", "").strip() in refused.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (numbered(3, "5"), ["announced 5", "parameters.3.json is the first one missing"]),
        (numbered(5, "3"), ["announced 3", "parameters.3.json is the first one too many"]),
        (numbered(5, "5", extra="rm parameters.2.json"), ["parameters.2.json is missing"]),
        (numbered(2, "2", first=7), ["start at index 7"]),
        (numbered(0, "0"), ["wrote no parameters.<n>.json", "parameters.jsonl"]),
        (numbered(2, ""), ["printed nothing"]),
        (numbered(2, "hello 3"), ["'hello 3'"]),
        (numbered(2, "1e400"), ["1e400"]),
        (numbered(2, "-1"), ["-1"]),
        (numbered(2, "9223372036854775808"), ["9223372036854775808"]),
        (numbered(2, "two\nlines\n2"), ["nothing else"]),
        ("#!/bin/sh\nprintf '\\377\\376'\n", ["number"]),
        ("#!/bin/sh\necho why it failed >&2; exit 1\n", ["exit code 1", "why it failed"]),
        ("#!/bin/sh\nkill -9 $$\n", ["signal 9"]),
        ("#!/nowhere/python\n", ["can't be started"]),
        ("no shebang\n", ["'#!'"]),
        ("#!/bin/sh\nhead -c 300000000 /dev/zero | tr '\\0' 'x'\n", ["number"]),
    ],
)
def test_a_generator_that_breaks_its_contract_is_shown_and_nothing_is_submitted(
    site: FakeSite, text: str, words: list[str]
) -> None:
    """F34, F35: one line with its last output; the next run starts clean."""
    flow = make_workflow(site, "w", generator_text=text)
    refused = flow.esis("run")
    assert refused.code == 4, refused.stderr
    for word in words:
        assert word in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert len(refused.stderr) < 20_000
    assert site.submissions() == 0
    assert flow.esis("list").ok().stdout == ""
    assert flow.esis("run").code == 4
    flow.write("gen.py", generator(2))
    flow.esis("run").ok()
    assert flow.esis("list").ok().stdout.count("wrkdir.") == 1


def test_a_generator_that_hangs_is_ended(site: FakeSite) -> None:
    """--script-timeout ends it with its children."""
    flow = make_workflow(site, "w", generator_text="#!/bin/sh\nsleep 300 & echo $! >pid; wait\n")
    refused = flow.esis("run", "--script-timeout", "1")
    assert refused.code == 4
    assert "after 1 s" in refused.stderr
    pid = int((flow.only_run() / "parameters/pid").read_text())
    until(lambda: not Path(f"/proc/{pid}").exists(), 5)


def test_a_failing_setup_script_stops_the_run(site: FakeSite) -> None:
    """F36: its output is shown, nothing is submitted, and the next run builds anew."""
    flow = make_workflow(site, "w", setup="#!/bin/sh\ntouch half; echo no compiler >&2; exit 2\n")
    refused = flow.esis("run")
    assert refused.code == 4
    assert "no compiler" in refused.stderr
    assert site.submissions() == 0


def test_a_setup_script_that_takes_parameter_sets_away_stops_the_run(site: FakeSite) -> None:
    """They are counted before it runs, and again where it has changed their directory, by its time."""
    setup = """#!/bin/bash
rm parameters/parameters.1.json
touch mark
until [ parameters -nt mark ]; do touch parameters/x; rm parameters/x; done
"""
    flow = make_workflow(site, "w", setup=setup)
    refused = flow.esis("run")
    assert (refused.code, "no parameter sets of 1 tasks, 1 the first of them" in refused.stderr) == (4, True)
    assert site.submissions() == 0
    flow.write("setup.sh", setup.partition("\n")[0] + "\nmkdir -p parameters/of\n")
    flow.esis("run").ok()
    assert site.submissions() == 1


def test_f232_a_setup_script_that_puts_cwd_elsewhere_stops_the_run(site: FakeSite) -> None:
    """From there `../worker.sh` and `../__esis__/task.sh` are other files; a link to a neighbour would do no harm."""
    elsewhere = site.home / "scratch"
    (elsewhere / "x").mkdir(parents=True)
    flow = make_workflow(
        site, "w", setup=f"#!/bin/sh\n[ -e $HOME/mended ] || {{ rmdir cwd; ln -s {elsewhere}/x cwd; }}\n"
    )
    env = {"HOME": str(site.home)}
    refused = flow.esis("run", env=env)
    assert (refused.code, "was made a link" in refused.stderr, str(elsewhere) in refused.stderr) == (4, True, True), (
        refused
    )
    assert site.submissions() == 0
    (site.home / "mended").touch()
    assert flow.esis("run", env=env).code == 0
    assert site.submissions() == 1


@pytest.mark.parametrize("name", ["template.sh", "worker.sh"])
def test_f168_a_setup_script_that_takes_template_or_worker_away_stops_the_run(site: FakeSite, name: str) -> None:
    """Such a run could not be finished, and counted as built; the other copies are not needed any more."""
    flow = make_workflow(site, "w", setup=f"#!/bin/sh\n[ -e $HOME/mended ] || rm {name}\nrm gen.py\n")
    env = {"HOME": str(site.home)}
    refused = flow.esis("run", env=env)
    assert (refused.code, f"{name} is not in " in refused.stderr) == (4, True), refused
    assert site.submissions() == 0
    (site.home / "mended").touch()
    flow.esis("run", env=env).ok()
    assert site.submissions() == 1


@pytest.mark.parametrize("script", ["generator", "setup script"])
def test_f212_a_script_that_takes_the_parameters_away_has_broken_its_contract(site: FakeSite, script: str) -> None:
    """It isn't the file system that refused something: mending the script is what helps."""
    removing = "#!/bin/sh\nrm -rf parameters ../parameters\n"
    flow = make_workflow(site, "w")
    flow.write("setup.sh" if script == "setup script" else "gen.py", f"{removing}echo 1\n")
    refused = flow.esis("run")
    assert (refused.code, f"the {'parameter ' * (script == 'generator')}{script} " in refused.stderr) == (4, True)
    assert "/parameters away; let it stay; nothing was submitted" in refused.stderr
    assert site.submissions() == 0


@pytest.mark.parametrize(
    ("setup", "told"),
    [
        ("sed -i 's/^/#/' worker.sh", "wrote to worker.sh, so"),
        (
            "chmod u+w template.sh worker.sh; echo '#' | tee -a template.sh >>worker.sh",
            "wrote to template.sh, worker.sh, so",
        ),
        ("cp worker.sh x; mv x worker.sh", "wrote to worker.sh, so"),
        ("chmod u+w includes/lib/a; echo more >>includes/lib/a", "wrote to includes/lib/a, so"),
        ("rm gen.py; chmod 700 worker.sh; echo made >includes/lib/b", None),
    ],
)
def test_f213_a_setup_script_that_changes_a_copy_is_told_of(site: FakeSite, setup: str, told: str | None) -> None:
    """The run does something else than its hash says; workers of 0.0.4's users may be filled in like this."""
    flow = make_workflow(site, "w", setup=f"#!/bin/sh\n{setup}\n")
    (flow.directory / "lib").mkdir()
    flow.write("lib/a", "a")
    flow.esis("setup", "setup.sh", "gen.py", "template.sh", "worker.sh", "lib").ok()
    shown = flow.esis("run").ok()
    assert site.submissions() == 1
    assert told in shown.stderr if told else " wrote to " not in shown.stderr


def test_f214_what_the_submission_makes_again_is_not_missed(site: FakeSite) -> None:
    shown = make_workflow(site, "w", setup="#!/bin/sh\nrm -r cwd\n").esis("run").ok()
    assert "no directory" not in shown.stderr


def test_parameter_sets_that_are_gone_within_the_second_are_missed(site: FakeSite) -> None:
    """Lustre counts whole seconds; here the scripts set the time of their directory to the same one."""
    same = "touch -d @1000000000"
    generator = f"#!/bin/sh\necho {{}} >parameters.0.json\necho {{}} >parameters.1.json\n{same} .\necho 2\n"
    setup = f"#!/bin/sh\nrm parameters/parameters.1.json\n{same} parameters\n"
    flow = make_workflow(site, "w", setup=setup, generator_text=generator)
    refused = flow.esis("run")
    assert (refused.code, "no parameter sets of 1 tasks, 1 the first of them" in refused.stderr) == (4, True)
    assert site.submissions() == 0


def test_what_the_script_of_an_interrupted_build_left_behind_is_waited_for(site: FakeSite) -> None:
    """The script is gone, and a process of its session, with a group of its own, writes on: into what would be new."""
    setup = "#!/bin/bash\n[ -e $HOME/go ] && exit 0\nset -m; sleep 600 >/dev/null & echo $! >pid; mv pid left; wait\n"
    flow = make_workflow(site, "w", setup=setup)
    env = {"HOME": str(site.home)}
    first = subprocess.Popen(
        [BIN / "esis", "run"], cwd=flow.directory, env=site.slurm.env({**os.environ, **env}), stderr=subprocess.DEVNULL
    )
    until(lambda: any(run.joinpath("left").exists() for run in flow.runs()), 30)
    state = flow.only_run() / "__esis__/state.json"
    until(lambda: json.loads(state.read_text())["pid"] is not None, 10)
    first.kill()
    first.wait()
    script, left = json.loads(state.read_text())["pid"], int((flow.only_run() / "left").read_text())
    os.kill(script, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{script}").exists() or "Z" in Path(f"/proc/{script}/stat").read_text(), 10)
    busy = flow.esis("run", env=env)
    assert (busy.code, f"ps -s {script}" in busy.stderr) == (7, True)
    os.kill(left, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{left}").exists() or "Z" in Path(f"/proc/{left}/stat").read_text(), 10)
    (site.home / "go").touch()
    flow.esis("run", env=env).ok()


def test_an_interrupted_build_is_built_again_from_the_start(site: FakeSite) -> None:
    """SIGKILL during the setup script: no list shows it, a living orphan is respected, then it's built anew."""
    flow = make_workflow(site, "w", setup="#!/bin/sh\n[ -e $HOME/go ] && exit 0\ntouch half; sleep 300\n")
    env = {"HOME": str(site.home)}
    first = subprocess.Popen(
        [BIN / "esis", "run"], cwd=flow.directory, env=site.slurm.env({**os.environ, **env}), stderr=subprocess.DEVNULL
    )
    until(lambda: any(run.joinpath("half").exists() for run in flow.runs()), 30)
    state = flow.only_run() / "__esis__/state.json"
    until(lambda: json.loads(state.read_text())["pid"] is not None, 10)
    first.kill()
    first.wait()
    assert flow.esis("list").ok().stdout == ""
    busy = flow.esis("run", env=env)
    assert busy.code == 7
    pid = json.loads(state.read_text())["pid"]
    assert str(pid) in busy.stderr
    os.killpg(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text(), 10)
    (site.home / "go").touch()
    flow.esis("run", env=env).ok()
    run = flow.only_run()
    assert not (run / "half").exists()
    assert [name for name in os.listdir(flow.directory) if name.startswith(".esis")] == []
    assert site.submissions() == 1


def test_of_two_runs_at_once_one_builds_and_the_other_names_it(site: FakeSite) -> None:
    """The second one exits with 7, naming process, user and host; afterwards there is one submission."""
    flow = make_workflow(site, "w", setup="#!/bin/sh\nwhile ! [ -e $HOME/go ]; do sleep 0.1; done\n")
    env = {"HOME": str(site.home)}
    first = subprocess.Popen([BIN / "esis", "run"], cwd=flow.directory, env=site.slurm.env({**os.environ, **env}))
    until(lambda: any((run / "__esis__/setup.log").exists() for run in flow.runs()), 30)
    second = flow.esis("run", env=env)
    assert second.code == 7
    assert f"process {first.pid} of " in second.stderr
    assert os.uname().nodename in second.stderr
    (site.home / "go").touch()
    assert first.wait(30) == 0
    assert site.submissions() == 1


@pytest.mark.parametrize("round_number", range(5))
def test_eight_at_the_same_instant_submit_once(site: FakeSite, round_number: int) -> None:
    """F28: one submission; the others succeed or say who is at it."""
    flow = make_workflow(site, "w")
    env = site.slurm.env({**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"})
    children = [
        subprocess.Popen(
            [BIN / "esis", "run"],
            cwd=flow.directory,
            env=env,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for _ in range(8)
    ]
    ends = [(child.communicate(timeout=60)[1], child.returncode) for child in children]
    assert {code for _, code in ends} <= {0, 7}, ends
    assert 0 in {code for _, code in ends}
    assert site.submissions() == 1
    flow.esis("run").ok()
    assert site.submissions() == 1
    assert [name for name in os.listdir(flow.directory) if name.startswith(".esis")] == []


def test_a_source_that_changes_while_it_is_copied_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F33: the stored hash is the hash of the stored bytes, always."""
    from esis.errors import EsisError
    from esis.operations.context import Context
    from esis.operations.run import dry_run
    from esis.operations.witness.target import node_of

    site = FakeSite(tmp_path)
    flow = make_workflow(site, "w")
    node = node_of(flow.directory / "wf.esis.json")
    flow.write("worker.sh", "#!/bin/sh\necho edited\n")
    with pytest.raises(EsisError, match="workerscript changed while"):
        dry_run(node, Context())


def test_a_dry_run_leaves_nothing_behind(site: FakeSite, tmp_path: Path) -> None:
    """It shows hash, array and script."""
    flow = make_workflow(site, "w", 4)
    before = sorted(os.listdir(flow.directory))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    shown = flow.esis("run", "--dry-run", "-m", "2", env={"TMPDIR": str(scratch)}).ok().stdout
    assert "array: 0-3%2" in shown
    assert "#SBATCH --array=0-3%2" in shown
    assert sorted(os.listdir(flow.directory)) == before
    assert os.listdir(scratch) == []
    flow.esis("run").ok()
    assert f"hash: {flow.only_run().name[7:]}" in shown


def test_f214_a_dry_run_does_not_send_anybody_to_a_log_that_is_gone(site: FakeSite) -> None:
    flow = make_workflow(site, "w", generator_text="#!/bin/sh\necho none >&2\n")
    for script, words in (("echo none >&2", "printed nothing"), ("echo loud; exit 3", "exit code 3")):
        flow.write("gen.py", f"#!/bin/sh\n{script}\n")
        failed = flow.esis("run", "--dry-run")
        assert (failed.code, words in failed.stderr, "esis-dry-run" in failed.stderr) == (4, True, False)
        assert "generator.log" in flow.esis("run").stderr


def test_generator_and_setup_script_find_the_includes_and_the_users_environment(site: FakeSite) -> None:
    """includes/ is on PYTHONPATH; the user's variables are there; those of an enclosing job aren't."""
    body = (
        "import helper; assert helper.answer == 42; assert os.environ['MINE'] == 'yes'\n"
        "assert 'SLURM_ARRAY_TASK_ID' not in os.environ and os.environ['SLURM_CONF'] == '/etc/x'"
    )
    flow = make_workflow(site, "w", generator_text=generator(2, body))
    flow.write("helper.py", "answer = 42\n")
    flow.esis("setup", "setup.sh", "gen.py", "template.sh", "worker.sh", "helper.py").ok()
    env = {"MINE": "yes", "SLURM_ARRAY_TASK_ID": "5", "SLURM_CONF": "/etc/x", "PYTHONPATH": "/elsewhere"}
    flow.esis("run", env=env).ok()


def test_what_becomes_of_an_include_while_its_run_is_built_is_no_matter(site: FakeSite) -> None:
    """It was copied: the copy is made read-only, and what the setup script adds to it isn't; no build is lost."""
    setup = "#!/bin/sh\nmv ../lib ../moved; echo more >includes/lib/more; rm includes/lib/gone\n"
    flow = make_workflow(site, "w", setup=setup)
    (flow.directory / "lib").mkdir()
    for name in ("kept", "gone"):
        flow.write(f"lib/{name}", name)
    flow.esis("setup", "setup.sh", "gen.py", "template.sh", "worker.sh", "lib").ok()
    flow.esis("run").ok()
    copy = flow.only_run() / "includes/lib"
    assert {path.name: bool(path.stat().st_mode & 0o222) for path in copy.iterdir()} == {"kept": False, "more": True}


def test_runs_inside_of_an_include_are_refused(site: FakeSite) -> None:
    """Each would be a part of the next, and this one's own directory changes what is being copied."""
    flow = make_workflow(site, "w")
    (flow.directory / "lib").mkdir()
    flow.write("lib/tool.sh", "true\n")
    for place in ("lib", "lib/runs"):
        flow.esis("setup", "--workdir-path", place, "setup.sh", "gen.py", "template.sh", "worker.sh", "lib").ok()
        refused = flow.esis("run")
        assert (refused.code, "inside of the include lib" in refused.stderr) == (2, True)
        assert os.listdir(flow.directory / "lib") == ["tool.sh"]
    flow.esis("setup", "--workdir-path", "library", "setup.sh", "gen.py", "template.sh", "worker.sh", "lib").ok()
    flow.esis("run").ok()


def test_a_link_in_the_place_of_a_run_is_named_and_kept(site: FakeSite) -> None:
    """Somebody moved the run to a larger disk: nobody is told to remove it; by its own path it goes on."""
    flow = make_workflow(site, "w", worker="#!/bin/sh\nexit 3\n")
    assert flow.esis("run", "--local").code == 8
    run, moved = flow.only_run(), site.home / "large" / flow.only_run().name
    moved.parent.mkdir()
    run.rename(moved)
    run.symlink_to(moved)
    told = flow.esis("run")
    assert (told.code, f"is a link to {moved}" in told.stderr, "remove" in told.stderr) == (1, True, False)
    assert "failed\t3" in flow.esis("status").ok().stdout
    assert flow.esis("resubmit", "--local", str(moved)).code == 8


def test_the_umask_is_honoured(site: FakeSite) -> None:
    """F42: with 077 nobody else can read a run; the group bit of the parent directory is inherited."""
    flow = make_workflow(site, "w")
    flow.directory.chmod(0o2755)
    site.run(["sh", "-c", "umask 077; exec esis run"], flow.directory).ok()
    run = flow.only_run()
    assert [path for path in run.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o077] == []
    assert (run / "__esis__/tasks").stat().st_mode & 0o2000


def test_a_directory_where_everybody_may_exchange_files_is_refused(site: FakeSite) -> None:
    """F43: world-writable and not sticky."""
    flow = make_workflow(site, "w")
    flow.directory.chmod(0o777)
    refused = flow.esis("run")
    assert refused.code == 1
    assert "chmod o-w" in refused.stderr
    assert flow.runs() == []


def test_a_run_of_another_user_is_left_alone(site: FakeSite) -> None:
    """F31, F32: the owner is named, nothing is deleted."""
    if os.getuid() != 0:
        pytest.skip("only root can give a directory away")
    flow = make_workflow(site, "w")
    flow.esis("run").ok()
    run = flow.only_run()
    before = sorted(path.name for path in run.rglob("*"))
    os.chown(run, 65534, 65534)
    refused = flow.esis("run")
    assert refused.code == 7
    assert "nobody" in refused.stderr
    assert sorted(path.name for path in run.rglob("*")) == before


def test_what_dead_builds_left_is_swept(site: FakeSite) -> None:
    """A killed build's staging directory goes away with the next run; another host's stays."""
    from esis.locks import Owner

    flow = make_workflow(site, "w")
    dead = subprocess.Popen(["true"])
    dead.wait()
    here = Owner.current()
    gone = Owner(here.host, here.boot, dead.pid, 1, here.user, "00000000")
    far = Owner("elsewhere", "0/1", 1, 1, here.user, "00000000")
    for owner in (gone, far):
        (flow.directory / f".esis-build-0123456789ab-{owner.text()}").mkdir()
    flow.esis("run").ok()
    left = [name for name in os.listdir(flow.directory) if name.startswith(".esis")]
    assert left == [f".esis-build-0123456789ab-{far.text()}"]
    shutil.rmtree(flow.directory / left[0])


def test_changing_only_the_limit_is_said(site: FakeSite) -> None:
    """F44: the limit isn't part of the hash; the queued array keeps its own, and the user hears so."""
    flow = make_workflow(site, "w")
    flow.esis("run").ok()
    again = flow.esis("run", "-m", "2").ok()
    assert "keeps its limit of 10" in again.stderr


def test_time_of_the_first_submission_is_kept(site: FakeSite) -> None:
    """wf_starttime holds local time as 0.0.4 wrote it, to the second."""
    flow = make_workflow(site, "w")
    flow.esis("run").ok()
    written = time.strptime((flow.only_run() / "__esis__/wf_starttime").read_text(), "%d.%m.%Y-%H:%M:%S")
    assert abs(time.mktime(written) - time.time()) < 60
