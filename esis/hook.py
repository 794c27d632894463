"""Name what task.sh, the hook in each job, shares with workers and commands.

task.sh can't import this; a test compares the two. The names begin with SLURM_, for sbatch hands such variables on also
with --export=NONE (seen on 20.11, 22.05 and 24.11).
"""

from __future__ import annotations

# Set by the commands, read by the hook.
# Variables called SLURM_* alone also pass `#SBATCH --export=NONE`; the hook takes those away that no worker needs.
FENCE_VARIABLE = "SLURM_ESIS_SUBMISSION"  # which array of which submission the job is
OFFSET_VARIABLE = "SLURM_ESIS_OFFSET"  # what the job adds to Slurm's index
# Set by the hook or by `esis run --local`, read by workers.
RECORD_VARIABLE = "SLURM_ESIS_RECORD"  # path of this attempt's record without its last word
INDEX_VARIABLE = "SLURM_ESIS_INDEX"  # Slurm's own index of the array
LOCAL_VARIABLE = "SLURM_ESIS_LOCAL"  # there is no Slurm
PATH_VARIABLE = "SLURM_ESIS_PATH"  # what PATH begins with then
PACKED_VARIABLE = "SLURM_ESIS_PACKED"  # several tasks share the job

# Set by templates, read by workers: when this very job ends, in seconds since 1970.
JOB_END = "ESIS_JOB_END_TIME"

RUNNING_SUFFIX = ".running"  # behind the path of the record of an attempt that hasn't ended
RESUME_SUFFIX = ".resume"  # behind the path of an attempt's record: its worker has saved its state
AGAIN = 75  # EX_TEMPFAIL of sysexits.h: not a failure, come back later
