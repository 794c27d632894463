"""Decide which variables of the caller's environment reach the programs that ESIS starts.

Slurm's commands read options from variables; people export some to see less (SQUEUE_PARTITION), to ask for something
(SBATCH_ACCOUNT), and a job has others (SLURM_ARRAY_TASK_ID). Each variable of the manual pages of sbatch, squeue,
sacct, scancel and scontrol (20.11 to 26.05) is decided on here: what bears one of their prefixes and isn't named below
is taken away, also where it is newer than this list.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

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
        "ACCOUNT ACCTG_FREQ BATCH BURST_BUFFER CLUSTER_CONSTRAINT COMMENT CONSOLIDATE_SEGMENTS CONSTRAINT CONTAINER"
        " CONTAINER_ID CONTAINER_TYPE CORE_SPEC CPUS_PER_GPU CPU_FREQ_REQ DELAY_BOOT DISTRIBUTION EXCLUSIVE"
        " GET_USER_ENV GPUS GPUS_PER_NODE GPUS_PER_SOCKET GPUS_PER_TASK GPU_BIND GPU_FREQ GRES GRES_FLAGS HINT"
        " IGNORE_PBS MEM_BIND MEM_PER_CPU MEM_PER_GPU MEM_PER_NODE NETWORK NO_KILL NO_REQUEUE OPEN_MODE OVERCOMMIT"
        " PARTITION POWER PROFILE QOS REQUEUE REQ_SWITCH RESERVATION SEGMENT_SIZE SIGNAL SPREAD_JOB SPREAD_SEGMENTS"
        " THREADS_PER_CORE THREAD_SPEC TIMELIMIT TRES_BIND TRES_PER_TASK USE_MIN_NODES WAIT4SWITCH WAIT_ALL_NODES"
        " WCKEY"
    ).split()
)
# Filters and formats of the commands that ask and act: an answer with something left out would be taken for the truth.
_QUERIES: Final = ("SACCT_", "SCANCEL_", "SCONTROL_", "SINFO_", "SQUEUE_")


def clean_environment(**extra: str) -> dict[str, str]:
    """Return the user's environment for sbatch, for the user's scripts and local tasks, plus `extra`."""
    kept = {name: value for name, value in os.environ.items() if _is_kept(name)}
    if "SBATCH_CLUSTERS" in os.environ:
        # Only sbatch reads it: squeue would look for the job elsewhere, and not find it.
        kept["SLURM_CLUSTERS"] = os.environ["SBATCH_CLUSTERS"]
    kept.update(extra)
    return kept


def query_environment(**extra: str) -> Mapping[str, str]:
    """Return the environment for Slurm's other commands, in which nothing filters what they show or do."""
    return {name: value for name, value in clean_environment(**extra).items() if not name.startswith(_QUERIES)}


def _is_kept(name: str) -> bool:
    if name.startswith("SLURM_"):
        return name in SLURM_KEPT
    return not name.startswith("SBATCH_") or name in SBATCH_KEPT
