# shellcheck shell=sh disable=SC2154
# shellcheck disable=SC2034
esis_whole=no
# ESIS: sourced by sbatch.sh at the start of every task. Writes the task records, lets only one job of a submission
# do the work, and checks that the runs which this one requires are complete. POSIX shell, no ESIS needed here.
#
# A record is one file in __esis__/tasks/ whose name tells the state:
#   <task>.<submission>.<array job id>.<restart count>.<start>.running
#   <task>.<submission>.<array job id>.<restart count>.<start>.exit<code>.<end>      (the same file, renamed)
#   <task>.<submission>.<array job id>.<restart count>.<start>.slurm-<WORD>.<end>    (renamed by ESIS: Slurm's verdict)
#   <task>.<submission>.<array job id>.<restart count>.<start>.resumable.<end>       (it saved, and wants to go on)
# with times in seconds since 1970. Whatever goes wrong with the records, the job itself runs on; but without what tells
# which task it is, and that nobody else is at it, it ends with 75.
#
# The environment is input. What is read from it: SLURM_*, ESIS_REQUIREMENT_WAIT, LOADEDMODULES. All else is set before
# it is used, here or in the lines of sbatch.sh: esis_submission, esis_run (the run's hash), esis_arrays (how many),
# esis_offset, esis_mapped ("<lines> <checksum>" of the map), esis_pack, esis_required (lines of the list), esis_ends (for
# ksh and mksh: how the script came to its end) and esis_script; those of earlier versions set the first, and esis_offset
# and esis_pack where they have them. Programs are called by `command`, for bash takes functions from the environment,
# too. Files are made with >|, for `set -C` may hold, and no pipe's status is that of its first part, for
# `set -o pipefail` may.

# --- what this is

# Into esis_text: the number, or null.
esis_number() {
    case $1 in '' | *[!0123456789]* | 0?* | ????????????????*) esis_text=null ;; *) esis_text=$1 ;; esac
}

# Whether $1 is a file of fewer than $2 blocks of 512 bytes (without $2: of one at most, as all are that hold one line).
# `read` would take any number of bytes, one by one.
esis_is_small() {
    [ -f "$1" ] || return 1
    command -v find >/dev/null 2>&1 || return 0
    command find -H "$1" -size "-${2:-2}" 2>/dev/null | IFS= read -r esis_seen
}

# A file server whose answer got lost is asked again by the kernel, and then says that there is no such file: it has been
# renamed.
esis_move() {
    command mv -f "$1" "$2" || { [ -f "$2" ] && ! [ -e "$1" ]; }
}

# Elsewhere `command` finds what the shell itself has, but in zsh only when it is told so: too much of a change for the
# script, no matter for a subshell.
esis_in_subshell() {
    [ -z "${ZSH_VERSION:-}" ] || setopt posix_builtins 2>/dev/null || :
}

# The message goes to the log of the job; the task is failed, and can be resubmitted.
esis_refuse() {
    command printf 'ESIS: %s\n' "$1" >&2 || :
    exit 75
}

esis_job=${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-0}}
case $esis_job in *[!0123456789]*) esis_job=0 ;; esac
esis_number "${SLURM_RESTART_COUNT:-0}"
esis_restart=$esis_text
[ "$esis_restart" != null ] || esis_restart=0
esis_index=${SLURM_ARRAY_TASK_ID:-}
esis_fenced=${SLURM_ESIS_SUBMISSION:-}
esis_shift=${SLURM_ESIS_OFFSET:-}
esis_wait=${ESIS_REQUIREMENT_WAIT:-75}
case $esis_wait in *[!0123456789]*) esis_wait=75 ;; esac
esis_record=
esis_made=
esis_shared=
esis_from=

