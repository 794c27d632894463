"""What a large include costs: `esis run` against one SHA-256 pass over it.

The bytes are counted by strace, the memory by wait4; the times are medians of interleaved runs. Everything is put into
a memory file system, so that no disk is measured.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import traced
from tests.bench.figure import Figure, interleaved
from tests.bench.startup import Installed
from tests.fakes import FakeSlurm

COMMAND = str(Path(sys.executable).parent / "esis")
MIB = 1024 * 1024
FILES = {
    "setup.sh": "#!/bin/sh\n",
    "gen.sh": "#!/bin/sh\necho '{}' >parameters.0.json\necho 1\n",
    "template.sh": "#!/bin/bash\n#SBATCH --array=TASKARRAYDEFINITION\nsrun WORKERSCRIPT\n",
    "worker.sh": "#!/bin/sh\n",
}


# From a small process of its own: until a child has called exec, the memory of its parent counts as its own.
MEASURE = """
import resource, subprocess, sys, time
began = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


@dataclass(frozen=True)
class Spent:
    """What one command took."""

    seconds: float
    rss: int  # bytes, the largest of the process and its children


@dataclass(frozen=True)
class Bench:
    """A workflow with one large include, in a directory of its own."""

    place: Path
    include: Path
    environment: Mapping[str, str]
    command: str  # the esis that is measured

    def esis(self, *arguments: str) -> Spent:
        """Run a command, which has to succeed."""
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, self.command, *arguments],
            cwd=self.place,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        seconds, kibibytes = done.stdout.split()
        return Spent(float(seconds), int(kibibytes) * 1024)

    def bytes_read(self, *arguments: str) -> dict[str, int]:
        """Run a command under strace and return how many bytes of each file it got: reads, kernel copies, maps."""
        return traced.bytes_read([self.command, *arguments], self.place, self.environment)

    def forget(self) -> None:
        """Remove the run and the remembered hashes."""
        for path in (*self.place.glob("wrkdir.*"), self.place / "cache"):
            shutil.rmtree(path, ignore_errors=True)

    def settle(self) -> None:
        """Wait until the include is so old that its hash may be remembered."""
        from esis.model.known_digests import SETTLED_SECONDS

        while time.time() - self.include.stat().st_ctime <= SETTLED_SECONDS:
            time.sleep(0.05)


@contextmanager
def bench(mib: int, command: str = COMMAND) -> Iterator[Bench]:
    """Make a workflow whose include has that many MiB."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="esis-bench-", dir=memory if memory.is_dir() else None) as scratch:
        place = Path(scratch, "scan")
        place.mkdir()
        for name, text in FILES.items():
            (place / name).write_text(text)
            (place / name).chmod(0o755)
        include = place / "table.bin"
        with include.open("wb") as stream:
            block = os.urandom(MIB - 8)
            for number in range(mib):
                stream.write(number.to_bytes(8, "big") + block)
        slurm = FakeSlurm(Path(scratch, "slurm"), auto=False)
        with slurm:
            environment = slurm.env({**os.environ, "XDG_CACHE_HOME": str(place / "cache")})
            made = Bench(place, include, environment, command)
            made.esis("setup", *FILES, include.name)
            yield made


def sha_pass(path: Path) -> float:
    """Return the seconds of one SHA-256 pass in chunks of a MiB."""
    began = time.perf_counter()
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        while data := stream.read(MIB):
            digest.update(data)
    return time.perf_counter() - began


def measure(installed: Installed, mib: int = 1024, rounds: int = 5) -> list[Figure]:
    """Return the figures; takes about half a minute for a GiB."""
    with bench(mib, installed.esis) as made, bench(1, installed.esis) as small:
        made.settle()
        small.esis("run")
        spent: list[Spent] = []

        def first() -> float:
            made.forget()
            spent.append(made.esis("run"))
            return spent[-1].seconds

        found = interleaved(
            {
                "floor": lambda: sha_pass(made.include),
                "first": first,
                "again": lambda: made.esis("run").seconds,
                "small again": lambda: small.esis("run").seconds,
                "status": lambda: made.esis("status").seconds,
            },
            rounds,
        )
        made.forget()
        size = mib * MIB
        read = sum(count for name, count in made.bytes_read("run").items() if name.endswith("/table.bin"))
        floor = found["floor"]
        unit = f"one SHA-256 pass over {mib} MiB ({floor:.2f} s)"
        return [
            Figure("run, large include", found["first"] / floor, 1.5, unit),
            Figure(
                "run again, hash remembered: what the include adds",
                (found["again"] - found["small again"]) / floor,
                0.05,
                unit,
                f"to {found['small again'] * 1000:.0f} ms with 1 MiB: starting Python, the fake squeue",
            ),
            Figure("run again, hash remembered: all of it", found["again"] / floor, None, unit),
            Figure("status, hash remembered: all of it", found["status"] / floor, None, unit),
            Figure(
                "bytes read of source and copy by run",
                read / size,
                2.0,
                "sizes of the include",
                "the kernel copies it once, the copy is read once",
            ),
            Figure("memory of run", max(item.rss for item in spent) / MIB, 64.0, "MiB RSS"),
        ]
