"""Tell which text a command line hands to a shell of its own: bash -c, sh with a script on its input, and the like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from esis.model.shelltext import WORKER, Quotation, quotations

SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "ksh93", "mksh"})  # whose scripts bash understands as they do
OF_A_SHELL = frozenset({"flock", "parallel", "ssh"})  # give one of their words to a shell
DETACHING = frozenset({"at", "batch", "daemonize", "gdb", "sbatch", "screen", "tmux"})  # end with 0 whatever they start
NAMING = frozenset({"basename", "readlink", "realpath"})  # tell the path of the worker, which is called later
_READING = frozenset({"cat", "dirname", "file", "grep", "head", "ls", "md5sum", "sha1sum", "sha256sum", "stat", "wc"})
HANDLING = _READING | {"chmod", "cp", "dos2unix", "install", "ln", "mv", "rsync", "scp", "sed"}
_VALUED = frozenset({"--rcfile", "--init-file"})
_DIRECTORY = re.compile(r"\$\(dirname\s[^()]*\)")
_SHOWN = re.compile(r"(?:^|[;&|(]\s*)(?:echo|printf|logger)\s[^;&|]*\Z")
_OPENED = re.compile(r"\s*exec\s+(?:\d*[<>]+\s*[^\s;&|]+\s*)+\Z")  # exec 3<file starts nothing
_PARTS = re.compile(r"(\n|;|&&|\|\||<<<|[<>]+[ \t]*\S+)")
_NO_CALL = re.compile(r"\s*(?:chmod|rm|cat|ls|cp|mv|echo|touch|[<>])")  # what is done to a script's file else
SEVERAL = re.compile(r"[;&|<>\n(\"'`]")  # where a word holds more than the call of the worker


@dataclass(frozen=True)
class Inner:
    """Hold a script that a shell inside of the script runs."""

    text: str
    flags: tuple[str, ...]  # -e, -u, -o pipefail
    words: tuple[str, ...]  # $0, $1, …
    written: bool = False  # into a file, which the script runs later
    foreign: bool = False  # given to a program of which nobody knows whether it is a shell


def inner_script(words: Sequence[str], given: str) -> Inner | None:
    """Return the script that a command runs in a shell, which may be what it is `given` as input; None: in none."""
    for number, word in enumerate(words):
        if word.rpartition("/")[2] in SHELLS:
            found = _of_options(words[number + 1 :], given)
            if found is not None:
                return found
    if any(word.rpartition("/")[2] in OF_A_SHELL for word in words):
        return next((Inner(word, (), ()) for word in words if WORKER in word and word.strip() != WORKER), None)
    return None


def _of_options(words: Sequence[str], given: str) -> Inner | None:
    """Return the script of a shell that is called with these words."""
    left = list(words)
    letters, names = "", []
    while left and re.match(r"[-+].", left[0]):
        word = left.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            del left[: word in _VALUED]
            continue
        for letter in word[1:]:
            if letter in "oO":
                names += left[:1] if word[0] == "-" else []
                del left[:1]
            elif word[0] == "-":
                letters += letter
    short = {"e": "errexit", "u": "nounset"}
    flags = [f"-{letter}" for letter, name in short.items() if letter in letters or name in names]
    flags += ["-o", "pipefail"] * ("pipefail" in names)
    if "c" in letters:
        return Inner(left[0], tuple(flags), tuple(left[1:])) if left else None
    if WORKER in given and ("s" in letters or not left):
        return Inner(given, tuple(flags), ("sh", *left))
    return None


def calling_line(script: str) -> str | None:
    """Return the first line with the worker that is no comment; what only handles its file if there is no other one."""
    lines = [line for line in script.split("\n") if WORKER in line and not line.lstrip().startswith("#")]
    calls = (
        line
        for line in lines
        if line.split()[0] not in HANDLING and WORKER in _DIRECTORY.sub("", line) and not _OPENED.match(line)
    )
    return next(calls, lines[0] if lines else None)


def first_call(script: str) -> tuple[str, Inner | None]:
    """Return the script with its worker called plainly, and the text in which it hands it to a shell, if it does.

    A text of several commands that another program is given counts too: it is likely to hand it on.
    """
    for quoted in quotations(script):
        if WORKER not in quoted.text:
            continue
        if calling_line(quoted.ahead) is not None:
            break
        name = _written_to(quoted)
        if name is not None:
            return quoted.ahead + _called_as(name, quoted.rest), _of_file(quoted.text)
        inner = _handed_on(quoted)
        if inner is not None:
            return quoted.replaced(WORKER), inner
    return script, None


def _written_to(quoted: Quotation) -> str | None:
    """Return the file that a here-document with the worker goes to, if the script runs it later."""
    line, _, later = quoted.rest.partition("\n")
    target = re.search(r">{1,2}\|?[ \t]*([^\s;&|<>()]+)", f"{quoted.opening} {line}") if quoted.document else None
    if target is None or "|" in line or WORKER not in _called_as(target[1], later):
        return None
    return target[1]


def _called_as(name: str, script: str) -> str:
    """Return the script with the worker where it runs the file of that name."""
    whole = re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])")
    pieces = _PARTS.split(script)
    return "".join(piece if _NO_CALL.match(piece) else whole.sub(WORKER, piece) for piece in pieces)


def _of_file(text: str) -> Inner:
    """Return what becomes of a script in a file: its first line may have options."""
    first = text.partition("\n")[0].split() if text.startswith("#!") else []
    flags = (f"-{letter}" for letter in "eu" if any(re.match(rf"-\w*{letter}", word) for word in first))
    return Inner(text, tuple(flags), (), written=True)


def _handed_on(quoted: Quotation) -> Inner | None:
    """Return what a shell makes of a text with the worker; None where it is a word like others."""
    words = quoted.opening.split()
    shown = _SHOWN.search(quoted.opening) is not None
    if words[-1:] == ["<<<"] or quoted.document:
        direct = inner_script([word for word in words if word != "<<<"], quoted.text)
    else:
        direct = None if shown else inner_script([*words, quoted.text], "")
    if direct is not None:
        return direct
    if quoted.document or shown:
        pieces = quoted.rest.partition("\n")[0].split("|")[1:]
        return next((found for found in (inner_script(piece.split(), quoted.text) for piece in pieces) if found), None)
    return Inner(quoted.text, (), (), foreign=True) if SEVERAL.search(quoted.text) else None
