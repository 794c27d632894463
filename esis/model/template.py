"""Make `sbatch.sh` out of an sbatch template: shell text is written here and nowhere else.

Templates are bash, full of `${#x}` and brace text, so marks are replaced as plain text in a single pass: a mark that
stands inside a replaced value stays as it is. Templates whose name ends in `.j2` are rendered with jinja2 instead.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from esis.errors import BadInput
from esis.files import STATE_FILE_LIMIT
from esis.hook import AGAIN, FENCE_VARIABLE
from esis.model.fingerprint import open_source
from esis.model.options import Option, Unclosed, directives, last_of, script_options, words_of
from esis.model.options import header as _header
from esis.model.options import lines as _lines

ARRAY_MARK = "TASKARRAYDEFINITION"
WORKER_MARK = "WORKERSCRIPT"
DEPENDENCY_MARK = "#ESIS_PRIVATE"
JINJA_SUFFIX = ".j2"
SCRIPT_LIMIT = 4 * 1024 * 1024  # bytes; Slurm takes no larger script

_MARKS = re.compile(f"{ARRAY_MARK}|{WORKER_MARK}")
_ARRAY_OPTION = re.compile(r"(?:--array(?:\s*=\s*|\s+)|(?<!\S)-a\s*=?\s*)[\"']?\Z")
_POSIX_SHELLS = frozenset({"sh", "bash", "dash", "ksh", "ksh93", "mksh", "ash", "busybox", "zsh"})
_HOOK = """\
# ESIS writes the task records from here: __esis__/task.sh, which has to know all this. By hand a job may do without.
esis_submission={submission} esis_run={run} esis_arrays={arrays} esis_required={required} esis_mapped={mapped}
esis_offset={offset}
esis_pack={pack}
esis_script=$0 esis_whole='' esis_bound={bound} esis_ends={ends}
esis_hook=../__esis__/task.sh
[ -r "$esis_hook" ] || esis_hook="${{SLURM_SUBMIT_DIR:-..}}/../__esis__/task.sh"
if [ -f "$esis_hook" ] && [ -r "$esis_hook" ]; then . "$esis_hook"; fi
if [ "$esis_whole" = no ] || {{ [ -n "$esis_bound" ] && ! command -v esis_signalled >/dev/null; }}; then
    echo "ESIS: $esis_hook is missing, unreadable or cut, and this job can't do without" >&2
    exit {again}
fi
"""
# An EXIT trap of these shells is told 0 where an error of the shell's own (set -u, a file that can't be sourced, set -e
# behind a pipe) ends the script with another status, so scripts for them say whether they came to their end.
_SECRETIVE = frozenset({"ksh", "ksh93", "mksh"})
_END = '# ESIS: else this shell hides from the record whether the script came to its end.\nexit "$?"\n'
# A hash of the map that awk and any other language can make: exact where numbers are doubles.
_FACTOR, _MODULUS = 31, 2147483647


@dataclass(frozen=True)
class Rendered:
    """Hold a rendered script, and whether its tasks write records."""

    text: str
    records: bool
    dependency: str | None = None  # what its job waits for: as it was asked for, and as the template itself says


@dataclass(frozen=True)
class Pack:
    """Say which tasks the elements of an array work through; Slurm's index counts packs."""

    per_job: int
    parallel: int  # at a time
    first: int  # task
    last: int


@dataclass(frozen=True)
class Values:
    """Hold what goes into a template."""

    array: str  # of the first array, e.g. 0-9%10
    worker: str  # the worker's base name
    submission: int
    dependency: str | None = None  # e.g. afterok:12:13
    tasks: int = 0
    digest: str = ""
    records: bool = True  # whether the tasks are to write records
    offset: int = 0  # what the first array adds to Slurm's index
    pack: Pack | None = None
    arrays: int = 1  # of the submission
    mapped: Sequence[int] | None = None  # the list of tasks, where Slurm's indices count positions in it
    required: int = 0  # runs whose completion each job has to look at


