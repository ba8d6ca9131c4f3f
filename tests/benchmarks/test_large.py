from __future__ import annotations

import torch

from benchmarks.large import TINY, Plan, large_rows
from benchmarks.models import VOCABULARY


def test_every_setting_is_measured() -> None:
    """On a CPU and with tiny models, where the shapes are static as well but nothing is captured."""
    rows, headline = large_rows(TINY, VOCABULARY, torch.device("cpu"), Plan((0.1,), tokens=24), runs=2)
    settings = [(row["models"], row["f"], row["how"]) for row in rows]
    assert settings == [
        ("base + expert", 0.1, "in-process, captured"),
        ("base + expert", 0.1, "in-process, not captured"),
    ]
    assert all(float(row["expert_ms"]) > 0 for row in rows)
    assert set(headline) == {"local_efficiency_f10_expert", "capture_speedup_expert"}
    assert all(len(one.runs) == 2 for one in headline.values())
