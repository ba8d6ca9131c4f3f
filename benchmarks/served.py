"""Collaborations behind Ray Serve that say how long their tokens and steps take, and that a script may decide for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from benchmarks.costs import CostMeter, StepCosts
from benchmarks.measured import Answer
from benchmarks.rivals.ask_all import AskingAll
from benchmarks.script import Script
from benchmarks.scripted import ScriptedEngine, timed
from colllm_ray.config import ExpertConfig
from colllm_ray.decoding.team import Team
from colllm_ray.decoding.team_spec import AnswerRequest, TeamSpec
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.engine.stepper import Stepper
from colllm_ray.engine.stepping import StepsTexts, StepTimes
from colllm_ray.serving.application import running
from colllm_ray.serving.deployments import ALL, replica_options
from colllm_ray.serving.expert import ExpertReplica
from colllm_ray.serving.router import RouterReplica
from colllm_ray.serving.router_client import router_client


class _Metered:
    """What forward passes of the replica's engine cost."""

    _engine: StepsTexts

    async def meter(self, at: int) -> None:
        """Texts are `at` tokens long, about."""
        self._meter = CostMeter(self._engine, at)

    async def sample(self) -> None:
        self._meter.sample()

    async def costs(self) -> StepCosts:
        return self._meter.costs()


class MeasuredRouter(_Metered, RouterReplica):
    """The router, which follows a script where it has one, and says how long its tokens and its steps take."""

    def __init__(self, script: Script | None, spec: TeamSpec, *experts: DeploymentHandle) -> None:
        super().__init__(spec, *experts)
        self._engine = self._base.engine
        self._follow(script)

    async def follow(self, script: Script | None) -> None:
        """From now on this script holds, or none, and nothing that was learned before."""
        self._follow(script)
        self._team = Team(self._spec, self._team.clients)

    async def metered(self, request: AnswerRequest) -> tuple[list[WrittenToken], list[float], float]:
        """The answer, the seconds of each token, and those of its pauses: in plain ones, costs are sampled."""
        sampling = 0.0

        async def sample_all() -> None:
            nonlocal sampling
            begin = perf_counter()
            await self.sample()
            for expert in self._experts:
                await expert.sample.remote()
            sampling += perf_counter() - begin

        # Models that run ahead work while nobody asks for a token, and a step longer: there is no sampling beside them.
        written, seconds = await timed(self._team.answer(request), sample_all if request.run_ahead == "off" else None)
        return written, seconds, sampling

    async def timed_asking_all(self, request: AnswerRequest) -> tuple[list[WrittenToken], list[float]]:
        return await timed(self._team.answer(replace(request, rival=AskingAll(0.5), eta=None)))

    def _follow(self, script: Script | None) -> None:
        self._base.engine = self._engine if script is None else ScriptedEngine(self._engine, script, 0)


class MeasuredExpert(_Metered, ExpertReplica):
    """The expert, likewise."""

    def __init__(
        self,
        script: Script | None,
        author: int,
        config: ExpertConfig,
        collaboration: str,
        vocab_size: int,
        context: int,
    ) -> None:
        super().__init__(config, collaboration, vocab_size, context)
        assert isinstance(self._stepper, Stepper), "a replica of a model steps its engine"
        self._front = self._stepper
        self._author = author
        self._engine = self._front.engine
        self._follow(script)

    async def follow(self, script: Script | None) -> None:
        self._follow(script)

    def _follow(self, script: Script | None) -> None:
        self._front.engine = self._engine if script is None else ScriptedEngine(self._engine, script, self._author)


def forgetful(trained: TrainedCollaboration) -> TrainedCollaboration:
    """The collaboration with models that find nothing of earlier answers: each answer is measured like the first."""
    collaboration = trained.collaboration
    update = {"reuse_prefixes": False}
    base, *experts = (config.model_copy(update=update) for config in collaboration.members.values())
    return replace(trained, collaboration=collaboration.model_copy(update={"base": base, "experts": tuple(experts)}))


class Served:
    """A collaboration behind Ray Serve: each model in a process of its own."""

    def __init__(self, application: str, router: DeploymentHandle, experts: Sequence[str]) -> None:
        self.router = router_client(router)
        self.experts = [serve.get_deployment_handle(f"Expert-{name}", application) for name in experts]

    def meter(self, at: int) -> None:
        """From now on `answers` samples what forward passes cost, on texts of about `at` tokens."""
        self._of_each("meter", at)

    def answers(self, requests: Sequence[AnswerRequest]) -> list[Answer]:
        """One after the other, after `meter`; models' seconds in steps are shared out evenly.

        The seconds of the whole are what the caller waited, without the sampling.
        """
        before = self.step_times()
        timed = [self._metered(request) for request in requests]
        steps = [
            (now.seconds - then.seconds) / len(requests) for now, then in zip(self.step_times(), before, strict=True)
        ]
        return [Answer(written, each, wall, steps) for written, each, wall in timed]

    def costs(self) -> list[StepCosts]:
        """Of each model, the base first, since `meter`."""
        return self._of_each("costs")

    def step_times(self) -> list[StepTimes]:
        """Of each model so far, the base first."""
        return self._of_each("times")

    def follow(self, script: Script | None) -> None:
        """From now on this script holds, or none; nothing is known of what was answered before."""
        self._of_each("follow", script)

    def _metered(self, request: AnswerRequest) -> tuple[list[WrittenToken], list[float], float]:
        begin = perf_counter()
        written, seconds, sampling = self.router.metered.remote(request).result()
        return written, seconds, perf_counter() - begin - sampling

    def _of_each(self, method: str, *arguments: object) -> list[Any]:
        return [getattr(handle, method).remote(*arguments).result() for handle in (self.router, *self.experts)]


@contextmanager
def served(spec: TeamSpec, script: Script | None) -> Iterator[Served]:
    """The collaboration on the Ray of this session; with a script, its decisions."""
    collaboration = spec.trained.collaboration
    experts = [
        serve.deployment(MeasuredExpert)
        .options(name=f"Expert-{config.name}", max_ongoing_requests=ALL, **replica_options(config, spec.serving))
        .bind(script, author, config, spec.name, spec.vocab_size, spec.context)
        for author, config in enumerate(collaboration.experts, start=1)
    ]
    options = replica_options(collaboration.base, spec.serving)
    router = serve.deployment(MeasuredRouter).options(max_ongoing_requests=ALL, **options)
    name = f"{collaboration.name}-benchmark"
    with running(router.bind(script, spec, *experts), name) as handle:
        yield Served(name, handle, [config.name for config in collaboration.experts])
