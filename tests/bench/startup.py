"""What starting `esis` costs: against the smallest click program, and against a bare interpreter.
The installed command is measured, from a wheel in an environment of its own. (An editable install and every `.pth` file
beside it cost extra at each start of Python, whatever the program.)
"""

from __future__ import annotations

import subprocess
import time
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import traced
from tests.bench.figure import Figure, interleaved

ROOT = Path(__file__).parents[2]
SMALLEST = '''import click


@click.command()
def main():
    """Say nothing."""
'''


@dataclass(frozen=True)
class Installed:
    """An environment with esis, and the smallest click program started in the same way."""

    directory: Path

    @property
    def python(self) -> str:
        return str(self.directory / "bin/python")

    @property
    def esis(self) -> str:
        return str(self.directory / "bin/esis")

    @property
    def smallest(self) -> str:
        return str(self.directory / "bin/smallest")

    def seconds(self, argv: Sequence[str]) -> float:
        """Return how long a command takes."""
        began = time.perf_counter()
        subprocess.run(argv, check=True, cwd=self.directory, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        return time.perf_counter() - began

    def opened(self, argv: Sequence[str]) -> list[str]:
        """Return what a command opens, in order, as strace sees it; what isn't there doesn't count."""
        return traced.opened(argv, self.directory)


def install(directory: Path) -> Installed:
    """Build a wheel of what git has (and would have) and install it into a new environment. Needs pip's registry."""
    source = directory / "source"
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in files:
        if name.startswith(("esis/", "README", "LICENSE", "pyproject")) and (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    made = Installed(directory / "venv")
    venv.create(made.directory, with_pip=True)
    pip = [made.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # pip writes the command's few lines; those of old ones import re, which takes half as long as Python's start.
    subprocess.run([*pip, "--upgrade", "pip"], check=False, capture_output=True, timeout=300)
    subprocess.run([*pip, str(source)], check=True, capture_output=True, timeout=300)
    wrapper = Path(made.esis).read_text()
    (packages,) = made.directory.glob("lib/python*/site-packages")
    (packages / "smallest.py").write_text(SMALLEST)
    Path(made.smallest).write_text(wrapper.replace("esis.__main__", "smallest").replace("start", "main"))
    Path(made.smallest).chmod(0o755)
    for command in ([made.esis, "--help"], [made.esis, "--version"], [made.smallest, "--help"]):
        subprocess.run(command, check=True, capture_output=True)  # compiles what pip left uncompiled
    return made


def measure(made: Installed, rounds: int = 25) -> list[Figure]:
    """Return the figures; takes a few seconds."""
    commands = {
        "python": [made.python, "-c", "pass"],
        "smallest": [made.smallest, "--help"],
        "help": [made.esis, "--help"],
        "version": [made.esis, "--version"],
        "bare": [made.python, "-I", "-c", "pass"],
        "worker": [made.python, "-I", "-c", "import esis.checkpoint"],
    }
    found = interleaved({name: _taking(made, argv) for name, argv in commands.items()}, rounds)
    old_pip = ", of which pip's own lines import re" if "import re\n" in Path(made.esis).read_text() else ""
    figures = [
        Figure(
            "esis --help",
            found["help"] / found["smallest"],
            1.15,
            "the smallest click program's --help",
            f"{found['help'] * 1000:.0f} ms",
        ),
        Figure(
            "esis --version",
            found["version"] / found["python"],
            1.6,
            "python -c pass",
            f"{found['version'] * 1000:.0f} ms{old_pip}",
        ),
        Figure(
            "import esis.checkpoint, in a worker",
            found["worker"] / found["bare"],
            2,
            "python -I -c pass",
            f"{found['worker'] * 1000:.0f} ms",
        ),
    ]
    if traced.works():
        more = len(made.opened(commands["help"])) - len(made.opened(commands["smallest"]))
        figures.append(Figure("esis --help, files opened", more, 15, "files more than the smallest click program"))
    return figures


def _taking(made: Installed, argv: Sequence[str]) -> Callable[[], float]:
    return lambda: made.seconds(argv)
