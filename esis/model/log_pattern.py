r"""Know what the letters in a pattern of log names mean: put values into them, and read the values of a name.

The source is sbatch(1), "filename pattern": `%A` job id of the array, `%a` index in it, `%b` index modulo 10, `%j` and
`%J` id of the task's own job, `%n` `%r` `%t` node, restart and rank, `%N` host, `%s` step, `%u` user, `%x` name of the
job. A number before the letter fills numbers up with zeros, to ten digits at most. `%%` is a percent sign; a backslash
anywhere turns all letters off. No other module knows a letter.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Union

DEFAULT = "slurm-%A_%a.out"  # where a script names none
_MARK = re.compile(r"%(\d*)([%AabJjNnrSstux])")
_NUMBERS = frozenset("AabJjnrt")
_OWN = frozenset("AJj")  # no two arrays have the same
_OF_EACH = frozenset("aJj")  # no two tasks of an array have the same
_WIDEST = 10  # digits to which Slurm fills up
UNTOLD = "%b"  # as Slurm 22.05 leaves that field


@dataclass(frozen=True)
class Reading:
    """Say what a file name tells, read by a pattern: job id of the array, index in it; None: not in the name."""

    job: str | None
    index: int | None


@dataclass(frozen=True)
class _Field:
    letter: str
    width: int = 0

    @property
    def expression(self) -> str:
        if self.letter not in _NUMBERS:
            return "[^/]+"
        width = max(1, self.width)
        number = rf"[0-9]{{{width}}}|[1-9][0-9]{{{width},}}"
        return f"(?:{number}|{UNTOLD})" if self.letter == "b" else f"(?:{number})"

    def write(self, value: str) -> str:
        return value.zfill(self.width) if self.letter in _NUMBERS and value.isdigit() else value


_Part = Union[str, _Field]


@dataclass(frozen=True)
class Pattern:
    """Hold a pattern of log names: fixed text and fields, in their order."""

    parts: tuple[_Part, ...]

    @classmethod
    def of(cls, text: str) -> Pattern:
        """Read a pattern as sbatch does; what is no field stays as it is."""
        if "\\" in text:
            return cls(_joined([text.replace("\\", "")]))
        parts: list[_Part] = []
        position = 0
        for match in _MARK.finditer(text):
            parts.append(text[position : match.start()])
            parts.append("%" if match[2] == "%" else _Field(match[2], min(int(match[1] or 0), _WIDEST)))
            position = match.end()
        return cls(_joined([*parts, text[position:]]))

    def __str__(self) -> str:
        """Return the name; a field that isn't filled stands there as its letter."""
        return "".join(part if isinstance(part, str) else f"%{part.width or ''}{part.letter}" for part in self.parts)

    @cached_property
    def letters(self) -> frozenset[str]:
        """Return the letters of the fields."""
        return frozenset(part.letter for part in self.parts if isinstance(part, _Field))

    @property
    def fixed(self) -> str | None:
        """Return the name where it is the same for all; else None."""
        return None if self.letters else str(self)

    @property
    def telling(self) -> bool:
        """Return whether a name is told from those of other files: a part that may be anything stands beside an id."""
        return self.letters <= _NUMBERS or bool(self.letters & _OWN)

    @property
    def shared(self) -> bool:
        """Return whether all tasks of an array have the same name."""
        return not self.letters & _OF_EACH

    def filled(self, values: Mapping[str, str]) -> Pattern:
        """Put `values`, by letter, in; the other fields stay."""
        return Pattern(
            _joined(
                [
                    part.write(values[part.letter]) if isinstance(part, _Field) and part.letter in values else part
                    for part in self.parts
                ]
            )
        )

    def below(self, directory: str) -> Pattern:
        """Return the pattern as seen from where `directory` is; an absolute one stays."""
        absolute = self.parts and isinstance(self.parts[0], str) and self.parts[0].startswith("/")
        return self if absolute or not directory else Pattern(_joined([f"{directory.rstrip('/')}/", *self.parts]))

    def split(self) -> list[Pattern]:
        """Return the patterns of the directories and of the file, without those that mean where one is."""
        found: list[list[_Part]] = [[]]
        for part in self.parts:
            if isinstance(part, _Field):
                found[-1].append(part)
            else:
                first, *others = part.split("/")
                found[-1].append(first)
                found.extend([other] for other in others)
        names = [Pattern(_joined(parts)) for parts in found]
        return [
            name
            for position, name in enumerate(names)
            if name.fixed not in ("", ".") or (position == 0 and name.fixed == "")
        ]

    @property
    def starred(self) -> str:
        """Return the name, for people, with a star for each field."""
        return str(self.filled(dict.fromkeys(self.letters, "*")))

    def inside(self, root: str, directory: str) -> Pattern | None:
        """Return the pattern as seen from `root`, where it is as seen from `directory` in there; None: it leads out."""
        parts = self.parts
        if parts and isinstance(parts[0], str) and parts[0].startswith("/"):
            if not parts[0].startswith(f"{root}/"):
                return None
            return Pattern(_joined([parts[0][len(root) + 1 :], *parts[1:]]))
        steps = [Pattern((directory,))]
        for name in self.split():
            if name.fixed != "..":
                steps.append(name)
            elif not steps:
                return None
            else:
                steps.pop()
        joined: list[_Part] = []
        for name in steps:
            joined += ["/", *name.parts]
        return Pattern(_joined(joined[1:]))

    def wildcard(self) -> str:
        """Return a pattern of the shell for the names."""
        return "".join("*" if isinstance(part, _Field) else glob.escape(part) for part in self.parts)

    def matches(self, name: str) -> bool:
        """Return whether a name may come of it."""
        return self._compiled.fullmatch(name) is not None

    def read(self, name: str, jobs: Collection[str] = ()) -> Iterator[Reading]:
        """Yield what a name can mean, nothing where it is none; ids among `jobs` outrank those that aren't.

        That is more than one thing where fields stand side by side, as in `%A%a`.
        """
        if not self.matches(name):
            return
        found = sorted(self._readings(name), key=lambda item: (item.job or "", item.index or 0))
        yield from [item for item in found if item.job in jobs] or found

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(
            "".join(part.expression if isinstance(part, _Field) else re.escape(part) for part in self.parts)
        )

    @cached_property
    def _separate(self) -> re.Pattern[str] | None:
        """Return an expression that reads a name in the only way that there is; None where there are several ways."""
        text, seen = "", set()
        after = True  # whether a digit at this place begins a number
        for part in self.parts:
            if isinstance(part, str):
                if part[0].isdigit() and not after:
                    return None
                text += re.escape(part)
                after = not part[-1].isdigit()
                continue
            if part.letter not in _NUMBERS or part.letter == "b" or part.letter in seen or not after:
                return None
            seen.add(part.letter)
            text += f"(?P<{part.letter}>{part.expression})"
            after = False
        return re.compile(text)

    def _readings(self, name: str) -> set[Reading]:
        if self._separate is not None:
            match = self._separate.fullmatch(name)
            return {_reading(match.groupdict())} if match is not None else set()
        # All ways at once: a place in the name, and the values so far.
        ways: set[tuple[int, tuple[tuple[str, str], ...]]] = {(0, ())}
        for part in self.parts:
            further = set()
            for start, told in ways:
                if isinstance(part, str):
                    if name.startswith(part, start):
                        further.add((start + len(part), told))
                    continue
                expression = re.compile(part.expression)
                for end in range(start + 1, len(name) + 1):
                    if expression.fullmatch(name, start, end) is None:
                        continue
                    value = name[start:end].lstrip("0") or "0"
                    known = dict(told)
                    if part.letter in "Aa" and known.setdefault(part.letter, value) != value:
                        continue
                    if part.letter == "b" and value.isdigit() and known.setdefault("b", value) != value:
                        continue
                    further.add((end, tuple(sorted(known.items()))))
            ways = further
        found = (dict(told) for end, told in ways if end == len(name))
        return {_reading(told) for told in found if "b" not in told or "a" not in told or told["b"] == told["a"][-1]}


def _reading(told: Mapping[str, str]) -> Reading:
    job, index = told.get("A"), told.get("a")
    return Reading((job.lstrip("0") or "0") if job is not None else None, int(index) if index is not None else None)


def kept_apart(output: str) -> str:
    """Return a pattern that keeps the logs of several arrays apart; empty where `output` does.

    Their indices are the same, so the job's id has to be in the name.
    """
    pattern = Pattern.of(output)
    if "\\" in output:  # it would turn off the letters that are added
        output = output.replace("\\", "").replace("%", "%%")
    if pattern.letters & _OWN or output.startswith("/dev/"):
        return ""
    if "a" in pattern.letters:
        return _MARK.sub(lambda match: f"%A_{match[0]}" if match[2] == "a" else match[0], output)
    return f"{output}.%A_%a"


def _joined(parts: list[_Part]) -> tuple[_Part, ...]:
    """Return the parts without empty ones, and with neighbouring text in one."""
    found: list[_Part] = []
    for part in parts:
        if isinstance(part, str) and found and isinstance(found[-1], str):
            found[-1] += part
        elif part != "":
            found.append(part)
    return tuple(found)
