"""Tell whether a template calls its worker as a command of its own, so that the worker has to be executable.

It has to where the shell starts it, directly or behind srun and the like; it hasn't where an interpreter reads it. Of a
line that tells neither nobody can say: what would work is never called a command.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from esis.errors import CorruptState
from esis.files import open_regular
from esis.model.inner_shells import HANDLING, first_call
from esis.model.shelltext import WORKER, quotations
from esis.model.template import JINJA_SUFFIX, WORKER_MARK, is_posix_shell
from esis.model.workflow import Workflow

_JINJA_WORKER = r"\{\{\s*worker\b.*?\}\}"
_CONTINUED = re.compile(r"(^[ \t]*#.*\n)|\\\n", re.MULTILINE)  # a comment isn't
# Behind which a command begins: not the parenthesis of an array, nor what belongs to a redirection.
_SEPARATOR = re.compile(r"[;|]|(?<![<>])&(?!>)|(?<![^\s;&|$({])[({]")
_ASSIGNMENT = re.compile(r"\w+=\S*\Z")
# A number, a time, a list of cores, or one of Slurm's numbers: the value of an option, never a program.
_AMOUNT = re.compile(r"(?:\d[\d:,.x-]*[smhdKMGT]?|\$\{?SLURM_\w+(?::-?\d+)?\}?)\Z")
_INTERPRETER = re.compile(
    r"(?:python|pypy|perl|ruby|node|lua|php|octave|tclsh|Rscript|R|julia|matlab|guile)[\d.]*(?:-cli)?\Z"
    r"|(?:ba|da|a|k|mk|z|fi|c|tc)?sh\Z|ksh93\Z|\.\Z|source\Z"
)
_LAUNCHERS = frozenset(
    {"srun", "mpirun", "mpiexec", "mpiexec.hydra", "orterun", "prterun", "ibrun", "aprun", "jsrun", "time", "env"}
    | {"nice", "timeout", "exec", "nohup", "stdbuf", "setsid", "ionice", "chrt", "taskset", "numactl", "unbuffer"}
)
_READ_BY_LAUNCHER = re.compile(r"-{1,2}(?:multi-prog|bcast|app|config-?file|(?:host|machine|rank)-?file)\b")
_KEYWORDS = frozenset({"if", "elif", "then", "else", "while", "until", "do", "!"})
_NO_CALLS = HANDLING | {"echo", "printf", "logger", ":", "test", "[", "[["}
_IN_AN_ARRAY = re.compile(rf"=\((?:[^()]|\([^()]*\))*{WORKER}")
_MAKES_EXECUTABLE = re.compile(r"\b(?:chmod|install|setfacl)\b")
_READ_LIMIT = 1024 * 1024  # bytes of a script that are looked at


class Call(Enum):
    """Say how a template calls its worker."""

    COMMAND = "as a command"
    READ = "by an interpreter"
    UNCLEAR = "nobody can tell"


def with_worker(text: str, name: str) -> str:
    """Return a template with a plain word where the worker is called, and each command on one line."""
    mark = _JINJA_WORKER if name.endswith(JINJA_SUFFIX) else WORKER_MARK
    return _CONTINUED.sub(lambda found: found[1] or " ", re.sub(mark, WORKER, text))


def call_of(text: str, name: str) -> Call:
    """Tell how the template `text` calls its worker; its `name` says whether it is one of jinja2."""
    if not is_posix_shell(text) or _MAKES_EXECUTABLE.search(text):
        return Call.UNCLEAR
    script, inner = first_call(with_worker(text, name))
    if inner is not None:
        if inner.foreign or inner.written:
            return Call.UNCLEAR
        script = inner.text
    # A here-document that goes to no shell may be a program of another language.
    if _IN_AN_ARRAY.search(script) or any(WORKER in part.text for part in quotations(script) if part.document):
        return Call.UNCLEAR
    found = {call for line in script.split("\n") for call in _calls(line)}
    return found.pop() if len(found) == 1 else Call.UNCLEAR


def _calls(line: str) -> Iterator[Call]:
    """Yield how one line calls the worker, each time it names it; nothing where it only handles the file."""
    pieces = [""] if line.lstrip().startswith("#") else line.split(WORKER)
    for before, behind in zip(pieces, pieces[1:]):
        quote = before[-1:] if before[-1:] in ("'", '"') else ""
        command = _SEPARATOR.split(before[: len(before) - len(quote)])[-1]
        if command.split()[:1] and command.split()[0] in _NO_CALLS:
            continue
        whole = (not command or command[-1].isspace()) and re.match(rf"{quote}(?:[\s;&|)]|\Z)", behind)
        closed = not any(command.count(mark) % 2 for mark in "'\"`")
        yield _call([word.strip("'\"") for word in command.split()]) if whole and closed else Call.UNCLEAR


def _call(words: list[str]) -> Call:
    """Tell how the words in front of the worker start it."""
    names = [word.rpartition("/")[2] for word in words]
    if any(_INTERPRETER.match(name) for name in names):
        return Call.READ
    launched = False
    for word, name in zip(words, names):
        if name in _LAUNCHERS:
            launched = True
        elif _ASSIGNMENT.match(word) or (not launched and word in _KEYWORDS):
            continue
        elif not launched or _READ_BY_LAUNCHER.match(word) or not (word.startswith("-") or _AMOUNT.match(word)):
            return Call.UNCLEAR
    return Call.COMMAND


def made_executable(workflow: Workflow) -> bool:
    """Return whether generator or setup script may make the run's worker executable, or put another one there."""
    worker = Path(workflow.workerscript).name
    for stored in (workflow.param_generator, workflow.setupscript):
        try:
            with open_regular(workflow.resolve(stored), whole=False) as stream:
                text = stream.read(_READ_LIMIT).decode("utf-8", "replace")
        except (CorruptState, OSError):
            return True
        if worker in text or _MAKES_EXECUTABLE.search(text) or text.startswith("\x7fELF"):
            return True
    return False
