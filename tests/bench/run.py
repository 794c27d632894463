"""What `esis run` spends of its own, beside the generator and the setup script, and how that grows with the tasks."""

from __future__ import annotations

import math
import statistics

from tests.bench.figure import Figure, interleaved
from tests.bench.scan import Scan, scan
from tests.bench.startup import Installed

MANY, FEW = 100_000, 1_000
AT_MOST_BESIDE_ARRAYS = 2  # calls of Slurm


def measure(made: Installed, many: int = MANY, few: int = FEW, rounds: int = 3) -> list[Figure]:
    """Return the figures; takes about half a minute."""
    with (
        scan(many, "files", made.directory) as files,
        scan(few, "files", made.directory) as few_files,
        scan(many, "lines", made.directory) as lines,
        scan(few, "lines", made.directory) as few_lines,
    ):
        generator: list[float] = []
        calls: list[int] = []

        def own(of: Scan) -> float:
            of.forget()
            spent = of.esis("run")
            calls.append(spent.slurm_calls() - spent.slurm_calls("sbatch"))
            if of is files:
                generator.append(spent.elsewhere["generator"])
            return spent.own

        found = interleaved(
            {
                "many": lambda: own(files),
                "few": lambda: own(few_files),
                "many lines": lambda: own(lines),
                "few lines": lambda: own(few_lines),
                "click": lambda: lines.python_seconds("-c", "import click"),
            },
            rounds,
        )
        floor = statistics.median(generator)
        unit = f"a generator that writes {many:,} small JSON files ({floor:.1f} s)"
        start = f"Python and click alone: {found['click'] * 1000:.0f} ms"
        growth = {end: math.log(found[f"many{end}"] / found[f"few{end}"], many / few) for end in ("", " lines")}
        return [
            Figure(
                "run, own time, a file for each task",
                found["many"] / floor,
                0.04,
                unit,
                f"{found['many'] * 1000:.0f} ms for {many:,} tasks, {found['few'] * 1000:.0f} ms for {few:,}; {start}",
            ),
            Figure(
                "run, own time, parameters.jsonl",
                found["many lines"] / floor,
                0.04,
                unit,
                f"{found['many lines'] * 1000:.0f} ms for {many:,} tasks, "
                f"{found['few lines'] * 1000:.0f} ms for {few:,}; {start}",
            ),
            Figure("run, growth, a file for each task", growth[""], 0.2, f"the power of N, from {few:,} to {many:,}"),
            Figure("run, growth, parameters.jsonl", growth[" lines"], 0.2, f"the power of N, from {few:,} to {many:,}"),
            Figure("run, calls of Slurm beside sbatch", max(calls), AT_MOST_BESIDE_ARRAYS, "calls"),
        ]
