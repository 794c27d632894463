"""The fake scancel."""

from __future__ import annotations

import os
import time

from .options import UsageError, parse, table, words
from .program import fail, user_name, warn
from .queue import cancel, send
from .records import COMPACT, Job, SlurmError
from .store import Store

SHORT = table(
    "A=account b=batch c=ctld f=full H=hurry i=interactive M=clusters n=name p=partition q=qos Q=quiet "
    "R=reservation s=signal t=state u=user v=verbose V=version w=nodelist"
)
FLAGS = words("batch cron ctld full hurry interactive me quiet verbose version")
VALUED = words("account clusters jobname name nodelist partition qos reservation sibling signal state user wckey")
ENVIRONMENT = {
    "SCANCEL_ACCOUNT": "account",
    "SCANCEL_BATCH": "batch",
    "SCANCEL_FULL": "full",
    "SCANCEL_NAME": "name",
    "SCANCEL_PARTITION": "partition",
    "SCANCEL_QOS": "qos",
    "SCANCEL_STATE": "state",
    "SCANCEL_USER": "user",
    "SCANCEL_WCKEY": "wckey",
}


def main(store: Store, arguments: list[str]) -> int:
    """Cancel or signal jobs."""
    try:
        pairs, operands = parse("scancel", arguments, SHORT, FLAGS, VALUED)
    except UsageError as error:
        return fail(str(error))
    options = {name: os.environ[key] for key, name in ENVIRONMENT.items() if key in os.environ}
    options.update(pairs)
    knobs = store.knobs()
    if "clusters" in options:
        if knobs.unknown_cluster(options["clusters"]) is not None:
            return fail(f"scancel: error: No cluster '{options['clusters']}' known by database.")
        store = store.on_cluster(options["clusters"])
        knobs = store.knobs()
    filters = options.keys() & {"account", "name", "jobname", "partition", "state", "user", "me"}
    if not operands and not filters:
        return fail("scancel: error: No job identification provided")
    state = options.get("state", "").upper()
    state = next((full for full, compact in COMPACT.items() if compact == state), state)
    if state and state not in ("PENDING", "RUNNING", "SUSPENDED"):
        return fail(f"scancel: error: Invalid job state specified: {options['state']}")
    names = [name for operand in operands for name in _split(operand)]
    status = 0
    now = time.time()
    with store.transaction() as cluster:
        chosen: list[tuple[Job, list[int] | None]] = []
        for name in names:
            try:
                found = cluster.find_known(name, now, knobs.min_job_age)
            except SlurmError as error:
                warn(f"scancel: error: Kill job error on job id {name}: {error}")
                status = 1
                continue
            chosen += found
        if not names:
            chosen = [(job, None) for job in cluster.jobs.values() if not job.hidden(now)]
        for job, indices in chosen:
            if not _passes(job, options):
                continue
            if "signal" in options and options["signal"].upper() not in ("KILL", "SIGKILL", "9"):
                _signal(job, indices, options)
                continue
            done = cancel(job, indices, now, knobs.kill_wait, state)
            if not done and names and not state and not job.unfinished():
                done_text = "Job/step already completing or completed"
                warn(f"scancel: error: Kill job error on job id {job.id}: {done_text}")
    store.kick()
    return status


def _split(operand: str) -> list[str]:
    """Split 20,21_[1,3] at the commas outside of brackets."""
    parts, depth, word = [], 0, ""
    for letter in operand:
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if letter == "," and not depth:
            parts.append(word)
            word = ""
        else:
            word += letter
    return [part for part in [*parts, word] if part]


def _passes(job: Job, options: dict[str, str]) -> bool:
    user = user_name() if "me" in options else options.get("user")
    wanted = [
        (user, (job.user, str(job.uid))),
        (options.get("name", options.get("jobname")), (job.name,)),
        (options.get("partition"), (job.partition,)),
        (options.get("account"), (job.account,)),
        (options.get("qos"), ("normal",)),
        (options.get("wckey"), ("",)),
    ]
    return all(value is None or value in actual for value, actual in wanted)


def _signal(job: Job, indices: list[int] | None, options: dict[str, str]) -> None:
    from .runner import signal_number

    number = signal_number(options["signal"])
    for task in job.tasks.values():
        if task.state == "RUNNING" and (indices is None or task.index in indices):
            send(task, number, batch_only="batch" in options)
