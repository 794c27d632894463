#!/bin/bash
#SBATCH --job-name=ising-observables
#SBATCH --array=TASKARRAYDEFINITION
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --time=00:10:00
#SBATCH --mem=200M
#ESIS_PRIVATE

set -eu
srun WORKERSCRIPT
