"""Collect a run's tasks as one table: parameters, what ESIS knows of each task, and its results.

Everything is read once, in the order of the tasks, and kept in a temporary file until the last row has told which
columns there are; so an error leaves no half table, and memory does not grow with the number of tasks.
"""

from __future__ import annotations

import marshal
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from esis.errors import BadInput, IncompleteResults
from esis.model.index_sets import format_ranges
from esis.model.parametersets import ParameterSets
from esis.model.workdir import RunDir
from esis.operations.table.columns import PARAMETERS, REQUIREMENTS, RESULTS, Chunk, Columns, as_numbers
from esis.operations.table.frame import CHUNK, Frame
from esis.operations.table.join import Join
from esis.operations.witness.conditions import Condition, UnknownName
from esis.operations.witness.evidence import Evidence, read_stage
from esis.operations.witness.status import ACTIVE_STATES, RunStatus, TaskState
from esis.operations.witness.target import evidence_of
from esis.records.hosts import Hosts
from esis.records.results import Exported, Results
from esis.records.stage import Stage

OWN_COLUMNS = ("task", "state", "attempts", "elapsed", "host", "reason", "code", "job")
ON_REQUEST = ("reason", "code", "job")  # columns that only --columns shows
_OF_STATUS = frozenset({"state", "elapsed", "reason", "code", "job"})


@dataclass(frozen=True)
class Wanted:
    """Say which tasks and columns are wanted; None: all."""

    tasks: Sequence[int] | None = None
    states: Sequence[TaskState] = ()
    where: str | None = None
    columns: Sequence[str] | None = None
    joins: Sequence[Join] = ()
    strict: bool = False  # a task without results is an error

    def wants(self, name: str) -> bool:
        """Return whether a column of ESIS's own is to be filled."""
        return name not in ON_REQUEST if self.columns is None else name in self.columns

    @property
    def needs_status(self) -> bool:
        """Return whether the states of the tasks matter, so that Slurm may have to be asked."""
        return bool(self.states) or any(self.wants(name) for name in _OF_STATUS)


@dataclass(frozen=True)
class Known:
    """Hold the run and what is known of it; evidence and status may be None where the request doesn't need them."""

    run: RunDir
    indices: Sequence[int]
    evidence: Evidence | None = None
    status: RunStatus | None = None


def find_out(run: RunDir, request: Wanted, ask_status: Callable[[Evidence], RunStatus]) -> Known:
    """Find out about a run what a request needs, and no more. Raises BadInput, Busy, CorruptState."""
    if not (request.needs_status or request.wants("attempts") or request.wants("host")):
        state = read_stage(run, ())
        if state is not None and state.stage is Stage.PREPARED:
            return Known(run, state.tasks)  # the records of the tasks need not be listed
    evidence = evidence_of(run)
    return Known(run, evidence.indices, evidence, ask_status(evidence) if request.needs_status else None)


@dataclass(frozen=True)
class Collected:
    """Hold the table and which of the chosen tasks have no results, as ranges; "" where all have."""

    frame: Frame
    without_results: str


def collect(source: Known, request: Wanted, progress: Callable[[int], None] = lambda done: None) -> Collected:
    """Read all that is wanted of a run; `source` has to hold what the request needs.

    `progress` is called with the number of tasks read so far. The caller closes the frame. Raises BadInput,
    CorruptState, IncompleteResults, OSError.
    """
    import gc

    tasks = _chosen(source, request)
    columns = Columns(OWN_COLUMNS)
    frame = Frame(columns)
    collecting = gc.isenabled()
    gc.disable()  # what JSON gives has no cycles; looking for some takes a sixth of the time
    try:
        without = _read(source, request, tasks, columns, frame, progress)
        if request.strict and without:
            raise IncompleteResults(
                f"{source.run.label}: no results of {_count(without)}: {format_ranges(without)}",
                "nothing was written; esis status tells what became of them",
            )
        frame.finish([name for name in OWN_COLUMNS if not request.wants(name)], request.columns)
    except BaseException:
        frame.close()
        raise
    finally:
        if collecting:
            gc.enable()
    return Collected(frame, format_ranges(without))


def _chosen(source: Known, request: Wanted) -> Sequence[int]:
    tasks = source.indices
    if request.tasks is not None:
        absent = sorted(set(request.tasks) - set(tasks))
        if absent:
            raise BadInput(f"{source.run.label} has no tasks {format_ranges(absent)}")
        tasks = sorted(request.tasks)
    if request.states and source.status is not None:
        states = source.status.tasks
        tasks = [task for task in tasks if states[task].state in request.states]
    return tasks


