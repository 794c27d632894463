"""A real Slurm cluster in containers, for tests and for people.

    with SlurmCluster() as cluster:
        cluster.install(wheelhouse("3.11"))         # only tests of ESIS itself need it
        done = cluster.run(["sbatch", "--parsable", "job.sh"], cwd="/home/alice")

Containers: ctl (slurmctld), c1 and c2 (slurmd, 8 invented CPUs each, or as many as are asked for), login and
login2, and dbd (slurmdbd with MariaDB) where there is accounting. They share /home, which the host sees as
`SlurmCluster.home`; the same file system is mounted at /data, too.
No port is published. Everything carries the label `org.esis.cluster`, by which it is found and removed.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import ipaddress
import os
import platform
import re
import secrets
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

import docker
import docker.errors
from docker.models.containers import Container
from docker.types import EndpointConfig, IPAMConfig, IPAMPool, Mount

# Its clean-up container comes from a registry, which need not answer. This module removes what it made.
os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"

from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

testcontainers_config.ryuk_disabled = True

REPOSITORY: Final = Path(__file__).resolve().parents[2]
LABEL: Final = "org.esis.cluster"
HOME_LABEL: Final = "org.esis.home"
PEOPLE: Final = "people"
"""The name of the one cluster that outlives the process which started it."""

PYTHON_OF: Final[Mapping[str, str]] = {"bullseye": "3.9", "bookworm": "3.11", "trixie": "3.13", "forky": "3.14"}
"""The Debian suites that make a cluster, and the Python that each brings. Slurm: 20.11, 22.05, 24.11, 26.05."""

PREFIX: Final = "/opt/esis"
"""Where ESIS is installed, on the login nodes alone."""

OTHER_HOME: Final = "/data"
"""Where the file system of /home is mounted once more."""

_ROLES: Final[Mapping[str, str]] = {
    "dbd": "slurmdbd",
    "ctl": "slurmctld",
    "c1": "slurmd",
    "c2": "slurmd",
    "login": "login",
    "login2": "login",
}
# An exec is one long read without a byte in between; `timeout` in the container ends what takes too long.
_CLIENT_TIMEOUT: Final = 3600
_PATIENCE: Final = 120.0

T = TypeVar("T")


class ClusterError(Exception):
    """The cluster does not do what a test needs; the message says where to look."""


class CommandError(ClusterError):
    """A command failed, in a container or on this machine."""

    def __init__(self, argv: Sequence[str], returncode: int, stdout: str, stderr: str) -> None:
        """Show all that it said."""
        super().__init__(f"{list(argv)} exited with {returncode}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")


@dataclass(frozen=True)
class Completed:
    """What a command in a container left."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    def check(self) -> Completed:
        """Return itself, or raise CommandError if the command failed."""
        if self.returncode != 0:
            raise CommandError(self.argv, self.returncode, self.stdout, self.stderr)
        return self


