from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, PreTrainedModel

from colllm_ray.config import ModelConfig
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.engine import blocked_linear, captured
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.messages import Behind, Extend, Extended, Failed, Reply, Sampling
from colllm_ray.engine.text import NOT_FINITE
from colllm_ray.errors import ColllmError
from tests.conftest import ARCHITECTURES, CONTEXT

LanguageModelOf = Callable[[str], LanguageModel]
ModelFolder = Callable[[str, int], Path]


@pytest.fixture(scope="session")
def plain_model(model_folder: ModelFolder) -> Callable[[str], PreTrainedModel]:
    """The same weights, as Hugging Face runs them."""

    def load(architecture: str) -> PreTrainedModel:
        return AutoModelForCausalLM.from_pretrained(model_folder(architecture, 0)).eval()

    return load


@torch.no_grad()
def plain_forward(model: PreTrainedModel, tokens: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Hugging Face's own forward over the whole text: log-probs [T, V] and last hidden states [T, D]."""
    output = model(torch.tensor([list(tokens)]), output_hidden_states=True)
    return output.logits[0].log_softmax(-1), output.hidden_states[-1][0]


def assert_right(model: PreTrainedModel, tokens: Sequence[int], want: int, reply: Reply) -> None:
    logprobs, _ = plain_forward(model, tokens)
    assert isinstance(reply, Extended)
    assert reply.index == len(tokens) + 1 - want
    assert len(reply.choices) == want
    for choice, row in zip(reply.choices, logprobs[len(tokens) - want :], strict=True):
        assert choice.logprob == pytest.approx(float(row.max()), abs=1e-4)
        assert float(row[choice.token]) == pytest.approx(float(row.max()), abs=1e-4)


@pytest.mark.parametrize("static_shapes", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_any_interleaving_gives_the_logits_of_a_plain_forward(
    architecture: str,
    static_shapes: bool,
    language_model: LanguageModelOf,
    plain_model: Callable[[str], PreTrainedModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Steps that extend, cut back and answer at several places, and closings: four sessions share room for two."""
    monkeypatch.setattr(captured, "SHORTEST_CONTEXT", 8)
    if not static_shapes:  # as a CPU runs large models
        monkeypatch.setattr(blocked_linear, "MIN_WEIGHTS", 0)
    model, plain = language_model(architecture), plain_model(architecture)

    tokens = st.lists(st.integers(0, 299), min_size=1, max_size=6)
    request = st.tuples(st.sampled_from("abcd"), tokens, st.integers(0, 12), st.booleans(), st.integers(0, 3))
    steps = st.lists(
        st.one_of(st.sampled_from("abcd"), st.lists(request, min_size=1, max_size=2, unique_by=lambda r: r[0])),
        max_size=10,
    )

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(steps)
    def run(steps: list[str | list[tuple[str, list[int], int, bool, int]]]) -> None:
        engine = Engine(model, 2, CONTEXT, static_shapes=static_shapes)
        texts: dict[str, list[int]] = {name: [] for name in "abcd"}
        for step in steps:
            if isinstance(step, str):
                engine.close(step)
                texts[step] = []
                continue
            requests = {}
            for name, new, cut, cuts_back, want in step:
                text = texts[name]
                start = min(cut, len(text)) if cuts_back else len(text)
                text[start:] = new[: CONTEXT - start]
                if text[start:]:
                    requests[name] = Extend(name, start, tuple(text[start:]), want=min(want, len(text) - start))
            for name, reply in zip(requests, engine.extend(list(requests.values())), strict=True):
                want = requests[name].want
                if isinstance(reply, Behind):  # it was evicted: all of it is sent again
                    assert reply.have == 0 < requests[name].start
                    (reply,) = engine.extend([Extend(name, 0, tuple(texts[name]), want=want)])
                assert_right(plain, texts[name], want, reply)
            assert engine.session_count <= 2

    run()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_head_reads_the_input_of_the_output_layer(
    architecture: str, language_model: LanguageModelOf, plain_model: Callable[[str], PreTrainedModel]
) -> None:
    model = language_model(architecture)
    head = DeferralHead(model.hidden_size, experts=3)
    torch.nn.init.normal_(head.weight)
    (reply,) = Engine(model, 1, CONTEXT, head).extend([Extend("a", 0, (5, 6, 7), want=2)])
    _, hidden = plain_forward(plain_model(architecture), [5, 6, 7])
    assert isinstance(reply, Extended)
    for choice, h in zip(reply.choices, hidden[1:], strict=True):
        assert choice.scores == pytest.approx([0.0, *(head.weight @ h + head.bias).tolist()], abs=1e-4)


def test_an_unknown_session_that_starts_later_is_behind(language_model: LanguageModelOf) -> None:
    engine = Engine(language_model("llama"), 1, CONTEXT)
    assert engine.extend([Extend("a", 3, (1,))]) == [Behind("a", 0, 0)]
    assert engine.session_count == 0


def test_the_least_recently_used_session_makes_room(language_model: LanguageModelOf) -> None:
    engine = Engine(language_model("llama"), 2, CONTEXT)
    for request in (Extend("a", 0, (1,)), Extend("b", 0, (1,)), Extend("a", 1, (2,)), Extend("c", 0, (1,))):
        engine.extend([request])
    assert engine.evictions == 1
    assert isinstance(engine.extend([Extend("a", 2, (3,))])[0], Extended)
    assert engine.extend([Extend("b", 1, (3,))]) == [Behind("b", 0, 0)]


def test_a_session_of_the_step_never_makes_room(language_model: LanguageModelOf) -> None:
    engine = Engine(language_model("llama"), 2, CONTEXT)
    engine.extend([Extend("a", 0, (1,))])
    engine.extend([Extend("b", 0, (1,))])
    replies = engine.extend([Extend("c", 0, (1,)), Extend("a", 1, (2,))])  # a is the older one, but in this step
    assert all(isinstance(reply, Extended) for reply in replies)
    assert engine.extend([Extend("b", 1, (2,))]) == [Behind("b", 0, 0)]


def test_a_session_that_comes_back_finds_its_prefix(
    language_model: LanguageModelOf, plain_model: Callable[[str], PreTrainedModel]
) -> None:
    model = language_model("llama")
    engine = Engine(model, 4, CONTEXT)
    taken_in: list[int] = []
    forward = model.forward

    def counted(input_ids: torch.Tensor, *arguments: object, **named: object) -> tuple[torch.Tensor, torch.Tensor]:
        taken_in.append(input_ids.numel())
        return forward(input_ids, *arguments, **named)  # type: ignore[arg-type]

    model.forward = counted  # type: ignore[method-assign]
    first, second = list(range(10, 30)), [*range(10, 28), 50, 51]
    engine.extend([Extend("a", 0, tuple(first))])
    engine.close("a")
    (reply,) = engine.extend([Extend("b", 0, tuple(second))])
    assert taken_in == [20, 2]
    assert_right(plain_model("llama"), second, 1, reply)


def test_nothing_is_found_of_a_session_that_ended_where_prefixes_are_not_reused(
    language_model: LanguageModelOf,
) -> None:
    engine = Engine(language_model("llama"), 2, CONTEXT, reuse_prefixes=False)
    engine.extend([Extend("a", 0, (5, 6, 7))])
    engine.close("a")
    assert engine._slots.open("b", (5, 6, 7), set()).tokens == []


def test_requests_that_cannot_be_served_fail_alone(language_model: LanguageModelOf) -> None:
    engine = Engine(language_model("llama"), 4, CONTEXT)
    unknown, negative, long, good = engine.extend(
        [
            Extend("a", 0, (10_000,)),
            Extend("b", 0, (-1,)),
            Extend("c", 0, (1,) * (CONTEXT + 1)),
            Extend("d", 0, (1,)),
        ]
    )
    assert unknown == Failed("a", 0, "a token is none of the vocabulary's 300")
    assert isinstance(negative, Failed)
    assert long == Failed("c", 0, f"{CONTEXT + 1} tokens are more than the engine's context, {CONTEXT}")
    assert isinstance(good, Extended)
    assert engine.session_count == 1


@pytest.mark.parametrize("static_shapes", [False, True])
def test_a_text_that_turns_into_nan_fails_alone_and_leaves_nothing_behind(
    static_shapes: bool, language_model: LanguageModelOf, plain_model: Callable[[str], PreTrainedModel]
) -> None:
    """The next text lies where it lay, beside a longer one: both attend to what is beyond the shorter one's end."""
    model = language_model("mistral")
    with torch.no_grad():
        model.model.get_input_embeddings().weight[17] = torch.nan
    engine = Engine(model, 2, CONTEXT, static_shapes=static_shapes)
    broken, good = engine.extend([Extend("a", 0, (5, 6, 7, 17, 8)), Extend("b", 0, (5, 6, 7, 9))])
    assert broken == Failed("a", 0, NOT_FINITE)
    assert isinstance(good, Extended)
    assert engine.session_count == 1
    engine.extend([Extend("c", 0, (6,))])
    one, other = engine.extend([Extend("b", 4, (8,)), Extend("c", 1, (9,))])
    plain = plain_model("mistral")
    assert_right(plain, (5, 6, 7, 9, 8), 1, one)
    assert_right(plain, (6, 9), 1, other)


def test_scores_that_are_not_finite_are_none(language_model: LanguageModelOf) -> None:
    model = language_model("llama")
    head = DeferralHead(model.hidden_size, 1)
    torch.nn.init.constant_(head.weight, torch.nan)
    assert Engine(model, 1, CONTEXT, head).extend([Extend("a", 0, (5,))]) == [Failed("a", 0, NOT_FINITE)]


def test_two_requests_of_a_session_are_no_step(language_model: LanguageModelOf) -> None:
    engine = Engine(language_model("llama"), 4, CONTEXT)
    with pytest.raises(ValueError, match="2 requests of 1 sessions"):
        engine.extend([Extend("a", 0, (1,)), Extend("a", 1, (2,))])


def test_a_padded_output_layer_cannot_choose_its_padding(
    language_model: LanguageModelOf, plain_model: Callable[[str], PreTrainedModel]
) -> None:
    logprobs, _ = plain_forward(plain_model("llama"), [1, 2])
    favourite = int(logprobs[-1].argmax())
    narrow = LanguageModel(language_model("llama").model, vocab_size=favourite)  # all from the favourite on is padding
    (reply,) = Engine(narrow, 1, CONTEXT).extend([Extend("a", 0, (1, 2))])
    assert isinstance(reply, Extended)
    assert reply.choices[0].token == int(logprobs[-1, :favourite].argmax())
    assert reply.choices[0].logprob == pytest.approx(float(logprobs[-1, :favourite].log_softmax(0).max()), abs=1e-4)


def test_a_drawn_token_depends_on_seed_and_index_alone(language_model: LanguageModelOf) -> None:
    """Not on the batch, nor on whether it is asked for with others."""
    sampling = Sampling(temperature=1.5, top_p=0.9, seed=7)
    text = tuple(range(20, 40))
    engine = Engine(language_model("llama"), 4, CONTEXT)
    (together,) = engine.extend([Extend("a", 0, text, want=10, sampling=sampling)])
    assert isinstance(together, Extended)
    for index, choice in enumerate(together.choices, start=together.index):
        alone, other = engine.extend(
            [Extend("b", 0, text[:index], sampling=sampling), Extend("c", 0, text[1:], sampling=sampling)]
        )
        assert isinstance(alone, Extended)
        assert alone.choices[0].token == choice.token
        assert isinstance(other, Extended)


def test_half_precision_serves_texts_of_unequal_length(model_folder: ModelFolder) -> None:
    folder = model_folder("mistral", 0)
    model = LanguageModel.load(ModelConfig(model=str(folder), dtype="bfloat16"), 300)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    texts = {"a": [5, 6, 7], "b": [8, 9, 10, 11, 12, 13, 14, 15]}
    engine = Engine(model, 2, CONTEXT)
    engine.extend([Extend(name, 0, tuple(text[:-1])) for name, text in texts.items()])
    replies = engine.extend([Extend(name, len(text) - 1, (text[-1],)) for name, text in texts.items()])
    for text, reply in zip(texts.values(), replies, strict=True):
        logprobs, _ = plain_forward(plain, text)
        assert isinstance(reply, Extended)
        assert reply.choices[0].logprob == pytest.approx(float(logprobs[-1, reply.choices[0].token]), abs=0.1)


def test_a_model_with_another_attention_is_refused() -> None:
    config = Gemma2Config(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    model = LanguageModel(AutoModelForCausalLM.from_config(config), 300)
    with pytest.raises(ColllmError, match="Gemma2Attention needs attention with `softcap`"):
        Engine(model, 1, CONTEXT)


def test_longrope_is_served_as_long_as_it_is_short() -> None:
    rope = {"rope_type": "longrope", "factor": 2.0, "rope_theta": 1e4, "original_max_position_embeddings": 32}
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, rope_parameters={**rope, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4},
    )  # fmt: skip
    model = LanguageModel(AutoModelForCausalLM.from_config(config), 300)
    Engine(model, 1, 32)
    with pytest.raises(ColllmError, match="lower the collaboration's `context` to 32"):
        Engine(model, 1, 33)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": -1, "tokens": (1,)}, "at least one token"),
        ({"start": 0, "tokens": ()}, "at least one token"),
        ({"start": 0, "tokens": (1,), "want": 2}, "cannot answer after 2 of 1"),
        ({"start": 0, "tokens": (1,), "want": 0, "draft": 1}, "drafts 1 tokens after 0 answers"),
    ],
)
def test_an_extend_makes_sense(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Extend("a", **arguments)  # type: ignore[arg-type]


def test_log_probs_of_given_tokens_are_told(language_model: Callable[[str], LanguageModel]) -> None:
    model = language_model("llama")
    text = [5, 6, 7, 8, 9, 10]
    with torch.no_grad():
        logprobs = model.model(torch.tensor([text])).logits[0, :, : model.vocab_size].log_softmax(-1)
    engine = Engine(model, 2, CONTEXT)
    asked, plain = engine.extend([Extend("a", 0, tuple(text[:5]), want=3, gold=(8, 9, 10)), Extend("b", 0, (5, 6))])
    assert isinstance(asked, Extended)
    assert isinstance(plain, Extended)
    expected = [float(logprobs[t, text[t + 1]]) for t in (2, 3, 4)]
    assert [choice.gold_logprob for choice in asked.choices] == pytest.approx(expected, abs=1e-4)
    assert plain.choices[0].gold_logprob is None
    (refused,) = engine.extend([Extend("c", 0, (5, 6), gold=(model.vocab_size,))])
    assert isinstance(refused, Failed)


def test_the_likeliest_tokens_are_told(
    language_model: LanguageModelOf, plain_model: Callable[[str], PreTrainedModel]
) -> None:
    """As many as each request asks for; the greedy token's log-prob is the first one's, to the bit."""
    engine = Engine(language_model("llama"), 4, CONTEXT)
    text = (7, 8, 9, 10)
    replies = engine.extend(
        [
            Extend("five", 0, text, want=2, top=5, gold=(1, 2)),
            Extend("none", 0, text),
            Extend("two", 0, text, top=2, sampling=Sampling(1.0)),
        ]
    )
    row = plain_forward(plain_model("llama"), text)[0][-1]
    tops = []
    for reply in replies:
        assert isinstance(reply, Extended)
        tops.append(reply.choices[-1].top)
    assert [len(top) for top in tops] == [5, 0, 2]
    expected = row.topk(5)
    assert [token for token, _ in tops[0]] == expected.indices.tolist()
    assert [logprob for _, logprob in tops[0]] == pytest.approx(expected.values.tolist(), abs=1e-4)
    assert tops[2] == tops[0][:2]
    five = replies[0]
    assert isinstance(five, Extended)
    assert (five.choices[-1].token, five.choices[-1].logprob) == tops[0][0]
    assert five.choices[-1].gold_logprob == pytest.approx(float(row[2]), abs=1e-4)


def test_entropies_and_distributions_are_told(
    language_model: LanguageModelOf, plain_model: Callable[[str], PreTrainedModel]
) -> None:
    """To those that ask, beside others of the same step."""
    engine, text = Engine(language_model("llama"), 4, CONTEXT, DeferralHead(32, 2)), (7, 8, 9, 10)
    replies = engine.extend(
        [
            Extend("all", 0, text, want=2, more="distribution", top=2),
            Extend("plain", 0, text, gold=(3,)),
            Extend("entropy", 0, text, want=3, more="entropy"),
        ]
    )
    logprobs = plain_forward(plain_model("llama"), text)[0]
    asked, plain, unsure = (reply.choices for reply in replies if isinstance(reply, Extended))
    for choice, row in zip(asked, logprobs[2:], strict=True):
        assert choice.distribution is not None
        assert torch.frombuffer(bytearray(choice.distribution), dtype=torch.float32).tolist() == pytest.approx(
            row.tolist(), abs=1e-4
        )
    entropies = torch.distributions.Categorical(logits=logprobs[1:]).entropy()
    assert [choice.entropy for choice in unsure] == pytest.approx(entropies.tolist(), abs=1e-4)
    assert {(choice.entropy, choice.scores) for choice in asked} == {(None, (0.0, 0.0, 0.0))}
    assert [choice.distribution for choice in (*plain, *unsure)] == [None] * 4


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_that_is_spread_over_gpus_answers_as_plain_forward(
    architecture: str,
    model_folder: ModelFolder,
    plain_model: Callable[[str], PreTrainedModel],
) -> None:
    config = ModelConfig(model=str(model_folder(architecture, 0)), num_gpus=2)
    model = LanguageModel.load(config, 300)
    assert len({parameter.device for parameter in model.model.parameters()}) == 2
    engine = Engine(model, 4, CONTEXT)
    texts = [list(range(5 + i, 15 + 2 * i)) for i in range(3)]
    replies = engine.extend([Extend(f"s{i}", 0, tuple(text), want=3) for i, text in enumerate(texts)])
    for text, reply in zip(texts, replies, strict=True):
        assert_right(plain_model(architecture), text, 3, reply)
