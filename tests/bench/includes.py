"""What a large include costs: `esis run` against one SHA-256 pass over it.

    python -m tests.bench.includes [MIB]

The bytes are counted by strace, the memory by wait4; the times are medians of interleaved runs. Everything is put into
a memory file system, so that no disk is measured.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figure import Figure, interleaved
from tests.fakes import FakeSlurm

BIN = Path(sys.executable).parent
MIB = 1024 * 1024
FILES = {
    "setup.sh": "#!/bin/sh\n",
    "gen.sh": "#!/bin/sh\necho '{}' >parameters.0.json\necho 1\n",
    "template.sh": "#!/bin/bash\n#SBATCH --array=TASKARRAYDEFINITION\nsrun WORKERSCRIPT\n",
    "worker.sh": "#!/bin/sh\n",
}
_READ = re.compile(r"(?:read|pread64|readv|preadv|copy_file_range|sendfile|mmap)\((?:NULL, \d+, [A-Z_|]+, [A-Z_|]+, )?"
                   r"\d+<([^>]*)>.* = (\d+|0x[0-9a-f]+)$")


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

    def esis(self, *arguments: str, before: Sequence[str] = ()) -> Spent:
        """Run a command, which has to succeed; `before` stands before it on the line."""
        done = subprocess.run([sys.executable, "-c", MEASURE, *before, str(BIN / "esis"), *arguments], cwd=self.place,
                              env=dict(self.environment), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        seconds, kibibytes = done.stdout.split()
        return Spent(float(seconds), int(kibibytes) * 1024)

    def bytes_read(self, *arguments: str) -> dict[str, int]:
        """Run a command under strace and return how many bytes of each file it got: reads, kernel copies, maps."""
        log = self.place / "strace.log"
        calls = "trace=read,pread64,readv,preadv,copy_file_range,sendfile,mmap"
        self.esis(*arguments, before=["strace", "-f", "-y", "-qq", "-e", calls, "-e", "signal=none", "-o", str(log)])
        found: dict[str, int] = {}
        for name, count in reads_of(log.read_text(errors="replace")):
            found[name] = found.get(name, 0) + count
        log.unlink()
        return found

    def forget(self) -> None:
        """Remove the run and the remembered hashes."""
        for path in (*self.place.glob("wrkdir.*"), self.place / "cache"):
            shutil.rmtree(path, ignore_errors=True)

    def settle(self) -> None:
        """Wait until the include is so old that its hash may be remembered."""
        from esis.model.memory import SETTLED_SECONDS

        while time.time() - self.include.stat().st_ctime <= SETTLED_SECONDS:
            time.sleep(0.05)


def reads_of(log: str) -> Iterator[tuple[str, int]]:
    """Yield file and bytes of each call in strace's output; those that were interrupted by another thread's, too."""
    begun: dict[str, str] = {}
    for line in log.splitlines():
        pid, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            begun[pid] = call[: -len("<unfinished ...>")]
            continue
        resumed = re.match(r"<\.\.\. \w+ resumed>(.*)", call)
        if resumed is not None:
            call = begun.pop(pid, "") + resumed[1]
        match = _READ.match(call)
        if match is not None:
            size = re.match(r"mmap\(NULL, (\d+)", call)
            yield match[1], int(size[1]) if size is not None else int(match[2])


@contextmanager
def bench(mib: int) -> Iterator[Bench]:
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
            made = Bench(place, include, environment)
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


def measure(mib: int = 1024, rounds: int = 5) -> list[Figure]:
    """Return the figures; takes about half a minute for a GiB."""
    with bench(mib) as made, bench(1) as small:
        made.settle()
        small.esis("run")
        spent: list[Spent] = []

        def first() -> float:
            made.forget()
            spent.append(made.esis("run"))
            return spent[-1].seconds

        found = interleaved({"floor": lambda: sha_pass(made.include), "first": first,
                             "again": lambda: made.esis("run").seconds,
                             "small again": lambda: small.esis("run").seconds,
                             "status": lambda: made.esis("status").seconds}, rounds)
        made.forget()
        size = mib * MIB
        read = sum(count for name, count in made.bytes_read("run").items() if name.endswith("/table.bin"))
        floor = found["floor"]
        unit = f"one SHA-256 pass over {mib} MiB ({floor:.2f} s)"
        return [
            Figure("run, large include", found["first"] / floor, 1.5, unit),
            Figure("run again, hash remembered: what the include adds", (found["again"] - found["small again"]) / floor,
                   0.05, unit, f"to {found['small again'] * 1000:.0f} ms with 1 MiB: starting Python, the fake squeue"),
            Figure("run again, hash remembered: all of it", found["again"] / floor, None, unit),
            Figure("status, hash remembered: all of it", found["status"] / floor, None, unit),
            Figure("bytes read of source and copy by run", read / size, 2.0, "sizes of the include",
                   "the kernel copies it once, the copy is read once"),
            Figure("memory of run", max(item.rss for item in spent) / MIB, 64.0, "MiB RSS"),
        ]


if __name__ == "__main__":
    for figure in measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1024):
        print(f"{figure.name}: {figure.ratio:.3f} (goal {figure.goal}) {figure.unit} {figure.notes}")