def wait_until(
    condition: Callable[[], T], *, seconds: float = 60.0, interval: float = 0.25, what: str = "the condition"
) -> T:
    """Call `condition` until it returns something true, and return that; TimeoutError after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            message = f"{what}: not so after {seconds:g} s, the last answer was {value!r}"
            raise TimeoutError(message)
        time.sleep(interval)


def engine_problem() -> str:
    """Say why no container engine can be used; empty if one can."""
    try:
        client = docker.from_env(timeout=20)
        try:
            client.ping()
        finally:
            client.close()
    except Exception as error:  # docker-py lets many kinds through: its own, requests', OSError
        return f"no container engine answers ({error}); run ci/container-engine"
    return ""


def build_image(suite: str, *, accounting: bool = False) -> str:
    """Build (from the engine's cache, mostly) the image of one suite, and return its name."""
    if suite not in PYTHON_OF:
        message = f"no cluster for the suite {suite!r}; there are {', '.join(PYTHON_OF)}"
        raise ClusterError(message)
    target = "slurmdbd" if accounting else "slurm"
    image = f"esis-{target}:{suite}"
    _host_command([str(REPOSITORY / "ci" / "base-image"), suite])
    build = ["docker", "build", "--quiet", "--network", "host", "--target", target, "--tag", image]
    context = str(REPOSITORY / "slurm-docker-cluster")
    _host_command([*build, "--build-arg", f"BASE=esis-base:{suite}", context])
    return image


_wheelhouses: dict[str, Path] = {}  # a cache for the session, by Python version


def wheelhouse(python_version: str) -> Path:
    """Build ESIS's wheel and fetch its dependencies for one Python version; made once per process."""
    if python_version not in _wheelhouses:
        directory = _scratch(f"esis-wheels-{python_version}-")
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        _fill_wheelhouse(directory, python_version)
        _wheelhouses[python_version] = directory
    return _wheelhouses[python_version]


def _fill_wheelhouse(directory: Path, python_version: str) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory(prefix="esis-source-") as scratch:
        # A build leaves build/ and *.egg-info beside the sources, and takes stale files from there.
        source = Path(scratch, "source")
        source.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            if (REPOSITORY / name).exists():
                shutil.copy(REPOSITORY / name, source / name)
        shutil.copytree(REPOSITORY / "esis", source / "esis", ignore=shutil.ignore_patterns("__pycache__"))
        _host_command([*pip, "wheel", "--no-deps", "--wheel-dir", str(directory), str(source)])
    (wheel,) = directory.glob("esis_slurm-*.whl")
    # pip evaluates "python_version < ..." for the Python that it runs on itself:
    # what old Pythons need in addition (rich: typing-extensions) has to be named.
    machine = platform.machine()
    tags = ["--only-binary=:all:", "--python-version", python_version, "--implementation", "cp"]
    for manylinux in ("manylinux_2_28", "manylinux2014"):
        tags += ["--platform", f"{manylinux}_{machine}"]
    _host_command([*pip, "download", *tags, "--dest", str(directory), str(wheel), "typing-extensions"])


class SlurmCluster:
    """One cluster; a context manager. What it made is gone after `close()`, also after a failed start."""

    def __init__(
        self,
        *,
        suite: str = "bookworm",
        accounting: bool = False,
        cpus: int = 8,
        max_array_size: int = 1001,
        min_job_age: int = 300,
        kill_wait: int = 5,
        message_timeout: int = 10,
        requeue_delay: int = 10,
        extra_conf: str = "",
        name: str = "",
    ) -> None:
        """Describe a cluster; `start()` makes it. Times in seconds; `extra_conf` ends slurm.conf and wins."""
        self.suite = suite
        self.accounting = accounting
        self.name = name or f"test-{secrets.token_hex(4)}"
        self._environment = {
            "CLUSTER_SECRET": secrets.token_hex(32),
            "CLUSTER_ACCOUNTING": "1" if accounting else "0",
            "CLUSTER_CPUS": str(cpus),
            "CLUSTER_MEMORY": str(cpus * 2000),
            "CLUSTER_MAX_ARRAY_SIZE": str(max_array_size),
            "CLUSTER_MIN_JOB_AGE": str(min_job_age),
            "CLUSTER_KILL_WAIT": str(kill_wait),
            "CLUSTER_MESSAGE_TIMEOUT": str(message_timeout),
            "CLUSTER_REQUEUE_DELAY": str(requeue_delay),
            "CLUSTER_EXTRA_CONF": extra_conf,
        }
        self._containers: dict[str, DockerContainer] = {}
        self._network: Network | None = None
        self._home: Path | None = None
        self._left_running = False

    def __enter__(self) -> SlurmCluster:
        """Start the cluster."""
        return self.up()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the cluster, unless it was to be left running."""
        if not self._left_running:
            self.close()

    # --- life and death

    def up(self, *, seconds: float = _PATIENCE) -> SlurmCluster:
        """Build the images, start all containers and wait (that many seconds) until the nodes are idle."""
        hosts = [host for host in _ROLES if host != "dbd" or self.accounting]
        images = {host: build_image(self.suite, accounting=host == "dbd") for host in hosts}
        atexit.register(self.close)
        try:
            self._home = _scratch("esis-cluster-")
            self._network, addresses = _make_network(self._labels, hosts)
            for host in hosts:
                self._containers[host] = self._make(host, images[host], addresses)
                self._containers[host].start()
            self.wait_for_nodes(seconds=seconds)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Remove containers, network and files; harmless when repeated."""
        atexit.unregister(self.close)
        for container in self._containers.values():
            container.get_docker_client().client.close()
        self._containers.clear()
        self._network = None
        remove(self.name)
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None

    def leave_running(self) -> None:
        """Let the cluster outlive this process."""
        atexit.unregister(self.close)
        self._left_running = True

    @property
    def home(self) -> Path:
        """The host's side of /home."""
        if self._home is None:
            message = "the cluster is not running"
            raise ClusterError(message)
        return self._home

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of the containers."""
        return tuple(self._containers)

    @property
    def _labels(self) -> dict[str, str]:
        return {LABEL: self.name, HOME_LABEL: str(self._home or "")}

    def _make(self, host: str, image: str, addresses: Mapping[str, str]) -> DockerContainer:
        container = DockerContainer(image, docker_client_kw={"timeout": _CLIENT_TIMEOUT})
        container = container.with_command(_ROLES[host]).with_name(f"esis-{self.name}-{host}")
        container = container.with_envs(**self._environment).with_volume_mapping(self.home, "/home", "rw")
        network = self._network
        assert network is not None
        options: dict[str, Any] = {
            "hostname": host,
            "labels": self._labels,
            "network": network.name,
            # Not a second volume mapping: testcontainers knows one for each place of the host.
            "mounts": [Mount(OTHER_HOME, str(self.home), type="bind")],
            # The address stays when the container is killed and started again; slurmctld keeps addresses.
            "networking_config": {network.name: EndpointConfig("1.40", ipv4_address=addresses[host])},
            # No name server in between: a node that is down is still a known name.
            "extra_hosts": {name: address for name, address in addresses.items() if name != host},
        }
        if _ROLES[host] == "slurmd":
            # SYS_ADMIN: slurmd 24.11 starts steps in a namespace of their own. SYS_PTRACE: slurmstepd reads
            # the memory of tasks from /proc/PID/io and its neighbours.
            options["cap_add"] = ["SYS_ADMIN", "SYS_PTRACE"]
        return container.with_kwargs(**options)

    # --- commands

    def run(
        self,
        argv: Sequence[str],
        *,
        user: str = "alice",
        cwd: str = "",
        env: Mapping[str, str] | None = None,
        host: str = "login",
        timeout: float = 120.0,
        check: bool = True,
    ) -> Completed:
        """Run a command as from a user's login shell (cwd: the user's home).

        TimeoutError after `timeout` seconds, CommandError if it fails and `check` is set.
        """
        begin = time.monotonic()
        code, (out, err) = self._container(host).exec_run(
            ["timeout", "--kill-after=5", f"{timeout:g}", *argv],
            user=user,
            workdir=cwd or _home_of(user),
            environment={**login_environment(user), **(env or {})},
            demux=True,
        )
        done = Completed(
            tuple(argv), code, (out or b"").decode(errors="replace"), (err or b"").decode(errors="replace")
        )
        if code in (124, 137) and time.monotonic() - begin >= timeout:
            message = f"{list(argv)} on {host}: killed after {timeout:g} s\n{done.stdout}\n{done.stderr}"
            raise TimeoutError(message)
        return done.check() if check else done

    def sh(
        self,
        script: str,
        *,
        user: str = "alice",
        cwd: str = "",
        env: Mapping[str, str] | None = None,
        host: str = "login",
        timeout: float = 120.0,
        check: bool = True,
    ) -> Completed:
        """Run a bash script text; otherwise as `run`."""
        argv = ["bash", "-c", script]
        return self.run(argv, user=user, cwd=cwd, env=env, host=host, timeout=timeout, check=check)

    def install(self, wheels: Path) -> None:
        """Install ESIS into /opt/esis of both login nodes from a wheelhouse, never into compute nodes."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: self._install_on(host, wheels), ("login", "login2")))

    def _install_on(self, host: str, wheels: Path) -> None:
        self.copy_in(wheels, "/opt/wheels", host=host)
        self.run(["python3", "-m", "venv", "--clear", PREFIX], user="root", cwd="/", host=host)
        pip = [f"{PREFIX}/bin/pip", "install", "--quiet", "--no-index", "--find-links", "/opt/wheels"]
        self.run([*pip, "esis-slurm"], user="root", cwd="/", host=host, timeout=300)

    def copy_in(self, source: Path, destination: str, *, host: str = "login") -> None:
        """Copy a file or directory of the host machine to a path in a container, owned by root."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(source, arcname=destination.lstrip("/"), filter=_owned_by_root)
        self._container(host).put_archive("/", buffer.getvalue())

    # --- faults

    def freeze(self, host: str) -> None:
        """Stop all processes of a container as SIGSTOP does: connections are accepted, nobody answers."""
        self._container(host).pause()

    def thaw(self, host: str) -> None:
        """Let a frozen container go on."""
        self._container(host).unpause()

    def kill(self, host: str) -> None:
        """Switch a container off, as a power cut would; its files stay."""
        self._container(host).kill()

    def start(self, host: str) -> None:
        """Switch a killed container on again; a slurmctld finds the state that it had saved."""
        self._container(host).start()

    def kill_daemon(self, host: str, signal: str = "KILL") -> None:
        """Send a signal to the Slurm daemon of a container; jobs on it live on."""
        self.run(["pkill", f"-{signal}", "-x", _process_names(host)], user="root", cwd="/", host=host)
        if signal in ("KILL", "TERM"):
            wait_until(lambda: not self._daemon_lives(host), what=f"{_ROLES[host]} on {host} is gone")

    def start_daemon(self, host: str) -> None:
        """Start the Slurm daemon of a container again; slurmdbd is waited for until it answers."""
        self.run(["cluster-daemon", "start", _ROLES[host]], user="root", cwd="/", host=host)
        wait_until(lambda: self._daemon_lives(host), what=f"{_ROLES[host]} on {host} runs")
        if host == "dbd":
            asked = ["sacctmgr", "-n", "show", "cluster"]
            wait_until(lambda: self.run(asked, host=host, user="root", cwd="/", check=False).stdout, what="it answers")

    def _daemon_lives(self, host: str) -> bool:
        # A zombie that nobody has collected yet is dead: pgrep would count it.
        listing = self.run(["ps", "-e", "-o", "stat=,comm="], user="root", cwd="/", host=host)
        rows = [row.split(maxsplit=1) for row in listing.stdout.splitlines()]
        return any(re.fullmatch(_process_names(host), name) and not state.startswith("Z") for state, name in rows)

    # --- waiting and looking

    def wait_for_nodes(self, *, seconds: float = _PATIENCE, state: str = "idle") -> None:
        """Wait until both nodes are in a state (as `sinfo %T` writes it)."""
        expected = f"c1 {state}\nc2 {state}\n"

        def ready() -> bool:
            for host, container in self._containers.items():
                wrapped = container.get_wrapped_container()
                wrapped.reload()
                if wrapped.status == "exited":
                    message = f"the container {host} has ended:\n{self.logs(host)}"
                    raise ClusterError(message)
            answer = self.run(["sinfo", "-h", "-N", "-p", "main", "-o", "%N %T"], timeout=20, check=False, cwd="/")
            return answer.stdout == expected

        try:
            wait_until(ready, seconds=seconds, what=f"both nodes are {state}")
        except TimeoutError as error:
            logs = "\n".join(f"--- {host}\n{self.logs(host)}" for host in self._containers)
            message = f"{error}\n{logs}"
            raise ClusterError(message) from None

    def wait_jobs_gone(self, *job_ids: str, user: str = "alice", seconds: float = _PATIENCE) -> None:
        """Wait until no job of the user (or none of these array or job ids) waits or runs any more."""

        def gone() -> bool:
            listing = self.run(["squeue", "-h", "-r", "-u", user, "-o", "%F %A"], check=False)
            if listing.returncode != 0:
                return False
            rows = [row.split() for row in listing.stdout.splitlines()]
            return not any(not job_ids or set(row) & set(job_ids) for row in rows)

        wait_until(gone, seconds=seconds, interval=0.5, what=f"jobs {job_ids or 'of ' + user} are gone")

    def logs(self, host: str, lines: int = 60) -> str:
        """Return the end of a container's log."""
        return str(self._container(host).logs(tail=lines).decode(errors="replace"))

    def _container(self, host: str) -> Container:
        try:
            return self._containers[host].get_wrapped_container()
        except KeyError:
            message = f"no container {host!r}; there are {', '.join(self.hosts) or 'none'}"
            raise ClusterError(message) from None


