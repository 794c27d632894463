# shellcheck shell=sh
# ESIS: sourced by sbatch.sh at the start of every task. Writes the task records, lets only one job of a submission
# do the work, and checks that the runs which this one requires are complete. POSIX shell, no ESIS needed here.
#
# A record is one file in __esis__/tasks/ whose name tells the state:
#   <task>.<submission>.<array job id>.<restart count>.<start>.running
#   <task>.<submission>.<array job id>.<restart count>.<start>.exit<code>.<end>      (the same file, renamed)
#   <task>.<submission>.<array job id>.<restart count>.<start>.slurm-<WORD>.<end>    (renamed by ESIS: Slurm's verdict)
#   <task>.<submission>.<array job id>.<restart count>.<start>.resumable.<end>       (it saved, and wants to go on)
# with times in seconds since 1970. Whatever goes wrong with the records, the job itself runs on.

esis_dir=$(CDPATH='' cd -- "${esis_hook%/task.sh}" 2>/dev/null && pwd -P) || esis_dir=
esis_job=${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-0}}
esis_fenced=${SLURM_ESIS_SUBMISSION:-}
# Not for jobs that this one submits, and not from one that submitted this.
unset SLURM_ESIS_SUBMISSION SLURM_ESIS_INDEX SLURM_ESIS_RECORD
esis_record=
esis_wait=${ESIS_REQUIREMENT_WAIT:-75}
case $esis_wait in *[!0-9]*) esis_wait=75 ;; esac

# The fence: a symbolic link carries the owner and is made in one atomic step. Submissions by hand aren't fenced.
if [ -n "$esis_fenced" ] && [ -n "$esis_dir" ]; then
    esis_claim=$esis_dir/submissions/$esis_submission.claim
    if ! ln -s "$esis_job" "$esis_claim" 2>/dev/null && [ -L "$esis_claim" ] \
        && [ "$(readlink "$esis_claim")" != "$esis_job" ]; then
        echo "ESIS: job $(readlink "$esis_claim") does the work of this submission; job $esis_job steps aside" >&2
        exit 0
    fi
fi

# A submission of many scattered tasks is a dense array; its map tells which task stands at this position.
esis_index=${SLURM_ARRAY_TASK_ID:-}
# For who has to name this task to Slurm: scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ESIS_INDEX".
[ -z "$esis_index" ] || export SLURM_ESIS_INDEX="$esis_index"
if [ -n "$esis_index" ] && [ -n "$esis_dir" ] && [ -r "$esis_dir/submissions/$esis_submission.map" ]; then
    SLURM_ARRAY_TASK_ID=$(sed -n "$((esis_index + 1))p" "$esis_dir/submissions/$esis_submission.map")
    export SLURM_ARRAY_TASK_ID
    if [ -z "$SLURM_ARRAY_TASK_ID" ]; then
        printf 'ESIS: %s.map has no task at position %s\n' "$esis_submission" "$esis_index" >&2
        exit 75
    fi
fi

# Start record: made aside, then renamed, so that no reader sees half of it.
esis_start() {
    [ -n "$esis_dir" ] && [ -n "${SLURM_ARRAY_TASK_ID:-}" ] || return 0
    esis_stem=$SLURM_ARRAY_TASK_ID.$esis_submission.$esis_job.${SLURM_RESTART_COUNT:-0}.$(date +%s)
    esis_temporary=$esis_dir/tasks/.$esis_stem.$$
    if printf '{"host": "%s", "pid": %s, "job": "%s", "index": %s}\n' \
            "$(uname -n)" "$$" "${SLURM_JOB_ID:-}" "$esis_index" 2>/dev/null >"$esis_temporary" \
        && mv -f "$esis_temporary" "$esis_dir/tasks/$esis_stem.running" 2>/dev/null; then
        esis_record=$esis_dir/tasks/$esis_stem
        # A worker that has saved its state, wants to go on later and can't be requeued leaves a file of this name
        # with .resume behind it, and ends with 75: esis resubmit takes it.
        export SLURM_ESIS_RECORD="$esis_record"
    else
        rm -f "$esis_temporary" 2>/dev/null
        printf "ESIS: can't write the record of this task's start into %s\n" "$esis_dir/tasks" >&2
    fi
    return 0
}

