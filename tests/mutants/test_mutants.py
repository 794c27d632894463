"""The plan and the list of equivalent mutants fit the product; what is left out says nothing (without cosmic-ray)."""

from __future__ import annotations

import pytest

from tests.mutants.kept import Source
from tests.mutants.plan import PLAN, ROOT, modules
from tests.mutants.sites import equivalent

_SAMPLE = '''\
from __future__ import annotations

LATER: int | None = None


@dataclass(frozen=True)
class Thing:
    """Hold 1 + 1."""

    size: int | None = 3

    @property
    @traced
    def double(self, *, more: int | str = 4) -> int | None:
        if self.size is None:
            return None
        if self.size in (5,) or not more:
            return self.size * 2 + 700
        return f("über", *more) + len({**self.size})
'''


def kept(operator: str, word: str, *, line: str, variant: int = 0) -> bool:
    """Return whether the mutant of an operator is kept, at a word of the first line that holds `line`."""
    lines = _SAMPLE.splitlines()
    row = next(number for number, text in enumerate(lines, 1) if line in text)
    text = lines[row - 1]
    return Source(_SAMPLE).keeps(f"core/{operator}", (row, text.index(word, text.index(line))), variant)


def test_every_module_of_the_rooms_is_in_the_plan() -> None:
    """A new module of submission, witness or records is mutated, too."""
    assert set(PLAN) == set(modules())


@pytest.mark.parametrize("module", PLAN)
def test_the_plan_names_what_exists(module: str) -> None:
    stages = PLAN[module].stages()
    assert (ROOT / module).is_file()
    assert [path for stage in stages for path in stage.paths if not (ROOT / path).is_file()] == []
    assert stages[0].name == "near"
    assert stages[-1].name == "worlds"


@pytest.mark.parametrize("line", ["LATER: ", "size: int", "def double", "-> int"])
def test_annotations_are_left_out(line: str) -> None:
    """They are never evaluated."""
    assert not kept("ReplaceBinaryOperator_BitOr_BitAnd", "|", line=line)


def test_a_star_is_no_operator() -> None:
    """Neither in a signature nor in a call, and two of them aren't in a dict."""
    assert kept("ReplaceBinaryOperator_Mul_Div", "*", line="self.size * 2")
    assert not kept("ReplaceBinaryOperator_Mul_Div", "*", line="self, *")
    assert not kept("ReplaceBinaryOperator_Mul_Div", "*", line="*more)")


def test_code_that_runs_is_kept() -> None:
    """Defaults beside an annotation, and what stands behind letters of several bytes."""
    assert kept("ReplaceBinaryOperator_Add_Sub", "+", line="+ 700")
    assert kept("ReplaceBinaryOperator_Add_Sub", "+", line="+ len")
    assert kept("NumberReplacer", "3", line="size: int")
    assert kept("NumberReplacer", "4", line="more: int")
    assert kept("ReplaceComparisonOperator_Is_IsNot", "is", line="is None:")
    assert kept("ReplaceOrWithAnd", "or", line="or not")


def test_one_of_two_that_say_the_same_is_kept() -> None:
    """`not a is b` is `a is not b`; 699 is no other bound than 701; 3 and 1 are two ways to miss 2."""
    assert not kept("AddNot", "self", line="self.size is None")
    assert kept("AddNot", "self", line="self.size in")
    assert kept("NumberReplacer", "700", line="700")
    assert not kept("NumberReplacer", "700", line="700", variant=1)
    assert kept("NumberReplacer", "2", line="2 + 700", variant=1)
    assert not kept("ReplaceBinaryOperator_Add_Pow", "+", line="+ 700")


def test_decorators_that_hold_a_module_up_stay() -> None:
    assert kept("RemoveDecorator", "@", line="@traced")
    assert not kept("RemoveDecorator", "@", line="@property")
    assert not kept("RemoveDecorator", "@", line="@dataclass")
    assert not kept("ReplaceTrueWithFalse", "True", line="@dataclass(frozen=True)")


def test_a_place_is_named_by_function_and_line() -> None:
    """So that a mutant is found again where lines were put in above it."""
    source = Source(_SAMPLE)
    assert source.function((3, 0)) == ""
    assert source.function((10, 4)) == "Thing"
    assert source.function((12, 4)) == "Thing.double"
    assert source.function((15, 8)) == "Thing.double"
    assert source.has("Thing.double", "if self.size is None:")
    assert source.has("", "LATER: int | None = None")
    assert not source.has("Thing", "if self.size is None:")
    assert not source.has("Thing.double", "if self.size is not None:")


def test_the_lines_of_listed_mutants_stand_there() -> None:
    """Who changes such a line looks at the reason again; `make mutants` compares the mutants themselves."""
    sources = {module: Source((ROOT / module).read_text("utf-8")) for module in PLAN}
    for key, reason in equivalent().items():
        assert sources[key.module].has(key.function, key.line), f"no longer there: {key}"
        assert len(reason.split()) > 3, f"no reason: {key}"
