"""Start many esis processes quickly: the modules are imported once, each request is a fork.

Reads a JSON list of requests a line (each with argv, cwd, env, stdout, stderr), starts them all at once and answers
with the list of their exit statuses (negative: the signal) when all have ended. This directory has to be on PYTHONPATH.
A request may hold `patch`, values by dotted names, for limits that no test could reach.
"""

from __future__ import annotations

import os

os.environ.pop("ESIS_FAULT_NURSERY", None)

import json
import signal
import sys
from functools import partial

import sitecustomize

from tests.forked import become, fork, preload

_PATIENCE = 120  # seconds


def _be_esis(request: dict[str, object]) -> None:
    from esis.cli.main import run

    become(
        request["argv"],  # type: ignore[arg-type]
        str(request["cwd"]),
        request["env"],  # type: ignore[arg-type]
        str(request["stdout"]),
        str(request["stderr"]),
    )
    for name, value in request.get("patch", {}).items():  # type: ignore[attr-defined]
        module, _, attribute = name.rpartition(".")
        if not hasattr(sys.modules[module], attribute):
            raise AttributeError(name)
        setattr(sys.modules[module], attribute, value)
    signal.alarm(_PATIENCE)  # what blocks is ended: SIGALRM isn't caught by anybody
    sitecustomize.arm(os.environ)
    run()


def main() -> None:
    """Serve until stdin ends."""
    preload()
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        children = [fork(partial(_be_esis, request)) for request in json.loads(line)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        answers.write(json.dumps(codes) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
