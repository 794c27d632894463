"""The cluster by hand: `python -m tests.cluster up|shell|down|status`.

There is one such cluster at a time; it outlives this process until `down`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from tests.cluster import harness


def up(suite: str, accounting: bool) -> int:
    """Start the cluster, install ESIS on its login nodes, and say how to enter."""
    if harness.left_behind(harness.PEOPLE):
        say("a cluster is there already: enter it with 'shell', remove it with 'down'")
        return 0
    say(f"starting a cluster of Debian {suite} (the first time, its image is made: a minute or two)")
    with harness.SlurmCluster(suite=suite, accounting=accounting, name=harness.PEOPLE) as cluster:
        say("installing ESIS on login and login2")
        cluster.install(harness.wheelhouse(harness.PYTHON_OF[suite]))
        cluster.leave_running()
        home = cluster.home
    say("up. Enter it with 'make cluster-shell' (or: python -m tests.cluster shell); you are alice there.")
    say(f"/home in there is {home} out here. 'make cluster-down' removes everything.")
    return 0


def shell(host: str, user: str) -> int:
    """Run a user's shell in a container, on the login node unless told otherwise."""
    if not harness.left_behind(harness.PEOPLE):
        say("there is no cluster; start one with 'make cluster-up' (or: python -m tests.cluster up)")
        return 1
    terminal = ["--interactive", "--tty"] if sys.stdin.isatty() else ["--interactive"]
    environment = {**harness.login_environment(user), "TERM": os.environ.get("TERM", "dumb")}
    settings = [word for key, value in environment.items() for word in ("--env", f"{key}={value}")]
    place = ["--user", user, "--workdir", environment["HOME"], f"esis-{harness.PEOPLE}-{host}"]
    argv = ["docker", "exec", *terminal, *settings, *place, "bash"]
    return subprocess.run(argv, check=False).returncode


def status() -> int:
    """Print what there is, one name a line; exit 1 if there is nothing."""
    names = harness.left_behind(harness.PEOPLE)
    sys.stdout.writelines(f"{name}\n" for name in names)
    return 0 if names else 1


def down(everything: bool) -> int:
    """Remove the cluster; on request also those that tests left when they were killed."""
    for name in harness.names() if everything else [harness.PEOPLE]:
        harness.remove(name)
    return 0


def say(message: str) -> None:
    """Talk to people."""
    sys.stderr.write(f"cluster: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("up", help=up.__doc__)
    starting.add_argument("--suite", choices=sorted(harness.PYTHON_OF), default="bookworm")
    starting.add_argument("--accounting", action="store_true", help="with slurmdbd, so that sacct answers")
    entering = commands.add_parser("shell", help=shell.__doc__)
    entering.add_argument("--host", choices=("ctl", "c1", "c2", "login", "login2", "dbd"), default="login")
    entering.add_argument("--user", choices=("alice", "bob", "root"), default="alice")
    commands.add_parser("status", help=status.__doc__)
    ending = commands.add_parser("down", help=down.__doc__)
    ending.add_argument("--all", action="store_true", help="also the clusters of tests, running ones included")
    chosen = parser.parse_args(arguments)

    problem = harness.engine_problem()
    if problem:
        say(problem)
        return 1
    try:
        if chosen.command == "up":
            return up(chosen.suite, chosen.accounting)
        if chosen.command == "shell":
            return shell(chosen.host, chosen.user)
        return status() if chosen.command == "status" else down(chosen.all)
    except harness.ClusterError as error:
        say(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
