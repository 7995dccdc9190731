#!/bin/bash
# Runs `dvc repro` as a job; made by `python -m stages render`.
#SBATCH --job-name=rederive-controller
#SBATCH --chdir=/shared/rederive
#SBATCH --output=work/jobs/controller/%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --partition=hopper
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@300

# shellcheck disable=SC2317 # traps call functions, and so do the tasks of several nodes

job=$SLURM_JOB_ID
result=work/jobs/controller/$job.${SLURM_RESTART_COUNT:-0}.status
child='' signalled='' stopping='' forwarded='' scratch=''

say() {
    printf 'rederive: %s: %s\n' controller "$1" >&2
}

fail() {
    say "$1 (node ${SLURMD_NODENAME:-unknown})"
    exit 1
}

# What the launcher waits for: the exit status, in a file that is there whole or not at all.
finish() {
    local status=$?
    clean_up
    printf '%s\n' "$status" >"$result.partial" && mv "$result.partial" "$result"
    exit "$status"
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

# What the launchers of stages hear: `leave`, and their jobs go on; `cancel`, and they do not.
asked=/shared/rederive/work/jobs/controller/$job.asked

end_stage() {
    echo leave >"$asked"
}

cancel() {
    signalled=1
    echo cancel >"$asked"
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
    command -v sbatch >/dev/null ||
        fail 'there is no sbatch: the controller needs a node that may submit jobs; see partition and options in the site'"'"'s file'
    export R1_SITE=example R1_CONTROLLER_STOP=$asked
    # DVC does not hear SIGTERM: it ends when its stage's launcher does, and leaves no locks.
    (
        trap '' TERM
        exec "${python[@]}" -m dvc repro --keep-going grpo
    ) &
    child=$!
    [ -z "$stopping" ] || forward
    local status
    while :; do
        signalled=
        wait "$child" && status=0 || status=$?
        [ -n "$signalled" ] || break
    done
    rm -f -- "$asked"
    [ -z "$stopping" ] || [ "$status" -eq 0 ] || return 143
    return "$status"
}

trap finish EXIT
trap stop USR1
rm -f -- /shared/rederive/work/jobs/controller/"$job.asked"
trap cancel TERM
cd /shared/rederive || exit 1
export NCCL_DEBUG=WARN
set -uo pipefail

run_stage
status=$?

if [ -n "$stopping" ] && [ "$status" -eq 143 ]; then
    if [ "${SLURM_RESTART_COUNT:-0}" -lt 1000000 ]; then
        say "stopped before its time limit, and queued again"
        clean_up
        scontrol requeue "$job" && exit 143
        trap finish EXIT
        say "it could not be queued again"
    else
        say "stopped before its time limit, and max_requeues is 1000000: raise time in slurm/resources.yaml"
    fi
fi
exit "$status"
