"""Hold what `esis doctor` finds: one line each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """Say how much a finding matters."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """Hold one: what was looked at, and what was found, with what to do about it."""

    level: Level
    subject: str
    message: str


def ok(subject: str, message: str) -> Finding:
    """Return a finding that is as it should be."""
    return Finding(Level.OK, subject, message)


def note(subject: str, message: str) -> Finding:
    """Return one that is worth knowing."""
    return Finding(Level.NOTE, subject, message)


def problem(subject: str, message: str) -> Finding:
    """Return one that will go wrong."""
    return Finding(Level.PROBLEM, subject, message)
