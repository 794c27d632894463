"""Several clusters: of one database, or beside each other on one file system; and several names of one directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import FakeSlurm
from tests.faults.bench import TEMPLATE, Bench, only_run
from tests.faults.test_disk import age
from tests.mounts import bound

SRUN = TEMPLATE.replace("WORKERSCRIPT", "srun WORKERSCRIPT")


@pytest.fixture
def other(bench: Bench, tmp_path: Path) -> FakeSlurm:
    """A second cluster, `b`, in the database of the bench's, `a`."""
    made = FakeSlurm(tmp_path / "b", cluster_name="b", controller="ctl-b", accounting=True)
    bench.slurm.set(
        cluster_name="a", controller="ctl-a", accounting=True, clusters=["a"], siblings={"b": str(made.state_dir)}
    )
    return made


@pytest.mark.parametrize("variable", ["SBATCH_CLUSTERS", "SLURM_CLUSTERS"])
def test_f87_steps_of_a_job_find_its_allocation_where_clusters_were_named(
    bench: Bench, other: FakeSlurm, variable: str
) -> None:
    """F87: sbatch hands its environment on; with SLURM_CLUSTERS in it every srun failed."""
    place = bench.workflow("a")
    (place / "template.sh").write_text(SRUN)
    both = {variable: "b,a"}
    bench.esis(place, "run", env=both).ok()
    assert bench.states(place) == {"waiting": 3}
    other.run()
    assert sorted(path.name for path in (only_run(place) / "cwd").glob("did.*")) == ["did.0", "did.1", "did.2"]
    assert bench.states(place) == {"done": 3}


def test_f85_a_run_that_is_reached_by_another_name_is_the_same(bench: Bench, tmp_path: Path) -> None:
    """F85: a bind mount, or a file system that is mounted twice: its jobs are its own by both."""
    place = bench.workflow("a")
    bench.esis(place, "run").ok()
    (tmp_path / "data").mkdir()
    with bound(bench.home, tmp_path / "data"):
        away = tmp_path / "data" / "a"
        age(only_run(place))
        assert bench.states(away) == {"waiting": 3}
        assert "nothing to resubmit" in bench.esis(away, "resubmit").ok().stderr
        assert len(bench.slurm.jobs()) == 1
        bench.esis(away, "cancel").ok()
        assert set(bench.slurm.job(1).states.values()) == {"CANCELLED"}
        bench.slurm.fail("sbatch", "lost_reply")
        bench.slurm.fail("squeue", "timeout", skip=1)
        assert bench.esis(place, "resubmit").code == 6
        assert "Slurm has it as job 2" in bench.esis(away, "run").ok().stderr
        assert len(bench.slurm.jobs()) == 2