# One task of a pack is this script once more, started by the job that works through the pack (see esis_work_pack).
# Such tasks may be short and many, so they start as few processes as can be: the job tells them what it found out.
esis_in_pack=
case ${SLURM_ESIS_PACKED:-} in
    "$esis_job:"*)
        esis_in_pack=1
        esis_dir=${SLURM_ESIS_PACKED#*:}
        esis_fenced=${esis_dir%%:*}
        esis_dir=${esis_dir#*:}
        esis_host=${esis_dir%%:*}
        esis_dir=${esis_dir#*:}
        esis_from=${SLURM_ESIS_FROM:-}
        ;;
    *)
        unset SLURM_ESIS_PACKED
        esis_dir=$(esis_in_subshell
            CDPATH='' command cd -- "${esis_hook%/task.sh}" >/dev/null 2>&1 && command pwd -P) || esis_dir=
        # ksh needs a disk with room for $(...).
        [ -n "$esis_dir" ] || case $esis_hook in
            /*) esis_dir=${esis_hook%/task.sh} ;;
            *) esis_dir=$PWD/${esis_hook%/task.sh} ;;
        esac
        [ -d "$esis_dir" ] || esis_dir=
        esis_host=$(command uname -nr) || esis_host=
        ;;
esac
# Into esis_text: the kernel's name for a process: of its program, or of the script whose first line named that.
esis_name_process() {
    esis_text=
    { IFS= read -r esis_text <"/proc/$1/comm" || :; } 2>/dev/null
}

# A script that starts itself again (in a container, by newgrp, with a limit of its own) is in the same attempt: it knows
# its task by now, and the first one records the end, unless `exec` has put this one in its place, or a program that waits
# for this one: the first one's process has another name then. Not one that starts several: the first to end would tell
# for all. Nor can it be known from a node or a container that doesn't show that process.
esis_inside=
case ${SLURM_ESIS_INSIDE:-} in
    "$esis_job:$esis_restart:$esis_index:$esis_submission:${esis_run:-}:"*)
        esis_inside=again
        esis_outside=${SLURM_ESIS_INSIDE#"$esis_job:$esis_restart:$esis_index:$esis_submission:${esis_run:-}:"}
        case $esis_outside in
            "$$:$esis_host:"*) esis_inside=replaced ;;
            [123456789]*":$esis_host:"?*)
                esis_name_process "${esis_outside%%:*}"
                case $esis_text in
                    '' | "${esis_outside#*":$esis_host:"}") ;;
                    srun | mpirun | mpiexec* | hydra* | orterun | prterun | prun | aprun | jsrun | ibrun | xargs | parallel) ;;
                    *) esis_inside=replaced ;;
                esac
                ;;
        esac
        esis_record=${SLURM_ESIS_RECORD:-}
        ;;
esac
# Not for jobs that this one submits, and not from one that submitted this.
unset SLURM_ESIS_SUBMISSION SLURM_ESIS_OFFSET SLURM_ESIS_FROM
[ -n "$esis_inside" ] || unset SLURM_ESIS_INDEX SLURM_ESIS_RECORD SLURM_ESIS_INSIDE
[ "${SLURM_CLUSTER_NAME:-}" = local ] || unset SLURM_ESIS_LOCAL
# A login shell (bash -l) has set PATH anew: the stand-in for srun comes first again.
if [ -n "${SLURM_ESIS_LOCAL:-}" ] && [ -n "${SLURM_ESIS_PATH:-}" ]; then
    case $PATH: in "$SLURM_ESIS_PATH":*) ;; *) PATH=$SLURM_ESIS_PATH:$PATH ;; esac
    export PATH
fi
unset SLURM_ESIS_PATH
esis_path=${PATH-} esis_libraries=${LD_LIBRARY_PATH-}
esis_map=$esis_dir/submissions/$esis_submission.map
esis_attempt=$esis_dir/attempts

# A relative path may lead into another run. One that somebody has renamed is taken as it is.
case ${esis_dir%/__esis__} in
    */wrkdir."${esis_run:-}") ;;
    */wrkdir.????????????????????????????????????????????????????????????????)
        [ -z "${esis_run:-}" ] \
            || esis_refuse "this script is one of wrkdir.$esis_run, not of ${esis_dir%/__esis__}" ;;
esac
if [ -z "$esis_dir" ] && { [ -n "$esis_fenced" ] || [ -n "${esis_pack:-}" ] || [ -n "${esis_mapped:-}" ]; }; then
    esis_refuse "the directory of $esis_hook can't be used, and this job needs it"
fi

# Somebody may have removed the run and be building it again, below jobs that still wait: what the setup script makes isn't
# there yet. Where nothing tells (0.0.4, a power cut) the job goes on.
esis_stage=
if [ -z "$esis_in_pack" ] && [ -r "$esis_dir/state.json" ] && esis_is_small "$esis_dir/state.json" 9; then
    while IFS= read -r esis_text; do
        case $esis_text in *'"stage": '*) esis_stage=$esis_text ;; esac
    done <"$esis_dir/state.json"
fi
case $esis_stage in
    '' | *'"prepared"'*) ;;
    *) esis_refuse "${esis_dir%/__esis__} is being built, so this task does not start" ;;
esac

# --- the time

# Into esis_time. Bash knows the time since its version 5, and ignores what is assigned; zsh does neither. A variable of
# that name, or one that tells the shell, may as well come from the environment.
esis_now() {
    if [ -z "${ZSH_VERSION:-}" ]; then
        EPOCHSECONDS=0
        esis_time=$EPOCHSECONDS
        [ "$esis_time" = 0 ] || return 0
    fi
    esis_number "$(command date +%s)"
    esis_time=$esis_text
    [ "$esis_time" != null ] || esis_time=0
}

# --- the fence

# A symbolic link carries the owner and is made in one atomic step. Submissions by hand aren't fenced. It never opens by
# itself: where the link can't be made (no inodes, quota, read-only), or something else lies in its place, nobody knows
# whether another job is at the same work. `ln` makes links inside of a directory of that name, so what counts is what
# is read back. Network file systems may hide a new link from the first look, but not from `ln`.
if [ -n "$esis_fenced" ] && [ -z "$esis_in_pack" ]; then
    case $esis_fenced in
        "$esis_submission" | "$esis_submission".*) ;;
        *) esis_refuse "SLURM_ESIS_SUBMISSION=$esis_fenced is not submission $esis_submission, whose script this is" ;;
    esac
    if [ "$esis_job" = 0 ] || [ -z "$esis_index" ]; then
        esis_refuse "this task of submission $esis_fenced has no SLURM_ARRAY_JOB_ID or no SLURM_ARRAY_TASK_ID"
    fi
    esis_claim=$esis_dir/submissions/$esis_fenced.claim
    esis_problem="it is there, and names no job"
    [ -L "$esis_claim" ] || [ -e "$esis_claim" ] \
        || esis_problem=$(command ln -s "$esis_job" "$esis_claim" 2>&1) || :
    esis_owner=$(command readlink "$esis_claim" 2>/dev/null) || esis_owner=
    case $esis_owner in
        "$esis_job") ;;
        '' | *[!0123456789]*) esis_refuse "nobody knows which job does this work, for $esis_claim can't be made or read, so job $esis_job doesn't: $esis_problem" ;;
        *)
            command printf 'ESIS: job %s does the work of this submission; job %s steps aside\n' \
                "$esis_owner" "$esis_job" >&2 || :
            exit 0
            ;;
    esac
fi

# --- which task this is

