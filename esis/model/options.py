"""Read options as sbatch does: in the #SBATCH lines of a script, and on its command line.

sbatch reads both with getopt_long: long names may be abbreviated, short ones bundled (`-HD /tmp`), and some take their
value from the next word. Lines of PBS and LSF count as well, and outrank #SBATCH lines. All of this was seen on Slurm
22.05, 24.11 and 26.05; the names are those of 20.11 to 26.05.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

_LINE = re.compile(r"[^\n]*\n|[^\n]+")


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ALONE = _names(  # they take no value
    "consolidate-segments contiguous external help hold ignore-pbs no-requeue overcommit oversubscribe parsable quiet "
    "reboot spread-job spread-segments stepmgr test-only usage use-min-nodes verbose version wait"
)
_OPTIONAL = _names(  # their value can't be the next word
    "exclusive get-user-env nice no-kill oom-kill-step propagate requeue resv-ports"
)
_VALUED = _names(
    "account acctg-freq array autocomplete batch bb bbf begin chdir cluster cluster-constraint clusters comment "
    "constraint container container-id container-type context core-spec cores-per-socket cpu-freq cpus-per-gpu "
    "cpus-per-task deadline delay-boot dependency distribution error exclude export export-file extra extra-node-info "
    "gid gpu-bind gpu-freq gpus gpus-per-node gpus-per-socket gpus-per-task gres gres-flags hint input job-name "
    "kill-on-invalid-dep licenses mail-type mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mem-update "
    "mincpus network nodefile nodelist nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket "
    "ntasks-per-tres open-mode output partition power prefer priority profile qos reservation resources segment signal "
    "sockets-per-node switches tasks-per-node thread-spec threads-per-core time time-min tmp tres-bind tres-per-task "
    "uid wait-all-nodes wckey wrap"
)
_SHORT = dict(
    pair.split("=")
    for pair in sorted(
        _names(
            "a=array A=account b=begin B=extra-node-info c=cpus-per-task C=constraint d=dependency D=chdir e=error "
            "F=nodefile G=gpus h=help H=hold i=input J=job-name k=no-kill L=licenses m=distribution M=clusters "
            "n=ntasks N=nodes o=output O=overcommit p=partition q=qos Q=quiet s=oversubscribe S=core-spec t=time "
            "u=usage v=verbose V=version w=nodelist W=wait x=exclude"
        )
    )
)
_LONG = _ALONE | _OPTIONAL | _VALUED
_MAGIC = ("#SBATCH", "#SLURM")  # the second one is old, and still read
_HETEROGENEOUS = frozenset({"hetjob", "packjob"})  # words, not options: a job of several parts
_OTHERS_READ = 100  # lines that are no comment, after which sbatch looks for no more #PBS and #BSUB lines
# What these lines set of what ESIS sets or reads itself. A letter without an entry takes a value and is of no interest.
_PBS = {"J": "array", "t": "array", "d": "chdir", "N": "job-name", "o": "output", "e": "error", "W": "depend"}
_PBS_LONG = {"array": "t", "job_array": "J", "job_name": "N", "out": "o", "error": "e", "attributes": "W"}
_PBS_ALONE = "hIVz"
_BSUB = {"c": "chdir", "J": "job-name", "o": "output", "e": "error"}
_BSUB_LONG = {"cwd": "c", "job_name": "J", "output_file": "o", "error_file": "e"}
_BSUB_ALONE = "x"


@dataclass(frozen=True)
class Option:
    """Hold one option as it was given."""

    name: str  # in full and without dashes; as it was written where it isn't known
    value: str | None  # None: without
    written: str  # the word that holds it
    line: int = 0  # of the script, counted from 1; 0: on the command line
    fault: str = ""  # why sbatch, or whoever reads it, can't be sure of it


class Unclosed(ValueError):
    """Report a line whose quotation mark isn't closed; sbatch ends there."""


def lines(text: str) -> list[str]:
    """Split at newlines alone, as the shell and sbatch do (str.splitlines splits at form feeds and more)."""
    return _LINE.findall(text)


def header(text: str) -> list[str]:
    """Return the lines that sbatch looks at: up to the first one that is neither a comment nor blank."""
    found = []
    for line in lines(text):
        if line.strip() and not line.lstrip().startswith("#"):
            break
        found.append(line)
    return found


def directives(text: str) -> list[tuple[int, str]]:
    """Return the lines that hold options, with their numbers."""
    return [(number, line) for number, line in enumerate(header(text), 1) if line.startswith(_MAGIC)]


def words_of(line: str) -> list[str]:
    """Return the words of a line that holds options, as sbatch splits it. Raises Unclosed."""
    words: list[str] = []
    rest = line[len(next(magic for magic in _MAGIC if line.startswith(magic))) :].rstrip("\n")
    while True:
        word, rest = _word(rest.lstrip())
        if not word:
            return words  # also after an empty word in quotes
        words.append(word)


