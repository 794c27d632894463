"""Other users than the one who runs the tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def nobody() -> Iterator[None]:
    """Be an ordinary user in the block, where this is root, who may read everything."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(65534)
    except OSError:
        pytest.skip("this root can't become another user")
    try:
        yield
    finally:
        os.seteuid(0)