def _read(
    source: Known,
    request: Wanted,
    tasks: Sequence[int],
    columns: Columns,
    frame: Frame,
    progress: Callable[[int], None],
) -> Sequence[int]:
    """Fill the frame; return the tasks without results."""
    without = array("q")
    test = _Where(request.where) if request.where is not None else None
    own = _OwnColumns(source, request)
    states = source.status.tasks if source.status is not None else None

    def unfinished(task: int) -> bool:
        return states is not None and states[task].state in (*ACTIVE_STATES, TaskState.UNKNOWN)

    pairs = zip(ParameterSets(source.run).iterate(tasks), Results(source.run, unfinished).iterate(tasks))
    with Hosts(source.run) as hosts:
        for start in range(0, len(tasks), CHUNK):
            chosen, parameters, results = [], [], []
            for (task, given), (_, exported) in islice(pairs, CHUNK):
                if test is not None and not test(task, given, exported):
                    if exported is None and test.failed:
                        without.append(task)
                    continue
                if exported is None:
                    without.append(task)
                chosen.append(task)
                parameters.append(given)
                results.append(exported or {})
            if chosen:
                chunk: Chunk = {}
                own.put(columns, chunk, chosen, hosts)
                columns.put(chunk, PARAMETERS, parameters)
                for join in request.joins:
                    columns.put(chunk, REQUIREMENTS, list(map(join.columns, chosen, parameters)))
                columns.put(chunk, RESULTS, results)
                try:
                    frame.add(len(chosen), chunk)
                except (RecursionError, ValueError):
                    raise _too_deep(source.run, zip(chosen, parameters, results)) from None
            progress(min(start + CHUNK, len(tasks)))
    if test is not None:
        test.check()
    return without


class _Where:
    """Test a task by its parameters and results.

    A task that lacks a name in the condition (it has no results yet) does not fulfil it; but a name that no task at
    all has is an error.
    """

    def __init__(self, text: str) -> None:
        self._test = Condition(text, (RESULTS, PARAMETERS))
        self._fitted = False
        self._error: UnknownName | None = None
        self.failed = False  # whether the latest task lacked a name

    def __call__(self, task: int, parameters: Mapping[str, Any], exported: Exported | None) -> bool:
        self.failed = False
        try:
            holds = self._fits(task, parameters, exported or {})
        except UnknownName as error:
            self._error, self.failed = self._error or error, True
            return False
        self._fitted = True
        return holds

    def _fits(self, task: int, parameters: Mapping[str, Any], exported: Exported) -> bool:
        try:
            return self._holds(task, parameters, exported)
        except UnknownName:
            raise
        except BadInput:
            # It compares with a number: "NaN" may have to be one.
            numbers = as_numbers(exported)
            if numbers == exported:
                raise
            return self._holds(task, parameters, numbers)

    def _holds(self, task: int, parameters: Mapping[str, Any], exported: Exported) -> bool:
        # A parameter called `results` is that alone; with a dot behind it the word means the results.
        spaces = {RESULTS: exported, PARAMETERS: parameters}
        return self._test({**spaces, **exported, **parameters}, task, spaces)

    def check(self) -> None:
        """Raise BadInput if the condition fitted no task."""
        if self._error is not None and not self._fitted:
            raise self._error


class _OwnColumns:
    """Make the cells of OWN_COLUMNS that are wanted."""

    def __init__(self, source: Known, request: Wanted) -> None:
        self._source = source
        self._wanted = {name: number for number, name in enumerate(OWN_COLUMNS) if number and request.wants(name)}

    def put(self, columns: Columns, chunk: Chunk, tasks: Sequence[int], hosts: Hosts) -> None:
        """Put them into a chunk of these tasks."""
        columns.put_own(chunk, 0, tasks)
        evidence, status = self._source.evidence, self._source.status
        judged = [status.tasks[task] for task in tasks] if status is not None and _OF_STATUS & set(self._wanted) else []
        for name, number in self._wanted.items():
            cells: list[Any] = []
            if name == "attempts" and evidence is not None:
                attempts = evidence.attempts
                cells = [attempts[task] for task in tasks]
            elif name == "host" and evidence is not None:
                names = map(evidence.records.name, tasks)
                cells = [hosts.of(task, record) if record is not None else None for task, record in zip(tasks, names)]
            elif name == "state":
                cells = [item.state.value for item in judged]
            else:
                cells = [getattr(item, name) for item in judged]
            columns.put_own(chunk, number, cells)


def _too_deep(run: RunDir, rows: Iterable[tuple[int, object, object]]) -> BadInput:
    """Return an error that names the task whose values nothing can write down; some Pythons read what others can't."""
    import json

    for task, *values in rows:
        try:
            json.dumps(values)
            marshal.dumps(values)
        except (RecursionError, ValueError):
            return BadInput(f"{run.label}: task {task} has parameters or results nested too deep for a table")
    return BadInput(f"{run.label}: there are values nested too deep for a table")


def _count(tasks: Sequence[int]) -> str:
    return "1 task" if len(tasks) == 1 else f"{len(tasks)} tasks"
