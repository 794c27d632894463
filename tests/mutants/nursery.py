"""Run pytest many times: it is imported once, and each run is a fork that imports the product and the tests anew.

Reads a JSON request a line: `paths`, `first` (names of tests that are to come first), `costs` (seconds by name),
`seconds` (until it is killed), and answers with `code` (None: killed), the `failed` test, and `costs`.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

# Loaded once: none of it is the product's, and none of it looks at the tests.
_OTHERS = ("click", "click.testing", "hypothesis", "jinja2", "numpy", "rich.console", "rich.table", "yaml")

_MEMORY = 4 * 1024**3  # a loop without an end fills what there is


class _Order:
    """Run the tests that killed before, then the cheap ones; tell the first that fails, and what each costs."""

    def __init__(self, first: Sequence[str], costs: Mapping[str, float]) -> None:
        self.first = {name: at for at, name in enumerate(first)}
        self.known = costs
        self.failed = ""
        self.costs: dict[str, float] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        last = len(self.first)
        items.sort(key=lambda item: (self.first.get(item.nodeid, last), self.known.get(item.nodeid, 0.0)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.costs[report.nodeid] = self.costs.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.failed = self.failed or report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid


def _test(request: Mapping[str, Any], answer: str) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    order = _Order(request["first"], request["costs"])
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not cluster", "--tb=line"]
    code = pytest.main([*options, *request["paths"]], plugins=[order])
    with open(answer, "w") as file:
        json.dump({"code": int(code), "failed": order.failed, "costs": order.costs}, file)


def _ended(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return True
        time.sleep(0.02)
    return False


def _unmounted(scratch: str) -> bool:
    """Take away what a killed test has mounted below its directory; return whether nothing of it is left."""
    left = _mounts(scratch)
    for place in reversed(left):  # the innermost first
        subprocess.run(["umount", "-l", place], check=False)
    return not left or not _mounts(scratch)


def _mounts(scratch: str) -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        places = [re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), line.split()[4]) for line in file]
    return [place for place in places if place.startswith(f"{os.path.realpath(scratch)}/")]


def _serve(request: Mapping[str, Any], output: int) -> Mapping[str, Any]:
    scratch = tempfile.mkdtemp(prefix="run-")
    try:
        answer = os.path.join(scratch, "answer")
        pid = os.fork()
        if pid == 0:
            try:
                os.dup2(output, 1)
                os.dup2(output, 2)
                os.environ["TMPDIR"] = tempfile.tempdir = scratch
                _test(request, answer)
            finally:
                os._exit(0)
        if not _ended(pid, request["seconds"]):
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return {"code": None, "failed": "", "costs": {}}
        try:
            with open(answer) as file:
                return dict(json.load(file))
        except (OSError, ValueError):  # the process itself died
            return {"code": 1, "failed": "", "costs": {}}
    finally:
        # Also what a killed run leaves; never through a mount, behind which is something else.
        if _unmounted(scratch):
            shutil.rmtree(scratch, ignore_errors=True)


def main() -> None:
    """Serve until stdin ends."""
    for name in _OTHERS:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    answers = os.fdopen(os.dup(1), "w")
    output = os.open(os.devnull if len(sys.argv) < 2 else sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for line in sys.stdin:
        answers.write(json.dumps(_serve(json.loads(line), output)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
