"""Read a cluster's configuration, as `scontrol show config` tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from esis.environment import query_environment
from esis.process import capture

_ASK_SECONDS = 60.0
_LINE = re.compile(r"([A-Za-z][A-Za-z0-9_]*(?:\[\d+\])?)\s*=\s?(.*)\Z")
ARGV = ("scontrol", "show", "config")


def parse_config(stdout: str) -> Mapping[str, str]:
    """Return the settings by their names; lines that are none are left out."""
    matches = (_LINE.match(line.rstrip()) for line in stdout.split("\n"))
    return {match.group(1): match.group(2).strip() for match in matches if match is not None}


def ask_config() -> tuple[Mapping[str, str], str | None]:
    """Return the settings, and what went wrong. A failed query is never an empty answer."""
    try:
        done = capture(ARGV, env=query_environment(), timeout=_ASK_SECONDS)
    except OSError as error:
        return {}, f"scontrol: {error.strerror}"
    if done.timed_out:
        return {}, f"scontrol gave no answer in {_ASK_SECONDS:.0f} s"
    if done.code != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return {}, lines[-1] if lines else f"scontrol ended with {done.code}"
    return parse_config(done.stdout.decode("utf-8", "replace")), None
