from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from colllm_ray.data.examples import read_whole
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.evaluation.evaluate import evaluate
from colllm_ray.evaluation.measures import Answered, Evaluation, measure
from colllm_ray.evaluation.report import results_table, write_report
from tests.conftest import CONTEXT
from tests.oracles import brute_force_answer, load_all


@pytest.fixture(scope="module")
def trained(trained_tiny: Path) -> TrainedCollaboration:
    """A Llama with random models of other architectures, and data of their own."""
    return TrainedCollaboration.load(trained_tiny / "collaboration")


@pytest.fixture(scope="module")
def evaluation(trained: TrainedCollaboration, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    workspace = tmp_path_factory.mktemp("workspace")
    data = workspace / "data.jsonl"
    rows = [json.loads(line) for line in Path(str(trained.collaboration.data.validation)).read_text().splitlines()]
    data.write_text("".join(json.dumps({**row, "domain": "ab"[i % 2]}) + "\n" for i, row in enumerate(rows)))
    evaluated = evaluate(trained, str(data), workspace)
    assert list(workspace.iterdir()) == [data]
    return evaluated


def test_log_likelihoods_are_those_of_plain_forwards(evaluation: Evaluation, trained: TrainedCollaboration) -> None:
    tokenizer = load_tokenizer(trained.collaboration.base)
    models = load_all(trained)
    examples = read_whole(trained.collaboration.data.validation, "test", tokenizer, CONTEXT, trained.collaboration.data)
    for question, example in zip(evaluation.answered, examples, strict=True):
        ids = torch.tensor([example.input_ids])
        expected = dict.fromkeys(question.nll, 0.0)
        with torch.no_grad():
            outputs = [model(ids, output_hidden_states=True) for model in models]
            for t in range(1, ids.shape[1]):
                if example.target_mask[t]:
                    logprobs = [float(o.logits[0, t - 1].log_softmax(-1)[ids[0, t]]) for o in outputs]
                    p = trained.head(outputs[0].hidden_states[-1][0, t - 1 : t])[0].softmax(-1).tolist()
                    mixture = sum(share * math.exp(logprob) for share, logprob in zip(p, logprobs, strict=True))
                    for who, logprob in zip(evaluation.members, logprobs, strict=True):
                        expected[who] -= logprob
                    expected["collaboration"] -= math.log(mixture)
        for who, nll in expected.items():
            assert question.nll[who] == pytest.approx(nll, rel=5e-3)  # the features are float16


def test_served_answers_are_those_of_brute_force(evaluation: Evaluation, trained: TrainedCollaboration) -> None:
    tokenizer = load_tokenizer(trained.collaboration.base)
    models, end = load_all(trained), int(tokenizer.eos_token_id)
    examples = list(
        read_whole(trained.collaboration.data.validation, "test", tokenizer, CONTEXT, trained.collaboration.data)
    )
    longest = 1 + max(len(example.completion_ids) for example in examples)
    for question, example in zip(evaluation.answered, examples, strict=True):
        written = [(token.token, token.author) for token in question.written]
        eta = trained.calibration.threshold
        limit = min(longest, CONTEXT - len(example.prompt_ids))
        assert written == brute_force_answer(models, trained, example.prompt_ids, eta, limit, end)


def test_the_json_has_the_promised_keys(evaluation: Evaluation) -> None:
    content = json.loads(json.dumps(evaluation.to_json()))
    assert set(content["domains"]) == {"a", "b"}
    members = {"base", "mistral", "qwen"}
    for measures in (content, *content["domains"].values()):
        assert set(measures["exact_match"]) == set(measures["nll"]) == {*members, "collaboration"}
        assert set(measures["tokens_by_model"]) == members
        assert 0 <= measures["deferral_rate"] <= 1


def test_the_report_shows_answers_and_needs_nothing_else(
    evaluation: Evaluation, trained: TrainedCollaboration, tmp_path: Path
) -> None:
    write_report(evaluation, load_tokenizer(trained.collaboration.base), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "http" not in page
    assert "src=" not in page
    assert "<svg" in page
    assert page.count('class="answer"') == 5
    assert results_table(evaluation).row_count == 4


def answered(right: bool, authors: list[int]) -> Answered:
    written = tuple(WrittenToken(7, author, 0.5, -0.1) for author in authors)
    return Answered(
        "d",
        "q",
        "yes",
        {"base": "no", "collaboration": "yes" if right else "no"},
        written,
        {"base": 6.0, "collaboration": 2.0},
        2,
    )


def test_measures_are_counted_over_questions_and_tokens() -> None:
    measures = measure([answered(True, [0, 0, 1]), answered(False, [1])], ["base", "one"])
    assert measures.exact_match == {"base": 0.0, "collaboration": 0.5}
    assert measures.nll == {"base": 3.0, "collaboration": 1.0}
    assert measures.deferral_rate == 0.5
    assert measures.tokens_by_model == {"base": 2, "one": 2}
