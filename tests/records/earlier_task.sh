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

esis_job=${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-0}}
esis_index=${SLURM_ARRAY_TASK_ID:-}
esis_fenced=${SLURM_ESIS_SUBMISSION:-}
esis_offset=${SLURM_ESIS_OFFSET:-${esis_offset:-0}}
# Not for jobs that this one submits, and not from one that submitted this.
esis_from=${SLURM_ESIS_FROM:-}
unset SLURM_ESIS_SUBMISSION SLURM_ESIS_OFFSET SLURM_ESIS_FROM SLURM_ESIS_INDEX SLURM_ESIS_RECORD
esis_record=
esis_made=
esis_wait=${ESIS_REQUIREMENT_WAIT:-75}
case $esis_wait in *[!0-9]*) esis_wait=75 ;; esac

# One task of a pack is this script once more, started by the job that works through the pack (see esis_work_pack).
# Such tasks may be short and many, so they start as few processes as can be: the job tells them what it found out.
esis_in_pack=
case ${SLURM_ESIS_PACKED:-} in
    "$esis_job:"*)
        esis_in_pack=1
        esis_dir=${SLURM_ESIS_PACKED#*:}
        esis_host=${esis_dir%%:*}
        esis_dir=${esis_dir#*:}
        ;;
    *)
        esis_dir=$(CDPATH='' cd -- "${esis_hook%/task.sh}" 2>/dev/null && pwd -P) || esis_dir=
        esis_host=$(uname -nr)
        ;;
esac
esis_map=$esis_dir/submissions/$esis_submission.map

# Bash knows the time since its version 5.
esis_now() {
    case ${BASH_VERSION:-} in
        [5-9].* | [1-9][0-9]*) esis_time=$EPOCHSECONDS ;;
        *) esis_time=$(date +%s) ;;
    esac
}

# The fence: a symbolic link carries the owner and is made in one atomic step. Submissions by hand aren't fenced.
if [ -n "$esis_fenced" ] && [ -n "$esis_dir" ]; then
    esis_claim=$esis_dir/submissions/$esis_fenced.claim
    if ! ln -s "$esis_job" "$esis_claim" 2>/dev/null && [ -L "$esis_claim" ] \
        && [ "$(readlink "$esis_claim")" != "$esis_job" ]; then
        echo "ESIS: job $(readlink "$esis_claim") does the work of this submission; job $esis_job steps aside" >&2
        exit 0
    fi
fi

# Slurm's indices end at MaxArraySize, tasks don't: what Slurm counts is shifted, or a position in a list of tasks.
if [ -n "$esis_index" ] && [ -z "$esis_in_pack" ]; then
    # For who has to name this task to Slurm: scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ESIS_INDEX".
    export SLURM_ESIS_INDEX="$esis_index"
    esis_unit=$((esis_index + esis_offset))
    SLURM_ARRAY_TASK_ID=$esis_unit
    if [ -z "${esis_pack:-}" ] && [ -n "$esis_dir" ] && [ -r "$esis_map" ]; then
        SLURM_ARRAY_TASK_ID=$(sed -n "$((esis_unit + 1)){p;q;}" "$esis_map")
        if [ -z "$SLURM_ARRAY_TASK_ID" ]; then
            printf 'ESIS: %s.map has no task at position %s\n' "$esis_submission" "$esis_unit" >&2
            exit 75
        fi
    fi
    export SLURM_ARRAY_TASK_ID
fi

# Where all parameter sets are lines of one file, the task's own file is made for the time of the task.
esis_parameters() {
    esis_sets=$esis_dir/../parameters/parameters
    [ -n "$esis_dir" ] && [ -n "$esis_index" ] && [ -r "$esis_sets.jsonl" ] || return 0
    esis_made=$esis_sets.$SLURM_ARRAY_TASK_ID.json
    # Made aside and renamed, for another job of the same task may be reading it; only one has a pack.
    esis_aside=$esis_made.$$
    [ -z "$esis_in_pack" ] || esis_aside=$esis_made
    if [ -z "$esis_from" ]; then
        esis_from=$(dd if="$esis_sets.index" bs=17 skip="$SLURM_ARRAY_TASK_ID" count=1 2>/dev/null)
        # Without a whole entry the task must not get the parameters of another one.
        case $esis_from in
            *[!0-9]*) esis_from= ;;
            # Some shells take numbers with zeros in front for octal ones.
            ????????????????) esis_from=$(printf '%s\n' "$esis_from" | sed 's/^0*\([0-9]\)/\1/') ;;
            *) esis_from= ;;
        esac
    fi
    if [ -n "$esis_from" ] \
        && tail -c "+$((esis_from + 1))" "$esis_sets.jsonl" 2>/dev/null | head -n 1 >"$esis_aside" \
        && [ -s "$esis_aside" ] && { [ -n "$esis_in_pack" ] || mv -f "$esis_aside" "$esis_made"; }; then
        return 0
    fi
    rm -f "$esis_aside"
    printf "ESIS: can't write the parameters of task %s into %s\n" "$SLURM_ARRAY_TASK_ID" "$esis_made" >&2
    return 1
}

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
    esis_kernel=$esis_host
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

