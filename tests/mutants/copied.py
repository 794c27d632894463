"""A copy of the repository, in which mutants are made and tested; the checkout itself is never touched."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.mutants.plan import ROOT, WORLDS, Stage

_COPIED = ("esis", "tests", "examples", "ci", "pyproject.toml", "README.md", "CHANGELOG.md", "Makefile")
_LEFT_OUT = ("__pycache__", "wrkdir.*", ".*_cache")
_LEAST_SECONDS = 15.0
_PATIENCE = 4.0  # times what the tests need without a mutant


class Verdict(NamedTuple):
    """Say what the tests make of a mutant."""

    killed: bool
    by: str  # the test, or what else


class Copy:
    """The copy, with an environment of its own in which `esis` and `import esis` are the copy's."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "repository"
        self.root.mkdir()
        for name in _COPIED:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns(*_LEFT_OUT)
                shutil.copytree(ROOT / name, self.root / name, symlinks=True, ignore=ignored)
            else:
                shutil.copy2(ROOT / name, self.root / name)
        self.python = _environment(directory / "environment", self.root)
        self._env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._env.update(PATH=f"{self.python.parent}:{os.environ['PATH']}", TMPDIR=str(directory))
        self._nursery = subprocess.Popen(
            [str(self.python), "-m", "tests.mutants.nursery", str(directory / "output")],
            cwd=self.root,
            env=self._env,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._costs: dict[str, float] = {}
        self._seconds: dict[Stage, float] = {}
        self._changes = 0

    def close(self) -> None:
        """End the process that runs the tests."""
        self._nursery.communicate(timeout=60)

    @contextmanager
    def mutated(self, module: str, text: str) -> Iterator[None]:
        """Let a module hold `text` in the block."""
        path = self.root / module
        before = path.read_text("utf-8")
        try:
            self._write(path, text)
            yield
        finally:
            self._write(path, before)

    def judge(self, stages: Sequence[Stage], first: Sequence[str]) -> Verdict:
        """Try the tests, stage by stage; `first`: those that have killed others."""
        for stage in stages:
            if stage not in self._seconds:
                raise KeyError(f"{stage.name}: not tried without a mutant yet")
            limit = max(_LEAST_SECONDS, _PATIENCE * self._seconds[stage])
            verdict, _ = self._try(stage, first, limit)
            if verdict.killed:
                return verdict
        return Verdict(False, "")

    def measure(self, stage: Stage) -> Verdict:
        """Try the tests without a mutant, once: they have to pass, and tell what they cost."""
        if stage in self._seconds:
            return Verdict(False, "")
        verdict, seconds = self._try(stage, (), 3600.0)
        self._seconds[stage] = seconds
        return verdict

    def _try(self, stage: Stage, first: Sequence[str], limit: float) -> tuple[Verdict, float]:
        began = os.times().elapsed
        if stage.paths:
            answer = self._ask({"paths": stage.paths, "first": list(first), "costs": self._costs, "seconds": limit})
            self._costs.update(answer["costs"])
            code, by = answer["code"], answer["failed"]
        else:
            code, by = self._live(limit), "worlds of tests.simulation"
        verdict = Verdict(code != 0, by or "the tests can't be run") if code is not None else Verdict(True, "time-out")
        return verdict, os.times().elapsed - began

    def _live(self, limit: float) -> int | None:
        with subprocess.Popen(
            [str(self.python), *WORLDS],
            cwd=self.root,
            env=self._env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                return process.wait(limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                return None

    def _ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.write(json.dumps(request) + "\n")
        self._nursery.stdin.flush()
        return dict(json.loads(self._nursery.stdout.readline()))

    def _write(self, path: Path, text: str) -> None:
        """Write a module with a time of its own: Python compares whole seconds and the size with what it compiled."""
        path.write_text(text, "utf-8")
        self._changes += 1
        moment = 1_000_000_000 + self._changes
        os.utime(path, (moment, moment))


@contextmanager
def copy() -> Iterator[Copy]:
    """Make a copy in a temporary directory, which goes away afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="esis-mutants-"))
    try:
        made = Copy(directory)
        try:
            yield made
        finally:
            made.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _environment(directory: Path, root: Path) -> Path:
    """Make an environment with all that this one has, but for ESIS; return its Python."""
    venv.create(directory, symlinks=True)
    python = directory / "bin" / "python"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(directory), "platbase": str(directory)}))
    # A line names a directory whose own .pth files are not read: what installs the checkout for editing stays away.
    here = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
    (packages / "copy.pth").write_text("\n".join(dict.fromkeys([str(root), *here])) + "\n")
    command = directory / "bin" / "esis"
    command.write_text(f"#!{python}\nfrom esis.__main__ import start\n\nraise SystemExit(start())\n")
    command.chmod(0o755)
    shown = subprocess.run(
        [str(python), "-c", "import esis; print(esis.__file__)"], cwd="/", text=True, capture_output=True, check=True
    ).stdout.strip()
    if Path(shown) != root / "esis" / "__init__.py":
        raise RuntimeError(f"{sys.executable}: in the copy's environment `import esis` is {shown}")
    return python
