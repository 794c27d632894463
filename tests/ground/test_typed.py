"""ESIS's own JSON, however damaged: a value of its kind, or an error that names file, key and what was expected."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esis.errors import CorruptState
from esis.files import write_json
from esis.typed import FILE_LIMIT, Fields, parse_object, read_object

NAME = Path("x.json")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def is_written(value: Any) -> bool:
    return type(value) is str and not any("\ud800" <= sign < "\udc80" or "\udcff" < sign <= "\udfff" for sign in value)


READERS: dict[str, tuple[Callable[[Fields], object], Callable[[Any], bool]]] = {
    "text": (lambda fields: fields.text("k"), is_written),
    "texts": (lambda fields: fields.texts("k"), lambda value: type(value) is list and all(map(is_written, value))),
    "flag": (lambda fields: fields.flag("k"), lambda value: type(value) is bool),
    "number": (lambda fields: fields.number("k", 0, 9), lambda value: type(value) is int and 0 <= value <= 9),
    "real": (lambda fields: fields.real("k", 9.0), lambda value: type(value) in (int, float) and 0 <= value <= 9),
    "choice": (lambda fields: fields.choice("k", ["a"]), lambda value: value == "a"),
    "object": (lambda fields: fields.object("k"), lambda value: type(value) is dict),
    "objects": (
        lambda fields: fields.objects("k"),
        lambda value: type(value) is list and all(type(item) is dict for item in value),
    ),
}


@pytest.mark.parametrize("kind", READERS)
@settings(deadline=None)
@given(value=json_values)
def test_f58_a_value_is_of_its_kind_or_named(kind: str, value: Any) -> None:
    """F58: true is no number, 1e400 and NaN aren't either, and no value gives any other error."""
    read, fits = READERS[kind]
    try:
        read(Fields(NAME, {"k": value}))
    except CorruptState as error:
        assert not fits(value)
        assert "x.json is corrupt: key 'k'" in str(error)
        assert len(str(error)) < 500
    else:
        assert fits(value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"a": 1, "a": 2}', "'a' stands there twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "Infinity"),
        ('{"a": ' + "9" * 5000 + "}", "5000 digits"),
        ('{"a": [{"b": 1, "b": 1}]}', "'b' stands there twice"),
        ("[" * 100_000, "x.json"),
        ("[]", "a JSON object"),
        ("", "x.json"),
        ('{"a": 1} {', "x.json"),
    ],
)
def test_f58_what_is_no_json_object_of_esis_is_corrupt(text: str, what: str) -> None:
    with pytest.raises(CorruptState, match=r"x\.json is corrupt") as error:
        parse_object(NAME, text.encode())
    assert what in str(error.value)


def test_f58_a_nested_value_is_shown_short_and_under_its_whole_key() -> None:
    deep: Any = 0
    for _ in range(500):
        deep = [deep]
    fields = Fields(NAME, {"jobs": [{}, {"id": deep}]}).objects("jobs")[1]
    with pytest.raises(CorruptState, match=r"key 'jobs\[1\]\.id': expected a text") as error:
        fields.text("id")
    assert len(str(error.value)) < 200


def test_f58_a_missing_key_is_not_null() -> None:
    """Null is a value where it may be one; a key that isn't there was lost."""
    assert Fields(NAME, {"k": None}).text_or_none("k") is None
    for read in (Fields.text_or_none, Fields.text, Fields.flag):
        with pytest.raises(CorruptState, match="'k' is missing"):
            read(Fields(NAME, {}), "k")


def test_f58_a_file_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.touch()
    os.truncate(path, FILE_LIMIT + 1)
    with pytest.raises(CorruptState, match=f"{path} is larger than"):
        read_object(path)


@pytest.mark.parametrize("text", ["\udcff", "a\udc80b", "\ud800", "é\n\0"])
def test_arguments_that_are_no_utf8_come_back_as_they_were(tmp_path: Path, text: str) -> None:
    """F39: what a record can't be read with again must not be written into it."""
    write_json(tmp_path / "x.json", {"argv": [text], text: 1})
    assert read_object(tmp_path / "x.json") == {"argv": [text], text: 1}
    assert json.loads((tmp_path / "x.json").read_bytes()) == {"argv": [text], text: 1}


def test_a_record_with_raw_bytes_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """0.1 wrote bytes that are no UTF-8 as they were."""
    (tmp_path / "x.json").write_bytes(b'{"argv": ["\xff"]}')
    assert read_object(tmp_path / "x.json") == {"argv": ["\udcff"]}
