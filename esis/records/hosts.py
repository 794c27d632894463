"""Tell on which host the attempts at many tasks ran; that stands in their records, not in the names of these."""

from __future__ import annotations

import os
from pathlib import Path

from esis.files import parse_json, read_at
from esis.records.tasks import TaskRecord, read_details


class Hosts:
    """Read the records of one directory, each in a file of its own, as cheaply as it can be done."""

    def __init__(self, directory: Path) -> None:
        """Take the directory of the task records."""
        self._path = directory
        self._directory: int | None = None

    def __enter__(self) -> Hosts:
        """Open the directory, if it is there."""
        try:
            self._directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            self._directory = None
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        if self._directory is not None:
            os.close(self._directory)

    def of(self, record: TaskRecord) -> str | None:
        """Return the host of an attempt; None where its record doesn't tell."""
        if self._directory is not None:
            try:
                host = parse_json(read_at(self._directory, record.name))["host"]
            except (OSError, ValueError, RecursionError, TypeError, KeyError):
                pass  # renamed meanwhile, or kept in another form
            else:
                return host if isinstance(host, str) else None
        details = read_details(self._path, record)
        return details.host if details is not None else None
