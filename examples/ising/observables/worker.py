#!/usr/bin/env python3
"""Measure the configurations of one temperature: means per spin, with errors by a jackknife over blocks."""

import hashlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path("../includes").resolve()))

from blocking import autocorrelation_time, block_length, block_means, jackknife
from lattice import Lattice
from store import read_json, write_json

task = os.environ["SLURM_ARRAY_TASK_ID"]
parameters = read_json(Path(f"../parameters/parameters.{task}.json"))
temperature, size = parameters["temperature"], parameters["size"]

source = read_json(Path(parameters["result"]))
if (source["temperature"], source["size"]) != (temperature, size):
    sys.exit(f"{parameters['result']} is not about T = {temperature}, L = {size}")
data = Path(parameters["directory"], source["file"])
content = data.read_bytes()
if hashlib.sha256(content).hexdigest() != source["sha256"]:
    sys.exit(f"{data} is not what {parameters['result']} describes: rerun that task")

lattice = Lattice(size)
sites = lattice.sites
configurations = [int(line, 16) for line in content.split()]
energies = [lattice.energy(bits) / sites for bits in configurations]
magnetisations = [abs(lattice.magnetisation(bits)) / sites for bits in configurations]

time_e, time_m = autocorrelation_time(energies), autocorrelation_time(magnetisations)
length = block_length(max(time_e, time_m), len(configurations))
e, e2, m, m2, m4 = (
    block_means(series, length)
    for series in (
        energies,
        [value**2 for value in energies],
        magnetisations,
        [value**2 for value in magnetisations],
        [value**4 for value in magnetisations],
    )
)

result = {
    "temperature": temperature,
    "size": size,
    "measurements": len(configurations),
    "autocorrelation_time_energy": time_e,
    "autocorrelation_time_magnetisation": time_m,
    "blocks": len(e),
    "block_length": length,
}
for name, (value, error) in {
    "energy": jackknife([e], lambda a: a[0]),
    "magnetisation": jackknife([m], lambda a: a[0]),
    "specific_heat": jackknife([e, e2], lambda a: sites * (a[1] - a[0] ** 2) / temperature**2),
    "susceptibility": jackknife([m, m2], lambda a: sites * (a[1] - a[0] ** 2) / temperature),
    "binder": jackknife([m2, m4], lambda a: 1.0 - a[1] / (3.0 * a[0] ** 2)),
}.items():
    result[name] = value
    result[f"{name}_error"] = error
write_json(Path(f"../results/results.{task}.json"), result)
