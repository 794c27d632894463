#!/usr/bin/env python3
"""Draw energy and specific heat over the temperature, as measured and as known exactly.

Usage: figure.py <table.csv> <figure.png, .svg or .pdf>

The table is what `esis export` writes of a run of `observables`. Needs matplotlib: pip install 'esis-slurm[plot]'.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "common"))
sys.dont_write_bytecode = True

from exact import CRITICAL_TEMPERATURE, finite, infinite_energy  # noqa: E402 - found in common/ only now

# Okabe and Ito's colours, which colour-blind people can tell apart.
MEASURED, EXACT, INFINITE = "#0072B2", "#D55E00", "#009E73"
STEPS = 300
SETTINGS = {"svg.hashsalt": "ising", "font.size": 11, "axes.grid": True, "grid.alpha": 0.3, "savefig.dpi": 150}
DATELESS = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def read(path: Path) -> tuple[int, list[dict[str, float]]]:
    """Return the size of the lattice, and the measured values by name in the order of temperatures."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["energy"]]
    (size,) = {int(row["size"]) for row in rows}
    names = ("temperature", "energy", "energy_error", "specific_heat", "specific_heat_error")
    values = [{name: float(row[name]) for name in names} for row in rows]
    return size, sorted(values, key=lambda row: row["temperature"])


def curve(size: int, low: float, high: float) -> tuple[list[float], list[float], list[float], list[float]]:
    """Return temperatures; at each energy and specific heat of this lattice, and the energy of the infinite one."""
    temperatures = [low + (high - low) * step / STEPS for step in range(STEPS + 1)]
    pairs = [finite(size, temperature) for temperature in temperatures]
    return (
        temperatures,
        [energy for energy, _ in pairs],
        [heat for _, heat in pairs],
        [infinite_energy(temperature) for temperature in temperatures],
    )


def draw(size: int, rows: list[dict[str, float]]) -> Any:
    """Return the figure."""
    from matplotlib.figure import Figure

    measured = [row["temperature"] for row in rows]
    low, high = measured[0] - 0.1, measured[-1] + 0.1
    temperatures, energies, heats, infinite = curve(size, low, high)
    figure = Figure(figsize=(6.4, 8.0), layout="constrained")
    upper, middle, lower = figure.subplots(3, sharex=True, height_ratios=[3, 1.3, 3])
    for axes, name, exact in ((upper, "energy", energies), (lower, "specific_heat", heats)):
        axes.plot(temperatures, exact, color=EXACT, linewidth=1.3, label=f"exact, {size} x {size} lattice")
        axes.errorbar(
            measured,
            [row[name] for row in rows],
            [row[f"{name}_error"] for row in rows],
            color=MEASURED,
            linestyle="none",
            marker="o",
            markersize=4,
            capsize=4,
            elinewidth=1.3,
            label="measured",
            zorder=3,
        )
        axes.axvline(CRITICAL_TEMPERATURE, color="0.5", linewidth=0.8, linestyle="--")
    # The errors of the energy are smaller than the points above: here they can be seen.
    off = [1000.0 * (row["energy"] - finite(size, row["temperature"])[0]) for row in rows]
    middle.errorbar(
        measured,
        off,
        [1000.0 * row["energy_error"] for row in rows],
        color=MEASURED,
        linestyle="none",
        marker="o",
        markersize=4,
        capsize=4,
        elinewidth=1.3,
        zorder=3,
    )
    middle.axhline(0.0, color=EXACT, linewidth=1.3)
    middle.axvline(CRITICAL_TEMPERATURE, color="0.5", linewidth=0.8, linestyle="--")
    middle.set_ylabel("measured - exact\n(in 0.001)")
    upper.plot(temperatures, infinite, color=INFINITE, linewidth=1.1, linestyle=":", label="exact, infinite lattice")
    upper.annotate(
        "$T_c$",
        (CRITICAL_TEMPERATURE, 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(4, 2),
        textcoords="offset points",
        color="0.4",
    )
    upper.set_ylabel("energy per spin")
    lower.set_ylabel("specific heat per spin")
    lower.set_xlabel("temperature $T$")
    lower.set_xlim(low, high)
    upper.legend(loc="lower right")
    lower.legend(loc="upper right")
    return figure


def main(arguments: list[str]) -> int:
    """Read the table and write the figure."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        import matplotlib as mpl
    except ImportError:
        print("The figure needs matplotlib: pip install 'esis-slurm[plot]'", file=sys.stderr)
        return 1
    source, target = map(Path, arguments)
    size, rows = read(source)
    with mpl.rc_context(SETTINGS):
        draw(size, rows).savefig(target, metadata=DATELESS.get(target.suffix))
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
