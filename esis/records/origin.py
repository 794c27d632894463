"""Say who used ESIS, where and with what."""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple

from esis.typed import Fields
from esis.version import VERSION


class Origin(NamedTuple):
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

        from esis.locks import user_name

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
    def from_fields(cls, raw: Fields) -> Origin:
        """Read what `to_json` gave. Raises CorruptState."""
        return cls(
            raw.text("user"),
            raw.number("uid", 0, 2**32),
            raw.text("host"),
            raw.text("esis"),
            raw.text("python"),
            raw.text("python_executable"),
            raw.text("platform"),
            raw.texts("modules"),
            raw.text_or_none("conda_environment"),
            raw.text_or_none("virtual_environment"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as it stands in files."""
        return {**self._asdict(), "modules": list(self.modules)}
