from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from colllm_ray.config import ModelConfig
from colllm_ray.engine import captured
from colllm_ray.engine.captured import CapturedForward, Shape
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.kv_cache import KVCache, Row
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.messages import Extend, Extended
from tests.conftest import ARCHITECTURES, CONTEXT

LanguageModelOf = Callable[[str], LanguageModel]
ModelFolder = Callable[[str, int], Path]
LONGEST = 1000  # tokens of a slot


def forward_of(model: LanguageModel) -> CapturedForward:
    model.prepare_for_steps(CONTEXT)
    return CapturedForward(model, KVCache(2, CONTEXT, model.device))


@pytest.mark.parametrize(
    ("rows", "wants", "shape"),
    [
        ([(5, 1)], [1], Shape(rows=1, tokens=1, context=128, wanted=1)),
        ([(5, 1)], [0], Shape(rows=1, tokens=1, context=128, wanted=1)),
        ([(5, 1), (5, 1), (5, 1)], [1, 1, 1], Shape(rows=4, tokens=1, context=128, wanted=4)),
        ([(5, 1), (300, 3)], [1, 1], Shape(rows=2, tokens=4, context=512, wanted=2)),
        ([(5, 1), (300, 3)], [1, 3], Shape(rows=2, tokens=4, context=512, wanted=8)),
        ([(0, 16)], [1], Shape(rows=1, tokens=16, context=128, wanted=1)),
        ([(900, 16)], [1], Shape(rows=1, tokens=16, context=LONGEST, wanted=1)),
        ([(0, 64)], [1], Shape(rows=1, tokens=64, context=128, wanted=1)),
        ([(0, 65)], [1], None),
        ([(0, 16)] * 16, [1] * 16, Shape(rows=16, tokens=16, context=128, wanted=16)),
        ([(0, 16)] * 17, [1] * 17, None),
    ],
)
def test_a_step_has_the_smallest_shape_that_holds_it(
    rows: list[tuple[int, int]], wants: list[int], shape: Shape | None
) -> None:
    steps = [Row(slot, start, (7,) * tokens) for slot, (start, tokens) in enumerate(rows)]
    assert Shape.of(steps, wants, LONGEST) == shape


def test_steps_of_one_shape_share_a_pass(language_model: LanguageModelOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "SHORTEST_CONTEXT", 8)
    forward = forward_of(language_model("llama"))
    for end in range(8):
        forward([Row(0, end, (5,))], [1])
    forward([Row(1, 0, (5,))], [0])
    assert list(forward._passes) == [Shape(1, 1, 8, 1)]
    forward([Row(0, 8, (5,))], [1])
    assert list(forward._passes) == [Shape(1, 1, 8, 1), Shape(1, 1, 16, 1)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_step_needs_nothing_of_the_host(architecture: str, language_model: LanguageModelOf) -> None:
    assert forward_of(language_model(architecture)).captures


def test_a_model_that_needs_the_host_is_served_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=CONTEXT, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
    )  # fmt: skip
    torch.manual_seed(0)
    model = LanguageModel(AutoModelForCausalLM.from_config(config), 300)
    with torch.no_grad():
        logits = model.model(torch.tensor([[5, 6, 7]])).logits[0, -1]
    engine = Engine(model, 2, CONTEXT, static_shapes=True)
    assert "its steps are not captured, for they need the host: ['aten.is_nonzero.default']" in caplog.text
    (reply,) = engine.extend([Extend("a", 0, (5, 6, 7))])
    assert isinstance(reply, Extended)
    assert reply.choices[0].logprob == pytest.approx(float(logits.log_softmax(-1).max()), abs=1e-4)


GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_static_shapes_say_what_exact_ones_say(
    architecture: str, dtype: str, device: str, model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captured, "SHORTEST_CONTEXT", 8)
    config = ModelConfig(model=str(model_folder(architecture, 0)), num_gpus=device == "cuda", dtype=dtype)
    replaying, computing = (
        Engine(LanguageModel.load(config, 300), 8, CONTEXT, static_shapes=static) for static in (True, False)
    )
    tolerance = 1e-3 if dtype == "float32" else 0.1
    rng, texts = random.Random(architecture), [[1] for _ in range(8)]
    for _ in range(80):
        requests = []
        for session in rng.sample(range(8), rng.randint(1, 8)):
            start = rng.randrange(min(len(texts[session]), CONTEXT - 4))
            new = [rng.randrange(300) for _ in range(rng.randint(1, 4))]
            texts[session][start:] = new
            # From its start, where the session has just begun: some steps are longer than others, and run packed.
            text = texts[session] if rng.random() < 0.2 else new
            want = rng.randint(1, len(text))
            requests.append(Extend(str(session), len(texts[session]) - len(text), tuple(text), want=want))
        for one, other in zip(replaying.extend(requests), computing.extend(requests), strict=True):
            assert type(one) is type(other)
            if isinstance(one, Extended) and isinstance(other, Extended):
                expected = [choice.logprob for choice in other.choices]
                assert [choice.logprob for choice in one.choices] == pytest.approx(expected, abs=tolerance)
    forward = replaying._forward
    assert isinstance(forward, CapturedForward)
    assert len(forward._passes) > 10
    assert all((one.graph is not None) == (device == "cuda") for one in forward._passes.values())
