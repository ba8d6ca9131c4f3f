"""Collaborations of random models whose deferrals are scripted: real forward passes, real serving, known decisions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from benchmarks.costs import StepCosts, measure
from benchmarks.models import CONTEXT, FIRST_WORD, VOCABULARY, Size, write_model
from benchmarks.rivals.ask_all import decode_asking_all
from benchmarks.script import Script
from colllm_ray.config import Collaboration, ModelConfig
from colllm_ray.decoding.team import AnswerRequest, Team, TeamSpec, base_stepper, member_stepper
from colllm_ray.decoding.written import Terms, WrittenToken
from colllm_ray.deferral.calibration import Calibration
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.language_model import LanguageModel, weights_revision
from colllm_ray.engine.messages import Choice, Extend, Extended, Reply
from colllm_ray.engine.stepper import StepTimes
from colllm_ray.serving.application import replica_options, running
from colllm_ray.serving.expert import Expert
from colllm_ray.serving.router import Router, router_client

_Router: Any = Router.func_or_class  # type: ignore[attr-defined]  # the classes below their deployments
_Expert: Any = Expert.func_or_class  # type: ignore[attr-defined]

SURE = 20.0  # the score of a choice that is certain


class ScriptedEngine:
    """An engine that computes all, and then says what the script says.

    A text's first token seeds its script, so that no two answers are alike.
    """

    def __init__(self, engine: Engine, script: Script, author: int) -> None:
        self._engine, self._script, self._author = engine, script, author
        self._scripts: dict[str, Script] = {}
        self.sessions, self.context = engine.sessions, engine.context

    def extend(self, requests: Sequence[Extend]) -> list[Reply]:
        for request in requests:
            if request.start == 0:
                self._scripts[request.session] = of_text(self._script, request.tokens)
        return [self._scripted(reply) for reply in self._engine.extend(requests)]

    def close(self, session: str) -> None:
        self._scripts.pop(session, None)
        self._engine.close(session)

    def _scripted(self, reply: Reply) -> Reply:
        if not isinstance(reply, Extended):
            return reply
        script = self._scripts[reply.session]
        choices = (self._choice(script, index) for index in range(reply.index, reply.index + len(reply.choices)))
        return replace(reply, choices=tuple(choices))

    def _choice(self, script: Script, index: int) -> Choice:
        token = script.token(index, self._author)
        if self._author:
            return Choice(token, 0.0)
        writes = script.author(index)
        return Choice(token, 0.0, tuple(SURE if k == writes else 0.0 for k in range(script.experts + 1)))


def of_text(script: Script, text: Sequence[int]) -> Script:
    """The script of one text."""
    return replace(script, seed=script.seed * VOCABULARY + text[0])


def prompt(answer: int, tokens: int) -> tuple[int, ...]:
    """A prompt of its own for each answer."""
    return tuple(FIRST_WORD + (answer * 7 + i * 13) % (VOCABULARY - FIRST_WORD) for i in range(tokens))


def script(frequency: float, agreement: float, experts: int = 1, spread: bool = False, seed: int = 0) -> Script:
    return Script(frequency, agreement, experts, seed, spread, FIRST_WORD, VOCABULARY)


def random_spec(folder: Path, base: Size, expert: Size, experts: int) -> TeamSpec:
    """A collaboration of random models; its head is never asked, for the script decides."""
    sessions = {"max_sessions": 8, "num_cpus": 0.1}
    collaboration = Collaboration.model_validate(
        {
            "name": "random",
            "base": {"model": str(write_model(folder, base, 0)), **sessions},
            "experts": [
                {"name": f"e{k}", "model": str(write_model(folder, expert, k)), **sessions}
                for k in range(1, experts + 1)
            ],
            "data": {"train": "none", "validation": "none"},
        }
    )
    width = LanguageModel.load(collaboration.base, VOCABULARY).hidden_size
    head = DeferralHead(width, experts)
    trained = TrainedCollaboration(collaboration, head, Calibration(0.5, ()), weights_revision(collaboration.base))
    return replace(TeamSpec.of(trained), end_tokens=frozenset(), context=CONTEXT)


class Local:
    """The collaboration in this process."""

    def __init__(self, spec: TeamSpec) -> None:
        experts = spec.trained.collaboration.experts
        self._steppers = [
            base_stepper(spec),
            *(member_stepper(config, spec.vocab_size, spec.context) for config in experts),
        ]
        self.engines = [stepper.engine for stepper in self._steppers]
        self._team = Team(spec, self._steppers)

    def follow(self, script: Script) -> None:
        """From now on this script holds."""
        for author, (stepper, engine) in enumerate(zip(self._steppers, self.engines, strict=True)):
            stepper.engine = ScriptedEngine(engine, script, author)  # type: ignore[assignment]

    def step_seconds(self) -> list[float]:
        """Of each model so far."""
        return [stepper.times.seconds for stepper in self._steppers]

    async def timed(self, request: AnswerRequest) -> tuple[list[WrittenToken], list[float]]:
        """The answer, and for each token the seconds since the one before."""
        return await timed(self._team.answer(request))


async def timed(answer: AsyncIterator[WrittenToken]) -> tuple[list[WrittenToken], list[float]]:
    """The answer, and for each token the seconds since the one before."""
    written, seconds, before = [], [], perf_counter()
    async for token in answer:
        now = perf_counter()
        written.append(token)
        seconds.append(now - before)
        before = now
    return written, seconds


class MeasuredRouter(_Router):
    """The router, which follows a script where it has one, and says how long its tokens and its steps take."""

    def __init__(self, script: Script | None, spec: TeamSpec, *experts: DeploymentHandle) -> None:
        super().__init__(spec, *experts)
        self._team: Team
        self._spec = spec
        self._engine: Engine = self._base.engine
        self._follow(script)

    async def follow(self, script: Script) -> None:
        """From now on this script holds, and nothing that was learned from another."""
        self._follow(script)
        self._team = Team(self._spec, self._team.clients)

    async def timed(self, request: AnswerRequest) -> tuple[list[WrittenToken], list[float]]:
        return await timed(self._team.answer(request))

    async def timed_asking_all(self, request: AnswerRequest) -> tuple[list[WrittenToken], list[float]]:
        base, *experts = self._team.clients
        terms = Terms(request.max_tokens or CONTEXT, self._spec.end_tokens)
        return await timed(decode_asking_all(base, experts, request.prompt, 0.5, terms))

    async def costs(self, at: int) -> StepCosts:
        return measure(self._engine, at)

    def _follow(self, script: Script | None) -> None:
        if script is not None:
            self._base.engine = ScriptedEngine(self._engine, script, 0)


class MeasuredExpert(_Expert):
    """The expert, likewise."""

    def __init__(self, script: Script | None, author: int, config: ModelConfig, vocab_size: int, context: int) -> None:
        super().__init__(config, vocab_size, context)
        self._author = author
        self._engine: Engine = self._stepper.engine
        self._follow(script)

    async def follow(self, script: Script) -> None:
        self._follow(script)

    async def costs(self, at: int) -> StepCosts:
        return measure(self._engine, at)

    def _follow(self, script: Script | None) -> None:
        if script is not None:
            self._stepper.engine = ScriptedEngine(self._engine, script, self._author)


class Served:
    """A collaboration behind Ray Serve: each model in a process of its own."""

    def __init__(self, application: str, router: DeploymentHandle, experts: Sequence[str]) -> None:
        self.router = router_client(router)
        self.experts = [serve.get_deployment_handle(f"Expert-{name}", application) for name in experts]

    def timed(self, request: AnswerRequest) -> tuple[list[WrittenToken], list[float], float]:
        """The answer, the seconds of each token as the router saw them, and of the whole as the caller did."""
        begin = perf_counter()
        written, seconds = self.router.timed.remote(request).result()
        return written, seconds, perf_counter() - begin

    def costs(self, at: int) -> list[StepCosts]:
        """Of each model, the base first, on its own replica, while nothing else runs."""
        return [handle.costs.remote(at).result() for handle in (self.router, *self.experts)]

    def step_times(self) -> list[StepTimes]:
        """Of each model so far, the base first."""
        return [handle.times.remote().result() for handle in (self.router, *self.experts)]

    def step_seconds(self) -> list[float]:
        return [times.seconds for times in self.step_times()]

    def follow(self, script: Script) -> None:
        for handle in (self.router, *self.experts):
            handle.follow.remote(script).result()


@contextmanager
def served(spec: TeamSpec, script: Script | None) -> Iterator[Served]:
    """The collaboration on the Ray of this session; with a script, its decisions."""
    collaboration = spec.trained.collaboration
    experts = [
        serve.deployment(MeasuredExpert)
        .options(name=f"Expert-{config.name}", **replica_options(config))
        .bind(script, author, config, spec.vocab_size, spec.context)
        for author, config in enumerate(collaboration.experts, start=1)
    ]
    router = serve.deployment(MeasuredRouter).options(**replica_options(collaboration.base))
    name = f"{collaboration.name}-benchmark"
    with running(router.bind(script, spec, *experts), name) as handle:
        yield Served(name, handle, [config.name for config in collaboration.experts])
