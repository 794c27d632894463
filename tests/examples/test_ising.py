"""The Ising example: its physics against exact results, its statistics, and both workflows."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ISING = Path(__file__).resolve().parents[2] / "examples" / "ising"


def load(path: Path) -> ModuleType:
    """Import one file of the example under a name of its own, and leave no bytecode beside it."""
    spec = importlib.util.spec_from_file_location(f"ising_example_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    path_before, quiet_before = list(sys.path), sys.dont_write_bytecode
    sys.path.insert(0, str(ISING / "common"))
    sys.dont_write_bytecode = True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:], sys.dont_write_bytecode = path_before, quiet_before
    return module


lattice = load(ISING / "common" / "lattice.py")
blocking = load(ISING / "common" / "blocking.py")
exact = load(ISING / "common" / "exact.py")
store = load(ISING / "common" / "store.py")
table = load(ISING / "table.py")
figure = load(ISING / "figure.py")

T_C = exact.CRITICAL_TEMPERATURE


def bits(rows: list[str]) -> int:
    """Return the configuration that is drawn with + and -."""
    return int("".join(rows).replace("+", "1").replace("-", "0"), 2)


def energy_spin_by_spin(configuration: int, size: int) -> int:
    """Return the energy by the definition, without any trick."""
    spins = [1 if digit == "1" else -1 for digit in f"{configuration:0{size * size}b}"]
    return -sum(
        spins[row * size + column] * (spins[row * size + (column + 1) % size] + spins[(row + 1) % size * size + column])
        for row in range(size)
        for column in range(size)
    )


@pytest.fixture(scope="module")
def levels() -> dict[int, dict[tuple[int, int], int]]:
    """Count, for each L, all configurations by energy and |magnetisation|."""
    counts: dict[int, dict[tuple[int, int], int]] = {}
    for size in (3, 4):
        grid = lattice.Lattice(size)
        counts[size] = {}
        for configuration in range(1 << grid.sites):
            level = grid.energy(configuration), abs(grid.magnetisation(configuration))
            counts[size][level] = counts[size].get(level, 0) + 1
    return counts


def enumerated(levels: dict[tuple[int, int], int], sites: int, temperature: float) -> tuple[float, float, float]:
    """Return energy, specific heat and |magnetisation| per spin by summing over all configurations."""
    weights = {level: n * math.exp(-(level[0] + 2 * sites) / temperature) for level, n in levels.items()}
    total = math.fsum(weights.values())
    energy = math.fsum(e * w for (e, _), w in weights.items()) / total
    square = math.fsum((e - energy) ** 2 * w for (e, _), w in weights.items()) / total
    magnetisation = math.fsum(m * w for (_, m), w in weights.items()) / total
    return energy / sites, square / temperature**2 / sites, magnetisation / sites


@pytest.mark.parametrize(
    ("rows", "energy", "magnetisation"),
    [
        (["++++"] * 4, -32, 16),
        (["----"] * 4, -32, -16),
        (["+-+-", "-+-+"] * 2, 32, 0),
        (["++++", "++++", "+-++", "++++"], -24, 14),
        (["-+++", "++++", "++++", "++++"], -24, 14),
        (["++++", "++++", "++++", "+++-"], -24, 14),
        (["++++", "++++", "----", "----"], -16, 0),
        (["++--"] * 4, -16, 0),
    ],
)
def test_known_configurations(rows: list[str], energy: int, magnetisation: int) -> None:
    """Drawn configurations have the energy that one counts by hand, also across the boundaries."""
    grid = lattice.Lattice(4)
    assert grid.energy(bits(rows)) == energy
    assert grid.magnetisation(bits(rows)) == magnetisation


def test_neighbours_are_the_sites_one_step_away() -> None:
    """Every site has four neighbours, at distance one on the torus."""
    size = 5
    for site, neighbours in enumerate(lattice.Lattice(size).neighbours):
        steps = {((n // size - site // size) % size, (n % size - site % size) % size) for n in neighbours}
        assert steps == {(0, 1), (0, 4), (1, 0), (4, 0)}


@pytest.mark.parametrize("size", [3, 5, 16])
def test_energy_by_bits_is_the_energy_by_definition(size: int) -> None:
    """The energy taken from shifted bits is that of the sum over bonds."""
    generator = random.Random(size)
    grid = lattice.Lattice(size)
    for _ in range(100):
        configuration = generator.getrandbits(size * size)
        assert grid.energy(configuration) == energy_spin_by_spin(configuration, size)


@pytest.mark.parametrize("size", [3, 4])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, T_C, 2.5, 5.0, 100.0])
def test_kaufman_is_enumeration(levels: dict[int, dict[tuple[int, int], int]], size: int, temperature: float) -> None:
    """The exact result for a finite lattice is what the sum over all its configurations gives."""
    energy, specific_heat, _ = enumerated(levels[size], size * size, temperature)
    assert exact.finite(size, temperature) == pytest.approx((energy, specific_heat), rel=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 1.8, 2.1, 2.5, 3.0, 10.0])
def test_large_lattice_is_onsager(temperature: float) -> None:
    """Away from T_c the exact energy of a large finite lattice is Onsager's: two independent formulas."""
    assert exact.finite(256, temperature)[0] == pytest.approx(exact.infinite_energy(temperature), rel=1e-6)