# The tasks at the positions $1 to $2 of the map, from 0, a line each. The whole of the map has to be as it was made:
# without one of its lines all behind it are other tasks.
esis_mapped_tasks() {
    [ -f "$esis_map" ] && [ -r "$esis_map" ] || return 1
    LC_ALL=C command awk -v first="$1" -v last="$2" -v made="${esis_mapped:-}" '
        /[^0-9]/ || NF == 0 { bad = 1 }
        { sum = (sum * 31 + $0) % 2147483647 }
        NR > first + 0 && NR <= last + 1 { found = found $0 "\n" }
        END {
            if (bad || (made != "" && (NR " " sum + 0) != made)) exit 1
            printf "%s", found
        }' "$esis_map"
}

# Earlier versions tell nothing of a map: there it counts where it is.
esis_is_mapped() {
    [ -n "${esis_mapped-}" ] || { [ -z "${esis_mapped+set}" ] && [ -r "$esis_map" ]; }
}

esis_map_problem="$esis_map is missing, unreadable or not as it was made, so nobody knows which tasks these are"

# Slurm's indices end at MaxArraySize, tasks don't: what Slurm counts is shifted, or a position in a list of tasks.
if [ -n "$esis_index" ]; then
    esis_number "$esis_index"
    [ "$esis_text" != null ] || esis_refuse "SLURM_ARRAY_TASK_ID=$esis_index is no index of a task"
fi
if [ -n "$esis_index" ] && [ -z "$esis_in_pack$esis_inside" ]; then
    # sbatch.sh holds the offset of the first array. A site may take variables away; by hand there are none to begin with.
    if [ -n "$esis_shift" ]; then
        esis_offset=$esis_shift
    elif [ -n "$esis_fenced" ]; then
        case ${esis_arrays:-1}.$esis_fenced in
            "1.$esis_submission") ;;
            *) esis_refuse "SLURM_ESIS_OFFSET got lost on the way, so nobody knows which task this is" ;;
        esac
    elif [ "${esis_arrays:-1}" != 1 ] && command grep -q -e "\"id\": \"$esis_job\"" -e '"outcome": "open"' \
        "$esis_dir/submissions/$esis_submission.json" 2>/dev/null; then
        esis_refuse "which of its $esis_arrays arrays job $esis_job is got lost on the way (by hand: SLURM_ESIS_OFFSET=${esis_offset:-0} sbatch …)"
    fi
    esis_number "${esis_offset:-0}"
    [ "$esis_text" != null ] || esis_refuse "SLURM_ESIS_OFFSET=$esis_offset is no number"
    # For who has to name this task to Slurm: scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ESIS_INDEX".
    export SLURM_ESIS_INDEX="$esis_index"
    esis_unit=$((esis_index + esis_text))
    SLURM_ARRAY_TASK_ID=$esis_unit
    if [ -z "${esis_pack:-}" ] && esis_is_mapped; then
        SLURM_ARRAY_TASK_ID=$(esis_mapped_tasks "$esis_unit" "$esis_unit") || esis_refuse "$esis_map_problem"
        [ -n "$SLURM_ARRAY_TASK_ID" ] || esis_refuse "$esis_submission.map has no task at position $esis_unit"
    fi
    export SLURM_ARRAY_TASK_ID
fi
# For the end: a script may take all SLURM_* away, so that what it starts sees none.
esis_task=${SLURM_ARRAY_TASK_ID:-}

# --- attempts

# A node that is lost may go on with a task which Slurm has queued again, or which somebody has resubmitted: two attempts
# at once. The later one leaves its name in attempts/<task>, and what ESIS writes for the earlier one (import esis) looks
# there first. Only where there may be another attempt: a file for each task would be too many. Into esis_later: the name
# of the latest attempt that is known, if it isn't this one.
esis_look_for_attempts() {
    esis_later=
    esis_is_small "$esis_attempt/$esis_task" || return 0
    { read -r esis_later <"$esis_attempt/$esis_task" || :; } 2>/dev/null
    case $esis_later in
        *[!0123456789.]* | *..* | *. | *.*.*.*.*.* | *[!.][!.][!.][!.][!.][!.][!.][!.][!.][!.][!.][!.][!.][!.][!.][!.][!.]*) esis_later= ;;
        "$esis_task".*.*.*.*) [ "$esis_later" != "${esis_record##*/}" ] || esis_later= ;;
        *) esis_later= ;;
    esac
}

# Into esis_text: the number without zeros in front, which some shells take for octal.
esis_plain() {
    esis_text=$1
    while :; do
        case $esis_text in 0?*) esis_text=${esis_text#0} ;; *) return 0 ;; esac
    done
}

# Which of two attempts is the later one, `esis.records.tasks` says, too: the higher submission, within one job the
# higher restart, else the later start. A clock that was set back makes no attempt an earlier one.
esis_check_attempts() {
    esis_look_for_attempts
    [ -n "$esis_later" ] || return 0
    esis_plain "$esis_submission"
    esis_mine=$esis_text
    set -- "${esis_later#*.}"
    esis_plain "${1%%.*}"
    set -- "${1#*.}"
    if [ "$esis_text" = "$esis_mine" ] && [ "${1%%.*}" != "$esis_job" ]; then
        esis_plain "${1##*.}"
        [ "$esis_time" -gt "$esis_text" ] || esis_time=$((esis_text + 1))
        return 0
    fi
    if [ "$esis_text" = "$esis_mine" ]; then
        esis_mine=$esis_restart
        set -- "${1#*.}"
        esis_plain "${1%%.*}"
    fi
    [ "$esis_text" -le "$esis_mine" ] || esis_refuse "$esis_later is a later attempt at this task, as $esis_attempt/$SLURM_ARRAY_TASK_ID says, so this one does nothing"
}

