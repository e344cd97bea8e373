#!/bin/bash
# The paper suite as a Slurm array: 64 jobs share the work, then one job makes the tables.
#
#     export M2L_DATA=/shared/data M2L_STORE=/shared/m2l-store     # or M2L_STORE=s3://bucket/m2l-store
#     jobs=$(sbatch --parsable --array=0-63 slurm.sh)
#     sbatch --dependency=afterany:$jobs slurm.sh                  # without --array: the tables
#     m2l-bench status --suite paper --store "$M2L_STORE" --watch 60
#
# Run the same lines again to finish what failed or was cut off: only what the store lacks is computed.
# With GPUs: sbatch --gres=gpu:1 …, and DEVICE=cuda for the jobs and the tables alike.
#SBATCH --job-name=m2l-paper
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=12:00:00
#SBATCH --output=m2l-%A-%a.log
set -euo pipefail

: "${M2L_STORE:?names the store that all jobs share: a folder or s3://bucket/prefix}"
SUITE=${SUITE:-paper}
# One worker for each GPU, so that two of them never share its memory; without one, a worker for each CPU.
if [[ ${DEVICE:=cpu} == cpu ]]; then WORKERS=${SLURM_CPUS_PER_TASK:-1}; else WORKERS=1; fi
common=(--suite "$SUITE" --store "$M2L_STORE" --device "$DEVICE" --executor loky --workers "$WORKERS")

if [[ -n ${SLURM_ARRAY_TASK_ID:-} ]]; then
    # `--array=0-63` numbers from 0; the count says how many shares there are.
    exec m2l-bench run "${common[@]}" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
fi
exec m2l-bench tables "${common[@]}"