def test_finite_size_at_the_critical_point() -> None:
    """At T_c the energy falls short of Onsager's by an amount proportional to 1/L (Ferdinand and Fisher)."""
    shifts = [size * (exact.finite(size, T_C)[0] - exact.infinite_energy(T_C)) for size in (16, 32, 64, 128)]
    assert shifts == pytest.approx([-0.6224] * 4, rel=2e-3)


def test_onsager_limits() -> None:
    """Onsager's energy is -2 at T = 0, -sqrt(2) at T_c, -2/T at high T, and has no jump at T_c."""
    assert exact.infinite_energy(0.1) == pytest.approx(-2.0, abs=1e-12)
    assert exact.infinite_energy(T_C) == pytest.approx(-math.sqrt(2.0), abs=1e-12)
    assert exact.infinite_energy(1e3) == pytest.approx(-2.0e-3, rel=1e-5)
    assert exact.infinite_energy(T_C - 1e-9) == pytest.approx(-math.sqrt(2.0), abs=1e-7)
    assert exact.infinite_energy(T_C + 1e-9) == pytest.approx(-math.sqrt(2.0), abs=1e-7)
    # One spin turned costs 8 and two neighbours 12: -2 + 8 exp(-8/T) + 24 exp(-12/T) + ...
    series = 8.0 * math.exp(-16.0) + 24.0 * math.exp(-24.0)
    assert exact.infinite_energy(0.5) + 2.0 == pytest.approx(series, rel=1e-5)


def test_yang_magnetisation() -> None:
    """The spontaneous magnetisation is 1 at T = 0 and nothing from T_c on."""
    assert exact.infinite_magnetisation(0.2) == pytest.approx(1.0, abs=1e-12)
    assert exact.infinite_magnetisation(2.0) == pytest.approx(0.911319, abs=1e-6)
    assert exact.infinite_magnetisation(T_C) == 0.0
    assert exact.infinite_magnetisation(3.0) == 0.0


@pytest.mark.parametrize("temperature", [1.5, T_C, 4.0])
def test_wolff_samples_boltzmann(levels: dict[int, dict[tuple[int, int], int]], temperature: float) -> None:
    """Cluster updates reproduce the enumerated means of a 4 x 4 lattice within their errors."""
    grid = lattice.Lattice(4)
    walk = lattice.Wolff(grid, temperature, seed=7)
    chain = list(walk.measurements(20000, walk.thermalise(500)))
    energies = [grid.energy(c) / 16 for c in chain]
    magnetisations = [abs(grid.magnetisation(c)) / 16 for c in chain]
    length = blocking.block_length(max(map(blocking.autocorrelation_time, (energies, magnetisations))), len(chain))
    energy, _, magnetisation = enumerated(levels[4], 16, temperature)
    for series, expected in ((energies, energy), (magnetisations, magnetisation)):
        mean, error = blocking.jackknife([blocking.block_means(series, length)], lambda a: a[0])
        assert error < 0.01
        assert abs(mean - expected) < 3.5 * error


def test_wolff_is_a_function_of_its_seed() -> None:
    """The same seed gives the same walk, another seed another one."""
    grid = lattice.Lattice(6)
    walks = [list(lattice.Wolff(grid, 2.3, seed).measurements(50, 2)) for seed in (1, 1, 2)]
    assert walks[0] == walks[1] != walks[2]