_EXAMPLE = Values(array="0-9%10", worker="worker", submission=1, tasks=10, digest="0" * 64)
# Options that say one thing while ESIS says another, or that keep sbatch from submitting.
_REFUSED = {
    "chdir": ("takes the tasks out of cwd/, where they find ../parameters and their records", "use cd in the script"),
    "wait": ("lets sbatch block until all tasks have ended", "leave it out; esis wait does that"),
    "test-only": ("keeps sbatch from submitting", "leave it out; esis run --dry-run shows what would be submitted"),
    "autocomplete": ("lets sbatch list its options", "leave it out"),
    "external": ("makes a job that runs no script", "leave it out"),
    "hetjob": ("makes a heterogeneous job, which can't be an array", "leave it out"),
    "depend": ("outranks the dependency that ESIS sets", "write it as #SBATCH --dependency"),
    "packjob": ("makes a heterogeneous job, which can't be an array", "leave it out"),
}


def read_template(path: Path) -> str:
    """Return the text of a template; bytes that are no UTF-8 survive as surrogates. Raises BadInput."""
    with os.fdopen(open_source(path), "rb") as stream:
        data = stream.read(STATE_FILE_LIMIT + 1)
    if len(data) > SCRIPT_LIMIT:
        raise BadInput(f"{path} is larger than {SCRIPT_LIMIT} bytes", "Slurm takes no larger script")
    return data.decode("utf-8", "surrogateescape")


def is_template(path: Path) -> bool:
    """Return whether the file looks like an sbatch template: it holds the array mark, or is one of jinja2's."""
    return path.name.endswith(JINJA_SUFFIX) or ARRAY_MARK in _head(path)


def check(text: str, name: str, needs_dependency: bool = False) -> None:
    """Raise BadInput where Slurm would refuse the template, or do something else than ESIS says."""
    _check_text(text, name, needs_dependency)
    _check_options(_fill(text, name, _EXAMPLE), name, _EXAMPLE.array, needs_dependency)


def _check_text(text: str, name: str, needs_dependency: bool) -> None:
    if not text.startswith("#!"):
        raise BadInput(f"{name} doesn't start with '#!'", "Slurm refuses such scripts; begin it with #!/bin/bash")
    if "\r\n" in text:
        raise BadInput(f"{name} has DOS line ends, which Slurm refuses", f"convert it: sed -i 's/\\r$//' {name}")
    if "\0" in text:
        raise BadInput(f"{name} holds a NUL byte, so it is no script")
    if not name.endswith(JINJA_SUFFIX) and not any(ARRAY_MARK in line for line in _directives(text)):
        raise BadInput(f"{name} has no #SBATCH line with {ARRAY_MARK}", f"add: #SBATCH --array={ARRAY_MARK}")
    if needs_dependency and not has_dependency_line(text):
        raise BadInput(
            f"{name} has no line {DEPENDENCY_MARK} among its #SBATCH lines, and the workflow has requirements",
            f"add a line {DEPENDENCY_MARK}: the dependency goes there",
        )


def _check_options(script: str, name: str, array: str, depends: bool) -> None:
    """Raise BadInput where the options of a rendered script contradict those of ESIS, or sbatch won't take them."""
    of = f"{name}, rendered, line" if name.endswith(JINJA_SUFFIX) else f"{name}, line"
    for number, line in directives(script):
        try:
            words_of(line)
        except Unclosed:
            raise BadInput(f"{of} {number}: a quotation mark isn't closed", "Slurm refuses such scripts") from None
    options = script_options(script)
    marks = [number for number, line in enumerate(_header(script), 1) if line.strip() == DEPENDENCY_MARK]
    if depends and not marks:
        raise BadInput(
            f"{name}: the rendered script has no line {DEPENDENCY_MARK} among its #SBATCH lines",
            "the dependency goes there",
        )
    if not any(option.name == "array" and array in (option.value or "") for option in options):
        raise BadInput(
            f"{name}: no #SBATCH line of the rendered script holds the array {array}",
            "use {{ array }} in one: #SBATCH --array={{ array }}"
            if name.endswith(JINJA_SUFFIX)
            else f"add: #SBATCH --array={ARRAY_MARK}",
        )
    for option in options:
        trouble = _contradiction(option, array, marks[0] if depends else None)
        if trouble is not None:
            shown = (
                option.written
                if option.value is None or option.value in option.written
                else f"{option.written} {option.value}"
            )
            raise BadInput(f"{of} {option.line}: {shown} {trouble[0]}", trouble[1])