def remove(name: str) -> None:
    """Remove the containers, the network and the shared files of a cluster, whichever process made it."""
    client = docker.from_env(timeout=120)
    try:
        mine = {"label": f"{LABEL}={name}"}
        containers = client.containers.list(all=True, filters=mine, ignore_removed=True)
        homes = {container.labels.get(HOME_LABEL, "") for container in containers} - {""}
        broom = next((container for container in containers if container.status == "running"), None)
        for container in containers:
            if container != broom:
                _remove_container(container)
        if broom is not None:
            # The files belong to users of the containers: only root in a container may always remove them.
            # A container that has just ended by itself can't; then the host's own rmtree has to do.
            with contextlib.suppress(docker.errors.APIError):
                broom.exec_run(["find", "/home", "-mindepth", "1", "-delete"], user="root")
            _remove_container(broom)
        for network in client.networks.list(filters=mine):
            network.remove()
    finally:
        client.close()
    for home in homes:
        shutil.rmtree(home, ignore_errors=True)


def names() -> list[str]:
    """Return the names of all clusters that the engine has something of."""
    client = docker.from_env(timeout=120)
    try:
        marked = {"label": LABEL}
        containers = client.containers.list(all=True, filters=marked, ignore_removed=True)
        labels = [each.labels[LABEL] for each in containers]
        labels += [each.attrs["Labels"][LABEL] for each in client.networks.list(filters=marked)]
        return sorted(set(labels))
    finally:
        client.close()


