"""A sweep over thresholds gives what decoding each of them does, with far fewer forward passes."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from colllm_ray.decoding.account import Account
from colllm_ray.decoding.known import Known
from colllm_ray.decoding.rivals.choosing import EntropyThreshold
from colllm_ray.decoding.rivals.mixing import Average
from colllm_ray.decoding.team import Team
from colllm_ray.decoding.team_spec import AnswerRequest
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.errors import ColllmError
from tests.collaborations import random_collaboration

PROMPTS = ((5, 6, 7), (40, 41, 42, 43, 44))
TOKENS = 20
ETAS = [i / 20 for i in range(21)]


@pytest.fixture(scope="module")
def team(model_folder: Callable[[str, int], Path]) -> Team:
    return Team.in_process(random_collaboration(model_folder, "llama", ["mistral", "qwen3"]))


async def decoded(team: Team, request: AnswerRequest) -> tuple[list[WrittenToken], int]:
    """The answer, and its forward passes."""
    account = Account()
    tokens = [token async for token in team.answer(request, account)]
    return tokens, sum(account.passes(3))


def told(tokens: list[WrittenToken]) -> list[tuple[int, int]]:
    return [(token.token, token.author) for token in tokens]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_each_threshold_has_the_answer_of_the_plain_loop(team: Team, prompt: tuple[int, ...]) -> None:
    async def check() -> None:
        known = Known.nothing(3)
        answers = await team.sweep(AnswerRequest(prompt, TOKENS), ETAS, known)
        anew = [await decoded(team, AnswerRequest(prompt, TOKENS, eta=eta)) for eta in ETAS]
        for answer, (expected, _) in zip(answers, anew, strict=True):
            assert told(answer) == told(expected)
            assert [token.p_defer for token in answer] == pytest.approx([token.p_defer for token in expected], abs=1e-5)
        assert len({tuple(told(answer)) for answer in answers}) > 3
        assert sum(known.passes) < 0.6 * sum(passes for _, passes in anew)

    asyncio.run(check())


def test_what_is_known_costs_nothing_wherever_it_has_travelled(team: Team) -> None:
    async def check() -> None:
        request = AnswerRequest(PROMPTS[0], TOKENS)
        known = Known.nothing(3)
        first = await team.sweep(request, ETAS[::4], known)
        travelled: Known = pickle.loads(pickle.dumps(known))  # noqa: S301 (made here)
        before = sum(travelled.passes)
        assert [told(answer) for answer in await team.sweep(request, ETAS[::4], travelled)] == list(map(told, first))
        assert sum(travelled.passes) == before
        more = await team.sweep(request, ETAS, travelled)
        assert told(more[4]) == told(first[1])
        assert sum(travelled.passes) > before

    asyncio.run(check())


def test_uncertainties_are_swept_as_well(team: Team) -> None:
    async def check() -> None:
        known, etas = Known.nothing(3), [0.0, 0.98, 0.987, 0.99, 1.0]
        request = AnswerRequest(PROMPTS[1], TOKENS, rival=EntropyThreshold(0.5))
        answers = await team.sweep(request, etas, known)
        for eta, answer in zip(etas, answers, strict=True):
            expected, _ = await decoded(team, AnswerRequest(PROMPTS[1], TOKENS, rival=EntropyThreshold(eta)))
            assert told(answer) == told(expected)
        with pytest.raises(ColllmError, match="Average: has no threshold"):
            await team.sweep(AnswerRequest(PROMPTS[1], TOKENS, rival=Average()), etas, Known.nothing(3))

    asyncio.run(check())
