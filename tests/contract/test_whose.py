"""Whose job is it, and what may the caller's environment hide: on the fake and on the real cluster alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from esis.model.workdir import RunDir
from esis.schedulers.identity import sent_as
from tests.contract.site import TEMPLATE, WORKER, FakeSite, Site, Workflow, make_workflow, until

SLOW = WORKER + "while ! [ -e ../go ]; do sleep 0.1; done\n"
# What people export to see less, or otherwise. squeue's others are in tests/ground/test_environment.py.
FILTERS = {
    "SQUEUE_PARTITION": "other",
    "SQUEUE_NAMES": "of-somebody",
    "SQUEUE_STATES": "COMPLETED",
    "SQUEUE_FORMAT": "%i",
    "SQUEUE_USERS": "root",
    "SQUEUE_ACCOUNT": "nobodys",
    "SQUEUE_QOS": "other",
    "SQUEUE_LICENSES": "matlab",
    "SQUEUE_SORT": "-i",
    "SCANCEL_STATE": "PENDING",
    "SCANCEL_NAME": "of-somebody",
    "SLURM_TIME_FORMAT": "relative",
    "SLURM_BITSTR_LEN": "3",
    "SACCT_FORMAT": "JobID",
}


def write_post(run: Path) -> None:
    """Put a script of the user's own into a run's cwd/."""
    (run / "cwd/post.sh").write_text("#!/bin/sh\necho post >>post-ran\n")
    (run / "cwd/post.sh").chmod(0o755)


def queued(site: Site, job: str) -> str:
    """Return the states that squeue shows of a job."""
    done = site.run(["squeue", "-h", "-t", "all", "--me", "-o", "%F %T"], site.home).ok()
    return ",".join(sorted({line.split()[1] for line in done.stdout.splitlines() if line.split()[0] == job}))


def submit_by_hand(site: Site, run: Path, *arguments: str) -> str:
    done = site.run(["sbatch", "--parsable", *arguments], run / "cwd").ok()
    return done.stdout.strip()


def test_f45_a_users_own_array_from_cwd_is_nobodys_task(site: Site) -> None:
    """F45: a done run stays done, there is nothing to resubmit, and cancel leaves the stranger alone."""
    flow = make_workflow(site, "own", 3)
    flow.esis("run").ok()
    site.settle()
    run = flow.only_run()
    assert flow.states() == {"done": 3}
    write_post(run)
    job = submit_by_hand(site, run, "--hold", "--array=0-2", "post.sh")
    wrapped = submit_by_hand(site, run, "--hold", "--array=0-2", "--wrap=true")
    (run / "__esis__/complete").unlink()  # a run that is marked as complete asks nobody
    assert flow.states() == {"done": 3}
    (run / "__esis__/complete").unlink()
    assert "nothing to resubmit" in flow.esis("resubmit").ok().stderr
    assert flow.esis("cancel").code == 2
    assert queued(site, job) == queued(site, wrapped) == "PENDING"
    assert flow.states() == {"done": 3}
    site.run(["scancel", job, wrapped], site.home).ok()


def test_f45_a_users_own_array_is_not_adopted_as_a_lost_submission(site: Site) -> None:
    """F45: esis is killed when it calls sbatch, and then a job of the user's own waits in cwd/."""
    flow = make_workflow(site, "orphan", 3)
    killer = site.home / "killer"
    site.run(["mkdir", "-p", "killer"], site.home).ok()
    (killer / "sbatch").write_text("#!/bin/sh\nkill -KILL $PPID\n")
    (killer / "sbatch").chmod(0o755)
    path = site.run(["sh", "-c", 'printf %s "$PATH"'], site.home).ok().stdout
    broken = site.run(["env", f"PATH={site.inside(killer)}:{path}", "esis", "run"], flow.directory)
    assert broken.code != 0
    run = flow.only_run()
    write_post(run)
    own = submit_by_hand(site, run, "--hold", "--array=0-2", "post.sh")
    typed = submit_by_hand(site, run, "--hold", "--array=1", "../sbatch.sh")
    flow.esis("run", env={"ESIS_LOOKUP_GRACE": "1"}).ok()
    job = (run / "__esis__/jobid.tx").read_text().strip()
    assert job not in (own, typed)
    place = site.run(["squeue", "-h", "-t", "all", "--me", "-j", job, "-o", "%o|%Z"], site.home).ok().stdout
    assert sent_as(RunDir(site.inside(run)), place.splitlines()[0]) == (2, 0), "F174: the first one is closed"
    assert queued(site, typed) == "PENDING"
    site.run(["scancel", typed], site.home).ok()
    flow.esis("run").ok()
    until(lambda: queued(site, own) == "PENDING" and (run / "cwd/seen.2").exists() and flow.states() == {"done": 3}, 90)
    assert not (run / "cwd/post-ran").exists()
    site.run(["scancel", own], site.home).ok()


