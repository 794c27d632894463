#!/bin/bash
# Runs the whole example on this machine, with the esis on PATH, in a copy of it; plots need esis-slurm[plot].
# Usage: demo.sh [directory for the copy, which must not exist yet]
set -eu

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
copy=${1:-$(mktemp -d "${TMPDIR:-/tmp}/esis-ising.XXXXXX")/ising}

# Only what belongs to the example: no working directories of somebody who ran it in place.
mkdir -- "$copy"
copy=$(cd -- "$copy" && pwd)
mkdir -- "$copy"/{common,configurations,observables}
cp -- "$here"/common/*.py "$copy/common"
cp -- "$here"/{table,figure}.py "$copy"
cp -- "$here"/configurations/{setup.sh,parameters.py,template.sh,worker.py,scan.json} "$copy/configurations"
cp -- "$here"/observables/{setup.sh,parameters.py,template.sh,worker.py} "$copy/observables"

say() {
    printf '\n$ %s\n' "$*"
    "$@"
}

say cd "$copy/configurations"
say esis setup setup.sh parameters.py template.sh worker.py scan.json ../common/lattice.py ../common/store.py

say cd "$copy/observables"
say esis setup setup.sh parameters.py template.sh worker.py \
    ../common/lattice.py ../common/blocking.py ../common/store.py
say esis require ../configurations/wf.esis.json configurations
say esis dependency --local -j 2 wf.esis.json
say ../table.py "$(esis list)"

say esis export -o ../observables.csv
say esis export --columns temperature,state,energy,energy_error,specific_heat,specific_heat_error
say esis plot -x temperature -y energy --yerr energy_error
say ../figure.py ../observables.csv ../observables.png

printf '\nAll of this is in %s: the table observables.csv, the figure observables.png\n' "$copy"
