"""Read command lines as getopt_long does: abbreviations, --name=value, -nvalue, bundled flags."""

from __future__ import annotations

from collections.abc import Mapping


class UsageError(Exception):
    """A command line that the real client refuses; its text goes to stderr."""


def table(text: str) -> dict[str, str]:
    """Return the pairs of `a=array o=output`."""
    return dict(pair.split("=") for pair in text.split())


def words(text: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(text.split())


def parse(
    program: str,
    arguments: list[str],
    short: Mapping[str, str],
    flags: frozenset[str],
    valued: frozenset[str],
    optional: frozenset[str] = frozenset(),
    accept_unknown: bool = False,
    permute: bool = True,
) -> tuple[list[tuple[str, str]], list[str]]:
    """Return (option, value) pairs in order, and the operands; `permute` lets options follow operands."""
    found: list[tuple[str, str]] = []
    operands: list[str] = []
    names = flags | valued | optional
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        position += 1
        if argument == "--":
            return found, operands + arguments[position:]
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            name = _full_name(program, name, names, accept_unknown)
            if name in flags and equals:
                raise UsageError(f"{program}: option '--{name}' doesn't allow an argument")
            if name in valued and not equals:
                if position == len(arguments):
                    raise UsageError(f"{program}: option '--{name}' requires an argument")
                value = arguments[position]
                position += 1
            found.append((name, value))
        elif len(argument) > 1 and argument[0] == "-":
            letters = argument[1:]
            while letters:
                letter, letters = letters[0], letters[1:]
                name = short.get(letter, "")
                if not name:
                    raise UsageError(f"{program}: invalid option -- '{letter}'")
                if name in flags:
                    found.append((name, ""))
                    continue
                if not letters and name in valued:
                    if position == len(arguments):
                        raise UsageError(f"{program}: option requires an argument -- '{letter}'")
                    letters = arguments[position]
                    position += 1
                found.append((name, letters))
                break
        elif permute:
            operands.append(argument)
        else:
            return found, [argument, *arguments[position:]]
    return found, operands


def _full_name(program: str, name: str, names: frozenset[str], accept_unknown: bool) -> str:
    if name in names:
        return name
    candidates = sorted(full for full in names if full.startswith(name))
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise UsageError(f"{program}: option '--{name}' is ambiguous")
    if accept_unknown:
        return name
    raise UsageError(f"{program}: unrecognized option '--{name}'")


def minutes(text: str) -> int:
    """Return the minutes of a Slurm time such as 90, 1:30:00 or 1-12; -1 for UNLIMITED; raise ValueError."""
    if text.upper() in ("UNLIMITED", "INFINITE", "-1", "0"):
        return -1
    days, dash, rest = text.partition("-")
    parts = [int(part) for part in (rest if dash else text).split(":")]
    if any(part < 0 for part in parts) or len(parts) > 3:
        raise ValueError(text)
    if dash:
        hours, mins, secs = [*parts, 0, 0][:3]
        hours += 24 * int(days)
    elif len(parts) == 3:
        hours, mins, secs = parts
    else:
        hours, (mins, secs) = 0, [*parts, 0][:2]
    return hours * 60 + mins + (1 if secs else 0)


def clock(seconds: float, padded: bool = False) -> str:
    """Return seconds as squeue prints them (5:07), or padded as sacct does (00:05:07)."""
    total = int(max(seconds, 0))
    days, total = divmod(total, 86400)
    hours, total = divmod(total, 3600)
    mins, secs = divmod(total, 60)
    if days:
        return f"{days}-{hours:02}:{mins:02}:{secs:02}"
    if padded:
        return f"{hours:02}:{mins:02}:{secs:02}"
    return f"{hours}:{mins:02}:{secs:02}" if hours else f"{mins}:{secs:02}"


def iso(moment: float, none: str) -> str:
    """Return a time in the local zone as Slurm prints it."""
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment)) if moment else none