def test_a_rerun_by_hand_is_the_runs_own(site: Site) -> None:
    """However the script is called; and cancelling one that never began leaves the end that there was."""
    flow = make_workflow(site, "hand", 2)
    flow.esis("run").ok()
    site.settle()
    run = flow.only_run()
    assert flow.states() == {"done": 2}
    ways = ["../sbatch.sh", str(site.inside(run / "sbatch.sh")), f"{site.inside(run)}/cwd/../sbatch.sh"]
    for script in ways:
        (run / "__esis__/complete").unlink(missing_ok=True)
        job = submit_by_hand(site, run, "--hold", script)
        assert flow.states() == {"waiting": 2}, script
        flow.esis("cancel").ok()
        assert queued(site, job) in ("", "CANCELLED")
        assert flow.states() == {"done": 2}, script


def test_f46_a_template_with_chdir_is_refused(site: Site) -> None:
    """F46: its tasks would look for their parameters elsewhere, and Slurm shows them in another directory."""
    site.run(["mkdir", "-p", "chdir"], site.home).ok()
    flow = Workflow(site, site.home / "chdir")
    template = "#!/bin/bash\n#SBATCH --array=TASKARRAYDEFINITION\n#SBATCH --chdir=/tmp\nsrun WORKERSCRIPT\n"
    for name, text in {
        "setup.sh": "#!/bin/sh\n",
        "gen.sh": "#!/bin/sh\necho '{}' >parameters.0.json; echo 1\n",
        "template.sh": template,
        "worker.sh": WORKER,
    }.items():
        flow.write(name, text)
    for command in (["setup", "setup.sh", "gen.sh", "template.sh", "worker.sh"], ["run"]):
        done = flow.esis(*command)
        if done.code != 0:
            break
    assert done.code == 2
    assert "--chdir" in done.stderr
    assert flow.runs() == []


def test_f150_tasks_in_a_hidden_partition_are_seen(site: Site) -> None:
    """F150: squeue leaves them out, also for their owner: they are seen, not done twice, throttled and cancelled."""
    if isinstance(site, FakeSite):
        site.slurm.set(partitions=["debug", "hidden"], hidden_partitions=["hidden"])
    template = TEMPLATE.replace("#ESIS_PRIVATE", "#SBATCH --partition=hidden\n#ESIS_PRIVATE")
    flow = make_workflow(site, "hidden", 3, template=template, worker=SLOW, options=["-m", "2"])
    flow.esis("run").ok()
    run = flow.only_run()
    until(lambda: len(list((run / "cwd").glob("seen.*"))) == 2, 60)
    assert queued(site, (run / "__esis__/jobid.tx").read_text().strip()) == ""
    assert flow.states() == {"running": 2, "waiting": 1}
    assert "nothing to resubmit" in flow.esis("resubmit").ok().stderr
    flow.esis("throttle", "1").ok()
    flow.esis("cancel").ok()
    assert flow.states() == {"failed": 3}


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_f47_filters_in_the_environment_hide_no_task(site: Site, name: str) -> None:
    """F47: tasks that run and wait are seen, not submitted again beside themselves, and cancelled."""
    flow = make_workflow(site, f"filter-{name.lower()}", 3, worker=SLOW, options=["-m", "2"])
    env = {name: FILTERS[name]}
    flow.esis("run", env=env).ok()
    run = flow.only_run()
    until(lambda: len(list((run / "cwd").glob("seen.*"))) == 2, 60)
    job = (run / "__esis__/jobid.tx").read_text().strip()
    shown = flow.esis("status", env=env).ok().stdout
    assert ("running\t2" in shown, "waiting\t1" in shown) == (True, True), shown
    assert "nothing to resubmit" in flow.esis("resubmit", env=env).ok().stderr
    assert "lost" not in flow.esis("status", env=env).ok().stdout
    flow.esis("cancel", env=env).ok()
    assert set(queued(site, job).split(",")) <= {"CANCELLED", "COMPLETING", ""}