def _contradiction(option: Option, array: str, mark: int | None) -> tuple[str, str] | None:
    """Return what is wrong with an option of a script, and what to do; `mark`: where ESIS's dependency goes."""
    if option.fault:
        return option.fault, "mend that line"
    if option.name == "array" and option.value != array:
        advice = (
            f"write #SBATCH --array={ARRAY_MARK} and nothing else into it; maxparallel of the workflow limits it"
            if array in (option.value or "")
            else "leave it out"
        )
        return "contradicts the array that ESIS sets", advice
    if option.name == "dependency" and "?" in (option.value or ""):
        return "means 'or', which can't be joined with what ESIS lets the job wait for", "separate with commas"
    if option.name == "dependency" and mark is not None and option.line > mark:
        return (
            f"stands below {DEPENDENCY_MARK}, and sbatch takes the last of two dependencies",
            f"write it above {DEPENDENCY_MARK}: then the job waits for both",
        )
    return _REFUSED.get(option.name)


def has_dependency_line(text: str) -> bool:
    """Return whether the dependency has a place to go to."""
    return any(line.strip() == DEPENDENCY_MARK for line in _header(text))


def render(text: str, name: str, values: Values) -> Rendered:
    """Return the script of a submission. Raises BadInput."""
    _check_text(text, name, needs_dependency=values.dependency is not None)
    body = _fill(text, name, values)
    _check_options(body, name, values.array, values.dependency is not None)
    own = own_dependency(body)
    dependency = joined(values.dependency, own)
    if values.dependency is not None:
        body = _insert_dependency(body, dependency or "")
    hooked = values.records and is_posix_shell(body)
    script = _insert_hook(body, values) if hooked else body
    if len(script.encode("utf-8", "surrogateescape")) > SCRIPT_LIMIT:
        raise _too_large(name)
    return Rendered(script, hooked, dependency)


def _too_large(name: str) -> BadInput:
    return BadInput(f"{name}: the rendered script is larger than {SCRIPT_LIMIT} bytes, which Slurm refuses")


def own_dependency(script: str) -> str | None:
    """Return what the script itself has its job wait for."""
    own = last_of(script_options(script), "dependency")
    return own if own not in (None, "", "0") else None  # to sbatch an empty one or 0 is none at all


def joined(dependency: str | None, own: str | None) -> str | None:
    """Return a dependency on both; of several options of that name sbatch takes the last alone."""
    return ",".join(part for part in (dependency, own) if part is not None) or None


def without(dependency: str | None, own: str | None) -> str | None:
    """Return what was joined with the script's own."""
    return (dependency or "").removesuffix(own or "").removesuffix(",") or None


def is_posix_shell(text: str) -> bool:
    """Return whether the script is one for a POSIX shell, so that it can source the task hook."""
    return interpreter(text) in _POSIX_SHELLS


def interpreter(text: str) -> str:
    """Return the name of the program that a script's first line asks for; empty where it asks for none."""
    words = text.partition("\n")[0][2:].split()
    if words and words[0].rsplit("/", 1)[-1] == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    return words[0].rsplit("/", 1)[-1] if words else ""


def worker_path(worker: str) -> str:
    """Return the worker's path as a task sees it; a leading dash can't be taken for an option."""
    return f"../{worker}"


def _fill(text: str, name: str, values: Values) -> str:
    """Put the values into the places of their marks."""
    if not name.endswith(JINJA_SUFFIX):
        return _replace_marks(text, values)
    from esis.model import jinja  # seldom is a template one of jinja2's

    found = jinja.fill(
        text,
        name,
        {
            "array": values.array,
            "worker": worker_path(values.worker),
            "tasks": values.tasks,
            "submission": values.submission,
            "hash": values.digest,
        },
        SCRIPT_LIMIT,
    )
    if len(found) > SCRIPT_LIMIT:
        raise _too_large(name)
    return found


