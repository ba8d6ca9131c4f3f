"""What the processes of this Ray have counted, as Prometheus would read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx
import ray
from prometheus_client.parser import text_string_to_metric_families

EXPORTED_WITHIN_S = 11.0  # of each process's counters


def counted(counter: str, counts: Callable[[Mapping[str, str]], bool] = lambda _: True) -> float:
    """What a counter has come to over all nodes, of the samples whose labels count."""
    total = 0.0
    for node in ray.nodes():
        if node["Alive"]:
            page = httpx.get(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", timeout=30)
            samples = (sample for family in text_string_to_metric_families(page.text) for sample in family.samples)
            total += sum(sample.value for sample in samples if sample.name == counter and counts(sample.labels))
    return total
