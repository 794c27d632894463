"""Write and read checksum lists in the format of sha256sum(1), so that `sha256sum -c` checks them without ESIS."""

from __future__ import annotations

import os
import re

from esis.errors import CorruptState

_LINE = re.compile(rb"(\\?)([0-9a-f]{64}) [ *](.+)\Z", re.DOTALL)


def line(digest: str, name: str) -> bytes:
    """Return a file's line. A name with a line end or a backslash is escaped as sha256sum does it."""
    raw = os.fsencode(name)
    escaped = raw.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return (b"\\" if escaped != raw else b"") + digest.encode("ascii") + b"  " + escaped + b"\n"


def parse(data: bytes) -> dict[str, str]:
    """Return the digests by name. Raises CorruptState naming the line that is none."""
    found: dict[str, str] = {}
    for number, text in enumerate(data.split(b"\n"), 1):
        if not text:
            continue
        match = _LINE.match(text)
        if match is None:
            raise CorruptState(f"line {number} of the manifest is no checksum: {text[:80]!r}")
        escaped, digest, raw = match.groups()
        name = os.fsdecode(_unescape(raw) if escaped else raw)
        if name in found:
            raise CorruptState(f"line {number} of the manifest names {name!r} again")
        found[name] = digest.decode("ascii")
    return found


def _unescape(raw: bytes) -> bytes:
    return re.sub(rb"\\(.)", lambda match: {b"n": b"\n", b"r": b"\r"}.get(match.group(1), match.group(1)), raw)