def _replace_marks(text: str, values: Values) -> str:
    lines = []
    for line in _lines(text):
        directive = line.startswith("#SBATCH")

        def replacement(match: re.Match[str], line: str = line, directive: bool = directive) -> str:
            before = line[: match.start()]
            if match.group() == WORKER_MARK:
                return _quoted(worker_path(values.worker), before)
            if directive and _ARRAY_OPTION.search(before) is None:
                return f"--array={values.array}"
            return values.array

        lines.append(_MARKS.sub(replacement, line))
    return "".join(lines)


def _quoted(path: str, before: str) -> str:
    """Quote `path` for the place behind `before`, which may be inside of quotation marks."""
    if shlex.quote(path) == path:
        return path
    state = _quote_state(before)
    if state == '"':
        return re.sub(r'([\\"$`])', r"\\\1", path)
    if state == "'":
        return path.replace("'", "'\\''")
    return shlex.quote(path)


def _quote_state(text: str) -> str:
    """Return the quotation mark that is open at the end of `text`, or an empty text."""
    state = ""
    escaped = False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\" and state != "'":
            escaped = True
        elif state == "" and character in "\"'":
            state = character
        elif character == state:
            state = ""
    return state


def without_dependency(script: str, dependency: str) -> str:
    """Return a rendered script that waits for nothing; `with_dependency` takes it back."""
    return _replace_line(script, f"#SBATCH --dependency={dependency}", DEPENDENCY_MARK)


def with_dependency(script: str, dependency: str) -> str:
    """Return a script as it was before `without_dependency`."""
    return _insert_dependency(script, dependency)


def _insert_dependency(text: str, dependency: str) -> str:
    return _replace_line(text, DEPENDENCY_MARK, f"#SBATCH --dependency={dependency}")


def _replace_line(text: str, old: str, new: str) -> str:
    """Replace the first line of the header that is `old`."""
    lines = _lines(text)
    for number, line in enumerate(_header(text)):
        if line.strip() == old:
            lines[number] = f"{new}\n"
            break
    return "".join(lines)


def _insert_hook(text: str, values: Values) -> str:
    lines = _lines(text)
    at = len(_header(text))
    if at and not lines[at - 1].endswith("\n"):
        lines[at - 1] += "\n"
    pack = values.pack
    # Each of them is set, for the environment may hold anything under these names. Not all can be checked by the hook:
    # that of an older run knows nothing of it. $0 isn't taken in there: zsh has the name of the sourced file then.
    bound = values.offset or pack is not None or values.arrays > 1 or values.mapped is not None
    hook = _HOOK.format(
        submission=f"{values.submission:04d}",
        run=shlex.quote(values.digest),
        arrays=values.arrays,
        required=values.required,
        mapped=shlex.quote("" if values.mapped is None else f"{len(values.mapped)} {checksum(values.mapped)}"),
        offset=values.offset,
        again=AGAIN,
        pack=shlex.quote("" if pack is None else f"{pack.per_job} {pack.parallel} {pack.first} {pack.last}"),
        bound="1" if bound else f"${{{FENCE_VARIABLE}:-}}",
        ends="unseen" if interpreter(text) in _SECRETIVE else "''",
    )
    if interpreter(text) in _SECRETIVE:
        lines.append(_END if lines[-1].endswith("\n") else f"\n{_END}")
    return "".join([*lines[:at], hook, *lines[at:]])


def checksum(tasks: Iterable[int]) -> int:
    """Return what the task hook compares a map with, so that no line of it can be missing or changed."""
    value = 0
    for task in tasks:
        value = (value * _FACTOR + task) % _MODULUS
    return value


def _directives(text: str) -> list[str]:
    return [line for _, line in directives(text)]


def _head(path: Path) -> str:
    try:
        return read_template(path)
    except BadInput:
        return ""
