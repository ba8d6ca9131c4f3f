"""A Ray cluster whose nodes are processes of this machine, each of which can be killed by itself.

Needs psutil.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from clusters.local.hosts import Host, Hosts
from colllm_ray.errors import ColllmError

RAY = Path(sys.executable).with_name("ray")
STARTED = "Ray runtime started"  # what `ray start` says when a node is up
OWN_PORTS = (
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
    "ray-client-server-port",
)
GAVE_UP = "timed out during startup"  # what it says after 30 s, which are short on a crowded machine
START_S = 300.0
OBJECT_STORE = 150 * 2**20  # bytes: nothing large goes through it
NODE = "colllm.node"  # a label of each node: its name
STATE, TOKEN = "cluster.json", "token"


@dataclass(frozen=True)
class Node:
    """What Ray is told that a node has; CPUs are its book-keeping, and may be more than the machine has."""

    name: str
    num_cpus: int
    resources: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


DEFAULT_NODES = (
    Node("head", 2),
    Node("base", 4, {"base": 4}, {"pool": "base"}),
    Node("experts-1", 6, {"experts": 6}, {"pool": "experts"}),
    Node("experts-2", 6, {"experts": 6}, {"pool": "experts"}),
)


class LocalCluster:
    """The cluster that a folder describes; the first node is the head.

    With `as_hosts` each node but the head has an address and a network of its own. All nodes ask for a token.
    """

    def __init__(self, folder: Path, nodes: Sequence[Node], hosts: Sequence[Host], port: int, dashboard: int) -> None:
        self.folder = folder
        self._nodes = {node.name: node for node in nodes}
        self._hosts = dict(zip(self._nodes, hosts, strict=True))
        self._port = port
        self._dashboard = dashboard
        self._started: dict[str, tuple[int, float]] = {}  # process id, and when it began: the id may come again

    @classmethod
    def up(cls, folder: Path, nodes: Sequence[Node] = DEFAULT_NODES, *, as_hosts: bool = False) -> LocalCluster:
        """Starts it; `folder`, whose path must be short, holds its logs and its token.

        Raises ColllmError where a cluster is there already, or a node does not start.
        """
        if (folder / STATE).exists():
            raise ColllmError(f"{folder}: there is a cluster already; `down` ends it")
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        (folder / TOKEN).write_text(secrets.token_hex(32))
        hosts = Hosts.make(len(nodes)) if as_hosts else [Host() for _ in nodes]
        cluster = cls(folder, nodes, hosts, *_free_ports(2))
        try:
            cluster.start(nodes[0].name)
            cluster.start(*(node.name for node in nodes[1:]))
        except BaseException:
            cluster.down()
            raise
        return cluster

    @classmethod
    def at(cls, folder: Path) -> LocalCluster:
        """The one that was started with this folder. Raises ColllmError where there is none."""
        try:
            state = json.loads((folder / STATE).read_text())
        except OSError as error:
            raise ColllmError(f"{folder}: there is no cluster; `up` starts one") from error
        nodes = [Node(**node) for node in state["nodes"]]
        cluster = cls(folder, nodes, [Host(**host) for host in state["hosts"]], state["port"], state["dashboard"])
        cluster._started = {name: tuple(started) for name, started in state["started"].items()}
        return cluster

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to know to use the cluster, as variables of its environment."""
        return {
            "RAY_ADDRESS": f"{self._head.address}:{self._port}",
            "RAY_API_SERVER_ADDRESS": f"http://{self._head.address}:{self._dashboard}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / TOKEN),
        }

    @property
    def nodes(self) -> dict[str, bool]:
        """By name, whether the node's raylet runs."""
        return {name: bool(self.raylet(name)) for name in self._nodes}

    def host(self, name: str) -> Host:
        return self._hosts[name]

    def start(self, *names: str) -> None:
        """Starts nodes one after the other (at the same time they get in each other's way). Raises ColllmError."""
        for name in names:
            log, deadline = self._launch(name), time.monotonic() + START_S
            while STARTED not in (said := log.read_text()):
                ended, is_late = self._process(name) is None, time.monotonic() > deadline
                if ended and GAVE_UP in said and not is_late:
                    log = self._launch(name)
                elif ended or is_late:
                    raise ColllmError(f"node {name} has not started:\n{said[-2000:]}")
                time.sleep(0.1)

    def raylet(self, name: str) -> psutil.Process | None:
        """The process that makes a node, if it runs."""
        node = self._process(name)
        with suppress(psutil.NoSuchProcess):
            for process in [] if node is None else node.children(recursive=True):
                if process.name() == "raylet" and process.status() != psutil.STATUS_ZOMBIE:
                    return process
        return None

    def processes(self, name: str) -> dict[int, str]:
        """Those that Ray has started on a node: command lines by process id."""
        found: dict[int, str] = {}
        node = self._process(name)
        for process in [] if node is None else node.children(recursive=True):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                found[process.pid] = " ".join(process.cmdline())
        return found

    def kill(self, name: str) -> None:
        """Kills a node's raylet, and with it the node. Raises ColllmError where it does not run."""
        raylet = self.raylet(name)
        if raylet is None:
            raise ColllmError(f"node {name} does not run")
        raylet.kill()

    def down(self) -> None:
        """Ends all nodes and removes the folder."""
        for name in self._nodes:
            self._end(name)
        Hosts.remove(self._hosts.values())
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _head(self) -> Host:
        return next(iter(self._hosts.values()))

    def _launch(self, name: str) -> Path:
        node, host = self._nodes[name], self._hosts[name]
        options = {
            "node-ip-address": host.address,
            "num-cpus": node.num_cpus,
            "resources": json.dumps(dict(node.resources)),
            "labels": ",".join(f"{key}={value}" for key, value in {NODE: name, **node.labels}.items()),
            "object-store-memory": OBJECT_STORE,
            "min-worker-port": 0,  # any that is free: nodes of one machine share its ports
            "max-worker-port": 0,
            **dict(zip(OWN_PORTS, _free_ports(len(OWN_PORTS)), strict=True)),
        }
        if host is self._head:
            place = ["--head", f"--port={self._port}", f"--dashboard-port={self._dashboard}"]
            place += [f"--temp-dir={self.folder / 'ray'}", f"--dashboard-host={host.address}", "--disable-usage-stats"]
        else:
            place = [f"--address={self._head.address}:{self._port}"]
        arguments = [f"--{option}={value}" for option, value in options.items()]
        log = self.folder / f"{name}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [*host.enter, str(RAY), "start", "--block", *place, *arguments],
                env={**os.environ, **self.environment, **_NODE_SETTINGS},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started[name] = process.pid, psutil.Process(process.pid).create_time()
        self._save()
        return log

    def _end(self, name: str) -> None:
        process = self._process(name)
        if process is not None:
            processes = [*process.children(recursive=True), process]
            for one in processes:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            psutil.wait_procs(processes, timeout=10)
        self._started.pop(name, None)
        self._save()

    def _process(self, name: str) -> psutil.Process | None:
        """`ray start` of a node, which is the parent of all that runs there; None where it has ended."""
        pid, since = self._started.get(name, (0, 0.0))
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if pid and process.create_time() == since:
                return process
        return None

    def _save(self) -> None:
        state = {
            "nodes": [asdict(node) for node in self._nodes.values()],
            "hosts": [asdict(host) for host in self._hosts.values()],
            "port": self._port,
            "dashboard": self._dashboard,
            "started": self._started,
        }
        unfinished = self.folder / f"{STATE}.tmp"
        unfinished.write_text(json.dumps(state))
        unfinished.rename(self.folder / STATE)


@contextmanager
def running_cluster(nodes: Sequence[Node] = DEFAULT_NODES, *, as_hosts: bool = False) -> Iterator[LocalCluster]:
    """A cluster with a folder of its own, for as long as the body runs."""
    cluster = LocalCluster.up(Path(tempfile.mkdtemp(prefix="colllm-")), nodes, as_hosts=as_hosts)
    try:
        yield cluster
    finally:
        cluster.down()


_NODE_SETTINGS = {
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # nodes share few cores
    "RAY_health_check_period_ms": "1000",  # a node that died is noticed after five of them
}


def _free_ports(count: int) -> list[int]:
    """Different ones: they are taken together."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("", 0))
        return [int(one.getsockname()[1]) for one in taken]
