"""The graph of requirements: each workflow read once, cycles printed, an order that never runs a parent too late."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esis.errors import BadInput
from esis.model.requirements import base_name, chain, direct, key_of, resolve
from esis.model.workflow import Workflow, load

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy

RESERVED = ["README", "sbatch.sh", "includes", "parameters", "results", "cwd", "__checkpoints__", "__esis__"]


def make(directory: Path, **changes: Any) -> Path:
    """Write a workflow with its four files into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    raw: dict[str, Any] = {
        "setupscript": "setup",
        "param_generator": "gen",
        "sbatchtemplate": "template",
        "workerscript": "worker",
        **changes,
    }
    raw.setdefault("requires_names", {stored: f"r{n}" for n, stored in enumerate(raw.get("requires", ()))})
    for key in ("setupscript", "param_generator", "sbatchtemplate", "workerscript"):
        if "/" not in raw[key]:
            (directory / raw[key]).write_text(f"{directory.name}:{key}")
    path = directory / "wf.json"
    path.write_text(json.dumps(raw))
    return path


def graph(edges: dict[int, list[int]]) -> Callable[[Path], Workflow]:
    """Return a reader of workflow files that exist in memory alone: /none/<n>.json."""

    def read(path: Path) -> Workflow:
        requires = tuple(f"{below}.json" for below in edges[int(path.stem)])
        return Workflow(
            path,
            f"s{path.stem}",
            "g",
            "t",
            "w",
            requires=requires,
            requires_names={stored: f"name {stored}" for stored in requires},
        )

    return read


@st.composite
def dags(draw: st.DrawFn) -> dict[int, list[int]]:
    """Draw graphs of up to 7 workflows that have no cycle: shuffled numbers, each requiring later ones only."""
    order = draw(st.permutations(range(draw(st.integers(1, 7)))))
    return {
        number: draw(st.permutations([below for below in order[at + 1 :] if draw(st.booleans())]))
        for at, number in enumerate(order)
    }


def longest(edges: dict[int, list[int]], start: int, goal: int) -> int:
    """Try every path: the longest distance from `start` to `goal`, -1 where there is none."""
    if start == goal:
        return 0
    return max((1 + found for below in edges[start] if (found := longest(edges, below, goal)) >= 0), default=-1)


@settings(RELAXED, max_examples=60)
@given(dags(), st.data())
def test_the_order_is_by_longest_distance_then_path(edges: dict[int, list[int]], data: st.DataObject) -> None:
    """Weights are longest distances from the wanted workflow; descending, equal ones in the order of their paths."""
    wanted = data.draw(st.sampled_from(sorted(edges)))
    read = Counter[int]()
    reader = graph(edges)

    def counting(path: Path) -> Workflow:
        read[int(path.stem)] += 1
        return reader(path)

    found = chain(resolve(Path(f"/none/{wanted}.json"), counting, lambda path: path.name))
    weights = {number: longest(edges, wanted, number) for number in edges}
    expected = sorted((number for number in edges if weights[number] >= 0), key=lambda n: (-weights[n], f"/none/{n}"))
    assert [int(node.workflow.path.stem) for node in found] == expected
    assert read == Counter(expected)
    place = {number: at for at, number in enumerate(expected)}
    assert all(place[below] < place[number] for number in expected for below in edges[number])


@settings(RELAXED, max_examples=40)
@given(dags(), dags())
def test_the_hash_follows_every_requirement(one: dict[int, list[int]], other: dict[int, list[int]]) -> None:
    """Two graphs have one hash where what is reachable is the same, and otherwise different ones."""

    def reachable(edges: dict[int, list[int]]) -> dict[int, set[int]]:
        return {number: set(below) for number, below in edges.items() if longest(edges, 0, number) >= 0}

    hashes = [resolve(Path("/none/0.json"), graph(edges), lambda path: path.name).digest for edges in (one, other)]
    assert (hashes[0] == hashes[1]) == (reachable(one) == reachable(other))