def _remove_container(container: Container) -> None:
    if container.status == "paused":
        container.unpause()
    container.remove(force=True, v=True)


def left_behind(name: str) -> list[str]:
    """Return the names of what the engine still has of a cluster: containers and networks."""
    client = docker.from_env(timeout=120)
    try:
        mine = {"label": f"{LABEL}={name}"}
        containers = client.containers.list(all=True, filters=mine, ignore_removed=True)
        return sorted(str(each.name) for each in [*containers, *client.networks.list(filters=mine)])
    finally:
        client.close()


def login_environment(user: str) -> dict[str, str]:
    """Return the environment that a user of the cluster finds at login."""
    path = f"{PREFIX}/bin:/usr/local/bin:/usr/bin:/bin"
    return {
        "PATH": f"{path}:/usr/local/sbin:/usr/sbin:/sbin" if user == "root" else path,
        "HOME": _home_of(user),
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
    }


def _process_names(host: str) -> str:
    """Return a regular expression for the names that the daemon of a container's process may have."""
    # `scontrol reconfigure` lets slurmctld (24.11 and later) start itself anew under its file's name, slurmctld-wlm.
    return f"{_ROLES[host]}(-wlm)?"


def _home_of(user: str) -> str:
    return "/root" if user == "root" else f"/home/{user}"


