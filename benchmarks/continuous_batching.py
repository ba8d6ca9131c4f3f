"""Our engine beside transformers' own continuous batching: one 30M model, many texts, greedy, in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

from benchmarks.headline import higher
from benchmarks.models import CONTEXT, VOCABULARY, write_model
from benchmarks.options import Amount, BenchmarkParser
from benchmarks.plots import line_chart
from benchmarks.report import Report, Row, finish
from benchmarks.scripted import prompt
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.messages import Extend, Extended

RUNS = 5
PROMPT = 64  # tokens
FIRST = 4  # tokens that are taken off, with the prompt and all else that is paid once
TOKENS: dict[Amount, int] = {"full": 96, "quick": 32, "smoke": 6}
TEXTS = (1, 4, 16)  # at once
OURS, THEIRS = "ours", "transformers' continuous batching"


def parser() -> BenchmarkParser:
    return BenchmarkParser(__doc__ or "", RUNS)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().options(arguments)
    torch.set_num_threads(1)
    step_ms: dict[tuple[int, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder), "2M" if options.amount == "smoke" else "30M", 0)
        for _ in range(options.runs):
            for texts in TEXTS:
                prompts = [list(prompt(number, PROMPT)) for number in range(texts)]
                for how in (OURS, THEIRS):
                    step_ms.setdefault((texts, how), []).append(_step_ms(how, model, prompts, TOKENS[options.amount]))
    rows: list[Row] = [
        {"texts": texts, "how": how, "ms_a_step": round(ms, 2), "tokens_per_s": round(texts / ms * 1e3, 1)}
        for (texts, how), runs in step_ms.items()
        for ms in [median(runs)]
    ]
    headline = {
        f"over_transformers_b{texts}": higher(
            *(theirs / ours for theirs, ours in zip(step_ms[texts, THEIRS], step_ms[texts, OURS], strict=True))
        )
        for texts in (1, 16)
    }
    finish(options, Report("continuous_batching", rows, headline), _chart)


def _step_ms(how: str, model: Path, prompts: list[list[int]], tokens: int) -> float:
    run = _ours if how == OURS else _theirs
    run(model, prompts, FIRST)  # to warm up
    first, whole = run(model, prompts, FIRST), run(model, prompts, tokens)
    # Of the two, the longer one has more decoding and the same of all else; other work may hide the difference.
    return max(whole - first, 1e-6) / (tokens - FIRST) * 1e3


def _ours(model: Path, prompts: list[list[int]], tokens: int) -> float:
    """Seconds for so many tokens of each text."""
    language_model = LanguageModel(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), VOCABULARY)
    engine = Engine(language_model, len(prompts), CONTEXT)
    begin = perf_counter()
    requests = [Extend(str(name), 0, tuple(text)) for name, text in enumerate(prompts)]
    for _ in range(tokens):
        replies = engine.extend(requests)
        requests = [
            Extend(reply.session, reply.index, (reply.choices[0].token,))
            for reply in replies
            if isinstance(reply, Extended)
        ]
    return perf_counter() - begin


def _theirs(model: Path, prompts: list[list[int]], tokens: int) -> float:
    language_model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="sdpa")
    generation = GenerationConfig(max_new_tokens=tokens, do_sample=False, eos_token_id=-1, pad_token_id=0)
    config = ContinuousBatchingConfig(num_blocks=64, max_batch_tokens=2048)
    begin = perf_counter()
    answers = language_model.generate_batch(prompts, generation, config)
    seconds = perf_counter() - begin
    lengths = {len(answer.generated_tokens) for answer in answers.values()}
    if lengths != {tokens}:
        raise RuntimeError(f"answers of {lengths} tokens; {tokens} were asked for")
    return seconds


def _chart(path: Path, report: Report) -> None:
    series: dict[str, list[tuple[float, float]]] = {}
    for row in report.rows:
        series.setdefault(str(row["how"]), []).append((float(row["texts"]), float(row["tokens_per_s"])))
    line_chart(path, series, "texts at once", "tokens/s", "One small model", log_x=True, log_y=True)


if __name__ == "__main__":
    main()
