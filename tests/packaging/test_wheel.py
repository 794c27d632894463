"""The wheel and the sdist: built, installed into an empty environment, and used."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("packaging")  # one build serves all


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from a copy of what git has (and what it would have), as `python3 -m build` does for anybody."""
    source = tmp_path_factory.mktemp("source")
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in files:
        if name.startswith(("esis/", "README", "LICENSE", "pyproject", "MANIFEST")) and (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
            (source / name).chmod((ROOT / name).stat().st_mode)
    subprocess.run([sys.executable, "-m", "build", str(source)], check=True, capture_output=True, timeout=300)
    return source / "dist"


def test_wheel_and_sdist_hold_the_data_files(built: Path) -> None:
    """The job's shell file, the stand-in for srun and the documentation are in both."""
    (wheel,) = built.glob("*.whl")
    (sdist,) = built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        srun = archive.getinfo("esis/schedulers/bin/srun")
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("esis/records/task.sh", "esis/schedulers/bin/srun", "esis/docs/index.md", "esis/py.typed"):
        assert name in names
        assert name in packed
    assert srun.file_size > 0


@pytest.fixture(scope="module")
def environment(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the wheel in it."""
    (wheel,) = built.glob("*.whl")
    place = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(place, with_pip=True)
    pip(place, "install", str(wheel))
    return place


def pip(environment: Path, command: str, *arguments: str) -> None:
    subprocess.run(
        [str(environment / "bin/pip"), command, "--quiet", "--disable-pip-version-check", *arguments],
        check=True,
        capture_output=True,
        timeout=300,
    )


def test_the_installed_command_runs_a_scan(environment: Path, tmp_path: Path) -> None:
    """Setup, run --local, status, doc."""
    esis = str(environment / "bin/esis")
    files = {
        "s": "#!/bin/sh\n",
        "g": "#!/bin/sh\necho '{}' >parameters.0.json; echo 1\n",
        "t": "#!/bin/bash\n#SBATCH TASKARRAYDEFINITION\nsrun -n 1 WORKERSCRIPT\n",
        "w": "#!/bin/sh\necho worked\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    for arguments in (["setup", "s", "g", "t", "w"], ["run", "--local"], ["doc"], ["--version"]):
        subprocess.run([esis, *arguments], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    shown = subprocess.run([esis, "status"], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60)
    assert "done\t1\t0" in shown.stdout
    (log,) = tmp_path.glob("wrkdir.*/cwd/slurm-*_0.out")
    assert log.read_text() == "worked\n"


def stranger(directory: Path) -> Path:
    """Write a wheel of another distribution named `esis`, with a package and a command of that name."""
    about = "esis-0.2.0.dist-info"
    files = {
        "esis/__init__.py": "def main():\n    print('searching')\n",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: esis\nVersion: 0.2.0\nSummary: Search in an index\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": "[console_scripts]\nesis = esis:main\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"])
    wheel = directory / "esis-0.2.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return wheel


def findings(argv: list[str], directory: Path) -> list[str]:
    """Return what `esis doctor` says of the installation."""
    done = subprocess.run(
        [*argv, "doctor"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": str(Path(argv[0]).parent)},
    )
    return [line for line in done.stdout.splitlines() if "\tinstallation\t" in line]


def test_a_stranger_of_the_same_name_is_found_and_the_advice_helps(environment: Path, tmp_path: Path) -> None:
    """pip lets it write over the package and the command; what doctor prints brings both back."""
    esis, python = str(environment / "bin/esis"), str(environment / "bin/python")
    well = findings([esis], tmp_path)
    assert [line.startswith("ok\tinstallation\tesis-slurm ") for line in well] == [True]
    pip(environment, "install", "--no-index", "--no-deps", str(stranger(tmp_path)))
    assert subprocess.run([esis], capture_output=True, text=True, check=True).stdout == "searching\n"
    (found,) = findings([python, "-m", "esis"], tmp_path)
    assert found.startswith("problem\tinstallation\tthe distribution esis 0.2.0 in ")
    assert "it wrote over esis/__init__.py (changed or missing)" in found
    _, remove, restore = found.split("; ")
    for command, more in ((remove, "--yes"), (restore, "--no-index")):
        subprocess.run([*shlex.split(command), more], check=True, capture_output=True, timeout=300)
    assert findings([esis], tmp_path) == well
