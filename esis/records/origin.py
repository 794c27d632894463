"""Say who used ESIS, where and with what."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from esis.locks import user_name
from esis.version import VERSION


@dataclass(frozen=True)
class Origin:
    """Say who used ESIS, where and with what; found out without starting a program."""

    user: str
    uid: int
    host: str
    esis: str
    python: str
    python_executable: str
    platform: str
    modules: tuple[str, ...] = ()
    conda_environment: str | None = None
    virtual_environment: str | None = None

    @classmethod
    def here(cls) -> Origin:
        """Return that of this process."""
        import platform  # takes a while, and who reads an origin doesn't need it

        return cls(
            user=user_name(os.getuid()),
            uid=os.getuid(),
            host=os.uname().nodename,
            esis=VERSION,
            python=platform.python_version(),
            python_executable=sys.executable,
            platform=platform.platform(),
            modules=tuple(name for name in os.environ.get("LOADEDMODULES", "").split(":") if name),
            conda_environment=os.environ.get("CONDA_DEFAULT_ENV"),
            virtual_environment=os.environ.get("VIRTUAL_ENV"),
        )

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Origin:
        """Read what `to_json` gave. Raises KeyError, TypeError, ValueError."""
        return cls(str(raw["user"]), int(raw["uid"]), str(raw["host"]), str(raw["esis"]), str(raw["python"]),
                   str(raw["python_executable"]), str(raw["platform"]), tuple(str(name) for name in raw["modules"]),
                   raw["conda_environment"], raw["virtual_environment"])

    def to_json(self) -> dict[str, Any]:
        """Return it as it stands in files."""
        return {**asdict(self), "modules": list(self.modules)}
