"""Tell what becomes of a worker's exit status in an sbatch template."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from esis.model.inner_shells import Inner, first_call
from esis.model.shelltext import WORKER
from esis.model.template import Values, is_posix_shell, render, worker_path
from esis.operations.advice.dialects import lost_in_this_shell
from esis.operations.advice.findings import Finding, note, problem
from esis.operations.advice.recorded_end import findings_on_end
from esis.operations.advice.trial import attempt, attempt_inner

_SUBJECT = "template"
_ERREXIT = re.compile(r"^\s*set\s+(?:-\w*e|.*-o\s+errexit)", re.MULTILINE)
_BETWEEN = re.compile(r";|(?<![&<>|])(&)(?![&<>\d-])")
_WAIT = r"(?:^|[;&|({]\s*|\b(?:if|elif|while|until|do|then|else|!)\s)\s*wait"
_WAITS_FOR_JOBS = re.compile(r"\b(?:wait|in)\s[^;&|\n]*(?:\$\(|`)\s*jobs\b")
_FORGOTTEN = (
    "jobs -p leaves out a worker that has ended by then, and without set -e the last one alone decides: keep each "
    'PID, pids="$pids $!", and write for p in $pids; do wait "$p" || exit; done'
)
_CLOSING = frozenset({"", ")", "}", "fi", "done", "esac"})
_INSIDE = (
    "a shell inside of it goes on behind the worker: begin its text with set -e, or let && stand between its "
    "commands; behind a pipe, set -o pipefail"
)
_FOREIGN = (
    "it stands in a text for a program that is no shell, and may end with 0 all the same: call the worker plainly"
)


def findings_on_status(text: str, path: Path) -> Iterator[Finding]:
    """Tell whether the script fails where its worker does: by trying it, else by what its lines look like."""
    values = Values("0", WORKER, 1, tasks=1, digest="0" * 64, records=False)
    script = render(text, path.name, values).text.replace(worker_path(WORKER), WORKER)
    outer, inner = first_call(script)
    lines = [line for line in outer.split("\n") if not line.lstrip().startswith("#")]
    number = next((n for n, line in enumerate(lines) if WORKER in line), None)
    if number is None:
        return
    written = inner is not None and inner.written
    trial, why = attempt(outer if written else script), _used_up(outer, lines, number)
    if trial is not None and not trial.noticed and _WAITS_FOR_JOBS.search(outer):
        yield note(_SUBJECT, f"a worker that failed may count as done: {_FORGOTTEN}")
    elif trial is not None and not trial.noticed:
        reason = _INSIDE if trial.inside else why or "its status is lost on the way"
        yield problem(
            _SUBJECT,
            f"a worker that failed counts as done: tried with one that ends with 3, the script ends with 0 ({reason})",
        )
    elif (trial is None and why) or ((trial is None or written) and _lost_inside(inner)):
        yield note(_SUBJECT, f"a worker that failed may count as done: {why or _INSIDE}")
    elif trial is None and inner is not None and inner.foreign:
        yield note(_SUBJECT, f"a worker that failed may count as done: {_FOREIGN}")
    elif trial is not None and trial.several and not _stops_on_errors(text, lines):
        yield note(_SUBJECT, "the worker is called several times, and without set -e the last call alone decides")
    for reason in lost_in_this_shell(text, _stops_on_errors(text, lines)):
        yield note(_SUBJECT, f"a worker that failed may count as done: {reason}")
    if is_posix_shell(text):
        yield from findings_on_end(text, trial)


def _used_up(text: str, lines: Sequence[str], number: int) -> str | None:
    """Return by which form of the lines the worker's status may be lost."""
    line, behind = lines[number], [other.strip() for other in lines[number + 1 :] if other.strip()]
    piped = re.search(r"(?<![|>])\|(?!\|)", line.rpartition(WORKER)[2]) is not None
    if piped and "PIPESTATUS" not in text and not re.search(r"^\s*set\s.*\bpipefail\b", text, re.MULTILINE):
        return "without set -o pipefail the status of a pipe is that of its last command"
    if re.search(r"\|\|(?!\s*(?:exit\b|return\b|false\b|\{|\w+=\$\?))", line):
        return "what stands behind || decides: || exit $? keeps its status"
    if re.search(r"\|\|\s*(?:exit|return)\b", line):
        return None
    if re.search(rf"[<>]\([^()]*{WORKER}", line):
        return "nobody asks for the status of a process substitution: use a pipe and set -o pipefail"
    if re.match(r"\s*(?:if|elif|while|until|!)\s", line):
        return "if, while, until and ! use its status up: let the script exit with it"
    if re.search(r"\bfind\s.*\s-(?:exec|ok)\w*\s[^|]*;", line.partition(WORKER)[0] + line):
        return "find ends with 0 whatever -exec does: end it with + instead of \\;, or hand the names to xargs"
    waited = line.rstrip().endswith("&")
    waits = [other for other in behind if re.search(rf"{_WAIT}\b", other)]
    if waited and any(re.search(rf"{_WAIT}\s*(?:$|[;#&|])", other) for other in waits):
        return 'wait alone ends with 0: keep the PID and wait for it, pid=$! and wait "$pid"'
    if waited and not waits:
        return "nothing waits for the worker in the background: wait $! has its status"
    if waited:
        if _ends_with_it([waits[-1], behind[-1]]):
            return None
        behind = [other for other in behind if other not in waits and not re.match(r"\w+=\$!", other)]
    if behind and not _stops_on_errors(text, lines[:number]) and not _ends_with_it(behind):
        return (
            f"without set -e the exit status is that of the last line ({behind[-1][:40]!r}), mostly 0: write "
            "set -e above"
        )
    return None


def _ends_with_it(behind: Sequence[str]) -> bool:
    """Return whether the status is kept, and the script ends with it."""
    kept = re.search(r"(?:^|[\s;&|])(\w+)=\$\?", behind[0])
    return kept is not None and re.match(rf"exit\s+[\"']?\$\{{?{kept.group(1)}\b", behind[-1]) is not None


def _lost_inside(inner: Inner | None) -> bool:
    """Return whether a shell inside may end with 0 behind a failed worker: tried by itself, else by its lines."""
    if inner is None:
        return False
    trial = attempt_inner(inner)
    if trial is not None:
        return not trial.noticed
    options = f"set {' '.join(inner.flags)}\n" if inner.flags else ""
    text = options + _BETWEEN.sub(lambda found: f"{found[1] or ''}\n", inner.text)
    lines = [line for line in text.split("\n") if line.strip() not in _CLOSING]
    number = next((n for n, line in enumerate(lines) if WORKER in line), None)
    return number is not None and _used_up(text, lines, number) is not None


def _stops_on_errors(text: str, lines: Sequence[str]) -> bool:
    return bool(_ERREXIT.search("\n".join(lines)) or re.match(r"#!\S+(?:\s+\S+)?\s+-\w*e", text))
