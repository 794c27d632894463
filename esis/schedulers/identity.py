"""Tell whose a job is that Slurm shows: ids are used again, and users submit jobs of their own from a run's cwd/.

What Slurm shows of a batch job (22.05 to 26.05): squeue the path of the script as it was given to sbatch, relative ones
unchanged (22.05 with the script's arguments behind it), and the job's working directory, which `--chdir` changes; sacct
that directory and the words of the command line. So a job is a run's if its script is the run's sbatch.sh, by an
absolute path or as seen from the working directory that is shown.

A run knows ids of jobs: from the answer of sbatch, and from what the jobs themselves wrote into the run. One of them
with the run's cwd/ and another script may be another job under a number that was used again, or the run's where a
site's sbatch hands scripts on under other names; one with a script of that name, and a directory from which `--chdir`
led away, may be the run's or not. Nothing is believed of such a job.

A directory may have several names (a bind mount, a file system that is mounted twice): which one is meant tells the
disk, by device and inode. One that can't be looked at proves nothing, and one that isn't there may be on another host.

ESIS names the script by detours, `__esis__/./../__esis__//../__esis__/../sbatch.sh`. Slurm shows it as it was written,
so a job that ESIS submitted is told from one that was typed by hand, in all versions and without a field that users
need. The first two tell which array of which submission it is, in binary digits: `/` is a 0 and `/.` a 1. Up to 0.1.0
there was but the last of them.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from esis.model.workdir import PREFIX, RunDir


class Whose(Enum):
    """Class a job by whose it is."""

    OURS = "ours"
    DOUBTFUL = "doubtful"
    FOREIGN = "foreign"


class Sent(NamedTuple):
    """Say as what ESIS submitted a job."""

    number: int  # of the submission; 0: it doesn't tell
    position: int  # of the array


def script_argument(run: RunDir, number: int, position: int) -> str:
    """Return how ESIS names the script of a run to sbatch, for an array of a submission."""
    told = "".join(f"{run.private.name}{_digits(value)}/../" for value in (number, position))
    return f"{run.path}/{told}{run.private.name}/../{run.script.name}"


def sent_as(run: RunDir, place: str) -> Sent | None:
    """Return as what ESIS itself submitted the job with squeue's `<command>|<working directory>`; None: it didn't."""
    directory, mark, _ = place.partition(f"/{run.private.name}/../{run.script.name}|")
    if not mark or not directory.startswith("/"):
        return None
    told = re.search(rf"/{run.private.name}((?:/\.?)+)/\.\./{run.private.name}((?:/\.?)+)/\.\.\Z", directory)
    if _whose_directory(run, directory, known=False) is not Whose.OURS:
        return None
    return Sent(*map(_value, told.groups())) if told is not None else Sent(0, 0)


def _digits(value: int) -> str:
    return "".join("/." if digit == "1" else "/" for digit in f"{value:b}")


def _value(digits: str) -> int:
    return int("".join(str(len(part)) for part in digits.split("/")[1:]), 2)


def is_feeder(run: RunDir, place: str) -> bool:
    """Return whether squeue's `<command>|<working directory>` is that of the job that submits the rest of a run.

    ESIS alone submits that script, by an absolute path and from its directory; both have to be the run's.
    """
    script, mark, workdir = place.partition(f"/{run.private.name}/{run.feed_script.name}|")
    return (
        bool(mark)
        and script.startswith("/")
        and _whose_directory(run, script, known=False) is Whose.OURS
        and os.path.basename(workdir) == run.private.name  # noqa: PTH119
        and _whose_directory(run, os.path.dirname(workdir), known=False) is Whose.OURS  # noqa: PTH120
    )


def whose_in_queue(run: RunDir, place: str, known: bool) -> Whose:
    """Judge squeue's `<command>|<working directory>`; `known`: the run knows the job's id."""
    doubtful = False
    for command, rest in _scripts(place, run.script.name):
        directory = os.path.dirname(command)  # noqa: PTH120  a million of them may be looked at
        absolute = command.startswith("/")
        seen_from = [directory] if absolute else [os.path.join(base, directory) for base in _directories(rest)]  # noqa: PTH118
        found = {_whose_directory(run, item, known) for item in seen_from}
        if Whose.OURS in found:
            return Whose.OURS
        if known and not absolute and not any(PREFIX in item for item in seen_from):
            return Whose.DOUBTFUL
        doubtful = doubtful or Whose.DOUBTFUL in found
    if not known:
        return Whose.FOREIGN
    return Whose.DOUBTFUL if doubtful or _whose_cwd(run, place) is not Whose.FOREIGN else Whose.FOREIGN


def is_in_cwd(run: RunDir, place: str, known: bool) -> Whose:
    """Judge by id and directory alone, for runs of which no more is known."""
    return _whose_cwd(run, place) if known else Whose.FOREIGN


def whose_accounted(run: RunDir, place: str) -> Whose:
    """Judge sacct's `<working directory>|<submit line>` of a job whose id the run knows.

    The line lost its quotation marks; Slurm 20.11 has none.
    """
    alone = place[:-1] if place.endswith("|") else place
    found = {_whose_directory(run, os.path.dirname(alone), known=False)} if _is_cwd(run, alone) else set()  # noqa: PTH120
    for directory in _accounted_directories(place, run.script.name):
        if Whose.OURS in found:
            break
        found.add(_whose_directory(run, directory, known=True))
    return next((whose for whose in Whose if whose in found), Whose.FOREIGN)


def _accounted_directories(place: str, name: str) -> Iterator[str]:
    """Yield what may be the directory of a script called `name` in a submit line; paths may hold blanks and marks."""
    at = place.find("|")
    while at >= 0:
        workdir, line = place[:at], f"{place[at + 1 :]} "
        end = line.find(f"{name} ")
        while end >= 0:
            before = line[:end]
            typed = before.rpartition(" ")[2]
            if typed == "" or typed.startswith((".", PREFIX)):
                yield os.path.join(workdir, typed)  # noqa: PTH118
            yield from (
                before[start:]
                for start in range(len(before))
                if before[start] == "/" and before[start - 1 : start] in ("", " ")
            )
            end = line.find(f"{name} ", end + 1)
        at = place.find("|", at + 1)


def _scripts(place: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield what may be the path of a script called `name`, and what stands behind it."""
    end = 0
    while (at := place.find(name, end)) >= 0:
        end = at + len(name)
        if place[end : end + 1] in (" ", "|") and (at == 0 or place[at - 1] == "/"):
            yield place[:end], place[end:]


