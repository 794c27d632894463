"""Make scans of any size on the fake Slurm, and tell what a command spends of its own in them.

The programs of the fake Slurm and the user's scripts are started through a few lines of bash that note when they began
and ended; what is left of a command's time is its own. Everything is in a memory file system, so that no disk is
measured.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from esis.model.workdir import RunDir
from esis.records.tasks import TaskRecord
from tests.fakes import PROGRAMS, FakeSlurm

MIB = 1024 * 1024
ENVIRONMENT = Path(sys.executable).parent.parent  # whose esis is used unless another one is named
TASK_SECONDS = 60  # between start and end of each task
# Bash 5 knows the time to the microsecond without starting a program.
TIMED = """#!/bin/bash
began=$EPOCHREALTIME
{command} "$@"
code=$?
echo "{name} $began $EPOCHREALTIME" >>{log}
exit $code
"""
GENERATORS = {
    "files": """\
import json, random, sys
draw = random.Random(1).random
for task in range(int(sys.argv[1])):
    with open(f"parameters.{task}.json", "w") as stream:
        json.dump({"seed": task, "temperature": draw(), "model": "ising"}, stream)
print(sys.argv[1])
""",
    "lines": """\
import json, random, sys
draw = random.Random(1).random
with open("parameters.jsonl", "w") as stream:
    for task in range(int(sys.argv[1])):
        stream.write(json.dumps({"seed": task, "temperature": draw(), "model": "ising"}) + "\\n")
print(sys.argv[1])
""",
}
TEMPLATE = "#!/bin/bash\n#SBATCH --array=TASKARRAYDEFINITION\n#SBATCH --time=5\n#ESIS_PRIVATE\nset -e\nWORKERSCRIPT\n"
# Kept at the end: the largest memory of this process alone, which neither wait4 nor getrusage tells.
WATCHED = """\
import os
end = os._exit
def tell(code):
    with open("/proc/self/status") as status, open(os.environ["BENCH_MEMORY"], "w") as stream:
        stream.write(next(line.split()[1] for line in status if line.startswith("VmHWM:")))
    end(code)
os._exit = tell
from esis.__main__ import start
start()
"""


@dataclass(frozen=True)
class Spent:
    """What one command took."""

    seconds: float
    elsewhere: Mapping[str, float]  # seconds in each program of Slurm's and script of the user's
    calls: Mapping[str, int]  # how often it called them
    memory: int  # bytes, of the command alone; 0 where nobody looked
    out: str

    @property
    def own(self) -> float:
        """Return the seconds that were nobody else's."""
        return self.seconds - sum(self.elsewhere.values())

    def slurm_calls(self, *programs: str) -> int:
        """Return how often programs of Slurm's were called; none named: all."""
        return sum(count for name, count in self.calls.items() if name in (programs or PROGRAMS))


