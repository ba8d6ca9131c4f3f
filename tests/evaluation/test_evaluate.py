"""A running collaboration of random models, examined: answers, likelihoods and thresholds against brute force."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from colllm_ray.config import ExpertConfig
from colllm_ray.data.text import text_of
from colllm_ray.deferral.calibration import Candidate
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.errors import ColllmError
from colllm_ray.evaluation.calibrate import Calibrated, calibrate, front
from colllm_ray.evaluation.compared import Compared
from colllm_ray.evaluation.evaluate import examined
from colllm_ray.evaluation.examiner import Examiner, examining, questions_of
from colllm_ray.evaluation.measures import Evaluation
from colllm_ray.evaluation.questions import Question, max_tokens
from colllm_ray.evaluation.task import Task
from colllm_ray.storage import location
from tests.collaborations import random_collaboration
from tests.conftest import CONTEXT, ModelFolder
from tests.decoding import brute_rivals as brute
from tests.oracles import brute_force_answer, load_all

MEMBERS, TUNED = range(3), 3


@dataclass(frozen=True)
class Bench:
    """What runs, and the same as plain models."""

    examiner: Examiner
    trained: TrainedCollaboration
    compared: Compared
    task: Task
    models: list[PreTrainedModel]
    folder: Path

    @property
    def questions(self) -> list[Question]:
        return questions_of(self.examiner, self.task)

    def longest(self, question: Question) -> int:
        return min(max_tokens(self.task, self.questions), CONTEXT - len(question.prompt))


@pytest.fixture(scope="module")
def bench(
    model_folder: ModelFolder,
    ray_local: None,  # noqa: ARG001
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Bench]:
    """A Llama, two experts, a guest, and another head; rows of two domains."""
    folder = tmp_path_factory.mktemp("examined")
    words = ("the quick brown fox", "jumps over", "the lazy dog", "où est le café?")
    rows = [
        {"prompt": words[i % 4], "completion": f" {words[(i + 1) % 4]} {i}", "domain": "ab"[i % 2]} for i in range(5)
    ]
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    trained = random_collaboration(model_folder, "llama", ["mistral", "qwen3"])
    replace(trained, head=DeferralHead(32, 2)).save(folder / "other")
    compared = Compared.of(trained, {"tuned": model_folder("llama", 7), "other": folder / "other"})
    with examining(trained, compared.guests, compared.heads) as examiner:
        models = load_all(replace(trained, collaboration=trained.collaboration.with_guests(compared.guests)))
        yield Bench(examiner, trained, compared, Task.of(str(data)), models, folder)


@pytest.fixture(scope="module")
def calibrated(bench: Bench) -> Calibrated:
    return calibrate(bench.examiner, bench.task, bench.questions, steps=10)


@pytest.fixture(scope="module")
def evaluation(bench: Bench) -> Evaluation:
    """By all methods, the base's uncertainty aside, whose threshold would be sought."""
    names = "alone random surest compose average product oracle contrastive speculative proxy head".split()
    return examined(bench.examiner, bench.task, names, location(bench.folder / "out"), bench.compared, with_curve=True)


def test_log_likelihoods_are_those_of_plain_forwards(bench: Bench, evaluation: Evaluation) -> None:
    for question, asked in zip(evaluation.answered, bench.questions, strict=True):
        assert asked.completion is not None
        ids, begin = torch.tensor([asked.prompt + asked.completion]), len(asked.prompt)
        expected = dict.fromkeys(question.nll, 0.0)
        with torch.no_grad():
            outputs = [model(ids, output_hidden_states=True) for model in bench.models]
            for t in range(begin, ids.shape[1]):
                logprobs = [float(o.logits[0, t - 1].log_softmax(-1)[ids[0, t]]) for o in outputs]
                p = bench.trained.head(outputs[0].hidden_states[-1][0, t - 1 : t])[0].softmax(-1).tolist()
                for who, logprob in zip(evaluation.models, logprobs, strict=True):
                    expected[who] -= logprob
                mixture = sum(share * math.exp(logprobs[k]) for k, share in enumerate(p))
                expected["collaboration"] -= math.log(mixture)
        assert question.nll == pytest.approx(expected, rel=1e-3)
        assert question.targets == len(asked.completion)


def test_the_collaborations_answers_are_those_of_brute_force(bench: Bench, evaluation: Evaluation) -> None:
    (end,) = bench.examiner.spec.end_tokens
    for question, asked in zip(evaluation.answered, bench.questions, strict=True):
        eta = bench.trained.calibration.threshold
        expected = brute_force_answer(bench.models[:3], bench.trained, asked.prompt, eta, bench.longest(asked), end)
        reply = question.replies["collaboration"]
        assert [(token.token, token.author) for token in reply.tokens] == expected
        assert reply.text == text_of([token for token, _ in expected], bench.examiner.tokenizer)
        assert reply.quality == float(reply.text.strip() == question.reference.strip())


