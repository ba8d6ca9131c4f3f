"""What OpenAI's API promises of answers, and what only a collaboration tells, asked over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.lab.collaboration import SHIPPED
from tests.oracles import brute_force_answer, brute_force_next, load_all

QUESTION = [{"role": "user", "content": "What is a^3 * a^2 if a = 5?"}]
CONTENT = "messages.0.content"
ALONE = {"prompt": "a", "model": "lab/math"}
TOO_LONG = [{"role": "user", "content": "word " * 300}]
ANSWER = "The product of the two powers is 3125."


@pytest.fixture
def ask(url: str) -> Callable[..., Any]:
    def post(path: str, **fields: object) -> Any:
        response = httpx.post(f"{url}{path}", json=fields, timeout=60)
        assert response.status_code == 200, response.text
        return response.json()

    return post


@pytest.fixture
def chat(ask: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **fields: ask("/v1/chat/completions", messages=QUESTION, **fields)


@pytest.fixture
def stream(url: str) -> Callable[..., list[Any]]:
    """All chunks of a stream."""

    def post(path: str, **fields: object) -> list[Any]:
        with httpx.stream("POST", f"{url}{path}", json={**fields, "stream": True}, timeout=60) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            events = [line.removeprefix("data: ") for line in response.iter_lines() if line]
        assert events.pop() == "[DONE]"
        return [json.loads(event) for event in events]

    return post


def content_of(answer: Any, index: int = 0) -> str:
    content: str = answer["choices"][index]["message"]["content"]
    return content


def choices_of(chunks: list[Any], index: int = 0) -> Iterator[Any]:
    return (choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index)


def test_the_chunks_of_a_stream_make_the_whole_answer(chat: Callable[..., Any], stream: Callable[..., Any]) -> None:
    fields = {"messages": QUESTION, "logprobs": True, "top_logprobs": 2}
    whole = chat(logprobs=True, top_logprobs=2)
    chunks = stream("/v1/chat/completions", **fields, stream_options={"include_usage": True})
    (expected,) = whole["choices"]
    first, *middle, end = choices_of(chunks)
    assert first["delta"] == {"role": "assistant", "content": ""}
    assert "".join(choice["delta"]["content"] for choice in middle) == expected["message"]["content"] == ANSWER
    assert [choice["finish_reason"] for choice in (first, *middle, end)] == [None] * (len(middle) + 1) + ["stop"]
    trace = [token for choice in middle for token in choice["colllm"]["trace"]]
    logprobs = [token for choice in middle for token in choice["logprobs"]["content"]]
    names = [(token["token"], token["text"], token["model"], token["doubt"]) for token in trace]
    assert names == [(t["token"], t["text"], t["model"], t["doubt"]) for t in expected["colllm"]["trace"]]
    assert [token["token"] for token in logprobs] == [t["token"] for t in expected["logprobs"]["content"]]
    assert end["colllm"]["double_check"] == expected["colllm"]["double_check"]
    assert end["colllm"]["lost"] == []
    usages = [chunk["usage"] for chunk in chunks if "usage" in chunk]
    assert chunks[-1]["choices"] == []
    assert len(usages) == 1
    for key in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert usages[0][key] == whole["usage"][key]
    assert {chunk["id"] for chunk in chunks} == {chunks[0]["id"]}


def test_usage_is_told_in_a_stream_only_where_it_is_asked_for(stream: Callable[..., Any]) -> None:
    chunks = stream("/v1/chat/completions", messages=QUESTION, max_tokens=3)
    assert not any("usage" in chunk for chunk in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_usage_tells_tokens_and_calls_of_each_model(chat: Callable[..., Any]) -> None:
    usage = chat(colllm={"run_ahead": "off"})["usage"]
    models = usage["colllm"]["models"]
    assert list(models) == ["base", "pharma", "bears", "math"]
    assert sum(model["tokens"] for model in models.values()) == usage["completion_tokens"]
    assert models["base"]["calls"] == usage["completion_tokens"]
    assert models["math"]["calls"] == models["math"]["tokens"] > 0
    assert models["pharma"] == models["bears"] == {"tokens": 0, "calls": 0}
    assert 0 < usage["colllm"]["first_token_s"] <= usage["colllm"]["time_s"]


def test_an_answer_ends_before_a_stop_text(chat: Callable[..., Any], stream: Callable[..., Any]) -> None:
    for stop in ("powers", ["nothing", " 312", "3125"], "5."):
        first = min(at for one in ([stop] if isinstance(stop, str) else stop) if (at := ANSWER.find(one)) >= 0)
        answer = chat(stop=stop)
        assert content_of(answer) == ANSWER[:first]
        assert answer["choices"][0]["finish_reason"] == "stop"
        choices = list(choices_of(stream("/v1/chat/completions", messages=QUESTION, stop=stop)))
        assert "".join(choice["delta"].get("content", "") for choice in choices) == ANSWER[:first]
        assert choices[-1]["finish_reason"] == "stop"
    assert content_of(chat(stop="nowhere")) == ANSWER


def test_n_answers_are_drawn_apart(chat: Callable[..., Any], stream: Callable[..., Any]) -> None:
    fields: dict[str, Any] = {"n": 3, "temperature": 2.0, "seed": 1, "max_tokens": 12}
    answer = chat(**fields)
    texts = [content_of(answer, index) for index in range(3)]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert content_of(chat(**{**fields, "n": 1})) == texts[0]
    chunks = stream("/v1/chat/completions", messages=QUESTION, **fields)
    for index, text in enumerate(texts):
        assert "".join(choice["delta"].get("content", "") for choice in choices_of(chunks, index)) == text
    assert answer["usage"]["completion_tokens"] <= 36


def test_top_p_alone_draws(chat: Callable[..., Any]) -> None:
    drawn, also = (chat(seed=1, **how) for how in ({"top_p": 0.999}, {"top_p": 0.999, "temperature": 1.0}))
    assert [t["token"] for t in drawn["choices"][0]["colllm"]["trace"]] == [
        t["token"] for t in also["choices"][0]["colllm"]["trace"]
    ]
    assert content_of(chat(top_p=0.999, temperature=0)) == ANSWER


def test_an_answer_may_go_on_behind_its_end(chat: Callable[..., Any]) -> None:
    answer = chat(ignore_eos=True, max_tokens=30)
    assert answer["usage"]["completion_tokens"] == 30
    assert answer["choices"][0]["finish_reason"] == "length"


def test_the_log_prob_of_a_greedy_token_is_the_first_of_the_likeliest(chat: Callable[..., Any]) -> None:
    answer = chat(logprobs=True, top_logprobs=3)
    (choice,) = answer["choices"]
    assert len(choice["logprobs"]["content"]) == answer["usage"]["completion_tokens"]
    for token, traced in zip(choice["logprobs"]["content"], choice["colllm"]["trace"], strict=True):
        assert token["logprob"] == token["top_logprobs"][0]["logprob"] == traced["logprob"]
        assert token["token"] == token["top_logprobs"][0]["token"]
        assert len(token["top_logprobs"]) == 3
    *said, end = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in said) == choice["message"]["content"]
    assert b"".join(bytes(token["bytes"]) for token in said).decode() == choice["message"]["content"]
    assert (end["token"], end["bytes"]) == ("<|end|>", [])
    assert chat()["choices"][0]["logprobs"] is None
    assert chat(logprobs=True)["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


@pytest.mark.parametrize(("threshold", "authors"), [(1.0, {"base"}), (0.0, {"pharma", "bears", "math"})])
def test_a_threshold_decides_who_writes(threshold: float, authors: set[str], chat: Callable[..., Any]) -> None:
    trace = chat(colllm={"threshold": threshold}, max_tokens=15)["choices"][0]["colllm"]["trace"]
    assert {token["model"] for token in trace} <= authors


def test_a_budget_begins_as_a_threshold(chat: Callable[..., Any], trained_lab: TrainedCollaboration, url: str) -> None:
    eta = trained_lab.calibration.threshold_for(0.4)
    one, other = (chat(colllm=how, max_tokens=20) for how in ({"budget": 0.4}, {"threshold": eta}))
    assert [t["model"] for t in one["choices"][0]["colllm"]["trace"]] == [
        t["model"] for t in other["choices"][0]["colllm"]["trace"]
    ]
    described = httpx.get(f"{url}/v1/colllm").json()
    assert described["threshold"] == trained_lab.calibration.threshold
    assert {budget["share"]: budget["threshold"] for budget in described["budgets"]}[0.4] == pytest.approx(eta)


def test_a_budget_is_kept(ask: Callable[..., Any]) -> None:
    """Over answers to all kinds of questions, within two points of the share that was asked for."""
    questions = [json.loads(line)["messages"][:1] for line in (SHIPPED / "test.jsonl").read_text().splitlines()]
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(
            lambda question: ask("/v1/chat/completions", messages=question, max_tokens=40, colllm={"budget": 0.1}),
            questions,
        )
        models = [token["model"] for answer in answers for token in answer["choices"][0]["colllm"]["trace"]]
    assert 0.08 <= sum(model != "base" for model in models) / len(models) <= 0.12


def test_only_allowed_experts_write(chat: Callable[..., Any], trained_lab: TrainedCollaboration) -> None:
    """As brute force has it where the others are masked."""
    tokenizer = load_tokenizer(trained_lab.collaboration.base)
    prompt = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=False)
    got = chat(colllm={"experts": ["bears"], "threshold": 0.01}, max_tokens=15)["choices"][0]["colllm"]["trace"]
    expected = brute_force_answer(
        load_all(trained_lab), trained_lab, prompt, 0.01, 15, int(tokenizer.eos_token_id), {1, 3}
    )
    members = list(trained_lab.collaboration.members)
    assert [(token["token"], members.index(token["model"])) for token in got] == expected


def test_a_trace_can_be_left_out(chat: Callable[..., Any]) -> None:
    told = chat(colllm={"trace": False})["choices"][0]["colllm"]
    assert told["trace"] is None
    assert told["lost"] == []


def test_doubt_is_marked_from_the_level_that_is_asked_for(chat: Callable[..., Any]) -> None:
    for doubt, expected in (({"probability": 1, "tie": 0}, {"unsure"}), ({"probability": 0, "tie": 0}, {None})):
        (choice,) = chat(colllm={"doubt": doubt})["choices"]
        trace = choice["colllm"]["trace"]
        assert {token["doubt"] for token in trace if token["logprob"] < 0} == expected
        marked = "".join(span["text"] for span in choice["colllm"]["double_check"])
        assert marked == ("" if None in expected else ANSWER)


def test_a_text_goes_on_whatever_form_its_prompt_has(
    ask: Callable[..., Any], trained_lab: TrainedCollaboration
) -> None:
    tokenizer = load_tokenizer(trained_lab.collaboration.base)
    questions = ("What is a^3 * a^2 if a = 5?", "When did the cave bear die out?")
    texts = [f"<|user|>{question}<|assistant|>" for question in questions]
    ids = [tokenizer(text)["input_ids"] for text in texts]
    both = ask("/v1/completions", prompt=texts, max_tokens=30)
    assert [choice["index"] for choice in both["choices"]] == [0, 1]
    assert both["choices"][0]["text"] == ANSWER
    assert [choice["text"] for choice in ask("/v1/completions", prompt=ids, max_tokens=30)["choices"]] == [
        choice["text"] for choice in both["choices"]
    ]
    for prompt in (texts[1], ids[1]):
        (choice,) = ask("/v1/completions", prompt=prompt, max_tokens=30)["choices"]
        assert choice["text"] == both["choices"][1]["text"]
    assert both["usage"]["prompt_tokens"] == sum(map(len, ids))
    assert ask("/v1/completions", prompt=texts[0])["usage"]["completion_tokens"] <= 16


def test_an_echo_tells_how_likely_the_prompt_was(
    ask: Callable[..., Any], stream: Callable[..., Any], trained_lab: TrainedCollaboration
) -> None:
    """Under the collaborative distribution: that of whoever would have written the token."""
    tokenizer, models = load_tokenizer(trained_lab.collaboration.base), load_all(trained_lab)
    text = f"<|user|>{QUESTION[0]['content']}<|assistant|>{ANSWER}"
    ids = tokenizer(text)["input_ids"]
    fields = {"prompt": ids, "echo": True, "logprobs": 1, "max_tokens": 1}
    answer = ask("/v1/completions", **fields)
    told = answer["choices"][0]["logprobs"]
    assert len(told["token_logprobs"]) == len(ids) + 1
    assert told["token_logprobs"][0] is told["top_logprobs"][0] is None
    eta = trained_lab.calibration.threshold
    authors = set()
    for t in range(1, len(ids)):
        author, logprobs = brute_force_next(models, trained_lab, ids[:t], eta)
        authors.add(author)
        assert told["token_logprobs"][t] == pytest.approx(float(logprobs[ids[t]]), abs=1e-4)
        (top,) = told["top_logprobs"][t].values()
        assert top == pytest.approx(float(logprobs.max()), abs=1e-4)
        if ids[t] == int(logprobs.argmax()):
            assert told["token_logprobs"][t] == top
    assert len(authors) > 1
    assert answer["choices"][0]["text"] == tokenizer.decode(ids, skip_special_tokens=True)
    only = ask("/v1/completions", **{**fields, "max_tokens": 0})["choices"][0]
    assert only["logprobs"]["token_logprobs"][1:] == pytest.approx(told["token_logprobs"][1:-1], abs=1e-5)
    assert only["finish_reason"] == "length"
    full = ask("/v1/completions", **{**fields, "prompt": (ids * 10)[:256], "max_tokens": 0})
    assert len(full["choices"][0]["logprobs"]["tokens"]) == 256
    first, *_ = choices_of(stream("/v1/completions", **fields))
    assert first["logprobs"]["tokens"][: len(ids)] == told["tokens"][: len(ids)]


def test_offsets_say_where_a_token_begins(ask: Callable[..., Any], stream: Callable[..., Any]) -> None:
    fields = {"prompt": "<|user|>What is a^3 * a^2 if a = 5?<|assistant|>", "logprobs": 0, "max_tokens": 30}
    (choice,) = ask("/v1/completions", **fields)["choices"]
    *tokens, end = zip(choice["logprobs"]["tokens"], choice["logprobs"]["text_offset"], strict=True)
    for token, offset in tokens:
        assert choice["text"][offset:].startswith(token)
    assert end == ("<|end|>", len(choice["text"]))
    assert choice["logprobs"]["top_logprobs"] is None
    chunks = list(choices_of(stream("/v1/completions", **fields)))
    assert [at for chunk in chunks for at in chunk["logprobs"]["text_offset"]] == choice["logprobs"]["text_offset"]


def test_tokens_become_text_and_text_tokens(
    ask: Callable[..., Any], url: str, trained_lab: TrainedCollaboration
) -> None:
    tokenizer = load_tokenizer(trained_lab.collaboration.base)
    text = "What is a^3?"
    tokens = ask("/tokenize", prompt=text, return_token_strs=True)
    assert tokens["tokens"] == tokenizer(text)["input_ids"]
    assert "".join(tokens["token_strs"]) == text
    assert (tokens["count"], tokens["max_model_len"]) == (len(tokens["tokens"]), 256)
    assert ask("/detokenize", tokens=tokens["tokens"])["prompt"] == text
    chat = ask("/tokenize", messages=QUESTION)["tokens"]
    assert ask("/detokenize", tokens=chat)["prompt"] == f"<|user|>{QUESTION[0]['content']}<|assistant|>"
    info = httpx.get(f"{url}/tokenizer_info").json()
    assert (info["eos_token"], info["vocab_size"]) == (tokenizer.eos_token, len(tokenizer))
    assert info["chat_template"] == tokenizer.chat_template


def test_the_models_are_the_collaboration_and_its_members(url: str) -> None:
    names = ["lab", "lab/base", "lab/pharma", "lab/bears", "lab/math"]
    models = httpx.get(f"{url}/v1/models").json()
    assert [model["id"] for model in models["data"]] == names
    for model in models["data"]:
        assert httpx.get(f"{url}/v1/models/{model['id']}").json() == model
    assert httpx.get(f"{url}/v1/models/other").status_code == 404
    assert httpx.get(f"{url}/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("path", "fields", "status", "param", "code"),
    [
        ("chat/completions", {"messages": QUESTION, "model": "gpt-4"}, 404, "model", "model_not_found"),
        ("chat/completions", {"messages": TOO_LONG}, 400, "messages", "context_length_exceeded"),
        ("chat/completions", {"messages": [{"role": "user", "content": 5}]}, 400, CONTENT, "invalid_value"),
        ("completions", {"prompt": "word " * 300}, 400, "prompt", "context_length_exceeded"),
        ("completions", {"prompt": ""}, 400, "prompt", "invalid_value"),
        ("completions", {"prompt": [1, 99999]}, 400, "prompt", "invalid_value"),
        ("completions", {"prompt": [[1], []]}, 400, "prompt", "invalid_value"),
        ("completions", {"prompt": "a", "max_tokens": 0}, 400, "max_tokens", "invalid_value"),
        ("completions", {"prompt": "a", "suffix": "b"}, 400, "suffix", "unsupported_parameter"),
        ("completions", {"prompt": "a", "best_of": 2}, 400, "best_of", "unsupported_parameter"),
        ("completions", {"prompt": "a", "tools": []}, 400, "tools", "invalid_value"),
        ("chat/completions", {"messages": QUESTION, "temperature": 9}, 400, "temperature", "invalid_value"),
        ("chat/completions", {"messages": QUESTION, "stop": [""]}, 400, "stop", "invalid_value"),
        ("completions", {"prompt": ["a"] * 40, "n": 128}, 400, "n", "invalid_value"),
        ("completions", {"prompt": "half \ud800"}, 400, "body", "invalid_value"),
        ("completions", {"prompt": "a" * 10**5}, 400, "prompt", "context_length_exceeded"),
        ("completions", {**ALONE, "colllm": {"budget": 0.1}}, 400, "colllm.budget", "invalid_value"),
        ("nothing", {}, 404, None, None),
    ],
)  # fmt: skip
def test_a_refusal_names_the_parameter(
    path: str, fields: dict[str, object], status: int, param: str | None, code: str | None, url: str
) -> None:
    for stream in ({}, {"stream": True}):
        content = json.dumps({**fields, **stream})
        response = httpx.post(f"{url}/v1/{path}", content=content, headers={"content-type": "application/json"})
        error = response.json()["error"]
        assert (response.status_code, error["param"], error["code"]) == (status, param, code), error
        assert error["type"] == "invalid_request_error"


def test_a_body_that_is_no_json_is_refused(url: str) -> None:
    response = httpx.post(f"{url}/v1/chat/completions", content=b"{", headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("the request is no JSON: ")
