"""Be commands of ESIS by fork: an import of all that one may need costs too much for each of thousands.

The nursery of tests/faults and the worlds of tests/simulation start their commands so. Nothing of it stands in the
product.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence


def preload(*others: str) -> None:
    """Import all that a command may need, and `others`."""
    import esis

    for found in pkgutil.walk_packages(esis.__path__, "esis."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    for name in ("pwd", "stat", "tempfile", "encodings.unicode_escape", *others):
        importlib.import_module(name)


def become(argv: Sequence[str], cwd: str, env: Mapping[str, str], stdout: str, stderr: str) -> None:
    """Give this process the session, the directory, the streams, the environment and the arguments of a command."""
    os.setsid()
    os.chdir(cwd)
    for number, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        descriptor = os.open(name, flags, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["esis", *argv]


def fork(be: Callable[[], None]) -> int:
    """Let a child do something and end with its exit status; return the process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        be()
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
