"""Decoding on one GPU in one process: random bfloat16 weights of real shapes, steps captured and not; without Ray."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from benchmarks.headline import Headline, higher
from benchmarks.measured import Measured, in_process
from benchmarks.models import VOCABULARY as TINY_VOCABULARY
from benchmarks.options import Amount, BenchmarkParser
from benchmarks.plots import line_chart
from benchmarks.report import Report, Row, finish
from benchmarks.scripted import Local, prompt, script
from colllm_ray.config import Collaboration
from colllm_ray.decoding.team_spec import AnswerRequest, TeamSpec
from colllm_ray.deferral.calibration import Calibration
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.stepper import Stepper

# The shapes of Qwen2.5 (its config.json on the Hugging Face hub).
SHAPES: Mapping[str, Mapping[str, int]] = {
    "1.5B": {
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
        "num_key_value_heads": 2,
    },
    "7B": {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
    "32B": {
        "hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64, "num_attention_heads": 40,
        "num_key_value_heads": 8,
    },
}  # fmt: skip
VOCABULARY = 151_936  # of the 1.5B, here for all
CONTEXT = 1024  # tokens
SESSIONS = 8
PROMPT = 64  # tokens
COMPARED = 0.1  # the deferral frequency at which captured steps are measured against others


# For a smoke, which needs no GPU: shapes are static on a CPU as well, but nothing is captured.
TINY: Mapping[str, Mapping[str, int]] = {
    name: {
        "hidden_size": width, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    for name, width in (("base", 32), ("expert", 64))
}  # fmt: skip
RUNS = 5  # an answer each


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    frequencies: tuple[float, ...]
    tokens: int


PLANS: dict[Amount, Plan] = {
    "full": Plan((0.0, 0.05, 0.1, 0.3, 0.5, 1.0), tokens=256),
    "quick": Plan((0.1, 0.3), tokens=64),
    "smoke": Plan((0.1,), tokens=4),
}


def parser() -> BenchmarkParser:
    return BenchmarkParser(__doc__ or "", RUNS)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().options(arguments)
    plan = PLANS[options.amount]
    if options.amount == "smoke":
        rows, headline = large_rows(TINY, TINY_VOCABULARY, torch.device("cpu"), plan, options.runs)
    elif torch.cuda.is_available():
        rows, headline = large_rows(SHAPES, VOCABULARY, torch.device("cuda"), plan, options.runs)
    else:
        raise SystemExit("benchmarks/large.py needs a GPU, and torch sees none; --smoke runs its code without")
    finish(options, Report("large", rows, headline), _chart)


def large_rows(
    shapes: Mapping[str, Mapping[str, int]], vocabulary: int, device: torch.device, plan: Plan, runs: int
) -> tuple[list[Row], dict[str, Headline]]:
    """The first of `shapes` is the base, and each other one an expert beside it."""
    base_name, *expert_names = shapes
    base = random_model(shapes[base_name], vocabulary, device)
    rows: list[Row] = []
    headline: dict[str, Headline] = {}
    for name in expert_names:
        models = [base, random_model(shapes[name], vocabulary, device)]
        captured = _by_frequency(models, True, plan.frequencies, plan.tokens, runs)
        exact = _by_frequency(models, False, (COMPARED,), plan.tokens, runs)
        for how, measured in (("captured", captured), ("not captured", exact)):
            for frequency, answers in measured.items():
                rows.append(sum(answers, Measured()).row(f"{base_name} + {name}", frequency, f"in-process, {how}", 0.0))
        for frequency in {0.1, 0.3} & captured.keys():
            efficiencies = [answer.efficiency for answer in captured[frequency]]
            headline[f"local_efficiency_f{round(frequency * 100)}_{name}"] = higher(*efficiencies)
        both = zip(captured[COMPARED], exact[COMPARED], strict=True)
        headline[f"capture_speedup_{name}"] = higher(*(one.tokens_per_s / other.tokens_per_s for one, other in both))
        del models
        _free_memory()  # the next expert may need it
    return rows, headline


def _by_frequency(
    models: Sequence[LanguageModel], captured: bool, frequencies: Sequence[float], tokens: int, runs: int
) -> dict[float, list[Measured]]:
    local = _team(models, captured)
    measured = {frequency: _measured(local, frequency, tokens, runs) for frequency in frequencies}
    del local
    _free_memory()
    return measured


def _free_memory() -> None:
    """What nobody holds any more, cycles of modules included."""
    gc.collect()
    torch.cuda.empty_cache()


def random_model(shape: Mapping[str, int], vocabulary: int, device: torch.device) -> LanguageModel:
    """A Qwen2 of bfloat16 weights, made where it runs."""
    config = Qwen2Config(**shape, vocab_size=vocabulary, max_position_embeddings=CONTEXT)
    torch.manual_seed(0)
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return LanguageModel(model, vocabulary)


def _team(models: Sequence[LanguageModel], captured: bool) -> Local:
    """The first model with a head that is never asked, for the script decides, and the others."""
    base, *experts = models
    collaboration = Collaboration.model_validate(
        {
            "name": "large",
            "base": {"model": "random"},
            "experts": [{"name": f"e{k}", "model": "random"} for k, _ in enumerate(experts, start=1)],
            "data": {"train": "none", "validation": "none"},
        }
    )
    head = DeferralHead(base.hidden_size, len(experts)).to(base.device)
    trained = TrainedCollaboration(collaboration, head, Calibration(0.5, ()), "random")
    engines = [
        Engine(base, SESSIONS, CONTEXT, head, static_shapes=captured, reuse_prefixes=False),
        *(Engine(expert, SESSIONS, CONTEXT, static_shapes=captured, reuse_prefixes=False) for expert in experts),
    ]
    return Local(TeamSpec(trained, base.vocab_size, CONTEXT, frozenset()), [Stepper(engine) for engine in engines])


def _measured(local: Local, frequency: float, tokens: int, runs: int) -> list[Measured]:
    """Of each run its answer."""
    local.follow(script(frequency, 0.0))
    requests = [AnswerRequest(prompt(run, PROMPT), tokens, run_ahead="off") for run in range(runs)]
    for request in requests:
        asyncio.run(local.timed(request))  # shapes that are met for the first time are captured here
    return [in_process(local, [request], PROMPT + tokens // 2) for request in requests]


def _chart(path: Path, report: Report) -> None:
    series: dict[str, list[tuple[float, float]]] = {}
    for row in report.rows:
        at = (float(row["f"]), float(row["ms_p50"]))
        series.setdefault(f"{row['models']}, {row['how']}", []).append(at)
    line_chart(path, series, "deferral frequency", "ms a token (p50)", "One GPU, in-process", log_y=True)


if __name__ == "__main__":
    main()
