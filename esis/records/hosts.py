"""Tell on which host the attempts at many tasks ran; that stands in their records, not in the names of these."""

from __future__ import annotations

import os
from collections.abc import Iterator

from esis.errors import CorruptState
from esis.files import parse_json, read_at
from esis.model.workdir import RunDir
from esis.records.folded import folded_lines


class Hosts:
    """Read the records of a run, each in a file of its own or folded, as cheaply as it can be done."""

    def __init__(self, run: RunDir) -> None:
        """Take the run."""
        self._run = run
        self._directory: int | None = None
        self._folded = _Folded(run)

    def __enter__(self) -> Hosts:
        """Open the directory of the records, if it is there."""
        try:
            self._directory = os.open(self._run.tasks, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            self._directory = None
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        if self._directory is not None:
            os.close(self._directory)

    def of(self, task: int, record: str) -> str | None:
        """Return the host of an attempt by the name of its record; None where that doesn't tell.

        Ascending tasks are the cheapest.
        """
        content: str | bytes | None = self._folded.content_of(task, record)
        if content is None and self._directory is not None:
            try:
                content = read_at(self._directory, record, self._run.tasks)
            except (CorruptState, OSError):
                return None  # renamed meanwhile, or damaged; the name tells what is needed
        try:
            host = parse_json(content or b"")["host"]
        except (ValueError, RecursionError, TypeError, KeyError):
            return None
        return host if isinstance(host, str) else None


class _Folded:
    """Go through the folded records, which are sorted by task, along with somebody who asks for ascending tasks."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._lines: Iterator[str] | None = None
        self._task = -1
        self._contents: dict[str, str] = {}  # of the records of that task
        self._following: tuple[int, str, str] | None = None

    def content_of(self, wanted: int, record: str) -> str | None:
        if self._lines is None or wanted < self._task:
            self._lines = folded_lines(self._run)
            self._task = -1
            self._contents = {}
            self._following = self._next()
        while self._following is not None and self._following[0] <= wanted:
            task, name, content = self._following
            if task != self._task:
                self._task = task
                self._contents = {}
            self._contents[name] = content
            self._following = self._next()
        return self._contents.get(record)

    def _next(self) -> tuple[int, str, str] | None:
        for line in self._lines or ():
            name, _, content = line.partition(" ")
            task = name.partition(".")[0]
            if task.isascii() and task.isdigit():
                return int(task), name, content
        return None
