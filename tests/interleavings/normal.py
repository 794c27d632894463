"""What of a world has to be the same as in some serial order: no times, no ids, no names that nobody chose."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator

from esis.files import TEMPORARY_PREFIX
from esis.model.workdir import STAGING_PREFIX, RunDir
from tests.interleavings.scene import Scene
from tests.simulation.commands import Command

_JOB = re.compile(r"\b(job|jobs|slurm-)\s?\d+(, \d+)*")
_TIMES = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d|\d\d\.\d\d\.\d{4}-\d\d:\d\d:\d\d")


def litter(scene: Scene) -> list[str]:
    """Return what should have been removed by those who made it: nobody was killed."""
    found = []
    for directory, names, files in os.walk(scene.places.root / "home"):
        for name in (*names, *files):
            if name.startswith((TEMPORARY_PREFIX, STAGING_PREFIX, "lock")):
                found.append(os.path.relpath(os.path.join(directory, name), scene.places.root))
    return sorted(found)


def shown(command: Command) -> object:
    """Return what a command printed, without what may differ."""
    name, text = command.argv[0], command.stdout
    if command.code != 0 or name not in ("status", "export", "errors", "list"):
        return None
    if name == "status":
        return {str(row["task"]): row["state"] for row in json.loads(text)["rows"]}
    if name == "export":
        rows = [dict(zip(text.splitlines()[0].split(","), line.split(","))) for line in text.splitlines()[1:]]
        return {row["task"]: {column: row.get(column, "") for column in ("r", "state", "attempts")} for row in rows}
    if name == "errors":  # not the last words: the log may be another attempt's by now
        text = "\n".join(line for line in text.splitlines() if not line.startswith(" "))
    return _TIMES.sub("TIME", _JOB.sub("JOB", text)).splitlines()


def state(scene: Scene) -> dict[str, object]:
    """Return the state of all, as it is true and as the runs tell it."""
    cluster = scene.slurm.cluster()
    names = {str(run.path): name for name, run in scene.runs().items()}
    sent: dict[tuple[str, str, str], int] = {}
    for job in scene.truth.jobs:
        known = cluster.jobs.get(job.id)
        key = (names.get(job.run, job.run), job.fence or job.maker, str(list(job.tasks)))
        sent[key] = known.throttle if known is not None else -1
    worked: dict[str, list[str]] = {}
    for attempt in scene.truth.attempts:
        key_of = f"{names.get(attempt.run, attempt.run)} {attempt.task}"
        worked.setdefault(key_of, []).append(attempt.verdict if attempt.good else f"{attempt.verdict} {attempt.code}")
    return {
        "jobs": [f"{run} {fence} {tasks} {throttle}" for (run, fence, tasks), throttle in sorted(sent.items())],
        "work": worked,
        **{f"{what} of {name}": value for name, run in scene.runs().items() for what, value in _told(run)},
    }


def _listed(ranges: str) -> Iterator[int]:
    for part in filter(None, ranges.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _told(run: RunDir) -> Iterator[tuple[str, object]]:
    submissions = []
    latest: dict[int, int] = {}  # the submission that holds a task last
    for path in sorted(run.submissions.glob("*.json")):
        kept = json.loads(path.read_text())
        if kept.get("outcome") != "refused":
            latest.update(dict.fromkeys(_listed(kept["tasks"]), int(path.stem)))
        submissions.append([kept.get("outcome"), str(kept.get("tasks")), len(kept.get("jobs", ()))])
    yield "submissions", submissions
    names = os.listdir(run.tasks)
    if run.folded_tasks.exists():
        names += [line.split(" ")[0] for line in run.folded_tasks.read_text().splitlines()]
    records = []
    for name in names:
        words = name.split(".")
        if words[5:6] == ["slurm-CANCELLED"] and int(words[1]) < latest.get(int(words[0]), 0):
            continue  # of a task that never began then, and was submitted again since
        records.append(" ".join([words[0], words[1], words[3], *words[5:6]]))
    yield "records", sorted(records)
    results = {path.name.split(".")[1]: path.read_text().strip() for path in run.results.glob("results.*.json")}
    if run.results_lines.exists():
        for line in run.results_lines.read_text().splitlines():
            value = json.loads(line)
            results.setdefault(str(value["task"]), json.dumps(value["results"]))
    yield "results", dict(sorted(results.items()))
    logs = {path.name: path.read_bytes() for path in run.cwd.glob("slurm-*")}
    if run.folded_logs.exists():
        with zipfile.ZipFile(run.folded_logs) as archive:
            for name in archive.namelist():
                before, later = archive.read(name), logs.get(name, b"")
                logs[name] = later if later.startswith(before) else before + later
    yield "lines of logs", sorted(f"{_JOB.sub('JOB', name)}: {len(log.splitlines())}" for name, log in logs.items())
