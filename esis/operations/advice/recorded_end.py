"""Tell which end an sbatch template has recorded of its task: what it calls `esis_end` with, and whether it does."""

from __future__ import annotations

import re
from collections.abc import Iterator

from esis.operations.advice.findings import Finding, note, problem
from esis.operations.advice.trial import Trial

_SUBJECT = "template"
_COMMENT = re.compile(r"(?:^|(?<=\s))#[^\n]*")
_OWN_TRAP = re.compile(
    r"\btrap\s+(?!-\s)[^\n]*?\s(?:EXIT|0)\b|^[ \t]*(?:function\s+)?TRAPEXIT\b",  # the latter is zsh's
    re.MULTILINE,
)
_TRAP = re.compile(
    r"\btrap\s+(?:--\s+)?(?:'(?P<single>[^']*)'|\"(?P<double>(?:\\.|[^\"\\])*)\"|(?P<name>[\w.-]+))"
    r"(?:\s+\w+)*?\s+(?:EXIT|0)\b",
    re.DOTALL,
)
_CALL = re.compile(
    r"(?:^|[;&|({'\"]|\b(?:then|do|else|if|!)\s)\s*esis_end\b[ \t]*(?P<told>\"[^\"\n]*\"|'[^'\n]*'|[^\s;&|()}'\"#<>]*)",
    re.MULTILINE,
)
_ESCAPED = re.compile(r"\\([\"$`\\])")
_ELSEWHERE = re.compile(  # several times, on other nodes, or in containers with processes of their own
    r"(?:^|[;&|({]|\b(?:then|do|else)\s)\s*exec\s+(?P<program>(?:[\w./-]*/)?"
    r"(?:srun|mpirun|mpiexec[\w.]*|orterun|prterun|prun|aprun|jsrun|ibrun|ssh|docker|podman|xargs|parallel))\s"
    r"[^\n;&|]*\$(?:0|\{0\}|\{?BASH_SOURCE)",
    re.MULTILINE,
)
_LATE = "esis_end $? tells the status of the command in front of it"
_INSTEAD = 'write trap \'code=$?; …; esis_end "$code"; exit "$code"\' EXIT (esis doc templates)'


def findings_on_end(text: str, trial: Trial | None) -> Iterator[Finding]:
    """Tell where the record of a task's end will be missing or wrong: by what was tried, else by the text's forms."""
    bare = _COMMENT.sub("", text)
    elsewhere = _ELSEWHERE.search(bare)
    if elsewhere is not None:
        yield problem(
            _SUBJECT,
            f"exec {elsewhere['program']} leaves nobody who records the end of a task, for this script, started again "
            "by that, can't: leave exec out, and write exit $? behind it",
        )
    if trial is None:
        yield from _by_form(bare)
        return
    good, bad = trial.told_of_good, trial.told_of_bad
    if good is None or bad is None:
        yield _never()
        return
    wordy = next((told for told in (good, bad) if not _is_number(told)), None)
    if wordy is not None:
        yield problem(_SUBJECT, f"its own {_called(wordy)}, so that its tasks count as failed: {_INSTEAD}")
    elif int(good) != 0:
        yield problem(_SUBJECT, f"a task that ended well counts as failed, as its own {_called(good)} then: {_INSTEAD}")
    elif int(bad) == 0 and trial.noticed:
        yield problem(
            _SUBJECT,
            "a worker that failed counts as done: tried with one that ends with 3, its own "
            f"{_called(bad)}, the status of another command or one from before: {_INSTEAD}",
        )


def _never() -> Finding:
    return problem(
        _SUBJECT,
        "its own EXIT trap doesn't call esis_end: no end is recorded, and without accounting a "
        "task is lost once Slurm has forgotten it (esis doc templates)",
    )


def _called(told: str) -> str:
    return f"call of esis_end tells it {told[:40]!r}" if told else "call of esis_end tells it no exit status"


def _is_number(told: str) -> bool:
    return re.fullmatch("[0-9]+", told) is not None


def _by_form(text: str) -> Iterator[Finding]:
    """Judge by what its lines look like."""
    if "esis_end" not in text:
        if _OWN_TRAP.search(text):
            yield _never()
        return
    reason = next(_reasons(text), None)
    if reason is not None:
        yield note(_SUBJECT, f"the end of its tasks may be recorded wrongly: {reason}; {_INSTEAD}")


def _reasons(text: str) -> Iterator[str]:
    """Yield why a call of `esis_end` may be told a wrong number."""
    for call in _CALL.finditer(_ESCAPED.sub(r"\1", text)):
        told = call["told"].strip("\"'")
        if "$" not in told and not _is_number(told):
            yield f"a {_called(told)}"
    for trap in _TRAP.finditer(text):
        double = trap["double"]
        if double is not None and re.search(r"esis_end[^;\n]*?(?<!\\)\$", double):
            yield "in double quotation marks $ is filled in when the trap is set"
        whole = trap["single"] or _ESCAPED.sub(r"\1", double or "") or _body(text, trap["name"] or "")
        first = _CALL.search(whole)
        if first is not None and _is_number(first["told"].strip("\"'")):
            yield f"a {_called(first['told'])} whatever became of the worker"
        if _is_late(whole):
            yield _LATE
    if _is_late(_body(text, "TRAPEXIT")):
        yield _LATE


def _body(text: str, name: str) -> str:
    """Return what a function holds, up to the first line that ends with its brace."""
    head = rf"^[ \t]*(?:function[ \t]+)?{re.escape(name)}[ \t]*(?:\([ \t]*\))?\s*\{{"
    found = re.search(rf"{head}(.*?)(?:^[ \t]*\}}|[;\s]\}}[ \t]*(?:$|;))", text, re.DOTALL | re.MULTILINE)
    return found[1] if found is not None and name else ""


def _is_late(commands: str) -> bool:
    """Return whether `$?` is asked for behind another command."""
    call = next((found for found in _CALL.finditer(commands) if "$?" in found["told"]), None)
    return call is not None and commands[: call.end()].partition("esis_end")[0].strip() != ""