def test_a_large_and_dense_graph_is_ordered_at_once() -> None:
    """Thirty workflows that all require all later ones have 2^28 paths; the order does not try them."""
    edges = {number: list(range(number + 1, 30)) for number in range(30)}
    found = chain(resolve(Path("/none/0.json"), graph(edges), lambda path: ""))
    assert [int(node.workflow.path.stem) for node in found] == list(range(29, -1, -1))


def test_a_cycle_is_printed(tmp_path: Path) -> None:
    """The message holds the cycle and nothing of the way to it, and what to do."""
    start = make(tmp_path / "start", requires=["../a/wf.json"])
    a = make(tmp_path / "a", requires=["../b/wf.json"])
    b = make(tmp_path / "b", requires=["../c/../a/wf.json"])
    (tmp_path / "c").mkdir()
    with pytest.raises(BadInput) as caught:
        resolve(start)
    assert caught.value.message == f"the requirements form a cycle: {a} -> {b} -> {a}"
    assert "requires" in (caught.value.advice or "")


def test_a_workflow_that_requires_itself_is_a_cycle(tmp_path: Path) -> None:
    """The shortest cycle, also through a symbolic link to the directory."""
    path = make(tmp_path / "a", requires=["../link/wf.json"])
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(BadInput, match="cycle") as caught:
        resolve(path)
    assert f"{path} -> {path}" in str(caught.value)


def test_a_diamond_is_read_and_hashed_once(tmp_path: Path) -> None:
    """However many ways lead to a workflow, its file and its scripts are read once, so it has one hash."""
    make(tmp_path / "base")
    make(tmp_path / "left", requires=["../base/wf.json"])
    make(tmp_path / "right", requires=["./../right/../base/wf.json"])
    top = make(tmp_path / "top", requires=["../left/wf.json", "../right/wf.json", "../base/wf.json"])
    reads, hashes = Counter[str](), Counter[str]()

    def read(path: Path) -> Workflow:
        reads[os.path.realpath(path)] += 1
        return load(path)

    def hash_of(path: Path) -> str:
        hashes[os.path.realpath(path)] += 1
        return "00"

    node = resolve(top, read, hash_of)
    assert set(reads.values()) == {1}
    assert set(hashes.values()) == {1}
    assert (len(reads), len(hashes)) == (4, 16)
    order = chain(node)
    assert [item.workflow.path.parent.name for item in order] == ["base", "left", "right", "top"]
    assert {below.run for item in order for below in direct(item) if below.workflow.path.parent.name == "base"} == {
        order[0].run
    }


def test_a_frozen_requirement_is_not_recursed_into(tmp_path: Path) -> None:
    """Its scripts may be gone and its own requirements broken: the pin alone counts, in its own workdirpath."""
    make(tmp_path / "old", requires=["../nowhere/wf.json"], workdirpath="../scratch")
    for name in ("setup", "gen", "template", "worker"):
        (tmp_path / "old" / name).unlink()
    top = make(tmp_path / "top", requires=["../old/wf.json"], freeze_requirements={"../old/wf.json": "ab" * 32})
    node = resolve(top)
    (requirement,) = node.requirements
    assert requirement.frozen
    assert requirement.run.path == tmp_path.resolve() / "scratch" / f"wrkdir.{'ab' * 32}"
    assert f"../old/wf.json:{'ab' * 32}" in node.status_text.splitlines()
    assert chain(node) == [node]
    assert list(direct(node)) == []


def test_a_cycle_through_a_pin_is_none(tmp_path: Path) -> None:
    """A pinned requirement never runs, so it can close no circle."""
    make(tmp_path / "a", requires=["../b/wf.json"])
    top = make(tmp_path / "b", requires=["../a/wf.json"], freeze_requirements={"../a/wf.json": "ab" * 32})
    assert len(chain(resolve(top))) == 1


def test_a_missing_requirement_is_named(tmp_path: Path) -> None:
    """A requirement whose workflow file is gone is bad input that names the file."""
    top = make(tmp_path / "top", requires=["../gone/wf.json"])
    with pytest.raises(BadInput, match=r"gone/wf\.json"):
        resolve(top)


