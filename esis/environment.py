"""Decide which variables of the caller's environment reach the programs that ESIS starts.

Slurm's commands read options from variables; people export some to see less (SQUEUE_PARTITION), to ask for something
(SBATCH_ACCOUNT), and a job has others (SLURM_ARRAY_TASK_ID). Each variable of the manual pages of sbatch, squeue,
sacct, scancel and scontrol (20.11 to 26.05) is decided on here: what bears one of their prefixes and isn't named below
is taken away, also where it is newer than this list.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from esis.hook import JOB_END

# Which controller, and how to be let in. All else that is called SLURM_* tells of an enclosing job, or changes what
# commands print (SLURM_TIME_FORMAT, SLURM_BITSTR_LEN, SLURM_DEBUG_FLAGS).
SLURM_KEPT: Final = frozenset(
    {
        "SLURM_CLUSTERS",
        "SLURM_CONF",
        "SLURM_CONF_SERVER",
        "SLURM_JWT",
        "SLURM_SACK_JWKS",
        "SLURM_SACK_KEY",
        "SLURM_SACK_SOCKET",
    }
)
# What is asked for, on whose account: these are the user's, and outrank the template as sbatch(1) says. Not kept are
# those that change what ESIS promises or reads: the array, what it waits for, its name and logs, its environment, what
# sbatch prints, and whether it returns (SBATCH_ARRAY_INX, _DEBUG, _DEPENDENCY, _ERROR, _EXPORT, _EXPORT_FILE, _INPUT,
# _JOB_NAME, _OUTPUT, _TEST_ONLY, _WAIT).
SBATCH_KEPT: Final = frozenset(
    f"SBATCH_{name}"
    for name in (
        "ACCOUNT ACCTG_FREQ BATCH BURST_BUFFER CLUSTERS CLUSTER_CONSTRAINT COMMENT CONSOLIDATE_SEGMENTS CONSTRAINT"
        " CONTAINER CONTAINER_ID CONTAINER_TYPE CORE_SPEC CPUS_PER_GPU CPU_FREQ_REQ DELAY_BOOT DISTRIBUTION EXCLUSIVE"
        " GET_USER_ENV GPUS GPUS_PER_NODE GPUS_PER_SOCKET GPUS_PER_TASK GPU_BIND GPU_FREQ GRES GRES_FLAGS HINT"
        " IGNORE_PBS MEM_BIND MEM_PER_CPU MEM_PER_GPU MEM_PER_NODE NETWORK NO_KILL NO_REQUEUE OPEN_MODE OVERCOMMIT"
        " PARTITION POWER PROFILE QOS REQUEUE REQ_SWITCH RESERVATION SEGMENT_SIZE SIGNAL SPREAD_JOB SPREAD_SEGMENTS"
        " THREADS_PER_CORE THREAD_SPEC TIMELIMIT TRES_BIND TRES_PER_TASK USE_MIN_NODES WAIT4SWITCH WAIT_ALL_NODES"
        " WCKEY"
    ).split()
)
# A process of an MPI program, and the server on its node that tells it of the others (PMI, PMIx): `srun` sets these,
# also for a shell. Who finds them takes himself for that process. What people set themselves (PMIX_MCA_*) stays.
_RANK: Final = ("PMI_FD", "PMI_JOBID", "PMI_RANK", "PMI_SIZE", "PMIX_NAMESPACE", "PMIX_RANK", "PMIX_SERVER_")
# Filters and formats of the commands that ask and act: an answer with something left out would be taken for the truth.
_QUERIES: Final = ("SACCT_", "SCANCEL_", "SCONTROL_", "SINFO_", "SQUEUE_")


def clean_environment(**extra: str) -> dict[str, str]:
    """Return the user's environment for the user's scripts and local tasks, plus `extra`."""
    kept = {name: value for name, value in os.environ.items() if _is_kept(name)}
    if kept.get("SLURM_CONF"):
        kept["SLURM_CONF"] = _absolute(kept["SLURM_CONF"])
    kept.update(extra)
    return kept


def submit_environment(**extra: str) -> dict[str, str]:
    """Return the environment for sbatch, which hands it on to the jobs (--export=ALL).

    The clusters are named as sbatch alone reads them: with SLURM_CLUSTERS an srun in the job would look for its
    allocation on all of them, and not find it. When the job around this one ends says nothing of those to come.
    """
    env = _naming("SBATCH_CLUSTERS", clean_environment(**extra))
    env.pop(JOB_END, None)
    return env


def query_environment(**extra: str) -> Mapping[str, str]:
    """Return the environment for Slurm's other commands, in which nothing filters what they show or do.

    They talk to the clusters that sbatch is sent to: elsewhere nobody knows the job.
    """
    kept = {name: value for name, value in clean_environment(**extra).items() if not name.startswith(_QUERIES)}
    return _naming("SLURM_CLUSTERS", kept)


def named_clusters() -> tuple[str, ...]:
    """Return the clusters that the user names for all commands; none: the default one is meant."""
    return tuple(name for name in _clusters(os.environ).split(",") if name)


def slurm_route() -> tuple[str, ...]:
    """Return what decides on one machine which cluster Slurm's commands talk to: where they lie, and the variables."""
    places = (os.path.join(directory, "sbatch") for directory in os.get_exec_path())  # noqa: PTH118
    program = next((place for place in places if os.access(place, os.X_OK)), "")
    named = {name: os.environ.get(name, "") for name in ("SLURM_CONF", "SLURM_CONF_SERVER")}
    named["SLURM_CONF"] = named["SLURM_CONF"] and _absolute(named["SLURM_CONF"])
    named["SLURM_CLUSTERS"] = _clusters(os.environ)
    return program, *(f"{name}={value}" for name, value in sorted(named.items()) if value)


def _absolute(path: str) -> str:
    """Return a path as it is meant here: the programs start in other directories."""
    with suppress(OSError):  # this one is gone
        return os.path.abspath(path)  # noqa: PTH100
    return path


def _clusters(environment: Mapping[str, str]) -> str:
    return environment.get("SBATCH_CLUSTERS") or environment.get("SLURM_CLUSTERS") or ""


def _naming(variable: str, environment: dict[str, str]) -> dict[str, str]:
    """Return an environment that names the clusters by that variable alone."""
    others = {name: value for name, value in environment.items() if name not in ("SBATCH_CLUSTERS", "SLURM_CLUSTERS")}
    named = _clusters(environment)
    return {**others, variable: named} if named else others


def _is_kept(name: str) -> bool:
    if name.startswith("SLURM_"):
        return name in SLURM_KEPT
    if name.startswith("SBATCH_"):
        return name in SBATCH_KEPT
    return not name.startswith(_RANK)
