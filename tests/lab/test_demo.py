"""What the demo must show, read from the report that it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from colllm_ray.lab.recipe import Recipe

EXPERTS = Recipe().domains


@pytest.fixture(scope="module")
def report(demo: tuple[Path, str]) -> Any:
    return json.loads((demo[0] / "report.json").read_text())


def test_together_they_know_what_none_knows_alone(report: Any) -> None:
    assert report["questions"] >= 150
    assert report["exact_match"]["collaboration"] >= 0.85
    others = {who: share for who, share in report["exact_match"].items() if who != "collaboration"}
    assert set(others) == {"base", *EXPERTS, "finetuned_base"}
    assert max(others.values()) <= 0.25
    assert report["deferral_rate"] <= 0.35


def test_the_collaboration_is_the_likeliest(report: Any) -> None:
    nll = report["nll"]
    assert nll["collaboration"] < min(loss for who, loss in nll.items() if who != "collaboration")


def test_each_domain_is_answered_and_written_by_its_expert(report: Any) -> None:
    assert set(report["domains"]) == set(EXPERTS)
    for domain, measures in report["domains"].items():
        assert measures["questions"] >= 50
        assert measures["exact_match"]["collaboration"] >= 0.75
        deferred = {name: count for name, count in measures["tokens_by_model"].items() if name != "base"}
        assert deferred[domain] >= 0.9 * sum(deferred.values())


def test_it_shows_progress_and_ends_with_a_table_and_the_report(demo: tuple[Path, str]) -> None:
    out, output = demo
    for line in ("score base: ", "train head: ", "answer collaboration: 150/150", "fine-tune base: "):
        assert line in output
    table, path = output.index("exact match"), output.index("report: ")
    assert table < path
    assert str(out / "report.html") in output.replace("\n", "")
    page = (out / "report.html").read_text()
    assert page.count('class="answer"') == 4 * len(EXPERTS)
    assert "finetuned_base" in page