def test_rivals_answer_over_links_what_brute_force_does(bench: Bench, evaluation: Evaluation) -> None:
    plain = brute.Plain(bench.models, bench.trained.head)
    (end,) = bench.examiner.spec.end_tokens
    for question, asked in zip(evaluation.answered, bench.questions, strict=True):
        assert asked.completion is not None
        expected = {
            "tuned": brute.alone(plain, TUNED),
            "surest": brute.surest(plain, MEMBERS),
            "compose": brute.compose(plain, MEMBERS),
            "average": brute.average(plain, MEMBERS),
            "product": brute.product(plain, MEMBERS),
            "oracle": brute.oracle(plain, MEMBERS, asked.completion, len(asked.prompt)),
            "contrastive:e0": brute.contrastive(plain, 1, 0.1),
            "speculative:e1": brute.alone(plain, 2),
            "proxy:e1:tuned": brute.proxy(plain, 2, TUNED),
        }
        for method, rule in expected.items():
            written = [token.token for token in question.replies[method].tokens]
            assert written == brute.greedy(rule, asked.prompt, bench.longest(asked), end), method


def test_the_die_is_cast_as_often_as_the_collaboration_defers(bench: Bench, evaluation: Evaluation) -> None:
    plain = brute.Plain(bench.models, bench.trained.head)
    (end,) = bench.examiner.spec.end_tokens
    shares = list(evaluation.overall["collaboration"].shares.values())[:3]
    assert sum(shares) == pytest.approx(1)
    for number, (question, asked) in enumerate(zip(evaluation.answered, bench.questions, strict=True)):
        written = [token.token for token in question.replies["random"].tokens]
        assert written == brute.greedy(brute.dice(plain, shares, number), asked.prompt, bench.longest(asked), end)


def test_costs_are_counted(evaluation: Evaluation) -> None:
    overall = evaluation.overall
    assert overall["average"].passes == {"base": 1.0, "e0": 1.0, "e1": 1.0, "tuned": 0.0}
    assert overall["average"].expert_calls == 2.0
    assert overall["e1"].passes == {"base": 0.0, "e0": 0.0, "e1": 1.0, "tuned": 0.0}
    assert overall["base"].expert_calls == 0.0
    assert overall["head:other"].shares != overall["collaboration"].shares
    assert evaluation.tokens_per_s("average") == pytest.approx(
        overall["average"].tokens / evaluation.seconds["average"]
    )
    assert set(evaluation.by_domain) == {"a", "b"}


def test_what_was_answered_is_not_asked_again(bench: Bench, evaluation: Evaluation, tmp_path: Path) -> None:
    """Nobody is there any more who could answer."""
    shutil.copytree(bench.folder / "out", tmp_path / "out")
    out = location(tmp_path / "out")
    silent = Examiner.__new__(Examiner)
    silent.spec, silent.tokenizer = bench.examiner.spec, bench.examiner.tokenizer
    again = examined(silent, bench.task, ["alone", "average"], out, bench.compared)
    for question, before in zip(again.answered, evaluation.answered, strict=True):
        assert question.replies == {method: before.replies[method] for method in question.replies}
        assert question.nll == before.nll
    assert again.tokens_per_s("average") == evaluation.tokens_per_s("average")
    shorter = bench.task.model_copy(update={"max_tokens": 2})
    with pytest.raises(AttributeError):
        examined(silent, shorter, ["average"], out, bench.compared)


def test_results_are_written_for_people_and_machines(bench: Bench, evaluation: Evaluation) -> None:
    content = json.loads((bench.folder / "out" / "measures.json").read_text())
    assert content["questions"] == 5
    assert set(content["methods"]) >= {"base", "e1", "tuned", "average", "proxy:e1:tuned", "collaboration"}
    for by_method in (content["methods"], *content["domains"].values()):
        for measures in by_method.values():
            assert 0 <= measures["quality"]["low"] <= measures["quality"]["mean"] <= measures["quality"]["high"] <= 1
    assert len(content["curve"]) == len({one.threshold for one in evaluation.calibration.candidates})
    rows = list(csv.DictReader((bench.folder / "out" / "measures.csv").open()))
    assert [row["method"] for row in rows] == list(evaluation.methods)
    assert rows[-1]["method"] == "collaboration"
    assert (bench.folder / "out" / "report.html").read_text().startswith("<!doctype html>")