# The names of all task records below the directory $1, folded ones, too, and what else lies there.
esis_list_records() {
    {
        QUOTING_STYLE=literal command ls -f "$1/tasks" || :
        [ ! -f "$1/tasks.txt" ] || LC_ALL=C command sed 's/ .*//' "$1/tasks.txt" || :
    } 2>/dev/null
}

# An attempt by hand begins behind all others of its submission, whatever the clocks of their nodes said, and that of the
# login node, on which somebody cancelled one. Only asked by hand: a look at the records for each task would be too much.
esis_start_last() {
    esis_plain "$esis_submission"
    esis_text=$(esis_list_records "$esis_dir" | LC_ALL=C command awk -F. -v task="$SLURM_ARRAY_TASK_ID" -v submission="$esis_text" -v job="$esis_job" '
        !/^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+\.(running|(exit[0-9]+|resumable|slurm-[A-Z_]+)\.[0-9]+)$/ { next }
        ($1 "") == (task "") && $2 + 0 == submission + 0 && ($3 "") != (job "") && $5 + 0 > last { last = $5 + 0 }
        END { printf "%.0f", last }') || esis_text=0
    esis_number "$esis_text"
    [ "$esis_text" = null ] || [ "$esis_time" -gt "$esis_text" ] || esis_time=$((esis_text + 1))
}

# Who reads an empty file knows of no later attempt yet, as before; what is there already is replaced at once.
esis_tell_attempt() {
    esis_plain "$esis_submission"
    if [ "$esis_restart.$esis_text" = 0.1 ] && [ -n "$esis_fenced" ] && [ -z "$esis_later" ]; then
        return 0
    fi
    esis_aside=$esis_attempt/$SLURM_ARRAY_TASK_ID
    [ ! -e "$esis_aside" ] || esis_aside=$esis_attempt/.$esis_stem
    { [ -d "$esis_attempt" ] || command mkdir -p "$esis_attempt"; } 2>/dev/null \
        && command printf '%s\n' "$esis_stem" 2>/dev/null >|"$esis_aside" \
        && { [ "$esis_aside" = "$esis_attempt/$SLURM_ARRAY_TASK_ID" ] \
            || esis_move "$esis_aside" "$esis_attempt/$SLURM_ARRAY_TASK_ID" 2>/dev/null; } \
        && return 0
    command printf "ESIS: can't tell earlier attempts at this task of this one in %s\n" "$esis_attempt" >&2 || :
}

# Whether another attempt at this task may be running, as its record says. Only asked where there is another one.
esis_has_rival() {
    esis_look_for_attempts
    [ -n "$esis_later$esis_shared" ] && [ -d "$esis_dir/tasks" ] || return 1
    QUOTING_STYLE=literal command ls -f "$esis_dir/tasks" 2>/dev/null | LC_ALL=C command awk -F. \
        -v task="$esis_task" -v mine="${esis_stem##*/}.running" '
        NF == 6 && $6 == "running" && ($1 "") == (task "") && ($0 "") != (mine "") { found = 1 }
        END { exit !found }'
}

# --- parameters

# Where all parameter sets are lines of one file, the task's own file is made for the time of the task. Made aside and
# renamed, for another attempt may be reading it; then neither takes it away before the other has ended.
esis_parameters() {
    esis_sets=$esis_dir/../parameters/parameters
    [ -n "$esis_dir" ] && [ -n "$esis_index" ] && [ -r "$esis_sets.jsonl" ] || return 0
    esis_made=$esis_sets.$SLURM_ARRAY_TASK_ID.json
    esis_aside=$esis_made
    if [ -e "$esis_made" ] || [ -z "$esis_in_pack" ]; then
        esis_aside=$esis_made.$esis_job.$esis_restart.$$
    fi
    [ ! -e "$esis_made" ] || esis_shared=1
    if [ -z "$esis_from" ]; then
        esis_from=$(command dd if="$esis_sets.index" bs=17 skip="$SLURM_ARRAY_TASK_ID" count=1 2>/dev/null) || esis_from=
        # Without a whole entry the task must not get the parameters of another one.
        case $esis_from in
            *[!0123456789]*) esis_from= ;;
            ????????????????) esis_plain "$esis_from"; esis_from=$esis_text ;;
            *) esis_from= ;;
        esac
    fi
    if [ -n "$esis_from" ] \
        && { command tail -c "+$((esis_from + 1))" "$esis_sets.jsonl" || :; } 2>/dev/null \
            | command head -n 1 2>/dev/null >|"$esis_aside" \
        && [ -s "$esis_aside" ] && { [ "$esis_aside" = "$esis_made" ] || esis_move "$esis_aside" "$esis_made"; }; then
        return 0
    fi
    command rm -f "$esis_aside"
    command printf "ESIS: can't write the parameters of task %s into %s\n" "$SLURM_ARRAY_TASK_ID" "$esis_made" >&2 || :
    return 1
}

# --- records

# Values of the environment may hold anything. Into esis_text for a JSON string: characters that no name of a module, a
# node or a partition needs become _ (no sed: a process per value and task is too many).
esis_json() {
    esis_text=
    while :; do
        # The characters one by one: what a range like a-z holds depends on the locale.
        case $1 in
            *[!abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789\ \[\]/:.,_+=@%~\(\)-]*) ;;
            *) break ;;
        esac
        esis_good=${1%%[!abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789\ \[\]/:.,_+=@%~\(\)-]*}
        esis_rest=${1#"$esis_good"}
        esis_text=$esis_text${esis_good}_
        # Never for ever: a shell may disagree with itself about what a character is.
        [ "${esis_rest#?}" != "$esis_rest" ] || return 0
        set -- "${esis_rest#?}"
    done
    esis_text=$esis_text$1
}

