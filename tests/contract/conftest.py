"""Sites for the contract tests: the fake always, the real cluster where tests marked `cluster` are wanted."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import bare_cluster, cluster, engine  # noqa: F401  fixtures of the shared cluster
from tests.contract.site import ClusterSite, FakeSite, Site


@pytest.fixture(params=["fake", pytest.param("cluster", marks=pytest.mark.cluster)])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """The fake Slurm, then the real one."""
    if request.param == "fake":
        fake = FakeSite(tmp_path)
        with fake.slurm:
            yield fake
    else:
        yield ClusterSite(request.getfixturevalue("cluster"), f"t{secrets.token_hex(4)}")
