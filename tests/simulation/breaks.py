"""Break a copy of the product on purpose: each way has to be caught by some world. README.md here has the table."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import esis

_REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Break:
    """A change of one text in one file of the product."""

    what: str
    file: str  # below esis/
    old: str
    new: str


_SEND = "operations/submission/send.py"
_SETTLE = "operations/submission/settle.py"
_JUDGE = "operations/witness/judge.py"
BREAKS = {
    "no-fence": Break(
        "a job whose submission has another owner works all the same",
        "records/task.sh",
        '"$esis_owner" "$esis_job" >&2 || :\n            exit 0\n',
        '"$esis_owner" "$esis_job" >&2 || :\n',
    ),
    "grace-0": Break(
        "one look that shows no job is enough to send a submission again",
        _SEND,
        "    limits = known_limits(run, scheduler)\n    return max(MINIMUM_GRACE_SECONDS, 2 * ",
        "    limits = known_limits(run, scheduler)\n    return min(0.0, 2 * ",
    ),
    "intent-after": Break(
        "nothing is on the disk when sbatch is called",
        _SEND,
        "    submissions.save(run, submission, still(run.lock, run.label))\n",
        "    if submission.outcome is not Outcome.OPEN or submission.jobs:\n"
        "        submissions.save(run, submission, still(run.lock, run.label))\n",
    ),
    "lock-not-held": Break(
        "everybody gets the lock",
        "locks.py",
        "            for name in _entries(lock):\n                _judge(lock, name, what, take_over)\n",
        "            for name in _entries(lock):\n                (lock / name).unlink()\n",
    ),
    "absence-is-failure": Break(
        "what squeue doesn't show has failed, at once",
        _JUDGE,
        "        if self._now - since < GRACE_SECONDS:\n            return Verdict(\n",
        "        if self._now - since < GRACE_SECONDS:\n"
        '            return Verdict(TaskState.FAILED, "not in the queue", job=job)\n            return Verdict(\n',
    ),
    "exit-0-is-done": Break(
        "an exit status of 0 outranks Slurm's verdict",
        _JUDGE,
        "return seen if seen is not None and seen.state is JobState.FAILED else None",
        "return seen if seen is not None and seen.state is JobState.FAILED and record.code != 0 else None",
    ),
    "lookup-by-directory": Break(
        "a job from the run's cwd/ is taken for the one whose answer was lost",
        "schedulers/base.py",
        "submitted = {place: sent for place, sent in places.items() if sent is not None}",
        'submitted = {place: Sent(0, 0) for place in places if place.endswith(f"|{run.cwd}")}',
    ),
    "adopts-the-latest": Break(
        "the highest id of the user's is taken for the one whose answer was lost",
        "schedulers/base.py",
        "submitted = {place: sent for place, sent in places.items() if sent is not None}",
        "submitted = {max(self.sightings, key=lambda seen: int(seen.job)).place: Sent(0, 0)} if places else {}",
    ),
    "id-is-identity": Break(
        "a job with an id that the run knows is the run's",
        "schedulers/identity.py",
        "    doubtful = False\n    for command, rest in",
        "    if known:\n        return Whose.OURS\n    doubtful = False\n    for command, rest in",
    ),
    "failed-query-is-empty": Break(
        "a failed squeue is an answer without jobs",
        "schedulers/slurm.py",
        "            if problem is not None:\n                problems.append(problem)\n        return Snapshot(",
        "        return Snapshot(",
    ),
    "no-answer-is-refusal": Break(
        "a time-out of sbatch is a refusal",
        "schedulers/answers.py",
        '        return Answer(Outcome.OPEN, shown or f"sbatch ended with',
        '        return Answer(Outcome.REFUSED, shown or f"sbatch ended with',
    ),
    "doubtful-job-is-ignored": Break(
        "a job that may hold a task, or others, counts for none",
        _JUDGE,
        "        if perhaps is None or verdict.state in ACTIVE_STATES:\n",
        "        if perhaps is None or verdict.state is not None:\n",
    ),
    "open-is-forgotten": Break(
        "a submission without an answer is not looked up",
        _SETTLE,
        "        if submission.outcome is Outcome.OPEN and submission.scheduler == Slurm.name:",
        "        if submission.outcome is Outcome.OPEN and submission.scheduler == scheduler.name == 'x':",
    ),
    "queue-not-asked": Break(
        "esis run submits without asking what the queue has",
        "operations/run.py",
        "            snapshot, _ = look([found], scheduler)\n",
        "            snapshot = Snapshot()\n",
    ),
    "end-is-not-written": Break(
        "a task that ends well leaves no record of its end",
        "records/task.sh",
        'if esis_move "$esis_stem.running" "$esis_stem.$esis_word.$esis_time" 2>/dev/null; then',
        'if [ "$esis_word" = exit0 ] || esis_move "$esis_stem.running" "$esis_stem.$esis_word.$esis_time"; then',
    ),
    "start-is-done": Break(
        "a task's record says that it ended well when it begins",
        "records/task.sh",
        '        ! esis_create "$esis_record.running" || break\n',
        '        esis_create "$esis_record.exit0.$esis_time"\n        ! esis_create "$esis_record.running" || break\n',
    ),
    "cancels-all": Break(
        "esis cancel cancels all jobs of the user's",
        "schedulers/commands.py",
        "f\"{job.id}_[{','.join(ranges)}]\"]",
        '"--me"]',
    ),
    "build-counts-at-once": Break(
        "a run that is half built counts as built",
        "operations/build/prepare.py",
        "        if found is None:\n",
        "        if found is None and not is_directory(run.cwd):\n",
    ),
    "first-by-hand-unseen": Break(
        "a failed squeue doesn't keep esis run from submitting what it never submitted (F170)",
        "operations/run.py",
        "asked = scheduler.queue is not None or evidence.in_slurm or ",
        "asked = evidence.in_slurm or ",
    ),
    "one-job-a-task": Break(
        "of several jobs with a task in their packs the first one alone counts (F171)",
        "operations/witness/sightings.py",
        "self.more.setdefault(task, []).append(seen)",
        "pass",
    ),
    "lock-elsewhere": Break(
        "the lock of a run has another name than in the last release",
        "model/workdir.py",
        'return self.private / "lock"',
        'return self.private / "lock.2"',
    ),
    "records-of-its-own": Break(
        "submissions are written and read in a format that the last release doesn't know",
        "records/submissions.py",
        "\nSCHEMA = 1\n",
        "\nSCHEMA = 2\n",
    ),
    "refused-stays": Break(
        "tasks of a refused submission count as submitted",
        _JUDGE,
        "taken = [item for item in evidence.submissions if item.outcome is not Outcome.REFUSED]",
        "taken = list(evidence.submissions)",
    ),
}


def broken_copy(broken: Break, directory: Path) -> Path:
    """Make a directory with a broken copy of the product, and these tests."""
    shutil.copytree(Path(esis.__file__).parent, directory / "esis", ignore=shutil.ignore_patterns("__pycache__"))
    (directory / "tests").symlink_to(_REPOSITORY / "tests")
    path = directory / "esis" / broken.file
    text = path.read_text("utf-8")
    if text.count(broken.old) != 1:
        raise ValueError(f"esis/{broken.file} holds {text.count(broken.old)} times: {broken.old}")
    path.write_text(text.replace(broken.old, broken.new), "utf-8")
    return directory


def live_broken(name: str, directory: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Live worlds with a broken product; what is printed is captured."""
    return run_broken(BREAKS[name], directory, "tests.simulation", arguments)


def run_broken(
    broken: Break, directory: Path, module: str, arguments: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """Run a family of tests with a broken product; what is printed is captured."""
    argv = [sys.executable, "-m", module, *arguments]
    return subprocess.run(argv, cwd=broken_copy(broken, directory), capture_output=True, text=True, check=False)