def script_options(text: str) -> list[Option]:
    """Return the options that a script gives, in their order; what can't be read has a fault."""
    words: list[tuple[str, int]] = []
    for number, line in directives(text):
        try:
            words += ((word, number) for word in words_of(line))
        except Unclosed:
            words += ((word, number) for word in line[len("#SBATCH") :].split())
    found = list(_read(words, strict=False))
    if not any(option.name == "ignore-pbs" for option in found):
        found += _of_others(text)
    return found


def line_options(words: Sequence[str]) -> list[Option]:
    """Return the options of a command line; a word that would be taken for the script has a fault."""
    return list(_read([(word, 0) for word in words], strict=True))


def last_of(options: Sequence[Option], name: str) -> str | None:
    """Return the value that counts of a kind of option: the last one."""
    return next((option.value or "" for option in reversed(options) if option.name == name), None)


def _read(words: Sequence[tuple[str, int]], strict: bool) -> Iterator[Option]:
    position = 0
    while position < len(words):
        word, line = words[position]
        following = words[position + 1][0] if position + 1 < len(words) else None
        position += 1
        if word.startswith("--") and len(word) > 2:
            option, taken = _long(word, following, strict)
            yield replace(option, line=line)
            position += taken
        elif word.startswith("-") and len(word) > 1 and word != "--":
            for option, taken in _bundle(word, following):
                yield replace(option, line=line)
                position += taken
        elif word.lower() in _HETEROGENEOUS and not strict:  # on the command line it is the name of a script
            yield Option(word.lower(), None, word, line)
        else:
            yield Option("", None, word, line, "is no option")


def _long(word: str, following: str | None, strict: bool) -> tuple[Option, int]:
    """Return a long option, and how many of the following words it takes."""
    written, equals, value = word[2:].partition("=")
    names = [written] if written in _LONG else sorted(name for name in _LONG if name.startswith(written))
    shown = f"--{written}"
    if len(names) > 1:
        several = ", ".join(f"--{name}" for name in names[:4])
        return Option(written, value if equals else None, shown, fault=f"may mean {several}: write it in full"), 0
    name = names[0] if names else written
    if equals:
        fault = "takes no value" if name in _ALONE else ""
        return Option(name, value, shown, fault=fault), 0
    if name in _VALUED:
        if following is None:
            return Option(name, None, shown, fault="needs a value"), 0
        return Option(name, following, shown), 1
    if names or following is None or following.startswith("-"):
        return Option(name, None, shown), 0
    # A newer option, or one of a plugin: whether the next word is its value isn't known.
    fault = f"isn't known here: write {shown}={following} if it takes a value" if strict else ""
    return Option(name, following, shown, fault=fault), 1


def _bundle(word: str, following: str | None) -> Iterator[tuple[Option, int]]:
    """Yield the options of a word like -n4 or -HD, each with how many of the following words it takes."""
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        name = _SHORT.get(letter)
        shown = f"-{letter}"
        if name is None:
            yield Option(letter, None, shown, fault="is no option of sbatch"), 0
            return
        if name in _ALONE:
            yield Option(name, None, shown), 0
            continue
        if letters or name in _OPTIONAL:
            yield Option(name, letters or None, shown), 0
        elif following is None:
            yield Option(name, None, shown, fault="needs a value"), 0
        else:
            yield Option(name, following, shown), 1
        return


def _of_others(text: str) -> Iterator[Option]:
    """Yield what #PBS and #BSUB lines set, under the names of sbatch."""
    commands = 0
    for number, line in enumerate(lines(text), 1):
        if line.startswith("#PBS"):
            yield from _foreign(line[4:].split(), number, _PBS, _PBS_LONG, _PBS_ALONE)
        elif line.startswith("#BSUB"):
            words = ["-c" if word == "-cwd" else word for word in line[5:].split()]
            yield from _foreign(words, number, _BSUB, _BSUB_LONG, _BSUB_ALONE)
        elif not line.startswith("#"):
            commands += 1
            if commands > _OTHERS_READ:
                return


def _foreign(
    words: list[str], number: int, known: dict[str, str], long: dict[str, str], alone: str
) -> Iterator[Option]:
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            letter = next((short for full, short in long.items() if full.startswith(name)), "")
            rest = value if equals else ""
        else:
            letter, rest = word[1:2], word[2:]
        if letter and letter in alone:
            continue
        value = rest or (words.pop(0) if words else "")
        name = known.get(letter, "")
        if name == "depend" and not value.lower().startswith("depend="):
            continue
        if name in ("output", "error") and value.lower() == "none":
            value = "/dev/null"
        if name:
            yield Option(name, value.strip("\"'"), f"-{letter}", number)


def _word(text: str) -> tuple[str, str]:
    """Return the first word of a line, without its quotation marks, and the rest; empty where there is none."""
    word = ""
    quote = ""
    position = 0
    while position < len(text) and (quote or not text[position].isspace()):
        letter = text[position]
        if letter == "\\" and position + 1 < len(text):
            position += 1
            word += text[position]
        elif quote:
            if letter == quote:
                quote = ""
            else:
                word += letter
        elif letter in "\"'":
            quote = letter
        elif letter == "#":
            return word, ""
        else:
            word += letter
        position += 1
    if quote:
        raise Unclosed(text)
    return word, text[position:]
