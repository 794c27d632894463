"""Leave out of what is kept what others shouldn't read: records of a run are for its group, and go into archives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

MASK = "***"
_NAME = r"[\w.-]*(?:token|secret|passw(?:or)?d|passphrase|api[_-]?key|access[_-]?key|private[_-]?key|credential)[\w.-]*"
_NAMED = re.compile(rf"({_NAME}[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&]+)", re.IGNORECASE)
_OPTION = re.compile(rf"--?{_NAME}\Z", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"(\w+://[^/\s:@]*:)[^/\s@]+(?=@)")
_BY_ITS_FORM = re.compile(r"\b(?:gh[oprsu]_|github_pat_|glpat-|hf_|sk-|xox[abprs]-)[\w-]{16,}"
                          r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*")
_VARIABLE = re.compile(r"[A-Za-z_]\w*\Z", re.ASCII)


def masked(words: Sequence[str]) -> tuple[str, ...]:
    """Return a command's words without the values of --export, and without what looks like a secret."""
    return tuple(_masked(words))


def has_secrets(words: Sequence[str]) -> bool:
    """Return whether something in a command's words isn't kept."""
    return masked(words) != tuple(words)


def is_masked(words: Sequence[str]) -> bool:
    """Return whether something was left out of them, so that they can't be used again."""
    return any(MASK in word for word in words)


def _masked(words: Sequence[str]) -> Iterator[str]:
    before = ""
    for word in words:
        if before == "--export":
            yield _exported(word)
        elif word.startswith("--export="):
            yield f"--export={_exported(word.partition('=')[2])}"
        elif _OPTION.match(before) and not word.startswith("-"):
            yield MASK
        else:
            hidden = _NAMED.sub(rf"\g<1>{MASK}", word)
            hidden = _IN_ADDRESS.sub(rf"\g<1>{MASK}", hidden)
            yield _BY_ITS_FORM.sub(MASK, hidden)
        before = word


def _exported(value: str) -> str:
    """Return a value of --export with the names of its variables alone."""
    shown = []
    for entry in re.findall(r"(?:[^,\"']|\"[^\"]*\"?|'[^']*'?)+", value):
        name, equals, _ = entry.partition("=")
        shown.append(f"{name}={MASK}" if equals else name if _VARIABLE.match(name) else MASK)
    return ",".join(shown)
