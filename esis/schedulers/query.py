"""Ask Slurm: run a command that only reads, and know an answer from none."""

from __future__ import annotations

import os
from collections.abc import Sequence

from esis.environment import query_environment
from esis.process import capture
from esis.schedulers.answers import last_line

QUERY_SECONDS = 60.0


def ask(argv: Sequence[str], default: bool = False) -> tuple[str, str | None]:
    """Return a query's output, and what went wrong. A failed query is never an empty answer.

    `default`: of the default cluster, whichever the user named.
    """
    # Without the limit on bit strings, squeue cuts long lists of indices short.
    env = dict(query_environment(SLURM_BITSTR_LEN="0"))
    if default:
        env.pop("SLURM_CLUSTERS", None)
    try:
        done = capture(argv, env=env, timeout=QUERY_SECONDS)
    except FileNotFoundError:
        return "", f"there is no {argv[0]} on PATH"
    except OSError as error:
        return "", f"{argv[0]}: {error.strerror}"
    if done.timed_out:
        return "", f"{argv[0]} gave no answer in {QUERY_SECONDS:.0f} s"
    if done.code != 0:
        shown = last_line(done.stderr.decode("utf-8", "replace"))
        return "", shown or f"{argv[0]} ended with {done.code}"
    if b"error: Invalid user" in done.stderr:
        # It shows what it has of the others, and ends with 0.
        return "", last_line(done.stderr.decode("utf-8", "replace"))
    return os.fsdecode(done.stdout), None
