"""Pack a run for others: scripts, parameters, results, logs by scope, records, checksums, as an RO-Crate."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from esis.errors import BadInput, Busy, EsisError, FileTrouble, Incomplete, SlurmUnanswered, StillActive, TasksFailed
from esis.files import output as output_file
from esis.locks import holder
from esis.model import manifest
from esis.model.fingerprint import Kind, hash_file, open_source
from esis.model.index_sets import format_ranges
from esis.model.workdir import RunDir
from esis.operations.archive import anonymous, supplement
from esis.operations.archive.contents import Item, Scope, select, walk
from esis.operations.archive.crate import About, Subject, metadata, need_rocrate
from esis.operations.archive.writer import Format, Hashing, Writer, need_zstandard, writing
from esis.operations.witness.evidence import Evidence, gather
from esis.operations.witness.old_runs import check_ours
from esis.operations.witness.status import ACTIVE_STATES, RunStatus, TaskState
from esis.operations.witness.target import definition
from esis.records import provenance
from esis.schedulers.base import JobState, Scheduler

_MEMORY = 4 * 1024 * 1024  # bytes of the manifest that are kept in memory


@dataclass(frozen=True)
class Made:
    """Hold what came out."""

    path: Path
    digest: str  # SHA-256 of the archive
    files: int
    telling: tuple[str, ...]  # files of the user's with names, hosts or directories in them; looked for if anonymous


def archive(
    evidence: Evidence, status: RunStatus, output: Path, scope: Scope, about: About, say: Callable[[str], None]
) -> Made:
    """Pack a run into `output`, replacing what is there at the end. Raises EsisError; nothing is left behind then."""
    run = evidence.run
    form = Format.of(output)
    need_rocrate()
    if form is Format.TAR_ZST:
        need_zstandard()
    place = Path(os.path.realpath(output.parent))
    if Path(os.path.realpath(run.path)) in (place, *place.parents):
        raise BadInput(f"{output} lies in the run itself", "write it to another place")
    told = provenance.read(run)
    subject = Subject(run, definition(run), evidence, status, told.public() if scope.anonymous else told)
    words = anonymous.telling_words(run, evidence, told) if scope.anonymous else ()
    items = _items(subject, scope, about.checked(), words, say)
    try:
        with output_file(output) as descriptor, os.fdopen(descriptor, "wb", closefd=False) as stream:
            with (
                tempfile.SpooledTemporaryFile(_MEMORY, dir=str(output.parent)) as lines,
                writing(stream, form, run.path.name, status.last_word() or 0.0) as entries,
            ):
                writer = _Writer(entries, lines, tuple(os.fsencode(word) for word in words))
                for item in items:
                    writer.add(item)
                writer.finish(run)
            _check_unchanged(evidence)
    except OSError as error:
        raise FileTrouble.of(error, f"packing {run.label}", "nothing was left behind") from error
    return Made(output, hash_file(output), writer.files, tuple(writer.telling))


def check_packable(evidence: Evidence, status: RunStatus, scheduler: Scheduler, incomplete: bool) -> None:
    """Raise StillActive while tasks may run; without `incomplete`, TasksFailed or Incomplete if any isn't done."""
    run = evidence.run
    check_ours(run, "packed so that others can check and rerun it")
    builder = holder(run.lock)
    if builder is not None:
        raise Busy(f"{run.label}: {builder} is at it", "wait for it, then repeat the command")
    active = status.indices(*ACTIVE_STATES) or _by_hand(evidence, scheduler)
    if active:
        raise StillActive(f"{run.label}: tasks {format_ranges(active)} wait or run", "esis wait waits for them")
    unknown = status.indices(TaskState.UNKNOWN)
    if unknown and (status.problem is not None or any(verdict.passing for verdict in status.groups)):
        why = f": {status.problem}" if status.problem is not None else ""
        raise SlurmUnanswered(
            f"{run.label}: tasks {format_ranges(unknown)} may be running{why}", "repeat the command later"
        )
    if status.complete or incomplete:
        return
    text = f"{run.label} is not complete: {status.summary()}"
    advice = "esis resubmit runs what is left; --incomplete packs it as it is"
    if status.indices(TaskState.FAILED, TaskState.LOST, TaskState.UNKNOWN):
        raise TasksFailed(text, advice)
    raise Incomplete(text, advice)


