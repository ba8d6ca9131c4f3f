from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colllm_ray.errors import ColllmError
from colllm_ray.evaluation.metrics import METRICS, metric_of
from colllm_ray.evaluation.metrics.choice import choice_texts, right_choice
from colllm_ray.evaluation.metrics.exact import Exact
from colllm_ray.evaluation.metrics.factoid import Factoid
from colllm_ray.evaluation.metrics.words import normal_text
from colllm_ray.evaluation.metrics.yes_no import YesNo
from colllm_ray.evaluation.task import MetricName, Task


def test_a_task_names_its_metric() -> None:
    for name, kind in METRICS.items():
        assert isinstance(metric_of(Task(name="task", data="rows.jsonl", metric=name)), kind)


@given(st.text() | st.lists(st.text(max_size=9), max_size=3), st.sampled_from(["exact", "factoid", "yes_no", "math"]))
def test_a_reference_that_is_taken_is_right_as_an_answer(reference: str | list[str], name: MetricName) -> None:
    metric = metric_of(Task(name="task", data="rows.jsonl", metric=name))
    try:
        metric.check(reference)
    except ColllmError:
        return
    for answer in [reference] if isinstance(reference, str) else reference:
        assert metric.score(answer, reference) == metric.score(answer, reference) == 1.0


def test_likelihoods_are_measured_elsewhere() -> None:
    with pytest.raises(ValueError, match="task: has no answers to judge by perplexity"):
        metric_of(Task(name="task", data="rows.jsonl", metric="perplexity"))


def test_exact_is_equal_but_for_what_is_around() -> None:
    assert Exact().score(" the fox\n", "the fox") == 1.0
    assert Exact().score("The fox", "the fox") == 0.0
    with pytest.raises(ColllmError, match="holds 3; a text is right for the metric `exact`"):
        Exact().check(3)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Fox.", "fox"),
        ("a fox, an ox", "fox ox"),
        ("IL-6", "il6"),
        ("«Ödem»", "ödem"),
        ("O\u0308dem", "ödem"),
        ("A", "a"),  # the blood group
        ("+", "+"),
        (" ", ""),
    ],
)
def test_case_punctuation_and_articles_say_nothing(text: str, normal: str) -> None:
    assert normal_text(text) == normal


@given(st.text())
def test_a_normal_text_is_its_own(text: str) -> None:
    assert normal_text(normal_text(text)) == normal_text(text)


def test_a_fact_scores_the_words_it_shares() -> None:
    assert Factoid().score("It is the transducin beta-like gene", "Transducin Beta-like") == pytest.approx(4 / 7)
    assert Factoid().score("p53", ["TP53", "p53."]) == 1.0
    assert Factoid().score("", "p53") == Factoid().score("EGFR", ["TP53", "p53"]) == 0.0
    assert Factoid().score("p53 p53", "p53") == pytest.approx(2 / 3)


@pytest.mark.parametrize("reference", [[], "", 3, ["p53", 3], [["p53"]]])
def test_a_reference_that_is_no_text_or_synonyms_is_refused(reference: object) -> None:
    with pytest.raises(ColllmError, match="a text, or a list of synonyms, is right for the metric `factoid`"):
        Factoid().check(reference)


def test_the_first_yes_or_no_counts() -> None:
    for reference in ("yes", " Yes", True):
        YesNo().check(reference)
        assert YesNo().score("**YES**, as nobody says no", reference) == 1.0
        assert YesNo().score("No. Yes would be wrong", reference) == 0.0
        assert YesNo().score("Nobody knows.", reference) == 0.0
    assert YesNo().score("no", False) == 1.0
    assert YesNo().score("No-one doubts it: yes.", True) == 1.0
    with pytest.raises(ColllmError, match="holds 'maybe'; yes, no, true or false is right"):
        YesNo().check("maybe")


@pytest.mark.parametrize(
    "answer",
    [
        "There is no doubt that it does. So the answer is **yes**.",
        r"No trial has failed yet, so $\boxed{\text{Yes}}$.",
        "No side effects are known.\n\n**Answer:** Yes\n\nNo more is needed.",
        "Yes\n\nThere is no doubt.",
        "The answer is clear: **Yes**, because no doubt is left",
    ],
)
def test_a_yes_that_is_called_the_answer_counts_before_the_first(answer: str) -> None:
    assert YesNo().score(answer, "yes") == 1.0
    assert YesNo().score(answer, "no") == 0.0


@pytest.mark.parametrize(
    ("reference", "index"), [(0, 0), (2, 2), ("dog", 1), (" dog ", 1), ("A", 0), ("c", 2), ("B", 3), ("3", 2)]
)
def test_a_choice_is_meant_by_index_text_or_letter(reference: object, index: int) -> None:
    assert right_choice(["fox", "dog", "3", "B"], reference) == index


@pytest.mark.parametrize("reference", [3, -1, True, 1.0, "D", "cat", "", None, "1"])
def test_what_means_no_choice_is_refused(reference: object) -> None:
    message = "right are an index from 0 to 2, the text of a choice, or a letter from A to C"
    with pytest.raises(ColllmError, match=message):
        right_choice(["fox", "dog", "ox"], reference)


def test_a_text_that_means_two_choices_is_refused() -> None:
    with pytest.raises(ColllmError, match="holds 'fox', which is choice 0 and 2; an index is right"):
        right_choice(["fox", "dog", "fox"], "fox")


@pytest.mark.parametrize("value", ["fox", ["fox"], [], None, ["fox", None], ["fox", " "], ["fox", True]])
def test_what_is_no_list_of_choices_is_refused(value: object) -> None:
    with pytest.raises(ColllmError, match=r"a list of two choices or more is right|each choice must be a text"):
        choice_texts(value)
