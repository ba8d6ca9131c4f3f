"""The linear layers of a 170M model on one CPU thread, float32: torch's own, in oneDNN's order, and as chosen.

The last are whatever `LanguageModel.prepare_for_steps` puts in the place of torch's own on this machine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from benchmarks.headline import Headline, higher
from benchmarks.models import CONTEXT, VOCABULARY, Size, write_model
from benchmarks.options import Amount, BenchmarkParser
from benchmarks.plots import line_chart
from benchmarks.report import Report, Row, finish
from colllm_ray.engine.blocked_linear import BlockedLinear
from colllm_ray.engine.language_model import LanguageModel

RUNS = 5
TOKENS = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
CHOSEN = (1, 2, 4, 8, 16)  # tokens, at none of which the chosen layers may be slower than torch's own
BLOCKED = (1, 4, 16)  # tokens of the headlines of oneDNN's order
REPEATS: dict[Amount, int] = {"full": 7, "quick": 5, "smoke": 1}  # of a run

Layers = dict[str, Sequence[nn.Module]]  # by how, the layers of the model one after the other
Seconds = dict[str, list[float]]  # by how, of each repeat


def parser() -> BenchmarkParser:
    return BenchmarkParser(__doc__ or "", RUNS)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().options(arguments)
    torch.set_num_threads(1)
    layers = _layers("2M" if options.amount == "smoke" else "170M")
    runs = [
        {tokens: _measured(layers, tokens, REPEATS[options.amount]) for tokens in TOKENS} for _ in range(options.runs)
    ]
    rows = [_row(tokens, [run[tokens] for run in runs]) for tokens in TOKENS]
    headline: dict[str, Headline] = {
        "chosen_speedup_min": higher(*(min(_speedup(run[tokens], "chosen") for tokens in CHOSEN) for run in runs))
    }
    for tokens in BLOCKED:
        headline[f"blocked_speedup_t{tokens}"] = higher(*(_speedup(run[tokens], "blocked") for run in runs))
    finish(options, Report("linear", rows, headline), _chart)


def _layers(size: Size) -> Layers:
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared = (
            AutoModelForCausalLM.from_pretrained(write_model(Path(folder), size, 0), dtype=torch.float32)
            for _ in range(2)
        )
    names = [name for name, layer in plain.named_modules() if isinstance(layer, nn.Linear)]
    language_model = LanguageModel(prepared, VOCABULARY)
    language_model.prepare_for_steps(CONTEXT)
    return {
        "torch": [plain.get_submodule(name) for name in names],
        "blocked": [BlockedLinear(plain.get_submodule(name)) for name in names],
        "chosen": [language_model.model.get_submodule(name) for name in names],
    }


@torch.inference_mode()
def _measured(layers: Layers, tokens: int, repeats: int) -> Seconds:
    """All in turns."""
    inputs = [torch.randn(1, tokens, layer.in_features) for layer in layers["torch"] if isinstance(layer, nn.Linear)]
    seconds: Seconds = {how: [] for how in layers}
    for _ in range(repeats):
        for how, all_layers in layers.items():
            begin = perf_counter()
            for layer, x in zip(all_layers, inputs, strict=True):
                layer(x)
            seconds[how].append(perf_counter() - begin)
    return seconds


def _speedup(seconds: Seconds, how: str) -> float:
    """Over torch's own layers, each time beside what was measured right before it."""
    return median(torchs / ours for torchs, ours in zip(seconds["torch"], seconds[how], strict=True))


def _row(tokens: int, runs: Sequence[Seconds]) -> Row:
    pooled = {how: [second for run in runs for second in run[how]] for how in runs[0]}
    row: Row = {"tokens": tokens, **{f"{how}_ms": round(median(each) * 1e3, 2) for how, each in pooled.items()}}
    return row | {f"{how}_speedup": round(_speedup(pooled, how), 2) for how in ("blocked", "chosen")}


def _chart(path: Path, report: Report) -> None:
    series = {
        how: [(float(row["tokens"]), float(row[f"{how}_ms"])) for row in report.rows]
        for how in ("torch", "blocked", "chosen")
    }
    line_chart(path, series, "tokens", "ms", "All linear layers of a model", log_x=True)


if __name__ == "__main__":
    main()
