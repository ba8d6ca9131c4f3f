from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
import torch

from colllm_ray.engine import stepper as stepper_module
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.messages import Behind, Extend, Extended, Failed, Reply
from colllm_ray.engine.stepper import CHUNK, Stepper
from tests.conftest import CONTEXT

LanguageModelOf = Callable[[str], LanguageModel]


async def replies(stepper: Stepper, requests: Sequence[Extend], count: int | None = None) -> list[Reply]:
    """What comes of the requests, posted at once: `count` replies, one for each by default."""
    heard: asyncio.Queue[Reply] = asyncio.Queue()
    for request in requests:
        stepper.post(request, heard.put_nowait)
    assert heard.empty()
    return [await heard.get() for _ in range(len(requests) if count is None else count)]


def test_what_is_posted_together_is_one_step_with_the_replies_of_one_at_a_time(
    language_model: LanguageModelOf,
) -> None:
    requests = [Extend(f"s{i}", 0, (i, i + 1, i + 2)) for i in range(20)]
    alone = [Engine(language_model("llama"), 1, CONTEXT).extend([request])[0] for request in requests]
    stepper = Stepper(Engine(language_model("llama"), 32, CONTEXT))
    together = asyncio.run(replies(stepper, requests))
    assert stepper.times.steps == 1
    assert stepper.times.tokens == 60
    for one, other in zip(together, alone, strict=True):
        assert isinstance(one, Extended)
        assert isinstance(other, Extended)
        assert (one.session, one.index, one.choices[0].token) == (other.session, other.index, other.choices[0].token)
        assert one.choices[0].logprob == pytest.approx(other.choices[0].logprob, abs=1e-4)


def test_more_sessions_than_slots_take_turns(language_model: LanguageModelOf) -> None:
    stepper = Stepper(Engine(language_model("llama"), 2, CONTEXT))
    heard = asyncio.run(replies(stepper, [Extend(f"s{i}", 0, (5, i)) for i in range(5)]))
    assert [reply.session for reply in heard] == ["s0", "s1", "s2", "s3", "s4"]
    assert all(isinstance(reply, Extended) for reply in heard)
    assert stepper.times.steps == 3


def test_a_bad_request_fails_alone(language_model: LanguageModelOf) -> None:
    stepper = Stepper(Engine(language_model("llama"), 4, CONTEXT))
    bad, good = asyncio.run(replies(stepper, [Extend("a", 0, (10_000,)), Extend("b", 0, (1,))]))
    assert isinstance(bad, Failed)
    assert isinstance(good, Extended)


def test_a_step_that_breaks_is_told_to_all_of_it_and_forgotten(
    language_model: LanguageModelOf, caplog: pytest.LogCaptureFixture
) -> None:
    model = language_model("llama")
    stepper = Stepper(Engine(model, 4, CONTEXT))
    layer = model.model.model.layers[1]
    hook = layer.register_forward_pre_hook(lambda *_: 1 / 0)

    async def run() -> None:
        for reply in await replies(stepper, [Extend("a", 0, (1,)), Extend("b", 0, (2,))]):
            assert isinstance(reply, Failed)
            assert "ZeroDivisionError" in reply.reason
        hook.remove()
        again, known = await replies(stepper, [Extend("a", 0, (1,)), Extend("b", 1, (2,))])
        assert isinstance(again, Extended)
        assert known == Behind("b", 0, 0)

    asyncio.run(run())
    assert "a step over 2 sessions failed" in caplog.text


def test_a_step_without_memory_is_taken_in_parts(language_model: LanguageModelOf) -> None:
    model = language_model("llama")
    stepper = Stepper(Engine(model, 8, CONTEXT))
    alone = Engine(language_model("llama"), 1, CONTEXT)
    most = 10  # tokens for which there is memory
    steps: list[int] = []

    def fails_beyond_memory(_layer: object, inputs: tuple[torch.Tensor, ...]) -> None:
        steps.append(inputs[0].shape[1])
        if steps[-1] > most:
            raise torch.OutOfMemoryError("no memory")

    model.model.model.layers[1].register_forward_pre_hook(fails_beyond_memory)
    requests = [Extend(f"s{i}", 0, (i, i + 1, i + 2)) for i in range(7)] + [Extend("long", 0, tuple(range(most + 1)))]

    async def run() -> None:
        *short, long = await replies(stepper, requests)
        for request, reply in zip(requests, short, strict=False):
            (expected,) = alone.extend([request])
            assert isinstance(reply, Extended)
            assert isinstance(expected, Extended)
            assert reply.choices[0].token == expected.choices[0].token
        assert isinstance(long, Failed)
        assert "OutOfMemoryError" in long.reason
        assert stepper.failed_sessions <= {"long"}
        await replies(stepper, requests[:1])
        assert stepper.failed_sessions == set()

    asyncio.run(run())


