"""Leave out of what is kept what others shouldn't read: records of a run are for its group, and go into archives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

MASK = "***"
_WORDS = (
    r"token|secret|passw(?:or)?d|passphrase|api[_-]?key|access[_-]?key|auth[_-]?key|private[_-]?key|credential"
    r"|authorization|pgpass|pwd|(?<![^\W_])pass(?![^\W_])"
)
_NAME = rf"[\w.-]*(?:{_WORDS})[\w.-]*"
_NAMED = re.compile(
    rf"({_NAME}[\\\"']*\s*[=:]\s*)((?:bearer|basic|digest|token)\s+\S+|\"[^\"]*\"|'[^']*'|[^\s,;&]+)", re.IGNORECASE
)
_SCHEME = re.compile(r"\b(bearer\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
_OPTION = re.compile(rf"--?{_NAME}\Z", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"(\w+://[^/\s:@]*:)[^/\s@]+(?=@)|(https?://)[^/\s:@]+(?=@)")
_BY_ITS_FORM = re.compile(
    r"\b(?:gh[oprsu]_|github_pat_|gl(?:pat|rt|dt|cbt|ptt|ft|imt|agent|soat)-|hf_|sk-|gsk_|xox[abeprs]-|xapp-|npm_|pypi-"
    r"|dckr_pat_|SG\.|ya29\.)[\w.-]{16,}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"
    r"|hooks\.slack\.com/services/\S+|-----BEGIN [A-Z ]*PRIVATE KEY-----.*",
    re.DOTALL,
)
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
            hidden = _SCHEME.sub(rf"\g<1>{MASK}", hidden)
            hidden = _IN_ADDRESS.sub(rf"\g<1>\g<2>{MASK}", hidden)
            yield _BY_ITS_FORM.sub(MASK, hidden)
        before = word


def _exported(value: str) -> str:
    """Return a value of --export with the names of its variables alone."""
    shown = []
    for entry in re.findall(r"(?:[^,\"']|\"[^\"]*\"?|'[^']*'?)+", value):
        name, equals, _ = entry.partition("=")
        shown.append(f"{name}={MASK}" if equals else name if _VARIABLE.match(name) else MASK)
    return ",".join(shown)
