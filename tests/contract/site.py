"""One face for the fake Slurm and the real cluster, so that the same tests run on both and the fake can't drift."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.fakes import FakeSlurm

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Result:
    """What a command left."""

    code: int
    stdout: str
    stderr: str

    def ok(self) -> Result:
        assert self.code == 0, f"exit code {self.code}\n{self.stdout}\n{self.stderr}"
        return self


class Site(Protocol):
    """A place with Slurm where an ordinary user works."""

    name: str
    home: Path  # as this process sees the user's directory

    def run(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> Result:
        """Run a command as the user; `cwd` is a path of this process."""
        ...

    def inside(self, path: Path) -> Path:
        """Return how the user sees a path of this process."""
        ...

    def settle(self, seconds: float = 120.0) -> None:
        """Wait until nothing of the user's is waiting or running that can still run."""
        ...

    def submissions(self) -> int:
        """Return how often sbatch has taken a job since the site was made."""
        ...


class FakeSite:
    """The fake Slurm; jobs run by themselves as soon as they may."""

    name = "fake"

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.home.mkdir()
        self.slurm = FakeSlurm(directory / "slurm", auto=True)

    def run(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> Result:
        base = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "ESIS_LOOKUP_GRACE": "1", **(env or {})}
        done = subprocess.run(
            list(argv),
            cwd=cwd,
            env=self.slurm.env(base),
            capture_output=True,
            text=True,
            errors="surrogateescape",
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=120,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def inside(self, path: Path) -> Path:
        return path

    def settle(self, seconds: float = 120.0) -> None:
        until(lambda: queue_is_idle(self, self.home), seconds)

    def submissions(self) -> int:
        return len(self.slurm.jobs())


class ClusterSite:
    """The real cluster, as alice on a login node, below one of the places where the homes are mounted."""

    name = "cluster"

    def __init__(self, cluster: object, directory: str, *, host: str = "login", homes: str = "/home") -> None:
        from tests.cluster.harness import SlurmCluster

        assert isinstance(cluster, SlurmCluster)
        self.cluster = cluster
        self.host = host
        self.home = cluster.home / "alice" / directory
        self._inside = Path(homes, "alice", directory)
        cluster.run(["mkdir", "-p", str(self._inside)])

    def run(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> Result:
        done = self.cluster.run(list(argv), cwd=str(self.inside(cwd)), env=env, host=self.host, check=False)
        return Result(done.returncode, done.stdout, done.stderr)

    def inside(self, path: Path) -> Path:
        return self._inside / path.relative_to(self.home)

    def settle(self, seconds: float = 120.0) -> None:
        until(lambda: queue_is_idle(self, self.home), seconds)

    def submissions(self) -> int:
        done = self.run(["squeue", "-h", "-t", "all", "--me", "-o", "%F %Z"], self.home).ok()
        rows = {tuple(line.split(" ", 1)) for line in done.stdout.splitlines()}
        return sum(1 for _, place in rows if place.startswith(str(self._inside)))


def queue_is_idle(site: Site, cwd: Path) -> bool:
    """Return whether no job waits or runs but those whose dependency can never be satisfied."""
    done = site.run(["squeue", "-h", "-r", "--me", "-o", "%T %r"], cwd)
    rows = done.stdout.split("\n")[:-1]
    return done.code == 0 and all("DependencyNeverSatisfied" in row for row in rows)


def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds:.0f} s"
        time.sleep(0.1)


SETUP = "#!/bin/sh\necho setting up; date +%s%N >>setup-ran\n"
TEMPLATE = """#!/bin/bash
#SBATCH --array=TASKARRAYDEFINITION
#SBATCH --time=5
#ESIS_PRIVATE
set -euo pipefail
srun WORKERSCRIPT
"""
WORKER = """#!/bin/sh
set -e
cat "../parameters/parameters.$SLURM_ARRAY_TASK_ID.json" >"seen.$SLURM_ARRAY_TASK_ID"
"""


def generator(count: int, body: str = "") -> str:
    """Return a generator of `count` parameter sets."""
    return f"""#!/usr/bin/env python3
import json, os, sys
{body}
for n in range({count}):
    with open(f"parameters.{{n}}.json", "w") as stream:
        json.dump({{"n": n, "square": n * n}}, stream)
print({count})
"""


@dataclass(frozen=True)
class Workflow:
    """The files of a workflow in a directory of their own."""

    site: Site
    directory: Path

    def write(self, name: str, text: str, executable: bool = True) -> Path:
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o755 if executable else 0o644)
        return path

    def esis(self, *arguments: str, env: Mapping[str, str] | None = None) -> Result:
        return self.site.run(["esis", *arguments], self.directory, env)

    def runs(self) -> list[Path]:
        return sorted(self.directory.glob("wrkdir.*"))

    def only_run(self) -> Path:
        (run,) = self.runs()
        return run

    def states(self, *target: str) -> dict[str, int]:
        shown = json.loads(self.esis("status", "--json", *target).ok().stdout)
        return {state: value["count"] for state, value in shown["states"].items()}


def make_workflow(
    site: Site,
    name: str,
    tasks: int = 3,
    *,
    template: str = TEMPLATE,
    worker: str = WORKER,
    generator_text: str | None = None,
    setup: str = SETUP,
    options: Sequence[str] = (),
) -> Workflow:
    """Write four files below the site's home and set the workflow up."""
    site.run(["mkdir", "-p", name], site.home).ok()
    flow = Workflow(site, site.home / name)
    flow.write("setup.sh", setup)
    flow.write("gen.py", generator_text if generator_text is not None else generator(tasks))
    flow.write("template.sh", template)
    flow.write("worker.sh", worker)
    flow.esis("setup", *options, "setup.sh", "gen.py", "template.sh", "worker.sh").ok()
    return flow


def quoted(path: Path) -> str:
    """Quote a path for the shell."""
    return shlex.quote(str(path))