def _directories(rest: str) -> Iterator[str]:
    """Yield what may be the working directory: paths may hold the mark that stands before it."""
    at = rest.find("|")
    while at >= 0:
        if rest[at + 1 : at + 2] == "/":
            yield rest[at + 1 :]
        at = rest.find("|", at + 1)


def _is_cwd(run: RunDir, directory: str) -> bool:
    return os.path.basename(directory) == run.cwd.name  # noqa: PTH119


def _whose_cwd(run: RunDir, place: str) -> Whose:
    """Return whether the working directory at the end of what squeue shows is the run's cwd/."""
    if place.endswith(f"|{run.cwd}"):
        return Whose.OURS
    found = {
        _whose_directory(run, os.path.dirname(directory), known=False)  # noqa: PTH120
        for directory in _directories(place)
        if _is_cwd(run, directory)
    }
    return next((whose for whose in Whose if whose in found), Whose.FOREIGN)


def _whose_directory(run: RunDir, directory: str, known: bool) -> Whose:
    """Return whether `directory` is the run's, perhaps by another name; DOUBTFUL where that can't be found out.

    One that isn't there may be its name on another host, or where the run was before somebody moved it; one that is
    there may be a copy of the run.
    """
    directory = os.path.normpath(directory)
    if directory == str(run.path):
        return Whose.OURS
    name = os.path.basename(directory)  # noqa: PTH119
    if name != run.path.name and name.startswith(PREFIX):
        return Whose.FOREIGN  # another run's: there may be very many, so the disk isn't asked
    try:
        there = os.stat(directory)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError, ValueError):
        # The second: no argument that looks like a path of the run.
        away = known and name == run.path.name and " /" not in directory and not os.path.lexists(directory)
        return Whose.OURS if away else Whose.FOREIGN
    except OSError:  # closed to this user, or its server is away
        return Whose.DOUBTFUL
    try:
        own = run.path.stat()
    except FileNotFoundError:
        return Whose.FOREIGN
    except OSError:
        return Whose.DOUBTFUL
    if (there.st_ino, there.st_dev) == (own.st_ino, own.st_dev):
        return Whose.OURS
    if known and name == run.path.name and _is_husk(directory, run.private.name):
        return Whose.OURS
    # A network file system that is mounted twice may be two devices; a copy hardly ever gets the same inode.
    return Whose.DOUBTFUL if there.st_ino == own.st_ino and name == run.path.name else Whose.FOREIGN


def _is_husk(directory: str, private: str) -> bool:
    """Return whether a directory is no run: nodes (24.11) make that of a log anew, where a run was that was moved."""
    try:
        os.lstat(os.path.join(directory, private))  # noqa: PTH118
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
