"""`esis export` and `esis plot` as a user types them."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from pyarrow import parquet

from tests.contract.site import BIN, WORKER, FakeSite, Site, make_workflow
from tests.operations.made import make_run

EXPORTING = (
    WORKER
    + """
[ "$SLURM_ARRAY_TASK_ID" = 1 ] && exit 3
n=$SLURM_ARRAY_TASK_ID
echo "{\\"energy\\": -1.$n, \\"fit\\": {\\"ok\\": true}}" >"../results/results.$n.json"
"""
)


def esis(*arguments: str, cwd: Path, **options: object) -> subprocess.CompletedProcess[str]:
    done: subprocess.CompletedProcess[str] = subprocess.run(  # type: ignore[call-overload]
        [BIN / "esis", *arguments], cwd=cwd, **{"capture_output": True, "text": True, "timeout": 120, **options}
    )
    return done


def test_a_run_becomes_a_table(site: Site) -> None:
    """Parameters, states and hosts of a real run; what has no results is told on stderr, or refused."""
    flow = make_workflow(site, "exported", 4, worker=EXPORTING)
    flow.esis("run").ok()
    site.settle()
    shown = flow.esis("export").ok()
    rows = list(csv.DictReader(io.StringIO(shown.stdout)))
    assert list(rows[0]) == ["task", "n", "square", "state", "attempts", "elapsed", "host", "energy", "fit.ok"]
    assert [row["state"] for row in rows] == ["done", "failed", "done", "done"]
    assert [row["energy"] for row in rows] == ["-1.0", "", "-1.2", "-1.3"]
    assert [row["square"] for row in rows] == ["0", "1", "4", "9"]
    assert all(row["host"] and row["attempts"] == "1" for row in rows)
    assert "no results of tasks 1" in shown.stderr
    refused = flow.esis("export", "--strict", "-o", "table.csv")
    assert (refused.code, refused.stdout) == (10, "")
    assert "no results of 1 task: 1" in refused.stderr
    assert not (flow.directory / "table.csv").exists()
    flow.esis("export", "--strict", "--state", "done", "--columns", "n,energy", "-o", "table.jsonl").ok()
    lines = [json.loads(line) for line in (flow.directory / "table.jsonl").read_text().splitlines()]
    assert lines == [{"n": 0, "energy": -1.0}, {"n": 2, "energy": -1.2}, {"n": 3, "energy": -1.3}]
    shown = flow.esis("export", "--where", "n > 1 and energy < -1.25", "--long", "--columns", "energy").ok()
    assert shown.stdout == "task,name,value\n3,energy,-1.3\n"


def test_an_export_needs_no_slurm_for_data_alone(tmp_path: Path) -> None:
    """And says with the exit code of `esis status` where the states are not known."""
    run = make_run(tmp_path, [{"n": n} for n in range(3)], {0: {"e": 1}}, complete=False)
    record = run.submission(1)
    record.write_text(record.read_text().replace('"local"', '"slurm"'))
    next(run.tasks.glob("1.*")).unlink()
    nothing = {**os.environ, "PATH": str(tmp_path)}
    done = esis("export", run.path.name, "--columns", "n,e", cwd=tmp_path, env=nothing)
    assert (done.returncode, done.stdout) == (0, "n,e\n0,1\n1,\n2,\n")
    unanswered = esis("export", run.path.name, cwd=tmp_path, env=nothing)
    assert unanswered.returncode == 6
    assert "the queue could not be asked" in unanswered.stderr
    states = [row["state"] for row in csv.DictReader(io.StringIO(unanswered.stdout))]
    assert states == ["done", "unknown", "done"]


def test_f313_what_a_task_has_not_written_to_its_end_is_no_result_so_far(tmp_path: Path) -> None:
    """F313: export of a scan that runs; it was advised to remove the file that the task was writing."""
    site = FakeSite(tmp_path)
    site.slurm.set(auto=False)
    flow = make_workflow(site, "half", 3)
    flow.esis("run").ok()
    half = flow.only_run() / "results" / "results.1.json"
    half.write_text('{"energy": ')
    shown = flow.esis("export", "--columns", "task,state").ok()
    assert shown.stdout.splitlines() == ["task,state", "0,waiting", "1,waiting", "2,waiting"]
    site.slurm.run()
    half.write_text('{"energy": ')
    refused = flow.esis("export")
    assert (refused.code, "esis resubmit --tasks 1 (done: with --state done)" in refused.stderr) == (1, True), refused
    assert "remove" not in refused.stderr


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    """An error leaves what was there; what a link points to is replaced, not the link; a device is written to."""
    run = make_run(tmp_path, [{"n": 1}, {"n": 2}], {0: {"e": 1}, 1: {"e": 2}})
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    run.result_file(1).write_text("half")
    failed = esis("export", run.path.name, "-o", "link.csv", cwd=tmp_path)
    assert failed.returncode == 1
    assert "results.1.json is no JSON" in failed.stderr
    assert (tmp_path / "real.csv").read_text() == "old"
    run.result_file(1).write_text('{"e": 3}')
    assert esis("export", run.path.name, "--columns", "e", "-o", "link.csv", cwd=tmp_path).returncode == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "e\n1\n3\n"
    assert esis("export", run.path.name, "--format", "csv", "-o", "/dev/null", cwd=tmp_path).returncode == 0
    assert not Path("/dev/null").is_file()
    piped = esis("export", run.path.name, "--columns", "e", "--format", "csv", "-o", "/dev/stdout", cwd=tmp_path)
    assert piped.stdout == "e\n1\n3\n"
    assert sorted(os.listdir(tmp_path)) == ["link.csv", "real.csv", run.path.name]
    assert esis("export", run.path.name, "-o", "no/such/place.csv", cwd=tmp_path).returncode == 1


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_f145_an_open_file_is_written_to_and_not_replaced(name: str, tmp_path: Path) -> None:
    """F145: /dev/stdout behind `>>` leads to a file that has a name; what stands in it stays."""
    run = make_run(tmp_path, [{"n": 1}], {0: {"e": 1}})
    (tmp_path / "link").symlink_to("/dev/stdout")
    table = tmp_path / "table.csv"
    table.write_text("before\n")
    with table.open("a") as stream:
        done = esis(
            "export",
            run.path.name,
            "--format",
            "csv",
            "--columns",
            "e",
            "-o",
            name,
            cwd=tmp_path,
            capture_output=False,
            stdout=stream,
        )
    assert done.returncode == 0
    assert table.read_text() == "before\ne\n1\n"


def test_f145_a_descriptor_that_is_not_open_is_named(tmp_path: Path) -> None:
    """F145: no traceback, and no file of that name."""
    run = make_run(tmp_path, [{"n": 1}], {0: {"e": 1}})
    done = esis("export", run.path.name, "--format", "csv", "-o", "/dev/fd/77", cwd=tmp_path)
    assert done.returncode == 1
    assert "/dev/fd/77" in done.stderr


def test_f145_an_open_file_that_does_not_block_gets_all_of_the_table(tmp_path: Path) -> None:
    """F145: it is that of whoever started esis, with the flags that he gave it."""
    run = make_run(tmp_path, [{"n": 1}, {"n": 2}], {0: {"e": "x" * 100_000}, 1: {"e": "y" * 100_000}})
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    command = [str(BIN / "esis"), "export", run.path.name, "--format", "csv", "--columns", "e", "-o", "/dev/stdout"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=writing) as started, os.fdopen(reading) as stream:
        os.close(writing)
        with pytest.raises(subprocess.TimeoutExpired):
            started.wait(2)
        assert stream.read() == f"e\n{'x' * 100_000}\n{'y' * 100_000}\n"
    assert started.returncode == 0


def test_f145_an_open_file_that_is_full_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path, [{"n": 1}], {0: {"e": 1}})
    with open("/dev/full", "wb") as full:
        given = {"capture_output": False, "stdout": full, "stderr": subprocess.PIPE}
        done = esis("export", run.path.name, "--format", "csv", "-o", "/dev/fd/1", cwd=tmp_path, **given)
    assert (done.returncode, "/dev/fd/1" in done.stderr, "ENOSPC" in done.stderr) == (1, True, True)


# Signals the process at the moment when it is about to give the file its name.
SIGNALLING = """
import os, sys
sys.addaudithook(lambda event, _: os.kill(os.getpid(), int(os.environ["TEST_SIGNAL"])) if event == "os.rename" else 0)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_export_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    run = make_run(tmp_path / "place", [{"n": 1}], {}, records=False)
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(SIGNALLING)
    done = esis(
        "export",
        run.path.name,
        "--columns",
        "n",
        "-o",
        "table.csv",
        cwd=tmp_path / "place",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "hook"), "TEST_SIGNAL": str(int(number))},
    )
    assert (done.returncode, done.stderr.strip()) == (130, "esis: interrupted")
    assert os.listdir(tmp_path / "place") == [run.path.name]