def correlated(count: int, memory: float, seed: int) -> list[float]:
    """Return an AR(1) series of unit variance: x' = memory x + noise."""
    generator = random.Random(seed)
    value, series = generator.gauss(0.0, 1.0), []
    for _ in range(count):
        value = memory * value + math.sqrt(1.0 - memory**2) * generator.gauss(0.0, 1.0)
        series.append(value)
    return series


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_errors_of_a_correlated_series(memory: float) -> None:
    """For AR(1) with memory a, tau is (1 + a)/(1 - a)/2 and the error of the mean sqrt(2 tau/n)."""
    count, tau = 32768, (1.0 + memory) / (1.0 - memory) / 2.0
    expected = math.sqrt(2.0 * tau / count)
    for seed in (1, 2, 3):
        series = correlated(count, memory, seed)
        measured = blocking.autocorrelation_time(series)
        assert measured == pytest.approx(tau, rel=0.15)
        length = blocking.block_length(measured, count)
        assert length >= 20.0 * measured
        mean, error = blocking.jackknife([blocking.block_means(series, length)], lambda a: a[0])
        assert error == pytest.approx(expected, rel=0.25)
        assert abs(mean) < 4.0 * expected


def test_errors_cover_the_truth() -> None:
    """Of many AR(1) series, the deviations of the mean in units of their own errors scatter by one."""
    deviations = []
    for seed in range(60):
        series = correlated(2048, 0.5, 1000 + seed)
        length = blocking.block_length(blocking.autocorrelation_time(series), len(series))
        mean, error = blocking.jackknife([blocking.block_means(series, length)], lambda a: a[0])
        deviations.append(mean / error)
    assert 0.75 < math.sqrt(statistics.fmean(d * d for d in deviations)) < 1.3


def test_jackknife_of_a_mean_and_of_a_variance() -> None:
    """For a mean it is the textbook error; a variance comes out free of the bias by n/(n-1)."""
    values = [1.0, 4.0, 2.0, 8.0, 5.0, 7.0]
    mean, error = blocking.jackknife([values], lambda a: a[0])
    assert mean == pytest.approx(statistics.fmean(values))
    assert error == pytest.approx(statistics.stdev(values) / math.sqrt(6))
    variance, _ = blocking.jackknife([values, [v * v for v in values]], lambda a: a[1] - a[0] ** 2)
    assert variance == pytest.approx(statistics.variance(values))


def test_block_means_leave_out_the_beginning() -> None:
    """All blocks are equally long, and end where the series ends."""
    assert blocking.block_means([9.0, 1.0, 3.0, 5.0, 7.0], 2) == [2.0, 6.0]
    assert blocking.block_means([1.0, 3.0], 1) == [1.0, 3.0]


def test_too_short_a_series_is_refused() -> None:
    """No error is better than one from a few blocks, and the message says how long is long enough."""
    assert blocking.block_length(1.5, 1024) == 32
    with pytest.raises(blocking.SeriesTooShortError, match="1024 or more"):
        blocking.block_length(1.5, 1023)


def test_constant_series() -> None:
    """A frozen series has the least autocorrelation time and no error, not a division by zero."""
    assert blocking.autocorrelation_time([-2.0] * 100) == 0.5
    assert blocking.jackknife([[-2.0] * 100], lambda a: a[0]) == (-2.0, 0.0)


def test_files_are_whole_or_absent(tmp_path: Path) -> None:
    """A failed write leaves the old file and nothing else."""
    target = tmp_path / "data.txt"
    store.write_text(target, "old")
    with pytest.raises(UnicodeEncodeError):
        store.write_text(target, "new \ud800")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    store.write_json(target, {"b": 1, "a": 2.5})
    assert store.read_json(target) == {"b": 1, "a": 2.5}


@pytest.mark.parametrize(
    ("chi2", "degrees", "expected"),
    [(3.841, 1, 0.05), (5.991, 2, 0.05), (7.815, 3, 0.05), (15.507, 8, 0.05), (2.733, 8, 0.95), (0.0, 5, 1.0)],
)
def test_chi2_probability(chi2: float, degrees: int, expected: float) -> None:
    """The probabilities are those of the printed tables of chi^2."""
    assert table.probability(chi2, degrees) == pytest.approx(expected, abs=1e-4)


def result(temperature: float, deviation: float) -> dict[str, float]:
    """Return a made-up result whose energy is off by so many errors."""
    energy, specific_heat = exact.finite(8, temperature)
    return {
        "temperature": temperature,
        "size": 8,
        "autocorrelation_time_energy": 1.0,
        "autocorrelation_time_magnetisation": 2.0,
        "energy": energy + deviation * 0.01,
        "energy_error": 0.01,
        "magnetisation": 0.5,
        "magnetisation_error": 0.01,
        "specific_heat": specific_heat,
        "specific_heat_error": 0.1,
    }


