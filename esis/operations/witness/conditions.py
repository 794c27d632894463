"""Choose tasks: by index, by state, by an expression over their parameters."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from esis.errors import BadInput
from esis.model.parametersets import ParameterSets
from esis.model.workdir import RunDir
from esis.operations.witness.status import TaskState

_MOST_BITS = (
    1_000_000  # of an integer that an expression may make; the power of two numbers of a line can take for ever
)
_LONGEST = 10_000_000  # items or characters that it may make by repetition
_SHOWN = 300  # characters of an expression in a message
_SELF = "self"  # a name that jinja2 has another meaning for


class UnknownName(BadInput):
    """Report a name in a condition that the values at hand don't have."""


class Condition:
    """Test parameter sets by an expression like `beta>5 and L==64`.

    Evaluated by jinja2's sandbox: comparisons, arithmetic, `and`, `or`, `not`, `in`, dots for nested keys. Whatever an
    expression raises is an error of who wrote it.
    """

    def __init__(self, text: str, spaces: Collection[str] = ()) -> None:
        """Read the expression. Raises BadInput for what can't be read.

        `spaces` are names that mean the same with a dot behind them, whatever the parameters are called.
        """
        from jinja2 import TemplateError

        self._text = text
        self._spaces = spaces
        try:
            self._expression = _environment(spaces).compile_expression(text, undefined_to_none=False)
        except Exception as error:
            # Of jinja2's parser and of Python's compiler: too deep, too large.
            what = error if isinstance(error, TemplateError) else _described(error)
            raise BadInput(
                f"the condition {_short(text)} can't be read: {what}", "write it like 'beta>5 and L==64'"
            ) from None

    def __call__(
        self, parameters: Mapping[str, Any], task: int | None = None, spaces: Mapping[str, Any] | None = None
    ) -> bool:
        """Return whether a parameter set, that of `task`, fulfils it; `spaces` holds what is behind those names.

        Raises BadInput, UnknownName for a name that the parameter set doesn't have.
        """
        from jinja2 import TemplateError, UndefinedError

        values = {str(key): value for key, value in parameters.items()}
        values.update((_hidden(name), value) for name, value in (spaces or {}).items())
        if _SELF in values:
            values[_hidden(_SELF)] = values[_SELF]
        try:
            return bool(self._expression(values))
        except Exception as error:
            plain = isinstance(error, (TemplateError, TypeError, ArithmeticError))
            what = str(error) if plain else _described(error)
            for name in (_SELF, *self._spaces):
                what = what.replace(_hidden(name), name)
            known = ", ".join(sorted(map(str, parameters)))
            kind = UnknownName if isinstance(error, UndefinedError) else BadInput
            whose = f" of task {task}" if task is not None else ""
            raise kind(
                f"the condition {_short(self._text)} doesn't fit the parameters{whose}: {what}", f"they are: {known}"
            ) from None


def _hidden(name: str) -> str:
    """Return the name under which a value stands that an expression's own names can't hide."""
    return f"_esis_{name}_"


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _environment(spaces: Collection[str]) -> Any:
    """Return the sandbox in which conditions are evaluated."""
    from jinja2 import StrictUndefined, nodes
    from jinja2.sandbox import SandboxedEnvironment

    class Environment(SandboxedEnvironment):
        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: Any, symbol: str, left: Any, right: Any) -> Any:
            """Refuse what would take for ever, or all memory. Raises OverflowError."""
            _check_size(symbol, left, right)
            return super().call_binop(context, symbol, left, right)

        def _generate(self, source: nodes.Template, *arguments: Any, **more: Any) -> str:
            for node in (*source.find_all(nodes.Getattr), *source.find_all(nodes.Getitem)):
                inner = getattr(node, "node", None)
                if isinstance(inner, nodes.Name) and inner.name in spaces:
                    inner.name = _hidden(inner.name)
            for name in source.find_all(nodes.Name):
                if name.name == _SELF:
                    name.name = _hidden(_SELF)
            return super()._generate(source, *arguments, **more)

    return Environment(undefined=StrictUndefined)


def _check_size(symbol: str, left: Any, right: Any) -> None:
    """Raise OverflowError for a product or a power that nobody can mean."""
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * max(0, right) if symbol == "**" else left.bit_length() + right.bit_length()
        if bits > _MOST_BITS and abs(left) > 1:
            raise OverflowError(f"a number of {bits} bits")
    elif symbol == "*":
        for items, count in ((left, right), (right, left)):
            if (
                isinstance(items, (str, bytes, list, tuple))
                and isinstance(count, int)
                and len(items) * count > _LONGEST
            ):
                raise OverflowError(f"a text or list of {len(items) * count} items")


def matching(run: RunDir, tasks: Iterable[int], where: str | None) -> list[int]:
    """Return the tasks whose parameters fulfil the condition; all of them where there is none."""
    if where is None:
        return list(tasks)
    test = Condition(where)
    return [task for task, parameters in ParameterSets(run).iterate(tasks) if test(parameters, task)]


def state_called(name: str) -> TaskState:
    """Return the state of that name. Raises BadInput."""
    try:
        return TaskState(name)
    except ValueError:
        known = ", ".join(state.value for state in TaskState)
        raise BadInput(f"there is no state {name!r}", f"the states are: {known}") from None