# Start record: made aside, then renamed, so that no reader sees half of it. What is in those of packs nobody reads
# while they run.
esis_start() {
    [ -n "$esis_dir" ] && [ -n "${SLURM_ARRAY_TASK_ID:-}" ] || return 0
    esis_now
    esis_stem=$SLURM_ARRAY_TASK_ID.$esis_submission.$esis_job.${SLURM_RESTART_COUNT:-0}.$esis_time
    esis_temporary=$esis_dir/tasks/.$esis_stem.$$
    esis_describe
    [ -z "$esis_in_pack" ] || esis_temporary=$esis_dir/tasks/$esis_stem.running
    if printf '%s\n' "$esis_details" 2>/dev/null >"$esis_temporary" \
        && { [ -n "$esis_in_pack" ] || mv -f "$esis_temporary" "$esis_dir/tasks/$esis_stem.running" 2>/dev/null; }; then
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
    [ -z "$esis_made" ] || rm -f "$esis_made"
    [ -n "$esis_record" ] || return 0
    esis_stem=$esis_record
    esis_record=
    esis_word=exit$1
    [ ! -e "$esis_stem.resume" ] || esis_word=resumable
    esis_now
    if mv -f "$esis_stem.running" "$esis_stem.$esis_word.$esis_time" 2>/dev/null; then
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
    { ls -f "$3/__esis__/tasks"; sed 's/ .*//' "$3/__esis__/tasks.txt"; } 2>/dev/null | awk -F. -v first="$1" -v last="$2" '
        function later(started, id) {
            if ($5 + 0 != started) return $5 + 0 > started
            return length($3) != length(id) ? length($3) > length(id) : ($3 "") > (id "")
        }
        !/^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+\.(running|(exit[0-9]+|resumable|slurm-[A-Z_]+)\.[0-9]+)$/ { next }
        $1 + 0 < first + 0 || $1 + 0 > last + 0 { next }
        !($1 in word) || $2 > submission[$1] || ($2 == submission[$1] && ($3 == job[$1] ? $4 + 0 > restart[$1] : later(start[$1], job[$1]))) {
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

# A pack: $1 tasks a job, $2 at a time, of the tasks $3 to $4 or of a list.
esis_pack_tasks() {
    if [ -r "$esis_map" ]; then
        sed -n "$((esis_unit * $1 + 1)),$((esis_unit * $1 + $1))p" "$esis_map"
        return 0
    fi
    esis_task=$(($3 + esis_unit * $1))
    esis_left=$1
    while [ "$esis_left" -gt 0 ] && [ "$esis_task" -le "$4" ]; do
        echo "$esis_task"
        esis_task=$((esis_task + 1))
        esis_left=$((esis_left - 1))
    done
}

# After a requeue the tasks of the pack that are done stay done.
esis_pack_left() {
    esis_done=
    if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then
        # shellcheck disable=SC2012
        esis_done=$(ls -f "$esis_dir/tasks" 2>/dev/null \
            | sed -n "s/^\([0-9]*\)\.$esis_submission\.$esis_job\.[0-9]*\.[0-9]*\.exit0\..*/\1/p")
    fi
    if [ -n "$esis_done" ]; then
        esis_pack_tasks "$@" | grep -vxF -e "$esis_done"
    else
        esis_pack_tasks "$@"
    fi
}

# Each line of the pack is a task and where its parameters begin: one look for all. Where that isn't told the task looks.
esis_pack_lines() {
    esis_todo=$(esis_pack_left "$@")
    esis_sets=$esis_dir/../parameters/parameters
    if [ -z "$esis_todo" ] || ! [ -r "$esis_sets.jsonl" ]; then
        printf '%s\n' "$esis_todo"
        return 0
    fi
    esis_first=${esis_todo%%[!0-9]*}
    esis_last=${esis_todo##*[!0-9]}
    { printf '%s\n\n' "$esis_todo"
        dd if="$esis_sets.index" bs=17 skip="$esis_first" count="$((esis_last - esis_first + 1))" 2>/dev/null
    } | awk -v task="$esis_first" '
        !listed && NF == 0 { listed = 1; next }
        !listed { wanted[$1]; next }
        task in wanted && length($0) == 16 && !/[^0-9]/ { at = $0; sub(/^0+/, "", at); print task ":" (at == "" ? 0 : at); delete wanted[task] }
        { task++ }
        END { for (task in wanted) print task ":" }'
}

# Each task is this script once more, with its own record and log; what one of them does is nothing to the others. In the
# background, so that a signal to this shell ends it at once: then no further task begins. Some xargs start the command
# for an empty list, too.
esis_work_pack() {
    esis_logs=$esis_dir/../cwd/slurm-$esis_job
    # shellcheck disable=SC2016
    esis_pack_lines "$@" | SLURM_ESIS_PACKED=$esis_job:$esis_host:$esis_dir xargs -n 1 -P "$2" sh -c '
        [ -n "${2:-}" ] || exit 0
        task=${2%%:*} from=${2#"${2%%:*}"}
        SLURM_ARRAY_TASK_ID=$task SLURM_ESIS_FROM=${from#:} "$0" >"$1_task$task.out" 2>&1 </dev/null || exit 1' \
        "$esis_script" "$esis_logs" &
    esis_workers=$!
    trap 'kill "$esis_workers" 2>/dev/null; exit 143' TERM
    trap 'kill "$esis_workers" 2>/dev/null; exit 138' USR1
    trap 'kill "$esis_workers" 2>/dev/null; exit 130' INT
    # xargs ends with 123 where a task failed, and says no more.
    wait "$esis_workers" || return 1
}

if [ -n "${esis_pack:-}" ] && [ -z "$esis_in_pack" ] && [ -n "$esis_index" ] && [ -n "$esis_dir" ]; then
    esis_check_requirements || exit 75
    eval "set -- $esis_pack"
    esis_work_pack "$@" || exit 1
    exit 0
fi
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
        # ksh counts signals from 256 on, and exit statuses end at 255.
        [ "$esis_ended" -le 255 ] || esis_ended=$((esis_ended - 128))
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
esis_parameters || exit 75
[ -n "$esis_in_pack" ] || esis_check_requirements || exit 75
