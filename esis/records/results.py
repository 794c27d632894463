"""Read the results that tasks exported: a file for each, or, of a run that was compacted, the lines of one file.

`results.jsonl` holds lines `{"task": 5, "results": {…}}` sorted by task. A file `results.<n>.json` outranks the line of
the same task: it was written by a later attempt. Arrays are in files `results.<n>.<name>.npy` beside them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from esis.errors import CorruptState
from esis.files import STATE_FILE_LIMIT, is_there, open_regular, parse_json, read_at
from esis.model.workdir import RunDir

_FILE = re.compile(r"results\.(0|[1-9][0-9]{0,11})\.json\Z")

Exported = Mapping[str, Any]


class Results:
    """Give what the tasks of one run exported, in whatever form it is kept."""

    def __init__(self, run: RunDir) -> None:
        """Look which form it is; the content is read when it is asked for. Raises OSError."""
        self._run = run
        self.in_lines = is_there(run.results_lines)

    def get(self, task: int) -> Exported | None:
        """Return what a task exported; None where it did not. Raises CorruptState, OSError."""
        return next(iter(self.iterate((task,))))[1]

    def iterate(self, tasks: Iterable[int]) -> Iterator[tuple[int, Exported | None]]:
        """Yield each of `tasks`, which ascend, with what it exported, holding one at a time; None where it did not.

        What is no JSON object has the single key `value`. Raises CorruptState naming the file, OSError.
        """
        place = self._run.results
        try:
            directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            for task in tasks:
                yield task, None
            return
        try:
            if self.in_lines:
                yield from self._from_both(tasks, directory)
            else:
                for task in tasks:
                    yield task, self._from_file(task, directory)
        finally:
            os.close(directory)

    def _from_both(self, tasks: Iterable[int], directory: int) -> Iterator[tuple[int, Exported | None]]:
        """Merge the lines with the files, which are few, if any, in a run that was compacted."""
        files = set(find_files(self._run.results))
        with open_regular(self._run.results_lines) as stream:
            lines = _lines(stream, self._run.results_lines)
            there, value = next(lines, (None, None))
            for task in tasks:
                while there is not None and there < task:
                    there, value = next(lines, (None, None))
                found = self._from_file(task, directory) if task in files else None
                yield task, value if found is None and there == task else found

    def _from_file(self, task: int, directory: int) -> Exported | None:
        name = f"results.{task}.json"
        try:
            data = read_at(directory, name, self._run.results)
        except FileNotFoundError:
            return None
        try:
            value = parse_json(data)
        except (ValueError, RecursionError) as error:
            what = str(error) if data.strip() else "it is empty"
            raise CorruptState(
                f"{self._run.results / name} is no JSON: {what}", f"mend or remove it, or: esis resubmit --tasks {task}"
            ) from None
        return value if type(value) is dict else {"value": value}


def find_files(directory: Path) -> Iterator[int]:
    """Yield the tasks, in no order, that have a file of results in `directory`; none where it is missing."""
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                match = _FILE.match(entry.name)
                if match is not None:
                    yield int(match.group(1))
    except FileNotFoundError:
        return


def _lines(stream: BinaryIO, path: Path) -> Iterator[tuple[int, Exported]]:
    """Yield task and results of each line. Raises CorruptState naming the line."""
    before = -1
    number = 0
    while line := stream.readline(STATE_FILE_LIMIT):
        number += 1
        try:
            value = parse_json(line)
            task, results = value["task"], value["results"]
        except (ValueError, RecursionError, TypeError, KeyError) as error:
            raise CorruptState(f"{path} is corrupt: line {number}: {error!r}") from None
        if type(task) is not int or task <= before:
            raise CorruptState(f"{path} is corrupt: line {number}: tasks don't ascend ({task!r} after {before})")
        before = task
        yield task, results if type(results) is dict else {"value": results}
