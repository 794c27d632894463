"""The mutants of a module, made with cosmic-ray, and the list of those that are equivalent to the product."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from tests.mutants.kept import KEPT, Source

EQUIVALENT = Path(__file__).with_name("equivalent.yaml")


class Key(NamedTuple):
    """What names a mutant also when lines have moved."""

    module: str  # path in the repository
    function: str  # qualified; "" at the top of the module
    operator: str
    line: str  # without the blanks around it
    occurrence: int  # of this operator in such lines of the function

    def __str__(self) -> str:
        return f"{self.module} {self.function or '-'} {self.operator} #{self.occurrence}: {self.line}"


class Mutant(NamedTuple):
    """A mutant, and how cosmic-ray is told to make it."""

    key: Key
    number: int  # the occurrence of its operator in the module
    row: int


def mutants(module: str, text: str) -> list[Mutant]:
    """Return the mutants of a module that are worth a trial, in the order of its lines."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator

    source, tree = Source(text), get_ast(text)
    found = []
    for operator in sorted(KEPT):
        places = [
            (start, variant)
            for node in ast_nodes(tree)
            for variant, (start, _) in enumerate(get_operator(operator)().mutation_positions(node))
        ]
        counts = Counter[tuple[str, str]]()
        for number, (start, variant) in enumerate(places):
            function, line = source.function(start), source.line(start)
            occurrence = counts[function, line]
            counts[function, line] += 1
            if source.keeps(operator, start, variant):
                found.append(
                    (
                        start,
                        Mutant(Key(module, function, operator.partition("/")[2], line, occurrence), number, start[0]),
                    )
                )
    return [mutant for _, mutant in sorted(found)]


def mutated(text: str, mutant: Mutant) -> str | None:
    """Return the text of a mutant; None where it is no program, or the same one."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    changed = mutate_code(text, get_operator(f"core/{mutant.key.operator}")(), mutant.number)
    if changed is None:
        return None
    try:
        tree = ast.parse(changed)
        compile(changed, mutant.key.module, "exec")
    except (SyntaxError, ValueError):
        return None
    return str(changed) if ast.dump(tree) != ast.dump(ast.parse(text)) else None


def equivalent(path: Path = EQUIVALENT) -> Mapping[Key, str]:
    """Return the mutants that are listed, each with its reason."""
    listed: dict[Key, str] = {}
    for entry in yaml.safe_load(path.read_text("utf-8")) or ():
        for at in entry["mutants"]:
            key = Key(entry["module"], at["function"], at["operator"], at["line"], at.get("occurrence", 0))
            if key in listed:
                raise ValueError(f"listed twice: {key}")
            listed[key] = entry["reason"]
    return listed
