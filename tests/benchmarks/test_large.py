from __future__ import annotations

import torch

from benchmarks.large import Plan, large_rows
from benchmarks.models import VOCABULARY

SHAPE = {"intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}


def test_every_setting_is_measured() -> None:
    """On a CPU and with tiny models, where the shapes are static as well but nothing is captured."""
    shapes = {"base": {**SHAPE, "hidden_size": 32}, "expert": {**SHAPE, "hidden_size": 64}}
    plan = Plan((0.1,), answers=2, tokens=24)
    rows, headline = large_rows(shapes, VOCABULARY, torch.device("cpu"), plan)
    settings = [(row["models"], row["f"], row["how"]) for row in rows]
    assert settings == [
        ("base + expert", 0.1, "in-process, captured"),
        ("base + expert", 0.1, "in-process, not captured"),
    ]
    assert all(float(row["expert_ms"]) > 0 for row in rows)
    assert set(headline) == {"local_efficiency_f10_expert", "capture_speedup_expert"}
