"""F174: while the answer to a submission is missing, somebody types sbatch; Slurm never got the submission, or late."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.fake_slurm.store import BIN as FAKE_BIN
from tests.faults.bench import Bench, only_run
from tests.faults.test_whose_tasks import WORKER, by_hand, failed, times


def unanswered(bench: Bench, tasks: int = 3) -> Path:
    """Return a workflow whose first submission Slurm never got, and ESIS doesn't know that."""
    place = bench.workflow("a", tasks, worker=WORKER)
    (place / "mended").touch()
    bench.slurm.fail("sbatch", "timeout", times=2)
    assert bench.esis(place, "run", "-m", "0").code == 6
    return place


def steps_from_here(bench: Bench, place: Path) -> tuple[tuple[str, ...], int]:
    """Keep this moment; return the steps of `esis run`, and with which of them the run is built."""
    bench.keep()
    steps = bench.broken(place, ["run"], "kill", 10**6).steps
    return steps, max(number for number, step in enumerate(steps) if step.endswith("state.json"))


def test_f174_what_was_typed_meanwhile_is_not_submitted_as_well(bench: Bench) -> None:
    """Also once it is over."""
    place = unanswered(bench)
    by_hand(bench, place)
    said = bench.esis(place, "run").ok().stderr
    assert "job 1 was queued by hand meanwhile" in said
    assert len(bench.slurm.jobs()) == 1
    assert bench.states(place) == {"waiting": 3}
    bench.slurm.run()
    bench.esis(place, "run").ok()
    assert bench.states(place) == {"done": 3}
    assert times(place, 0, 1, 2) == [1, 1, 1]


def test_f174_what_was_typed_meanwhile_and_is_over_counts(bench: Bench) -> None:
    """Slurm may have forgotten it."""
    place = unanswered(bench)
    by_hand(bench, place)
    bench.slurm.run()
    bench.slurm.purge()
    bench.esis(place, "run").ok()
    assert bench.states(place) == {"done": 3}
    assert times(place, 0, 1, 2) == [1, 1, 1]


def test_f174_what_failed_by_hand_is_left_to_resubmit(bench: Bench) -> None:
    """As after any other failure."""
    place = unanswered(bench)
    (place / "mended").unlink()
    by_hand(bench, place)
    bench.slurm.run()
    bench.esis(place, "run")
    assert bench.states(place) == {"failed": 3}
    (place / "mended").touch()
    bench.esis(place, "resubmit").ok()
    bench.slurm.run()
    assert bench.states(place) == {"done": 3}
    assert times(place, 0, 1, 2) == [2, 2, 2]


@pytest.mark.parametrize("late", [False, True], ids=["never", "late"])
def test_f174_the_rest_is_submitted(bench: Bench, late: bool) -> None:
    """By the same command; the job of the first submission, where it comes after all, steps aside."""
    place = bench.workflow("a", 3, worker=WORKER)
    (place / "mended").touch()
    if late:
        bench.slurm.fail("sbatch", "lost_reply", lookups=10**6)
    bench.slurm.fail("sbatch", "timeout", times=1 if late else 2)
    assert bench.esis(place, "run", "-m", "0").code == 6
    typed = by_hand(bench, place, "--array=1")
    bench.esis(place, "run").ok()
    assert [job.id for job in bench.slurm.jobs()][-1] == typed + 1
    bench.slurm.run()
    bench.esis(place, "run").ok()
    assert bench.states(place) == {"done": 3}
    assert times(place, 0, 1, 2) == [1, 1, 1]


def test_f174_of_several_arrays_those_that_were_taken_stay(bench: Bench) -> None:
    """Tasks 0 to 10 are queued, the second array got no answer, and its tasks are typed in."""
    bench.slurm.set(max_array_size=11)
    place = bench.workflow("a", 25, worker=WORKER)
    (place / "mended").touch()
    bench.slurm.fail("sbatch", "timeout", times=2, skip=1)
    assert bench.esis(place, "run", "-m", "0").code == 6
    by_hand(bench, place, "--array=0-10", env={"SLURM_ESIS_OFFSET": "11"})
    left = bench.esis(place, "run", "-m", "0")
    assert left.code == 6
    assert "job 2 was queued by hand, and may have tasks of submission 1" in left.stderr
    bench.slurm.run(parallel=4)
    bench.esis(place, "run").ok()
    bench.slurm.run(parallel=4)
    bench.esis(place, "run").ok()
    assert bench.states(place) == {"done": 25}
    assert times(place, *range(25)) == [1] * 25


