"""The workflow file: nothing is lost when it is written, and what can't be read is said in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esis.errors import BadInput, EsisError, ExitCode
from esis.model.workflow import DEFAULT_NAME, OLD_NAME, Workflow, dump, freeze, load, locate, parse, require, save

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy

SCRIPTS = {"setupscript": "setup.sh", "param_generator": "gen.py", "sbatchtemplate": "t.sh", "workerscript": "w.py"}
DIGEST = "ab" * 32

stored = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), min_size=1, max_size=20)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
known_keys = {
    *SCRIPTS,
    "param_includes",
    "requires",
    "requires_names",
    "freeze_requirements",
    "maxparallel",
    "workdirpath",
    "status",
}
plain = st.text(max_size=10)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def workflows(draw: st.DrawFn) -> Workflow:
    requires = draw(st.lists(stored, unique=True, max_size=4))
    return Workflow(
        path=Path("wf.esis.json"),
        setupscript=draw(stored),
        param_generator=draw(stored),
        sbatchtemplate=draw(stored),
        workerscript=draw(stored),
        param_includes=tuple(draw(st.lists(stored, unique=True, max_size=4))),
        requires=tuple(requires),
        requires_names={name: draw(plain) for name in requires},
        freeze_requirements={name: draw(digests) for name in requires if draw(st.booleans())},
        maxparallel=draw(st.integers(0, 2**31 - 1)),
        workdirpath=draw(stored),
        extra=draw(st.dictionaries(plain.filter(lambda key: key not in known_keys), json_values, max_size=3)),
    )


def read(**changes: Any) -> Workflow:
    return parse(Path("dir/wf.json"), json.dumps({**SCRIPTS, **changes}).encode())


def refused(data: bytes, *expected: str) -> None:
    """Assert that `data` is refused in one line that names the file and all of `expected`."""
    with pytest.raises(BadInput) as caught:
        parse(Path("dir/wf.json"), data)
    line = str(caught.value)
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    assert "\n" not in line
    assert len(line) < 600
    for part in ("dir/wf.json", *expected):
        assert part in line, line


@RELAXED
@given(workflows())
def test_a_workflow_survives_its_file(made: Workflow) -> None:
    """Whatever paths and names hold, the file gives the same workflow back, unknown keys included."""
    again = parse(made.path, dump(made).encode("utf-8"))
    assert dump(again) == dump(made)
    assert {**again.extra} == {**made.extra, "status": ""}
    for key in (
        "path",
        *SCRIPTS,
        "param_includes",
        "requires",
        "requires_names",
        "freeze_requirements",
        "maxparallel",
        "workdirpath",
    ):
        assert getattr(again, key) == getattr(made, key)


def test_the_file_is_that_of_0_0_4(tmp_path: Path) -> None:
    """The keys are 0.0.4's, indented, and written atomically: no other file is left."""
    made = Workflow(tmp_path / "wf.esis.json", "s", "g", "t", "w", param_includes=("i",))
    save(made)
    assert set(json.loads(made.path.read_text())) == known_keys
    assert made.path.read_text().startswith('{\n    "')
    assert os.listdir(tmp_path) == ["wf.esis.json"]


@pytest.mark.parametrize("value", [10, "10", " 10 ", "0010"])
def test_maxparallel_may_be_a_number_or_a_numeric_string(value: object) -> None:
    """0.0.4 wrote it as it came from the command line."""
    assert read(maxparallel=value).maxparallel == 10


def test_what_may_be_left_out_has_defaults() -> None:
    """The four files are enough."""
    made = read()
    assert (made.maxparallel, made.workdirpath, made.requires, made.param_includes) == (10, "./", (), ())
    assert read(maxparallel=0).maxparallel == 0


def test_unknown_keys_are_kept(tmp_path: Path) -> None:
    """A newer or older ESIS loses nothing when this one rewrites the file."""
    made = read(future={"a": [1, None]}, status="whatever")
    save(made._replace(path=tmp_path / "x.json"))
    raw = json.loads((tmp_path / "x.json").read_text())
    assert (raw["future"], raw["status"]) == ({"a": [1, None]}, "whatever")