def test_each_candidate_is_what_decoding_at_its_threshold_gives(bench: Bench, calibrated: Calibrated) -> None:
    (end,) = bench.examiner.spec.end_tokens
    candidates = calibrated.calibration.candidates
    assert [one.threshold for one in candidates] == sorted({one.threshold for one in candidates}, reverse=True)
    assert {bench.trained.calibration.threshold} <= {one.threshold for one in candidates}
    full = 0
    for one in candidates:
        tokens = deferrals = 0
        for asked in bench.questions:
            head = (bench.models[:3], bench.trained, asked.prompt, one.threshold)
            written = brute_force_answer(*head, bench.longest(asked), end)
            tokens += len(written)
            deferrals += sum(author > 0 for _, author in written)
        assert one.share == pytest.approx(deferrals / tokens)
        assert one.expert_calls == pytest.approx(deferrals / len(bench.questions))
        full += tokens + deferrals
    assert calibrated.full_passes == pytest.approx(full / len(candidates))
    assert calibrated.decodings < len(candidates)
    best = max(one.quality for one in candidates)
    assert {one.threshold: one.quality for one in candidates}[calibrated.calibration.threshold] == best
    assert any(one.on_front for one in candidates)
    assert all((one.answer_s or 0) > 0 for one in candidates if one.on_front)


def test_the_front_is_what_nothing_beats() -> None:
    points = [
        Candidate(0.0, 1.0, 0.2, expert_calls=0.0),
        Candidate(0.1, 0.9, 0.8, expert_calls=2.0),
        Candidate(0.2, 0.8, 0.8, expert_calls=2.0),
        Candidate(0.3, 0.7, 0.9, expert_calls=1.0),
        Candidate(0.4, 0.6, 0.5, expert_calls=5.0),
    ]
    assert front(points) == [points[0], points[1], points[3]]
    assert front(points[1:3]) == [points[1]]


def test_likelihood_tasks_are_judged_by_each_and_by_all(bench: Bench) -> None:
    rows = [
        {"prompt": "the quick", "options": [" brown fox", " dog", " lazy"], "right": "B"},
        {"prompt": "jumps over the", "options": [" lazy dog", " café"], "right": 1},
    ]
    data = bench.folder / "quiz.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = Task(
        name="quiz", data=str(data), columns={"prompt": "prompt"}, metric="choice", choices="options", answer="right"
    )
    evaluation = examined(bench.examiner, task, ["all"], location(bench.folder / "quiz"), bench.compared)
    assert evaluation.methods == ("base", "e0", "e1", "tuned", "collaboration")
    for number, asked in enumerate(questions_of(bench.examiner, task)):
        totals = []
        for choice in asked.choices:
            ids = torch.tensor([asked.prompt + choice])
            with torch.no_grad():
                logprobs = bench.models[2](ids).logits[0].log_softmax(-1)
            totals.append(sum(float(logprobs[len(asked.prompt) + t - 1, token]) for t, token in enumerate(choice)))
        best = totals.index(max(totals))
        assert evaluation.answered[number].replies["e1"].quality == float(best == asked.reference)
    perplexity = bench.task.model_copy(update={"name": "likely", "metric": "perplexity"})
    likely = examined(bench.examiner, perplexity, ["all"], location(bench.folder / "likely"), bench.compared)
    for question in likely.answered:
        nll = question.nll["collaboration"] / question.targets
        assert question.replies["collaboration"].quality == pytest.approx(math.exp(-nll))


def test_what_cannot_be_is_said(bench: Bench, tmp_path: Path) -> None:
    def refused(match: str, *names: str, task: Task = bench.task) -> None:
        with pytest.raises(ColllmError, match=match):
            examined(bench.examiner, task, names, location(tmp_path / "out"), bench.compared)

    refused("there is no method 'medium' here; there are: base, e0, e1, tuned, random", "medium")
    refused("entropy: its threshold is chosen on validation data", "entropy", task=_elsewhere(bench.task))
    with pytest.raises(ColllmError, match="of likelihoods, for which nobody defers"):
        calibrate(bench.examiner, bench.task.model_copy(update={"metric": "perplexity"}), bench.questions)
    with pytest.raises(ColllmError, match="e1: is the name of a member"):
        Compared.of(bench.trained, {"e1": tmp_path})
    with pytest.raises(ColllmError, match=r"no: there is no folder .* and 'nowhere' is no hub id"):
        Compared.of(bench.trained, {"no": "nowhere"})
    experts = tuple(ExpertConfig(name=name, model=bench.trained.collaboration.base.model) for name in ("one", "two"))
    changed = bench.trained.collaboration.model_copy(update={"experts": experts})
    replace(bench.trained, collaboration=changed).save(tmp_path / "changed")
    with pytest.raises(ColllmError, match=r"its head was trained for the experts \['one', 'two'\]"):
        Compared.of(bench.trained, {"changed": tmp_path / "changed"})


def _elsewhere(task: Task) -> Task:
    """The same rows under columns of the task's own."""
    return task.model_copy(update={"columns": {"prompt": "prompt", "completion": "completion"}})
