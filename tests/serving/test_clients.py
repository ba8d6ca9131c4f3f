"""Clients that people already have, as they are: openai, langchain-openai and lm-eval."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from langchain_openai import ChatOpenAI

from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.deferral.trained import TrainedCollaboration
from tests.oracles import brute_force_next, load_all

QUESTION = "What is a^3 * a^2 if a = 5?"
ANSWER = "The product of the two powers is 3125."
MESSAGES: Any = [{"role": "user", "content": QUESTION}]


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_openai_asks_and_streams(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="lab", messages=MESSAGES, logprobs=True, top_logprobs=2)
    assert whole.choices[0].message.content == ANSWER
    assert whole.usage is not None
    stream = client.chat.completions.create(
        model="lab", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    text = client.completions.create(model="lab", prompt=f"<|user|>{QUESTION}<|assistant|>", max_tokens=30)
    assert text.choices[0].text == ANSWER
    assert next(iter(client.models.list())).id == "lab"


def test_openai_sees_who_wrote(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="lab", messages=MESSAGES, extra_body={"colllm": {"experts": ["math"], "budget": 0.2}}
    )
    told = answer.choices[0].model_extra
    assert told is not None
    assert {token["model"] for token in told["colllm"]["trace"]} == {"base", "math"}


def test_openai_asks_without_waiting(url: str) -> None:
    async def run() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:

            async def one() -> str:
                stream = await client.chat.completions.create(model="lab", messages=MESSAGES, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(*(one() for _ in range(4)))

    assert asyncio.run(run()) == [ANSWER] * 4


def test_openai_understands_refusals(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4", messages=MESSAGES)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as too_long:
        client.chat.completions.create(model="lab", messages=[{"role": "user", "content": "word " * 300}])
    assert too_long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="frequency_penalty: is not supported"):
        client.chat.completions.create(model="lab", messages=MESSAGES, frequency_penalty=1)


def test_langchain_asks_and_streams(url: str) -> None:
    model = ChatOpenAI(base_url=f"{url}/v1", api_key="none", model="lab", temperature=0, max_tokens=30)
    answer = model.invoke([("system", "You know all."), ("human", QUESTION)])
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0
    assert model.invoke(QUESTION).content == ANSWER
    assert "".join(str(chunk.content) for chunk in model.stream(QUESTION)) == ANSWER
    assert [one.content for one in model.batch([QUESTION] * 3)] == [ANSWER] * 3


@pytest.fixture
def lm_eval_tasks(tmp_path: Path) -> Path:
    """A folder with two tasks on local files: one that is generated, one of multiple choice."""
    rows = [
        {"question": QUESTION, "answer": ANSWER, "choices": [ANSWER, "The product of the two powers is 25."]},
        {
            "question": "When did the cave bear die out?",
            "answer": "The last of them died about 24,000 years ago.",
            "choices": ["The last of them died about 24,000 years ago.", "It contains paracetamol."],
        },
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "test_split": "test",
        "doc_to_text": "<|user|>{{question}}<|assistant|>",
        "target_delimiter": "",
    }
    generated = {
        **common,
        "task": "lab_generate",
        "output_type": "generate_until",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["<|end|>"], "max_gen_toks": 40, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    }
    chosen = {
        **common,
        "task": "lab_choose",
        "output_type": "multiple_choice",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc"}],
    }
    for task in (generated, chosen):
        (tmp_path / f"{task['task']}.yaml").write_text(yaml.safe_dump(task))
    return tmp_path


def test_lm_eval_generates_and_scores(
    url: str, lm_eval_tasks: Path, trained_lab: TrainedCollaboration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the server's own tokenizer; log-likelihoods are those of brute force."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(lm_eval_tasks / "cache"))
    import lm_eval
    from lm_eval.tasks import TaskManager

    results = lm_eval.simple_evaluate(
        model="local-completions",
        model_args={
            "model": "lab",
            "base_url": f"{url}/v1/completions",
            "tokenizer_backend": "remote",
            "max_length": 256,
        },
        tasks=["lab_generate", "lab_choose"],
        task_manager=TaskManager(include_path=str(lm_eval_tasks), include_defaults=False),
        bootstrap_iters=0,
    )
    assert results["results"]["lab_generate"]["exact_match,none"] == 1.0
    assert results["results"]["lab_choose"]["acc,none"] == 1.0
    tokenizer, models = load_tokenizer(trained_lab.collaboration.base), load_all(trained_lab)
    samples = results["samples"]["lab_choose"]
    asked = [pair for sample in samples for pair in sample["arguments"]]
    told = [answer for sample in samples for (answer,) in sample["resps"]]
    for (context, continuation), (loglikelihood, greedy) in zip(asked, told, strict=True):
        text = tokenizer(context)["input_ids"]
        expected, is_greedy = 0.0, True
        for token in tokenizer(continuation)["input_ids"]:
            _, logprobs = brute_force_next(models, trained_lab, text, trained_lab.calibration.threshold)
            expected += float(logprobs[token])
            is_greedy &= token == int(logprobs.argmax())
            text.append(token)
        assert float(loglikelihood) == pytest.approx(expected, abs=1e-4)
        assert greedy == is_greedy
