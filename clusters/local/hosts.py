"""Hosts for the nodes of a local cluster: this machine, or network namespaces with addresses of their own.

Namespaces are joined by a bridge, on which this machine has the first address; each has a cable that can be cut. They
need root and iproute2.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from colllm_ray.errors import ColllmError

NETWORK = "10.77.0"
NAME = "colllm"


@dataclass(frozen=True)
class Host:
    """Where a node runs: this machine, if it has no namespace."""

    address: str = "127.0.0.1"
    namespace: str | None = None

    @property
    def enter(self) -> list[str]:
        """What a command begins with that is to run there."""
        return ["ip", "netns", "exec", self.namespace] if self.namespace else []

    def cut(self) -> None:
        """Takes its cable out: nothing comes through, and nobody is told."""
        _ip("link", "set", f"{self.namespace}", "down")

    def mend(self) -> None:
        """Puts its cable back in."""
        _ip("link", "set", f"{self.namespace}", "up")

    def slow_down(self, bits_per_s: int) -> None:
        """Lets no more than this through to it, and what waits for longer than a second is thrown away."""
        shape = ["tbf", "rate", f"{bits_per_s}bit", "burst", "8kb", "latency", "1s"]
        _run("tc", "qdisc", "add", "dev", f"{self.namespace}", "root", *shape)

    def speed_up(self) -> None:
        """Undoes `slow_down`."""
        _run("tc", "qdisc", "delete", "dev", f"{self.namespace}", "root")


class Hosts:
    """Makes and removes hosts."""

    @staticmethod
    def make(count: int) -> list[Host]:
        """This machine, by its address on the bridge, and namespaces. Raises ColllmError."""
        if os.geteuid() != 0:
            raise ColllmError("hosts of their own are network namespaces: they need root")
        hosts = [Host(f"{NETWORK}.1")]
        _ip("link", "add", NAME, "type", "bridge")
        try:
            Hosts._join(hosts, count)
        except ColllmError:
            Hosts.remove(hosts)
            raise
        return hosts

    @staticmethod
    def _join(hosts: list[Host], count: int) -> None:
        """Adds hosts until there are so many."""
        _ip("addr", "add", f"{NETWORK}.1/24", "dev", NAME)
        _ip("link", "set", NAME, "up")
        for number in range(1, count):
            host = Host(f"{NETWORK}.{number + 1}", f"{NAME}-{number}")
            name = host.namespace or ""
            _ip("netns", "add", name)
            hosts.append(host)
            _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", name, "master", NAME, "up")
            _ip("-n", name, "addr", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")

    @staticmethod
    def remove(hosts: Iterable[Host]) -> None:
        """Removes the namespaces, with their cables, and the bridge."""
        for host in hosts:
            if host.namespace:
                _ip("netns", "delete", host.namespace)
            elif host.address != Host.address:
                _ip("link", "delete", NAME)


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ColllmError(f"{' '.join(command)}: {done.stderr.strip()}")
