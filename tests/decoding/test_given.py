from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from colllm_ray.decoding.team import Team
from colllm_ray.decoding.team_spec import AnswerRequest
from colllm_ray.errors import ColllmError
from tests.collaborations import random_collaboration
from tests.oracles import brute_force_next, load_all

ModelFolder = Callable[[str, int], Path]


@pytest.mark.parametrize("experts", [None, ("e1",)])
def test_a_given_text_is_told_as_brute_force_does(
    experts: tuple[str, ...] | None, model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who would have written each token, how likely it was, and what would have been likelier; sent in parts."""
    monkeypatch.setattr("colllm_ray.decoding.score_text.CHUNK", 7)
    trained = random_collaboration(model_folder, "llama", ["mistral", "qwen3"])
    text = tuple(torch.randint(250, (30,), generator=torch.Generator().manual_seed(0)).tolist())
    told = asyncio.run(Team.in_process(trained).given(AnswerRequest(text, eta=0.4, experts=experts, top=2)))
    models = load_all(trained)
    assert [token.token for token in told] == list(text[1:])
    for t, token in enumerate(told, start=1):
        author, logprobs = brute_force_next(models, trained, text[:t], 0.4, set() if experts is None else {1})
        assert token.author == author
        assert token.logprob == pytest.approx(float(logprobs[text[t]]), abs=1e-4)
        assert [logprob for _, logprob in token.top] == pytest.approx(logprobs.topk(2).values.tolist(), abs=1e-4)
    assert len({token.author for token in told}) == (3 if experts is None else 2)


def test_a_given_text_is_told_of_one_model_alone(model_folder: ModelFolder) -> None:
    trained = random_collaboration(model_folder, "llama", ["mistral", "qwen3"])
    text = (5, 6, 7, 8)
    told = asyncio.run(Team.in_process(trained).given(AnswerRequest(text, member="e1")))
    with torch.no_grad():
        logprobs = load_all(trained)[2](torch.tensor([text])).logits[0].log_softmax(-1)
    assert {(token.author, token.p_defer, token.top) for token in told} == {(2, None, ())}
    for t, token in enumerate(told, start=1):
        assert token.logprob == pytest.approx(float(logprobs[t - 1, text[t]]), abs=1e-4)


def test_one_token_has_nothing_before_it(model_folder: ModelFolder) -> None:
    team = Team.in_process(random_collaboration(model_folder, "llama", ["mistral"]))
    assert asyncio.run(team.given(AnswerRequest((5,)))) == []
    with pytest.raises(ColllmError, match="has 65 tokens"):
        asyncio.run(team.given(AnswerRequest((5,) * 65)))
