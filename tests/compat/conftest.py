"""A fake Slurm whose jobs run only when a test says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.site import FakeSite


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FakeSite]:
    """The fake as a site."""
    made = FakeSite(tmp_path)
    made.slurm.set(auto=False)
    with made.slurm:
        yield made