def test_parquet_is_written_to_files_and_pipes_only(tmp_path: Path) -> None:
    run = make_run(tmp_path, [{"n": n, "name": str(n)} for n in range(3)], {})
    done = esis("export", run.path.name, "--format", "parquet", "--columns", "n,name", cwd=tmp_path, text=False)
    content: object = done.stdout  # bytes, for text=False
    assert isinstance(content, bytes)
    assert parquet.read_table(io.BytesIO(content)).to_pylist() == [{"n": n, "name": str(n)} for n in range(3)]
    assert esis("export", run.path.name, "-o", "t.parquet", cwd=tmp_path).returncode == 0
    assert parquet.read_table(tmp_path / "t.parquet").num_rows == 3
    ours, theirs = pty.openpty()
    refused = esis(
        "export",
        run.path.name,
        "--format",
        "parquet",
        cwd=tmp_path,
        capture_output=False,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(ours)
    os.close(theirs)
    assert refused.returncode == 2
    assert "nothing to look at on a terminal" in refused.stderr


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("pyarrow", ["export", "-o", "t.parquet"], "esis-slurm[parquet]"),
        ("matplotlib", ["plot", "-x", "n", "-y", "e", "-o", "t.png"], "esis-slurm[plot]"),
        ("plotext", ["plot", "-x", "n", "-y", "e"], "esis-slurm[plot]"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    tmp_path: Path, missing: str, arguments: list[str], extra: str
) -> None:
    run = make_run(tmp_path / "place", [{"n": 1}], {0: {"e": 1}})
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / f"{missing}.py").write_text("raise ImportError('not here')\n")
    done = esis(
        *arguments[:1],
        run.path.name,
        *arguments[1:],
        cwd=tmp_path / "place",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "shadow")},
    )
    assert done.returncode == 2, done.stderr
    assert f"pip install '{extra}'" in done.stderr
    assert os.listdir(tmp_path / "place") == [run.path.name]


