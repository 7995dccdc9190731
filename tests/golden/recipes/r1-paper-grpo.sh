#!/bin/bash
# Runs `python -m stages exec grpo` as a job; made by `python -m stages render`.
#SBATCH --job-name=rederive-grpo
#SBATCH --chdir=/shared/rederive
#SBATCH --output=work/jobs/grpo/%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --partition=hopper
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=96
#SBATCH --mem=0
#SBATCH --time=7-00:00:00
#SBATCH --gres=gpu:h100:8
#SBATCH --signal=B:USR1@300
#SBATCH hetjob
#SBATCH --job-name=rederive-grpo-server
#SBATCH --chdir=/shared/rederive
#SBATCH --output=work/jobs/grpo/%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --partition=hopper
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=48
#SBATCH --mem=900G
#SBATCH --time=7-00:00:00
#SBATCH --gres=gpu:h100:4
#SBATCH --signal=B:USR1@300

# shellcheck disable=SC2317 # traps call functions, and so do the tasks of several nodes

job=$SLURM_JOB_ID
result=work/jobs/grpo/$job.${SLURM_RESTART_COUNT:-0}.status
kept=work/jobs/grpo/$job.kept
child='' signalled='' stopping='' forwarded='' scratch=''

say() {
    printf 'rederive: %s: %s\n' grpo "$1" >&2
}

fail() {
    say "$1 (node ${SLURMD_NODENAME:-unknown})"
    exit 1
}

# What the launcher waits for: the exit status, in a file that is there whole or not at all.
finish() {
    local status=$?
    clean_up
    [ "$status" -ne 0 ] || keep
    printf '%s\n' "$status" >"$result.partial" && mv "$result.partial" "$result"
    exit "$status"
}

# For a launcher that comes back after the job's end: DVC removes the outputs before it calls it.
# Where links cannot be made, nothing is kept, and that launcher runs the stage again.
keep() {
    mkdir -p "$kept"
    cp -al --parents artifacts/grpo metrics/grpo.json runs/grpo.* "$kept" 2>/dev/null || rm -rf -- "$kept"
}

clean_up() {
    trap - EXIT
    [ -z "$scratch" ] || rm -rf -- "$scratch"
}

# Runs a command and returns its status, whatever signals arrive meanwhile. SIGTERM is Slurm's, which
# sends it to the command, too; a trap for it would make bash 5.2 lose the status of a command that
# ends at the same moment, and an ignored signal would be ignored by the command.
supervise() {
    local status
    "$@" &
    child=$!
    trap '' TERM
    [ -z "$stopping" ] || forward
    while :; do
        signalled=
        wait "$child" && status=0 || status=$?
        [ -n "$signalled" ] || break
    done
    return "$status"
}

# Slurm's warning before the time limit: the stage ends as at SIGTERM.
stop() {
    stopping=1 signalled=1
    [ -z "$child" ] || forward
}

forward() {
    [ -n "$forwarded" ] || end_stage
    forwarded=1
}

end_stage() {
    kill -TERM "$child"
}

# What one node needs first: its scratch, and how to call python.
prepare_node() {
    mkdir -p /tmp || fail 'scratch /tmp cannot be made: name another in the site'"'"'s file'
    scratch=$(mktemp -d /tmp/rederive-"$SLURM_JOB_ID"-XXXXXX) ||
        fail 'scratch /tmp cannot be written: name another in the site'"'"'s file'
    export TMPDIR=$scratch
    [ -x /shared/rederive/.venv/bin/python ] ||
        fail 'there is no /shared/rederive/.venv/bin/python: set python in the site'"'"'s file to one that nodes see'
    export PATH=/shared/rederive/.venv/bin:$PATH
    python=(/shared/rederive/.venv/bin/python)
}

# What one node does: checks that fail in seconds, and then the stage.
run_stage() {
    prepare_node
    "${python[@]}" -m stages preflight grpo \
        --gpus 8 --gpu-type h100 \
        --scratch-bytes 10000000000 --collective-timeout 60.0 || return 1
    [ -z "$stopping" ] || return 143
    supervise "${python[@]}" -m stages exec grpo
}

# The job's other component: a vLLM server, from which the stage samples. It ends when the job does; if
# it ends before, the stage is told to end, and killed if it waits for the server for ever.
lost=''
export endpoint=work/jobs/grpo/$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}.server
server_log=work/jobs/grpo/$SLURM_JOB_ID.server.log

