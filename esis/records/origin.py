"""Find out who uses ESIS, where and with what, and tell clusters apart: for who writes a submission, or doubts one."""

from __future__ import annotations

import os
import platform
import sys

from esis.locks import user_name
from esis.records.submissions import Cluster, Origin
from esis.version import VERSION


def origin_here() -> Origin:
    """Return that of this process; no program is started."""
    return Origin(
        user=user_name(os.getuid()),
        uid=os.getuid(),
        host=os.uname().nodename,
        esis=VERSION,
        python=platform.python_version(),
        python_executable=sys.executable,
        platform=_platform(),
        modules=tuple(name for name in os.environ.get("LOADEDMODULES", "").split(":") if name),
        conda_environment=os.environ.get("CONDA_DEFAULT_ENV"),
        virtual_environment=os.environ.get("VIRTUAL_ENV"),
    )


def _platform() -> str:
    """Return what `platform.platform` says, which would start `uname -p` for a processor that it doesn't show then."""
    system = os.uname()
    library = "".join(platform.libc_ver())
    return "-".join([system.sysname, system.release, system.machine, *(["with", library] if library else [])])


def are_different(cluster: Cluster, other: Cluster) -> bool:
    """Return whether these are certainly two clusters; one that moves to another controller seems to be."""
    hosts, others = set(cluster.controllers), set(other.controllers)
    return cluster.name != other.name or bool(hosts and others and hosts.isdisjoint(others))


def elsewhere(home: Cluster, present: Cluster) -> str:
    """Say that jobs are on another cluster than the one that was asked, and what can be done."""
    named = f"; with slurmdbd: SLURM_CLUSTERS={home.name}" if home.name != present.name else ""
    return (
        f"this is cluster {_shown(present)}, and it was submitted to cluster {_shown(home)}: use a login node of that "
        f"one, or set SLURM_CONF to its configuration{named}"
    )


def _shown(cluster: Cluster) -> str:
    return f"{cluster.name} ({', '.join(cluster.controllers)})" if cluster.controllers else cluster.name
