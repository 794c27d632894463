"""Write the results of a task: one JSON object per task, and arrays as files of NumPy's format beside it."""

from __future__ import annotations

import math
import os
import re
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from operator import index
from pathlib import Path
from typing import Any

from esis.errors import BadInput, CorruptState
from esis.files import is_there, write_atomic
from esis.model.workdir import RunDir
from esis.worker.objects import encode, read

_LARGEST_BITS = 14_000  # Python writes and reads integers of 4,300 digits
_ARRAY_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")


class _Turn:
    """Let one thread at a time read the results and write them back: else each would write over what others added."""

    def __init__(self) -> None:
        self.renew()
        # A child that is forked while another thread has its turn would wait for that thread, which it doesn't have.
        os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        """Forget whose turn it is. A thread may have two at a time: a handler of a signal exports, too."""
        self.lock = threading.RLock()
        # What handlers have exported in the middle of another call, which may have read the results before.
        self.meanwhile: list[tuple[RunDir, int, dict[str, Any]]] | None = None


_turn = _Turn()


def merge(run: RunDir, task: int, values: Mapping[str, object]) -> None:
    """Add values to the results of a task, atomically; a value of the same name is replaced. Raises OSError.

    Raises BadInput for values that JSON has no form for, or that are so large that nobody could read them again. JSON
    has no NaN and no infinity either: they become the texts "NaN", "Infinity" and "-Infinity", which Python's float()
    and C's strtod() read.
    """
    added = {name: plain(value, name) for name, value in values.items()}
    with _turn.lock:
        if _turn.meanwhile is not None:
            _turn.meanwhile.append((run, task, added))
            _add(run, task, added)
            return
        later: list[tuple[RunDir, int, dict[str, Any]]] = []
        _turn.meanwhile = later
        try:
            _add(run, task, added)
            while later:
                _add(*later.pop(0))
        finally:
            _turn.meanwhile = None


def _add(run: RunDir, task: int, added: Mapping[str, Any]) -> None:
    path = run.result_file(task)
    path.parent.mkdir(exist_ok=True)  # not what is above: a run that isn't there would be made, and lost
    present = _present(run, task)
    try:
        content = _encode(path, {**present, **added})
    except ValueError:
        # Another program's may have NaN in them, or 1e400.
        content = _encode(path, {**{name: plain(value, name) for name, value in present.items()}, **added})
    write_atomic(path, content)


def _encode(path: Path, values: Mapping[str, Any]) -> bytes:
    return encode(values, f"{path}: the results", "write long series with esis.export_array", allow_nan=False)


def write_array(run: RunDir, task: int, name: str, values: object, allowed: Callable[[], None]) -> None:
    """Write an array, then its file's name into the results. Raises BadInput, OSError, and what `allowed` raises."""
    from esis.worker.npy import encode as encode_array

    if _ARRAY_NAME.match(name) is None:
        raise BadInput(
            f"{name!r} can't be the name of an array",
            "use letters, digits, dots, dashes and underscores: it becomes part of a file name",
        )
    path = run.array_file(task, name)
    try:
        content = encode_array(values)
    except BadInput as error:
        raise BadInput(f"the array {name!r}: {error.message}", error.advice) from error
    allowed()  # here, for large arrays take their time
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, content)
    allowed()
    merge(run, task, {name: path.name})


def plain(value: object, name: str) -> Any:
    """Return `value` made of what JSON has. Raises BadInput naming the place."""
    try:
        return _plain(value, name)
    except RecursionError:
        raise BadInput(f"{name}: a value that holds itself, or is nested too deeply", "export what is in it") from None


def _plain(value: object, name: str) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        if value.bit_length() > _LARGEST_BITS:
            raise BadInput(f"{name}: an integer of {value.bit_length()} bits", "export it as a text, or as a float")
        return int(value)  # also of an IntEnum, of which JSON would not take the name
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _named(value)
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for key, item in value.items():
            text = _key(key, name)
            if text in found:
                raise BadInput(f"{name}: two values would have the name {text!r:.60}", "names are texts: 1 becomes '1'")
            found[text] = _plain(item, f"{name}.{text}")
        return found
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{name}[{number}]") for number, item in enumerate(value)]
    try:
        made = native(value)  # None for what is masked
    except TypeError:
        raise BadInput(
            f"{name}: JSON has no form for {type(value).__name__} ({value!r:.60})",
            "export numbers, texts, lists and dicts of them; arrays with esis.export_array",
        ) from None
    return _plain(made, name)


def native(value: object) -> object:
    """Return Python's own form of a mapping, or of NumPy's scalars and arrays; what is in it may need the same.

    No such package is imported. Raises TypeError for anything else.
    """
    if isinstance(value, Mapping):
        return dict(value)
    tolist = getattr(value, "tolist", None)
    if callable(tolist):
        found: object = tolist()
        if type(found) is not type(value):
            return found
        if getattr(getattr(value, "dtype", None), "kind", "") == "f":  # longer than Python's own float
            return float(found)  # type: ignore[arg-type]
    raise TypeError(f"no form for {type(value).__name__}")


def _named(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _key(key: object, name: str) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, int) and key.bit_length() > _LARGEST_BITS:
        raise BadInput(f"{name}: an integer of {key.bit_length()} bits can't be the name of a value", "names are texts")
    if not isinstance(key, bool):
        with suppress(TypeError):
            return str(index(key))  # type: ignore[arg-type]  # also of NumPy
    raise BadInput(f"{name}: {key!r:.60} can't be the name of a value", "names are texts")


def _present(run: RunDir, task: int) -> dict[str, Any]:
    """Return what earlier calls have written; what is no JSON object is kept aside, for results must not be lost."""
    path = run.result_file(task)
    try:
        return read(path)
    except FileNotFoundError:
        return _folded(run, task)
    except CorruptState as error:
        aside = _free(path)
        path.replace(aside)
        warnings.warn(f"{error}; it is kept as {aside.name}", RuntimeWarning, stacklevel=5)
        return {}


def _folded(run: RunDir, task: int) -> dict[str, Any]:
    """Return what an earlier attempt has written, where `esis compact --results` has folded it since."""
    if not is_there(run.results_lines):
        return {}
    from esis.worker.folded import results_of  # seldom needed

    try:
        return results_of(run, task)
    except CorruptState as error:
        warnings.warn(f"{error}; nothing of it is in the results of task {task}", RuntimeWarning, stacklevel=6)
        return {}


def _free(path: Path) -> Path:
    """Return a name for what is kept aside, which nothing has that an earlier attempt kept."""
    number, aside = 1, path.with_name(f"{path.name}.corrupt")
    while is_there(aside):
        number += 1
        aside = path.with_name(f"{path.name}.corrupt.{number}")
    return aside
