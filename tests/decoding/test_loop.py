"""The loop against the brute-force decoder: other architectures, thresholds, and caches under pressure."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from colllm_ray.decoding.team import Team
from colllm_ray.decoding.team_spec import AnswerRequest
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.errors import ColllmError
from tests.collaborations import random_collaboration
from tests.conftest import CONTEXT
from tests.oracles import brute_force_answer, load_all

ModelFolder = Callable[[str, int], Path]


async def answer(team: Team, request: AnswerRequest) -> list[tuple[int, int]]:
    return [(written.token, written.author) async for written in team.answer(request)]


@pytest.mark.parametrize(
    ("base", "experts"),
    [("llama", ["mistral", "qwen3"]), ("gpt_neox", ["llama", "llama", "mistral"]), ("mistral", ["gpt_neox"])],
)
@pytest.mark.parametrize("eta", [0.0, 0.4, 0.6, 1.0])
@pytest.mark.parametrize("run_ahead", ["auto", "off"])
def test_answers_are_those_of_brute_force(
    base: str,
    experts: list[str],
    eta: float,
    run_ahead: Literal["auto", "off"],
    model_folder: ModelFolder,
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    trained = random_collaboration(model_folder, base, experts)
    prompt = tuple(tokenizer("the quick brown")["input_ids"])
    got = asyncio.run(
        answer(Team.in_process(trained), AnswerRequest(prompt, max_tokens=20, eta=eta, run_ahead=run_ahead))
    )
    end = int(tokenizer.eos_token_id)
    assert got == brute_force_answer(load_all(trained), trained, prompt, eta, 20, end)
    if eta == 0.0:
        assert all(author > 0 for _, author in got)
    if eta == 1.0:
        assert all(author == 0 for _, author in got)


@pytest.mark.parametrize("run_ahead", ["auto", "off"])
def test_experts_that_may_not_write_do_not(
    run_ahead: Literal["auto", "off"], model_folder: ModelFolder, tokenizer: PreTrainedTokenizerFast
) -> None:
    trained = random_collaboration(model_folder, "llama", ["mistral", "qwen3", "gpt_neox"])
    prompt, models = tuple(tokenizer("the quick brown")["input_ids"]), load_all(trained)
    end = int(tokenizer.eos_token_id)
    for experts, masked in ((("e1",), {1, 3}), (("e0", "e2"), {2}), ((), {1, 2, 3})):
        request = AnswerRequest(prompt, max_tokens=20, eta=0.3, run_ahead=run_ahead, experts=experts)
        got = asyncio.run(answer(Team.in_process(trained), request))
        assert got == brute_force_answer(models, trained, prompt, 0.3, 20, end, masked)
        assert not {author for _, author in got} & masked


def test_an_answer_that_ignores_the_end_goes_on_to_its_length(model_folder: ModelFolder) -> None:
    team = Team.in_process(random_collaboration(model_folder, "llama", ["mistral"]))
    team.spec = replace(team.spec, end_tokens=frozenset(range(team.spec.vocab_size)))
    assert len(asyncio.run(answer(team, AnswerRequest((5, 6), max_tokens=9)))) == 1
    assert len(asyncio.run(answer(team, AnswerRequest((5, 6), max_tokens=9, ignore_eos=True)))) == 9


def test_many_answers_at_once_with_room_for_few_are_those_of_one_at_a_time(
    model_folder: ModelFolder, tokenizer: PreTrainedTokenizerFast
) -> None:
    trained = random_collaboration(model_folder, "llama", ["mistral", "qwen3"], max_sessions=2)
    rng = random.Random(0)
    requests = [
        AnswerRequest(tuple(rng.randrange(4, 300) for _ in range(rng.randint(1, 8))), max_tokens=12) for _ in range(8)
    ]

    async def together() -> list[list[tuple[int, int]]]:
        team = Team.in_process(trained)
        return await asyncio.gather(*(answer(team, request) for request in requests))

    models, end = load_all(trained), int(tokenizer.eos_token_id)
    expected = [brute_force_answer(models, trained, request.prompt, 0.5, 12, end) for request in requests]
    assert asyncio.run(together()) == expected


@pytest.mark.parametrize("member", ["base", "e0", "e1"])
def test_a_member_alone_writes_all(member: str, model_folder: ModelFolder, tokenizer: PreTrainedTokenizerFast) -> None:
    trained = random_collaboration(model_folder, "llama", ["mistral", "qwen3"])
    prompt = tuple(tokenizer("the quick brown")["input_ids"])
    got = asyncio.run(answer(Team.in_process(trained), AnswerRequest(prompt, max_tokens=10, member=member)))
    author = ["base", "e0", "e1"].index(member)
    model = load_all(trained)[author]
    expected = list(prompt)
    for _ in got:
        with torch.no_grad():
            expected.append(int(model(torch.tensor([expected])).logits[0, -1].argmax()))
    assert got == [(token, author) for token in expected[len(prompt) :]]


def test_sessions_are_closed_however_an_answer_ends(model_folder: ModelFolder) -> None:
    trained = random_collaboration(model_folder, "llama", ["mistral"])

    async def run() -> list[int]:
        team = Team.in_process(trained)
        async for _ in team.answer(AnswerRequest((5, 6), max_tokens=5, eta=0.3)):
            pass
        left_early = team.answer(AnswerRequest((5, 6), max_tokens=5, eta=0.3))
        await anext(left_early)
        await left_early.aclose()
        return [client.engine.session_count for client in team.clients]  # type: ignore[attr-defined]

    assert asyncio.run(run()) == [0, 0]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (AnswerRequest(()), "at least one"),
        (AnswerRequest((5,) * CONTEXT), "context is 64"),
        (AnswerRequest((5,), max_tokens=CONTEXT), "context is 64"),
        (AnswerRequest((5,), member="nobody"), "there is no member 'nobody'; there are: base, e0"),
    ],
)
def test_what_cannot_be_answered_is_refused(request_: AnswerRequest, message: str, model_folder: ModelFolder) -> None:
    team = Team.in_process(random_collaboration(model_folder, "llama", ["mistral"]))
    with pytest.raises(ColllmError, match=message):
        team.answer(request_)


def test_an_answer_may_fill_the_context(model_folder: ModelFolder) -> None:
    team = Team.in_process(random_collaboration(model_folder, "llama", ["mistral"]))
    got = asyncio.run(answer(team, AnswerRequest((5, 6, 7), eta=0.0)))
    assert len(got) == CONTEXT - 3 or got[-1][0] in team.spec.end_tokens


def test_a_head_of_another_width_is_refused(model_folder: ModelFolder) -> None:
    trained = random_collaboration(model_folder, "llama", ["mistral"])
    with pytest.raises(ColllmError, match="width 32 and 1 experts, a head is for 31"):
        Team.in_process(replace(trained, head=DeferralHead(31, 1)))


def test_a_base_that_was_trained_on_is_refused(model_folder: ModelFolder) -> None:
    trained = random_collaboration(model_folder, "llama", ["mistral"])
    with pytest.raises(ColllmError, match="has other weights than when the head was trained"):
        Team.in_process(replace(trained, base_revision="older"))
