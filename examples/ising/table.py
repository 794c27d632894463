#!/usr/bin/env python3
"""Print what the workflow `observables` measured beside what is known exactly.

Usage: table.py <wrkdir of observables>
Exit status 1: results are missing, or the energies disagree with the exact ones.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "common"))
sys.dont_write_bytecode = True

from exact import finite, infinite_energy  # noqa: E402 - found in common/ only now

HEADINGS = (
    "       T          e      error  exact LxL    Onsager  sigma"
    "      |m|   error     C_v   error  exact LxL  sigma     tau"
)
LEAST_PROBABILITY = 1e-4


def probability(chi2: float, degrees: int) -> float:
    """Return the probability that chi^2 with so many degrees of freedom is larger than chi2 by chance."""
    half = chi2 / 2.0
    order, result = (0.5, math.erfc(math.sqrt(half))) if degrees % 2 else (1.0, math.exp(-half))
    while order < degrees / 2.0:
        result += half**order * math.exp(-half) / math.gamma(order + 1.0)
        order += 1.0
    return result


def row(result: dict[str, Any]) -> tuple[str, float, float]:
    """Return one line of the table, and the deviations of energy and specific heat in standard errors."""
    temperature = result["temperature"]
    energy, specific_heat = finite(result["size"], temperature)
    off_e = (result["energy"] - energy) / result["energy_error"]
    off_c = (result["specific_heat"] - specific_heat) / result["specific_heat_error"]
    time = max(result["autocorrelation_time_energy"], result["autocorrelation_time_magnetisation"])
    line = (
        f"{temperature:8.4f} {result['energy']:10.5f} {result['energy_error']:10.5f} {energy:10.5f}"
        f" {infinite_energy(temperature):10.5f} {off_e:6.2f}"
        f" {result['magnetisation']:8.4f} {result['magnetisation_error']:7.4f}"
        f" {result['specific_heat']:7.4f} {result['specific_heat_error']:7.4f} {specific_heat:10.4f}"
        f" {off_c:6.2f} {time:7.1f}"
    )
    return line, off_e, off_c


def table(results: list[dict[str, Any]]) -> tuple[str, bool]:
    """Return the table, and whether the measured energies agree with the exact ones."""
    rows = [row(result) for result in sorted(results, key=lambda result: float(result["temperature"]))]
    lines = [HEADINGS, *(line for line, _, _ in rows)]
    chances = []
    for name, column in (("e", 1), ("C_v", 2)):
        chi2 = math.fsum(float(entry[column]) ** 2 for entry in rows)
        chances.append(probability(chi2, len(rows)))
        lines.append(
            f"chi^2 of {name} against the exact lattice of the same size: {chi2:.2f}"
            f" for {len(rows)} temperatures (probability {chances[-1]:.2g})"
        )
    return "\n".join(lines), chances[0] >= LEAST_PROBABILITY


def main(arguments: list[str]) -> int:
    """Read the results of one run and print the table."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    wrkdir = Path(arguments[0])
    results = [json.loads(path.read_text(encoding="utf-8")) for path in wrkdir.glob("results/results.*.json")]
    wanted = len(list(wrkdir.glob("parameters/parameters.*.json")))
    if results:
        text, agrees = table(results)
        print(text)
        if not agrees:
            print("The energies disagree with the exact ones.", file=sys.stderr)
    if not results or len(results) != wanted:
        print(f"{wrkdir}: {len(results)} of {wanted} results are there", file=sys.stderr)
        return 1
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
