"""Make columns of nested values: number them as they turn up, name them once all are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

OWN, PARAMETERS, REQUIREMENTS, RESULTS = "own", "parameters", "requirements", "results"
DEEPEST = 100  # parts of the name of a column
MISSING = ...  # in a cell: this task has no such value; unlike None, which is a null that somebody wrote
ABSENT = type(MISSING)
_NUMBERS = frozenset({"NaN", "Infinity", "-Infinity"})  # texts for what JSON has no number for (esis.export)

Cells = Sequence[Any]
Chunk = dict[int, Cells]  # columns by their number, all of one length; one that is not there holds MISSING


def as_numbers(value: Any, depth: int = 0) -> Any:
    """Return a value of results with numbers for the texts that stand for NaN and infinities."""
    if type(value) is dict and depth < DEEPEST:
        return {key: as_numbers(below, depth + 1) for key, below in value.items()}
    return float(value) if type(value) is str and value in _NUMBERS else value


def sort_key(value: Any) -> tuple[int, Any, str]:
    """Return what values are sorted by: numbers, which may be larger than any float, and then all else as text."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value:
        return (0, value, "")
    return (1, 0, str(value))


class _Node:
    """Know the columns of one level: those of values, and what is below those of objects."""

    __slots__ = ("below", "leaves", "path")

    def __init__(self, path: tuple[str, ...]) -> None:
        self.path = path
        self.leaves: dict[str, int] = {}
        self.below: dict[str, _Node] = {}


class Columns:
    """Number the columns in the order in which they turn up, and note the types of what is in them.

    A column is known by its source and its path: `{"a": {"b": 1}}` has the path a, b. Lists and empty objects are
    values, and so are objects nested too deep: each level takes some of Python's stack. It works on many tasks at a
    time: nearly always all of them have the same keys in the same order.
    """

    def __init__(self, own: Sequence[str]) -> None:
        """Begin with the columns of ESIS's own, which have the first numbers."""
        self._own = tuple(own)
        self.found: list[tuple[str, tuple[str, ...]]] = [(OWN, (name,)) for name in own]
        self._kinds: list[set[type]] = [set() for _ in own]
        self._filled = [0] * len(own)  # how many tasks a column was made for
        self._texts: set[int] = set()  # columns that hold texts which are no numbers
        self._roots = {source: _Node(()) for source in (PARAMETERS, REQUIREMENTS, RESULTS)}

    def put_own(self, chunk: Chunk, number: int, cells: Cells) -> None:
        """Put the cells of one of ESIS's own columns into a chunk."""
        self._put_cells(chunk, number, list(cells), {*map(type, cells)})

    def put(self, chunk: Chunk, source: str, values: Sequence[Mapping[str, Any]]) -> None:
        """Put what the tasks of a chunk have, one mapping each, into the chunk."""
        self._put(chunk, source, self._roots[source], values)

    def kinds(self, number: int, count: int) -> frozenset[type]:
        """Return the types of what is in a column of `count` tasks, that of MISSING among them."""
        missing = {ABSENT} if self._filled[number] < count else set()
        return frozenset(self._kinds[number] | missing)

    def spells_numbers(self, number: int) -> bool:
        """Return whether a column of results is one of numbers, with texts that stand for NaN and infinities."""
        kinds, (source, _) = self._kinds[number], self.found[number]
        return (
            source == RESULTS
            and str in kinds
            and kinds <= {int, float, str, type(None), ABSENT}
            and number not in self._texts
        )

    def _put(self, chunk: Chunk, source: str, node: _Node, values: Sequence[Mapping[str, Any]]) -> None:
        shapes = {*map(tuple, values)}
        if len(shapes) == 1:
            for key, cells in zip(shapes.pop(), zip(*[value.values() for value in values])):
                self._put_column(chunk, source, node, key, cells)
        else:
            for key in dict.fromkeys(key for value in values for key in value):
                self._put_column(chunk, source, node, key, [value.get(key, MISSING) for value in values])

    def _put_column(self, chunk: Chunk, source: str, node: _Node, key: str, cells: Cells) -> None:
        kinds = {*map(type, cells)}
        if dict in kinds and len(node.path) + 1 < DEEPEST:
            below = [cell if type(cell) is dict else {} for cell in cells]
            if any(below):
                if key not in node.below:
                    node.below[key] = _Node((*node.path, key))
                self._put(chunk, source, node.below[key], below)
                cells = [MISSING if inner else cell for cell, inner in zip(cells, below)]
                kinds = {*map(type, cells)}
                if kinds == {ABSENT}:
                    return
        if key not in node.leaves:
            node.leaves[key] = len(self.found)
            self.found.append((source, (*node.path, key)))
            self._kinds.append(set())
            self._filled.append(0)
        self._put_cells(chunk, node.leaves[key], cells, kinds)

    def _put_cells(self, chunk: Chunk, number: int, cells: Cells, kinds: set[type]) -> None:
        chunk[number] = cells
        self._kinds[number] |= kinds
        if (
            str in kinds
            and number not in self._texts
            and any(cell not in _NUMBERS for cell in cells if type(cell) is str)
        ):
            self._texts.add(number)
        self._filled[number] += len(cells)

    def names(self) -> list[str]:
        """Return the names of all columns by their number, no two alike.

        The parts of a path are joined by dots. A parameter with the name of a column of ESIS's own gets `parameters.`
        before it; a result with the name of one of these or of a parameter gets `results.`. Should two still be alike,
        the later one gets `_2` behind it, and so on.
        """
        names = [".".join(path) for _, path in self.found]
        sources = [source for source, _ in self.found]
        own = set(self._own)
        theirs = own | {name for name, source in zip(names, sources) if source != RESULTS}
        for number, (name, source) in enumerate(zip(names, sources)):
            if source != OWN and name in (theirs if source == RESULTS else own):
                names[number] = f"{source}.{name}"
        taken: set[str] = set()
        for number in self.order():
            name, count = names[number], 1
            while names[number] in taken:
                count += 1
                names[number] = f"{name}_{count}"
            taken.add(names[number])
        return names

    def order(self) -> list[int]:
        """Return the numbers as people want to see them: task, parameters, what ESIS knows of the task, results."""
        rank = {PARAMETERS: 1, REQUIREMENTS: 2, OWN: 3, RESULTS: 4}
        return [0, *sorted(range(1, len(self.found)), key=lambda number: (rank[self.found[number][0]], number))]
