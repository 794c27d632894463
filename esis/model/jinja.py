"""Render sbatch templates that are written for jinja2.

They are the user's own, so nothing is kept from them but the memory of a login node: a loop without an end is cut.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from esis.errors import BadInput


def fill(text: str, name: str, variables: Mapping[str, object], most: int) -> str:
    """Return the script that a template makes of its variables, or a bit more than `most` characters of it.

    Raises BadInput, also where it makes no script.
    """
    import jinja2
    from jinja2.sandbox import SandboxedEnvironment  # whose range() ends

    environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters["quote"] = quote
    try:
        found = _cut(environment.from_string(text).generate(variables), most)
        found.encode("utf-8", "surrogateescape")
    except (
        jinja2.TemplateError,
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        line = getattr(error, "lineno", None)
        where = f"{name}, line {line}" if line is not None else name
        raise BadInput(f"{where}: {error or type(error).__name__}", "esis doc templates lists the variables") from error
    if "\0" in found:
        raise BadInput(f"{name} makes a script with a NUL byte, which sbatch refuses", "take it out")
    return found


def _cut(pieces: Iterable[str], most: int) -> str:
    """Return the pieces as one text, without those behind `most` characters."""
    found: list[str] = []
    size = 0
    for piece in pieces:
        found.append(piece)
        size += len(piece)
        if size > most:
            break
    return "".join(found)


def quote(value: object) -> str:
    """Quote a value for the shell (the jinja2 filter of that name)."""
    return shlex.quote(str(value))
