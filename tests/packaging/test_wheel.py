"""The wheel and the sdist: built, installed into an empty environment, and used."""

from __future__ import annotations

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
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True,
                           check=True).stdout.splitlines()
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


def test_the_installed_command_runs_a_scan(built: Path, tmp_path: Path) -> None:
    """pip install into an empty environment; setup, run --local, status, doc."""
    (wheel,) = built.glob("*.whl")
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    pip = [str(environment / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True, timeout=300)
    esis = str(environment / "bin/esis")
    files = {"s": "#!/bin/sh\n", "g": "#!/bin/sh\necho '{}' >parameters.0.json; echo 1\n",
             "t": "#!/bin/bash\n#SBATCH TASKARRAYDEFINITION\nsrun -n 1 WORKERSCRIPT\n", "w": "#!/bin/sh\necho worked\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    for arguments in (["setup", "s", "g", "t", "w"], ["run", "--local"], ["doc"], ["--version"]):
        subprocess.run([esis, *arguments], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    shown = subprocess.run([esis, "status"], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60)
    assert "done\t1\t0" in shown.stdout
    (log,) = tmp_path.glob("wrkdir.*/cwd/slurm-*_0.out")
    assert log.read_text() == "worked\n"
