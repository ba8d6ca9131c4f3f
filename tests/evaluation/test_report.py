"""What people read of an evaluation, and the counts behind it."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedTokenizerFast

from colllm_ray.evaluation.analysis import Analysis, Share, kind_of
from colllm_ray.evaluation.answered import COLLABORATION, Reply
from colllm_ray.evaluation.charts import calibration_chart, deferral_curve
from colllm_ray.evaluation.measures import Evaluation
from colllm_ray.evaluation.report import calibration_table, report_page, results_table
from tests.evaluation.evaluations import DECODED, Maker, evaluation

SURE, UNSURE = -0.1, -2.0  # log-probs
HOSTILE = "<script>alert('$x$')</script>"


@pytest.fixture(scope="module")
def made(tokenizer: PreTrainedTokenizerFast) -> Evaluation:
    """Two questions of each of two domains: three answers right, one wrong in a place that is marked."""
    maker = Maker(tokenizer)
    base = maker.reply(0.0, [("the dog", 0, SURE)], (2, 0))
    right = maker.reply(1.0, [("the quick", 0, SURE), (" fox", 1, SURE)])
    wrong = maker.reply(0.0, [("the quick", 0, SURE), (" dog", 1, UNSURE)])
    return evaluation(
        [
            maker.question("the quick fox", {COLLABORATION: reply, "base": base, HOSTILE: base}, domain, HOSTILE)
            for domain, reply in (("a", right), ("b", wrong), ("a", right), ("b", right))
        ],
        DECODED,
    )


def shown(table: Table) -> str:
    console = Console(width=200, file=StringIO())
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_measures_are_counted_over_questions_and_tokens(made: Evaluation) -> None:
    ours, base = made.overall[COLLABORATION], made.overall["base"]
    assert made.methods == ("base", HOSTILE, COLLABORATION)
    assert (ours.quality.mean, base.quality.mean) == (0.75, 0.0)
    assert base.behind is not None
    assert (base.behind.mean, ours.behind) == (0.75, None)
    assert (ours.nll, base.nll, made.overall[HOSTILE].nll) == (1.0, 2.0, None)
    deferred = sum(token.author for question in made.answered for token in question.replies[COLLABORATION].tokens)
    assert ours.shares == {"base": 1 - deferred / ours.tokens, "one": deferred / ours.tokens}
    assert ours.passes == {"base": 20 / ours.tokens, "one": 4 / ours.tokens}
    assert ours.expert_calls == 4 / ours.tokens
    assert made.tokens_per_s(COLLABORATION) == ours.tokens / 2.0
    assert {name: one[COLLABORATION].quality.mean for name, one in made.by_domain.items()} == {"a": 1.0, "b": 0.5}


def test_who_wrote_is_told_by_domain_place_and_kind(made: Evaluation, tokenizer: PreTrainedTokenizerFast) -> None:
    maker, analysis = Maker(tokenizer), Analysis.of(made, tokenizer)
    begin, fox, dog = (len(maker.ids(text)) for text in ("the quick", " fox", " dog"))
    assert analysis.authors == {"a": [2 * begin, 2 * fox], "b": [2 * begin, fox + dog]}
    assert analysis.places[:begin] == [Share(0, 4)] * begin
    assert analysis.places[begin] == Share(4, 4)
    assert sum(share.whole for share in analysis.kinds.values()) == 4 * begin + 3 * fox + dog
    assert sum(share.part for share in analysis.kinds.values()) == 3 * fox + dog


def test_marks_are_wrong_as_often_as_they_are(made: Evaluation, tokenizer: PreTrainedTokenizerFast) -> None:
    maker, analysis = Maker(tokenizer), Analysis.of(made, tokenizer)
    dog, right = len(maker.ids(" dog")), len(maker.ids("the quick fox"))
    assert analysis.marks is not None
    assert analysis.marks.marked.whole == dog
    assert analysis.marks.marked.part >= 1
    assert analysis.marks.unmarked == Share(0, 3 * right + len(maker.ids("the quick")))
    assert analysis.marks.spans == Share(1, 1)
    assert (analysis.marks.answers_with, analysis.marks.answers_without) == (Share(0.0, 1), Share(3.0, 3))
    unknown = replace(made, answered=tuple(replace(one, completion=None) for one in made.answered))
    assert Analysis.of(unknown, tokenizer).marks is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (" fox", "word, begun"),
        ("Two", "word, begun"),
        ("umab", "word, inside"),
        (" 24", "number"),
        ("000", "number"),
        (",", "punctuation"),
        ("\n", "space"),
        ("", "end"),
    ],
)
def test_kinds_of_tokens(text: str, kind: str) -> None:
    assert kind_of(text) == kind


def test_the_page_shows_all_and_needs_nothing_else(made: Evaluation, tokenizer: PreTrainedTokenizerFast) -> None:
    page = report_page(made, tokenizer)
    for word in ("http", "src=", "<script", "None", "nan"):
        assert word not in page
    assert page.count("<svg") == 5
    assert page.count('class="answer"') == 4
    assert 'title="one, p_defer 0.90, unsure"' in page
    for heading in (
        "How good",
        "Against deferral frequency",
        "At what price",
        "Who wrote what",
        "What to double-check",
    ):
        assert f"<h2>{heading}</h2>" in page


def test_what_there_is_nothing_of_is_left_out(made: Evaluation, tokenizer: PreTrainedTokenizerFast) -> None:
    judged = tuple(
        replace(one, replies={"base": Reply(0.2), COLLABORATION: Reply(0.4)}, domain=None) for one in made.answered
    )
    likelihood = replace(made, answered=judged, metric="perplexity", curve=(), seconds={})
    likelihood = replace(likelihood, calibration=evaluation(judged, decoded=False).calibration)
    page = report_page(likelihood, tokenizer)
    assert page.count("<svg") == 1
    assert "1 / perplexity" in page
    assert "Who wrote what</h2>" not in page
    assert deferral_curve(likelihood) is None
    table = shown(results_table(likelihood))
    assert "40.0 [40.0, 40.0]" in table
    assert "tokens/s" not in table


def test_tables_are_for_terminals(made: Evaluation) -> None:
    table = shown(results_table(made))
    for cell in ("75.0 [", "75.0 (p ", "1.000", "base\N{NO-BREAK SPACE}100"):
        assert cell in table
    thresholds = shown(calibration_table(made.calibration))
    assert "0.8 │             20.0 │     90.0 │         4 │         2.00 │        200.0 │     *" in thresholds


def test_figures_are_the_same_each_time_and_take_the_pages_ink(made: Evaluation) -> None:
    one, other = calibration_chart(made.calibration), calibration_chart(made.calibration)
    assert one == other
    assert one.startswith("<svg")
    assert "currentColor" in one
    assert "http" not in one
