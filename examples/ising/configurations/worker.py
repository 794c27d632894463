#!/usr/bin/env python3
"""Store a series of Ising configurations at one temperature, one per line in hexadecimal."""

import hashlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path("../includes").resolve()))

from lattice import Lattice, Wolff
from store import read_json, write_json, write_text

task = os.environ["SLURM_ARRAY_TASK_ID"]
parameters = read_json(Path(f"../parameters/parameters.{task}.json"))

lattice = Lattice(parameters["size"])
walk = Wolff(lattice, parameters["temperature"], parameters["seed"])
clusters = walk.thermalise(parameters["thermalisation"])
digits = (lattice.sites + 3) // 4
text = "".join(f"{bits:0{digits}x}\n" for bits in walk.measurements(parameters["measurements"], clusters))

data = Path(f"configurations.{task}.txt")
write_text(data, text)
write_json(
    Path(f"../results/results.{task}.json"),
    {
        "temperature": parameters["temperature"],
        "size": parameters["size"],
        "measurements": parameters["measurements"],
        "clusters_per_measurement": clusters,
        "file": data.name,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    },
)
