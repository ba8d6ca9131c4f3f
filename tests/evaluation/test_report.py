"""What people read of an evaluation."""

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO

import pytest
from markupsafe import escape
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedTokenizerFast

from colllm_ray.evaluation.answered import COLLABORATION
from colllm_ray.evaluation.measures import Evaluation
from colllm_ray.evaluation.report import calibration_table, report_page, results_table
from tests.evaluation.evaluations import DECODED, HOSTILE, SURE, Maker, evaluation, judged, quiz

HEADINGS = [
    "How good",
    "Against deferral frequency",
    "At what price",
    "Who wrote what",
    "What to double-check",
    "Some answers",
]


@pytest.fixture(scope="module")
def made(tokenizer: PreTrainedTokenizerFast) -> Evaluation:
    return quiz(tokenizer)


@pytest.fixture(scope="module")
def page(made: Evaluation) -> str:
    return report_page(made)


def shown(table: Table, width: int = 200) -> list[str]:
    file = StringIO()
    Console(width=width, file=file).print(table)
    return file.getvalue().splitlines()


def cells(table: Table, method: str) -> list[str]:
    (row,) = (line for line in shown(table) if line.startswith(method))
    return re.split(r"  +| (?!\d+\.\d+\])", row.strip())


def headings(page: str) -> list[str]:
    return re.findall("<h2>(.*)</h2>", page)


def read(page: str) -> str:
    """The text of a page, spaces made one."""
    return " ".join(re.sub("<[^>]*>", " ", page).split())


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


def test_the_table_has_a_row_a_method(made: Evaluation, tokenizer: PreTrainedTokenizerFast) -> None:
    table = results_table(made)
    ours, base = made.overall[COLLABORATION], made.overall["base"]
    assert base.behind is not None
    interval = f"75.0 [{100 * ours.quality.low:.1f}, 100.0]"
    calls, base_passes, speed = 4 / ours.tokens, 20 / ours.tokens, ours.tokens / 2
    one = round(100 * ours.shares["one"])
    assert cells(table, COLLABORATION) == [
        COLLABORATION, *interval.split(" ", 1), "100.0", "50.0", "1.00", f"{calls:.2f}", f"{speed:.0f}",
        f"base:{100 - one}", f"one:{one}", f"base:{base_passes:.2f}", f"one:{calls:.2f}",
    ]  # fmt: skip
    assert cells(table, "base")[3:7] == ["0.0", "0.0", "75.0", f"{base.behind.p:.3f}".removeprefix("0")]
    assert any(line.startswith(HOSTILE) for line in shown(table))
    likelihood = shown(results_table(judged(tokenizer)))
    assert "1 / perplexity, %" in "".join(likelihood)
    for heading in ("calls", "passes", "tok/s", "wrote"):
        assert heading not in "".join(likelihood)


def test_twenty_methods_fit_into_a_terminal(made: Evaluation, tokenizer: PreTrainedTokenizerFast) -> None:
    reply = Maker(tokenizer).reply(1.0, [("the quick", 0, SURE), (" fox", 1, SURE)])
    names = [f"proxy:pharma:finetuned{i:02}" for i in range(20)]
    answered = tuple(
        replace(one, domain="[bold]a", replies={**dict.fromkeys(names, reply), **one.replies}) for one in made.answered
    )
    many = replace(made, answered=answered, seconds=dict.fromkeys(answered[0].replies, 1.0))
    lines = shown(results_table(many), 120)
    assert all("base:" in line for line in lines if line.startswith("proxy"))
    assert "[bold]a" in lines[1]
    assert "…" not in "".join(lines)
    narrow = shown(results_table(many), 60)
    assert [line[:50] for line in narrow if line.startswith("proxy")] == [
        line[:50] for line in lines if line.startswith("proxy")
    ]


def test_thresholds_are_told_with_their_costs(made: Evaluation) -> None:
    lines = [line.split() for line in shown(calibration_table(made.calibration))]
    assert ["0.8", "20.0", "90.0", "4", "2.00", "200.0", "*"] in lines
    assert ["1", "0.0", "10.0", "4", "0.00", "*"] in lines


def test_the_page_shows_all_and_needs_nothing_else(page: str) -> None:
    for word in ("http", "src=", "<script", "None", "nan", "undefined"):
        assert word not in page
    assert headings(page) == HEADINGS
    assert page.count("<svg") == page.count("<figure>") == page.count("<figcaption>") == page.count("aria-label=") - 3
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert "4 questions of quiz" in page
    assert "75.0 %" in page


def test_what_data_say_is_shown_and_not_run(page: str) -> None:
    assert page.count(f'<p class="soft prompt">{escape(HOSTILE)}</p>') == 4
    assert f'<th scope="row">{escape(HOSTILE)}</th>' in page


def test_answers_are_coloured_and_marked(page: str) -> None:
    assert page.count('class="answer"') == 4
    assert page.count('class="expert doubt"') == page.count('title="one, p_defer 0.90, unsure"') > 0
    assert page.count("right; the reference: the quick fox") == 3
    assert page.count("wrong; the reference: the quick fox") == 1
    assert page.count("the base alone: the dog") == 4


def test_answers_are_a_few_of_each_domain(made: Evaluation) -> None:
    many = report_page(replace(made, answered=made.answered * 3))
    assert many.count('class="answer"') == 8
    answered = tuple(replace(one, domain=None) for one in made.answered * 3)
    assert report_page(replace(made, answered=answered)).count('class="answer"') == 4


def test_marks_are_told_in_a_sentence(made: Evaluation, page: str) -> None:
    assert "Of the marked tokens " in read(page)
    assert "of the others 0.0 %." in read(page)
    assert "answers with marks 1 0.0 % answers without 3 100.0 %" in read(page)
    unknown = tuple(replace(one, completion=None) for one in made.answered)
    without = read(report_page(replace(made, answered=unknown)))
    assert "marked tokens" not in without
    assert "answers with marks 1 0.0 %" in without
    right = made.answered[:1]
    unmarked = read(report_page(replace(made, answered=right)))
    assert "No token is marked; of all 0.0 % are wrong." in unmarked
    assert "answers with marks 0 none" in unmarked


def test_what_there_is_nothing_of_is_left_out(made: Evaluation, tokenizer: PreTrainedTokenizerFast) -> None:
    likelihood = report_page(judged(tokenizer))
    assert headings(likelihood) == HEADINGS[:1]
    assert "the quality is 1 / perplexity" in likelihood
    assert "40.0 %" in likelihood
    uncalibrated = replace(made.calibration, candidates=DECODED[:1])
    assert headings(report_page(replace(made, curve=(), calibration=uncalibrated))) == [
        heading for heading in HEADINGS if heading != "Against deferral frequency"
    ]
    alone = tuple(replace(one, replies={COLLABORATION: one.replies[COLLABORATION]}) for one in made.answered)
    without_others = report_page(replace(made, answered=alone))
    assert "Behind" not in without_others
    assert "the base alone" not in without_others


def test_an_answer_may_be_empty(made: Evaluation, tokenizer: PreTrainedTokenizerFast) -> None:
    maker = Maker(tokenizer)
    answered = [maker.question("x", {COLLABORATION: maker.reply(0.0, [], (1, 0))}), *made.answered[:1]]
    page = report_page(
        evaluation([replace(one, replies={COLLABORATION: one.replies[COLLABORATION]}) for one in answered])
    )
    assert page.count('class="answer"') == 2
    assert "without a domain" in page
