"""The examples of `esis doc languages`, run as they stand: results and a checkpoint in sh and in C."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import textwrap
import time
from pathlib import Path

import pytest

import esis
from esis.model.workdir import RunDir

PAGE = Path(esis.__file__).parent / "docs" / "languages.md"


def example(heading: str) -> str:
    """Return the one code block of a section."""
    section = PAGE.read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"(?:^(?:    .*)?\n)+(?=\Z|^\S)|(?:^    .*\n(?:^\n(?=    ))?)+", section, re.MULTILINE)[-1:]
    return textwrap.dedent(block).strip("\n") + "\n"


def build(language: str, directory: Path, *options: str) -> Path:
    """Make the example's program."""
    worker = directory / f"worker-{language}"
    if language == "sh":
        worker.write_text(example("sh"))
        worker.chmod(0o755)
        return worker
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler here")
    source = directory / "worker.c"
    source.write_text(example("C"))
    subprocess.run(
        [
            compiler,
            "-O1",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-format-truncation",
            *options,
            "-o",
            str(worker),
            str(source),
        ],
        check=True,
    )
    return worker


def start(worker: Path, run: RunDir) -> subprocess.Popen[bytes]:
    return subprocess.Popen([str(worker)], cwd=run.cwd, env={"PATH": os.environ["PATH"], "SLURM_ARRAY_TASK_ID": "7"})


def latest_state(run: RunDir) -> tuple[int, int]:
    """Read the checkpoint as a worker in Python would."""
    found = esis.task(7, run.path).checkpoints().latest
    if found is None:
        return (0, 0)
    count, total = map(int, (found / "state").read_text().split())
    return count, total


@pytest.mark.parametrize("language", ["sh", "C"])
def test_it_exports_a_result_and_leaves_a_checkpoint(run: RunDir, tmp_path: Path, language: str) -> None:
    run.parameter_file(7).write_text('{"limit": 12}')
    worker = build(language, tmp_path)
    assert start(worker, run).wait(60) == 0
    assert json.loads(run.result_file(7).read_text()) == {"count": 12, "sum": 78}
    assert latest_state(run) == (12, 78)
    assert start(worker, run).wait(60) == 0
    assert json.loads(run.result_file(7).read_text()) == {"count": 12, "sum": 78}
    assert [path.name for path in run.results.iterdir()] == ["results.7.json"]


@pytest.mark.parametrize("language", ["sh", "C"])
def test_killed_at_any_moment_it_goes_on_from_a_whole_checkpoint(run: RunDir, tmp_path: Path, language: str) -> None:
    """Eight kills a few milliseconds apart; after each the latest checkpoint holds a count and its own sum."""
    run.parameter_file(7).write_text('{"limit": 1000000}')
    worker = build(language, tmp_path)
    reached = number = 0
    for kill in range(8):
        child = start(worker, run)
        deadline = time.monotonic() + 30
        while max((item.number for item in esis.task(7, run.path).checkpoints().all()), default=0) <= number:
            assert time.monotonic() < deadline
        time.sleep(0.003 * kill)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        count, total = latest_state(run)
        assert total == count * (count + 1) // 2
        assert count > reached
        reached = count
        number = max(item.number for item in esis.task(7, run.path).checkpoints().all())
    run.parameter_file(7).write_text(f'{{"limit": {reached + 3}}}')
    assert start(worker, run).wait(60) == 0
    last = reached + 3
    assert json.loads(run.result_file(7).read_text()) == {"count": last, "sum": last * (last + 1) // 2}


def test_the_example_of_workers_has_the_same_result_interrupted_or_not(run: RunDir, tmp_path: Path) -> None:
    """The loop of `esis doc workers`, stopped by SIGTERM again and again."""
    text = (PAGE.parent / "workers.md").read_text("utf-8").partition("\n## Saving and stopping\n")[2]
    loop = textwrap.dedent(re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)[0])
    script = tmp_path / "worker.py"
    slow = loop.replace("step += 1\n", "step += 1\n        time.sleep(0.0005)\n")
    assert slow != loop
    script.write_text(f"import random, time\nimport esis\ntask = esis.task()\n{slow}")
    import sys

    means, stops = [], 0
    for interrupt in (False, True):
        shutil.rmtree(run.checkpoints)
        run.checkpoints.mkdir()
        while True:
            child = subprocess.Popen(
                [sys.executable, str(script)],
                cwd=run.cwd,
                env={
                    "PATH": os.environ["PATH"],
                    "SLURM_ARRAY_TASK_ID": "7",
                    "PYTHONPATH": str(Path(esis.__file__).parents[1]),
                },
            )
            before = esis.task(7, run.path).checkpoints().latest
            known = before.number if before is not None else 0
            deadline = time.monotonic() + 60
            while interrupt and child.poll() is None:
                now = esis.task(7, run.path).checkpoints().latest
                if now is not None and now.number > known:
                    child.send_signal(signal.SIGTERM)
                    break
                assert time.monotonic() < deadline
            code = child.wait(60)
            assert code in (0, 75, -signal.SIGTERM)  # the last: behind its block, while it exports
            if code == 0:
                break
            stops += 1
        means.append(json.loads(run.result_file(7).read_text())["mean"])
    assert means[0] == means[1]
    assert stops >= 2
