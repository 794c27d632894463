"""Kill a worker at every file-system step of what it saves, and look at what the next attempt finds.

    python kill_points.py <kind> <scenario> <directory>

Kinds: kill, full, or an errno. Prints one JSON line per step: what the step was, how the child ended, what was found.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent / "faults" / "injector")]
os.environ["ESIS_FAULT_NURSERY"] = "1"

import sitecustomize  # noqa: E402  the injector; it counts nothing before it is armed

# Not for the processes that other tests start from here: theirs have to be armed.
del os.environ["ESIS_FAULT_NURSERY"]

from esis.errors import EsisError  # noqa: E402
from tests.worker.saved import SCENARIOS, alone  # noqa: E402

LIMIT = 400


def strike(kind: str, at: int, report: Path, work: Callable[[], None]) -> str:
    """Do the work in a child that is broken at step `at`; return how it ended."""
    child = os.fork()
    if child == 0:
        sitecustomize.arm({"ESIS_FAULT_REPORT": str(report), "ESIS_FAULT_KIND": kind, "ESIS_FAULT_AT": str(at)})
        try:
            work()
        except EsisError as error:
            os._exit(10 if error.advice or error.message else 12)
        except OSError:
            os._exit(11)
        except BaseException:
            os._exit(12)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"


def main(kind: str, scenario: str, directory: str) -> None:
    place = Path(directory)
    (place / "run").mkdir()
    work = SCENARIOS[scenario](place / "run")
    alone(partial(work.save, 1))
    value = 1
    for at in range(1, LIMIT):
        report = place / "report"
        ended = strike(kind, at, report, partial(work.save, value + 1))
        lines = report.read_text().splitlines()
        hit = next((line for line in lines if line.startswith("HIT ")), "")
        found = alone(work.load)
        print(json.dumps({"at": at, "step": hit, "ended": ended, "before": value, "found": found}))
        if not hit:
            break
        value = found[0]
    alone(partial(work.save, value + 1))
    print(json.dumps({"last": alone(work.load), "expected": value + 1, "litter": work.litter()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