def _make_network(labels: dict[str, str], hosts: Iterable[str]) -> tuple[Network, dict[str, str]]:
    """Make a network without a way out, and choose the address of each host."""
    # Fixed addresses want a subnet that is named by the user. Which one is free, the engine knows:
    # let it choose one, give that back, and ask for the same again.
    with _network(labels, None) as probe:
        (pool,) = _inspect_network(probe)["IPAM"]["Config"]
    subnet = ipaddress.ip_network(pool["Subnet"])
    network = _network(labels, IPAMConfig(pool_configs=[IPAMPool(subnet=str(subnet))])).create()
    return network, {host: str(subnet[10 + number]) for number, host in enumerate(hosts)}


def _network(labels: dict[str, str], ipam: IPAMConfig | None) -> Network:
    options: dict[str, Any] = {"internal": True, "labels": labels}
    if ipam is not None:
        options["ipam"] = ipam
    return Network(docker_network_kw=options)


def _inspect_network(network: Network) -> dict[str, Any]:
    client = docker.from_env(timeout=120)
    try:
        attributes: dict[str, Any] = client.networks.get(network.id).attrs
        return attributes
    finally:
        client.close()


def _scratch(prefix: str) -> Path:
    """Make a temporary directory that users of the containers may enter."""
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    directory.chmod(0o755)
    return directory


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _host_command(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=1800)
    if done.returncode != 0:
        raise CommandError(argv, done.returncode, done.stdout, done.stderr)
    return done.stdout
