#!/bin/bash
# Runs `python -m stages exec grpo` as a job; made by `python -m stages render`.
#SBATCH --job-name=rederive-grpo
#SBATCH --chdir=/shared/rederive
#SBATCH --output=work/jobs/grpo/%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --partition=hopper
#SBATCH --account=r1
#SBATCH --qos=high
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=96
#SBATCH --mem=1500G
#SBATCH --time=2-00:00:00
#SBATCH --gpus-per-node=h100:8
#SBATCH --signal=B:USR1@300
#SBATCH --constraint=nvlink&ib
#SBATCH --mail-type=END

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
    mkdir -p '/nvme/of users' || fail 'scratch /nvme/of users cannot be made: name another in the site'"'"'s file'
    scratch=$(mktemp -d '/nvme/of users/rederive-'"$SLURM_JOB_ID"-XXXXXX) ||
        fail 'scratch /nvme/of users cannot be written: name another in the site'"'"'s file'
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

trap finish EXIT
trap stop USR1
trap : TERM
cd /shared/rederive || exit 1
source /etc/profile.d/lmod.sh
module load cuda/13.0 ||
    fail 'the module cuda/13.0 of the site'"'"'s file cannot be loaded'
module load apptainer ||
    fail 'the module apptainer of the site'"'"'s file cannot be loaded'
export NCCL_DEBUG=WARN
export NCCL_SOCKET_IFNAME=ib0
set -uo pipefail

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
    scancel --signal="$(kill -l WINCH)" "$SLURM_JOB_ID.0"
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
    supervise srun --nodes=4 --ntasks=4 --ntasks-per-node=1 \
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
