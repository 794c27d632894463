"""The caller's environment is input: what reaches Slurm and the user's scripts is decided on."""

from __future__ import annotations

from pathlib import Path

import pytest

from esis.environment import clean_environment, named_clusters, query_environment, slurm_route, submit_environment
from esis.hook import JOB_END

# The manual pages of 20.11, 22.05, 24.11 and 26.05, and names that only the programs hold.
FILTERS = """
    SQUEUE_ACCOUNT SQUEUE_ALL SQUEUE_ARRAY SQUEUE_ARRAY_UNIQUE SQUEUE_FEDERATION SQUEUE_FORMAT SQUEUE_FORMAT2
    SQUEUE_LICENSES SQUEUE_LOCAL SQUEUE_NAMES SQUEUE_PARTITION SQUEUE_PRIORITY SQUEUE_QOS SQUEUE_SIBLING SQUEUE_SORT
    SQUEUE_STATES SQUEUE_USERS SQUEUE_OF_A_LATER_VERSION SACCT_FEDERATION SACCT_FORMAT SACCT_LOCAL SCONTROL_ALL
    SCONTROL_FEDERATION SCONTROL_FUTURE SCONTROL_LOCAL SCONTROL_SIBLING SCANCEL_ACCOUNT SCANCEL_BATCH SCANCEL_CRON
    SCANCEL_CTLD SCANCEL_FULL SCANCEL_HURRY SCANCEL_INTERACTIVE SCANCEL_NAME SCANCEL_PARTITION SCANCEL_QOS
    SCANCEL_STATE SCANCEL_USER SCANCEL_VERBOSE SCANCEL_WCKEY
""".split()
BREAKING = """
    SLURM_ARRAY_TASK_ID SLURM_JOB_ID SLURM_MEM_PER_CPU SLURM_RESTART_COUNT SLURM_ESIS_SUBMISSION SLURM_EXPORT_ENV
    SLURM_TIME_FORMAT SLURM_BITSTR_LEN SLURM_DEBUG_FLAGS SLURM_JSON SLURM_YAML SLURM_CONF_OUT SLURM_TOPO_LEN SLURM_HINT
    SLURM_EXIT_ERROR SLURM_UMASK SLURM_JOB_DEPENDENCY SBATCH_ARRAY_INX SBATCH_WAIT SBATCH_DEPENDENCY SBATCH_JOB_NAME
    SBATCH_OUTPUT SBATCH_ERROR SBATCH_INPUT SBATCH_EXPORT SBATCH_TEST_ONLY SBATCH_DEBUG SBATCH_OF_A_LATER_VERSION
""".split()
THE_USERS = """
    SLURM_CLUSTERS SLURM_JWT SBATCH_ACCOUNT SBATCH_PARTITION SBATCH_QOS SBATCH_TIMELIMIT
    SBATCH_THREADS_PER_CORE HOME_OF_MINE SLURMX XSLURM_JOB_ID
""".split()


@pytest.mark.parametrize("name", BREAKING)
def test_f25_what_leaks_or_breaks_the_contract_is_dropped(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """F25: variables of an enclosing job, and those of sbatch that outrank the template's contract, are removed."""
    monkeypatch.setenv(name, "7")
    assert name not in clean_environment()
    assert name not in query_environment()


@pytest.mark.parametrize("name", FILTERS)
def test_f47_filters_reach_no_query_but_the_users_own_jobs(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """F47: an answer with something left out would be taken for the truth; a job may call squeue as its user likes."""
    monkeypatch.setenv(name, "7")
    assert name not in query_environment()
    assert clean_environment()[name] == "7"


@pytest.mark.parametrize("name", THE_USERS)
def test_what_the_user_may_set_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Which cluster, account, partition: these are the user's; everything else of the environment stays too."""
    monkeypatch.setenv(name, "7")
    assert clean_environment()[name] == query_environment()[name] == "7"


def test_f152_a_relative_slurm_conf_is_meant_from_where_the_user_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """F152: sbatch, generator and setup script start elsewhere; and the same words in two places are two clusters."""
    monkeypatch.setenv("SLURM_CONF", "slurm.conf")
    routes = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        meant = str(tmp_path / name / "slurm.conf")
        assert {submit_environment()["SLURM_CONF"], query_environment()["SLURM_CONF"]} == {meant}
        routes.add(slurm_route())
    assert len(routes) == 2
    monkeypatch.setenv("SLURM_CONF", "")
    assert submit_environment()["SLURM_CONF"] == ""
    monkeypatch.delenv("SLURM_CONF")
    assert "SLURM_CONF" not in submit_environment()


def test_f202_the_end_of_the_job_around_it_is_not_that_of_a_submitted_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """F202: its tasks would stop as soon as they begin; those of a local run do end with the job around it."""
    monkeypatch.setenv(JOB_END, "1700000000")
    assert JOB_END not in submit_environment()
    assert clean_environment()[JOB_END] == "1700000000"


@pytest.mark.parametrize(
    "name", ["PMI_FD", "PMI_RANK", "PMI_SIZE", "PMI_JOBID", "PMIX_NAMESPACE", "PMIX_RANK", "PMIX_SERVER_URI41"]
)
def test_f203_nobody_is_a_process_of_the_mpi_program_around_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """F203: srun sets these (24.11), also for a shell; what people set themselves stays."""
    monkeypatch.setenv(name, "7")
    monkeypatch.setenv("PMIX_MCA_psec", "native")
    assert name not in clean_environment()
    assert name not in submit_environment()
    assert clean_environment()["PMIX_MCA_psec"] == "native"


def test_what_the_caller_adds_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's variables are added, also those that would have been dropped."""
    monkeypatch.setenv("SLURM_JOB_ID", "old")
    monkeypatch.setenv("A", "old")
    assert {"SLURM_JOB_ID": "new", "A": "b"}.items() <= clean_environment(SLURM_JOB_ID="new", A="b").items()


@pytest.mark.parametrize("set_by", ["SBATCH_CLUSTERS", "SLURM_CLUSTERS"])
def test_f87_all_commands_talk_to_the_clusters_that_sbatch_is_sent_to(
    monkeypatch: pytest.MonkeyPatch, set_by: str
) -> None:
    """F87: squeue would look for the job elsewhere; and an srun in the job, for its allocation on all of them."""
    monkeypatch.delenv("SLURM_CLUSTERS", raising=False)
    monkeypatch.delenv("SBATCH_CLUSTERS", raising=False)
    assert named_clusters() == ()
    assert not {"SLURM_CLUSTERS", "SBATCH_CLUSTERS"} & (set(submit_environment()) | set(query_environment()))
    monkeypatch.setenv("SLURM_CLUSTERS", "here")
    monkeypatch.setenv(set_by, "there,yonder")
    asking, sending = query_environment(), submit_environment()
    assert (asking["SLURM_CLUSTERS"], "SBATCH_CLUSTERS" in asking) == ("there,yonder", False)
    assert (sending["SBATCH_CLUSTERS"], "SLURM_CLUSTERS" in sending) == ("there,yonder", False)
    assert named_clusters() == ("there", "yonder")
