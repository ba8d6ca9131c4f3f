"""What the demo must show, read from what it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from colllm_ray.lab.demo import RIVALS
from colllm_ray.lab.recipe import Recipe
from tests.commands import alarms

EXPERTS = Recipe().domains


@pytest.fixture(scope="module")
def measures(demo: tuple[Path, str]) -> Any:
    return json.loads((demo[0] / "measures.json").read_text())


def test_together_they_know_what_none_knows_alone(measures: Any) -> None:
    assert measures["questions"] >= 150
    methods = measures["methods"]
    assert methods["collaboration"]["quality"]["mean"] >= 0.85
    assert set(methods) == {"base", *EXPERTS, "finetuned_base", *RIVALS, "collaboration"}
    for name, others in methods.items():
        if name != "collaboration":
            assert others["quality"]["mean"] <= 0.4
            assert others["behind"]["low"] > 0
    assert methods["collaboration"]["shares"]["base"] >= 0.65
    assert methods["collaboration"]["expert_calls"] < 0.5 < methods["average"]["expert_calls"]


def test_the_collaboration_is_the_likeliest(measures: Any) -> None:
    nll = {name: one["nll"] for name, one in measures["methods"].items() if one["nll"] is not None}
    assert set(nll) == {"base", *EXPERTS, "finetuned_base", "collaboration"}
    assert nll["collaboration"] < min(loss for who, loss in nll.items() if who != "collaboration")


def test_each_domain_is_answered_and_written_by_its_expert(measures: Any) -> None:
    assert set(measures["domains"]) == set(EXPERTS)
    for domain, methods in measures["domains"].items():
        together = methods["collaboration"]
        assert together["quality"]["mean"] >= 0.75
        deferred = {name: share for name, share in together["shares"].items() if name != "base"}
        assert deferred[domain] >= 0.9 * sum(deferred.values())


def test_the_threshold_is_the_best_of_decoded_ones(demo: tuple[Path, str], measures: Any) -> None:
    calibration = json.loads((demo[0] / "collaboration" / "calibration.json").read_text())
    candidates = {one["threshold"]: one for one in calibration["candidates"]}
    assert measures["threshold"] == calibration["threshold"]
    assert candidates[calibration["threshold"]]["quality"] == max(one["quality"] for one in candidates.values())
    assert all(one["questions"] for one in candidates.values())
    assert (demo[0] / "collaboration" / "calibration.svg").read_text().startswith("<svg")
    # Neither the base alone nor the experts alone: between them is the peak.
    curve = measures["curve"]
    best = max(curve, key=lambda one: one["quality"])
    assert 0 < best["share"] < 1
    chosen = next(one for one in curve if one["threshold"] == measures["threshold"])
    assert chosen["quality"] >= best["quality"] - 0.02


def test_nothing_alarming_is_said(demo: tuple[Path, str]) -> None:
    assert alarms(demo[1]) == []


def test_it_shows_progress_and_ends_with_a_table_and_the_report(demo: tuple[Path, str]) -> None:
    out, output = demo
    for line in ("score base: ", "train head: ", "fine-tune base: ", "decode at 0", "answer collaboration: 22/22"):
        assert line in output
    table, path = output.index("exact"), output.index("report: ")
    assert table < path
    assert str(out / "report.html") in output.replace("\n", "")
    page = (out / "report.html").read_text()
    assert page.count('class="answer"') == 4 * len(EXPERTS)
    assert "finetuned_base" in page
