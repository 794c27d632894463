"""What the tests of ESIS take for granted about the cluster in containers."""

from __future__ import annotations

import pytest

from tests.cluster import harness
from tests.cluster.conftest import SUITE
from tests.cluster.harness import Completed, SlurmCluster, wait_until


def submit(cluster: SlurmCluster, *arguments: str, script: str, cwd: str = "") -> str:
    """Submit a script text as alice and return the job id."""
    argv = ["sbatch", "--parsable", *arguments, "--wrap", script]
    return cluster.run(argv, cwd=cwd).stdout.strip()


def state(cluster: SlurmCluster, job: str) -> str:
    """Return the state of one plain job, as squeue spells it out."""
    return cluster.run(["squeue", "-h", "-t", "all", "-j", job, "-o", "%T"]).stdout.strip()


def test_an_array_runs_on_both_nodes_at_once(bare_cluster: SlurmCluster) -> None:
    """More tasks than one node has CPUs run at the same time, with a common /home."""
    bare_cluster.run(["mkdir", "-p", "both nodes"])
    # Every task waits until all twelve are there; only twelve that run at once ever end.
    script = (
        'touch "here.$SLURM_ARRAY_TASK_ID"; for i in $(seq 300); do set -- here.*; '
        '[ $# -eq 12 ] && hostname > "node.$SLURM_ARRAY_TASK_ID" && exit 0; sleep 0.1; done; exit 1'
    )
    job = submit(bare_cluster, "--array=1-12", script=script, cwd="/home/alice/both nodes")
    bare_cluster.wait_jobs_gone(job)
    nodes = [each.read_text() for each in (bare_cluster.home / "alice" / "both nodes").glob("node.*")]
    assert len(nodes) == 12
    assert set(nodes) == {"c1\n", "c2\n"}


def test_steps_run_with_srun(bare_cluster: SlurmCluster) -> None:
    """A batch script on two nodes reaches both of them with srun."""
    job = submit(bare_cluster, "-N", "2", "--output=steps.out", script="srun hostname")
    bare_cluster.wait_jobs_gone(job)
    output = (bare_cluster.home / "alice" / "steps.out").read_text()
    assert sorted(output.split()) == ["c1", "c2"]


def test_a_command_gets_its_streams_status_user_and_directory(bare_cluster: SlurmCluster) -> None:
    """`run` keeps stdout and stderr apart and passes status, user, directory and environment."""
    script = 'id -un; pwd; echo "$HOME $USER $COLOUR"; echo talk >&2; exit 3'
    done = bare_cluster.sh(script, user="bob", cwd="/tmp", env={"COLOUR": "a b"}, host="login2", check=False)
    assert done == Completed(("bash", "-c", script), 3, "bob\n/tmp\n/home/bob bob a b\n", "talk\n")
    with pytest.raises(harness.CommandError, match="exited with 3"):
        done.check()


def test_a_command_that_takes_too_long_is_ended(bare_cluster: SlurmCluster) -> None:
    """`run` gives up at its time limit."""
    with pytest.raises(TimeoutError, match="killed after 1 s"):
        bare_cluster.run(["sleep", "60"], timeout=1)


def test_too_much_memory_kills_a_job(bare_cluster: SlurmCluster) -> None:
    """A job that takes far more memory than it asked for is killed; it does not get to its end."""
    script = "python3 -c 'import time; hoard = b\"x\" * (400 << 20); time.sleep(60)'; touch survived"
    job = submit(bare_cluster, "--mem=50", "--output=memory.out", script=script)
    # Without cgroups the state is FAILED, with them it would be OUT_OF_MEMORY.
    bad_ends = {"FAILED", "OUT_OF_MEMORY"}
    wait_until(lambda: state(bare_cluster, job) in bad_ends, seconds=30, what=f"job {job} has been killed")
    assert "exceeded memory limit" in (bare_cluster.home / "alice" / "memory.out").read_text()
    assert not (bare_cluster.home / "alice" / "survived").exists()


