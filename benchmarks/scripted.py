"""Collaborations of random models whose deferrals are scripted: real forward passes, known decisions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from benchmarks.models import CONTEXT, FIRST_WORD, VOCABULARY, Size, write_model
from benchmarks.script import Script
from colllm_ray.config import Collaboration
from colllm_ray.decoding.team import Team, base_stepper, member_stepper
from colllm_ray.decoding.team_spec import AnswerRequest, TeamSpec
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.deferral.calibration import Calibration
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.messages import Choice, Extend, Extended, Reply
from colllm_ray.engine.stepper import Stepper
from colllm_ray.engine.stepping import StepsTexts
from colllm_ray.engine.weights import weights_revision

SURE = 20.0  # the score of a choice that is certain
PAUSE_EVERY = 48  # tokens

Pause = Callable[[], Awaitable[None]]


class ScriptedEngine:
    """An engine that computes all, and then says what the script says.

    A text's first token seeds its script, so that no two answers are alike.
    """

    def __init__(self, engine: StepsTexts, script: Script, author: int) -> None:
        self._engine, self._script, self._author = engine, script, author
        self._scripts: dict[str, Script] = {}
        self.sessions, self.context = engine.sessions, engine.context

    @property
    def session_count(self) -> int:
        return self._engine.session_count

    @property
    def evictions(self) -> int:
        return self._engine.evictions

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
    sessions = {"max_sessions": 8, "num_cpus": 0.1, "reuse_prefixes": False}
    collaboration = Collaboration.model_validate(
        {
            "name": f"random-{experts}",
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
    """A collaboration in this process: the base's stepper and each expert's."""

    def __init__(self, spec: TeamSpec, steppers: Sequence[Stepper]) -> None:
        self._steppers = list(steppers)
        self.engines = [stepper.engine for stepper in self._steppers]
        self._team = Team(spec, self._steppers)

    @classmethod
    def load(cls, spec: TeamSpec) -> Local:
        experts = spec.trained.collaboration.experts
        steppers = [member_stepper(config, spec.vocab_size, spec.context) for config in experts]
        return cls(spec, [base_stepper(spec), *steppers])

    def follow(self, script: Script) -> None:
        """From now on this script holds."""
        for author, (stepper, engine) in enumerate(zip(self._steppers, self.engines, strict=True)):
            stepper.engine = ScriptedEngine(engine, script, author)

    def step_seconds(self) -> list[float]:
        """Of each model so far."""
        return [stepper.times.seconds for stepper in self._steppers]

    async def timed(self, request: AnswerRequest, pause: Pause | None = None) -> tuple[list[WrittenToken], list[float]]:
        """The answer, and for each token the seconds since the one before."""
        return await timed(self._team.answer(request), pause)


async def timed(
    answer: AsyncIterator[WrittenToken], pause: Pause | None = None
) -> tuple[list[WrittenToken], list[float]]:
    """The answer, and for each token the seconds since the one before.

    There is a `pause` every PAUSE_EVERY tokens and at the end. The clock stops meanwhile, and so does a plain answer,
    which is written while somebody asks for the next token.
    """
    written, seconds, before = [], [], perf_counter()
    async for token in answer:
        seconds.append(perf_counter() - before)
        written.append(token)
        if pause is not None and len(written) % PAUSE_EVERY == 0:
            await pause()
        before = perf_counter()
    if pause is not None and len(written) % PAUSE_EVERY:
        await pause()
    return written, seconds
