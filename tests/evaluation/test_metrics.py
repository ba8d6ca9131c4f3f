from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colllm_ray.errors import ColllmError
from colllm_ray.evaluation.metrics import METRICS, metric_of
from colllm_ray.evaluation.metrics.choice import choice_texts, right_choice
from colllm_ray.evaluation.metrics.exact import Exact
from colllm_ray.evaluation.metrics.factoid import Factoid
from colllm_ray.evaluation.metrics.item_list import ItemList
from colllm_ray.evaluation.metrics.items import items_of
from colllm_ray.evaluation.metrics.words import normal_text
from colllm_ray.evaluation.metrics.yes_no import YesNo
from colllm_ray.evaluation.task import Task

WORDS = st.lists(st.sampled_from("brca tp53 egfr kras alk ret met ros1".split()), min_size=1, unique=True)


def test_a_task_names_its_metric() -> None:
    for name, kind in METRICS.items():
        assert isinstance(metric_of(Task(name="task", data="rows.jsonl", metric=name)), kind)


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


@pytest.mark.parametrize(
    "answer",
    [
        "BRCA1, TP53 and EGFR",
        "BRCA1, TP53, and EGFR.",
        "The genes are: BRCA1; TP53; EGFR",
        "- BRCA1\n- TP53\n- EGFR\n",
        "* **BRCA1**\n* **TP53**\n\n* **EGFR**",
        "1. BRCA1\n2. TP53\n3. EGFR",
        "1) BRCA1 2) TP53 3) EGFR",
        "These:\n(1) BRCA1,\n(2) TP53\nand EGFR",
        "• BRCA1 • TP53 • EGFR",
    ],
)
def test_items_are_found_in_prose_and_in_lines(answer: str) -> None:
    assert ItemList().score(answer, ["egfr", "BRCA1", ["p53", "TP53"]]) == 1.0


@pytest.mark.parametrize(
    ("answer", "items"),
    [
        ("2,4-dinitrophenol, salt", ["2,4-dinitrophenol", "salt"]),
        ("rash and fever and pain", ["rash and fever", "pain"]),
        ("", []),
        (" , ; \n - ", []),
        ("none", ["none"]),
    ],
)
def test_items_are_what_separators_leave(answer: str, items: list[str]) -> None:
    assert items_of(answer) == items


@pytest.mark.parametrize(
    ("answer", "f1"),
    [
        ("BRCA1", 2 / 3),  # precision 1, recall 1/2
        ("BRCA1, BRCA1", 1 / 2),  # the second is wrong
        ("p53, TP53", 1 / 2),  # synonyms of one item
        ("BRCA1, TP53, EGFR, KRAS", 2 / 3),  # precision 1/2, recall 1
        ("EGFR", 0.0),
        ("", 0.0),
    ],
)
def test_a_list_scores_precision_and_recall(answer: str, f1: float) -> None:
    assert ItemList().score(answer, ["BRCA1", ["p53", "TP53"]]) == pytest.approx(f1)


def test_items_that_share_a_synonym_are_paired_as_well_as_can_be() -> None:
    for answer in ("a1, b1", "b1, a1"):
        assert ItemList().score(answer, [["a1", "b1"], ["a1"]]) == 1.0


@given(WORDS, WORDS, st.randoms(use_true_random=False))
def test_f1_is_symmetric_and_knows_no_order(said: list[str], right: list[str], rng: random.Random) -> None:
    score = ItemList().score(", ".join(said), right)
    assert score == pytest.approx(2 * len(set(said) & set(right)) / (len(said) + len(right)))
    assert ItemList().score("\n".join(right), said) == score
    rng.shuffle(said)
    assert ItemList().score("; ".join(said), right) == score


@pytest.mark.parametrize("reference", ["BRCA1", [], None, [1], [[]], [""], [["BRCA1", " "]]])
def test_a_reference_that_is_no_list_of_items_is_refused(reference: object) -> None:
    with pytest.raises(ColllmError, match="a list of items, each a text or a list of synonyms, is right"):
        ItemList().check(reference)


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
    with pytest.raises(ColllmError, match="holds 'maybe'; yes, no, true or false is right"):
        YesNo().check("maybe")


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
