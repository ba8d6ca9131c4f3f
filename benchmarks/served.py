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
from colllm_ray.decoding.team import Team
from colllm_ray.decoding.team_spec import AnswerRequest, TeamSpec
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.stepper import StepTimes
from colllm_ray.serving.application import running
from colllm_ray.serving.deployments import ALL, replica_options
from colllm_ray.serving.expert import Expert
from colllm_ray.serving.router import Router
from colllm_ray.serving.router_client import router_client

_Router: Any = Router.func_or_class  # type: ignore[attr-defined]  # the classes below their deployments
_Expert: Any = Expert.func_or_class  # type: ignore[attr-defined]


class _Metered:
    """What forward passes of the replica's engine cost."""

    _engine: Engine

    async def meter(self, at: int) -> None:
        """Texts are `at` tokens long, about."""
        self._meter = CostMeter(self._engine, at)

    async def sample(self) -> None:
        self._meter.sample()

    async def costs(self) -> StepCosts:
        return self._meter.costs()


class MeasuredRouter(_Metered, _Router):
    """The router, which follows a script where it has one, and says how long its tokens and its steps take."""

    def __init__(self, script: Script | None, spec: TeamSpec, *experts: DeploymentHandle) -> None:
        super().__init__(spec, *experts)
        self._team: Team
        self._spec = spec
        self._experts = experts
        self._engine: Engine = self._base.engine
        self._follow(script)

    async def follow(self, script: Script) -> None:
        """From now on this script holds, and nothing that was learned from another."""
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
        if script is not None:
            self._base.engine = ScriptedEngine(self._engine, script, 0)


class MeasuredExpert(_Metered, _Expert):
    """The expert, likewise."""

    def __init__(self, script: Script | None, author: int, *arguments: object) -> None:
        super().__init__(*arguments)
        self._author = author
        self._engine: Engine = self._stepper.engine
        self._follow(script)

    async def follow(self, script: Script) -> None:
        self._follow(script)

    def _follow(self, script: Script | None) -> None:
        if script is not None:
            self._stepper.engine = ScriptedEngine(self._engine, script, self._author)


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

    def follow(self, script: Script) -> None:
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
