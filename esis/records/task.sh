# shellcheck shell=sh
# ESIS: sourced by sbatch.sh at the start of every task. Writes the task records, lets only one job of a submission
# do the work, and checks that the runs which this one requires are complete. POSIX shell, no ESIS needed here.
#
# A record is one file in __esis__/tasks/ whose name tells the state:
#   <task>.<submission>.<array job id>.<restart count>.<start>.running
#   <task>.<submission>.<array job id>.<restart count>.<start>.exit<code>.<end>      (the same file, renamed)
#   <task>.<submission>.<array job id>.<restart count>.<start>.slurm-<WORD>.<end>    (renamed by ESIS: Slurm's verdict)
# with times in seconds since 1970. Whatever goes wrong with the records, the job itself runs on.

esis_dir=$(CDPATH='' cd -- "${esis_hook%/task.sh}" 2>/dev/null && pwd -P) || esis_dir=
esis_job=${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-0}}
esis_fenced=${SLURM_ESIS_SUBMISSION:-}
# Not for jobs that this one submits.
unset SLURM_ESIS_SUBMISSION
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
if [ -n "$esis_index" ] && [ -n "$esis_dir" ] && [ -r "$esis_dir/submissions/$esis_submission.map" ]; then
    SLURM_ARRAY_TASK_ID=$(sed -n "$((esis_index + 1))p" "$esis_dir/submissions/$esis_submission.map")
    export SLURM_ARRAY_TASK_ID
    if [ -z "$SLURM_ARRAY_TASK_ID" ]; then
        printf 'ESIS: %s.map has no task at position %s\n' "$esis_submission" "$esis_index" >&2
        exit 75
    fi
fi

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

# Into esis_text: the number, or null.
esis_number() {
    case $1 in '' | *[!0123456789]* | 0?* | ????????????????*) esis_text=null ;; *) esis_text=$1 ;; esac
}

# Into esis_details: where and with what this attempt runs, one line of JSON.
esis_describe() {
    esis_kernel=$(uname -nr)
    esis_json "${esis_kernel%% *}"
    esis_details="{\"host\": \"$esis_text\", \"pid\": $$"
    esis_json "${SLURM_JOB_ID:-}"
    esis_details="$esis_details, \"job\": \"$esis_text\""
    esis_number "$esis_index"
    esis_details="$esis_details, \"index\": $esis_text"
    esis_number "${SLURM_RESTART_COUNT:-0}"
    esis_details="$esis_details, \"restart\": $esis_text"
    esis_json "${SLURM_JOB_PARTITION:-}"
    esis_details="$esis_details, \"partition\": \"$esis_text\""
    esis_json "${SLURM_JOB_NODELIST:-}"
    esis_details="$esis_details, \"nodes\": \"$esis_text\""
    esis_number "${SLURM_CPUS_ON_NODE:-}"
    esis_details="$esis_details, \"cpus\": $esis_text"
    esis_json "${esis_kernel#* }"
    esis_details="$esis_details, \"kernel\": \"$esis_text\""
    esis_json "${LOADEDMODULES:-}"
    esis_details="$esis_details, \"modules\": \"$esis_text\"}"
}

# Start record: made aside, then renamed, so that no reader sees half of it.
esis_start() {
    [ -n "$esis_dir" ] && [ -n "${SLURM_ARRAY_TASK_ID:-}" ] || return 0
    esis_stem=$SLURM_ARRAY_TASK_ID.$esis_submission.$esis_job.${SLURM_RESTART_COUNT:-0}.$(date +%s)
    esis_temporary=$esis_dir/tasks/.$esis_stem.$$
    esis_describe
    if printf '%s\n' "$esis_details" 2>/dev/null >"$esis_temporary" \
        && mv -f "$esis_temporary" "$esis_dir/tasks/$esis_stem.running" 2>/dev/null; then
        esis_record=$esis_dir/tasks/$esis_stem
    else
        rm -f "$esis_temporary" 2>/dev/null
        printf "ESIS: can't write the record of this task's start into %s\n" "$esis_dir/tasks" >&2
    fi
    return 0
}

# End record: one rename, which needs no space on the disk. Call it yourself where your script sets its own EXIT trap:
#   trap 'esis_code=$?; rm -rf "$scratch"; esis_end "$esis_code"' EXIT
esis_end() {
    [ -n "$esis_record" ] || return 0
    mv -f "$esis_record.running" "$esis_record.exit$1.$(date +%s)" 2>/dev/null \
        || printf "ESIS: can't write the record of this task's end into %s\n" "$esis_dir/tasks" >&2
    esis_record=
    return 0
}

# A run is complete when completed.state holds 1, or when the latest record of each of its tasks says exit0.
esis_is_complete() {
    [ "$(cat "$3/__esis__/completed.state" 2>/dev/null)" = 1 ] && return 0
    # shellcheck disable=SC2012
    ls -f "$3/__esis__/tasks" 2>/dev/null | awk -F. -v first="$1" -v last="$2" '
        !/^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+\.(running|exit[0-9]+\.[0-9]+|slurm-[A-Z_]+\.[0-9]+)$/ { next }
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

esis_start
# A shell that a signal kills would run the EXIT trap with the exit status of its previous command, often 0: each
# signal ends the script with a status of its own. Traps that the script sets later replace these.
trap 'esis_code=$?; esis_end "$esis_code"; exit "$esis_code"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 131' QUIT
trap 'exit 138' USR1
trap 'exit 141' PIPE
trap 'exit 142' ALRM
trap 'exit 143' TERM
trap 'exit 140' USR2
trap 'exit 152' XCPU
esis_check_requirements || exit 75
