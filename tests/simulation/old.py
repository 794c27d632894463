"""The last release beside the product: its package from tests/data, and commands that are of it.

A process imports both versions, one behind the other, and a fork chooses which of them `esis` is.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from types import ModuleType

from tests import forked

ARCHIVE = Path(__file__).parents[1] / "data" / "esis-0.1.0.zip"
VERSION = "0.1.0"
_modules: dict[str, ModuleType] = {}


def unpack(directory: Path) -> Path:
    """Unpack the release into a directory and return that."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(directory)
    return directory


def load(directory: Path) -> None:
    """Import all of the release that lies in a directory, without a change of what `esis` is in this process."""
    ours = _take_out()
    sys.path.insert(0, str(directory))
    try:
        forked.preload()
        version = sys.modules["esis.version"].VERSION
        if version != VERSION or not str(sys.modules["esis"].__file__).startswith(str(directory)):
            raise ImportError(f"this is ESIS {version} from {sys.modules['esis'].__file__}")
    finally:
        sys.path.remove(str(directory))
        _modules.update(_take_out())
        sys.modules.update(ours)


def become_old() -> None:
    """Let `esis` be the last release, for good: a fork of its own has to call this."""
    if not _modules:
        raise ImportError("the last release was not loaded")
    _take_out()
    sys.modules.update(_modules)


def _take_out() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name == "esis" or name.startswith("esis.")]
    return {name: sys.modules.pop(name) for name in names}