def _by_hand(evidence: Evidence, scheduler: Scheduler) -> list[int]:
    """Return the tasks of a complete run that somebody has submitted again by hand, as far as Slurm tells."""
    if not evidence.marked_complete or all(record.ended for record in evidence.records.values()):
        return []
    seen = scheduler.observe(evidence.clusters, evidence.owners).of_run(evidence.run, evidence.jobs)
    return sorted(
        {index for item in seen if item.state in (JobState.WAITING, JobState.ACTIVE) for index in item.indices or ()}
    )


def _items(
    subject: Subject, scope: Scope, about: About, words: tuple[str, ...], say: Callable[[str], None]
) -> Iterable[Item]:
    """Return what goes in; `words` shouldn't be in it where it is to be anonymous."""
    run, evidence, status = subject.run, subject.evidence, subject.status
    if scope.anonymous and about.authors:
        raise BadInput("--author and --anonymous contradict each other")
    rewrite = anonymous.rewriter(run, subject.workflow, words) if scope.anonymous else None
    throttle = subject.workflow.maxparallel
    made: dict[str, bytes | None] = {
        run.readme.name: supplement.readme(subject, about, throttle),
        run.crate_metadata.name: metadata(subject, about),
        f"{run.private.name}/{run.task_table.name}": supplement.task_table(status, evidence),
    }
    script = supplement.free_script(evidence)
    if script is not None:
        made[run.script.name] = script

    def note(text: str) -> None:
        say(f"{run.label}: {text}")

    return walk(select(run, subject.workflow, evidence, status, scope, made, note, rewrite), note)


class _Writer:
    """Write items and the manifest."""

    def __init__(self, entries: Writer, lines: IO[bytes], words: tuple[bytes, ...]) -> None:
        self._entries = entries
        self._lines = lines
        self._words = words
        self._links: dict[str, str] = {}
        self.files = 0
        self.telling: list[str] = []

    def add(self, item: Item) -> None:
        """Write one entry."""
        if item.kind is Kind.DIRECTORY:
            self._entries.directory(item.name)
        elif item.kind is Kind.LINK:
            self._links[item.name] = item.target
            self._entries.link(item.name, item.target)
        elif item.source is None:
            self._file(item, io.BytesIO(item.content), len(item.content))
        else:
            descriptor = open_source(item.source)
            with os.fdopen(descriptor, "rb") as content:
                self._file(item, content, os.fstat(descriptor).st_size)

    def finish(self, run: RunDir) -> None:
        """Write the list of links, which no checksum covers, and the manifest."""
        if self._links:
            name = f"{run.private.name}/{run.link_list.name}"
            text = json.dumps(self._links, indent=2) + "\n"  # ASCII, so that names that are no UTF-8 come through
            self.add(Item(name, Kind.FILE, content=text.encode("ascii"), mine=True))
        size = self._lines.tell()
        self._lines.seek(0)
        self._entries.file(run.manifest.name, self._lines, size, executable=False)

    def _file(self, item: Item, content: IO[bytes], size: int) -> None:
        reader = Hashing(content, size, item.name, () if item.mine else self._words)
        self._entries.file(item.name, reader, size, item.kind is Kind.EXECUTABLE)  # type: ignore[arg-type]
        self._lines.write(manifest.line(reader.digest(), item.name))
        self.files += 1
        if reader.found:
            self.telling.append(item.name)


def _check_unchanged(before: Evidence) -> None:
    """Raise EsisError where the run went on while it was being packed."""
    after = gather(before.run)
    if after is None or _but_for_marks(after) != _but_for_marks(before):
        raise EsisError(f"{before.run.label} changed while it was being packed", "repeat the command")


def _but_for_marks(evidence: Evidence) -> Evidence:
    return evidence._replace(marked_complete=True, claim=True)
