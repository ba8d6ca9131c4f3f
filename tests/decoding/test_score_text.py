from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import torch

from colllm_ray.decoding.score_text import score_text, score_texts
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.messages import Extend, Reply
from colllm_ray.engine.stepper import Stepper
from colllm_ray.engine.target_scores import TargetScorer, TargetScores
from colllm_ray.engine.text import GoldScores, Text
from tests.conftest import CONTEXT


def some_texts(count: int) -> list[Text]:
    generator = torch.Generator().manual_seed(0)
    texts = []
    for _ in range(count):
        length = int(torch.randint(2, CONTEXT, (), generator=generator))
        ids = torch.randint(250, (length,), generator=generator).tolist()
        texts.append(Text(ids, [False, *(torch.rand(length - 2, generator=generator) < 0.5).tolist(), True]))
    return texts


@pytest.mark.parametrize("sessions", [1, 3, 16])  # fewer than texts: sessions are evicted, and sent again
def test_scores_are_those_of_whole_forwards(
    sessions: int, language_model: Callable[[str], LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("colllm_ray.decoding.score_text.CHUNK", 10)
    texts = some_texts(12)
    whole = TargetScorer(language_model("llama"), 10_000).score(texts)
    stepper = Stepper(Engine(language_model("llama"), sessions, CONTEXT))
    scored = asyncio.run(score_texts_in(stepper, texts, min(sessions, 4)))
    for one, expected in zip(scored, whole, strict=True):
        assert isinstance(one, GoldScores)
        assert isinstance(expected, TargetScores)
        assert list(one.gold_logprob) == pytest.approx(expected.gold_logprob.tolist(), abs=1e-4)
        assert list(one.top1) == expected.top1.tolist()


async def score_texts_in(stepper: Stepper, texts: list[Text], at_once: int) -> list[GoldScores | str]:
    return await score_texts(stepper, texts, asyncio.Semaphore(at_once))


def test_a_text_that_cannot_be_scored_does_not_stop_the_others(language_model: Callable[[str], LanguageModel]) -> None:
    stepper = Stepper(Engine(language_model("llama"), 4, CONTEXT))
    texts = [*some_texts(2), Text([1, 10_000, 2], [False, True, True])]
    scored = asyncio.run(score_texts_in(stepper, texts, 4))
    assert [isinstance(one, GoldScores) for one in scored] == [True, True, False]
    assert "none of the vocabulary" in str(scored[2])


def test_an_asker_that_leaves_does_not_disturb_the_others(language_model: Callable[[str], LanguageModel]) -> None:
    """It leaves in the very turn of the loop in which the step is taken."""
    stepper = Stepper(Engine(language_model("llama"), 4, CONTEXT))
    heard: list[Reply] = []

    async def leave() -> None:
        leaving = asyncio.create_task(score_text(stepper, some_texts(1)[0]))
        await asyncio.sleep(0)
        stepper.post(Extend("other", 0, (1, 2)), heard.append)
        leaving.cancel()
        await asyncio.wait([leaving])
        while not heard:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(leave(), 30))
    assert heard[0].session == "other"
