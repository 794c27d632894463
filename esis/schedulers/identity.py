"""Tell whose a job is that Slurm shows: ids are used again, and users submit jobs of their own from a run's cwd/.

What Slurm shows of a batch job (22.05 to 26.05): squeue the path of the script as it was given to sbatch, relative ones
unchanged (22.05 with the script's arguments behind it), and the job's working directory, which `--chdir` changes; sacct
that directory and the words of the command line. So a job is a run's if its script is the run's sbatch.sh, by an
absolute path or as seen from the working directory that is shown.

A run knows ids of jobs: from the answer of sbatch, and from what the jobs themselves wrote into the run. One of them
with the run's cwd/ and another script may be another job under a number that was used again, or the run's where a
site's sbatch hands scripts on under other names; one with a script of that name, and a directory from which `--chdir`
led away, may be the run's or not. Nothing is believed of such a job.

ESIS names the script by a detour, `__esis__/../sbatch.sh`. Slurm shows it as it was written, so a job that ESIS
submitted is told from one that was typed by hand, in all versions and without a field that users need.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterator
from enum import Enum

from esis.model.workdir import PREFIX, RunDir


class Whose(Enum):
    """Class a job by whose it is."""

    OURS = "ours"
    DOUBTFUL = "doubtful"
    FOREIGN = "foreign"


def script_argument(run: RunDir) -> str:
    """Return how ESIS names the script of a run to sbatch."""
    return f"{run.private}/../{run.script.name}"


def is_submitted_by_esis(run: RunDir, place: str) -> bool:
    """Return whether squeue's `<command>|<working directory>` is that of a job which ESIS itself submitted."""
    return place.startswith(f"{script_argument(run)}|")


def is_feeder(run: RunDir, place: str) -> bool:
    """Return whether squeue's `<command>|<working directory>` is that of the job that submits the rest of a run.

    ESIS alone submits that script, by an absolute path and from its directory; both have to be the run's.
    """
    script, mark, workdir = place.partition(f"/{run.private.name}/{run.feed_script.name}|")
    return (
        bool(mark)
        and script.startswith("/")
        and _is_in(run, script, known=False)
        and os.path.basename(workdir) == run.private.name  # noqa: PTH119
        and _is_in(run, os.path.dirname(workdir), known=False)  # noqa: PTH120
    )


def whose_in_queue(run: RunDir, place: str, known: bool) -> Whose:
    """Judge squeue's `<command>|<working directory>`; `known`: the run knows the job's id."""
    for command, rest in _scripts(place, run.script.name):
        if command.startswith("/"):
            if _is_in(run, os.path.dirname(command), known):  # noqa: PTH120  a million of them may be looked at
                return Whose.OURS
            continue
        seen_from = [
            os.path.join(directory, os.path.dirname(command))  # noqa: PTH118, PTH120
            for directory in _directories(rest)
        ]
        if any(_is_in(run, directory, known) for directory in seen_from):
            return Whose.OURS
        if known and not any(PREFIX in directory for directory in seen_from):
            return Whose.DOUBTFUL
    return Whose.DOUBTFUL if known and place.endswith(f"|{run.cwd}") else Whose.FOREIGN


def is_in_cwd(run: RunDir, place: str, known: bool) -> Whose:
    """Judge by id and directory alone, for runs of which no more is known."""
    return Whose.OURS if known and place.endswith(f"|{run.cwd}") else Whose.FOREIGN


def is_accounted(run: RunDir, place: str) -> bool:
    """Judge sacct's `<working directory>|<submit line>` of a job whose id the run knows.

    The line lost its quotation marks; Slurm 20.11 has none.
    """
    if place in (f"{run.cwd}|", str(run.cwd)):
        return True
    return any(_is_in(run, directory, known=True) for directory in _accounted_directories(place, run.script.name))


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


def _is_in(run: RunDir, directory: str, known: bool) -> bool:
    """Return whether `directory` is the run's, perhaps by another name.

    One that isn't there may be its name on another host; one that is there may be a copy of the run.
    """
    directory = os.path.normpath(directory)
    if directory == str(run.path):
        return True
    name = os.path.basename(directory)  # noqa: PTH119
    if name != run.path.name and name.startswith(PREFIX):
        return False  # another run's: there may be very many, so the disk isn't asked
    if os.path.realpath(directory) == os.path.realpath(run.path):
        return True
    # The last: no argument that looks like a path of the run.
    return known and name == run.path.name and " /" not in directory and not os.path.lexists(directory)
