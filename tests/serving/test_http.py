"""The lab, served for real: Ingress, Router and three Experts, asked over HTTP."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from colllm_ray.config import Collaboration
from colllm_ray.data.examples import Example, read_whole
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.errors import ColllmError
from colllm_ray.lab.collaboration import SHIPPED
from colllm_ray.scoring.score import score
from colllm_ray.scoring.score_folder import ScoreFolder
from colllm_ray.serving.ask_folder import ask_folder
from colllm_ray.serving.ask_server import ask_server
from tests.commands import free_port
from tests.oracles import brute_force_answer, load_all

QUESTIONS = 24


@pytest.fixture(scope="module")
def held_out(trained_lab: TrainedCollaboration) -> list[Example]:
    tokenizer = load_tokenizer(trained_lab.collaboration.base)
    return list(read_whole(str(SHIPPED / "test.jsonl"), "test", tokenizer, 256, trained_lab.collaboration.data))[
        :QUESTIONS
    ]


def questions() -> list[str]:
    with (SHIPPED / "test.jsonl").open() as file:
        return [json.loads(line)["messages"][0]["content"] for _, line in zip(range(QUESTIONS), file, strict=False)]


def post(url: str, **fields: object) -> httpx.Response:
    return httpx.post(f"{url}/v1/chat/completions", json=fields, timeout=60)


def ask(url: str, question: str, **fields: object) -> Any:
    response = post(url, messages=[{"role": "user", "content": question}], **fields)
    assert response.status_code == 200, response.text
    return response.json()


def trace_of(answer: Any) -> list[Any]:
    trace: list[Any] = answer["choices"][0]["colllm"]["trace"]
    return trace


def test_answers_are_those_of_brute_force(url: str, trained_lab: TrainedCollaboration, held_out: list[Example]) -> None:
    """Many at once, token for token and author for author."""
    tokenizer = load_tokenizer(trained_lab.collaboration.base)
    members = list(trained_lab.collaboration.members)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda question: ask(url, question, max_tokens=40), questions()))
    models, eta = load_all(trained_lab), trained_lab.calibration.threshold
    for example, answer in zip(held_out, answers, strict=True):
        trace = trace_of(answer)
        got = [(token["token"], members.index(token["model"])) for token in trace]
        end = int(tokenizer.eos_token_id)
        assert got == brute_force_answer(models, trained_lab, example.prompt_ids, eta, 40, end)


def test_an_answer_says_who_wrote_what(url: str, held_out: list[Example], trained_lab: TrainedCollaboration) -> None:
    answer = ask(url, questions()[0])
    (choice,) = answer["choices"]
    trace, usage = trace_of(answer), answer["usage"]
    counts = {name: model["tokens"] for name, model in usage["colllm"]["models"].items()}
    assert choice["finish_reason"] == "stop"
    assert "".join(token["text"] for token in trace) == choice["message"]["content"]
    assert list(counts) == list(trained_lab.collaboration.members)
    assert sum(counts.values()) == len(trace) == usage["completion_tokens"]
    assert usage["prompt_tokens"] == len(held_out[0].prompt_ids)
    for token in trace:
        assert (token["p_defer"] > trained_lab.calibration.threshold) == (token["model"] != "base")
    assert sum(counts[name] for name in counts if name != "base") > 0


def test_a_member_answers_alone(url: str, trained_lab: TrainedCollaboration) -> None:
    for member in trained_lab.collaboration.members:
        answer = ask(url, questions()[0], model=f"lab/{member}", max_tokens=5)
        trace = trace_of(answer)
        assert {token["model"] for token in trace} == {member}
        assert all(token["p_defer"] is None for token in trace)


def test_a_length_limit_ends_an_answer(url: str) -> None:
    answer = ask(url, questions()[0], max_tokens=3)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"model": "other"}, 404, "no model 'other' here; there are: lab, lab/base, lab/pharma"),
        ({"messages": []}, 400, "messages: "),
        ({"temperature": 3}, 400, "temperature: "),
        ({"top_p": -0.1}, 400, "top_p: "),
        ({"seed": 2**63}, 400, "seed: "),
        ({"colllm": {"run_ahead": "maybe"}}, 400, "colllm.run_ahead: "),
        ({"nonsense": 1}, 400, "nonsense: is not known here"),
        ({"logit_bias": {"5": 1}}, 400, "logit_bias: is not supported"),
        ({"frequency_penalty": 0.5}, 400, "frequency_penalty: is not supported"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format: is not supported"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options: only with `stream`"),
        ({"top_logprobs": 2}, 400, "top_logprobs: only with `logprobs`"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, 400, "max_tokens and max_completion_tokens differ"),
        ({"colllm": {"experts": ["wolf"]}}, 400, "there is no member 'wolf'"),
        ({"colllm": {"experts": ["base"]}}, 400, "'base' is no expert"),
        ({"colllm": {"threshold": 0.5, "budget": 0.5}}, 400, "threshold and budget say the same in two ways"),
        ({"max_tokens": 0}, 400, "max_tokens: "),
        ({"max_tokens": 1000}, 400, "context is 256"),
        ({"messages": [{"role": "user", "content": "word " * 300}]}, 400, "context is 256"),
        ({"messages": [{"role": "cat", "content": "meow"}]}, 400, "messages.0.role: "),
    ],
)
def test_a_bad_request_is_refused_in_openais_shape(
    url: str, fields: dict[str, object], status: int, message: str
) -> None:
    response = post(url, **{"messages": [{"role": "user", "content": "hello"}], **fields})
    assert response.status_code == status
    error = response.json()["error"]
    assert message in error["message"]
    assert error["type"] == "invalid_request_error"


def test_running_ahead_changes_no_answer(url: str) -> None:
    for question in questions()[:6]:
        for sampling in ({}, {"temperature": 1.0, "top_p": 0.95, "seed": 5}):
            ahead, plain = (ask(url, question, colllm={"run_ahead": how}, **sampling) for how in ("auto", "off"))
            one, other = ([(token["token"], token["model"]) for token in trace_of(each)] for each in (ahead, plain))
            assert one == other


def test_a_seed_draws_the_same_answer_again(url: str) -> None:
    drawn = [ask(url, questions()[0], temperature=2.0, seed=seed) for seed in (1, 1, 2)]
    one, again, other = [answer["choices"][0]["message"]["content"] for answer in drawn]
    assert one == again != other


def test_a_server_and_a_folder_answer_alike(url: str, lab_run: Path) -> None:
    question = questions()[1]
    served, local = ask_server(url, question), ask_folder(lab_run / "collaboration", question)
    assert served.members == local.members
    for one, other in zip(served.trace, local.trace, strict=True):
        assert (one.token, one.text, one.model) == (other.token, other.text, other.model)
        # Tokens that are computed together are rounded otherwise.
        assert one.p_defer == pytest.approx(other.p_defer, abs=1e-4)


def test_a_refused_question_is_reported(url: str) -> None:
    with pytest.raises(ColllmError, match=r"refused with status 400: .*context is 256"):
        ask_server(url, "word " * 300)


def test_an_unreachable_server_is_named() -> None:
    with pytest.raises(ColllmError, match=r"127.0.0.1:\d+: cannot be reached"):
        ask_server(f"http://127.0.0.1:{free_port()}", "hello")


@pytest.mark.parametrize("door", ["url", "app"])
def test_scores_come_from_the_experts_that_run(
    door: str, url: str, lab: Collaboration, lab_run: Path, tmp_path: Path
) -> None:
    """As from models that scoring loads; texts longer than what one step takes in are among them."""
    shutil.copytree(lab_run / "scores", tmp_path / "scores")
    shutil.rmtree(tmp_path / "scores" / "math")
    score(lab, tmp_path, only="math", from_serve=url if door == "url" else lab.name)
    served, loaded = (
        ScoreFolder.of(lab, lab.data.sources, run / "scores").read("train") for run in (tmp_path, lab_run)
    )
    torch.testing.assert_close(served.gold_logprob, loaded.gold_logprob, atol=1e-4, rtol=0)
    assert (served.top1 == loaded.top1).float().mean() > 0.999  # ties


def test_an_expert_that_runs_with_other_weights_is_refused(url: str, lab: Collaboration, tmp_path: Path) -> None:
    math = lab.experts[2].model_copy(update={"dtype": "auto"})
    other = lab.model_copy(update={"experts": (*lab.experts[:2], math)})
    with pytest.raises(ColllmError, match=r"math is served with the weights \w+ in dtype 'float32'; .* in 'auto'"):
        score(other, tmp_path, from_serve=url)
    with pytest.raises(ColllmError, match="this Ray serves no application 'nobody'"):
        score(lab, tmp_path, from_serve="nobody")


@pytest.mark.parametrize(
    ("member", "ids", "mask", "message"),
    [
        ("wolf", [1, 2], [False, True], "there is no member 'wolf'"),
        ("math", [1, 2], [True, True], "target_mask: must say"),
        ("math", [1, 99999], [False, True], "is none of the vocabulary"),
        ("math", [1] * 999, [False, *[True] * 998], "has 999 tokens"),
    ],
)
def test_texts_that_cannot_be_scored_are_refused(
    url: str, member: str, ids: list[int], mask: list[bool], message: str
) -> None:
    body = {"member": member, "texts": [{"input_ids": ids, "target_mask": mask}]}
    response = httpx.post(f"{url}/v1/colllm/scores", json=body, timeout=60)
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]
