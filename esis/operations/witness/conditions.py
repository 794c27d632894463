"""Choose tasks: by index, by state, by an expression over their parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from esis.errors import BadInput
from esis.model.parametersets import ParameterSets
from esis.model.workdir import RunDir
from esis.operations.witness.status import TaskState


class UnknownName(BadInput):
    """Report a name in a condition that the values at hand don't have."""


def condition(text: str) -> Callable[[Mapping[str, Any]], bool]:
    """Return the test that an expression like `beta>5 and L==64` makes of a parameter set.

    Evaluated by jinja2's sandbox: comparisons, arithmetic, `and`, `or`, `not`, `in`, dots for nested keys. Raises
    BadInput for what can't be read, and UnknownName for a name that a parameter set doesn't have.
    """
    from jinja2 import StrictUndefined, TemplateError, UndefinedError
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(undefined=StrictUndefined)
    try:
        expression = environment.compile_expression(text, undefined_to_none=False)
    except TemplateError as error:
        raise BadInput(f"the condition {text!r} can't be read: {error}", "write it like 'beta>5 and L==64'") from None

    def test(parameters: Mapping[str, Any]) -> bool:
        try:
            return bool(expression(**{str(key): value for key, value in parameters.items()}))
        except (TemplateError, TypeError, ArithmeticError) as error:
            known = ", ".join(sorted(map(str, parameters)))
            kind = UnknownName if isinstance(error, UndefinedError) else BadInput
            raise kind(f"the condition {text!r} doesn't fit the parameters: {error}", f"they are: {known}") from None

    return test


def matching(run: RunDir, tasks: Iterable[int], where: str | None) -> list[int]:
    """Return the tasks whose parameters fulfil the condition; all of them where there is none."""
    if where is None:
        return list(tasks)
    test = condition(where)
    return [task for task, parameters in ParameterSets(run).iterate(tasks) if test(parameters)]


def state_called(name: str) -> TaskState:
    """Return the state of that name. Raises BadInput."""
    try:
        return TaskState(name)
    except ValueError:
        known = ", ".join(state.value for state in TaskState)
        raise BadInput(f"there is no state {name!r}", f"the states are: {known}") from None