run_server() {
    scratch=''
    trap clean_up EXIT
    trap : TERM
    set -uo pipefail
    prepare_node
    "${python[@]}" -m stages preflight grpo \
        --gpus 4 --gpu-type h100 \
        --scratch-bytes 10000000000 || exit 1
    "${python[@]}" -m stages serve grpo --endpoint "$endpoint"
}

# Where the whole job is ended, the stage is, too, and soon: only then is the server missed.
watch_server() {
    srun --het-group=1 --nodes=1 --ntasks=1 --ntasks-per-node=1 \
        --cpus-per-task=48 --kill-on-bad-exit=1 /bin/bash -c "$1; run_server" >>"$server_log" 2>&1
    sleep 5
    kill -USR2 $$ 2>/dev/null
}

lose_server() {
    lost=1 signalled=1
    [ -n "$child" ] || return
    forward
    { sleep 60; kill -KILL "$child"; } 2>/dev/null &
}

say_lost() {
    say "its vLLM server, job $SLURM_JOB_ID_HET_GROUP_1 on $SLURM_JOB_NODELIST_HET_GROUP_1, has ended; the last of $server_log: $(grep -o "rederive: .*" "$server_log" | tail -n 1)"
}

start_server() {
    rm -f -- "$endpoint"
    watch_server "$(declare -f say fail clean_up prepare_node run_server)" &
    until [ -s "$endpoint" ]; do
        if [ -n "$lost" ]; then
            say_lost
            return 1
        fi
        [ -z "$stopping" ] || return 0 # the stage does not begin, and the job is queued again
        sleep 1
    done
    R1_VLLM_SERVER=$(cat "$endpoint")
    export R1_VLLM_SERVER
}

trap lose_server USR2
trap finish EXIT
trap stop USR1
trap : TERM
cd /shared/rederive || exit 1
export NCCL_DEBUG=WARN
set -uo pipefail

start_server || exit
# One task per node, which finds the others by these. The tasks hear of the time limit by SIGWINCH:
# whatever else is in Slurm's step ignores it, where SIGTERM would end a stage's own workers first.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_ADDR=$(scontrol show node "$first" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p') # as Slurm reaches it
MASTER_ADDR=${MASTER_ADDR:-$first}
MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))
# A task that ends as the limit comes leaves this, and a status of 0: at another status, srun would
# give the other tasks no time to save.
stopped=work/jobs/grpo/$job.stopped
export MASTER_ADDR MASTER_PORT stopped
end_stage() {
    scancel --signal="$(kill -l WINCH)" "$SLURM_JOB_ID.1"
}
run_task() {
    child='' signalled='' stopping='' forwarded='' scratch=''
    trap clean_up EXIT
    trap stop WINCH
    trap : TERM
    set -uo pipefail
    export R1_NODE_RANK=$SLURM_NODEID R1_NUM_NODES=$SLURM_JOB_NUM_NODES
    end_stage() {
        kill -TERM "$child"
    }
    run_stage
    local status=$?
    if [ -n "$stopping" ] && [ "$status" -eq 143 ]; then
        : >"$stopped"
        return 0
    fi
    return "$status"
}
run_nodes() {
    rm -f -- "$stopped"
    supervise srun --nodes=2 --ntasks=2 --ntasks-per-node=1 \
        --cpus-per-task=96 --kill-on-bad-exit=1 /bin/bash -c "$parts; run_task"
    local status=$?
    if [ "$status" -eq 0 ] && [ -e "$stopped" ]; then
        rm -f -- "$stopped"
        return 143
    fi
    return "$status"
}
parts=$(declare -f say fail clean_up supervise stop forward prepare_node run_stage run_task)
run_nodes
status=$?
if [ -n "$lost" ] && [ "$status" -ne 0 ]; then
    say_lost
    status=1
fi

if [ -n "$stopping" ] && [ "$status" -eq 143 ]; then
    if [ "${SLURM_RESTART_COUNT:-0}" -lt 3 ]; then
        say "stopped before its time limit, and queued again"
        clean_up
        scontrol requeue "$job" && exit 143
        trap finish EXIT
        say "it could not be queued again"
    else
        say "stopped before its time limit, and max_requeues is 3: raise time in slurm/resources.yaml"
    fi
fi
exit "$status"