# End record: one rename, which needs no space on the disk. Call it yourself where your script sets its own EXIT trap:
#   trap 'esis_code=$?; rm -rf "$scratch"; esis_end "$esis_code" || esis_code=75; exit "$esis_code"' EXIT
# Not 0 where the record can't be written: a task whose end nobody can know must not end well, or Slurm's COMPLETED
# would make it done. Where somebody has removed the records there is none to write, and the exit status stays.
esis_end() {
    [ -n "$esis_record" ] || return 0
    esis_stem=$esis_record
    esis_record=
    esis_word=exit$1
    [ ! -e "$esis_stem.resume" ] || esis_word=resumable
    if mv -f "$esis_stem.running" "$esis_stem.$esis_word.$(date +%s)" 2>/dev/null; then
        [ "$esis_word" = resumable ] || return 0
        rm -f "$esis_stem.resume" 2>/dev/null
        echo "ESIS: task ${SLURM_ARRAY_TASK_ID:-} saved its state and has more to do: esis resubmit" >&2
        # Not a bare `return`: in a trap that has the status of before the trap.
        [ "$1" = 0 ] && return 1
        return 0
    fi
    printf "ESIS: can't write the record of this task's end into %s\n" "$esis_dir/tasks" >&2
    ! [ -d "$esis_dir/tasks" ]
}

# A run is complete when completed.state holds 1, or when the latest record of each of its tasks says exit0.
esis_is_complete() {
    [ "$(cat "$3/__esis__/completed.state" 2>/dev/null)" = 1 ] && return 0
    # shellcheck disable=SC2012
    ls -f "$3/__esis__/tasks" 2>/dev/null | awk -F. -v first="$1" -v last="$2" '
        !/^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+\.(running|(exit[0-9]+|resumable|slurm-[A-Z_]+)\.[0-9]+)$/ { next }
        $1 + 0 < first + 0 || $1 + 0 > last + 0 { next }
        !($1 in word) || $2 > submission[$1] || ($2 == submission[$1] && ($3 == job[$1] ? $4 + 0 > restart[$1] : $5 + 0 > start[$1])) {
            submission[$1] = $2; job[$1] = $3; restart[$1] = $4 + 0; start[$1] = $5 + 0; word[$1] = $6
        }
        $2 == submission[$1] && $3 == job[$1] && $4 + 0 == restart[$1] && $6 != "running" { word[$1] = $6 }
        END { for (task in word) if (word[task] == "exit0") done++; exit done + 0 < last - first + 1 }'
}

# Slurm lifts the dependency on a failed job once it has forgotten that job, so the job itself looks again. Directory
# listings of network file systems may be a minute old: not complete is believed only after a while.
esis_check_requirements() {
    [ -n "$esis_dir" ] && [ -r "$esis_dir/requirements" ] || return 0
    while IFS= read -r esis_line || [ -n "$esis_line" ]; do
        esis_waited=0
        # <first task>:<last task>:<path>
        esis_tasks=${esis_line%%:*}
        esis_line=${esis_line#*:}
        until esis_is_complete "$esis_tasks" "${esis_line%%:*}" "${esis_line#*:}"; do
            if [ "$esis_waited" -ge "$esis_wait" ]; then
                # Not echo: some shells' echo takes the backslashes of a path away.
                printf 'ESIS: the required run %s is not complete, so this task does not start; %s\n' \
                    "${esis_line#*:}" "esis status on it tells why" >&2
                return 1
            fi
            esis_waited=$((esis_waited + 5))
            sleep 5
        done
    done <"$esis_dir/requirements"
    return 0
}

# A signal for the script is meant for the worker: hand it on to the last command that runs in the background, as in
# `srun WORKERSCRIPT & wait $!`, and give it the time to save. Its exit status becomes the script's, but never 0: the
# lines behind the worker were not run.
esis_signalled() {
    esis_child=$(set +u; echo "$!")
    esis_code=$((128 + $2))
    case $esis_child in "" | 0 | *[!0-9]*) exit "$esis_code" ;; esac
    if kill -s "$1" "$esis_child" 2>/dev/null; then
        esis_ended=0
        while kill -0 "$esis_child" 2>/dev/null; do
            wait "$esis_child" && esis_ended=0 || esis_ended=$?
        done
        [ "$esis_ended" = 0 ] || esis_code=$esis_ended
    fi
    # Here, because ksh and mksh under set -e leave the EXIT trap out when a signal has ended their wait.
    esis_end "$esis_code"
    exit "$esis_code"
}

esis_start
# A shell that a signal kills would run the EXIT trap with the exit status of its previous command, often 0: each
# signal ends the script with a status of its own. Traps that the script sets later replace these.
trap 'esis_code=$?; esis_end "$esis_code" || [ "$esis_code" != 0 ] || esis_code=75; exit "$esis_code"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 131' QUIT
trap 'esis_signalled USR1 10' USR1
trap 'exit 141' PIPE
trap 'exit 142' ALRM
trap 'esis_signalled TERM 15' TERM
trap 'exit 140' USR2
trap 'exit 152' XCPU
esis_check_requirements || exit 75
