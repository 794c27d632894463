"""Keep one record per submission: written before the scheduler is asked (the intent), completed with its answer."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from esis.errors import BadInput, CorruptState
from esis.files import names_in, read_limited, write_json
from esis.model.index_sets import MOST_TASKS, as_sequence, format_ranges, parse_ranges
from esis.model.workdir import RunDir
from esis.typed import LATEST, Fields, parse_object

SCHEMA = 1
LOCAL = "local"  # the name of this machine as a scheduler
_SCHEDULERS = ("slurm", LOCAL)
_MOST_SUBMISSIONS = 999_999_999
_LARGEST = 2**63 - 1
_LIMIT = re.compile(r"[0-9]{1,12}\Z")
JOB_ID = re.compile(r"[0-9]{1,20}\Z")
_NAME = re.compile(r"([0-9]{4,9})\.json\Z")


def _as_it_is(value: Any) -> Any:
    return value


class Outcome(Enum):
    """Name what became of a submission."""

    OPEN = "open"  # asked, or about to be; the answer isn't known
    SUBMITTED = "submitted"
    REFUSED = "refused"


class Job(NamedTuple):
    """Name one array job of a submission."""

    id: str
    cluster: str | None = None


class Array(NamedTuple):
    """Describe one array job of a submission.

    Slurm's index plus `offset` is the *unit* that an element of the array works on: a task, or a position in the
    submission's list of tasks (`mapped`), or a pack of tasks (`per_job`).
    """

    spec: str  # as Slurm gets it, e.g. 0-9%10
    offset: int = 0
    tasks: int = 0  # how many tasks it holds

    @property
    def throttle(self) -> int:
        """Return how many elements may run at a time; 0: no limit."""
        return int(self.spec.partition("%")[2] or 0)

    def throttled(self, limit: int) -> Array:
        """Return the same array with another limit."""
        indices = self.spec.partition("%")[0]
        return self._replace(spec=f"{indices}%{limit}" if limit else indices)

    def indices(self) -> Sequence[int] | None:
        """Return Slurm's indices; None where the specification is none."""
        indices, percent, limit = self.spec.partition("%")
        try:
            return None if percent and _LIMIT.match(limit) is None else parse_ranges(indices)
        except BadInput:
            return None


