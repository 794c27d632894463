"""A bench for breaking things on: a workflow and a fake Slurm that can be put back to the start at any time."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esis.records.start_time import parse_start_time
from tests.contract.site import BIN, Result
from tests.fakes import FakeSlurm
from tests.fakes.fake_slurm.store import BIN as FAKE_BIN

INJECTOR = Path(__file__).parent / "injector"
REPOSITORY = Path(__file__).parents[2]
GRACE = "0.5"  # seconds of "not there" before a lost submission is repeated

SETUP = "#!/bin/sh\necho setting up; echo ran >>setup-ran\n"
TEMPLATE = """#!/bin/bash
#SBATCH --array=TASKARRAYDEFINITION
#SBATCH --time=5
#ESIS_PRIVATE
WORKERSCRIPT
"""
WORKER = """#!/bin/sh
echo "$SLURM_ARRAY_TASK_ID" >>"did.$SLURM_ARRAY_TASK_ID"
[ -e ../mended ] || [ "$SLURM_ARRAY_TASK_ID" = 0 ] || [ ! -e ../../flaky ]
"""
# What differs between two runs that came out the same.
TIMES = {"state.json": ("pid_started",), "provenance.json": ("time",)}
SUBMISSION_TIMES = ("created", "answered", "owner")
LITTER = (".esis-tmp-", ".esis-build-", ".esis-trash-", "lock", ".srun.")


def generator(tasks: int) -> str:
    """Return a generator in shell: Python takes longer to start."""
    return (
        f'#!/bin/sh\nn=0; while [ $n -lt {tasks} ]; do echo "{{\\"n\\": $n}}" >parameters.$n.json; n=$((n+1)); '
        f"done\necho {tasks}\n"
    )


def only_run(place: Path) -> Path:
    """Return the one run of a workflow."""
    (run,) = place.glob("wrkdir.*")
    return run


class Nursery:
    """A process that forks an esis process for each request: an import of everything costs too much."""

    def __init__(self) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": f"{INJECTOR}:{REPOSITORY}",
            "ESIS_FAULT_NURSERY": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, str(INJECTOR / "nursery.py")],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(
        self,
        arguments: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        scratch: Path,
        patch: Mapping[str, Any] | None = None,
        together: int = 1,
    ) -> list[Result]:
        """Run one esis command to its end, or `together` of them at the same instant."""
        outputs = [(scratch / f"stdout.{number}", scratch / f"stderr.{number}") for number in range(together)]
        requests = [
            {
                "argv": list(arguments),
                "cwd": str(cwd),
                "env": dict(env),
                "stdout": str(stdout),
                "stderr": str(stderr),
                "patch": dict(patch or {}),
            }
            for stdout, stderr in outputs
        ]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(requests) + "\n")
        self._process.stdin.flush()
        codes = json.loads(self._process.stdout.readline())
        return [
            Result(code, stdout.read_text(errors="replace"), stderr.read_text(errors="replace"))
            for code, (stdout, stderr) in zip(codes, outputs)
        ]

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)


@dataclass(frozen=True)
class Broken:
    """What a broken command left."""

    result: Result
    hit: str | None  # what the fault struck; None: the command ended before
    steps: tuple[str, ...]


class Bench:
    """Workflows below one directory, and a fake Slurm whose jobs run only when told to."""

    def __init__(self, directory: Path, nursery: Nursery | None) -> None:
        self.directory = directory
        self.home = directory / "home"
        self.home.mkdir(parents=True)
        self.slurm = FakeSlurm(directory / "slurm", auto=False)
        self._nursery = nursery
        self.before: Path | None = None
        self.without: tuple[str, ...] = ()  # clients that aren't installed

    def env(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a user of the fake."""
        base = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "ESIS_LOOKUP_GRACE": GRACE,
            "PYTHONDONTWRITEBYTECODE": "1",
            "GIT_CEILING_DIRECTORIES": str(self.directory),
            **(env or {}),
        }
        made = self.slurm.env(base, without=self.without)
        if self.before is not None:
            made["PATH"] = f"{self.before}:{made['PATH']}"
        return made

    def wrap(self, program: str, text: str) -> None:
        """Put a shell script before a client of the fake on PATH; `REAL` in it is that client."""
        self.before = self.directory / "before"
        self.before.mkdir(exist_ok=True)
        (self.before / program).write_text(f"#!/bin/sh\n{text}\n".replace("REAL", f"{FAKE_BIN}/{program}"))
        (self.before / program).chmod(0o755)

    def unwrap(self) -> None:
        """Take all such scripts away."""
        self.before = None

    def esis(
        self, cwd: Path, *arguments: str, env: Mapping[str, str] | None = None, patch: Mapping[str, Any] | None = None
    ) -> Result:
        """Run a command, unbroken unless `env` says otherwise."""
        if self._nursery is not None:
            return self._nursery.run(arguments, cwd, self.env(env), self.directory, patch)[0]
        base = self.env(env)
        base["PYTHONPATH"] = os.pathsep.join([str(INJECTOR), str(REPOSITORY)])
        done = subprocess.run(
            [str(BIN / "esis"), *arguments],
            cwd=cwd,
            env=base,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=120,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def together(self, number: int, cwd: Path, *arguments: str) -> list[Result]:
        """Run the same command several times at the same instant."""
        assert self._nursery is not None
        return self._nursery.run(arguments, cwd, self.env(), self.directory, together=number)

    def broken(
        self, cwd: Path, arguments: Sequence[str], kind: str, at: int, env: Mapping[str, str] | None = None
    ) -> Broken:
        """Run a command with a fault at step `at`."""
        report = self.directory / "report"
        fault = {"ESIS_FAULT_REPORT": str(report), "ESIS_FAULT_KIND": kind, "ESIS_FAULT_AT": str(at), **(env or {})}
        result = self.esis(cwd, *arguments, env=fault)
        steps = tuple(report.read_text(errors="replace").splitlines())
        hit = next((step[4:] for step in steps if step.startswith("HIT ")), None)
        return Broken(result, hit, steps)

    def again(self, cwd: Path, *arguments: str, seconds: float = 20.0) -> Result:
        """Run a command until it isn't busy any more: a killed one may have left a script at work."""
        deadline = time.monotonic() + seconds
        while True:
            result = self.esis(cwd, *arguments)
            if result.code != 7 or time.monotonic() > deadline:
                return result
            time.sleep(0.05)

    def workflow(self, name: str, tasks: int = 3, worker: str = WORKER, requires: Sequence[str] = ()) -> Path:
        """Write the files of a workflow and set it up; return its directory."""
        place = self.home / name
        place.mkdir()
        for file, text in (
            ("setup.sh", SETUP),
            ("gen.sh", generator(tasks)),
            ("template.sh", TEMPLATE),
            ("worker.sh", worker),
            ("helper.txt", "included\n"),
        ):
            (place / file).write_text(text)
            (place / file).chmod(0o755)
        self.esis(place, "setup", "setup.sh", "gen.sh", "template.sh", "worker.sh", "helper.txt").ok()
        for other in requires:
            self.esis(place, "require", f"../{other}/wf.esis.json", other).ok()
        return place

    def states(self, place: Path, *arguments: str) -> dict[str, int]:
        """Return how many tasks are in which state, whatever the exit code."""
        shown = json.loads(self.esis(place, "status", "--json", *arguments).stdout)["states"]
        return {state: value["count"] for state, value in shown.items()}

    def keep(self) -> None:
        """Remember everything as it is now."""
        for name in ("home", "slurm"):
            subprocess.run(["cp", "-a", str(self.directory / name), str(self.directory / f"kept-{name}")], check=True)

    def restore(self) -> None:
        """Put everything back to what `keep` saw."""
        for name in ("home", "slurm"):
            shutil.rmtree(self.directory / name)
            subprocess.run(["cp", "-a", str(self.directory / f"kept-{name}"), str(self.directory / name)], check=True)

    def tree(self) -> dict[str, Any]:
        """Return all files below home without what differs between two equal runs."""
        return tree(self.home)


class EarlyBench(Bench):
    """One on which small includes go the way of large ones."""

    def esis(
        self, cwd: Path, *arguments: str, env: Mapping[str, str] | None = None, patch: Mapping[str, Any] | None = None
    ) -> Result:
        """Run a command with the limits of a byte."""
        limits = {"esis.operations.ahead._WORTH_BYTES": 1, "esis.digests.BESIDE": 1, "esis.model.sources.REMEMBERED": 1}
        return super().esis(cwd, *arguments, env=env, patch={**limits, **(patch or {})})


def tree(root: Path) -> dict[str, Any]:
    """Return kind, mode and content of everything below `root`, times and the like left out."""
    found: dict[str, Any] = {}
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(directory, name)
            mode = path.lstat().st_mode
            shown = str(path.relative_to(root))
            if stat.S_ISLNK(mode):
                found[shown] = ("link", os.readlink(path))
            elif stat.S_ISDIR(mode):
                found[shown] = ("directory", stat.S_IMODE(mode))
            elif stat.S_ISREG(mode):
                found[shown] = (stat.S_IMODE(mode), _content(path))
            else:
                found[shown] = ("special", mode)  # reading a FIFO would wait for ever
    return found


def _content(path: Path) -> Any:
    try:
        data = path.read_bytes()
    except PermissionError:
        return "unreadable"  # for anybody but root
    if path.name == "wf_starttime":
        return parse_start_time(data.decode()) is not None
    if path.name == "logs.zip":  # one that was made in two goes has the same entries in another order
        with zipfile.ZipFile(path) as packed:
            return sorted((item.filename, item.date_time, packed.read(item)) for item in packed.infolist())
    if path.name == "complete":
        return re.sub(rb"records=\d+", b"records=", data)
    times = SUBMISSION_TIMES if path.parent.name == "submissions" else TIMES.get(path.name)
    if times is None or path.suffix != ".json":
        return data
    value = json.loads(data)
    for name in times:
        if isinstance(value.get(name), (int, float, str)):
            value[name] = type(value[name]).__name__
    return value


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Say what is too much, missing or other than expected."""
    told = [f"too much: {name}" for name in sorted(found.keys() - expected.keys())]
    told += [f"missing: {name}" for name in sorted(expected.keys() - found.keys())]
    told += [
        f"differs: {name}: {str(found[name])[:300]} instead of {str(expected[name])[:300]}"
        for name in sorted(expected.keys() & found.keys())
        if expected[name] != found[name]
    ]
    return told


def is_litter(name: str) -> bool:
    """Return whether a difference is something that was left behind."""
    return name.startswith("too much: ") and Path(name[len("too much: ") :]).name.startswith(LITTER)
