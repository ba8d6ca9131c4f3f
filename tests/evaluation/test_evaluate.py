from __future__ import annotations

import json
import math
from itertools import islice
from pathlib import Path

import pytest
import torch

from colllm_ray.config import Collaboration
from colllm_ray.data.examples import read_examples
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.decoding.loop import WrittenToken
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.evaluation.evaluate import evaluate
from colllm_ray.evaluation.measures import Answered, Evaluation, measure
from colllm_ray.evaluation.report import results_table, write_report
from colllm_ray.lab.collaboration import SHIPPED
from colllm_ray.training.train import train
from tests.oracles import load_all

DOMAINS = ("pharma", "bears", "math")


@pytest.fixture(scope="module")
def evaluation(trained_lab: TrainedCollaboration) -> Evaluation:
    """All held-out questions of the lab, answered through Ray Serve."""
    return evaluate(trained_lab, SHIPPED / "test.jsonl")


def test_together_they_know_what_none_knows_alone(evaluation: Evaluation) -> None:
    measures = evaluation.overall
    assert measures.questions >= 150
    assert measures.exact_match["collaboration"] >= 0.85
    assert max(measures.exact_match[member] for member in evaluation.members) <= 0.25
    assert measures.nll["collaboration"] < min(measures.nll[member] for member in evaluation.members)
    assert measures.deferral_rate <= 0.35


def test_each_domain_is_answered_and_written_by_its_expert(evaluation: Evaluation) -> None:
    assert set(evaluation.by_domain) == set(DOMAINS)
    for domain, measures in evaluation.by_domain.items():
        assert measures.questions >= 50
        assert measures.exact_match["collaboration"] >= 0.75
        deferred = {name: count for name, count in measures.tokens_by_model.items() if name != "base"}
        assert deferred[domain] >= 0.9 * sum(deferred.values())


def test_log_likelihoods_are_those_of_plain_forwards(evaluation: Evaluation, trained_lab: TrainedCollaboration) -> None:
    tokenizer = load_tokenizer(trained_lab.collaboration.base)
    models = load_all(trained_lab)
    examples = read_examples(SHIPPED / "test.jsonl", "test", tokenizer, 256)
    for question, example in islice(zip(evaluation.answered, examples, strict=True), 30):
        ids = torch.tensor([example.input_ids])
        expected = dict.fromkeys(question.nll, 0.0)
        with torch.no_grad():
            outputs = [model(ids, output_hidden_states=True) for model in models]
            for t in range(1, ids.shape[1]):
                if example.target_mask[t]:
                    logprobs = [float(o.logits[0, t - 1].log_softmax(-1)[ids[0, t]]) for o in outputs]
                    p = trained_lab.head(outputs[0].hidden_states[-1][0, t - 1 : t])[0].softmax(-1).tolist()
                    mixture = sum(share * math.exp(logprob) for share, logprob in zip(p, logprobs, strict=True))
                    for who, logprob in zip(evaluation.members, logprobs, strict=True):
                        expected[who] -= logprob
                    expected["collaboration"] -= math.log(mixture)
        for who, nll in expected.items():
            assert question.nll[who] == pytest.approx(nll, rel=1e-2, abs=2e-2)  # the features are float16


def test_the_json_has_the_promised_keys(evaluation: Evaluation) -> None:
    content = json.loads(json.dumps(evaluation.to_json()))
    for measures in (content, *content["domains"].values()):
        assert set(measures["exact_match"]) == set(measures["nll"]) == {"base", *DOMAINS, "collaboration"}
        assert set(measures["tokens_by_model"]) == {"base", *DOMAINS}
        assert 0 <= measures["deferral_rate"] <= 1


def test_the_report_shows_answers_and_needs_nothing_else(
    evaluation: Evaluation, trained_lab: TrainedCollaboration, tmp_path: Path
) -> None:
    write_report(evaluation, load_tokenizer(trained_lab.collaboration.base), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "http" not in page
    assert "src=" not in page
    assert "<svg" in page
    assert page.count('class="answer"') == 12
    assert results_table(evaluation).row_count == 5


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


def test_other_architectures_and_data_are_evaluated(tiny: Collaboration, tiny_run: Path) -> None:
    evaluation = evaluate(train(tiny, tiny_run), Path(tiny.data.validation))
    assert evaluation.overall.questions == 5
    assert evaluation.by_domain == {}
    assert set(evaluation.overall.nll) == {"base", "mistral", "qwen", "collaboration"}
