"""A collaboration that is served from several nodes of one machine, and troubles that it can be put to."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from ray import serve

from benchmarks.counters import EXPORTED_WITHIN_S, counted
from benchmarks.load import Asked, load, questions
from clusters.local import NODE, LocalCluster
from colllm_ray.config import ExpertConfig
from colllm_ray.decoding.team_spec import TeamSpec
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.ray_session import ray_session
from colllm_ray.serving.application import http_application, serving_http
from colllm_ray.serving.deployed import Deployed, Replica, deployed

AT_ONCE = 8
POLL_S = 0.2
WHOLE_S = 300.0


@dataclass
class Town:
    """What is served at `url` from the nodes of `cluster`.

    bodies: the questions of `data`; expected: the tokens of each answer.
    """

    trained: TrainedCollaboration
    cluster: LocalCluster
    url: str
    data: Path
    bodies: Sequence[dict[str, object]]
    expected: list[list[int]] = field(default_factory=list)
    last_whole_s: float = 0.0
    rng: random.Random = field(default_factory=lambda: random.Random(0))

    @property
    def experts(self) -> list[str]:
        return [expert.name for expert in self.trained.collaboration.experts]

    async def under(self, trouble: Coroutine[Any, Any, object], at_least: int) -> list[Asked]:
        """What became of at least so many questions, which go on until the trouble is over."""
        happening = asyncio.create_task(trouble)
        asked = await load(self.url, self.bodies, AT_ONCE, lambda n: n < at_least or not happening.done())
        await happening
        return asked

    async def deployments(self) -> dict[str, Deployed]:
        return {one.name: one for one in await asyncio.to_thread(deployed)}

    async def whole(self, but_for: Sequence[str] = ()) -> float:
        """Waits until all replicas run, none of them `but_for`; returns the seconds that this took: `last_whole_s`."""
        begin = perf_counter()
        while True:
            deployments = (await self.deployments()).values()
            gone = {replica.name for one in deployments for replica in one.running}.isdisjoint(but_for)
            if gone and all(one.is_whole for one in deployments):
                self.last_whole_s = perf_counter() - begin
                return self.last_whole_s
            if perf_counter() - begin > WHOLE_S:
                raise TimeoutError(f"not whole after {WHOLE_S:g} s: {deployments}")
            await asyncio.sleep(POLL_S)

    async def running(self, deployment: str) -> list[Replica]:
        return (await self.deployments())[deployment].running

    async def counted(self, counter: str) -> float:
        """What a counter has come to over all nodes, also since a moment ago."""
        await asyncio.sleep(EXPORTED_WITHIN_S)
        return await asyncio.to_thread(counted, counter)

    async def fullest_node(self) -> tuple[str, list[str]]:
        """The node with most of the experts' replicas, by name, and the names of all replicas that run there.

        Waits until an expert runs; where the head has gone, all has.
        """
        nodes = [node for node in self.cluster.nodes if node != "head"]
        while True:
            running = {one.name: one.running for one in (await self.deployments()).values()}
            experts = {replica.pid for name in self.experts for replica in running[f"Expert-{name}"]}
            processes = {node: await asyncio.to_thread(self.cluster.processes, node) for node in nodes}
            fullest = max(nodes, key=lambda node: len(experts.intersection(processes[node])))
            if experts.intersection(processes[fullest]):
                there = processes[fullest]
                return fullest, [replica.name for some in running.values() for replica in some if replica.pid in there]
            await asyncio.sleep(POLL_S)

    async def kill(self, deployments: Sequence[str], times: int, every_s: float) -> list[str]:
        """Kills a replica of each of the deployments in turn, where one runs, the first after `every_s`.

        Returns the names of the dead.
        """
        killed: set[str] = set()
        for turn in range(times):
            await asyncio.sleep(every_s)
            while not (victims := await self._victims(deployments, turn, killed)):
                await asyncio.sleep(POLL_S)
            victim = self.rng.choice(victims)
            killed.add(victim.name)
            signal_to(victim, signal.SIGKILL)
        return list(killed)

    async def _victims(self, deployments: Sequence[str], turn: int, killed: set[str]) -> list[Replica]:
        """Those of the first deployment that has some, beginning with the one whose turn it is."""
        at = turn % len(deployments)
        for name in (*deployments[at:], *deployments[:at]):
            if victims := [replica for replica in await self.running(name) if replica.name not in killed]:
                return victims
        return []

    async def update(self, trained: TrainedCollaboration) -> None:
        """Deploys another version in place of the one that runs."""
        application = http_application(TeamSpec.of(trained), frozenset())
        await asyncio.to_thread(serve.run, application, name=trained.collaboration.name)


def signal_to(replica: Replica, number: signal.Signals) -> None:
    """To the replica's process, if it is still there."""
    if replica.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(replica.pid, number)


def with_experts(trained: TrainedCollaboration, change: Callable[[ExpertConfig], ExpertConfig]) -> TrainedCollaboration:
    """The collaboration with changed experts."""
    experts = tuple(map(change, trained.collaboration.experts))
    return replace(trained, collaboration=trained.collaboration.model_copy(update={"experts": experts}))


def with_copies(
    trained: TrainedCollaboration, ingresses: int, routers: int, expert: Callable[[ExpertConfig], ExpertConfig]
) -> TrainedCollaboration:
    """The collaboration with so many ingresses, on the head, and routers, and with changed experts.

    What clients are connected to is not to be killed: their connections cannot go on elsewhere.
    """
    collaboration = with_experts(trained, expert).collaboration
    base = collaboration.base.model_copy(update={"replicas": routers})
    serving = collaboration.serving.model_copy(update={"ingresses": ingresses, "labels": {NODE: "head"}})
    return replace(trained, collaboration=collaboration.model_copy(update={"base": base, "serving": serving}))


@contextmanager
def town(trained: TrainedCollaboration, cluster: LocalCluster, data: Path, port: int) -> Iterator[Town]:
    """The collaboration served from the cluster for as long as the body runs; `data` has the questions."""
    with (
        ray_session(cluster.environment["RAY_ADDRESS"], trained.collaboration),
        serving_http(trained, "127.0.0.1", port, proxies="HeadOnly") as url,
    ):
        yield Town(trained, cluster, url, data, questions(data))