def test_frozen_hashes_may_carry_the_prefix_and_empty_ones_are_none() -> None:
    """`wrkdir.<hash>` means the hash; null and an empty text mean not frozen."""
    made = read(
        requires=["a", "b", "c"],
        requires_names={"a": "x", "b": "y", "c": None},
        freeze_requirements={"a": f"wrkdir.{DIGEST}", "b": "", "c": None},
    )
    assert made.freeze_requirements == {"a": DIGEST}
    assert made.requires_names == {"a": "x", "b": "y"}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "not valid JSON"),
        (b"not json", "not valid JSON"),
        (b'{"setupscript": "s"', "line 1"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b"[]", "found a list"),
        (b"null", "found None"),
        (b'"text"', "found 'text'"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b'{"x": ' + b"9" * 6000 + b"}", ""),
        (b'{"setupscript": "a", "setupscript": "b"}', "'setupscript' stands there twice"),
        (b'{"requires_names": {"q": "a", "q": "b"}}', "'q' stands there twice"),
    ],
)
def test_f37_what_is_no_workflow_file(data: bytes, expected: str) -> None:
    """F37: not JSON, another kind of value, nested too deeply, duplicate keys: one line, exit code 2."""
    refused(data, expected)


@pytest.mark.parametrize("key", SCRIPTS)
@pytest.mark.parametrize("value", [..., None, "", 3, True, ["a"], {"a": 1}, "a\nb", "a\rb", "a\0b", "\ud800"])
def test_f37_wrong_paths(key: str, value: object) -> None:
    """F37: a missing key, another type, a newline or broken Unicode is refused, and the key is named."""
    raw = {name: value for name, value in {**SCRIPTS, key: value}.items() if value is not ...}
    refused(json.dumps(raw).encode(), repr(key))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"param_includes": "a"}, ["'param_includes'", "a list of paths", "'a'"]),
        ({"param_includes": ["a", 3]}, ["'param_includes'", "3"]),
        ({"param_includes": ["a", "b", "a"]}, ["'param_includes'", "'a' twice"]),
        ({"requires": {"a": "b"}}, ["'requires'", "an object"]),
        ({"requires": ["a", "a"]}, ["'requires'", "twice"]),
        ({"requires_names": ["a"]}, ["'requires_names'", "a list"]),
        ({"requires_names": {"a": 3}}, ["'requires_names.a'", "3"]),
        ({"freeze_requirements": {"a": "abc"}}, ["'freeze_requirements'", "64 hex digits", "'abc'"]),
        ({"freeze_requirements": {"a": "AB" * 32}}, ["'freeze_requirements'"]),
        ({"maxparallel": -1}, ["'maxparallel'", "-1"]),
        ({"maxparallel": "many"}, ["'maxparallel'", "'many'"]),
        ({"maxparallel": 1.5}, ["'maxparallel'", "1.5"]),
        ({"maxparallel": True}, ["'maxparallel'", "True"]),
        ({"maxparallel": None}, ["'maxparallel'", "None"]),
        ({"maxparallel": 2**63}, ["'maxparallel'"]),
        ({"maxparallel": float("inf")}, ["'maxparallel'"]),
        ({"maxparallel": "²"}, ["'maxparallel'"]),
        ({"maxparallel": "9" * 50}, ["'maxparallel'"]),
        ({"workdirpath": 3}, ["'workdirpath'", "3"]),
        ({"workdirpath": ""}, ["'workdirpath'"]),
    ],
)
def test_f37_wrong_types(changes: dict[str, object], named: list[str]) -> None:
    """F37: file, key, what was expected and what was found stand in one line."""
    refused(json.dumps({**SCRIPTS, **changes}).encode(), *named)


@RELAXED
@given(st.dictionaries(st.sampled_from(sorted(known_keys)), json_values | st.floats() | st.text()))
def test_f37_no_value_at_all_gives_a_traceback(changes: dict[str, object]) -> None:
    """F37: whatever stands under a known key, it is a workflow or one line of BadInput."""
    try:
        made = parse(Path("wf.json"), json.dumps({**SCRIPTS, **changes}).encode())
    except BadInput as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(made.maxparallel, int)


