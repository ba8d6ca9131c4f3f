from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colllm_ray.errors import ColllmError
from colllm_ray.evaluation.metrics.item_list import ItemList
from colllm_ray.evaluation.metrics.items import items_of
from colllm_ray.evaluation.metrics.words import normal_text

WORDS = st.lists(st.sampled_from("brca tp53 egfr kras alk ret met ros1".split()), min_size=1, unique=True)


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
        ("- a, b\n- c and d", ["a, b", "c and d"]),
        ("a; b, c; and d and e", ["a", "b, c", "d and e"]),
        ("N,N-a, b", ["N,N-a", "b"]),
        ("a (b, c), d [e and f]", ["a", "d"]),
        ("- Rare ones:\n  - a\n  - b", ["a", "b"]),
        ("[" * 5000, []),
        ("", []),
        (" , ; \n - ", []),
        ("none", ["none"]),
    ],
)
def test_items_are_what_separators_leave(answer: str, items: list[str]) -> None:
    assert items_of(answer) == items


CANCERS = ["melanoma", "head and neck cancer"]


@pytest.mark.parametrize(
    ("reference", "answer", "f1"),
    [
        (["head and neck cancer"], "head and neck cancer", 1),
        (["N,N-dimethyltryptamine"], "N,N-dimethyltryptamine", 1),
        (["hand, foot and mouth disease"], "Hand, foot, and mouth disease.", 1),
        (CANCERS, "- melanoma\n- head and neck cancer", 1),
        (CANCERS, "melanoma and head and neck cancer", 1),
        (CANCERS, "head and neck cancer and melanoma", 1),
        (CANCERS, "The cancers are melanoma and head and neck cancer.", 1),
        (CANCERS, "melanoma,\nhead and neck cancer", 1),
        (
            CANCERS,
            "1. **Melanoma** (of the skin): rare, and bad\n2. **Head and neck cancer** - it is two\n\nThese are all.",
            1,
        ),
        (CANCERS, '"melanoma", "head and neck cancer"', 1),
        (CANCERS, "['melanoma', 'head and neck cancer']", 1),
        (CANCERS, '```json\n["melanoma", "head and neck cancer"]\n```', 1),
        (CANCERS, "melanoma\n2. head and neck cancer", 1),  # where the prompt ends with "1."
        (["p53", "N,N-dimethyltryptamine"], "p53 and N,N-dimethyltryptamine", 1),
        (["BRCA1", "TP53"], "- BRCA1 and TP53", 1),  # one bullet parts nothing
        # What parts a list in one way is not parted in another.
        (["melanoma", "head", "neck cancer"], "- melanoma\n- head and neck cancer", 0.4),
        (["melanoma", "head", "neck cancer"], "melanoma\nhead and neck cancer", 0.4),
        (["melanoma", "acid", "base"], "1) melanoma 2) acid, base", 0.4),
        (["melanoma", "bed"], "melanoma, x, and bed and breakfast", 0.4),
        # A part of an item is none.
        (["head"], "head and neck cancer, melanoma", 0),
        (["neck cancer"], "head and neck cancer, melanoma", 0),
        (["dimethyltryptamine"], "N,N-dimethyltryptamine", 0),
    ],
)
def test_a_list_is_parted_in_one_way_and_around_known_items(reference: list[str], answer: str, f1: float) -> None:
    assert ItemList().score(answer, reference) == pytest.approx(f1)


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


# Items that hold what parts, marks, introduces or explains the items of other lists.
HARD = [
    "melanoma",
    "head and neck cancer",
    "hand, foot and mouth disease",
    "N,N-dimethyltryptamine",
    "1,2-dichloroethane",
    "beta-(1,3)-glucan",
    "(+)-catechin",
    "tumor necrosis factor (TNF)",
    "peptides (a, b and c)",
    "HLA-B: 27",
    "vitamin B 12",
    "1. FC Köln",
    "5'-AMP",
    "signs; symptoms",
    "E. coli",
    "sodium - potassium pump",
]
FREE = st.text("abdeonrs 019'.-–*_#&/+", max_size=12).map(lambda tail: f"word{tail}word")  # noqa: RUF001
ITEMS = st.lists(st.sampled_from(HARD) | FREE, min_size=1, max_size=6, unique_by=normal_text)

Way = Callable[[Sequence[str]], str]


def in_prose(separator: str, last: str, around: str) -> Way:
    def write(items: Sequence[str]) -> str:
        return around.format(last.join(filter(None, [separator.join(items[:-1]), items[-1]])))

    return write


def in_lines(line: str, around: str) -> Way:
    return lambda items: around.format("\n".join(line.format(item, i=i) for i, item in enumerate(items, 1)))


SEPARATORS = [(", ", ", "), (", ", " and "), (", ", ", and "), ("; ", "; "), ("; ", "; and "), (" and ", " and ")]
SENTENCES = ["{}", "{}.", "The types are: {}.", "They include {}."]
MARKED = [
    "- {}",
    "* **{}**",
    "{i}. {}",
    "{i}) {}",
    "({i}) {}",
    "• {}",
    "- {},",
    "- {};",
    "- {}: the {i} of all, and more",
]
LISTS = ["{}", "The types are:\n{}", "## Types\n\n{}\n\nThese are all, and there is no other."]
WAYS = [
    *(in_prose(*separators, around) for separators in SEPARATORS for around in SENTENCES),
    *(in_lines(line, around) for line in MARKED for around in LISTS),
    in_lines("{}", "{}"),
    in_lines("{}", "The types are:\n{}\n"),
    json.dumps,
]


@settings(max_examples=500)
@given(ITEMS, st.sampled_from(WAYS))
def test_a_list_that_is_the_reference_is_right_however_it_is_written(items: list[str], write: Way) -> None:
    assert ItemList().score(write(items), items) == 1.0


@settings(max_examples=300)
@given(ITEMS, WORDS, st.sampled_from(WAYS), st.randoms(use_true_random=False))
def test_a_wrong_item_never_helps(items: list[str], wrong: list[str], write: Way, rng: random.Random) -> None:
    said = rng.sample([*items, *wrong], len(items) + len(wrong))
    score = ItemList().score(write(said), items)
    said.insert(rng.randint(0, len(said)), "something else")
    assert ItemList().score(write(said), items) <= score
