"""Read a cluster's configuration, as `scontrol show config` tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from esis.environment import slurm_route
from esis.model.limits import Limits
from esis.records.submissions import Cluster
from esis.schedulers.query import ask

_LINE = re.compile(r"([A-Za-z][A-Za-z0-9_]*(?:\[\d+\])?)\s*=\s?(.*)\Z")
_ARRAY_TASKS = re.compile(r"\bmax_array_tasks=(\d+)")
_CONTROLLER = re.compile(r"SlurmctldHost\[\d+\]\Z|ControlMachine\Z|BackupController\d*\Z")  # the others up to 18.08
_SHOW = ("show", "config")
ARGV = ("scontrol", *_SHOW)


def parse_config(stdout: str) -> Mapping[str, str]:
    """Return the settings by their names; lines that are none are left out."""
    matches = (_LINE.match(line.rstrip()) for line in stdout.split("\n"))
    return {match.group(1): match.group(2).strip() for match in matches if match is not None}


def limits_in(config: Mapping[str, str]) -> Limits:
    """Return what the settings say about arrays; what isn't there is Slurm's default."""
    size, timeout = _number(config, "MaxArraySize"), _number(config, "MessageTimeout")
    tasks = _ARRAY_TASKS.search(config.get("SchedulerParameters", ""))
    return Limits(
        Limits.max_array_size if size is None else size,
        int(tasks.group(1)) if tasks is not None else None,
        Limits.message_timeout if timeout is None else float(timeout),
        config.get("SLURM_VERSION") or None,
    )


def cluster_in(config: Mapping[str, str]) -> Cluster | None:
    """Return which cluster the settings are of; None where they don't tell."""
    name = config.get("ClusterName", "")
    if name in ("", "(null)"):
        return None
    hosts = {value.partition("(")[0].strip() for key, value in config.items() if _CONTROLLER.match(key)}
    return Cluster(name, tuple(sorted(hosts - {""})), slurm_route())


def ask_config(cluster: str = "") -> tuple[Mapping[str, str], str | None]:
    """Return the settings of a cluster ("": the default one), and what went wrong.

    A failed query is never an empty answer.
    """
    text, problem = ask(("scontrol", "-M", cluster, *_SHOW) if cluster else ARGV)
    return parse_config(text), problem


def _number(config: Mapping[str, str], name: str) -> int | None:
    """Return the number that a setting begins with, e.g. of `10 sec`."""
    found = re.match(r"\d+", config.get(name, ""))
    return int(found.group()) if found is not None else None