class Origin(NamedTuple):
    """Say who used ESIS, where and with what."""

    user: str
    uid: int
    host: str
    esis: str
    python: str
    python_executable: str
    platform: str
    modules: tuple[str, ...] = ()
    conda_environment: str | None = None
    virtual_environment: str | None = None

    @classmethod
    def from_fields(cls, raw: Fields) -> Origin:
        """Read what `to_json` gave. Raises CorruptState."""
        return cls(
            raw.text("user"),
            raw.number("uid", 0, 2**32),
            raw.text("host"),
            raw.text("esis"),
            raw.text("python"),
            raw.text("python_executable"),
            raw.text("platform"),
            raw.texts("modules"),
            raw.text_or_none("conda_environment"),
            raw.text_or_none("virtual_environment"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as it stands in files."""
        return {**self._asdict(), "modules": list(self.modules)}


class Cluster(NamedTuple):
    """Name the cluster that Slurm's commands talk to where they name none, and how they came to it."""

    name: str
    controllers: tuple[str, ...] = ()  # hosts of slurmctld: many sites leave the name as others have it
    route: tuple[str, ...] = ()  # see esis.environment.slurm_route


class Submission(NamedTuple):
    """Hold one act of handing tasks of a run to a scheduler, in one or more array jobs."""

    number: int
    scheduler: str  # "slurm" or "local"
    tasks: Sequence[int]  # sorted
    arrays: tuple[Array, ...]
    script_digest: str  # SHA-256 of sbatch.sh
    created: float  # seconds since 1970
    owner: str  # host, PID, … of the esis that made it (locks.Owner.text)
    records: bool  # whether its tasks write records
    argv: tuple[str, ...] = ()
    dependency: str | None = None
    outcome: Outcome = Outcome.OPEN
    jobs: tuple[Job, ...] = ()  # of the arrays, in their order, as far as they are sent
    message: str | None = None
    answered: float | None = None  # when the answer came, seconds since 1970
    returned: tuple[int, ...] = ()  # tasks that a local run gave back without finishing them
    throttle: int = 0  # elements of all arrays at a time; 0: no limit
    unique_output: str = ""  # pattern of the logs of arrays whose indices aren't tasks, where the template's collides
    unique_error: str = ""  # the same of the error output, where that is in files of its own
    mapped: bool = False  # units are positions in `tasks` (see RunDir.map)
    per_job: int = 1  # tasks in a pack; an element of an array works through one pack
    parallel: int = 1  # tasks of a pack at a time
    options: tuple[str, ...] = ()  # sbatch options given on the command line
    output: str = ""  # pattern of the log files' names
    seen: tuple[str, ...] = ()  # job ids of this run that the scheduler knew before: not this submission's
    provenance: Origin | None = None  # who submitted, where and with what; None in records of earlier versions
    cluster: Cluster | None = None  # where its jobs are unless sbatch named another one; None: nobody knows
    unknown: Mapping[str, Any] = MappingProxyType({})  # what a newer esis noted: it stays in the record

    @property
    def packed(self) -> bool:
        """Return whether each element of the arrays works through several tasks."""
        return self.per_job > 1

    @property
    def lanes(self) -> int:
        """Return how many arrays run side by side, each one task at a time; 0: all of them may.

        That is where fewer tasks may run at a time than there are arrays.
        """
        return self.throttle if 0 < self.throttle < len(self.arrays) else 0

    def is_shifted(self, position: int) -> bool:
        """Return whether an array's indices aren't the tasks.

        Logs of other arrays and submissions could have the same names then, so these get names of their own.
        """
        return self.mapped or self.packed or self.arrays[position].offset != 0

    def output_of(self, position: int) -> str:
        """Return the pattern of the names of an array's logs."""
        return self.unique_output if self.unique_output and self.is_shifted(position) else self.output

    def holds(self, task: int) -> bool:
        """Return whether `task` is one of its tasks."""
        at = _place(self.tasks, task)
        return at < len(self.tasks) and self.tasks[at] == task

    def position_of(self, job: str) -> int | None:
        """Return which of the arrays has the id `job`."""
        return next((position for position, item in enumerate(self.jobs) if item.id == job), None)

    def tasks_at(self, position: int, indices: Sequence[int]) -> Sequence[int]:
        """Return the tasks behind Slurm's `indices` of the array at `position`; indices it hasn't are left out."""
        offset = self.arrays[position].offset
        if self.packed:
            packs = ((index + offset) * self.per_job for index in indices)
            return [task for first in packs for task in self.tasks[first : first + self.per_job]]
        if self.mapped:
            return [self.tasks[index + offset] for index in indices if index + offset < len(self.tasks)]
        if isinstance(indices, range) and indices.step == 1:
            return range(indices.start + offset, indices.stop + offset)
        return [index + offset for index in indices]

    def place_of(self, task: int) -> tuple[int, int]:
        """Return where a task stands: the position of its array, and Slurm's index in there."""
        unit = _place(self.tasks, task) if self.mapped or self.packed else task
        unit //= self.per_job
        position = max((at for at, array in enumerate(self.arrays) if array.offset <= unit), default=0)
        return position, unit - self.arrays[position].offset

    def leads_pack(self, task: int) -> bool:
        """Return whether a task is among the first that its job works on, so that it had all of the job's time."""
        return _place(self.tasks, task) % self.per_job < self.parallel

    def to_json(self) -> dict[str, Any]:
        """Return what stands in the file: for the eyes of others, so without secrets."""
        return {
            "schema": SCHEMA,
            **self.unknown,
            **{codec.key or name: codec.write(getattr(self, name)) for name, codec in _CODECS.items()},
        }

    @classmethod
    def from_json(cls, path: Path, raw: Mapping[str, Any]) -> Submission:
        """Read a record. Raises CorruptState, also where its parts contradict each other."""
        fields = Fields(path, raw)
        if fields.get("schema") is True or raw["schema"] != SCHEMA:
            raise CorruptState(f"{path} has schema {raw['schema']!r}, this esis knows {SCHEMA}", "use a newer esis")
        values = {}
        for name, codec in _CODECS.items():
            key = codec.key or name
            if codec.since_first or key in raw:
                values[name] = codec.read(fields, key)
        known = {"schema", *(codec.key or name for name, codec in _CODECS.items())}
        made = cls(**values, unknown={key: value for key, value in raw.items() if key not in known})
        contradiction = made.contradiction()
        if contradiction is not None:
            raise CorruptState(f"{path} is corrupt: {contradiction}")
        return made

    def contradiction(self) -> str | None:
        """Say where the arrays aren't those of the tasks: then nobody knows which of them were submitted."""
        if sum(array.tasks for array in self.arrays) != len(self.tasks):
            return f"its arrays hold {sum(array.tasks for array in self.arrays)} tasks, and it has {len(self.tasks)}"
        if len(self.jobs) > len(self.arrays):
            return f"it has {len(self.jobs)} jobs for {len(self.arrays)} arrays"
        start = 0
        for position, array in enumerate(self.arrays):
            indices = array.indices()
            held = self.tasks[start : start + array.tasks]
            if indices is None or not _same(self.tasks_at(position, indices), held):
                return f"array {position + 1}, {array.spec[:60]!r}, is not that of its {array.tasks} tasks"
            start += array.tasks
        return None


class _Codec(NamedTuple):
    """Say how a field of a submission stands in its record.

    A field that is added later needs `since_first=False` and a default that older records can be read with. An older
    esis keeps what it doesn't know; where it mustn't, SCHEMA has to be raised.
    """

    read: Callable[[Fields, str], Any]
    write: Callable[[Any], Any] = _as_it_is
    key: str = ""  # where it isn't the field's name
    since_first: bool = True  # else it may be missing


def _number(least: int, most: int) -> Callable[[Fields, str], int]:
    return lambda fields, key: fields.number(key, least, most)


def _texts(write: Callable[[Sequence[str]], Sequence[str]] = tuple) -> _Codec:
    return _Codec(Fields.texts, lambda words: list(write(words)))


def _or_none(read: Callable[[Fields, str], Any]) -> Callable[[Fields, str], Any]:
    return lambda fields, key: read(fields, key) if fields.get(key) is not None else None


def _time(fields: Fields, key: str) -> float:
    return fields.real(key, LATEST)


def _masked(words: Sequence[str]) -> tuple[str, ...]:
    from esis.model.secrets import masked  # who writes needs it

    return masked(words)


def _place(tasks: Sequence[int], task: int) -> int:
    """Return where a task stands among sorted ones, or would."""
    if isinstance(tasks, range):
        return min(max(0, -(-(task - tasks.start) // tasks.step)), len(tasks))
    from bisect import bisect_left  # seldom are they scattered

    return bisect_left(tasks, task)


# In the order of the file.
_CODECS = {
    "number": _Codec(_number(1, _MOST_SUBMISSIONS)),
    "scheduler": _Codec(lambda fields, key: fields.choice(key, _SCHEDULERS)),
    "tasks": _Codec(lambda fields, key: as_sequence(_ranges(fields, key)), format_ranges),
    "arrays": _Codec(
        lambda fields, key: tuple(map(_array, fields.objects(key))),
        lambda arrays: [{"array": item.spec, "offset": item.offset, "tasks": item.tasks} for item in arrays],
    ),
    "dependency": _Codec(Fields.text_or_none),
    "script_digest": _Codec(Fields.text, key="script_sha256"),
    "created": _Codec(_time),
    "owner": _Codec(Fields.text),
    "records": _Codec(Fields.flag),
    "argv": _texts(_masked),
    "outcome": _Codec(
        lambda fields, key: Outcome(fields.choice(key, [item.value for item in Outcome])), lambda outcome: outcome.value
    ),
    "jobs": _Codec(
        lambda fields, key: tuple(map(_named_job, fields.objects(key))),
        lambda jobs: [{"id": job.id, "cluster": job.cluster} for job in jobs],
    ),
    "message": _Codec(Fields.text_or_none),
    "answered": _Codec(_or_none(_time)),
    "returned": _Codec(lambda fields, key: tuple(_ranges(fields, key)) if fields.text(key) else (), format_ranges),
    "throttle": _Codec(_number(0, _LARGEST)),
    "unique_output": _Codec(Fields.text),
    "unique_error": _Codec(Fields.text, since_first=False),
    "mapped": _Codec(Fields.flag),
    "per_job": _Codec(_number(1, _LARGEST)),
    "parallel": _Codec(_number(1, _LARGEST)),
    "options": _texts(_masked),
    "output": _Codec(Fields.text),
    "seen": _Codec(lambda fields, key: tuple(_job(fields, key, job) for job in fields.texts(key)), list),
    "provenance": _Codec(
        _or_none(lambda fields, key: Origin.from_fields(fields.object(key))),
        lambda origin: origin.to_json() if origin is not None else None,
        since_first=False,
    ),
    "cluster": _Codec(
        _or_none(lambda fields, key: _cluster(fields.object(key))),
        lambda cluster: (
            {key: value if key == "name" else list(value) for key, value in cluster._asdict().items()}
            if cluster is not None
            else None
        ),
        since_first=False,
    ),
}


def save(run: RunDir, submission: Submission, check: Callable[[], None] | None = None) -> None:
    """Write the record, durably, if `check` raises nothing at the last moment. Raises OSError."""
    write_json(run.submission(submission.number), submission.to_json(), check)


def read_all(run: RunDir) -> list[Submission]:
    """Return the submissions of a run in their order. Raises CorruptState."""
    return [parse(path, read_limited(path)) for path in _paths(run)]


def parse(path: Path, data: bytes) -> Submission:
    """Read the content of a record that is called as `path`. Raises CorruptState."""
    made = Submission.from_json(path, parse_object(path, data))
    if path.stem != f"{made.number:04d}":
        raise CorruptState(f"{path} is corrupt: it is the record of submission {made.number}")
    return made


def _ranges(fields: Fields, key: str) -> Sequence[int]:
    text = fields.text(key)
    try:
        return parse_ranges(text)
    except BadInput as error:
        raise fields.wrong(key, "ranges of tasks", text) from error


def _array(fields: Fields) -> Array:
    return Array(fields.text("array"), fields.number("offset", 0, _LARGEST), fields.number("tasks", 1, MOST_TASKS))


def _cluster(fields: Fields) -> Cluster:
    return Cluster(fields.text("name"), fields.texts("controllers"), fields.texts("route"))


def _named_job(fields: Fields) -> Job:
    return Job(_job(fields, "id", fields.text("id")), fields.text_or_none("cluster"))


def _job(fields: Fields, key: str, value: str) -> str:
    if JOB_ID.match(value) is None:
        raise fields.wrong(key, "the id of a job", value)
    return value


def _same(tasks: Sequence[int], others: Sequence[int]) -> bool:
    if isinstance(tasks, range) and isinstance(others, range):
        return tasks == others
    return len(tasks) == len(others) and all(map(operator.eq, tasks, others))


def _paths(run: RunDir) -> Iterator[Path]:
    for name in sorted(names_in(run.submissions)):
        if _NAME.match(name):
            yield run.submissions / name