def test_a_requirement_without_a_name_is_refused(tmp_path: Path) -> None:
    """The generator could not find it."""
    make(tmp_path / "a")
    top = make(tmp_path / "top", requires=["../a/wf.json"], requires_names={})
    with pytest.raises(BadInput, match="requires_names has no name"):
        resolve(top)


def test_two_requirements_of_one_name_are_refused(tmp_path: Path) -> None:
    """The generator finds requirements by name, so a name means one."""
    make(tmp_path / "a")
    make(tmp_path / "b")
    top = make(
        tmp_path / "top",
        requires=["../a/wf.json", "../b/wf.json"],
        requires_names={"../a/wf.json": "same", "../b/wf.json": "same"},
    )
    with pytest.raises(BadInput, match="two requirements are called 'same'"):
        resolve(top)


@pytest.mark.parametrize(
    "changes",
    [
        {"workerscript": "../other/setup"},
        {"workerscript": "./setup"},
        {"param_includes": ["a/data", "b/data"]},
        {"param_includes": ["a/data", "b/data/"]},
        {"param_includes": ["a/data", "b/data/."]},
    ],
)
def test_f40_two_files_of_one_base_name_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    """F40: two files that would meet under one name in the working directory are both named."""
    path = make(tmp_path / "wf", **changes)
    with pytest.raises(BadInput, match="same base name") as caught:
        resolve(path)
    for stored in [*changes.get("param_includes", ["setup"])]:
        assert repr(stored) in str(caught.value)


def test_f40_a_script_and_an_include_may_share_a_name(tmp_path: Path) -> None:
    """They are copied to different places."""
    path = make(tmp_path / "wf", param_includes=["setup"])
    assert resolve(path).digest


@pytest.mark.parametrize("name", RESERVED)
@pytest.mark.parametrize("key", ["setupscript", "param_generator", "sbatchtemplate", "workerscript"])
def test_names_of_esis_are_refused(tmp_path: Path, key: str, name: str) -> None:
    """A script may not have the name of something that ESIS itself puts into the working directory."""
    path = make(tmp_path / "wf", **{key: name})
    with pytest.raises(BadInput, match="ESIS itself"):
        resolve(path)


def test_names_of_esis_are_fine_for_includes(tmp_path: Path) -> None:
    """Includes have a directory of their own."""
    (tmp_path / "wf").mkdir()
    (tmp_path / "wf" / "README").write_text("")
    assert resolve(make(tmp_path / "wf", param_includes=["README"])).digest


@pytest.mark.parametrize("stored", [".", "..", "/", "a/..", "../"])
def test_f39_a_path_without_a_base_name_is_refused(tmp_path: Path, stored: str) -> None:
    """F39: there must be a name to copy it under."""
    with pytest.raises(BadInput, match="no base name"):
        resolve(make(tmp_path / "wf", param_includes=[stored]))


def test_base_names() -> None:
    """Trailing slashes and dots don't hide the name."""
    assert [base_name(stored) for stored in ("a/b", "a/b/", "./b", "../x/./b", "/b", "-b", "a/ b ")] == [
        "b",
        "b",
        "b",
        "b",
        "b",
        "-b",
        " b ",
    ]


def test_a_workflow_is_itself_however_it_is_spelt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths, dots and links to directories make no second workflow; a link to a file has its own name."""
    (tmp_path / "d").mkdir()
    (tmp_path / "l").symlink_to("d")
    monkeypatch.chdir(tmp_path)
    expected = tmp_path.resolve() / "d" / "wf.json"
    for spelt in ("d/wf.json", "l/wf.json", "./d/../l/wf.json", str(expected)):
        assert key_of(Path(spelt)) == expected
    (tmp_path / "d" / "other.json").symlink_to("wf.json")
    assert key_of(Path("d/other.json")).name == "other.json"


def test_runs_are_made_where_links_lead(tmp_path: Path) -> None:
    """A job sees its directory without links, so the run's path has none either."""
    (tmp_path / "real").mkdir()
    (tmp_path / "scratch").symlink_to("real")
    path = make(tmp_path / "wf", workdirpath="../scratch")
    assert resolve(path).run.path.parent == tmp_path.resolve() / "real"
