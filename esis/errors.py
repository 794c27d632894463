"""Errors that carry their message, what to do next and the exit code of the command.

The codes are a public contract; `esis doc exit-codes` lists them, and a test compares the two.
"""

from __future__ import annotations


class ExitCode:
    """Name the exit codes of every `esis` command; no enum, whose import would be a sixth of a worker's start."""

    OK = 0
    FAILURE = 1
    BAD_INPUT = 2
    REQUIREMENT = 3
    USER_SCRIPT = 4
    REFUSED = 5
    UNANSWERED = 6
    BUSY = 7
    TASKS_FAILED = 8
    ACTIVE = 9
    INCOMPLETE = 10
    NO_ROOM = 11
    INTERRUPTED = 130

    @classmethod
    def all(cls) -> dict[str, int]:
        """Return them by their names."""
        return {name: value for name, value in vars(cls).items() if name.isupper()}


class EsisError(Exception):
    """Say what went wrong and where (`message`) and what to do next (`advice`)."""

    exit_code: int = ExitCode.FAILURE

    def __init__(self, message: str, advice: str | None = None) -> None:
        """Keep both texts; they are shown as one line."""
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        """Join what and what next; a control character in a name can't break the line."""
        text = self.message if self.advice is None else f"{self.message}; {self.advice}"
        return printable(text)


class FileTrouble(EsisError):
    """Report that the file system refused something; names the path and the errno."""

    @classmethod
    def of(cls, error: OSError, doing: str, advice: str | None = None) -> FileTrouble:
        """Describe `error`, met while `doing` something."""
        where = error.filename if error.filename is not None else ""
        if isinstance(where, bytes):
            where = where.decode("utf-8", "backslashreplace")
        name = _errno_name(error)
        return cls(f"{doing}: {where}: {error.strerror or error} ({name})".replace(": : ", ": "), advice)


class CorruptState(EsisError):
    """Report a file of ESIS's own that can't be read as what it should be."""


class BadInput(EsisError):
    """Report input that can't be used: arguments, workflow files, templates, names."""

    exit_code = ExitCode.BAD_INPUT


class RequirementTrouble(EsisError):
    """Report requirements that are missing, incomplete or failed."""

    exit_code = ExitCode.REQUIREMENT


class UserScriptFailed(EsisError):
    """Report a generator or setup script that failed or broke its contract."""

    exit_code = ExitCode.USER_SCRIPT


class SlurmRefused(EsisError):
    """Report that Slurm definitely refused a request; nothing was queued."""

    exit_code = ExitCode.REFUSED


class LimitReached(SlurmRefused):
    """Report that Slurm takes no more jobs for now: a limit on their number is reached."""

    exit_code = ExitCode.NO_ROOM


class SlurmUnanswered(EsisError):
    """Report that Slurm could not be asked, or that an outcome isn't known yet."""

    exit_code = ExitCode.UNANSWERED


class Busy(EsisError):
    """Report that another process is at work on the same run."""

    exit_code = ExitCode.BUSY


class TasksFailed(EsisError):
    """Report that tasks of a run failed."""

    exit_code = ExitCode.TASKS_FAILED


class IncompleteResults(EsisError):
    """Report that tasks have no results where all were insisted on."""

    exit_code = ExitCode.INCOMPLETE


class StillActive(EsisError):
    """Report that tasks of a run wait or run, where nothing can be done meanwhile."""

    exit_code = ExitCode.ACTIVE


class Incomplete(EsisError):
    """Report that tasks of a run were never submitted, where all have to be done."""

    exit_code = ExitCode.INCOMPLETE


class Interrupted(EsisError):
    """Report that the user ended a local run before its tasks had ended."""

    exit_code = ExitCode.INTERRUPTED


def printable(text: str) -> str:
    """Return `text` as one line that is safe to show on a terminal."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode("ascii") for c in text
    )


def _errno_name(error: OSError) -> str:
    import errno

    return errno.errorcode.get(error.errno, "no errno") if error.errno is not None else "no errno"
