"""One expert on its own replica: a language model that holds sessions, reached over the link."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import ray
from ray import serve

from colllm_ray.config import ExpertConfig
from colllm_ray.decoding.team import member_stepper
from colllm_ray.engine.stepping import ServesTexts, StepTimes
from colllm_ray.engine.weights import weights_revision, weights_stamp
from colllm_ray.errors import ColllmError
from colllm_ray.link.server import LinkServer
from colllm_ray.serving.health import check_engine
from colllm_ray.serving.metrics import EngineMetrics

# Steps of niceness. Of CPUs that they share the base gets most, because every answer waits for it at every token.
ASIDE = 4


@dataclass(frozen=True)
class ReplicaAddress:
    """Where a replica listens, and what proves to it that Serve sent the caller."""

    host: str
    port: int
    secret: bytes = field(repr=False)


class Replica:
    """The remote side of `ExpertLink`, whatever serves the texts."""

    def __init__(self, stepper: ServesTexts, metrics: EngineMetrics) -> None:
        self._stepper = stepper
        self._metrics = metrics
        self._secret = secrets.token_bytes(32)
        self._link = LinkServer(stepper.post, stepper.close_session, self._secret)
        self._port: asyncio.Task[int] | None = None  # of the link, which needs a running loop to start

    async def check_health(self) -> None:
        """Lets Serve start this replica again where its engine hangs, or fails at whatever it is asked."""
        check_engine(self._stepper)

    async def times(self) -> StepTimes:
        """What this replica's engine did so far."""
        return self._stepper.times

    async def sessions(self) -> int:
        """Answers whose text this replica holds."""
        return self._stepper.engine.session_count

    async def hold(self, lease: str) -> AsyncIterator[ReplicaAddress]:
        """Says where the link is, and goes on for as long as the lease is held there; to be called as a stream.

        So Serve counts whoever needs this replica, and lets them finish before it takes the replica down.
        """
        self._metrics.follow(self._stepper)
        host = ray.util.get_node_ip_address()
        if self._port is None:
            self._port = asyncio.create_task(self._link.start(host))
        yield ReplicaAddress(host, await asyncio.shield(self._port), self._secret)  # who leaves ends it for nobody else
        await self._link.held(lease)


class ExpertReplica(Replica):
    """One that serves an expert's model."""

    def __init__(self, config: ExpertConfig, collaboration: str, vocab_size: int, context: int) -> None:
        if config.device == "cpu":
            os.nice(ASIDE)  # of this thread, which steps, and of those that torch starts from it
        self._config = config
        self._stamp = weights_stamp(config)
        self._revision: str | None = None
        super().__init__(member_stepper(config, vocab_size, context), EngineMetrics(collaboration, config.name))

    async def revision(self) -> str:
        """Names the weights that it has loaded, as `weights_revision` does.

        Raises ColllmError where other weights lie in their place now.
        """
        if self._revision is None:
            revision = await asyncio.to_thread(weights_revision, self._config)
            if weights_stamp(self._config) != self._stamp:
                raise ColllmError(
                    f"{self._config.model}: has other weights than when this replica loaded it; restart it"
                )
            self._revision = revision
        return self._revision


Expert = serve.deployment(name="Expert")(ExpertReplica)
