"""Let spin check the protocol of submission exhaustively, and show that it catches mutations of it: `make model`.

`python -m tests.model_check.check` prints a table; it ends with 1 where something doesn't come out as it has to.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).with_name("protocol.pml")
_STATES = re.compile(r"^ *([0-9.e+]+) states, stored", re.MULTILINE)
_ERRORS = re.compile(r"errors: ([0-9]+)")
_MEMORY_MB = 2000

# What the assertions in protocol.pml say, by a part of their text.
TWICE_SENT = "queued["
TWICE_DONE = "did["
TWO_AT_A_TIME = "working=="
NOT_DONE = "violated worked"
STUCK = "invalid end state"


@dataclass(frozen=True)
class Case:
    """Say what is checked: what may go wrong how often, changes of the protocol, and which property breaks."""

    title: str
    bounds: str  # the others are those of protocol.pml
    mutations: str = ""
    broken: str = ""  # the assertion that has to fail; "": none
    progress: bool = False  # whether a run may go on for ever without getting the task done

    @property
    def switches(self) -> list[str]:
        """Return the arguments for spin."""
        return [f"-D{item}" for item in (*self.mutations.split(), *self.bounds.split())]


@dataclass(frozen=True)
class Result:
    """Hold what the checker found."""

    states: int
    errors: int
    violated: str
    seconds: float
    output: str

    def fits(self, case: Case) -> bool:
        """Return whether all states were visited without an error, or the expected one was found."""
        if case.broken:
            return case.broken in self.violated
        return self.errors == 0 and "Full statespace search" in self.output and "max search depth" not in self.output


_ALONE = "TAKEOVERS=0 KILLS=0"
PROTOCOL = (
    Case("two lost replies, a crash, a requeue, a stranger's job", _ALONE),
    Case("a command is killed anywhere, two lost replies, a requeue", "TAKEOVERS=0 CRASHES=0"),
    Case("a command is killed anywhere, a lost reply, a crash, a stranger's job", "TAKEOVERS=0 LOSSES=1 REQUEUES=0"),
    Case("a command is held up and taken over, two lost replies, a requeue", "KILLS=0 CRASHES=0"),
    Case("held up and taken over, a crash, a stranger's job", "KILLS=0 LOSSES=0 REQUEUES=0"),
    Case("held up and taken over, one is killed, a lost reply", "CRASHES=0 LOSSES=1 REQUEUES=0"),
    Case("a call comes after the grace period, two lost replies, esis cancel", f"{_ALONE} CRASHES=0 LATE=1 CANCELS=1"),
    Case("a task fails, a lost reply", f"{_ALONE} CRASHES=0 FAILURES=1 LOSSES=1 REQUEUES=0"),
)
PROGRESS = (
    Case("the task gets done: a lost reply, a requeue", f"{_ALONE} CRASHES=0 LOSSES=1 FAILS=1", progress=True),
    Case(
        "the task gets done: a lost reply, a crash", f"{_ALONE} LOSSES=1 FAILS=1 REQUEUES=0 STRANGERS=0", progress=True
    ),
)
MUTATIONS = (
    Case("no fence in the job", f"{_ALONE} FAILS=1", "NO_FENCE", TWICE_DONE),
    Case("no grace period", f"{_ALONE} FAILS=1", "NO_GRACE", TWICE_SENT),
    Case("a job is the run's by its id alone", f"{_ALONE} LOSSES=0 REQUEUES=0 FAILS=1", "BY_ID", NOT_DONE),
    Case("the intent is written behind the call", "TAKEOVERS=0 CRASHES=0 FAILS=1", "INTENT_LATE", TWICE_SENT),
    Case("no lock", f"{_ALONE} FAILS=1", "NO_LOCK", TWICE_SENT),
    Case("the lock of a dead process is respected", "TAKEOVERS=0 CRASHES=0 FAILS=1", "DEAD_LOCK", STUCK),
    Case("no answer of squeue is an empty one", f"{_ALONE} FAILS=1", "ABSENT_IS_FAILED", TWICE_SENT),
    Case("sent again under a new number", f"{_ALONE} FAILS=1", "NEW_NUMBER", TWICE_DONE),
)
# What ESIS does not promise, so that nobody believes that the model shows it; see README.md.
GAPS = (
    Case(
        "held up, the other's job cancelled", "KILLS=0 CRASHES=0 CANCELS=1 LOSSES=1 REQUEUES=0", "STRICT", TWO_AT_A_TIME
    ),
    Case(
        "the same, if the answer made the claim",
        "KILLS=0 CRASHES=0 CANCELS=1 LOSSES=1 REQUEUES=0",
        "STRICT CLAIM_EARLY",
    ),
)
ALL = {"protocol": PROTOCOL, "progress": PROGRESS, "mutations": MUTATIONS, "gaps": GAPS}


def missing() -> str | None:
    """Return which program is not there, of those that the check needs."""
    return next((name for name in ("spin", "gcc") if shutil.which(name) is None), None)


def check(case: Case, place: Path) -> Result:
    """Make the checker of a case in the new directory `place`, and run it. Raises CalledProcessError."""
    place.mkdir(parents=True)
    begun = time.monotonic()
    _call(["spin", *case.switches, "-a", str(MODEL)], place)
    # Partial order reduction doesn't go with what a kill does, nor with fairness.
    whole = ["-DNOREDUCE"] if case.progress or "KILLS=0" not in case.bounds else []
    kind = ["-DNP", "-DNFAIR=4"] if case.progress else ["-DSAFETY"]
    sizes = [f"-DMEMLIM={_MEMORY_MB}", "-DVECTORSZ=2048", "-DCOLLAPSE"]
    _call(["gcc", "-O1", "-w", *sizes, *whole, *kind, "-o", "pan", "pan.c"], place)
    output = _call(["./pan", "-n", "-w22", "-m500000", *(["-l", "-f"] if case.progress else [])], place)
    states, errors = _STATES.search(output), _ERRORS.search(output)
    if states is None or errors is None:
        raise RuntimeError(f"{case.title}: spin's checker gave no result: {output}")
    violated = next((line for line in output.splitlines() if line.startswith("pan:1:")), "")
    return Result(int(float(states[1])), int(errors[1]), violated, time.monotonic() - begun, output)


def _call(argv: list[str], place: Path) -> str:
    done = subprocess.run(argv, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def main() -> int:
    """Check all, print what came out, and return the exit status."""
    lacking = missing()
    if lacking is not None:
        print(f"model_check: there is no {lacking} on this machine (apt-get install spin gcc)", file=sys.stderr)
        return 1
    failed, total, begun = 0, 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="esis-model-") as scratch:
        for kind, cases in ALL.items():
            for number, case in enumerate(cases):
                result = check(case, Path(scratch) / f"{kind}{number}")
                good = result.fits(case)
                failed += not good
                total += result.states
                what = f"breaks {case.broken}" if result.errors else "holds"
                said = what if good else f"NOT AS EXPECTED: {result.violated or result.output[-500:]}"
                title = f"{case.mutations}: {case.title}" if case.mutations else case.title
                print(f"{kind}: {title}: {result.states} states, {result.seconds:.0f} s: {said}", flush=True)
    print(f"total: {total} states in {time.monotonic() - begun:.0f} s, {failed} not as expected")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
