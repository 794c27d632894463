"""Which mutants are worth a trial: of the source alone, without cosmic-ray.

Annotations are never evaluated, marks like `*` in a signature are no operators, and most replacements of one operator
say the same: see README.md here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

KEPT = frozenset(
    f"core/{name}"
    for name in (
        "AddNot",
        "ExceptionReplacer",
        "NumberReplacer",
        "RemoveDecorator",
        "ReplaceAndWithOr",
        "ReplaceBinaryOperator_Add_Sub",
        "ReplaceBinaryOperator_BitAnd_BitOr",
        "ReplaceBinaryOperator_BitOr_BitAnd",
        "ReplaceBinaryOperator_Div_Mul",
        "ReplaceBinaryOperator_FloorDiv_Mul",
        "ReplaceBinaryOperator_Mod_Mul",
        "ReplaceBinaryOperator_Mul_Div",
        "ReplaceBinaryOperator_Sub_Add",
        "ReplaceBreakWithContinue",
        "ReplaceComparisonOperator_Eq_NotEq",
        "ReplaceComparisonOperator_GtE_Gt",
        "ReplaceComparisonOperator_GtE_Lt",
        "ReplaceComparisonOperator_Gt_GtE",
        "ReplaceComparisonOperator_Gt_LtE",
        "ReplaceComparisonOperator_IsNot_Is",
        "ReplaceComparisonOperator_Is_IsNot",
        "ReplaceComparisonOperator_LtE_Gt",
        "ReplaceComparisonOperator_LtE_Lt",
        "ReplaceComparisonOperator_Lt_GtE",
        "ReplaceComparisonOperator_Lt_LtE",
        "ReplaceComparisonOperator_NotEq_Eq",
        "ReplaceContinueWithBreak",
        "ReplaceFalseWithTrue",
        "ReplaceOrWithAnd",
        "ReplaceTrueWithFalse",
        "ReplaceUnaryOperator_Delete_Not",
        "ReplaceUnaryOperator_USub_UAdd",
        "ZeroIterationForLoop",
    )
)

# Without these a module can't be imported, or nothing in it can be called.
_STRUCTURE = {"abstractmethod", "cached_property", "classmethod", "contextmanager", "dataclass", "overload", "property"}
_STRUCTURE |= {"staticmethod"}

Place = tuple[int, int]  # line from 1 on, column in characters


@dataclass(frozen=True)
class _Span:
    start: Place
    end: Place

    def holds(self, place: Place) -> bool:
        return self.start <= place < self.end


class Source:
    """The text of a module, and what of it may be mutated."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        tree = ast.parse(text)
        self._unread = [self._span(node) for node in _annotations(tree)]
        self._binary: list[_Span] = []
        self._doubled: set[Place] = set()  # tests whose negation another operator makes
        self._functions: list[tuple[_Span, str]] = []
        self._decorators: dict[Place, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.BinOp):
                self._binary.append(_Span(self._span(node.left).end, self._span(node.right).start))
            elif isinstance(node, (ast.If, ast.While, ast.IfExp, ast.Assert)) and _is_negated_elsewhere(node.test):
                self._doubled.add(self._span(node.test).start)
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                for item in node.decorator_list:
                    name = re.match(r"[\w.]*", ast.unparse(item))
                    self._decorators[self._span(item).start] = name.group().rpartition(".")[2] if name else ""
                    if name and name.group() == "dataclass":
                        self._unread.append(self._span(item))  # frozen=True: nothing assigns, mypy sees to that
        self._name(tree, ())

    def keeps(self, operator: str, start: Place, variant: int = 0) -> bool:
        """Return whether the mutant of an operator at a place is tried; `variant`: of several there, which."""
        if operator not in KEPT or any(span.holds(start) for span in self._unread):
            return False
        if "BinaryOperator" in operator:
            return any(span.holds(start) for span in self._binary)
        if operator == "core/AddNot":
            return start not in self._doubled
        if operator == "core/RemoveDecorator":
            return self._decorators.get((start[0], start[1] + 1), "") not in _STRUCTURE
        if operator == "core/NumberReplacer" and variant == 1:
            return re.match(r"[012](\.0)?\b(?!\.\d)", self.lines[start[0] - 1][start[1] :]) is not None
        return True

    def function(self, start: Place) -> str:
        """Return the qualified name of the innermost function or class around a place; "" outside of all."""
        return max(((span.start, name) for span, name in self._functions if span.holds(start)), default=((), ""))[1]

    def line(self, start: Place) -> str:
        """Return the line of a place, without what is around it."""
        return self.lines[start[0] - 1].strip()

    def has(self, function: str, line: str) -> bool:
        """Return whether a line stands in a function."""
        spans = [span for span, name in self._functions if name == function] or [_Span((1, 0), (10**9, 0))]
        return any(
            line == text.strip() and self.function((number, len(text) - len(text.lstrip()))) == function
            for span in spans
            for number, text in enumerate(self.lines, 1)
            if span.start[0] <= number <= span.end[0]
        )

    def _name(self, node: ast.AST, path: tuple[str, ...]) -> None:
        for child in ast.iter_child_nodes(node):
            inner = path
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                inner = (*path, child.name)
                span = self._span(child)
                first = min([span.start, *(self._span(item).start for item in child.decorator_list)])
                self._functions.append((_Span((first[0], 0), span.end), ".".join(inner)))
            self._name(child, inner)

    def _span(self, node: ast.AST) -> _Span:
        return _Span(
            (node.lineno, self._characters(node.lineno, node.col_offset)),  # type: ignore[attr-defined]
            (node.end_lineno, self._characters(node.end_lineno, node.end_col_offset)),  # type: ignore[attr-defined]
        )

    def _characters(self, line: int, column: int) -> int:
        return len(self.lines[line - 1].encode()[:column].decode())


def _annotations(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.AnnAssign, ast.arg)):
            if node.annotation is not None:
                yield node.annotation
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            yield node.returns


def _is_negated_elsewhere(test: ast.expr) -> bool:
    """Return whether a test is one comparison, or a `not`: their own operators turn them round."""
    if isinstance(test, ast.UnaryOp):
        return isinstance(test.op, ast.Not)
    return isinstance(test, ast.Compare) and len(test.ops) == 1 and not isinstance(test.ops[0], (ast.In, ast.NotIn))
