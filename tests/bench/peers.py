"""How programs of the same field compare: their start, and creating or submitting many jobs.

They are installed by pip into an environment of their own; what can't be installed is left out, with the reason. None
of them does quite what `esis run` does, so the notes tell what each one did. There is nothing to reach here.
"""

from __future__ import annotations

import subprocess
import tempfile
import venv
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from tests.bench.figure import Figure, interleaved
from tests.bench.scan import Scan, scan
from tests.bench.startup import Installed

JOBS = 1_000
INSTALL_SECONDS = 300
STARTS: Mapping[str, str] = MappingProxyType(
    {"submitit": "import submitit", "signac": "import signac", "snakemake": "import snakemake.cli"}
)
# Each is run in an empty directory and creates or submits JOBS jobs, with parameters that are small.
WORK: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "submitit": (
            """\
import sys, submitit
executor = submitit.AutoExecutor(folder="logs", cluster="slurm")
executor.update_parameters(timeout_min=5, slurm_array_parallelism=10)
executor.map_array(abs, range(int(sys.argv[1])))
""",
            "map_array: a pickle for each job, one sbatch",
        ),
        "signac": (
            """\
import sys, signac
project = signac.init_project()
for seed in range(int(sys.argv[1])):
    project.open_job({"seed": seed, "model": "ising"}).init()
""",
            "a directory with a state point for each job, nothing submitted",
        ),
    }
)


def measure(made: Installed, jobs: int = JOBS, rounds: int = 5) -> list[Figure]:
    """Return the figures; takes about a minute, most of it for the installation."""
    with tempfile.TemporaryDirectory(prefix="esis-bench-") as scratch:
        home = Path(scratch, "peers")
        venv.create(home, with_pip=True)
        python = str(home / "bin/python")
        there = {name: install(python, name) for name in STARTS}
        left_out = [
            Figure(f"{name}: left out", 0.0, None, "", reason) for name, reason in there.items() if reason is not None
        ]
        names = [name for name, reason in there.items() if reason is None]
        with scan(jobs, "files", made.directory) as of:
            return [*_starts(of, python, names, rounds), *_jobs(of, python, names, rounds), *left_out]


def install(python: str, name: str) -> str | None:
    """Install a program; return why that can't be done, or None."""
    argv = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", name]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        return f"pip took more than {INSTALL_SECONDS} s"
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return None if done.returncode == 0 else (lines or ["pip failed"])[-1]


def _version(python: str, name: str) -> str:
    asked = f"import importlib.metadata as m; print(m.version({name!r}))"
    return subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()


def own_time(of: Scan, python: str, script: str) -> float:
    """Return the seconds that a script of a peer takes for itself."""
    return of.script(python, script, str(of.tasks)).own


def _starts(of: Scan, python: str, names: list[str], rounds: int) -> list[Figure]:
    """Compare what everybody pays who imports the program, or calls it."""
    takes: dict[str, Callable[[], float]] = {
        "python": of.python_seconds,
        "esis in a worker": lambda: of.python_seconds("-c", "import esis"),
        "esis --help": lambda: of.esis("--help").seconds,
    }
    for name in names:
        takes[name] = partial(of.python_seconds, "-c", STARTS[name], python=python)
    found = interleaved(takes, rounds)
    shown = {"import esis, in a worker": "esis in a worker", "esis --help, beside these": "esis --help"}
    shown.update({f"{STARTS[name]} ({_version(python, name)})": name for name in names})
    return [
        Figure(title, found[key] / found["python"], None, "python -c pass", f"{found[key] * 1000:.0f} ms")
        for title, key in shown.items()
    ]


def _jobs(of: Scan, python: str, names: list[str], rounds: int) -> list[Figure]:
    """Compare what creating many jobs costs in all, the fake Slurm's own time aside."""

    def run() -> float:
        of.forget()
        spent = of.esis("run")
        return spent.own + spent.elsewhere["generator"]

    takes: dict[str, Callable[[], float]] = {"esis": run}
    for name in names:
        if name in WORK:
            takes[name] = partial(own_time, of, python, WORK[name][0])
    found = interleaved(takes, rounds)
    micro = {name: seconds / of.tasks * 1e6 for name, seconds in found.items()}
    return [
        Figure(
            f"{name}, {of.tasks:,} jobs",
            found[name] / found["esis"],
            None,
            "esis run of as many, its generator included",
            f"{micro[name]:.0f} µs a job, esis {micro['esis']:.0f}; {WORK[name][1]}",
        )
        for name in takes
        if name != "esis"
    ]
