"""What Ray's Prometheus endpoint tells, read as Prometheus reads it, and the dashboard that shows it."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import httpx
import ray
from prometheus_client.parser import text_string_to_metric_families

from tests.commands import wait_until

DASHBOARD = Path(__file__).parents[2] / "clusters" / "grafana" / "collaborations.json"
NAME = r"ray_colllm_\w+"
COUNTED = ("ray_colllm_answers_total", "ray_colllm_requests_total", "ray_colllm_steps_total")
EXPORTED_WITHIN_S = 11

Samples = dict[str, list[tuple[dict[str, str], float]]]


def scraped() -> Samples:
    """The samples of our metrics, by name."""
    (node,) = ray.nodes()
    text = httpx.get(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", timeout=30).text
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if re.fullmatch(NAME, sample.name):
                samples.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return samples


def total(samples: Samples, name: str, **labels: str) -> float:
    return sum(value for has, value in samples.get(name, []) if labels.items() <= has.items())


def settled() -> Samples:
    """What is exported once nothing changes any more: each process does it by itself, every ten seconds."""
    samples = scraped()
    while True:
        time.sleep(EXPORTED_WITHIN_S)
        before, samples = samples, scraped()
        counts = [{name: total(each, name) for name in COUNTED} for each in (before, samples)]
        if counts[0] == counts[1]:
            return samples


def test_metrics_tell_what_answers_cost(url: str) -> None:
    body = {"messages": [{"role": "user", "content": "What is a^3 * a^2 if a = 5?"}]}
    httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
    before = settled()
    answers = [httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json() for _ in range(5)]
    assert httpx.post(f"{url}/v1/chat/completions", json={}, timeout=60).status_code == 400
    after: Samples = {}

    def more(name: str, **labels: str) -> float:
        return total(after, name, collaboration="lab", **labels) - total(before, name, collaboration="lab", **labels)

    def exported() -> bool:  # by the router, the ingress and the expert
        after.update(scraped())
        last = more("ray_colllm_requests_total", status="400"), more("ray_colllm_steps_total", model="math")
        return more("ray_colllm_answers_total") >= 5 and min(last) > 0

    wait_until(exported, "the next export")
    assert more("ray_colllm_answers_total", outcome="finished") == 5
    for model, told in answers[0]["usage"]["colllm"]["models"].items():
        assert more("ray_colllm_tokens_total", model=model) == 5 * told["tokens"]
    calls = sum(answer["usage"]["colllm"]["models"]["math"]["calls"] for answer in answers)
    assert more("ray_colllm_calls_total", model="math") == calls > 0
    assert 0 < more("ray_colllm_link_seconds_total", model="math") < 60
    assert more("ray_colllm_link_seconds_total", model="base") == 0
    assert more("ray_colllm_requests_total", route="/v1/chat/completions", status="200") == 5
    assert more("ray_colllm_requests_total", route="/v1/chat/completions", status="400") == 1
    assert more("ray_colllm_first_token_seconds_count") == more("ray_colllm_token_seconds_count") == 5
    assert more("ray_colllm_steps_total", model="base") > 0


def test_the_dashboard_shows_what_there_is(url: str) -> None:  # noqa: ARG001
    """Each metric that it asks for is exported, but for those of what went wrong; each that is exported is on it."""
    asked = set(re.findall(NAME, DASHBOARD.read_text()))
    wait_until(lambda: "ray_colllm_first_token_seconds_bucket" in scraped(), "the export")
    others = ("_sum", "_count", "scored_tokens_total")  # of a histogram, and of scoring, which has no panel
    told = {name for name in scraped() if not name.endswith(others)}
    rare = {"ray_colllm_lost_experts_total", "ray_colllm_evictions_total"}
    assert asked - rare <= told
    assert told <= asked
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["title"] for panel in panels}) == len(panels) > 10
