"""Know every path name inside a run's working directory; no other module spells one."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "wrkdir."
_HASH_DIGITS = 64
STAGING_PREFIX = ".esis-build-"
TRASH_PREFIX = ".esis-trash-"
PARAMETERS_LINES = "parameters.jsonl"
PARAMETERS_INDEX = "parameters.index"
INDEX_ENTRY = 17  # bytes of it for each line: the offset in 16 decimal digits, and a newline


class RunDir:
    """Name the parts of one `wrkdir.<hash>`; a value, as a frozen dataclass is.

    Not made with `dataclasses`, whose import would take a third of the time that `import esis` costs a worker.
    """

    __slots__ = ("path",)
    path: Path

    def __init__(self, path: Path) -> None:
        """Name the parts of the run at `path`."""
        object.__setattr__(self, "path", path)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} of a RunDir can't be changed")

    def __reduce__(self) -> tuple[type[RunDir], tuple[Path]]:
        # Workers give what holds one to the processes of a pool, and copy it.
        return type(self), (self.path,)

    def __repr__(self) -> str:
        return f"RunDir(path={self.path!r})"

    def __eq__(self, other: object) -> bool:
        return self.path == other.path if isinstance(other, RunDir) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.path)

    @classmethod
    def of(cls, parent: Path, digest: str) -> RunDir:
        """Name the run of `digest` below `parent`."""
        return cls(parent / f"{PREFIX}{digest}")

    @property
    def digest(self) -> str:
        """Return the 64 hex digits of the name."""
        return self.path.name[len(PREFIX) :]

    @property
    def label(self) -> str:
        """Return a short name for messages; its digits are enough wherever ESIS takes a hash."""
        return f"{PREFIX}{self.digest[:12]}"

    @property
    def readme(self) -> Path:
        """Return the note for people."""
        return self.path / "README"

    @property
    def script(self) -> Path:
        """Return the rendered script of the latest submission."""
        return self.path / "sbatch.sh"

    @property
    def includes(self) -> Path:
        """Return where the includes are."""
        return self.path / "includes"

    @property
    def parameters(self) -> Path:
        """Return where the parameter files are; the generator runs there."""
        return self.path / "parameters"

    @property
    def parameters_lines(self) -> Path:
        """Return the one file that may hold all parameter sets, a line each."""
        return self.parameters / PARAMETERS_LINES

    @property
    def parameters_index(self) -> Path:
        """Return the offsets of the lines of `parameters_lines`."""
        return self.parameters / PARAMETERS_INDEX

    @property
    def results(self) -> Path:
        """Return where tasks export their results."""
        return self.path / "results"

    @property
    def results_lines(self) -> Path:
        """Return the one file that holds the results of a run that was compacted, a line for each task."""
        return self.results / "results.jsonl"

    @property
    def cwd(self) -> Path:
        """Return the tasks' working directory."""
        return self.path / "cwd"

    @property
    def checkpoints(self) -> Path:
        """Return where the checkpoints are."""
        return self.path / "__checkpoints__"

    @property
    def private(self) -> Path:
        """Return ESIS's own corner."""
        return self.path / "__esis__"

    @property
    def wf_status(self) -> Path:
        """Return the text whose SHA-256 is the hash."""
        return self.private / "wf_status"

    @property
    def workflow_definition(self) -> Path:
        """Return the copy of the workflow file."""
        return self.private / "workflow_definition.json"

    @property
    def state(self) -> Path:
        """Return the record of the run's stage."""
        return self.private / "state.json"

    @property
    def provenance(self) -> Path:
        """Return the record of who made the run, where and with what."""
        return self.private / "provenance.json"

    @property
    def generator_log(self) -> Path:
        """Return the generator's output."""
        return self.private / "generator.log"

    @property
    def setup_log(self) -> Path:
        """Return the setup script's output."""
        return self.private / "setup.log"

    @property
    def submissions(self) -> Path:
        """Return where the submission records are."""
        return self.private / "submissions"

    @property
    def tasks(self) -> Path:
        """Return where the task records are."""
        return self.private / "tasks"

    @property
    def attempts(self) -> Path:
        """Return where the latest attempts at tasks leave their names, where there may be more than one at a time."""
        return self.private / "attempts"

    @property
    def task_hook(self) -> Path:
        """Return the shell file that writes the task records."""
        return self.private / "task.sh"

    @property
    def requirements(self) -> Path:
        """Return the list of required runs that a job checks before its work."""
        return self.private / "requirements"

    @property
    def local_bin(self) -> Path:
        """Return the directory that `--local` puts on PATH (it holds a stand-in for srun)."""
        return self.private / "local"

    @property
    def lock(self) -> Path:
        """Return the lock of the run."""
        return self.private / "lock"

    @property
    def job_ids(self) -> Path:
        """Return the file with the latest submission's job ids, one a line (ESIS 0.0.4's name)."""
        return self.private / "jobid.tx"

    @property
    def start_time(self) -> Path:
        """Return the file with the time of the first submission, as DD.MM.YYYY-HH:MM:SS (0.0.4's name)."""
        return self.private / "wf_starttime"

    @property
    def oldest_job_ids(self) -> Path:
        """Return where versions before 0.0.4, which had no corner of their own, kept the job id."""
        return self.path / "jobid.tx"

    @property
    def oldest_start_time(self) -> Path:
        """Return where they kept the time of the submission."""
        return self.path / "wf_starttime"

    @property
    def completed(self) -> Path:
        """Return the file that holds 1 once somebody claims that the run is complete, 0 before (0.0.4's name)."""
        return self.private / "completed.state"

    @property
    def complete_mark(self) -> Path:
        """Return the file that says who found the run complete; while it is there nobody looks again."""
        return self.private / "complete"

    @property
    def task_table(self) -> Path:
        """Return the table of the tasks, which only archives hold."""
        return self.private / "tasks.csv"

    @property
    def link_list(self) -> Path:
        """Return the list of symbolic links, which only archives hold, and only where there are any."""
        return self.private / "links.json"

    @property
    def crate_metadata(self) -> Path:
        """Return the description of an archive (RO-Crate prescribes the name)."""
        return self.path / "ro-crate-metadata.json"

    @property
    def manifest(self) -> Path:
        """Return the checksums of an archive's files."""
        return self.path / "manifest-sha256.txt"

    def often_empty(self) -> tuple[Path, ...]:
        """Return the directories that hold nothing before the first task, so that some copies leave them out."""
        return (self.results, self.cwd, self.checkpoints, self.submissions, self.tasks)

    def submission(self, number: int) -> Path:
        """Return the record of submission `number` (1, 2, …)."""
        return self.submissions / f"{number:04d}.json"

    @property
    def folded_tasks(self) -> Path:
        """Return the one file that holds the task records which were folded, a line for each."""
        return self.private / "tasks.txt"

    @property
    def folded_logs(self) -> Path:
        """Return the archive of the logs that were folded."""
        return self.private / "logs.zip"

    @property
    def feed_script(self) -> Path:
        """Return the script of the job that submits what a limit left over."""
        return self.private / "feed.sh"

    @property
    def feed_log(self) -> Path:
        """Return the log of that job."""
        return self.private / "feed.log"

    def map(self, number: int) -> Path:
        """Return the list of a submission's task indices, one a line, where its array counts positions."""
        return self.submissions / f"{number:04d}.map"

    def claim(self, number: int, position: int = 0) -> Path:
        """Return the symbolic link that names the one job which does the work of an array of a submission."""
        return self.submissions / f"{fence_name(number, position)}.claim"

    def parameter_file(self, task: int) -> Path:
        """Return the parameter file of `task`."""
        return self.parameters / f"parameters.{task}.json"

    def latest_attempt(self, task: int) -> Path:
        """Return the file with the name of the latest attempt at `task`; most often there is none."""
        return self.attempts / str(task)

    def result_file(self, task: int) -> Path:
        """Return the file with the results of `task`."""
        return self.results / f"results.{task}.json"

    def array_file(self, task: int, name: str) -> Path:
        """Return the file with an array that `task` exported under `name`."""
        return self.results / f"results.{task}.{name}.npy"

    def checkpoints_of(self, task: int, name: str) -> Path:
        """Return where `task` keeps the checkpoints that it calls `name`."""
        return self.checkpoints / f"task.{task}" / name

    def directories(self) -> tuple[Path, ...]:
        """Return the directories of a new run, parents first."""
        return (
            self.includes,
            self.parameters,
            self.results,
            self.cwd,
            self.checkpoints,
            self.private,
            self.submissions,
            self.tasks,
        )


def is_hash(text: str) -> bool:
    """Return whether a text is the whole of a hash."""
    return len(text) == _HASH_DIGITS and not text.strip("0123456789abcdef")


def is_run_name(name: str) -> bool:
    """Return whether `name` is that of a run's working directory."""
    return name.startswith(PREFIX) and is_hash(name[len(PREFIX) :])


def fence_name(number: int, position: int) -> str:
    """Return the name (0001, 0001.2, …) under which the jobs of one array of a submission claim its work."""
    return f"{number:04d}" if position == 0 else f"{number:04d}.{position + 1}"