def test_a_bar_is_shown_on_a_terminal_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path, [{"n": n} for n in range(6000)], {}, lines=True, records=False)
    ours, theirs = pty.openpty()
    done = esis(
        "export",
        run.path.name,
        "--columns",
        "n",
        cwd=tmp_path,
        capture_output=False,
        stderr=theirs,
        stdout=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    )
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert len(done.stdout.splitlines()) == 6001
    assert "reading" in shown
    assert "%" in shown
    piped = esis("export", run.path.name, "--columns", "n", cwd=tmp_path)
    assert piped.stderr == f"esis: {run.label}: no results of tasks 0-5999\n"


def test_a_plot_in_a_file_and_in_a_pipe(tmp_path: Path) -> None:
    run = make_run(tmp_path, [{"T": n, "L": n % 2} for n in range(10)], {n: {"e": n * n, "d": 5} for n in range(9)})
    wanted = ["plot", run.path.name, "-x", "T", "-y", "e", "--yerr", "d", "--by", "L"]
    shown = esis(*wanted, cwd=tmp_path)
    assert shown.returncode == 0
    assert "left out 1 of 10 tasks" in shown.stderr
    assert "oo L = 0" in shown.stdout
    assert "\x1b" not in shown.stdout
    for name in ("a.png", "b.png", "a.svg", "a.pdf"):
        done = esis(*wanted, "-o", name, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.pdf", "a.png", "a.svg", "b.png", run.path.name]
    assert "tells no format" in esis(*wanted, "-o", "a.gif", cwd=tmp_path).stderr
    assert "no column 'x'" in esis("plot", run.path.name, "-x", "x", "-y", "e", cwd=tmp_path).stderr
    assert "--where 'e>0'" in esis(*wanted, "--logy", cwd=tmp_path).stderr
    assert esis(*wanted, "--logy", "--where", "e>0", "-o", "log.png", cwd=tmp_path).returncode == 0


def test_required_parameters_are_joined(tmp_path: Path) -> None:
    """Through the whole way of two workflows, on the fake alone: no more of Slurm's matters here."""
    site = FakeSite(tmp_path)
    with site.slurm:
        first = make_workflow(site, "first", 3)
        second = make_workflow(site, "second", 3)
        second.esis("require", "../first/wf.esis.json", "base").ok()
        second.esis("dependency").ok()
        site.settle()
        shown = second.esis("export", "--requirements", "square", "--columns", "n,base.n,base.square").ok()
        assert shown.stdout == "n,base.n,base.square\n0,0,0\n1,1,1\n2,2,4\n"
        assert first.esis("export", "--requirements", "n").code == 2


def test_a_full_disk_is_told_with_the_file(tmp_path: Path) -> None:
    """The table's, and the place of what is kept meanwhile; write(2) names nothing by itself."""
    run = make_run(tmp_path, [{"n": "x" * 100_000}], {}, records=False)
    for output in ("/dev/full", "table.csv"):
        limit = "" if output == "/dev/full" else "trap '' XFSZ; ulimit -f 8; "
        done = subprocess.run(
            [
                "bash",
                "-c",
                f'{limit}"$0" export {run.path.name} --columns n --format csv -o {output}',
                str(BIN / "esis"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        told = "/dev/full" if output == "/dev/full" else tempfile.gettempdir()
        assert f"{told}: " in done.stderr, done.stderr
    assert os.listdir(tmp_path) == [run.path.name]