def test_table_judges() -> None:
    """The table is in the order of temperatures, and says whether the energies agree."""
    text, agrees = table.table([result(3.0, 1.0), result(2.0, -1.0)])
    assert agrees
    assert [line.split()[0] for line in text.splitlines()[1:3]] == ["2.0000", "3.0000"]
    assert "chi^2 of e against the exact lattice of the same size: 2.00 for 2 temperatures" in text
    assert not table.table([result(3.0, 6.0), result(2.0, 0.0)])[1]


def test_table_misses_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unfinished scan is not a finished one: the table shows what is there, and the exit status is 1."""
    for folder in ("parameters", "results"):
        (tmp_path / folder).mkdir()
    for number in range(2):
        store.write_json(tmp_path / f"parameters/parameters.{number}.json", {})
    assert table.main([str(tmp_path)]) == 1
    assert "0 of 2 results" in capsys.readouterr().err
    store.write_json(tmp_path / "results/results.0.json", result(2.0, 0.0))
    assert table.main([str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "2.0000" in captured.out
    assert "1 of 2 results" in captured.err
    store.write_json(tmp_path / "results/results.1.json", result(3.0, 0.0))
    assert table.main([str(tmp_path)]) == 0
    store.write_json(tmp_path / "results/results.1.json", result(3.0, 9.0))
    assert table.main([str(tmp_path)]) == 1
    assert "disagree" in capsys.readouterr().err


INCLUDES = {
    "configurations": ["scan.json", "../common/lattice.py", "../common/store.py"],
    "observables": ["../common/lattice.py", "../common/blocking.py", "../common/store.py"],
}


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """Copy the example, with a smaller scan: L = 8, three temperatures."""
    copy = tmp_path / "an ising 'example'"
    shutil.copytree(ISING, copy, ignore=shutil.ignore_patterns("__pycache__", "wrkdir.*", "wf.esis*.json"))
    scan = copy / "configurations" / "scan.json"
    settings = json.loads(scan.read_text())
    settings.update(size=8, temperatures=[2.0, T_C, 3.5], thermalisation=200, measurements=4096)
    scan.write_text(json.dumps(settings))
    return copy


def by_hand(example: Path, workflow: str, name: str, requirements: dict[str, str]) -> Path:
    """Do what ESIS promises of a wrkdir, one task after the other, and return that wrkdir."""
    wrkdir = example / workflow / name
    for folder in ("includes", "parameters", "results", "cwd"):
        (wrkdir / folder).mkdir(parents=True)
    for script in ("setup.sh", "parameters.py", "worker.py"):
        shutil.copy(example / workflow / script, wrkdir)
    for include in INCLUDES[workflow]:
        shutil.copy(example / workflow / include, wrkdir / "includes")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    built = {**environment, "PYTHONPATH": str(wrkdir / "includes"), "ESIS2_REQUIREMENTS": json.dumps(requirements)}
    subprocess.run([str(wrkdir / "setup.sh")], cwd=wrkdir, env=built, check=True)
    count = subprocess.run(
        ["../parameters.py"], cwd=wrkdir / "parameters", env=built, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    for task in range(int(count)):
        subprocess.run(
            ["../worker.py"], cwd=wrkdir / "cwd", env={**environment, "SLURM_ARRAY_TASK_ID": str(task)}, check=True
        )
    return wrkdir


def outputs(wrkdir: Path) -> dict[str, bytes]:
    """Return everything that generator and tasks have written."""
    return {
        str(path.relative_to(wrkdir)): path.read_bytes()
        for folder in ("parameters", "results", "cwd")
        for path in sorted((wrkdir / folder).iterdir())
    }


def assert_agrees_with_exact_results(wrkdir: Path) -> None:
    """Require small errors, and energies and specific heats within them."""
    results = [json.loads(path.read_text()) for path in (wrkdir / "results").glob("results.*.json")]
    assert sorted(r["temperature"] for r in results) == [2.0, T_C, 3.5]
    rows = [table.row(r) for r in results]
    assert all(r["energy_error"] < 0.01 * abs(r["energy"]) for r in results)
    # 0.1 % and 99.9 % of chi^2 with 3 degrees of freedom: errors neither too small nor too large.
    assert 0.024 < math.fsum(energy**2 for _, energy, _ in rows) < 16.3
    assert 0.024 < math.fsum(heat**2 for _, _, heat in rows) < 16.3


def test_workflows_by_hand(example: Path) -> None:
    """The scripts do their work without ESIS, agree with the exact results, and repeat bit for bit."""
    first = by_hand(example, "configurations", "first", {})
    second = by_hand(example, "configurations", "second", {})
    assert outputs(first) == outputs(second)
    assert {len(json.loads(p.read_text())) for p in (first / "parameters").iterdir()} == {5}
    assert sorted(path.name for path in (first / "cwd").iterdir()) == [f"configurations.{n}.txt" for n in range(3)]

    observables = by_hand(example, "observables", "first", {"configurations": str(first)})
    assert_agrees_with_exact_results(observables)
    again = by_hand(example, "observables", "again", {"configurations": str(first)})
    assert outputs(observables) == outputs(again)


def test_changed_data_are_noticed(example: Path) -> None:
    """A task that finds other data than the required run described fails, and exports nothing."""
    source = by_hand(example, "configurations", "source", {})
    with (source / "cwd" / "configurations.1.txt").open("a") as file:
        file.write("0" * 16 + "\n")
    with pytest.raises(subprocess.CalledProcessError):
        by_hand(example, "observables", "broken", {"configurations": str(source)})
    results = (example / "observables" / "broken" / "results").iterdir()
    assert [path.name for path in results] == ["results.0.json"]


def esis(where: Path, *arguments: str) -> str:
    """Run the installed command as a user would, and return its output."""
    done = subprocess.run(
        [sys.executable, "-m", "esis", *arguments],
        cwd=where,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"esis {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.skipif(importlib.util.find_spec("esis") is None, reason="esis is not installed")
def test_workflows_through_esis(example: Path) -> None:
    """Set up both workflows, require one by the other, run both here: the physics comes out right."""
    four = ["setup.sh", "parameters.py", "template.sh", "worker.py"]
    for workflow, includes in INCLUDES.items():
        esis(example / workflow, "setup", *four, *includes)
    observables = example / "observables"
    esis(observables, "require", "../configurations/wf.esis.json", "configurations")
    esis(observables, "dependency", "--local", "-j", "2", "wf.esis.json")

    (wrkdir,) = esis(observables, "list").splitlines()
    assert_agrees_with_exact_results(observables / wrkdir)
    assert_table_and_figure(observables, observables / wrkdir)
    (source,) = esis(example / "configurations", "list").splitlines()
    assert outputs_of_tasks(example / "configurations" / source) == outputs_of_tasks(
        by_hand(example, "configurations", "by hand", {})
    )


def assert_table_and_figure(observables: Path, wrkdir: Path) -> None:
    """Require that the exported table holds what the tasks wrote, and the figure the measured points."""
    table_file = observables.parent / "observables.csv"
    esis(observables, "export", "--strict", "-o", str(table_file))
    with table_file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        written = json.loads((wrkdir / "results" / f"results.{row['task']}.json").read_text())
        assert {name: float(row.get(f"results.{name}", row[name])) for name in written} == written
    for name, beginning in (("figure.png", b"\x89PNG"), ("figure.svg", b"<?xml"), ("again.svg", b"<?xml")):
        done = subprocess.run(
            [sys.executable, str(ISING / "figure.py"), str(table_file), name],
            cwd=observables,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert (observables / name).read_bytes().startswith(beginning)
    assert (observables / "figure.svg").read_bytes() == (observables / "again.svg").read_bytes()
    size, measured = figure.read(table_file)
    assert size == 8
    upper, middle, lower = figure.draw(size, measured).axes
    for axes, column, curve in ((upper, "energy", 0), (lower, "specific_heat", 1)):
        points = axes.containers[0].lines[0].get_xydata().tolist()
        assert points == [[row["temperature"], row[column]] for row in measured]
        line = axes.lines[0].get_xydata().tolist()
        assert line[0][0] < 2.0 < 3.5 < line[-1][0]
        assert line[100][1] == exact.finite(8, line[100][0])[curve]
        bars = axes.containers[0].lines[2][0].get_segments()
        errors = [row[f"{column}_error"] for row in measured]
        assert [bar[1][1] - bar[0][1] for bar in bars] == pytest.approx([2 * error for error in errors])
    assert len(middle.containers[0].lines[2][0].get_segments()) == len(measured)


def outputs_of_tasks(wrkdir: Path) -> dict[str, bytes]:
    """Return what the tasks have written, without the logs of a scheduler."""
    return {name: content for name, content in outputs(wrkdir).items() if not name.endswith(".out")}
