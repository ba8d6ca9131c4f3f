from __future__ import annotations

from dataclasses import replace

import pytest
from transformers import PreTrainedTokenizerFast

from colllm_ray.evaluation.analysis import FEWEST, Analysis, Share, kind_of, traces_of
from colllm_ray.evaluation.answered import COLLABORATION, Reply
from colllm_ray.evaluation.measures import Evaluation
from tests.evaluation.evaluations import SURE, UNSURE, Maker, evaluation, judged, quiz


@pytest.fixture(scope="module")
def made(tokenizer: PreTrainedTokenizerFast) -> Evaluation:
    return quiz(tokenizer)


@pytest.fixture(scope="module")
def maker(tokenizer: PreTrainedTokenizerFast) -> Maker:
    return Maker(tokenizer)


def analysed(of: Evaluation) -> Analysis:
    return Analysis.of(of, traces_of(of))


def test_authors_are_counted_by_domain(made: Evaluation, maker: Maker) -> None:
    begin, fox, dog = (len(maker.ids(text)) for text in ("the quick", " fox", " dog"))
    a, b = 2 * (begin + fox), 2 * begin + fox + dog
    expected = {
        "a": {"base": Share(2 * begin, a), "one": Share(2 * fox, a)},
        "b": {"base": Share(2 * begin, b), "one": Share(fox + dog, b)},
    }
    assert analysed(made).authors == expected
    with_guest = replace(made, models=("base", "one", "silent"))
    assert analysed(with_guest).authors == expected
    unnamed = replace(made, answered=tuple(replace(one, domain=None) for one in made.answered))
    assert analysed(unnamed).authors == {None: {"base": Share(4 * begin, a + b), "one": Share(3 * fox + dog, a + b)}}


def test_places_are_told_as_far_as_enough_answers_go(maker: Maker) -> None:
    long = maker.reply(1.0, [("xy", 0, SURE), ("zx", 1, SURE), ("y", 0, SURE)])
    short = maker.reply(1.0, [("x", 1, SURE), ("yz", 0, SURE)])
    assert [len(reply.tokens) for reply in (long, short)] == [5, 3]

    def places(*replies: Reply) -> list[Share]:
        answered = [maker.question("xyzxy", {COLLABORATION: reply}) for reply in replies]
        return list(analysed(evaluation(answered)).places)

    assert places(*[long] * FEWEST, short) == [Share(1, 6), Share(0, 6), Share(5, 6), Share(5, 5), Share(0, 5)]
    assert places(*[long] * (FEWEST - 1), short) == [Share(1, 5), Share(0, 5), Share(4, 5)]
    assert places(long) == [Share(0, 1), Share(0, 1), Share(1, 1), Share(1, 1), Share(0, 1)]


@pytest.mark.parametrize(
    ("before", "text", "kind"),
    [
        ("", "Two", "beginning of a word"),
        ("The", " fox", "beginning of a word"),
        ("(", "fox", "beginning of a word"),
        ("5", "mg", "beginning of a word"),
        ("gobicill", "in", "inside of a word"),
        ("Mc", "Donald", "inside of a word"),
        ("don", "'t", "inside of a word"),
        ("क", "ि", "inside of a word"),
        ("日", "本", "inside of a word"),
        ("is", " 24", "number"),
        ("24", ",000", "number"),
        ("", "½", "number"),
        ("fox", ",", "punctuation"),
        ("x", " +", "punctuation"),
        (".", "\n", "whitespace"),
        (".", " \t", "whitespace"),
        ("é", "", ""),
    ],
)
def test_kinds_are_told_from_texts(before: str, text: str, kind: str) -> None:
    assert kind_of(text, before) == kind


def test_what_has_no_text_is_the_end_or_a_part_of_a_character(maker: Maker, tokenizer: PreTrainedTokenizerFast) -> None:
    end = tokenizer.eos_token
    answered = [maker.question("語", {COLLABORATION: maker.reply(1.0, [("(語", 0, SURE), (end, 1, SURE)])})]
    (trace,) = traces_of(evaluation(answered))
    assert [token.text for token in trace if token.text][-1] == "語"
    parts = sum(not token.text for token in trace) - 1
    assert parts > 0
    kinds = analysed(evaluation(answered)).kinds
    assert kinds["end"] == Share(1, 1)
    assert kinds["part of a character"] == Share(0, parts)
    assert sum(share.whole for share in kinds.values()) == len(trace)
    assert kinds["beginning of a word"] == kinds["punctuation"] == Share(0, 1)


def test_marks_are_wrong_as_often_as_the_reference_says(maker: Maker) -> None:
    # Aligned, "x" and "z" are where they should be; "1" is not, nor the marked "2", which two marked right ones follow.
    reply = maker.reply(0.5, [("x", 0, SURE), ("1", 0, SURE), ("2", 1, UNSURE), ("zy", 1, UNSURE), ("x", 0, SURE)])
    apart = maker.reply(1.0, [("xz", 0, SURE), ("y", 1, UNSURE), ("x", 1, SURE)])
    sure = maker.reply(0.0, [("z", 0, SURE)])
    answered = [maker.question("xzyx", {COLLABORATION: one}) for one in (reply, apart)]
    answered += [replace(maker.question("xzyx", {COLLABORATION: sure}), completion=None)]
    marks = analysed(evaluation(answered)).marks
    assert (marks.marked, marks.unmarked, marks.spans) == (Share(1, 4), Share(1, 6), Share(1, 2))
    assert (marks.answers_with, marks.answers_without) == (Share(1.5, 2), Share(0.0, 1))
    assert marks.marked.of_one == 0.25
    assert marks.knows_wrong


def test_ties_are_marked_at_the_threshold_of_the_evaluation(made: Evaluation) -> None:
    calibration = replace(made.calibration, threshold=0.9)
    at_tie = replace(made, calibration=calibration)
    deferred = sum(share.part for share in analysed(made).kinds.values())
    assert analysed(at_tie).marks.marked.whole == deferred


def test_without_completions_answers_are_compared_alone(made: Evaluation) -> None:
    unknown = replace(made, answered=tuple(replace(one, completion=None) for one in made.answered))
    marks = analysed(unknown).marks
    assert not marks.knows_wrong
    assert marks.marked.of_one is marks.unmarked.of_one is marks.spans.of_one is None
    assert (marks.answers_with, marks.answers_without) == (Share(0.0, 1), Share(3.0, 3))


def test_nothing_written_is_nothing_counted(tokenizer: PreTrainedTokenizerFast) -> None:
    nothing = analysed(judged(tokenizer))
    assert (nothing.authors, nothing.places, nothing.kinds) == ({None: {}}, [], {})
