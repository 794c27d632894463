"""Drive a fake cluster from a shell: python -m tests.fakes.control STATE run|set|fail|verdict|purge|..."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from . import FakeSlurm


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _pairs(words: list[str]) -> dict[str, Any]:
    return {name: _value(value) for name, _, value in (word.partition("=") for word in words)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.control", description=__doc__)
    parser.add_argument("state", metavar="STATE", help="the directory of FAKE_SLURM_STATE")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run what may run, until idle")
    run.add_argument("--until-idle", action="store_true", help="the default")
    run.add_argument("--max-tasks", type=int)
    run.add_argument("--only", type=int, metavar="JOB")
    run.add_argument("--parallel", type=int, default=1)
    commands.add_parser("set", help="change knobs").add_argument("pairs", nargs="+", metavar="NAME=JSON")
    fail = commands.add_parser("fail", help="make the next call of a client go wrong")
    fail.add_argument("program")
    fail.add_argument("kind")
    fail.add_argument("pairs", nargs="*", metavar="NAME=JSON")
    verdict = commands.add_parser("verdict", help="say what Slurm will make of a task")
    verdict.add_argument("verdict", metavar="TASK_STATE")
    verdict.add_argument("pairs", nargs="*", metavar="NAME=JSON")
    purge = commands.add_parser("purge", help="let slurmctld forget what is finished")
    purge.add_argument("job", type=int, nargs="?")
    commands.add_parser("forget", help="let slurmctld lose a job").add_argument("job", type=int)
    commands.add_parser("reveal", help="show the jobs of lost replies")
    state = commands.add_parser("set-state", help="give tasks a state")
    state.add_argument("job", type=int)
    state.add_argument("task_state", metavar="TASK_STATE")
    state.add_argument("task", type=int, nargs="*")
    kill = commands.add_parser("kill-task", help="kill a task as a dying node does")
    kill.add_argument("job", type=int)
    kill.add_argument("task", type=int, nargs="?")
    kill.add_argument("--state", dest="task_state", default="NODE_FAIL")
    kill.add_argument("--requeue", action="store_true")
    commands.add_parser("calls", help="print the calls so far").add_argument("program", nargs="?")
    commands.add_parser("jobs", help="print the jobs")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Carry out one command."""
    given = _parser().parse_args(arguments)
    slurm = FakeSlurm.attach(given.state)
    if given.command == "run":
        started = slurm.run(max_tasks=given.max_tasks, only=given.only, parallel=given.parallel)
        sys.stdout.write(f"{started}\n")
    elif given.command == "set":
        slurm.set(**_pairs(given.pairs))
    elif given.command == "fail":
        slurm.fail(given.program, given.kind, **_pairs(given.pairs))
    elif given.command == "verdict":
        slurm.verdict(given.verdict, **_pairs(given.pairs))
    elif given.command == "purge":
        slurm.purge(given.job)
    elif given.command == "forget":
        slurm.forget(given.job)
    elif given.command == "reveal":
        slurm.reveal()
    elif given.command == "set-state":
        slurm.set_state(given.job, given.task_state, given.task or None)
    elif given.command == "kill-task":
        slurm.kill_task(given.job, given.task, given.task_state, requeue=given.requeue)
    elif given.command == "calls":
        for call in slurm.calls(given.program):
            sys.stdout.write(json.dumps(asdict(call)) + "\n")
    elif given.command == "jobs":
        for job in slurm.jobs():
            sys.stdout.write(json.dumps(asdict(job), default=str) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
