"""An archive of a run on the real cluster unpacks to something that sbatch alone reruns, in another place."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path

import pytest

from esis.model.workdir import RunDir
from esis.records.task_details import read_details
from esis.records.tasks import read_records
from tests.cluster.harness import SlurmCluster
from tests.contract.site import ClusterSite, Workflow, make_workflow

pytest.importorskip("rocrate")
pytest.importorskip("zstandard")

from tests.operations.archive.archives import pack, problems, unpack

WORKER = """#!/bin/sh
set -e
read -r words <../made-by-setup
printf '{"n": %s, "words": "%s"}' "$SLURM_ARRAY_TASK_ID" "$words" >"../results/results.$SLURM_ARRAY_TASK_ID.json"
"""
SETUP = "#!/bin/sh\necho from setup >made-by-setup\n"


@pytest.fixture
def site(cluster: SlurmCluster) -> ClusterSite:
    return ClusterSite(cluster, f"archive-{secrets.token_hex(4)}")


def chain(site: ClusterSite) -> Workflow:
    """Run a scan and one that requires it, so that its script waits for a job and its tasks for a run."""
    first = make_workflow(site, "first", 2, setup=SETUP, worker=WORKER)
    second = make_workflow(site, "second", 3, setup=SETUP, worker=WORKER)
    second.esis("require", "../first/wf.esis.json", "first").ok()
    second.esis("dependency").ok()
    second.esis("wait", "--timeout", "120").ok()
    assert "afterok:" in (second.only_run() / "sbatch.sh").read_text()
    assert first.states() == {"done": 2}
    return second


@pytest.mark.parametrize("ending", [".zip", ".tar.zst"])
def test_an_unpacked_archive_is_rerun_by_sbatch_alone(site: ClusterSite, tmp_path: Path, ending: str) -> None:
    """cd cwd && sbatch ../sbatch.sh: all tasks run again, though the runs that were required are gone."""
    flow = chain(site)
    run = RunDir(flow.only_run())
    before = {path.name: path.read_bytes() for path in run.results.iterdir()}
    assert len(before) == 3
    pack(run, tmp_path / f"a{ending}")
    assert problems(tmp_path / f"a{ending}") == []
    for path in site.home.iterdir():
        shutil.rmtree(path)
    unpacked = unpack(tmp_path / f"a{ending}", site.home / "unpacked")
    owner = site.home.stat()
    for path in [site.home / "unpacked", *(site.home / "unpacked").rglob("*")]:
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    assert problems(unpacked) == []
    for path in (unpacked / "results").iterdir():
        path.unlink()
    job = site.run(["sbatch", "--parsable", "../sbatch.sh"], unpacked / "cwd").ok().stdout.strip()
    site.cluster.wait_jobs_gone(job)
    assert {path.name: path.read_bytes() for path in (unpacked / "results").iterdir()} == before
    again = read_records(RunDir(unpacked))
    assert {(task, record.code, record.job) for task, record in again.items()} == {(n, 0, job) for n in range(3)}


def test_task_records_on_the_cluster_say_where_they_ran(site: ClusterSite) -> None:
    """Partition, node and CPUs of the real Slurm; the submission says who made it."""
    flow = make_workflow(site, "w", 1, worker=WORKER, setup=SETUP)
    flow.esis("run").ok()
    flow.esis("wait", "--timeout", "120").ok()
    run = RunDir(flow.only_run())
    (record,) = read_records(run).values()
    details = read_details(run.tasks, record)
    assert details is not None
    shown = site.run(["sinfo", "-h", "-o", "%R"], site.home).ok().stdout.split()
    assert details.partition in shown
    assert details.nodes == details.host.partition(".")[0]
    assert details.cpus is not None
    assert details.cpus >= 1
    assert details.kernel == os.uname().release
    assert json.loads(run.submission(1).read_text())["provenance"]["user"] == "alice"
