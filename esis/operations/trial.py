"""Try what a batch script does with the status of its worker, without starting any program.

A copy of the script runs twice in bash, with a worker that ends with 0 and one that ends with 3. The bash is a
restricted one (`-r`): it starts nothing by path, writes no file, changes no directory; its PATH leads nowhere, and the
builtins that could reach other processes or files are switched off. Every command that isn't there, `srun` and `rm`
alike, is a function that ends with the worker's status where the worker is among its words, else with 0. Redirections
are taken out of the copy, as the restricted shell would refuse them. So all that is left of the script is its flow.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from esis.process import capture

WORKER = "esis_the_worker"  # stands for the worker in a script that is tried
_SECONDS = 5.0
_FAILING = 3
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "ksh93", "mksh"})  # whose scripts bash understands as they do
_MARK = "esis-trial:"
_PRELUDE = """\
ulimit -t 5; ulimit -f 0; ulimit -v 4000000
esis_code={code}
esis_run() {{
  local word
  for word do
    case $word in
      *{worker}*[\\;\\|\\&\\<\\>$'\\n']*|*[\\;\\|\\&\\<\\>$'\\n']*{worker}*) printf '{mark}unsure\\n' >&2; return 0;;
      *{worker}*) printf '{mark}worker\\n' >&2; return "$esis_code";;
    esac
  done
  return 0
}}
command_not_found_handle() {{ esis_run "$@"; }}
exec() {{ [ $# -gt 0 ] || return 0; esis_run "$@"; exit; }}
esis_end() {{ printf '{mark}end\\n' >&2; }}
{functions}
trap esis_end EXIT
enable -n . alias bg bind builtin caller cd command compgen complete compopt dirs disown eval exec fc fg hash help \
history jobs kill logout mapfile popd pushd readarray source suspend ulimit unalias enable
"""
_PROTECTED = re.compile(r"(?<![\w$])(PATH|SHELL|ENV|BASH_ENV|HISTFILE|FUNCNEST)(?=\+?=)")
_BY_PATH = re.compile(r"(?<![\w.~/+-])[\w.~+-]*/[\w.~/+-]*")
_KEPT_OUT = re.compile(r"BASH_|LD_|PS4\Z|ENV\Z|SHELLOPTS\Z|PROMPT_COMMAND\Z|SLURM_")
_NUMBERS = tuple(f"SLURM_{name}" for name in (  # scripts under set -u want them to be there
    "ARRAY_TASK_ID", "ARRAY_TASK_COUNT", "ARRAY_TASK_MIN", "ARRAY_TASK_MAX", "ARRAY_JOB_ID", "JOB_ID", "JOBID",
    "CPUS_PER_TASK", "CPUS_ON_NODE", "NTASKS", "NNODES", "JOB_NUM_NODES", "NPROCS", "TASKS_PER_NODE", "NTASKS_PER_NODE",
    "MEM_PER_NODE", "MEM_PER_CPU", "PROCID", "LOCALID", "NODEID", "RESTART_COUNT", "ESIS_INDEX"))
_HEREDOC = re.compile(r"<<(-?)\s*(?:'([^'\n]*)'|\"([^\"\n]*)\"|\\?([\w.+-]+))")
_REDIRECTION = re.compile(r"(?:&>>?|<>|<&|>&|>>|>\||[<>])[ \t]*")
_TRAP = re.compile(r"(?:^|[\s;&|({])trap\s+(?:--\s+)?\Z")
_LOOP = re.compile(r"\b(?:while|until)\b|for\s*\(\(")
_BACKGROUND = re.compile(r"(?<![&|<>])&(?![&<>])")


@dataclass(frozen=True)
class Trial:
    """Hold what came of it."""

    noticed: bool  # whether the script fails where its worker does
    recorded: bool  # whether its end would be recorded
    several: bool  # whether it calls the worker several times, and goes on calling it after a failure


def attempt(script: str) -> Trial | None:
    """Try a rendered script in which `WORKER` is the worker; None where that tells nothing."""
    bash = shutil.which("bash", path="/bin:/usr/bin") or shutil.which("bash")
    flags = _shell_flags(script)
    body = without_redirections(script)
    if bash is None or flags is None or body is None or (_LOOP.search(body) and _BACKGROUND.search(body)):
        return None
    functions = "\n".join(f"{name}() {{ esis_run {name} \"$@\"; }}" for name in
                          ["cd", ".", "source", "eval", "builtin", *sorted(set(_BY_PATH.findall(body)))])
    with tempfile.TemporaryDirectory(prefix="esis-doctor-") as scratch:
        ends = [_run([bash, "--noprofile", "--norc", "-r", *flags], body, functions, code, Path(scratch))
                for code in (0, _FAILING)]
    if any(end is None for end in ends):
        return None
    good, bad = (end for end in ends if end is not None)
    return Trial(bad.code != 0, bad.recorded, good.calls > 1 and bad.calls > 1) if good.code == 0 else None


@dataclass(frozen=True)
class _End:
    """Hold how a copy of the script ended."""

    code: int
    recorded: bool
    calls: int


def _run(bash: list[str], body: str, functions: str, code: int, scratch: Path) -> _End | None:
    """Run a copy to its end; None where it doesn't come to it, or doesn't call the worker."""
    path = scratch / f"script{code}"
    prelude = _PRELUDE.format(code=code, worker=WORKER, mark=_MARK, functions=functions)
    path.write_text(prelude + _PROTECTED.sub(r"ESIS_\1", body), "utf-8", "surrogateescape")
    env = {name: value for name, value in os.environ.items() if not _KEPT_OUT.match(name)}
    env.update(dict.fromkeys(_NUMBERS, "1"))
    env.update({name: str(scratch) for name in ("HOME", "TMPDIR", "SLURM_SUBMIT_DIR", "SLURM_TMPDIR")})
    env.update({"PATH": str(scratch / "nothing"), "FUNCNEST": "8", "SLURM_JOB_NAME": "trial",
                "SLURM_JOB_NODELIST": "node", "SLURM_NODELIST": "node", "SLURMD_NODENAME": "node"})
    env.setdefault("USER", "user")
    done = capture([*bash, str(path)], cwd=scratch, env=env, timeout=_SECONDS)
    marks = [line[len(_MARK):] for line in done.stderr.decode("utf-8", "replace").splitlines()
             if line.startswith(_MARK)]
    if done.timed_out or done.code < 0 or "worker" not in marks or "unsure" in marks:
        return None
    return _End(done.code, "end" in marks, marks.count("worker"))


def _shell_flags(script: str) -> list[str] | None:
    """Return -e and -u as far as the first line has them; None where it is another shell's script."""
    words = script.partition("\n")[0][2:].split()
    shells = [number for number, word in enumerate(words) if word.rpartition("/")[2] in _SHELLS]
    if not shells:
        return None
    given = [word[1:] for word in words[shells[0] + 1:] if re.match(r"-[A-Za-z]+\Z", word)]
    return [f"-{letter}" for letter in "eu" if any(letter in word for word in given)]


def without_redirections(script: str) -> str | None:
    """Return a shell script without redirections and comments; None where it can't be read with certainty."""
    try:
        return _Reader(script).commands("")
    except (IndexError, ValueError):
        return None


class _Reader:
    """Go once through a script; what is quoted stays as it is."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._heredocs: list[tuple[str, bool]] = []

    def commands(self, end: str) -> str:
        """Return the commands up to `end` (an empty text: of all of it), which is consumed."""
        out = ""
        depth = 0
        while self._at < len(self._text):
            letter = self._text[self._at]
            if end and letter == end and not depth:
                self._at += 1
                return out + end
            if letter == "#" and (not out or out[-1] in " \t\n;&|()"):
                self._at = self._line_end()
            elif letter == "\n":
                self._at += 1
                out += "\n" + self._bodies()
            elif self._text.startswith("((", self._at) and (not out or out[-1] in " \t\n;&|"):
                out += self._until("))")
            elif self._text.startswith("[[ ", self._at):
                out += self._until("]]")
            elif _HEREDOC.match(self._text, self._at) and not self._text.startswith("<<<", self._at):
                out += self._heredoc()
            elif self._text.startswith("<<<", self._at):
                self._at += 3
                out += "<<<"
            elif letter in "<>" or self._text.startswith("&>", self._at):
                out = self._redirection(out)
            elif letter in "'\"" and _TRAP.search(out):
                out += self._trap()
            else:
                depth += (letter == "(" and end == ")") - (letter == ")" and end == ")")
                out += self._piece()
        if end or self._heredocs:
            raise ValueError(end)
        return out

    def _piece(self) -> str:
        """Return one letter, or what belongs to it: a quotation, a substitution."""
        text, start = self._text, self._at
        letter = text[start]
        self._at += 1
        if letter == "\\":
            self._at += 1
        elif letter == "'":
            self._at = text.index("'", self._at) + 1
        elif letter == '"':
            return '"' + self._quoted()
        elif letter == "`":
            return "`" + self.commands("`")
        elif text.startswith("$((", start):
            self._at = start
            return self._until("))")
        elif text.startswith("$(", start):
            self._at += 1
            return "$(" + self.commands(")")
        elif text.startswith("${", start):
            self._at = start
            return self._until("}")
        elif text.startswith("$'", start):
            self._at += 1
            while text[self._at] != "'":
                self._at += 2 if text[self._at] == "\\" else 1
            self._at += 1
        return text[start:self._at]

    def _trap(self) -> str:
        """Return the quoted commands of a trap, which are a script of their own."""
        quoted = self._piece()
        return quoted[0] + _Reader(quoted[1:-1]).commands("") + quoted[0]

    def _quoted(self) -> str:
        """Return the rest of a text in double quotes."""
        out = ""
        while True:
            letter = self._text[self._at]
            if letter == '"':
                self._at += 1
                return out + '"'
            if letter == "'" or (letter == "$" and self._text[self._at + 1] == "'"):
                self._at += 1
                out += letter
            else:
                out += self._piece()

    def _until(self, end: str) -> str:
        """Return everything up to `end`, quotations and substitutions in it whole."""
        out = ""
        for _ in range(2 if self._text[self._at] == "$" else 1):
            out += self._text[self._at]
            self._at += 1
        while not self._text.startswith(end, self._at):
            out += self._piece()
        self._at += len(end)
        return out + end

    def _redirection(self, out: str) -> str:
        """Leave out a redirection, with the number before it and the word behind it."""
        if re.match(r"[<>]\(", self._text[self._at:]):
            self._at += 2
            self.commands(")")
            return out + "/dev/null"
        match = _REDIRECTION.match(self._text, self._at)
        if match is None:
            raise ValueError(self._text[self._at])
        self._at = match.end()
        if re.match(r"[<>]\(", self._text[self._at:]):
            self._at += 2
            self.commands(")")
        while self._at < len(self._text) and self._text[self._at] not in " \t\n;&|()<>":
            self._piece()
        return re.sub(r"(?<![^\s;&|()])(?:\d+|\{\w+\})\Z", "", out) + " "

    def _heredoc(self) -> str:
        match = _HEREDOC.match(self._text, self._at)
        if match is None:
            raise ValueError("<<")
        self._at = match.end()
        self._heredocs.append((next(word for word in match.groups()[1:] if word is not None), bool(match.group(1))))
        return ""

    def _bodies(self) -> str:
        """Pass the texts of here-documents, which nothing reads any more."""
        for word, tabs in self._heredocs:
            while True:
                if self._at >= len(self._text):
                    raise ValueError(word)
                line = self._text[self._at:self._line_end()]
                self._at = min(self._line_end() + 1, len(self._text))
                if (line.lstrip("\t") if tabs else line) == word:
                    break
        self._heredocs.clear()
        return ""

    def _line_end(self) -> int:
        at = self._text.find("\n", self._at)
        return at if at >= 0 else len(self._text)
