"""Whatever an expression raises is an error of who wrote it, named with the task, in bounded time and memory."""

from __future__ import annotations

from typing import Any

import pytest

from esis.errors import BadInput
from esis.operations.witness.conditions import Condition, UnknownName


@pytest.mark.parametrize(
    "text",
    [
        "name.index('x')>2",
        "'{}'.format()==name",
        "'{0.a}'.format(name)==1",
        "[1][3]>2",
        "{}['a']>2",
        "name>2",
        "n/0>1",
        "n|nothing",
        "range(1000000)|length>2",
        "name.__class__.x",
        "'%d' % name",
        "n in 3",
        "2**n**n**n>1",
        "'x'*10**9==name",
        "10**9*[1]==name",
        "n*2.0**5000>1",
    ],
)
def test_what_an_expression_raises_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput, match=r"the condition .* (can't be read|doesn't fit the parameters of task 7)"):
        Condition(text)({"name": "abc", "n": 10**5}, 7)


@pytest.mark.parametrize(
    "text",
    ["(" * 100_000, "1+" * 100_000 + "1", "not " * 100_000 + "1", "1 +" + " " * 1000],
    ids=["brackets", "terms", "negations", "half"],
)
def test_what_is_too_large_to_be_read_is_bad_input(text: str) -> None:
    """And is not repeated in full."""
    with pytest.raises(BadInput) as caught:
        Condition(text)({"n": 1})
    assert len(str(caught.value)) < 1000


def test_a_large_number_is_a_number() -> None:
    assert Condition("n*2 == 2*10**400 and 'ab'*2 == 'abab' and 2**10 == 1024 and 2**-1 == 0.5")({"n": 10**400})


@pytest.mark.parametrize("name", ["self", "super", "loop", "caller", "context", "result", "parameters", "args"])
def test_a_parameter_may_have_any_name(name: str) -> None:
    """jinja2 has another meaning for some."""
    values = {name: 3, "n": 2}
    assert Condition("n==2")(values)
    assert Condition(f"{name}>2 and n<{name}")(values)
    assert not Condition(f"{name}>3")(values)
    with pytest.raises(UnknownName, match=f"'{name}' is undefined"):
        Condition(f"not {name}")({"n": 2})


def test_a_name_of_all_values_is_hidden_by_a_dot_alone() -> None:
    spaces: dict[str, Any] = {"results": {"x": 1}}
    test = Condition("results.x == 1 and results['x'] == 1 and results == 'a/b'", ("results",))
    assert test({**spaces, "results": "a/b"}, None, spaces)
    assert Condition("'x' in results", ("results",))(spaces, None, spaces)
    with pytest.raises(UnknownName, match="no attribute 'y'"):
        Condition("results.y", ("results",))({"results": {"y": 1}}, None, spaces)
