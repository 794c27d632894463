"""The fake srun: one task, no allocation, just the command."""

from __future__ import annotations

import os

from .options import UsageError, parse, words
from .program import fail
from .sbatch import FLAGS, OPTIONAL, SHORT, VALUED
from .store import Store

# srun has its own flags; -l and -u mean other things than with sbatch.
MORE_FLAGS = words("label unbuffered exact disable-status exclusive pty")
MORE_VALUED = words("mpi cpu-bind kill-on-bad-exit multi-prog relative")
MORE_SHORT = {"l": "label", "u": "unbuffered", "K": "kill-on-bad-exit"}


def main(store: Store, arguments: list[str]) -> int:
    """Become the command; `--chdir` is the only option with an effect."""
    try:
        options, command = parse(
            "srun",
            arguments,
            {**SHORT, **MORE_SHORT},
            (FLAGS | MORE_FLAGS) - {"array"},
            (VALUED | MORE_VALUED) - {"array"},
            OPTIONAL - MORE_FLAGS,
            permute=False,
        )
    except UsageError as error:
        return fail(str(error))
    if not command:
        return fail("srun: fatal: No command given to execute.")
    if "," in os.environ.get("SLURM_CLUSTERS", ""):
        job = os.environ.get("SLURM_JOB_ID", "")
        return fail(f"srun: error: Unable to confirm allocation for job {job}: Invalid job id specified")
    chosen = dict(options)
    if "chdir" in chosen:
        os.chdir(chosen["chdir"])
    environment = {**os.environ, "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        return fail(f"slurmstepd: error: execve(): {command[0]}: {error.strerror}", 2 if error.errno == 2 else 13)
