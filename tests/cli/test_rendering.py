"""What programs read is whole and valid, whatever a parameter or a name holds; only a terminal's table is cut."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_streams import on_terminal
from tests.operations.made import make_run

ESIS = Path(sys.executable).parent / "esis"
ODD = "\udce9"
LOCALES = [{"PYTHONUTF8": "1"}, {"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}]


def esis(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a pipe."""
    return subprocess.run(
        [str(ESIS), *arguments], env={**os.environ, **(env or {})}, capture_output=True, check=False, timeout=120
    )


def shown(*arguments: str, env: dict[str, str] | None = None) -> str:
    """Return what a command prints, which has to be UTF-8."""
    done = esis(*arguments, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode("utf-8")


def nested(depth: int, value: Any) -> Any:
    for _ in range(depth):
        value = {"a": value}
    return value


def test_a_long_value_is_cut_on_a_terminal_alone(tmp_path: Path) -> None:
    long, listed = "x" * 1000, list(range(500))
    run = str(make_run(tmp_path, [{"text": long, "list": listed}], {}).path)
    (row,) = csv.DictReader(io.StringIO(shown("status", run, "--tasks", "--csv")))
    assert (row["text"], json.loads(row["list"])) == (long, listed)
    header, line = shown("status", run, "--tasks").splitlines()
    cells = dict(zip(header.split("\t"), line.split("\t")))
    assert (cells["text"], json.loads(cells["list"])) == (long, listed)
    assert shown("status", run, "--group-by", "text", "--csv").splitlines()[1].startswith(f"{long},")
    drawn = on_terminal([str(ESIS), "status", run, "--tasks"], {**os.environ, "COLUMNS": "3000"})
    assert "x" * 199 + "…" in drawn
    assert "x" * 200 not in drawn


@pytest.mark.parametrize("env", LOCALES, ids=str)
def test_json_is_valid_whatever_it_holds(tmp_path: Path, env: dict[str, str]) -> None:
    """Halves of characters, and letters that the stream's encoding hasn't."""
    run = str(make_run(tmp_path, [{"p": ODD, "ü": ["é", ODD]}, {"p": "é", "ü": []}], {}).path)
    rows = json.loads(shown("status", run, "--tasks", "--json", env=env))["rows"]
    assert [(row["p"], row["ü"]) for row in rows] == [(ODD, ["é", ODD]), ("é", [])]
    groups = json.loads(shown("status", run, "--group-by", "p", "--json", env=env))["rows"]
    assert {group["p"] for group in groups} == {ODD, "é"}


def test_f297_what_json_has_no_number_for_is_a_text(tmp_path: Path) -> None:
    """F297: as esis.export writes it; Python alone reads a bare NaN."""
    odd = [math.nan, math.inf, -math.inf, 1.5]
    run = str(make_run(tmp_path, [{"p": value, "l": [value, {"x": value}]} for value in odd], {}).path)
    texts = ["NaN", "Infinity", "-Infinity", 1.5]
    valid = json.loads(shown("status", run, "--tasks", "--json"), parse_constant=lambda word: pytest.fail(word))
    assert [row["p"] for row in valid["rows"]] == texts
    assert [row["l"] for row in valid["rows"]] == [[text, {"x": text}] for text in texts]
    groups = json.loads(
        shown("status", run, "--group-by", "p", "--json"), parse_constant=lambda word: pytest.fail(word)
    )
    assert [group["p"] for group in groups["rows"]].count("NaN") == 1


def test_csv_is_utf_8_as_that_of_an_export(tmp_path: Path) -> None:
    run = str(make_run(tmp_path, [{"p": ODD, "l": [ODD]}], {}).path)
    (row,) = csv.DictReader(io.StringIO(shown("status", run, "--tasks", "--csv")))
    assert row["p"] == "\\udce9"
    assert json.loads(row["l"]) == [ODD]
    (exported,) = csv.DictReader(io.StringIO(shown("export", run)))
    assert (exported["p"], json.loads(exported["l"])) == (row["p"], [ODD])


@pytest.mark.parametrize("env", LOCALES, ids=str)
def test_json_names_runs_of_any_name(tmp_path: Path, env: dict[str, str]) -> None:
    """Every command's; names that are no UTF-8 come back as Python has them."""
    place = tmp_path / "é" / os.fsdecode(b"\xff")
    place.mkdir(parents=True)
    run = make_run(place, [{"p": 1}], {})
    for arguments in (["status", str(run.path)], ["errors", str(run.path)], ["compact", str(run.path)]):
        assert json.loads(shown(*arguments, "--json", env=env))["run"] == str(run.path), arguments
    (found,) = json.loads(shown("list", str(place), "--json", env=env))["runs"]
    assert os.fsencode(found["path"]).startswith(os.fsencode(place))


def test_values_that_are_nested_deep_are_shown(tmp_path: Path) -> None:
    run = str(make_run(tmp_path, [{"p": nested(700, 1)}], {0: {"x": nested(700, [2])}}).path)
    assert json.loads(shown("status", run, "--tasks", "--json"))["rows"][0]["p"] == nested(700, 1)
    assert json.loads(shown("status", run, "--group-by", "p", "--json"))["rows"][0]["p"] == nested(700, 1)
    (row,) = csv.DictReader(io.StringIO(shown("status", run, "--tasks", "--csv")))
    assert json.loads(row["p"]) == nested(700, 1)
    deep = ".".join(["x"] + ["a"] * 99)
    (exported,) = csv.DictReader(io.StringIO(shown("export", run)))
    assert json.loads(exported[deep]) == nested(601, [2])
    (line,) = shown("export", run, "--format", "jsonl").splitlines()
    assert json.loads(line)[deep] == nested(601, [2])
    assert shown("export", run, "--long", "--where", "results.x != 1").count("\n") > 2
    assert esis("export", run, "-o", str(tmp_path / "x.parquet")).returncode == 0
