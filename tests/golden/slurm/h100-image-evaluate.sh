#!/bin/bash
# Runs `python -m stages exec evaluate --model sft --task arithmetic` as a job; made by `python -m stages render`.
#SBATCH --job-name=rederive-evaluate-sft-arithmetic
#SBATCH --chdir=/shared/rederive
#SBATCH --output=work/jobs/evaluate-sft-arithmetic/%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --partition=hopper
#SBATCH --account=r1
#SBATCH --qos=high
#SBATCH --nodes=1
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
result=work/jobs/evaluate-sft-arithmetic/$job.${SLURM_RESTART_COUNT:-0}.status
kept=work/jobs/evaluate-sft-arithmetic/$job.kept
child='' signalled='' stopping='' forwarded='' scratch=''

say() {
    printf 'rederive: %s: %s\n' evaluate-sft-arithmetic "$1" >&2
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
    cp -al --parents artifacts/evaluate/sft/arithmetic runs/evaluate-sft-arithmetic.* "$kept" 2>/dev/null || rm -rf -- "$kept"
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

is_image() {
    printf '%s  %s\n' 5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e "$1" | sha256sum --check --status 2>/dev/null
}

refuse_image() {
    fail 'the image /shared/images/train.sif has not the sha256 of containers/train.lock.yaml: copy it again'
}

# What one node needs first: its scratch, and how to call python.
prepare_node() {
    mkdir -p '/nvme/of users' || fail 'scratch /nvme/of users cannot be made: name another in the site'"'"'s file'
    scratch=$(mktemp -d '/nvme/of users/rederive-'"$SLURM_JOB_ID"-XXXXXX) ||
        fail 'scratch /nvme/of users cannot be written: name another in the site'"'"'s file'
    export TMPDIR=$scratch
    command -v apptainer >/dev/null ||
        fail 'there is no apptainer: set apptainer or modules in the site'"'"'s file'
    local name image=/shared/images/train.sif
    [ -r "$image" ] ||
        fail 'there is no image /shared/images/train.sif: copy it there'
    is_image "$image" || refuse_image
    unset TMPDIR # the image's /tmp lies there
    export R1_IMAGE_SHA256=5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e # for the manifest
    python=(apptainer exec --containall --nv --workdir "$scratch" --pwd /shared/rederive
        --bind /shared/rederive --bind /shared/data:/data:ro --bind /shared/cache "$image" python3)
    for name in $(compgen -e | grep -E '^(SLURMD?_|R1_|CUDA_VISIBLE_DEVICES$|MASTER_ADDR$|MASTER_PORT$)') NCCL_SOCKET_IFNAME NCCL_DEBUG; do
        export "APPTAINERENV_$name=${!name-}"
    done
}

# What one node does: checks that fail in seconds, and then the stage.
run_stage() {
    prepare_node
    "${python[@]}" -m stages preflight evaluate --model sft --task arithmetic \
        --gpus 8 --gpu-type h100 \
        --scratch-bytes 10000000000 --collective-timeout 60.0 || return 1
    [ -z "$stopping" ] || return 143
    supervise "${python[@]}" -m stages exec evaluate --model sft --task arithmetic
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

run_stage
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