@dataclass(frozen=True)
class Scan:
    """A workflow with so many tasks, in a directory of its own, on a cluster of its own."""

    place: Path
    tasks: int
    slurm: FakeSlurm
    environment: Mapping[str, str]
    home: Path  # of the environment whose esis is used

    @property
    def python(self) -> str:
        """Return the interpreter of that environment."""
        return str(self.home / "bin/python")

    @property
    def run(self) -> RunDir:
        """Return the one run that is there."""
        (path,) = self.place.glob("wrkdir.*")
        return RunDir(path)

    def esis(self, *arguments: str, watched: bool = False, code: int = 0) -> Spent:
        """Run a command, which has to end with `code`; `watched`: find out how much memory it takes."""
        argv = [self.python, "-c", WATCHED, *arguments] if watched else self.argv(*arguments)
        spent = self._spend(argv, self.place, code)
        memory = int((self.place.parent / "memory").read_text()) * 1024 if watched else 0
        return replace(spent, memory=memory)

    def script(self, python: str, text: str, *arguments: str) -> Spent:
        """Run a program of somebody else's in an empty directory on the same cluster."""
        with tempfile.TemporaryDirectory(dir=self.place.parent) as empty:
            return self._spend([python, "-c", text, *arguments], Path(empty), 0)

    def _spend(self, argv: Sequence[str], cwd: Path, code: int) -> Spent:
        log, memory = self.place.parent / "times", self.place.parent / "memory"
        log.unlink(missing_ok=True)
        began = time.perf_counter()
        done = subprocess.run(
            argv,
            cwd=cwd,
            env={**self.environment, "BENCH_MEMORY": str(memory)},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - began
        assert done.returncode == code, f"{argv[0]} {argv[-1]}: {done.returncode}\n{done.stdout}{done.stderr}"
        calls: Counter[str] = Counter()
        elsewhere: dict[str, float] = {}
        for line in log.read_text().splitlines() if log.exists() else ():
            name, start, end = line.split()
            calls[name] += 1
            elsewhere[name] = elsewhere.get(name, 0.0) + float(end) - float(start)
        return Spent(seconds, elsewhere, calls, 0, done.stdout)

    def argv(self, *arguments: str) -> list[str]:
        """Return the words of a command, for those who start it themselves."""
        return [str(self.home / "bin/esis"), *arguments]

    def python_seconds(self, *arguments: str, python: str | None = None) -> float:
        """Return how long Python takes for a program; by default for none."""
        began = time.perf_counter()
        subprocess.run(
            [python or self.python, *(arguments or ("-c", "pass"))],
            cwd=self.place,
            env=dict(self.environment),
            check=True,
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        return time.perf_counter() - began

    def forget(self) -> None:
        """Remove the run and the jobs."""
        for path in self.place.glob("wrkdir.*"):
            shutil.rmtree(path)
        self.forget_jobs()

    def forget_jobs(self) -> None:
        """Let the cluster know of no job any more."""
        with self.slurm.store.transaction() as cluster:
            cluster.jobs.clear()

    def inodes(self) -> int:
        """Count the files and directories of the run, itself included."""
        return 1 + sum(len(names) + len(files) for _, names, files in os.walk(self.run.path))


@contextmanager
def scan(
    tasks: int, form: str = "lines", home: Path = ENVIRONMENT, max_array_size: int = 10**8, accounting: bool = False
) -> Iterator[Scan]:
    """Make a workflow whose generator writes its parameters as `files` or `lines`; nothing is run."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="esis-bench-", dir=memory if memory.is_dir() else None) as scratch:
        place, programs = Path(scratch, "scan"), Path(scratch, "bin")
        place.mkdir()
        programs.mkdir()
        log = Path(scratch, "times")
        with FakeSlurm(
            Path(scratch, "slurm"),
            auto=False,
            max_array_size=max_array_size,
            max_job_count=10**9,
            accounting=accounting,
        ) as slurm:
            fakes = slurm.env({})["PATH"].split(os.pathsep)[0]
            for name in PROGRAMS:
                _write(programs / name, TIMED.format(command=f"{fakes}/{name}", name=name, log=log))
            generator = Path(scratch, "generator.py")
            generator.write_text(GENERATORS[form])
            files = {
                "setup.sh": TIMED.format(command=":", name="setup", log=log),
                "generator.sh": TIMED.format(
                    command=f"{sys.executable} -S {generator} {tasks}", name="generator", log=log
                ),
                "template.sh": TEMPLATE,
                "worker.sh": "#!/bin/sh\ntrue\n",
            }
            for name, text in files.items():
                _write(place / name, text)
            path = os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)])
            environment = {**slurm.env(), "PATH": path, "XDG_CACHE_HOME": str(Path(scratch, "cache"))}
            made = Scan(place, tasks, slurm, environment, home)
            made.esis("setup", *files)
            yield made


def write_records(run: RunDir, job: str, ends: Iterable[tuple[int, int | None]]) -> None:
    """Write the records that the tasks of `job` would leave: of each the exit code; None: it still runs."""
    now = int(time.time())
    content = (
        json.dumps(
            {
                "host": "n1",
                "pid": 4711,
                "job": job,
                "partition": "debug",
                "nodes": "n1",
                "cpus": 1,
                "kernel": "6.1",
                "modules": "",
            }
        )
        + "\n"
    )
    for task, code in ends:
        record = TaskRecord(task, 1, job, 0, now - TASK_SECONDS, code, None if code is None else now)
        _write_small(run.tasks / record.name, content)


def write_results(run: RunDir, tasks: Iterable[int]) -> None:
    """Write the file of results that each task would leave."""
    for task in tasks:
        _write_small(run.result_file(task), json.dumps(results_of(task)))


def write_result_lines(run: RunDir, tasks: Iterable[int]) -> None:
    """Write the same as `esis compact --results` would."""
    with run.results_lines.open("w") as stream:
        for task in tasks:
            stream.write(json.dumps({"task": task, "results": results_of(task)}) + "\n")


def results_of(task: int) -> dict[str, float]:
    """Return what a task exports."""
    return {"energy": -1 / (task + 1.3), "magnetisation": task / 7, "steps": 1000}


def _write_small(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(descriptor, text.encode())
    os.close(descriptor)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
