"""Which tests are tried on the mutants of which module: the nearest and fastest first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

# All their modules have to be in the plan.
ROOMS = ("esis/operations/submission", "esis/operations/witness", "esis/records")
MODULES_BESIDE = (
    "esis/locks.py",
    *(f"esis/schedulers/{name}.py" for name in ("answers", "commands", "identity", "query", "slurm")),
)

_SUBMISSION = ("tests/operations/submission/test_submit.py",)
_JUDGE = ("tests/operations/witness/test_judge.py",)
_PARSERS = ("tests/schedulers/test_slurm_parsers.py",)
_HOOK = ("tests/records/test_task_hook.py",)
_LOST = ("tests/faults/test_slurm_faults.py", "tests/faults/test_by_hand_meanwhile.py")
_ARRAYS = ("tests/faults/test_arrays.py",)
_WHOSE = ("tests/faults/test_whose_tasks.py",)
_DAMAGE = ("tests/faults/test_damage.py", "tests/faults/test_missing.py")
_CONTRACT = ("tests/contract/test_control.py", "tests/contract/test_scan.py")
_CONTRACT_OF_IDENTITY = ("tests/contract/test_whose.py", "tests/contract/test_names.py")


class Stage(NamedTuple):
    """Hold tests that are tried together."""

    name: str
    paths: tuple[str, ...]  # none: worlds of tests.simulation


class Tests(NamedTuple):
    """Name the tests of a module: its own, those on the fake Slurm, those of faults; the worlds come last."""

    near: tuple[str, ...]  # each a stage of its own
    contract: tuple[str, ...] = _CONTRACT
    faults: tuple[str, ...] = _LOST

    def stages(self) -> tuple[Stage, ...]:
        """Return what is tried, in this order."""
        near = [Stage("near", (path,)) for path in self.near]
        further = [Stage(*named) for named in (("contract", self.contract), ("faults", self.faults)) if named[1]]
        return (*near, *further, Stage("worlds", ()))


def _submission(*near: str, faults: tuple[str, ...] = _LOST) -> Tests:
    return Tests((*near, *_SUBMISSION), faults=faults)


def _witness(*near: str, faults: tuple[str, ...] = ("tests/faults/test_witnesses.py", *_WHOSE)) -> Tests:
    return Tests((*near, *_JUDGE), faults=faults)


# In the order in which they are tried.
PLAN: Mapping[str, Tests] = {
    "esis/operations/submission/lookup.py": _submission("tests/operations/submission/test_lookup.py"),
    "esis/operations/submission/arrays.py": _submission("tests/operations/submission/test_arrays.py", faults=_ARRAYS),
    "esis/operations/submission/send.py": _submission(faults=(*_LOST, "tests/faults/test_taken_over.py")),
    "esis/operations/submission/submit.py": _submission(faults=_ARRAYS),
    "esis/operations/submission/settle.py": _submission(),
    "esis/operations/submission/limits.py": _submission(faults=(*_ARRAYS, "tests/faults/test_clusters.py")),
    "esis/operations/submission/choice.py": _submission(),
    "esis/operations/submission/script.py": _submission("tests/model/test_template.py"),
    "esis/operations/submission/feed.py": _submission(faults=_ARRAYS),
    "esis/schedulers/identity.py": Tests(("tests/schedulers/test_identity.py",), _CONTRACT_OF_IDENTITY, _WHOSE),
    "esis/operations/witness/judge.py": _witness(),
    "esis/locks.py": Tests(
        ("tests/ground/test_locks.py",), (), ("tests/faults/test_taken_over.py", "tests/faults/test_concurrency.py")
    ),
    "esis/records/submissions.py": Tests(("tests/records/test_submissions.py",), faults=_DAMAGE),
    "esis/records/tasks.py": Tests(("tests/records/test_tasks.py",), faults=_DAMAGE),
    "esis/records/folded.py": Tests(("tests/records/test_tasks.py", "tests/faults/test_compact.py")),
    "esis/records/task_details.py": Tests(("tests/records/test_tasks.py",)),
    "esis/records/attempts.py": Tests(("tests/records/test_attempts.py", *_SUBMISSION)),
    "esis/records/claims.py": Tests((*_SUBMISSION, *_HOOK)),
    "esis/records/stage.py": Tests(("tests/records/test_stage.py",), faults=_DAMAGE),
    "esis/operations/submission/moved.py": _submission(faults=("tests/faults/test_missing.py",)),
    "esis/operations/witness/sightings.py": _witness(),
    "esis/operations/witness/evidence.py": _witness(faults=_DAMAGE),
    "esis/operations/witness/packs.py": _witness(),
    "esis/operations/witness/queued.py": _witness(),
    "esis/operations/witness/status.py": _witness(),
    "esis/operations/witness/words.py": _witness(),
    "esis/operations/witness/look.py": _witness("tests/operations/witness/test_look.py"),
    "esis/operations/witness/readings.py": _witness("tests/operations/witness/test_look.py"),
    "esis/operations/witness/on_machine.py": _witness("tests/schedulers/test_local.py"),
    "esis/operations/witness/conditions.py": _witness("tests/operations/witness/test_conditions.py"),
    "esis/operations/witness/keep.py": _witness(),
    "esis/operations/witness/moved.py": _witness(faults=("tests/faults/test_missing.py",)),
    "esis/operations/witness/old_runs.py": _witness("tests/compat/test_old_runs.py"),
    "esis/operations/witness/target.py": _witness(faults=("tests/faults/test_input.py",)),
    "esis/records/hosts.py": Tests(("tests/schedulers/test_local.py",)),
    "esis/records/job_ids.py": Tests(_SUBMISSION),
    "esis/records/log_names.py": Tests(("tests/records/test_log_names.py",), faults=("tests/faults/test_logs.py",)),
    "esis/records/notes.py": Tests(_SUBMISSION),
    "esis/records/old.py": Tests(("tests/compat/test_old_runs.py",)),
    "esis/records/origin.py": Tests(("tests/records/test_provenance.py",), faults=("tests/faults/test_clusters.py",)),
    "esis/records/provenance.py": Tests(("tests/records/test_provenance.py",), faults=_DAMAGE),
    "esis/records/required.py": Tests(("tests/records/test_required.py",), faults=("tests/faults/test_missing.py",)),
    "esis/records/results.py": Tests(("tests/records/test_results.py",), faults=_DAMAGE),
    "esis/records/start_time.py": Tests(_SUBMISSION),
    "esis/records/traces.py": Tests(_SUBMISSION, faults=_DAMAGE),
    "esis/schedulers/answers.py": Tests((*_PARSERS, "tests/schedulers/test_squeue_arrays.py"), faults=_WHOSE),
    "esis/schedulers/slurm.py": Tests((*_PARSERS, *_SUBMISSION), faults=_WHOSE),
    "esis/schedulers/query.py": Tests((*_PARSERS, *_SUBMISSION)),
    "esis/schedulers/commands.py": Tests((*_PARSERS, *_SUBMISSION)),
}

WORLDS = ("-m", "tests.simulation", "--worlds", "60", "--seed", "1", "--workers", "1", "--no-shrink", "--stop-at", "1")


def modules() -> list[str]:
    """Return the modules whose mutants have to die; what only says what a room is has none."""
    found = [path for room in ROOMS for path in sorted((ROOT / room).glob("*.py")) if path.name != "__init__.py"]
    return [*(path.relative_to(ROOT).as_posix() for path in found), *MODULES_BESIDE]
