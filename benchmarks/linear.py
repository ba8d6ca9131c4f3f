"""The linear layers of a 170M model on one CPU thread: torch's own, and in oneDNN's blocked order; float32."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from benchmarks.models import write_model
from benchmarks.plots import line_chart
from benchmarks.report import Report, Row, arguments, finish
from colllm_ray.engine.blocked_linear import BlockedLinear

TOKENS = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = AutoModelForCausalLM.from_pretrained(write_model(Path(folder), "170M", 0), dtype=torch.float32)
    plain = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    blocked = [BlockedLinear(layer) for layer in plain]
    rows = [_row(tokens, plain, blocked, repeats=5 if options.quick else 30) for tokens in TOKENS]
    headline = {
        f"blocked_speedup_t{row['tokens']}": float(row["speedup"]) for row in rows if row["tokens"] in (1, 4, 16)
    }
    finish(options, Report("linear", rows, headline), _chart)


@torch.inference_mode()
def _row(tokens: int, plain: Sequence[nn.Linear], blocked: Sequence[BlockedLinear], repeats: int) -> Row:
    inputs = {layer.in_features: torch.randn(1, tokens, layer.in_features) for layer in plain}
    both = [(_seconds(plain, inputs), _seconds(blocked, inputs)) for _ in range(repeats)]
    torchs, ours = (median(seconds) * 1e3 for seconds in zip(*both, strict=True))
    return {
        "tokens": tokens,
        "torch_ms": round(torchs, 2),
        "blocked_ms": round(ours, 2),
        "speedup": round(torchs / ours, 2),
    }


def _seconds(layers: Sequence[nn.Linear] | Sequence[BlockedLinear], inputs: dict[int, Tensor]) -> float:
    begin = perf_counter()
    for layer in layers:
        layer(inputs[layer.in_features])
    return perf_counter() - begin


def _chart(path: Path, report: Report) -> None:
    series = {
        how: [(float(row["tokens"]), float(row[key])) for row in report.rows]
        for how, key in (("torch", "torch_ms"), ("blocked", "blocked_ms"))
    }
    line_chart(path, series, "tokens", "ms", "Linear layers of 170M weights", log_x=True)


if __name__ == "__main__":
    main()
