"""Jobs of a run, started as slurmd does it: a spooled script, Slurm's variables, every POSIX shell."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path

import pytest

from esis.model.template import Pack, Values, render
from esis.model.workdir import RunDir
from esis.records.tasks import TaskRecord, TaskRecords

SHELLS = {
    name: path for name in ("bash", "dash", "ksh", "zsh", "mksh", "busybox") if (path := shutil.which(name)) is not None
}
every_shell = pytest.mark.parametrize(
    "shell",
    [
        pytest.param(name, marks=[] if name in SHELLS else pytest.mark.skip(reason=f"no {name} here"))
        for name in ("bash", "dash", "ksh", "zsh", "mksh", "busybox")
    ],
)

# One of each family, for what has many cases and is nothing that shells differ in.
some_shells = pytest.mark.parametrize("shell", [name for name in ("bash", "dash", "zsh") if name in SHELLS])


def read_records(directory: Path) -> list[TaskRecord]:
    """Return all records, older attempts too."""
    return [record for record in map(TaskRecord.parse, os.listdir(directory)) if record is not None]


def latest(found: Iterable[TaskRecord]) -> Mapping[int, TaskRecord]:
    """Return what counts of these records."""
    return TaskRecords(record.name for record in found)


BLOCK = ": >ready; while [ ! -e go ]; do sleep 0.01; done"


def shebang(shell: str) -> str:
    return f"#!{SHELLS[shell]}" + (" sh" if shell == "busybox" else "")


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


def make_run(directory: Path, digest: str = "ab" * 32) -> RunDir:
    """Make a run's directory as `esis run` does, as far as a job needs it; its path has hostile characters."""
    parent = directory / 'it\'s "a" $HOME `dir`'
    parent.mkdir(exist_ok=True)
    run = RunDir.of(parent, digest)
    for path in (run.path, *run.directories()):
        path.mkdir()
    run.task_hook.write_text(resources.files("esis.records").joinpath("task.sh").read_text("utf-8"))
    run.completed.write_text("0")
    return run


class Job:
    """A job of a run: its script, spooled as slurmd does it, and the variables that Slurm sets."""

    def __init__(
        self,
        run: RunDir,
        body: str,
        shell: str = "bash",
        number: int = 1,
        first: str | None = None,
        offset: int = 0,
        pack: Pack | None = None,
        arrays: int = 1,
        mapped: Sequence[int] | None = None,
        required: int = 0,
    ) -> None:
        text = f"{first or shebang(shell)}\n#SBATCH --array=TASKARRAYDEFINITION\n{body}\n"
        values = Values(
            "0-9",
            "w",
            number,
            digest=run.digest,
            offset=offset,
            pack=pack,
            arrays=arrays,
            mapped=mapped,
            required=required,
        )
        run.script.write_text(render(text, "t.sh", values).text)
        if mapped is not None:
            run.map(number).write_text("".join(f"{task}\n" for task in mapped))
        self.run_dir = run
        self.spool = run.path.parent / f"slurm_script {time.monotonic_ns()}"
        shutil.copy(run.script, self.spool)
        self.spool.chmod(0o755)

    def environment(
        self, task: int | None = 3, job: int = 77, restart: int = 0, fenced: str | None = None, **more: str
    ) -> dict[str, str]:
        env = {
            "PATH": os.environ["PATH"],
            "SLURM_JOB_ID": str(job + 1),
            "SLURM_SUBMIT_DIR": str(self.run_dir.cwd),
            "SLURM_ARRAY_JOB_ID": str(job),
            "SLURM_ARRAY_TASK_COUNT": "10",
            "ESIS_REQUIREMENT_WAIT": "0",
            **more,
        }
        if task is not None:
            env["SLURM_ARRAY_TASK_ID"] = str(task)
        if restart:
            env["SLURM_RESTART_COUNT"] = str(restart)
        if fenced is not None:
            env["SLURM_ESIS_SUBMISSION"] = fenced
        return env

    @contextmanager
    def start(self, env: Mapping[str, str], cwd: Path | None = None) -> Iterator[subprocess.Popen[str]]:
        """Start it in a session of its own; nothing of it outlives the block."""
        with subprocess.Popen(
            [str(self.spool)],
            cwd=cwd or self.run_dir.cwd,
            env=dict(env),
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as child:
            try:
                yield child
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)

    def run(
        self,
        task: int | None = 3,
        job: int = 77,
        restart: int = 0,
        fenced: str | None = None,
        cwd: Path | None = None,
        variables: Mapping[str, str] | None = None,
        **more: str,
    ) -> tuple[int, str, str]:
        """Run it to its end; return exit code and both outputs."""
        with self.start({**self.environment(task, job, restart, fenced, **more), **(variables or {})}, cwd) as child:
            out, err = child.communicate(timeout=60)
        return child.returncode, out, err

    def interrupted(self, *numbers: int, group: bool = False) -> int:
        """Start it, send signals once its foreground child runs, let the child end with 0; return the exit code."""
        ready, go = self.run_dir.cwd / "ready", self.run_dir.cwd / "go"
        with self.start(self.environment()) as child:
            wait_for(ready.exists)
            for number in numbers:
                (os.killpg if group else os.kill)(child.pid, number)
            go.touch()
            child.communicate(timeout=60)
        return child.returncode


def states(run: RunDir) -> list[tuple[int, str, str, int, int | None]]:
    """Return task, submission, job, restart and exit code of all records, and assert that nothing else is there."""
    found = read_records(run.tasks)
    assert len(found) == len(os.listdir(run.tasks)), os.listdir(run.tasks)
    return sorted((item.task, f"{item.submission:04d}", item.job, item.restart, item.code) for item in found)
