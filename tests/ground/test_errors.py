"""Errors carry what, where and what next in one line, and the exit code of the command."""

from __future__ import annotations

import errno

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from esis import errors
from esis.errors import EsisError, ExitCode, FileTrouble, printable

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy

ERRORS = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EsisError)),
    key=lambda kind: kind.__name__,
)


def test_exit_codes_are_a_contract() -> None:
    """The exit codes never change their meaning: scripts of users depend on them. New ones may come."""
    assert (
        ExitCode.all().items()
        >= {
            "OK": 0,
            "FAILURE": 1,
            "BAD_INPUT": 2,
            "REQUIREMENT": 3,
            "USER_SCRIPT": 4,
            "REFUSED": 5,
            "UNANSWERED": 6,
            "BUSY": 7,
            "TASKS_FAILED": 8,
            "INTERRUPTED": 130,
        }.items()
    )
    assert len({*ExitCode.all().values()}) == len(ExitCode.all())


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: str(kind.__name__))
def test_every_error_has_an_exit_code_of_failure(kind: type[EsisError]) -> None:
    """No error ends a command with 0."""
    assert kind.exit_code in ExitCode.all().values()
    assert kind.exit_code != ExitCode.OK


def test_message_and_advice_are_one_line() -> None:
    """What and what next are joined; a newline or an escape sequence in a name can't break or colour the line."""
    assert str(EsisError("a\nb \x1b[31m", "do\tthis")) == "a\\nb \\x1b[31m; do\\tthis"
    assert str(EsisError("no advice")) == "no advice"


@RELAXED
@given(st.text())
@example("\ud800 \udcff \u2028 \x85 \u202e")
def test_printable_is_one_safe_line(text: str) -> None:
    """Whatever a name holds, what is shown is printable, can be encoded, and shows all of it."""
    shown = printable(text)
    assert shown.isprintable()
    shown.encode("utf-8")
    assert printable(shown) == shown
    assert (shown == text) == text.isprintable()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "doing: /x/y: No space left on device (ENOSPC)"),
        (OSError(errno.EACCES, "Permission denied", b"/x/\xff"), r"doing: /x/\\xff: Permission denied (EACCES)"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "doing: Disk quota exceeded (EDQUOT)"),
        (OSError("odd"), "doing: odd (no errno)"),
    ],
)
def test_file_trouble_names_path_and_errno(error: OSError, expected: str) -> None:
    """F04: path and errno stand in the message, also where the path is no UTF-8 or unknown."""
    assert str(FileTrouble.of(error, "doing")) == expected.replace(r"\\", "\\")
