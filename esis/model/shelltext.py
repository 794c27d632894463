"""Read the text of a shell script as far as a trial needs it: what is quoted, what is redirected."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

WORKER = "esis_the_worker"  # stands for the worker in a script that is tried
_HEREDOC = re.compile(r"<<(-?)\s*(?:'([^'\n]*)'|\"([^\"\n]*)\"|\\?([\w.+-]+))")
_REDIRECTION = re.compile(r"(?:&>>?|<>|<&|>&|>>|>\||[<>])[ \t]*")
_TRAP = re.compile(r"(?:^|[\s;&|({])trap\s+(?:--\s+)?\Z")
_ESCAPED = re.compile(r"\\([$`\"\\])")


@dataclass(frozen=True)
class Quotation:
    """Hold a text that a script hands on whole: what stands in quotation marks, or a here-document."""

    text: str
    opening: str  # what stands in front of it on its line
    ahead: str  # the script in front of it
    rest: str  # the script behind it
    document: bool

    def replaced(self, word: str) -> str:
        """Return the script with one word in its place."""
        return f"{self.ahead}{word}{self.rest}"


def quotations(script: str) -> Iterator[Quotation]:
    """Yield the quoted texts of a script, and its here-documents."""
    at = 0
    passed: dict[int, int] = {}  # where the texts of here-documents begin and end
    while at < len(script):
        at = passed.pop(at, at)
        letter = script[at : at + 1]
        opening = script[script.rfind("\n", 0, at) + 1 : at]
        document = _document(script, at)
        end = at + 1
        if letter == "\\":
            end += 1
        elif letter == "#" and script[at - 1 : at] in ("", " ", "\t", "\n", ";", "&", "|", "(", ")"):
            end = script.find("\n", at)
            end = end if end > 0 else len(script)
        elif document is not None:
            end, first, last, behind = document
            yield Quotation(
                script[first:last], opening, script[:at], script[end : first - 1] + script[behind:], document=True
            )
            passed[first] = behind
        elif letter in ("'", '"'):
            end = _closing(script, at)
            text = script[at + 1 : end - 1]
            yield Quotation(
                _ESCAPED.sub(r"\1", text) if letter == '"' else text, opening, script[:at], script[end:], document=False
            )
        at = end


def _document(script: str, at: int) -> tuple[int, int, int, int] | None:
    """Return where the word of a here-document ends, where its text begins and ends, and where its last line does."""
    if not script.startswith("<<", at) or script[at - 1 : at] == "<" or script.startswith("<<<", at):
        return None
    match = _HEREDOC.match(script, at)
    first = script.find("\n", at) + 1
    if match is None or not first:
        return None
    word = next(group for group in match.groups()[1:] if group is not None)
    last = re.compile(rf"^\t*{re.escape(word)}$", re.MULTILINE).search(script, first)
    return None if last is None else (match.end(), first, last.start(), last.end())


def _closing(script: str, at: int) -> int:
    """Return where the quotation that begins here is over."""
    mark = script[at]
    at += 1
    while at < len(script) and script[at] != mark:
        at += 2 if script[at] == "\\" and mark == '"' else 1
    return at + 1


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
        self._heredocs: list[tuple[str, bool, bool]] = []

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
            elif self._text.startswith("|&", self._at):
                self._at += 2
                out += "|"
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
        return text[start : self._at]

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
        if re.match(r"[<>]\(", self._text[self._at :]):
            self._at += 2
            self.commands(")")
            return out + "/dev/null"
        match = _REDIRECTION.match(self._text, self._at)
        if match is None:
            raise ValueError(self._text[self._at])
        self._at = match.end()
        if re.match(r"[<>]\(", self._text[self._at :]):
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
        word, tabs = next(word for word in match.groups()[1:] if word is not None), bool(match.group(1))
        body = re.split(rf"\n\t*{re.escape(word)}(?:\n|\Z)", self._text[self._line_end() :], maxsplit=1)[0]
        kept = WORKER in body  # it may be the script of a shell
        self._heredocs.append((word, tabs, kept))
        return match.group() if kept else ""

    def _bodies(self) -> str:
        """Pass the texts of here-documents; none but those with the worker is read by anything."""
        out = ""
        for word, tabs, kept in self._heredocs:
            while True:
                if self._at >= len(self._text):
                    raise ValueError(word)
                line = self._text[self._at : self._line_end()]
                self._at = min(self._line_end() + 1, len(self._text))
                out += f"{line}\n" if kept else ""
                if (line.lstrip("\t") if tabs else line) == word:
                    break
        self._heredocs.clear()
        return out

    def _line_end(self) -> int:
        at = self._text.find("\n", self._at)
        return at if at >= 0 else len(self._text)
