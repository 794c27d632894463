"""The clusters that tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

# testcontainers needs Python 3.10; ci/test says what isn't run without it.
INSTALLED = find_spec("testcontainers") is not None
if INSTALLED:
    from tests.cluster import harness
else:
    collect_ignore_glob = ["test_*.py"]

HERE = Path(__file__).resolve().parent
SUITE = os.environ.get("ESIS_CLUSTER_SUITE", "bookworm")
"""The Debian suite of the shared clusters, and so the version of Slurm."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test below this directory."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)


PREEMPTING = """PreemptType=preempt/partition_prio
PreemptMode=CANCEL
PartitionName=low Nodes=c[1-2] PriorityTier=0 PreemptMode=CANCEL DefaultTime=10 State=UP
PartitionName=hidden Nodes=c[1-2] Hidden=YES DefaultTime=10 State=UP"""
"""Jobs of the partition low give way to those of the others, and are not requeued; those of hidden aren't shown."""


@pytest.fixture(scope="session")
def engine() -> None:
    """Skip where no container engine answers; fail instead where ESIS_REQUIRE_CLUSTER=1."""
    problem = harness.engine_problem() if INSTALLED else "testcontainers is not installed"
    if problem and os.environ.get("ESIS_REQUIRE_CLUSTER") == "1":
        pytest.fail(f"ESIS_REQUIRE_CLUSTER=1, but {problem}")
    if problem:
        pytest.skip(problem)


@pytest.fixture(scope="session")
def bare_cluster(engine: None) -> Iterator[harness.SlurmCluster]:
    """A cluster without accounting and without ESIS."""
    with harness.SlurmCluster(suite=SUITE, extra_conf=PREEMPTING) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def bare_cluster_accounting(engine: None) -> Iterator[harness.SlurmCluster]:
    """A cluster with accounting, without ESIS."""
    with harness.SlurmCluster(suite=SUITE, accounting=True, extra_conf=PREEMPTING) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def cluster(bare_cluster: harness.SlurmCluster) -> harness.SlurmCluster:
    """The cluster without accounting, ESIS installed on its login nodes."""
    bare_cluster.install(harness.wheelhouse(harness.PYTHON_OF[SUITE]))
    return bare_cluster


@pytest.fixture(scope="session")
def cluster_accounting(bare_cluster_accounting: harness.SlurmCluster) -> harness.SlurmCluster:
    """The cluster with accounting, ESIS installed on its login nodes."""
    bare_cluster_accounting.install(harness.wheelhouse(harness.PYTHON_OF[SUITE]))
    return bare_cluster_accounting


LONG = os.environ.get("ESIS_CLUSTER_FAULTS") == "1"


@pytest.fixture(params=["cluster", *(["cluster_accounting"] if LONG else [])])
def either_cluster(request: pytest.FixtureRequest) -> harness.SlurmCluster:
    """The cluster without accounting and, in the long run of all tests, also the one with it."""
    cluster: harness.SlurmCluster = request.getfixturevalue(request.param)
    return cluster
