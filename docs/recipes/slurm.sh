#!/bin/bash
# Train on two machines of eight GPUs: sbatch docs/recipes/slurm.sh CONFIG OUTPUT_DIR [KEY VALUE ...]
# from the project's folder, with its environment active. CONFIG and OUTPUT_DIR are on a disk that all
# machines see. Not run here, for lack of Slurm.
#SBATCH --job-name=softpool
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail
config=$1 output=$2
shift 2
mkdir -p "$output"
started=$(mktemp "$output/.started.XXXXXX")
trap 'rm -f "$started"' EXIT
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# Since Slurm 22.05 srun does not take --cpus-per-task over from sbatch: by default torchrun, the
# programs and their loader workers would share one core.
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

# The signal reaches torchrun, too, and by default ends it at once.
srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node 8 --max-restarts 3 \
    --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 \
    --rdzv-backend c10d --rdzv-endpoint "$head:29400" \
    --rdzv-id "$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}" \
    tools/train_net.py --resume --config-file "$config" "$@" OUTPUT_DIR "$output"
status=$?

# A finished run has a result. Another one resumes in a new start, but only if this one made
# progress: else what stopped it would stop it every time.
if [ ! -e "$output/result.json" ]; then
    if [ "$output/last_checkpoint" -nt "$started" ]; then
        scontrol requeue "$SLURM_JOB_ID"
        exit 0
    fi
    exit $((status ? status : 1))
fi
