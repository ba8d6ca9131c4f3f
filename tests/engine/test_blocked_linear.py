from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from colllm_ray.engine import blocked_linear
from colllm_ray.engine.blocked_linear import (
    MIN_WEIGHTS,
    SUPPORTED,
    BlockedLinear,
    block_linear_layers,
    measured_choice,
)
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.kernel_choice import ROWS, KernelChoice
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.messages import Extend, Extended
from tests.conftest import CONTEXT

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="needs torch with oneDNN, on x86")


def blocked(model: nn.Module) -> set[str]:
    return {name for name, layer in model.named_modules() if isinstance(layer, BlockedLinear)}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [(0,), (1,), (3,), (4,), (9,), (1, 2), (2, 1), (2, 5), (1, 0)])
@torch.inference_mode()
def test_a_blocked_layer_computes_what_the_plain_one_does(size: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(96, 40, bias=bias)
    x = torch.randn(*size, 96)
    torch.testing.assert_close(BlockedLinear(plain)(x), plain(x))


@torch.inference_mode()
def test_rows_may_lie_apart_in_memory() -> None:
    plain = nn.Linear(96, 40)
    for x in (torch.randn(96, 7).t(), torch.randn(7, 192)[:, ::2], torch.randn(2, 7, 96)[:, 2:4]):
        torch.testing.assert_close(BlockedLinear(plain)(x), plain(x))


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 5, 8, 9])
@torch.inference_mode()
def test_a_layer_computes_the_same_in_whatever_way(rows: int) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(96, 40)
    layer = BlockedLinear(plain, KernelChoice(plain=frozenset({1, 8}), padding={2: 4, 3: 4}))
    x = torch.randn(2, rows, 96)
    torch.testing.assert_close(layer(x), plain(x))


def test_large_float32_layers_are_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked_linear, "measured_choice", lambda _layers, _weights: KernelChoice())

    def with_weights(count: int, dtype: torch.dtype = torch.float32) -> nn.Module:
        return nn.Sequential(nn.Linear(256, count // 256, dtype=dtype))

    large, small = with_weights(MIN_WEIGHTS), with_weights(MIN_WEIGHTS - 256)
    half = with_weights(MIN_WEIGHTS, torch.bfloat16)
    for model in (large, small, half):
        block_linear_layers(model)
    assert (blocked(large), blocked(small), blocked(half)) == ({"0"}, set(), set())


def test_a_layer_that_is_slower_in_any_other_way_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        blocked_linear, "measured_choice", lambda _layers, _weights: KernelChoice(plain=frozenset(ROWS))
    )
    model = nn.Sequential(nn.Linear(512, 512))
    block_linear_layers(model)
    assert blocked(model) == set()


def test_layers_are_measured_by_their_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def choose(layers: Sequence[nn.Linear], weights: int) -> KernelChoice:
        shapes.append({tuple(layer.weight.shape) for layer in layers})
        assert weights == all_weights
        return measured_choice(layers, weights)

    monkeypatch.setattr(blocked_linear, "measured_choice", choose)
    model = nn.Sequential(nn.Linear(512, 512), nn.Linear(512, 256), nn.Linear(512, 512))
    all_weights = sum(weight.numel() for weight in model.parameters())
    block_linear_layers(model)
    assert shapes == [{(512, 512)}, {(256, 512)}]


def test_a_tied_embedding_keeps_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked_linear, "MIN_WEIGHTS", 0)
    monkeypatch.setattr(blocked_linear, "measured_choice", lambda _layers, _weights: KernelChoice())
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        tie_word_embeddings=True,
    )  # fmt: skip
    plain = LlamaForCausalLM(config).eval()
    text = (5, 6, 7)
    with torch.no_grad():
        logprobs = plain(torch.tensor([text])).logits[0, -1].log_softmax(-1)
    engine = Engine(LanguageModel(plain, 300), 1, CONTEXT)
    assert {"lm_head", "model.layers.0.mlp.up_proj"} <= blocked(plain)
    (reply,) = engine.extend([Extend("a", 0, text)])
    assert isinstance(reply, Extended)
    assert reply.choices[0].logprob == pytest.approx(float(logprobs.max()), abs=1e-4)
    assert reply.choices[0].token == int(logprobs.argmax())
