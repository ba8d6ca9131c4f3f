from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colllm_ray.deferral.head import DeferralHead
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.messages import Behind, Extend, Extended
from tests.conftest import ARCHITECTURES, CONTEXT

LanguageModelOf = Callable[[str], LanguageModel]


@torch.no_grad()
def plain_forward(model: LanguageModel, tokens: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Hugging Face's own forward over the whole text: the last log-probs [V] and the last hidden state [D]."""
    output = model.model(torch.tensor([list(tokens)]), output_hidden_states=True)
    return output.logits[0, -1].log_softmax(-1), output.hidden_states[-1][0, -1]


def assert_right(model: LanguageModel, tokens: Sequence[int], reply: Extended | Behind) -> None:
    logprobs, _ = plain_forward(model, tokens)
    assert isinstance(reply, Extended)
    assert reply.logprob == pytest.approx(float(logprobs.max()), abs=1e-4)
    assert float(logprobs[reply.token]) == pytest.approx(float(logprobs.max()), abs=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_any_interleaving_gives_the_logits_of_a_plain_forward(
    architecture: str, language_model: LanguageModelOf
) -> None:
    """Extend, cut back, evict and close, over three sessions that share room for two."""
    model = language_model(architecture)

    actions = st.lists(
        st.tuples(
            st.sampled_from(["extend", "extend", "cut back", "close"]),
            st.sampled_from(["a", "b", "c"]),
            st.lists(st.integers(0, 299), min_size=1, max_size=6),
            st.integers(0, 12),
        ),
        max_size=12,
    )

    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(actions)
    def run(steps: list[tuple[str, str, list[int], int]]) -> None:
        engine = Engine(model, max_sessions=2)
        texts: dict[str, list[int]] = {"a": [], "b": [], "c": []}
        for action, name, tokens, cut in steps:
            text = texts[name]
            if action == "close":
                engine.close(name)
                texts[name] = []
                continue
            start = min(cut, len(text)) if action == "cut back" else len(text)
            text[start:] = tokens[: CONTEXT - start]
            (reply,) = engine.extend([Extend(name, start, tuple(text[start:]))])
            if isinstance(reply, Behind):  # it was evicted: all of it is sent again
                assert reply.have == 0 < start
                (reply,) = engine.extend([Extend(name, 0, tuple(text))])
            assert_right(model, text, reply)
            assert engine.session_count <= 2

    run()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_head_reads_the_input_of_the_output_layer(architecture: str, language_model: LanguageModelOf) -> None:
    model = language_model(architecture)
    head = DeferralHead(model.hidden_size, experts=3)
    torch.nn.init.normal_(head.weight)
    (reply,) = Engine(model, 1, head).extend([Extend("a", 0, (5, 6, 7))])
    _, hidden = plain_forward(model, [5, 6, 7])
    expected = [0.0, *(head.weight @ hidden + head.bias).tolist()]
    assert isinstance(reply, Extended)
    assert reply.scores == pytest.approx(expected, abs=1e-4)


def test_an_unknown_session_that_starts_later_is_behind(language_model: LanguageModelOf) -> None:
    engine = Engine(language_model("llama"), max_sessions=1)
    assert engine.extend([Extend("a", 3, (1,))]) == [Behind(0)]
    assert engine.session_count == 0


def test_the_least_recently_used_session_makes_room(language_model: LanguageModelOf) -> None:
    engine = Engine(language_model("llama"), max_sessions=2)
    engine.extend([Extend("a", 0, (1,)), Extend("b", 0, (1,)), Extend("a", 1, (2,)), Extend("c", 0, (1,))])
    assert isinstance(engine.extend([Extend("a", 2, (3,))])[0], Extended)
    assert engine.extend([Extend("b", 1, (3,))]) == [Behind(0)]


def test_a_padded_output_layer_cannot_choose_its_padding(language_model: LanguageModelOf) -> None:
    model = language_model("llama")
    logprobs, _ = plain_forward(model, [1, 2])
    favourite = int(logprobs.argmax())
    narrow = LanguageModel(model.model, vocab_size=favourite)  # all from the favourite on is padding
    (reply,) = Engine(narrow, 1).extend([Extend("a", 0, (1, 2))])
    assert isinstance(reply, Extended)
    assert reply.token == int(logprobs[:favourite].argmax())
    assert reply.logprob == pytest.approx(float(logprobs[:favourite].log_softmax(0).max()), abs=1e-4)


@pytest.mark.parametrize(("start", "tokens"), [(-1, (1,)), (0, ())])
def test_an_extend_needs_tokens(start: int, tokens: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        Extend("a", start, tokens)