def test_a_frozen_controller_loses_the_reply_and_keeps_the_job(bare_cluster: SlurmCluster) -> None:
    """With slurmctld frozen sbatch fails, and the job is there all the same once it goes on."""
    bare_cluster.freeze("ctl")
    try:
        done = bare_cluster.run(["sbatch", "--job-name=lost-reply", "--wrap", "true"], check=False)
    finally:
        bare_cluster.thaw("ctl")
    assert done.returncode == 1
    assert "Socket timed out" in done.stderr
    listing = ["squeue", "-h", "-t", "all", "-n", "lost-reply", "-o", "%j"]
    wait_until(lambda: bare_cluster.run(listing).stdout == "lost-reply\n", what="the job is listed")
    bare_cluster.wait_jobs_gone()


def test_a_controller_that_dies_finds_its_state_again(bare_cluster: SlurmCluster) -> None:
    """A killed and restarted slurmctld still knows a job that it had saved, and the nodes come back."""
    job = submit(bare_cluster, "--hold", script="true")
    saved = ["grep", "-q", "-a", "held before the crash", "/var/lib/slurm/slurmctld/job_state"]
    bare_cluster.run(["scontrol", "update", f"jobid={job}", "comment=held before the crash"])
    wait_until(
        lambda: bare_cluster.run(saved, user="root", host="ctl", check=False).returncode == 0,
        what=f"job {job} is saved",
    )
    bare_cluster.kill("ctl")
    bare_cluster.start("ctl")
    bare_cluster.wait_for_nodes()
    assert state(bare_cluster, job) == "PENDING"
    bare_cluster.run(["scancel", job])


@pytest.mark.parametrize("how", ["container", "daemon"])
def test_a_node_that_dies_comes_back(bare_cluster: SlurmCluster, how: str) -> None:
    """A killed and restarted compute node runs jobs again."""
    if how == "container":
        bare_cluster.kill("c1")
        bare_cluster.start("c1")
    else:
        bare_cluster.kill_daemon("c1")
        bare_cluster.start_daemon("c1")
    job = submit(bare_cluster, "-w", "c1", f"--output=back.{how}", script="hostname")
    bare_cluster.wait_jobs_gone(job)
    assert (bare_cluster.home / "alice" / f"back.{how}").read_text() == "c1\n"


def test_without_accounting_sacct_says_so(bare_cluster: SlurmCluster) -> None:
    """The plain cluster has no sacct, as some sites have none."""
    done = bare_cluster.run(["sacct"], check=False)
    assert done.returncode == 1
    assert "accounting storage is disabled" in done.stderr


def test_with_accounting_sacct_knows_a_finished_job(bare_cluster_accounting: SlurmCluster) -> None:
    """The cluster with slurmdbd keeps what became of jobs, their users' account included.

    Other tests of this cluster make slurmctld forget jobs and use their ids again: then sacct shows both.
    """
    job = submit(bare_cluster_accounting, script="exit 4")
    argv = ["sacct", "-X", "-n", "-P", "-j", job, "-o", "User,Account,State,ExitCode"]
    expected = "alice|science|FAILED|4:0"
    wait_until(lambda: expected in bare_cluster_accounting.run(argv).stdout.splitlines(), what=f"sacct knows job {job}")


def test_nothing_is_left_behind(engine: None) -> None:
    """After `close` the engine has no container and no network of the cluster, and its /home is gone."""
    with SlurmCluster(suite=SUITE) as cluster:
        home = cluster.home
        cluster.sh("mkdir -m 700 private; touch private/file")
        cluster.freeze("c2")
        assert len(harness.left_behind(cluster.name)) == 6  # five containers and the network
    assert harness.left_behind(cluster.name) == []
    assert not home.exists()


def test_a_failed_start_leaves_nothing_behind(engine: None) -> None:
    """A cluster whose configuration Slurm refuses shows the reason and removes itself."""
    cluster = SlurmCluster(suite=SUITE, extra_conf="NoSuchKey=1")
    with pytest.raises(harness.ClusterError, match="NoSuchKey"):
        cluster.up(seconds=8)
    assert harness.left_behind(cluster.name) == []
