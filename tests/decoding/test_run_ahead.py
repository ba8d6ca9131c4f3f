"""Running ahead writes what the plain loop writes, whatever is guessed and whenever the models answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colllm_ray.config import ModelConfig
from colllm_ray.decoding.account import Account
from colllm_ray.decoding.loop import decode
from colllm_ray.decoding.model_client import ModelClient, ModelFailedError
from colllm_ray.decoding.pace import LONG_GAP, Pace
from colllm_ray.decoding.run_ahead import decode_ahead
from colllm_ray.decoding.written import Terms, WrittenToken
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.messages import Deliver, Extend, Failed, Reply, Sampling
from colllm_ray.engine.stepper import Stepper
from tests.conftest import CONTEXT

ModelFolder = Callable[[str, int], Path]


class Eager(Pace):
    """Guesses at every chance."""

    def is_worth_a_guess(self, author: int, unanswered: int) -> bool:  # noqa: ARG002
        return True

    def draft(self, author: int) -> int:  # noqa: ARG002
        return 3

    def follows(self, author: int, gap: int) -> bool:  # noqa: ARG002
        return True


class Far:
    """A model at a distance: its requests and its replies each take some turns of the event loop, in order."""

    works_beside = True

    def __init__(self, stepper: Stepper, rng: random.Random, slowest: int) -> None:
        self._stepper, self._rng, self._slowest = stepper, rng, slowest
        self._way = asyncio.Queue[Callable[[], None]]()
        self._back = asyncio.Queue[Callable[[], None]]()
        self.tasks = [asyncio.create_task(self._carry(way)) for way in (self._way, self._back)]

    def post(self, request: Extend, deliver: Deliver) -> None:
        def reply(reply: Reply) -> None:
            self._back.put_nowait(lambda: deliver(reply))

        self._way.put_nowait(lambda: self._stepper.post(request, reply))

    def close_session(self, session: str) -> None:
        self._way.put_nowait(lambda: self._stepper.close_session(session))

    async def _carry(self, way: asyncio.Queue[Callable[[], None]]) -> None:
        while True:
            arrive = await way.get()
            for _ in range(self._rng.randint(0, self._slowest)):
                await asyncio.sleep(0)
            arrive()


class Broken:
    """A model that fails at all questions after the first few."""

    works_beside = True

    def __init__(self, stepper: Stepper, after: int) -> None:
        self._stepper, self._left = stepper, after

    def post(self, request: Extend, deliver: Deliver) -> None:
        self._left -= 1
        if self._left >= 0:
            self._stepper.post(request, deliver)
        else:
            asyncio.get_running_loop().call_soon(deliver, Failed(request.session, request.number, "on fire"))

    def close_session(self, session: str) -> None:
        self._stepper.close_session(session)


@pytest.fixture(scope="module")
def models(model_folder: ModelFolder) -> list[LanguageModel]:
    """A base and two experts, one of which is the base again, so that some guesses come true."""
    folders = [model_folder("llama", 0), model_folder("llama", 0), model_folder("mistral", 1)]
    return [LanguageModel.load(ModelConfig(model=str(folder)), 300) for folder in folders]


def steppers(models: Sequence[LanguageModel], seed: int, sessions: int = 8) -> list[Stepper]:
    base, *experts = models
    torch.manual_seed(seed)
    head = DeferralHead(base.hidden_size, len(experts))
    torch.nn.init.normal_(head.weight, std=0.3)
    return [
        Stepper(Engine(base, sessions, CONTEXT, head)),
        *(Stepper(Engine(expert, sessions, CONTEXT)) for expert in experts),
    ]


async def written(
    base: ModelClient,
    experts: Sequence[ModelClient],
    pace: Pace | None,
    terms: Terms,
    eta: float,
    account: Account | None = None,
) -> list[WrittenToken]:
    prompt = [5, 6, 7]
    if pace is None:
        return [token async for token in decode(base, experts, prompt, eta, terms, account)]
    return [token async for token in decode_ahead(base, experts, prompt, eta, terms, pace, account)]


def alike(one: Sequence[WrittenToken], other: Sequence[WrittenToken]) -> bool:
    """Equal, but for what rounding does to probabilities when tokens are computed together."""
    return len(one) == len(other) and all(
        (a.token, a.author) == (b.token, b.author)
        and a.logprob == pytest.approx(b.logprob, abs=1e-4)
        and a.p_defer == pytest.approx(b.p_defer, abs=1e-4)
        for a, b in zip(one, other, strict=True)
    )


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 1000),
    eta=st.sampled_from([0.2, 0.4, 0.6, 0.8]),
    slowest=st.sampled_from([0, 3, 20]),
    eager=st.booleans(),
    sessions=st.sampled_from([1, 2, 8]),
    sampling=st.one_of(
        st.none(), st.builds(Sampling, st.sampled_from([0.3, 1.0]), st.sampled_from([0.5, 1.0]), st.integers(0, 99))
    ),
)
def test_two_answers_at_once_are_those_of_the_plain_loop(
    models: list[LanguageModel],
    seed: int,
    eta: float,
    slowest: int,
    eager: bool,
    sessions: int,
    sampling: Sampling | None,
) -> None:
    terms = Terms(max_tokens=16, end_tokens={17, 33}, sampling=sampling)

    async def run() -> None:
        base, *experts = steppers(models, seed, sessions)
        plain = await written(base, experts, None, terms, eta)
        far = [Far(expert, random.Random(seed), slowest) for expert in experts]
        pace = Eager(2) if eager else Pace(2)
        answers = [written(base, far, pace, terms, eta) for _ in range(2)]
        for ahead in await asyncio.gather(*answers):
            assert alike(ahead, plain)
        for task in (task for each in far for task in each.tasks):
            task.cancel()

    asyncio.run(run())


def test_guesses_that_come_true_save_expert_steps(models: list[LanguageModel]) -> None:
    """The first expert is the base itself: the base is always right about it."""
    terms = Terms(max_tokens=40, end_tokens=set())

    async def steps(pace: Pace | None) -> int:
        base, expert = steppers(models[:2], seed=3)
        far = Far(expert, random.Random(0), 40)
        answer = await written(base, [far], pace, terms, 0.5)
        for task in far.tasks:
            task.cancel()
        assert 5 < sum(token.author for token in answer) < 36
        return expert.times.steps

    class Guessing(Eager):
        def draft(self, author: int) -> int:  # noqa: ARG002
            return 0

        def follows(self, author: int, gap: int) -> bool:  # noqa: ARG002
            return False

    assert asyncio.run(steps(Guessing(1))) <= asyncio.run(steps(None)) / 2


def test_a_model_that_fails_ends_the_answer(models: list[LanguageModel]) -> None:
    async def run(pace: Pace | None) -> None:
        base, *experts = steppers(models, seed=3)
        with pytest.raises(ModelFailedError, match="on fire"):
            await written(base, [Broken(experts[0], 0), experts[1]], pace, Terms(30, set()), 0.0)
        assert base.engine.session_count == 0

    asyncio.run(run(None))
    asyncio.run(run(Pace(2)))


@pytest.mark.parametrize("after", [0, 1, 4])
def test_an_answer_goes_on_without_an_expert_that_fails(models: list[LanguageModel], after: int) -> None:
    """The tokens up to some place are those of all experts, and from there on those of the ones that are left."""
    terms = Terms(30, set(), needs_all=False)

    async def run(pace: Pace | None) -> None:
        base, *experts = steppers(models, seed=3)
        account = Account()
        clients: list[ModelClient] = [Broken(experts[0], after), experts[1]]
        got = await written(base, clients, pace, terms, 0.4, account)
        assert account.lost == [1]
        assert any(token.author == 1 for token in got) == (after > 0)
        full = await written(base, experts, None, terms, 0.4)
        assert any([alike(got, full[:n] + await without_first(base, experts, full[:n], terms)) for n in range(30)])

    async def without_first(
        base: ModelClient, experts: Sequence[ModelClient], begin: Sequence[WrittenToken], terms: Terms
    ) -> list[WrittenToken]:
        text = [5, 6, 7, *(token.token for token in begin)]
        rest = replace(terms, max_tokens=terms.max_tokens - len(begin), masked={1})
        return [token async for token in decode(base, experts, text, 0.4, rest)]

    for pace in (None, Pace(2), Eager(2)):
        asyncio.run(run(pace))


def test_guesses_stop_where_they_fail_and_start_where_they_come_true() -> None:
    pace = Pace(2)
    for _ in range(30):
        pace.saw_deferral(1, base_agrees=True)
        pace.saw_deferral(2, base_agrees=False)
        pace.saw_next(1, goes_on=True)
        pace.saw_next(2, goes_on=False)
    assert pace.is_worth_a_guess(1, unanswered=3)
    assert not pace.is_worth_a_guess(2, unanswered=0)
    assert pace.draft(1) > 2
    assert pace.draft(2) == 0
    for _ in range(30):
        pace.saw_deferral(1, base_agrees=False)
    assert not pace.is_worth_a_guess(1, unanswered=0)


def test_an_expert_follows_where_it_keeps_up_or_has_much_to_take_in() -> None:
    pace = Pace(2)
    pace.saw_answer(0, 0.001)
    pace.saw_answer(1, 0.002)
    pace.saw_answer(2, 0.005)
    assert pace.follows(1, gap=1)
    assert not pace.follows(2, gap=1)
    assert pace.follows(2, gap=LONG_GAP)
    with pace.answering(), pace.answering(), pace.answering():
        assert not pace.follows(1, gap=1)
    assert pace.follows(1, gap=1)


def test_an_account_says_what_an_answer_cost(models: list[LanguageModel]) -> None:
    """Without guesses the base is asked for every token, an expert for each of its own."""
    terms = Terms(30, set())

    async def run(pace: Pace | None) -> tuple[Account, list[WrittenToken]]:
        base, *experts = steppers(models, seed=3)
        account = Account()
        return account, await written(base, experts, pace, terms, 0.4, account)

    plain, answer = asyncio.run(run(None))
    deferred = [sum(token.author == k for token in answer) for k in (1, 2)]
    assert plain.calls(3) == (30, *deferred)
    assert min(deferred) > 0
    assert (plain.guessed, plain.right) == (0, 0)
    ahead, _ = asyncio.run(run(Eager(2)))
    assert min(ahead.calls(3)) > 0
    assert 0 < ahead.right < ahead.guessed
