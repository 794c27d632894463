"""What all the fake clients share: the dispatcher, the log of calls, common faults and output."""

from __future__ import annotations

import os
import time

from .store import BIN, Store

TYPE_CHECKING = False  # typing takes a fifth of a client's start
if TYPE_CHECKING:
    from typing import Any

CONNECT = "Unable to contact slurm controller (connect failure)"
DOWN = {
    "squeue": f"slurm_load_jobs error: {CONNECT}",
    "scancel": f"slurm_load_jobs error: {CONNECT}",
    "scontrol": f"slurm_load_ctl_conf error: {CONNECT}",
    "sinfo": f"slurm_load_partitions: {CONNECT}",
}

_LEFT: dict[int, int] = {}  # bytes that still arrive, by descriptor, where a fault cuts what is said

__all__ = ["BIN", "emit", "fail", "hang", "main", "user_name", "warn"]


def emit(text: str) -> None:
    """Write to stdout as bytes: paths may hold anything."""
    _write(1, text)


def warn(text: str) -> None:
    """Write a line to stderr."""
    _write(2, text + "\n")


def _write(descriptor: int, text: str) -> None:
    data = os.fsencode(text)[: _LEFT.get(descriptor)]
    while data:
        data = data[os.write(descriptor, data) :]


def fail(text: str, status: int = 1) -> int:
    """Write a line to stderr and return the exit status."""
    warn(text)
    return status


def hang(fault: dict[str, Any]) -> None:
    """Stand still, as a client does whose controller doesn't answer."""
    time.sleep(float(fault.get("seconds", 3600)))


def user_name() -> str:
    """Return the submitting user's name from the password file, or the number."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def main(program: str, arguments: list[str]) -> int:
    """Run one client."""
    root = os.environ.get("FAKE_SLURM_STATE")
    if not root:
        return fail(f"{program}: error: fake Slurm: FAKE_SLURM_STATE is not set")
    return client_of(Store(root), program, arguments)


def client_of(store: Store, program: str, arguments: list[str]) -> int:
    """Run one client on a state; tests/simulation has its own, in memory."""
    store.log_call(program, arguments)
    if program == "srun":
        from .srun import main as client

        return client(store, arguments)
    knobs = store.knobs()
    if arguments in (["--version"], ["-V"]):
        emit(f"slurm {knobs.version}\n")
        return 0
    if program == "sbatch":
        from .sbatch import main as client

        return client(store, arguments)
    fault = store.take_fault(program)
    if fault is not None:
        kind = fault["kind"]
        if kind == "hang":
            hang(fault)
        if kind == "empty":
            return 0
        if kind == "say":  # it ends well, and says something else than it should
            emit(str(fault["stdout"]))
            return 0
        if kind == "cut":  # it ends well, and only the beginning of what it says arrives
            _LEFT[1] = int(fault["bytes"])
        elif kind != "hang" or fault.get("message"):
            emit(str(fault.get("stdout", "")))
            if kind == "timeout":
                default = "slurm_load_jobs error: Socket timed out on send/recv operation"
            else:
                default = f"{program}: error: something is wrong"
            return fail(str(fault.get("message", default)), int(fault.get("status", 1)))
    if knobs.down and program in DOWN:
        if program == "scontrol" and arguments[:1] == ["ping"]:
            emit("Slurmctld(primary) at ctld is DOWN\n")
            return 1
        return fail(DOWN[program])
    if program == "squeue":
        from .squeue import main as client
    elif program == "sacct":
        from .sacct import main as client
    elif program == "scancel":
        from .scancel import main as client
    elif program == "scontrol":
        from .scontrol import main as client
    elif program == "sinfo":
        from .sinfo import main as client
    else:
        return fail(f"{program}: unknown program")
    return client(store, arguments)
