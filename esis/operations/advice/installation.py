"""Tell whether the ESIS that runs is the installed one, and whether another distribution is in its way.

The distribution is `esis-slurm`. `esis` on the Python package index is somebody else's, with a package and a command of
the same name, and until 0.1.0 it was ESIS's own name in checkouts. pip lets two distributions have the same files: the
later one writes over those of the earlier one, and removing either removes them for both. Hence the order of every
advice: remove `esis` first, then put `esis-slurm` back, whole.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from esis import version
from esis.errors import CorruptState
from esis.files import read_limited
from esis.operations.advice.findings import Finding, note, ok, problem

DISTRIBUTION = "esis-slurm"
_OLD_NAME = "esis"
_SUBJECT = "installation"


def check_installation(path: Sequence[str] | None = None, package: Path | None = None) -> Finding:
    """Return the one finding that matters most.

    `path` is where distributions are looked for (sys.path), `package` the directory of the package that runs.
    """
    where = list(sys.path if path is None else path)
    running = package if package is not None else Path(version.__file__).parent
    ours = next(iter(distributions(name=DISTRIBUTION, path=where)), None)
    others = list(distributions(name=_OLD_NAME, path=where))
    spoilt = _spoilt(ours) if ours is not None else []
    for other in others:
        if not _is_ours(other) and _has_our_names(other):
            return problem(
                _SUBJECT,
                f"the distribution esis {_version(other)} in {_place(other)} is not ESIS, and has "
                f"a package or command of the same name{_told(spoilt, ': it wrote over ')}; {_advice(ours)}",
            )
    for other in others:
        if _is_ours(other):
            return note(
                _SUBJECT,
                f"ESIS is installed under its old name, esis {_version(other)}, in {_place(other)}; "
                "on the Python package index that is somebody else's, which an upgrade would bring; "
                + _advice(ours if ours is not None else other),
            )
    if ours is None:
        return ok(_SUBJECT, f"ESIS {version.VERSION} runs from {running}, and is not installed")
    if spoilt:
        return problem(
            _SUBJECT, f"not as it was installed in {_place(ours)}{_told(spoilt, ': ')}; put it back: " + _install(ours)
        )
    return _shadowed(ours, running) or ok(_SUBJECT, f"{DISTRIBUTION} {_version(ours)} in {_place(ours)}")


def _shadowed(ours: Distribution, running: Path) -> Finding | None:
    """Say whether another copy comes before the installed one: as a package, or as a command on PATH."""
    files = _files(ours)
    installed = [_located(ours, name).parent for name in files if name == "esis/__init__.py"]
    if installed and installed[0] != running.resolve():
        return note(_SUBJECT, f"{running} runs, not the installed {installed[0]}: look at PYTHONPATH")
    commands = [_located(ours, name) for name in files if PurePosixPath(name).parts[-2:] == ("bin", "esis")]
    first = shutil.which("esis")
    if first is not None and commands and Path(first).resolve() not in commands:
        return note(
            _SUBJECT,
            f"the esis on PATH is {first}, not this one, {commands[0]}: put "
            f"{commands[0].parent} before it in PATH, or remove it",
        )
    return None


def _is_ours(other: Distribution) -> bool:
    """Return whether a distribution named esis is an ESIS; versions tell nothing, the stranger has such ones, too."""
    return "slurm" in _field(other, "Summary").lower() or any(
        name.startswith("esis/checkpoint") for name in _files(other)
    )


def _has_our_names(other: Distribution) -> bool:
    tops = {PurePosixPath(name).parts[0] for name in _files(other)}
    tops.update((other.read_text("top_level.txt") or "").split())
    commands = {entry.name for entry in other.entry_points if entry.group == "console_scripts"}
    return not tops.isdisjoint({"esis", "esis.py"}) or "esis" in commands


def _field(of: Distribution, name: str) -> str:
    """Return a field of the metadata, which an interrupted pip may have left without any."""
    about = of.read_text("METADATA") or of.read_text("PKG-INFO") or ""
    found = re.search(rf"^{name}:[ \t]*(.*)", about, re.MULTILINE)
    return found.group(1) if found is not None else ""


def _files(of: Distribution) -> dict[str, str]:
    """Return the hash of each file that was installed, as RECORD has it; empty where there is none."""
    rows = csv.reader((of.read_text("RECORD") or "").splitlines())
    return {row[0]: row[1] for row in rows if len(row) > 1 and PurePosixPath(row[0]).parts}


def _spoilt(ours: Distribution) -> list[str]:
    """Return the files of the package that are not as RECORD has them; an editable installation lists none."""
    found = []
    for name, expected in sorted(_files(ours).items()):
        method, _, value = expected.partition("=")
        if not name.startswith("esis/") or method != "sha256":
            continue
        try:
            digest = hashlib.sha256(read_limited(_located(ours, name))).digest()
        except (CorruptState, OSError):
            found.append(name)
            continue
        if base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=") != value:
            found.append(name)
    return found


def _told(spoilt: Sequence[str], before: str) -> str:
    if not spoilt:
        return ""
    more = f" and {len(spoilt) - 1} more" if len(spoilt) > 1 else ""
    return f"{before}{spoilt[0]}{more} (changed or missing)"


def _advice(source: Distribution | None) -> str:
    return f"{_pip()} uninstall esis; {_install(source)}"


def _install(source: Distribution | None) -> str:
    """Return the command that puts ESIS in place, from where `source` came if that is still there."""
    wanted = [DISTRIBUTION]
    try:
        told = json.loads((source.read_text("direct_url.json") if source is not None else None) or "{}")
        url = urlsplit(told.get("url", ""))
        if url.scheme == "file" and Path(unquote(url.path)).exists():
            editable = told.get("dir_info", {}).get("editable") is True
            wanted = [*["-e"] * editable, unquote(url.path)]
    except (ValueError, AttributeError, TypeError):
        pass  # another tool's file; the name does, too
    return f"{_pip()} install --force-reinstall --no-deps {shlex.join(wanted)}"


def _pip() -> str:
    return f"{shlex.quote(sys.executable)} -m pip"


def _version(of: Distribution) -> str:
    return _field(of, "Version") or "of an unknown version"


def _place(of: Distribution) -> Path:
    return Path(str(of.locate_file("")))


def _located(of: Distribution, name: str) -> Path:
    return Path(str(of.locate_file(name))).resolve()
