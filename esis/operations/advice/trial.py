"""Try what a batch script does with the status of its worker, without starting any program.

A copy of the script runs twice in bash, with a worker that ends with 0 and one that ends with 3. The bash is a
restricted one (`-r`): it starts nothing by path, writes no file, changes no directory; its PATH leads nowhere, and the
builtins that could reach other processes or files are switched off. Every command that isn't there, `srun` and `rm`
alike, is a function that ends with the worker's status where the worker is among its words, else with 0. Redirections
are taken out of the copy, as the restricted shell would refuse them. So all that is left of the script is its flow.

A command that runs a shell on the worker (`srun bash -c '…'`, `sh` with a here-document) ends as that shell does. What
it is given is known only once the script comes to it, so a run asks: it puts out the command's words, that text is
tried in the same way by itself, and the script runs again with the answer. A process of its own, as in earnest: what
holds around it (`set -e`, `||`) doesn't hold inside. A text of `eval` comes back without its redirections.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from esis.model.inner_shells import DETACHING, HANDLING, NAMING, OF_A_SHELL, SEVERAL, SHELLS, Inner, inner_script
from esis.model.shelltext import WORKER, without_redirections
from esis.process import capture

_SECONDS = 5.0
_FAILING = 3
_ROUNDS = 6  # until all shells inside are known
_DEEPEST = 2  # shells in shells
_MOST = 16  # shells inside of one script
_MARK = "esis-trial:"
_WORD, _LINE = "\x1f", "\x1e"  # between the words and the lines of what is asked
_PRELUDE = """\
ulimit -t 5; ulimit -f 0; ulimit -v 4000000
esis_code={code}
esis_run() {{
  local IFS=$'\\037' word called='' text='' shell='' given='' exported=''
  for word do
    case ${{word##*/}} in {shells}) shell=1;; esac
    case $word in
      *{worker}*[\\;\\|\\&\\<\\>\\(\\"\\'\\`\\ $'\\n\\t']*|*[\\;\\|\\&\\<\\>\\(\\"\\'\\`\\ $'\\n\\t']*{worker}*)
        called=1 text=1;;
      *{worker}*) called=1;;
    esac
  done
  if [ "$*" = cat ]; then
    read -r -d '' given || :
    printf %s "$given"
    return 0
  fi
  if [ -n "$shell" ]; then
    if [ -z "$called" ]; then read -r -d '' given || :; fi
    case $given in *{worker}*) called=1;; esac
    exported=$(export -pf)
    case $exported in *{worker}*) called=1;; *) exported='';; esac
  fi
  [ -n "$called" ] || return 0
  case ${{1##*/}} in
    {naming}) printf '%s\n' "${{!#}}"; return 0;;
    {handling}) return 0;;
  esac
  case "$*" in
    *find$'\\037'*-exec*$'\\037;'*|*find$'\\037'*-ok*$'\\037;'*) printf '{mark}worker\\n' >&2; return 0;;
  esac
  case $1 in [!/]*/*) word=;; *) word=${{1##*/}};; esac
  case $word in {detaching})
    case $IFS$*$IFS in
      *$'\\037'--wait$'\\037'*|*$'\\037'-W$'\\037'*|*$'\\037'*-return-child-result$'\\037'*) ;;
      *) printf '{mark}worker\\n' >&2; return 0;;
    esac;;
  esac
  if [ -z "$shell$text" ]; then printf '{mark}worker\\n' >&2; return "$esis_code"; fi
  word="$*"$'\\n\\037'"$given"$'\\n\\037'"$exported"
  case $word in
{answers}
  esac
  printf '{mark}asked %s\\n' "${{word//$'\\n'/$'\\036'}}" >&2
  return 0
}}
command_not_found_handle() {{ esis_run "$@"; }}
exec() {{ [ $# -gt 0 ] || return 0; esis_run "$@"; exit; }}
esis_end() {{
  local told=${{1-}}
  printf '{mark}end %s\\n' "${{told//$'\\n'/$'\\036'}}" >&2
}}
{functions}
eval() {{
  case "$*" in
    *{worker}*) ;;
    *) return 0;;
  esac
  case "$*" in
{evaluated}
  esac
  set -- "$*"
  printf '{mark}evaluated %s\\n' "${{1//$'\\n'/$'\\036'}}" >&2
}}
trap 'esis_end "$?"' EXIT
enable -n . alias bg bind builtin caller cd command compgen complete compopt dirs disown eval exec fc fg hash help \
history jobs kill logout mapfile popd pushd readarray source suspend ulimit unalias enable
"""
_PROTECTED = re.compile(r"(?<![\w$])(PATH|SHELL|ENV|BASH_ENV|HISTFILE|FUNCNEST)(?=\+?=)")
_CHANGING = re.compile(
    r"(?<![\\$])\$(?:\$|\{\$\}|(?:BASHPID|PPID|S?RANDOM|SECONDS|EPOCH\w+)\b"
    r"|\{(?:BASHPID|PPID|S?RANDOM|SECONDS|EPOCH\w+)\})"
)  # what two runs see differently
_BY_PATH = re.compile(r"(?<![\w.~/+-])[\w.~+-]*/[\w.~/+-]*")
_KEPT_OUT = re.compile(r"BASH_|LD_|PS4\Z|ENV\Z|SHELLOPTS\Z|PROMPT_COMMAND\Z|SLURM_")
_NUMBERS = tuple(
    f"SLURM_{name}"
    for name in (  # scripts under set -u want them to be there
        "ARRAY_TASK_ID",
        "ARRAY_TASK_COUNT",
        "ARRAY_TASK_MIN",
        "ARRAY_TASK_MAX",
        "ARRAY_JOB_ID",
        "JOB_ID",
        "JOBID",
        "CPUS_PER_TASK",
        "CPUS_ON_NODE",
        "NTASKS",
        "NNODES",
        "JOB_NUM_NODES",
        "NPROCS",
        "TASKS_PER_NODE",
        "NTASKS_PER_NODE",
        "MEM_PER_NODE",
        "MEM_PER_CPU",
        "PROCID",
        "LOCALID",
        "NODEID",
        "RESTART_COUNT",
        "ESIS_INDEX",
    )
)
_LOOP = re.compile(r"\b(?:while|until)\b|for\s*\(\(")
_BACKGROUND = re.compile(r"(?<![&|<>])&(?![&<>])")


@dataclass(frozen=True)
class Trial:
    """Hold what came of it."""

    noticed: bool  # whether the script fails where its worker does
    told_of_good: str | None  # what esis_end is called with behind a worker that ended well; None: it isn't
    told_of_bad: str | None  # the same behind one that failed
    several: bool  # whether it calls the worker several times, and goes on calling it after a failure
    inside: bool  # whether a shell inside of the script ends with 0 behind a failed worker


@dataclass(frozen=True)
class _End:
    """Hold how a copy of a script ended."""

    code: int
    calls: int
    told: str | None = None  # what esis_end was called with: the first call writes the record
    asked: frozenset[str] = frozenset()  # calls of shells whose ends aren't known yet
    evaluated: frozenset[str] = frozenset()  # texts of eval that aren't known yet


@dataclass(frozen=True)
class _Ends:
    """Hold how the copies with a good and with a bad worker ended."""

    good: _End
    bad: _End
    inside: bool = False


@dataclass(frozen=True)
class _Known:
    """Hold what earlier runs asked for; it grows from run to run."""

    answers: dict[str, _Ends]  # how a command with a shell inside ends
    evaluated: dict[str, str]  # what may be run of a text of eval


def attempt(script: str) -> Trial | None:
    """Try a rendered script in which `WORKER` is the worker; None where that tells nothing."""
    flags = _shell_flags(script)
    return None if flags is None else attempt_inner(Inner(script, tuple(flags), ()))


def attempt_inner(script: Inner) -> Trial | None:
    """Try what a shell is given; None where that tells nothing."""
    ends = _ends(script, 0)
    if ends is None or ends.good.code != 0 or not ends.good.calls or not ends.bad.calls:
        return None
    several = ends.good.calls > 1 and ends.bad.calls > 1
    return Trial(ends.bad.code != 0, ends.good.told, ends.bad.told, several, ends.inside)


def _ends(script: Inner, depth: int) -> _Ends | None:
    """Run both copies, again until all shells inside are known; None where one doesn't come to its end."""
    bash = shutil.which("bash", path="/bin:/usr/bin") or shutil.which("bash")
    body = _flow(script.text)
    if bash is None or body is None:
        return None
    argv = [bash, "--noprofile", "--norc", "-r", *script.flags]
    known = _Known({}, {})
    with tempfile.TemporaryDirectory(prefix="esis-doctor-") as scratch:  # one name, as it gets into what is asked
        for _ in range(_ROUNDS):
            good = _run(argv, _copy(script, body, known, 0), script.words[1:], Path(scratch))
            bad = good and _run(argv, _copy(script, body, known, _FAILING), script.words[1:], Path(scratch))
            if good is None or bad is None:
                return None
            asked, texts = good.asked | bad.asked, good.evaluated | bad.evaluated
            if not asked and not texts:
                lost = (end.inside or (end.bad.calls and not end.bad.code) for end in known.answers.values())
                return _Ends(good, bad, any(lost))
            if not _learn(known, asked, texts, depth):
                return None
    return None


def _learn(known: _Known, asked: frozenset[str], texts: frozenset[str], depth: int) -> bool:
    """Find out what a run asked for; return whether all of it can be known."""
    if len(asked) + len(known.answers) > _MOST or len(texts) + len(known.evaluated) > _MOST:
        return False
    for question in sorted(asked):
        answer = _answer(question, depth)
        if answer is None:
            return False
        known.answers[question] = answer
    for text in sorted(texts):
        flow = _flow(text)
        if flow is None:
            return False
        known.evaluated[text] = flow
    return True


def _flow(text: str) -> str | None:
    """Return what of a script may be run; None where it can't be."""
    body = without_redirections(text)
    return None if body is None or (_LOOP.search(body) and _BACKGROUND.search(body)) else body


def _answer(question: str, depth: int) -> _Ends | None:
    """Return how a command ends that may run a shell on the worker."""
    called, given, exported = question.rsplit(f"\n{_WORD}", 2)
    words = called.split(_WORD)
    inner = inner_script(words, given)
    if inner is not None:
        told = replace(inner, text=f"{exported}\n{inner.text}")
        return _ends(told, depth + 1) if depth < _DEEPEST else None
    if any(WORKER in word and SEVERAL.search(word) for word in words):
        return None
    calls = int(WORKER in called)
    return _Ends(_End(0, calls), _End(_FAILING * calls, calls))


def _copy(script: Inner, body: str, known: _Known, code: int) -> str:
    """Return the script that is run; all text of the user's stands behind what switches builtins off."""
    names = {text: f"esis_evaluated_{number}" for number, text in enumerate(known.evaluated)}
    whole = "\n".join([*(f"{name}() {{\n{known.evaluated[text]}\n}}" for text, name in names.items()), body])
    cases = []
    for question, ends in known.answers.items():
        end = ends.bad if code else ends.good
        marks = f"printf '{_MARK}worker\\n%.0s' {'x ' * end.calls}>&2; " if end.calls else ""
        cases.append(f"{shlex.quote(question)}) {marks}return {end.code};;")
    prelude = _PRELUDE.format(
        code=code,
        worker=WORKER,
        mark=_MARK,
        shells="|".join(sorted(SHELLS | OF_A_SHELL)),
        detaching="|".join(sorted(DETACHING)),
        naming="|".join(sorted(NAMING)),
        handling="|".join(sorted(HANDLING)),
        answers="\n".join(cases),
        evaluated="\n".join(f"{shlex.quote(text)}) {name}; return;;" for text, name in names.items()),
        functions="\n".join(
            f'{name}() {{ esis_run {name} "$@"; }}'
            for name in ["cd", ".", "source", "builtin", *sorted(set(_BY_PATH.findall(whole)))]
        ),
    )
    own_name = f"BASH_ARGV0={shlex.quote(script.words[0])}\n" if script.words else ""
    return prelude + own_name + _CHANGING.sub("1", _PROTECTED.sub(r"ESIS_\1", whole))


def _run(argv: list[str], script: str, words: Sequence[str], scratch: Path) -> _End | None:
    """Run a copy; None where it doesn't come to its end."""
    path = scratch / "script"
    path.write_text(script, "utf-8", "surrogateescape")
    env = {name: value for name, value in os.environ.items() if not _KEPT_OUT.match(name)}
    env.update(dict.fromkeys(_NUMBERS, "1"))
    env.update({name: str(scratch) for name in ("HOME", "TMPDIR", "SLURM_SUBMIT_DIR", "SLURM_TMPDIR")})
    env.update(
        {
            "PATH": str(scratch / "nothing"),
            "SHELL": "bash",
            "FUNCNEST": "8",
            "SLURM_JOB_NAME": "trial",
            "SLURM_JOB_NODELIST": "node",
            "SLURM_NODELIST": "node",
            "SLURMD_NODENAME": "node",
        }
    )
    env.setdefault("USER", "user")
    done = capture([*argv, str(path), *words], cwd=scratch, env=env, timeout=_SECONDS)
    if done.timed_out or done.code < 0:
        return None
    marks = [
        line[len(_MARK) :]
        for line in done.stderr.decode("utf-8", "surrogateescape").split("\n")
        if line.startswith(_MARK)
    ]

    def told(kind: str) -> list[str]:
        return [mark[len(kind) + 1 :].replace(_LINE, "\n") for mark in marks if mark.startswith(f"{kind} ")]

    recorded = next(iter(told("end")), None)
    asked, evaluated = frozenset(told("asked")), frozenset(told("evaluated"))
    return _End(done.code, marks.count("worker"), recorded, asked, evaluated)


def _shell_flags(script: str) -> list[str] | None:
    """Return -e and -u as far as the first line has them; None where it is another shell's script."""
    words = script.partition("\n")[0][2:].split()
    shells = [number for number, word in enumerate(words) if word.rpartition("/")[2] in SHELLS]
    if not shells:
        return None
    given = [word[1:] for word in words[shells[0] + 1 :] if re.match(r"-[A-Za-z]+\Z", word)]
    return [f"-{letter}" for letter in "eu" if any(letter in word for word in given)]
