"""Tell what a script says in bash's words where another shell runs it, which goes on without a word or with one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from esis.model.template import interpreter

# What holds nothing for the script's own shell: comments, what is quoted, here-documents, sums. What stands in double
# quotation marks is read all the same for its variables.
_PASSED = re.compile(
    r"""
    \\[^\n] | (?:^|(?<=[\s;&|()]))\#[^\n]* | '[^']*' | (?P<open>"(?:\\.|[^"\\])*") | \$\(\([^\n]*?\)\)
    | (?<!<)<<-?[ \t]*(?P<mark>['"]?)\\?(?P<word>[\w.+-]+)(?P=mark)[^\n]*\n.*?^\t*(?P=word)$
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
_BEGIN = r"(?:^|[;&|(!]|\b(?:if|elif|while|until|then|do|else)\b)\s*"
# What a POSIX shell takes for a command that isn't there, for `&` and another command, or for an empty text. All else
# of bash's is an error of syntax there: the script fails, and says so.
_OF_BASH = {
    "[[": re.compile(rf"{_BEGIN}\[\[\s"),
    "((": re.compile(rf"{_BEGIN}\(\("),
    "&>": re.compile(r"(?<![<>&])&>"),
    "PIPESTATUS": re.compile(r"\$\{?PIPESTATUS\b"),
    "trap … ERR": re.compile(rf"{_BEGIN}trap\s.*\s(?:ERR|DEBUG)\b"),
}
_OUTSIDE = ("[[", "((", "&>")  # of quotation marks
_MISSING = {"sh": tuple(_OF_BASH), "dash": tuple(_OF_BASH), "ksh": ("PIPESTATUS",), "ksh93": ("PIPESTATUS",)}
_KSH_FUNCTION = re.compile(r"^\s*function\s+\w+", re.MULTILINE)


def lost_in_this_shell(text: str, stops: bool) -> Iterator[str]:
    """Yield by which words a worker's status may be lost in the script's own shell; `stops`: it holds `set -e`."""
    shell = interpreter(text)
    lines = _PASSED.sub(lambda found: found["open"] or "''", text).split("\n")
    bare = _PASSED.sub("''", text).split("\n")
    known = [
        name
        for name in _MISSING.get(shell, ())
        if any(_OF_BASH[name].search(line) for line in (bare if name in _OUTSIDE else lines))
    ]
    if known:
        where = "sh, which isn't bash on Debian and Ubuntu," if shell == "sh" else shell
        yield f"{where} doesn't know {' and '.join(known)}, and goes on: write #!/bin/bash"
    if shell in ("ksh", "ksh93") and stops and _KSH_FUNCTION.search("\n".join(bare)):
        yield "in ksh93 set -e doesn't hold inside of what begins with `function`: write name() { …"
