"""One expert on its own replica: a language model that holds sessions."""

from __future__ import annotations

from ray import serve

from colllm_ray.config import ModelConfig
from colllm_ray.decoding.team import member_stepper
from colllm_ray.engine.messages import Behind, Extend, Extended


@serve.deployment
class Expert:
    """The remote side of `ExpertLink`."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        self._stepper = member_stepper(config, vocab_size)

    async def extend(self, request: Extend) -> Extended | Behind:
        return await self._stepper.extend(request)

    async def close(self, session: str) -> None:
        await self._stepper.close(session)
