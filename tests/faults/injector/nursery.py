"""Start many esis processes quickly: the modules are imported once, each request is a fork.

Reads a JSON list of requests a line (each with argv, cwd, env, stdout, stderr), starts them all at once and answers
with the list of their exit statuses (negative: the signal) when all have ended. This directory has to be on PYTHONPATH.
A request may hold `patch`, values by dotted names, for limits that no test could reach.
"""

from __future__ import annotations

import os

os.environ.pop("ESIS_FAULT_NURSERY", None)

import importlib
import json
import pkgutil
import signal
import sys

import sitecustomize

_PATIENCE = 120  # seconds


def preload() -> None:
    """Import all that a command may need."""
    import esis

    for found in pkgutil.walk_packages(esis.__path__, "esis."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    for name in ("pwd", "stat", "tempfile", "encodings.unicode_escape"):
        importlib.import_module(name)


def _be_esis(request: dict[str, object]) -> None:
    from esis.cli.main import run

    os.setsid()
    os.chdir(str(request["cwd"]))
    for number, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, str(request["stdout"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, str(request["stderr"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        descriptor = os.open(name, flags, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["env"])  # type: ignore[call-overload]
    sys.argv = ["esis", *request["argv"]]  # type: ignore[misc]
    for name, value in request.get("patch", {}).items():  # type: ignore[attr-defined]
        module, _, attribute = name.rpartition(".")
        if not hasattr(sys.modules[module], attribute):
            raise AttributeError(name)
        setattr(sys.modules[module], attribute, value)
    signal.alarm(_PATIENCE)  # what blocks is ended: SIGALRM isn't caught by anybody
    sitecustomize.arm(os.environ)
    run()


def _fork(request: dict[str, object]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _be_esis(request)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def main() -> None:
    """Serve until stdin ends."""
    preload()
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        children = [_fork(request) for request in json.loads(line)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        answers.write(json.dumps(codes) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
