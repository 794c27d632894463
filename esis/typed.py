"""Read ESIS's own JSON files, which may be damaged: bounded, each value of its kind, and what is wrong is named."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from esis.errors import CorruptState
from esis.files import read_limited

FILE_LIMIT = 16 * 1024 * 1024  # bytes; as objects they may take twenty times that
LATEST = 32503680000.0  # the year 3000, in seconds since 1970; dates beyond it are no dates of a run
_DIGITS = 1000  # of a whole number; Python takes the square of their number of steps to read it


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in one of ESIS's own files.

    Raises FileNotFoundError where there is none, CorruptState where it can't be read as one.
    """
    return parse_object(path, read_limited(path, FILE_LIMIT))


def parse_object(path: Path, data: bytes) -> dict[str, Any]:
    """Return the JSON object that one of ESIS's own files holds; `path` is for messages. Raises CorruptState.

    No key may be there twice, and no number may be one that JSON hasn't or nobody can compute with.
    """
    try:
        value = _STRICT.decode(data.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise CorruptState(f"{path} is corrupt: {error}") from error
    if not isinstance(value, dict):
        raise CorruptState(f"{path} is corrupt: expected a JSON object")
    return value


def is_text(value: object) -> bool:
    """Return whether a value is a text that can be written down; JSON also has halves of characters (surrogates)."""
    try:
        return type(value) is str and value.encode("utf-8", "surrogateescape") is not None
    except UnicodeEncodeError:
        return False


class Fields:
    """Take the values of a JSON object of ESIS's own, each of the kind that it has to be.

    Every method raises CorruptState with the file, the key, what was expected and what was found. True is no number,
    and neither is 1e400.
    """

    def __init__(self, path: Path, raw: Mapping[str, Any], within: str = "") -> None:
        """Take the values of `raw`; `within` is the key of the file under which it stands."""
        self._path = path
        self._raw = raw
        self._within = within

    def wrong(self, key: str, expected: str, value: object) -> CorruptState:
        """Return the error for the value of a key."""
        return CorruptState(
            f"{self._path} is corrupt: key '{self._within}{key}': expected {expected}, found {reprlib.repr(value)}"
        )  # which is short, however deep or long the value is

    def get(self, key: str) -> Any:
        """Return the value of a key that has to be there."""
        if key not in self._raw:
            raise CorruptState(f"{self._path} is corrupt: key '{self._within}{key}' is missing")
        return self._raw[key]

    def has(self, key: str) -> bool:
        """Return whether a key is there and not null."""
        return self._raw.get(key) is not None

    def text(self, key: str) -> str:
        """Return a text."""
        value = self.get(key)
        if not is_text(value):
            raise self.wrong(key, "a text", value)
        return str(value)

    def text_or_none(self, key: str) -> str | None:
        """Return a text or null."""
        return None if self.get(key) is None else self.text(key)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts."""
        value = self._list(key, "a list of texts")
        if not all(map(is_text, value)):
            raise self.wrong(key, "a list of texts", value)
        return tuple(value)

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self.get(key)
        if type(value) is not bool:
            raise self.wrong(key, "true or false", value)
        return value

    def number(self, key: str, least: int, most: int) -> int:
        """Return a whole number from `least` to `most`."""
        value = self.get(key)
        if type(value) is not int or not least <= value <= most:
            raise self.wrong(key, f"a whole number from {least} to {most}", value)
        return value

    def number_or_none(self, key: str, least: int, most: int) -> int | None:
        """Return a whole number, or null."""
        return None if self.get(key) is None else self.number(key, least, most)

    def real(self, key: str, most: float) -> float:
        """Return a number from 0 to `most`."""
        value = self.get(key)
        if type(value) not in (int, float) or not (math.isfinite(value) and 0 <= value <= most):
            raise self.wrong(key, f"a number from 0 to {most:.0f}", value)
        return float(value)

    def choice(self, key: str, among: Collection[str]) -> str:
        """Return one of some texts."""
        value = self.get(key)
        if type(value) is not str or value not in among:
            raise self.wrong(key, f"one of {', '.join(map(repr, among))}", value)
        return value

    def object(self, key: str) -> Fields:
        """Return an object."""
        value = self.get(key)
        if type(value) is not dict:
            raise self.wrong(key, "an object", value)
        return Fields(self._path, value, f"{self._within}{key}.")

    def objects(self, key: str) -> list[Fields]:
        """Return a list of objects."""
        value = self._list(key, "a list of objects")
        if not all(type(item) is dict for item in value):
            raise self.wrong(key, "a list of objects", value)
        return [Fields(self._path, item, f"{self._within}{key}[{number}].") for number, item in enumerate(value)]

    def _list(self, key: str, expected: str) -> list[Any]:
        value = self.get(key)
        if type(value) is not list:
            raise self.wrong(key, expected, value)
        return value


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twin!r} stands there twice")
    return found


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


_STRICT = json.JSONDecoder(object_pairs_hook=_no_twins, parse_int=_whole, parse_constant=_no_number)