@RELAXED
@given(st.binary(max_size=60))
def test_f37_no_bytes_at_all_give_a_traceback(data: bytes) -> None:
    """F37: arbitrary bytes are refused in one line."""
    refused(data)


def test_f37_a_file_beyond_the_limit_is_refused_at_once(tmp_path: Path) -> None:
    """F37: of a file of many gigabytes no more than the limit is read."""
    path = tmp_path / "wf.esis.json"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(BadInput, match=r"wf\.esis\.json is larger than") as caught:
        load(path)  # a terabyte is more than this machine has room for
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("absent", "no workflow file"),
        ("directory", "not a"),
        ("fifo", "not a regular file"),
        ("dangling", "no workflow file"),
    ],
)
def test_f38_what_is_no_file_is_refused_without_blocking(tmp_path: Path, kind: str, expected: str) -> None:
    """F38: a missing file, a directory, a FIFO and a link to nowhere are told in one line."""
    path = tmp_path / "wf.esis.json"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "dangling":
        path.symlink_to("nowhere")
    with pytest.raises(BadInput, match=expected):
        load(path)


@pytest.mark.parametrize("name", ["new\nline", "quo'te", "-dash", "sp ace"])
def test_f39_the_name_of_the_file_cannot_break_the_line(tmp_path: Path, name: str) -> None:
    """F39: the message stays one line, whatever the workflow file is called."""
    (tmp_path / name).write_text("{}")
    with pytest.raises(BadInput) as caught:
        load(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_the_workflow_file_is_found(tmp_path: Path) -> None:
    """A directory means the file in it; 0.0.4's name is taken, with a note, where the present one is absent."""
    assert locate(str(tmp_path)) == (tmp_path / DEFAULT_NAME, None)
    assert locate(str(tmp_path / "x.json")) == (tmp_path / "x.json", None)
    (tmp_path / OLD_NAME).write_text("{}")
    path, note = locate(str(tmp_path))
    assert path == tmp_path / OLD_NAME
    assert note is not None
    assert OLD_NAME in note
    (tmp_path / DEFAULT_NAME).write_text("{}")
    path, note = locate(str(tmp_path))
    assert path == tmp_path / DEFAULT_NAME
    assert note is not None
    assert OLD_NAME in note


def test_without_an_argument_the_present_directory_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No argument means the workflow file here."""
    monkeypatch.chdir(tmp_path)
    assert locate(None) == (Path(DEFAULT_NAME), None)
    Path(OLD_NAME).write_text("{}")
    assert locate(None)[0] == Path(OLD_NAME)


def test_requirements_have_names_of_their_own() -> None:
    """A name belongs to one requirement; requiring again renames; a missing or unknown name is told."""
    made = require(require(read(), "../a.json", "first"), "../b.json", "second")
    assert made.requires == ("../a.json", "../b.json")
    assert made.requirement_called("second") == "../b.json"
    assert require(made, "../a.json", "other").requires_names == {"../a.json": "other", "../b.json": "second"}
    assert require(made, "../a.json", "other").requires == made.requires
    with pytest.raises(BadInput, match=r"'second' belongs to the requirement \.\./b\.json"):
        require(made, "../a.json", "second")
    with pytest.raises(BadInput, match="first, second"):
        made.requirement_called("third")
    with pytest.raises(BadInput, match=r"no name for '\.\./c\.json'"):
        made.name_of("../c.json")


def test_freezing_and_unfreezing() -> None:
    """A pin is set, changed and taken away without touching others."""
    made = freeze(freeze(read(), "a", DIGEST), "b", "cd" * 32)
    assert made.freeze_requirements == {"a": DIGEST, "b": "cd" * 32}
    assert freeze(made, "a", None).freeze_requirements == {"b": "cd" * 32}
    assert freeze(read(), "a", None).freeze_requirements == {}


@pytest.mark.parametrize("changes", [{"requires_names": {"q": "\ud800"}}, {"future": "\ud800"}])
def test_f37_what_can_be_read_can_be_written(tmp_path: Path, changes: dict[str, object]) -> None:
    """F37: broken Unicode anywhere in the file is refused or kept, never an internal error later."""
    try:
        made = read(**changes)
    except EsisError:
        return
    save(made._replace(path=tmp_path / "x.json"))
