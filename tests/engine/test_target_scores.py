from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, PretrainedConfig

from colllm_ray.engine import target_scores
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.target_scores import TargetScorer, TargetScores
from colllm_ray.engine.text import Text, batches_by_length
from tests.conftest import ARCHITECTURES, CONTEXT

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def some_texts(vocab_size: int) -> list[Text]:
    generator = torch.Generator().manual_seed(0)
    texts = []
    for length in (3, CONTEXT, 17, 2, 40, 41):
        ids = torch.randint(vocab_size, (length,), generator=generator).tolist()
        mask = [False, *(torch.rand(length - 1, generator=generator) < 0.5).tolist()]
        mask[-1] = True
        texts.append(Text(ids, mask))
    return texts


@torch.no_grad()
def check(model: LanguageModel, texts: list[Text], budget: int) -> None:
    """Hugging Face's own forward, one text at a time, in float64 behind the logits."""
    for text, scored in zip(texts, TargetScorer(model, budget).score(texts), strict=True):
        assert isinstance(scored, TargetScores)
        assert scored.hidden is not None
        ids, targets = torch.tensor(text.input_ids), torch.tensor(text.target_mask).nonzero()[:, 0]
        output = model.model(ids[None], output_hidden_states=True)
        logprobs = output.logits[0, targets - 1].double().log_softmax(-1)
        gold = logprobs.gather(1, ids[targets, None])[:, 0]
        torch.testing.assert_close(scored.gold_logprob.double(), gold, atol=1e-4, rtol=0)
        assert torch.equal(scored.top1, logprobs.argmax(1) == ids[targets])
        torch.testing.assert_close(scored.hidden, output.hidden_states[-1][0, targets - 1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("budget", [10_000, 100, 7])  # one batch; several; long texts by parts, over a KV cache
def test_scores_are_those_of_plain_forwards(
    architecture: str, budget: int, language_model: Callable[[str], LanguageModel]
) -> None:
    model = language_model(architecture)
    check(model, some_texts(model.vocab_size), budget)


@pytest.mark.parametrize("budget", [10_000, 7])
def test_logits_are_never_held_at_once(
    budget: int, language_model: Callable[[str], LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = language_model("llama")
    monkeypatch.setitem(target_scores.LOGITS_BYTES, "cpu", 4 * model.vocab_size * 3)  # three rows
    rows = []
    output_layer = model.model.get_output_embeddings()
    with output_layer.register_forward_hook(lambda _layer, _inputs, output: rows.append(output.shape[1])):
        TargetScorer(model, budget).score(some_texts(model.vocab_size))
    assert max(rows) == 3
    check(model, some_texts(model.vocab_size), budget)


@pytest.mark.parametrize(
    "config",
    [
        Gemma2Config(**SHAPE, vocab_size=300, head_dim=8, final_logit_softcapping=2.0, sliding_window=6),
        CohereConfig(**SHAPE, vocab_size=300, logit_scale=0.3, pad_token_id=0, bos_token_id=1, eos_token_id=2),
    ],
    ids=["gemma2", "cohere"],
)
def test_what_a_model_does_to_its_logits_is_done(config: PretrainedConfig) -> None:
    torch.manual_seed(0)
    config.initializer_range = 0.3
    model = LanguageModel(AutoModelForCausalLM.from_config(config), 300)
    check(model, some_texts(300), 100)


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 120))
def test_batches_hold_every_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = batches_by_length(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[i] for i in batch)
        assert longest * len(batch) <= budget or len(batch) == 1
    for earlier, later in pairwise(batches):
        assert min(lengths[i] for i in earlier) >= max(lengths[i] for i in later)