# Into esis_text: when this shell started, in clock ticks since boot (proc(5), field 22), or null. With its number that
# names the process of a local run; Slurm knows its own.
esis_started() {
    esis_text=
    { IFS= read -r esis_text <"/proc/$$/stat" || :; } 2>/dev/null
    # The name in brackets may hold anything.
    esis_text=${esis_text##*") "}
    esis_left=18
    while [ "$esis_left" -gt 0 ]; do
        esis_text=${esis_text#* }
        esis_left=$((esis_left - 1))
    done
    esis_text=${esis_text#* }
    esis_number "${esis_text%% *}"
}

# Into esis_text: what that number depends on, as esis.processes.boot has it.
esis_boot() {
    esis_text=
    { IFS= read -r esis_text </proc/sys/kernel/random/boot_id || :; } 2>/dev/null
    esis_left=$(command readlink /proc/self/ns/pid 2>/dev/null) || esis_left=
    esis_left=${esis_left#*"["}
    [ -n "$esis_text" ] && [ -n "$esis_left" ] || { esis_text=unknown; return 0; }
    esis_json "$esis_text/${esis_left%"]"*}"
}

# Into esis_details: where and with what this attempt runs, one line of JSON.
esis_describe() {
    esis_kernel=$esis_host
    esis_json "${esis_kernel%% *}"
    esis_details="{\"host\": \"$esis_text\", \"pid\": $$"
    esis_json "${SLURM_JOB_ID:-}"
    esis_details="$esis_details, \"job\": \"$esis_text\""
    esis_number "$esis_index"
    esis_details="$esis_details, \"index\": $esis_text"
    esis_details="$esis_details, \"restart\": $esis_restart"
    esis_json "${SLURM_JOB_PARTITION:-}"
    esis_details="$esis_details, \"partition\": \"$esis_text\""
    esis_json "${SLURM_JOB_NODELIST:-}"
    esis_details="$esis_details, \"nodes\": \"$esis_text\""
    esis_number "${SLURM_CPUS_ON_NODE:-}"
    esis_details="$esis_details, \"cpus\": $esis_text"
    esis_json "${esis_kernel#* }"
    esis_details="$esis_details, \"kernel\": \"$esis_text\""
    # Where Slurm can't tell of the process, the record does: of a local run, or begun by hand, for which nothing counts the
    # tasks of an array. That may be inside of an allocation, whose number is none of the task's.
    esis_alone=
    [ -n "${SLURM_ARRAY_TASK_COUNT:-}" ] || [ "$esis_job" = "${SLURM_JOB_ID:-}" ] || esis_alone=1
    if [ -n "${SLURM_ESIS_LOCAL:-}$esis_alone" ]; then
        esis_started
        esis_details="$esis_details, \"started\": $esis_text"
    fi
    if [ -n "$esis_alone" ]; then
        esis_boot
        esis_details="$esis_details, \"boot\": \"$esis_text\""
    fi
    if [ -n "${SLURM_JOB_SLUID:-}" ]; then
        esis_json "$SLURM_JOB_SLUID"
        esis_details="$esis_details, \"sluid\": \"$esis_text\""
    fi
    esis_json "${LOADEDMODULES:-}"
    esis_details="$esis_details, \"modules\": \"$esis_text\"}"
}

# A new file at $1, with the details in it. `set -C` makes it in one step or not at all where there is one already.
esis_create() {
    case $- in
        *C*) true 2>/dev/null >"$1" || return 1 ;;
        *)
            set -C
            true 2>/dev/null >"$1" || { set +C; return 1; }
            set +C
            ;;
    esac
    command printf '%s\n' "$esis_details" 2>/dev/null >|"$1" && return 0
    command rm -f "$1" 2>/dev/null
    return 1
}

# Start record. An attempt of the same name, in the same second, keeps its own.
esis_start() {
    [ -n "$esis_dir" ] && [ -n "${SLURM_ARRAY_TASK_ID:-}" ] || return 0
    esis_now
    esis_check_attempts
    [ -n "$esis_fenced${SLURM_ESIS_LOCAL:-}" ] || esis_start_last
    esis_describe
    esis_left=9
    while :; do
        esis_stem=$SLURM_ARRAY_TASK_ID.$esis_submission.$esis_job.$esis_restart.$esis_time
        esis_record=$esis_dir/tasks/$esis_stem
        ! esis_create "$esis_record.running" || break
        if [ "$esis_left" = 0 ] || ! [ -e "$esis_record.running" ]; then
            esis_record=
            command printf "ESIS: can't write the record of this task's start into %s\n" "$esis_dir/tasks" >&2 || :
            break
        fi
        esis_left=$((esis_left - 1))
        esis_time=$((esis_time + 1))
    done
    # A worker that has saved its state, wants to go on later and can't be requeued leaves a file of this name
    # with .resume behind it, and ends with 75: esis resubmit takes it.
    [ -z "$esis_record" ] || export SLURM_ESIS_RECORD="$esis_record"
    [ ! -d "$esis_dir/tasks" ] || esis_tell_attempt
    return 0
}

# End record: one rename, which needs no space on the disk. Call it yourself where your script sets its own EXIT trap:
#   trap 'esis_code=$?; rm -rf "$scratch"; esis_end "$esis_code" || esis_code=75; exit "$esis_code"' EXIT
# Not 0 where the record can't be written: a task whose end nobody can know must not end well, or Slurm's COMPLETED
# would make it done. Where somebody has removed the records there is none to write, and the exit status stays.
esis_end() {
    esis_number "${1-}"
    if [ "$esis_text" = null ]; then
        # The status of the command before is no better: in an EXIT trap it is that of the trap's own.
        command printf 'ESIS: esis_end was called with "%s" for the exit status of this script, which is no number, so this task is not done\n' \
            "${1-}" >&2 || :
        esis_end 75 || :
        return 1
    fi
    if [ "${PATH-}" != "$esis_path" ] || [ "${LD_LIBRARY_PATH-}" != "$esis_libraries" ]; then
        # The script has set them anew: mv may not be found with these, or not start. Whoever calls this keeps them.
        (
            PATH=$esis_path LD_LIBRARY_PATH=$esis_libraries
            esis_record_end "$1" || exit 1
        ) && esis_text=0 || esis_text=1
        # Where they are read-only nothing was done, and zsh says that it was.
        if [ -z "$esis_record" ] || ! [ -e "$esis_record.running" ]; then
            esis_record=
            esis_made=
            return "$esis_text"
        fi
    fi
    esis_record_end "$1" && return 0
    return 1
}

esis_record_end() {
    if [ "$1.${esis_ends:-}" = 0.unseen ]; then
        # In a trap of the script's own: see esis_leave. Of the 0 Slurm may hear as well, so the record has to tell.
        esis_say_unseen
        esis_record_end 75
        return 1
    fi
    esis_stem=${esis_record##*/}
    if [ -n "$esis_made" ]; then
        esis_has_rival || command rm -f "$esis_made"
        esis_made=
    fi
    [ -n "$esis_record" ] || return 0
    esis_stem=$esis_record
    esis_record=
    # Somebody has moved the run under the task, and cwd/ with the shell in it: the record of this name is its own.
    if ! [ -e "$esis_stem.running" ] && [ -e "../__esis__/tasks/${esis_stem##*/}.running" ]; then
        esis_stem=../__esis__/tasks/${esis_stem##*/}
    fi
    esis_status "$1"
    esis_word=exit$esis_text
    [ ! -e "$esis_stem.resume" ] || esis_word=resumable
    esis_now
    if esis_move "$esis_stem.running" "$esis_stem.$esis_word.$esis_time" 2>/dev/null; then
        [ "$esis_word" = resumable ] || return 0
        command rm -f "$esis_stem.resume" 2>/dev/null
        command printf 'ESIS: task %s saved its state and has more to do: esis resubmit\n' \
            "$esis_task" >&2 || :
        # Not a bare `return`: in a trap that has the status of before the trap.
        [ "$1" = 0 ] && return 1
        return 0
    fi
    command printf "ESIS: can't write the record of this task's end into %s\n" "$esis_dir/tasks" >&2 || :
    ! [ -d "$esis_dir/tasks" ]
}

# Into esis_text: the exit status that Slurm will see for $1. Exit statuses end at 255; ksh counts signals from 256 on,
# and `exit 256` is none of 0.
esis_status() {
    esis_text=$1
    [ "$1" -gt 255 ] || return 0
    esis_text=$(($1 % 256))
    [ "$1" -gt 320 ] || esis_text=$((esis_text + 128))
    [ "$esis_text" != 0 ] || esis_text=1
}

# --- requirements

# A run is complete when somebody has marked it as that, or when the latest record of each of its tasks says exit0, or COMPLETED
# where the task wrote no end and ESIS kept what Slurm said. Of two records of one attempt Slurm's word counts, then the
# later end, in the same second the worse one; that it was cancelled before it began (it ends as it starts) counts least,
# for Slurm may lose a cancellation; so does that it left no record. Where there is no record of any of them,
# completed.state decides: workers of ESIS 0.0.4 write 1 there, whatever became of the other tasks. The same rules stand in
# records/tasks.py.
esis_is_complete() {
    # A mark of ESIS's own is one of a moment: records may have come since.
    if [ -f "$3/__esis__/complete" ]; then
        command dd if="$3/__esis__/complete" bs=512 count=1 2>/dev/null | LC_ALL=C command tr -d '\000' \
            | LC_ALL=C command awk '
                { text = text $0 "\n" }
                END { sub(/^[ \t\r\n\f\v]+/, "", text); exit text == "" || substr(text, 1, 5) == "esis " }' && return 0
    fi
    if [ -e "$3/__esis__/tasks" ] && ! [ -r "$3/__esis__/tasks" ]; then
        return 1
    fi
    esis_list_records "$3/__esis__" | LC_ALL=C command awk -F. -v first="$1" -v last="$2" '
        function later(started, id) {
            if ($5 + 0 != started) return $5 + 0 > started
            return length($3) != length(id) ? length($3) > length(id) : ($3 "") > (id "")
        }
        function weight() {
            if ($6 == "running") return 1
            if ($6 == "slurm-UNRECORDED" || ($6 == "slurm-CANCELLED" && $5 + 0 == $7 + 0)) return 0
            return $6 ~ /^slurm-/ ? 3 : 2
        }
        function good(what) { return what == "exit0" || what == "slurm-COMPLETED" }
        function outranks() {
            if (weight() != rank[$1]) return weight() > rank[$1]
            return $7 + 0 != end[$1] ? $7 + 0 > end[$1] : !good($6)
        }
        function keep() { start[$1] = $5 + 0; word[$1] = $6; end[$1] = $7 + 0; rank[$1] = weight() }
        !/^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+\.(running|(exit[0-9]+|resumable|slurm-[A-Z_]+)\.[0-9]+)$/ { next }
        $1 + 0 < first + 0 || $1 + 0 > last + 0 { next }
        !($1 in word) || $2 > submission[$1] || ($2 == submission[$1] && ($3 == job[$1] ? $4 + 0 > restart[$1] : later(start[$1], job[$1]))) {
            submission[$1] = $2; job[$1] = $3; restart[$1] = $4 + 0; keep()
        }
        $2 == submission[$1] && $3 == job[$1] && $4 + 0 == restart[$1] && outranks() { keep() }
        END {
            for (task in word) { seen++; if (good(word[task])) done++ }
            exit !seen ? 3 : done + 0 < last - first + 1
        }' && return 0
    [ $? = 3 ] && esis_is_small "$3/__esis__/completed.state" || return 1
    { read -r esis_text <"$3/__esis__/completed.state" || :; } 2>/dev/null
    [ "$esis_text" = 1 ]
}

# Slurm lifts the dependency on a failed job once it has forgotten that job, so the job itself looks again. Directory
# listings of network file systems may be a minute old: not complete is believed only after a while.
esis_check_requirements() {
    esis_needs=$esis_dir/requirements
    [ -n "$esis_dir" ] || return 0
    esis_left=${esis_required:-0}
    if ! [ -e "$esis_needs" ] && ! [ -L "$esis_needs" ]; then
        # By hand the list may have gone on purpose: archives hold none.
        [ "$esis_left" != 0 ] && [ -n "$esis_fenced" ] || return 0
    fi
    if [ -r "$esis_needs" ] && esis_is_small "$esis_needs" 2048; then
        while IFS= read -r esis_line || [ -n "$esis_line" ]; do
            esis_left=$((esis_left - 1))
            esis_waited=0
            # <first task>:<last task>:<path>
            esis_tasks=${esis_line%%:*}
            esis_line=${esis_line#*:}
            until esis_is_complete "$esis_tasks" "${esis_line%%:*}" "${esis_line#*:}"; do
                if [ "$esis_waited" -ge "$esis_wait" ]; then
                    # Not echo: some shells' echo takes the backslashes of a path away.
                    esis_text='is not complete, so this task does not start; esis status on it tells why'
                    [ -d "${esis_line#*:}" ] \
                        || esis_text="is not there, so this task does not start; if it was moved: mend $esis_needs"
                    command printf 'ESIS: the required run %s %s\n' "${esis_line#*:}" "$esis_text" >&2 || :
                    return 1
                fi
                esis_waited=$((esis_waited + 5))
                command sleep 5
            done
        done <"$esis_needs"
        [ "$esis_left" -gt 0 ] || return 0
    fi
    command printf "ESIS: %s is missing, unreadable or cut, so nobody knows what this task requires\n" "$esis_needs" >&2 || :
    return 1
}

# --- packs

# A pack: $1 tasks a job, $2 at a time, of the tasks $3 to $4 or of the map. These functions run in subshells. All tasks
# of a pack are too much for the arguments of a program, so it is `echo`, which every shell has itself.
esis_pack_tasks() {
    esis_in_subshell
    if esis_is_mapped; then
        esis_mapped_tasks "$((esis_unit * $1))" "$((esis_unit * $1 + $1 - 1))"
        return
    fi
    esis_task=$(($3 + esis_unit * $1))
    esis_left=$1
    while [ "$esis_left" -gt 0 ] && [ "$esis_task" -le "$4" ]; do
        command echo "$esis_task"
        esis_task=$((esis_task + 1))
        esis_left=$((esis_left - 1))
    done
}

# After a requeue the tasks of the pack that are done stay done. Not as arguments: they may be too many.
esis_pack_left() {
    if [ "$esis_restart" = 0 ]; then
        esis_pack_tasks "$@"
        return
    fi
    { esis_pack_tasks "$@" || command echo damaged
        command echo
        QUOTING_STYLE=literal command ls -f "$esis_dir/tasks" 2>/dev/null || :
    } | LC_ALL=C command awk -F. -v submission="$esis_submission" -v job="$esis_job" '
        $0 == "damaged" { exit }
        !listed && NF == 0 { listed = 1; next }
        !listed { wanted[++count] = $0; next }
        NF == 7 && ($2 "") == (submission "") && ($3 "") == (job "") && $6 == "exit0" { done[$1] }
        END {
            if (!listed) exit 1
            for (one = 1; one <= count; one++) if (!(wanted[one] in done)) print wanted[one]
        }'
}

# Each line of the pack is a task and where its parameters begin: one look for all. Where that isn't told the task looks.
esis_pack_lines() {
    esis_in_subshell
    esis_sets=$esis_dir/../parameters/parameters
    if [ -z "$esis_todo" ] || ! [ -r "$esis_sets.jsonl" ]; then
        command echo "$esis_todo"
        return 0
    fi
    esis_first=${esis_todo%%[!0123456789]*}
    esis_last=${esis_todo##*[!0123456789]}
    { command echo "$esis_todo"
        command echo
        command dd if="$esis_sets.index" bs=17 skip="$esis_first" count="$((esis_last - esis_first + 1))" 2>/dev/null || :
    } | LC_ALL=C command awk -v task="$esis_first" '
        !listed && NF == 0 { listed = 1; next }
        !listed { wanted[$1]; next }
        task in wanted && length($0) == 16 && !/[^0-9]/ { at = $0; sub(/^0+/, "", at); print task ":" (at == "" ? 0 : at); delete wanted[task] }
        { task++ }
        END { for (task in wanted) print task ":" }'
}

# Each task is this script once more, with its own record and log; what one of them does is nothing to the others. In the
# background, so that a signal to this shell ends it at once: then no further task begins. Some xargs start the command
# for an empty list, too. After a requeue an earlier attempt may still be writing its logs.
esis_work_pack() {
    esis_logs=$esis_dir/../cwd/slurm-$esis_job
    # shellcheck disable=SC2016
    esis_pack_lines | SLURM_ESIS_PACKED=$esis_job:$esis_fenced:$esis_host:$esis_dir command xargs -n 1 -P "$1" sh -c '
        [ -n "${3:-}" ] || exit 0
        task=${3%%:*} from=${3#"${3%%:*}"}
        [ "$2" = 0 ] || rm -f "$1_task$task.out"
        SLURM_ARRAY_TASK_ID=$task SLURM_ESIS_FROM=${from#:} "$0" >|"$1_task$task.out" 2>&1 </dev/null || exit 1' \
        "${esis_script:-$0}" "$esis_logs" "$esis_restart" &
    esis_workers=$!
    trap 'kill "$esis_workers" 2>/dev/null; exit 143' TERM
    trap 'kill "$esis_workers" 2>/dev/null; exit 138' USR1
    trap 'kill "$esis_workers" 2>/dev/null; exit 130' INT
    # xargs ends with 123 where a task failed, and says no more.
    wait "$esis_workers" || return 1
}

if [ -n "${esis_pack:-}" ] && [ -z "$esis_in_pack$esis_inside" ] && [ -n "$esis_index" ] && [ -n "$esis_dir" ]; then
    esis_check_requirements || exit 75
    eval "set -- $esis_pack"
    esis_todo=$(esis_pack_left "$@") || esis_refuse "$esis_map_problem"
    esis_work_pack "$2" || exit 1
    exit 0
fi

# --- signals

# Every signal that can end a shell: some shells would run the EXIT trap with the exit status of the command before, often
# 0. Here, because ksh and mksh under set -e leave the EXIT trap out when a signal has ended their wait.
esis_stopped() {
    esis_end "$1" || :
    exit "$1"
}

# A signal for the script is meant for the worker: hand it on to the last command that runs in the background, as in
# `srun WORKERSCRIPT & wait $!`, and give it the time to save. Its exit status becomes the script's, but never 0: the
# lines behind the worker were not run.
esis_signalled() {
    esis_child=$(set +u; command printf %s "$!")
    esis_code=$((128 + $2))
    # Without one it goes on below: zsh doesn't stop at an `exit` in an EXIT trap, and number 0 is the whole group.
    case $esis_child in "" | *[!0123456789]*) esis_child=0 ;; esac
    if [ "$esis_child" != 0 ] && kill -s "$1" "$esis_child" 2>/dev/null; then
        # Once in any case: one that ends at once may be gone before kill could tell. 127: its end was heard before.
        wait "$esis_child" && esis_ended=0 || esis_ended=$?
        [ "$esis_ended" != 127 ] || esis_ended=0
        while kill -0 "$esis_child" 2>/dev/null; do
            wait "$esis_child" && esis_ended=0 || esis_ended=$?
        done
        esis_status "$esis_ended"
        [ "$esis_ended" = 0 ] || esis_code=$esis_text
    fi
    esis_stopped "$esis_code"
}

esis_say_unseen() {
    command printf 'ESIS: the shell ended this script before its end, and hides with which status\n' >&2 || :
}

# The script has ended with $1. In ksh and mksh 0 stands for any status that the shell itself gave it, and it ends with
# that one unless something here says otherwise. So where it neither came to its end nor called exit, Slurm's word counts
# and no record.
esis_leave() {
    if [ "$1.${esis_ends:-}" = 0.unseen ]; then
        esis_say_unseen
        return 0
    fi
    esis_status "$1"
    esis_code=$esis_text
    esis_end "$esis_code" || [ "$esis_code" != 0 ] || esis_code=75
    exit "$esis_code"
}

# `exit` of the script itself, where its shell is ksh or mksh. In a function these cut a status above 255.
esis_exit() {
    esis_text=$?
    esis_ends=
    [ "$#" != 0 ] || set -- "$esis_text"
    case $1 in
        '' | *[!0123456789]*) exit "$@" ;;
    esac
    esis_status "$1"
    exit "$esis_text"
}

# Whether the task can begin at all.
esis_is_ready() {
    esis_parameters || return 1
    [ -n "$esis_in_pack" ] || esis_check_requirements
}

# For this script, started by itself: in which attempt it is then, and whose record that is.
esis_be_outside() {
    esis_name_process "$$"
    export SLURM_ESIS_INSIDE="$esis_job:$esis_restart:$esis_task:$esis_submission:${esis_run:-}:$$:$esis_host:$esis_text"
}

case $esis_inside in
    again) esis_record= ;;
    replaced)
        # Where the record isn't to be seen from here, Slurm's word counts.
        [ -z "$esis_record" ] || [ -e "$esis_record.running" ] || esis_record=
        esis_parameters || exit 75
        esis_be_outside
        ;;
    *)
        # Typed by hand, one that can't begin leaves no record: what the task did before stands.
        [ -n "$esis_fenced" ] || esis_is_ready || {
            esis_end 75 || :
            exit 75
        }
        esis_start
        esis_be_outside
        ;;
esac
# Linux' numbers, for not every shell knows every name; nor every number. Not those that stop a process, or do nothing
# unless somebody asks for them. Traps that the script sets later replace these.
esis_signal=1
while [ "$esis_signal" -le 64 ]; do
    # shellcheck disable=SC2064
    case $esis_signal in
        9 | 1[05789] | 2[01238] | 3[23]) ;;
        *) trap "esis_stopped $((128 + esis_signal))" "$esis_signal" 2>/dev/null || : ;;
    esac
    esis_signal=$((esis_signal + 1))
done
trap 'esis_signalled USR1 10' USR1
trap 'esis_signalled TERM 15' TERM
trap 'esis_leave "$?"' EXIT
[ -z "$esis_fenced" ] || [ -n "$esis_inside" ] || esis_is_ready || exit 75
# Not before: what stands above means the shell's own.
# shellcheck disable=SC2262
[ -z "${esis_ends:-}" ] || alias exit=esis_exit
esis_whole=yes
