#!/usr/bin/env python3
"""Write one parameter set per temperature of includes/scan.json, and print how many."""

import hashlib
from pathlib import Path

from store import read_json, write_json

scan = read_json(Path("../includes/scan.json"))
common = {key: scan[key] for key in ("size", "thermalisation", "measurements")}
for number, temperature in enumerate(scan["temperatures"]):
    # Every temperature has random numbers of its own, whatever else is in the scan.
    # Of the digest 48 bits: no reader of JSON rounds them.
    origin = f"{scan['seed']} L={scan['size']} T={temperature!r}"
    seed = int(hashlib.sha256(origin.encode()).hexdigest()[:12], 16)
    write_json(Path(f"parameters.{number}.json"), {"temperature": temperature, **common, "seed": seed})
print(len(scan["temperatures"]))
