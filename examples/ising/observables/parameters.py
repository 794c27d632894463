#!/usr/bin/env python3
"""Write one parameter set per temperature of the required run, and print how many.

That run may not have begun when this is called: its parameters are there, its results will be.
"""

import json
import os
import sys
from pathlib import Path

from store import read_json, write_json

source = Path(json.loads(os.environ["ESIS2_REQUIREMENTS"])["configurations"])
count = len(list(source.glob("parameters/parameters.*.json")))
if not count:
    sys.exit(f"{source} holds no parameter sets")
for number in range(count):
    theirs = read_json(source / f"parameters/parameters.{number}.json")
    write_json(
        Path(f"parameters.{number}.json"),
        {
            "temperature": theirs["temperature"],
            "size": theirs["size"],
            "result": str(source / f"results/results.{number}.json"),
            "directory": str(source / "cwd"),
        },
    )
print(count)