def test_f174_of_a_resubmission_as_well(bench: Bench) -> None:
    """The tasks that nobody typed are still failed, and the same command submits them."""
    place = failed(bench, 4)
    (place / "mended").touch()
    bench.slurm.fail("sbatch", "timeout", times=2)
    assert bench.esis(place, "resubmit").code == 6
    by_hand(bench, place, "--array=1-2")
    bench.esis(place, "resubmit").ok()
    bench.slurm.run()
    assert bench.states(place) == {"done": 4}
    assert times(place, 0, 1, 2, 3) == [2, 2, 2, 2]


def test_f174_within_the_very_command(bench: Bench) -> None:
    """While it watches the queue."""
    place = bench.workflow("a", 3, worker=WORKER)
    (place / "mended").touch()
    bench.slurm.fail("sbatch", "timeout")
    typing = "[ -e typed ] || { : >typed && cd wrkdir.*/cwd && SBATCH ../sbatch.sh >/dev/null; }"
    bench.wrap("squeue", f'({typing}); exec REAL "$@"'.replace("SBATCH", f"{FAKE_BIN}/sbatch"))
    bench.esis(place, "run")
    bench.unwrap()
    assert len(bench.slurm.jobs()) == 1
    bench.slurm.run()
    bench.esis(place, "run").ok()
    assert times(place, 0, 1, 2) == [1, 1, 1]


def test_f175_a_run_that_was_only_run_by_hand_can_be_finished(bench: Bench) -> None:
    """Killed at any step before its submission is on the disk; what was typed then has failed."""
    place = bench.workflow("a", 3, worker=WORKER)
    steps, prepared = steps_from_here(bench, place)
    recorded = next(number for number, step in enumerate(steps) if step.endswith("0001.json"))
    tried = 0
    for at in range(prepared, recorded + 3):
        bench.restore()
        assert bench.broken(place, ["run"], "kill", at).result.code != 0
        run = only_run(place)
        built = '"prepared"' in (run / "__esis__/state.json").read_text()
        if not built or (run / "__esis__/submissions/0001.json").exists():
            continue
        tried += 1
        by_hand(bench, place)
        bench.slurm.run()
        assert bench.states(place) == {"failed": 3}
        bench.esis(place, "run").ok()
        (place / "mended").touch()
        bench.esis(place, "resubmit").ok()
        bench.slurm.run()
        assert bench.states(place) == {"done": 3}
        assert times(place, 0, 1, 2) == [2, 2, 2]
    assert tried > 4


@pytest.mark.parametrize("command", ["run", "resubmit"])
def test_f178_what_is_typed_before_a_killed_submission_is_recorded_is_seen_with_all_its_tasks(
    bench: Bench, command: str
) -> None:
    """Its script may hold packs by then."""
    place = bench.workflow("a", 3, worker=WORKER)
    (place / "mended").touch()
    bench.esis(
        place, "setup", "--tasks-per-job", "2", "setup.sh", "gen.sh", "template.sh", "worker.sh", "helper.txt"
    ).ok()
    steps, prepared = steps_from_here(bench, place)
    called = next(number for number, step in enumerate(steps) if step.startswith("subprocess.Popen sbatch"))
    for at in range(prepared + 3, called + 2):
        bench.restore()
        assert bench.broken(place, ["run"], "kill", at).result.code != 0
        by_hand(bench, place)
        bench.esis(place, command).ok()
        assert len(bench.slurm.jobs()) == 1, steps[at - 2 : at]
        bench.slurm.run()
        bench.esis(place, command).ok()
        bench.slurm.run()
        assert bench.states(place) == {"done": 3}
        assert times(place, 0, 1, 2) == [1, 1, 1]