def test_a_newer_request_takes_the_place_of_one_that_waits(language_model: LanguageModelOf) -> None:
    stepper = Stepper(Engine(language_model("llama"), 4, CONTEXT))

    async def run() -> None:
        (reply,) = await replies(stepper, [Extend("a", 0, (1, 2), number=1), Extend("a", 2, (3,), number=2)], 1)
        assert isinstance(reply, Extended)
        assert (reply.number, reply.index) == (2, 3)
        assert stepper.times.tokens == 3

    asyncio.run(run())


def test_a_model_drafts_what_it_would_be_asked_for(language_model: LanguageModelOf) -> None:
    stepper = Stepper(Engine(language_model("llama"), 4, CONTEXT))

    async def run() -> None:
        heard = await replies(stepper, [Extend("a", 0, (5, 6, 7), draft=3)], 4)
        text = [5, 6, 7]
        for reply in heard:
            (plain,) = await replies(stepper, [Extend("b", 0, tuple(text))])
            assert isinstance(reply, Extended)
            assert isinstance(plain, Extended)
            assert (reply.session, reply.index) == ("a", len(text))
            assert reply.choices[0].token == plain.choices[0].token
            text.append(reply.choices[0].token)

    asyncio.run(run())


def test_a_long_text_leaves_room_for_others(language_model: LanguageModelOf) -> None:
    stepper = Stepper(Engine(language_model("llama"), 4, 3 * CHUNK))

    async def run() -> None:
        long, short = Extend("long", 0, (7,) * (2 * CHUNK + 2)), Extend("short", 0, (1,))
        first, second = await replies(stepper, [long, short])
        assert (first.session, second.session) == ("short", "long")
        assert isinstance(second, Extended)
        assert second.index == 2 * CHUNK + 2
        assert stepper.times.steps == 3

    asyncio.run(run())


def test_a_closed_session_is_served_no_more(language_model: LanguageModelOf) -> None:
    stepper = Stepper(Engine(language_model("llama"), 4, CONTEXT))

    async def run() -> None:
        heard: list[Reply] = []
        stepper.post(Extend("a", 0, (1,)), heard.append)
        stepper.close_session("a")
        await replies(stepper, [Extend("b", 0, (1,))])
        assert heard == []
        assert stepper.engine.session_count == 1

    asyncio.run(run())


@pytest.mark.parametrize("most_tokens", [8, 4096])
def test_long_texts_that_want_the_same_slots_are_all_answered(
    language_model: LanguageModelOf, monkeypatch: pytest.MonkeyPatch, most_tokens: int
) -> None:
    """Chunk by chunk: one that has begun keeps its slot, or begins again."""
    monkeypatch.setattr(stepper_module, "CHUNK", 6)
    monkeypatch.setattr(stepper_module, "MOST_TOKENS", most_tokens)
    requests = [Extend(f"s{i}", 0, tuple(range(i, i + 20 + i))) for i in range(5)]
    alone = [Engine(language_model("llama"), 1, CONTEXT).extend([request])[0] for request in requests]
    stepper = Stepper(Engine(language_model("llama"), 2, CONTEXT))
    told = {reply.session: reply for reply in asyncio.run(replies(stepper, requests))}
    for expected in alone:
        reply = told[expected.session]
        assert isinstance(reply, Extended)
        assert isinstance(expected, Extended)
        assert reply.choices[0].token == expected.choices[0].token


def test_a_text_whose_first_chunks_were_lost_begins_again(
    language_model: LanguageModelOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepper_module, "CHUNK", 6)
    model = language_model("llama")
    stepper = Stepper(Engine(model, 2, CONTEXT))
    steps: list[int] = []

    def loses_the_second_step(_layer: object, _inputs: object) -> None:
        steps.append(1)
        if len(steps) == 2:
            raise torch.OutOfMemoryError("no memory")

    requests = [Extend(name, 0, tuple(range(5, 25))) for name in ("a", "b")]
    expected = Engine(language_model("llama"), 1, CONTEXT).extend(requests[:1])[0]
    model.model.model.layers[1].register_forward_pre_hook(loses_the_second_step)
    for reply in asyncio.run(replies(stepper, requests)):
        assert isinstance(reply, Extended)
        assert isinstance(expected, Extended)
        assert reply.choices[0].token == expected.choices[0].token
