from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from transformers import PreTrainedTokenizerFast

from colllm_ray.deferral.calibration import Calibration, Candidate
from colllm_ray.evaluation import charts
from colllm_ray.evaluation.analysis import Share
from colllm_ray.evaluation.answered import COLLABORATION
from colllm_ray.evaluation.colours import EXPERT_COLOURS
from colllm_ray.evaluation.measures import Evaluation, Measures
from colllm_ray.evaluation.statistics import Interval
from tests.evaluation.evaluations import DECODED, HOSTILE, judged, quiz


@pytest.fixture(scope="module")
def made(tokenizer: PreTrainedTokenizerFast) -> Evaluation:
    return quiz(tokenizer)


def method(quality: float, calls: float | None = None) -> Measures:
    return Measures(Interval(quality, quality / 2, quality), None, None, 9, {}, {}, calls)


def texts(svg: str) -> list[str]:
    """What is written in a figure, which is well-formed."""
    return ["".join(one.itertext()) for one in ElementTree.fromstring(svg).iter() if one.tag.endswith("text")]


def markers(svg: str) -> int:
    """Points and ticks that are drawn."""
    return svg.count("<use ")


def every(made: Evaluation) -> dict[str, str | None]:
    overall = made.overall
    return {
        "qualities": charts.qualities(overall, made.metric),
        "curve": charts.deferral_curve(made, overall),
        "pareto": charts.pareto(overall, made.metric),
        "places": charts.by_place([Share(1, 4), Share(2, 2)]),
        "kinds": charts.by_kind({"number": Share(1, 4), "end": Share(0, 2)}),
        "calibration": charts.calibration_chart(made.calibration),
    }


def test_figures_are_the_same_each_time_and_take_the_pages_ink(made: Evaluation) -> None:
    drawn = every(made)
    assert drawn == every(made)
    for name, svg in drawn.items():
        assert svg is not None
        assert svg.startswith("<svg ")
        assert "currentColor" in svg
        assert charts.INK not in svg
        assert "#000000" not in svg
        assert ("http" in svg) == (name == "calibration"), "a file of its own needs the namespace"
        assert texts(svg)


def test_figures_in_one_page_have_ids_of_their_own(made: Evaluation) -> None:
    page = "".join(svg or "" for svg in every(made).values())
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]*)', page)) == set(ids)


def test_names_are_texts_and_nothing_else(made: Evaluation) -> None:
    for name, svg in every(made).items():
        assert svg is not None
        assert "<script" not in svg
        if name in ("qualities", "pareto"):
            assert any(HOSTILE in text for text in texts(svg))


def test_qualities_are_written_beside_the_bars() -> None:
    svg = charts.qualities({"base": method(0.25), COLLABORATION: method(0.96)}, "exact")
    assert texts(svg)[-2:] == ["25.0", "96.0"]
    assert {"base", COLLABORATION, "exact, %"} <= set(texts(svg))
    assert "1 / perplexity, %" in texts(charts.qualities({COLLABORATION: method(0.5)}, "perplexity"))


def test_the_curve_shows_what_is_there(made: Evaluation, tokenizer: PreTrainedTokenizerFast) -> None:
    def legend(of: Evaluation) -> set[str]:
        svg = charts.deferral_curve(of, of.overall)
        assert svg is not None
        return {text for text in texts(svg) if not re.fullmatch(r"[\d.]+|.*, %", text)}

    both = {"these questions", "validation data", "the chosen threshold", "the best alone: base"}
    assert legend(made) == both
    assert legend(replace(made, curve=())) == both - {"these questions"}
    elsewhere = replace(made, calibration=replace(made.calibration, metric="numeric"))
    assert legend(elsewhere) == both - {"validation data"}
    answered = tuple(replace(one, replies={**one.replies, "one": one.replies[COLLABORATION]}) for one in made.answered)
    with_expert = replace(made, answered=answered)
    assert legend(with_expert) == both - {"the best alone: base"} | {"alone: base", "the best alone: one"}
    none = replace(made, curve=(), calibration=Calibration(0.8, DECODED[:1]))
    assert charts.deferral_curve(none, none.overall) is None
    likelihood = judged(tokenizer)
    assert charts.deferral_curve(likelihood, likelihood.overall) is None


def test_the_front_is_what_no_rival_beats() -> None:
    overall = {
        "base": method(0.2, 0.0),
        "worse": method(0.1, 0.5),
        "oracle": method(1.0, 0.1),
        "unwritten": method(0.99),
        COLLABORATION: method(0.9, 0.3),
        "dear": method(0.9, 2.0),
    }
    svg = charts.pareto(overall, "exact")
    assert svg is not None
    written = texts(svg)
    assert [text for text in written if "  " in text] == [
        "1  base", "2  worse", "3  oracle", f"4  {COLLABORATION}", "5  dear"
    ]  # fmt: skip
    assert {"1", "2", "3", "4", "5"} <= set(written)
    # Hollow are "worse", "oracle" and "dear".
    filled = re.findall(r'<use [^>]*style="fill: (currentColor|#0072b2); stroke: (?:currentColor|#0072b2)"', svg)
    assert filled == ["currentColor", EXPERT_COLOURS[0].lower()]
    assert charts.pareto({COLLABORATION: method(0.5)}, "choice") is None


def test_numbers_of_many_equal_methods_do_not_cover_each_other() -> None:
    overall = {f"m{i}": method(0.0, 1.0) for i in range(20)} | {COLLABORATION: method(0.9, 0.2)}
    svg = charts.pareto(overall, "exact")
    assert svg is not None
    places = re.findall(r'x="([\d.]+)" y="([\d.]+)"[^>]*>(\d+)</text>', svg)
    numbers = [(float(x), float(y)) for x, y, _ in places[-21:]]
    assert [text for *_, text in places[-21:]] == [str(i) for i in range(1, 22)]
    for i, (x, y) in enumerate(numbers):
        assert all(abs(x - a) > 7 or abs(y - b) > 7 for a, b in numbers[:i])


def test_calibration_has_a_panel_for_what_was_measured() -> None:
    decoded = charts.calibration_chart(Calibration(0.8, DECODED))
    titles = {"tokens that experts write, %", "experts' forward passes an answer", "milliseconds an answer"}
    assert titles <= set(texts(decoded))
    on_text = charts.calibration_chart(Calibration(0.8, (Candidate(0.2, 0.8, 0.9, 0.9), Candidate(0.4, 0.6, 0.8, 0.8))))
    assert titles & set(texts(on_text)) == {"tokens that experts write, %"}
    assert markers(decoded) > markers(on_text)
    ElementTree.fromstring(decoded)
