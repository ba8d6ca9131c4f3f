"""Our engine beside transformers' own continuous batching: one 30M model, many texts, greedy, in this process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

from benchmarks.models import CONTEXT, VOCABULARY, write_model
from benchmarks.plots import line_chart
from benchmarks.report import Report, Row, arguments, finish
from benchmarks.scripted import prompt
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.messages import Extend, Extended

PROMPT = 64  # tokens


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    tokens = 32 if options.quick else 96
    torch.set_num_threads(1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder), "30M", 0)
        for texts in (1, 4, 16):
            prompts = [list(prompt(number, PROMPT)) for number in range(texts)]
            for how, run in (("ours", _ours), ("transformers' continuous batching", _theirs)):
                run(model, prompts, 4)  # to warm up
                prefill, whole = run(model, prompts, 4), run(model, prompts, tokens)
                # Of the two, the longer one has more decoding and the same of all else.
                ms = (whole - prefill) / (tokens - 4) * 1e3
                rows.append(
                    {"texts": texts, "how": how, "ms_a_step": round(ms, 2), "tokens_per_s": round(texts / ms * 1e3, 1)}
                )
    at = {(row["texts"], row["how"]): float(row["ms_a_step"]) for row in rows}
    headline = {
        f"over_transformers_b{texts}": round(at[texts, "transformers' continuous batching"] / at[texts, "ours"], 3)
        for texts in (1, 16)
    }
    finish(options, Report("continuous_batching", rows, headline), _chart)


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
    line_chart(path, series, "texts at once", "tokens/s", "One 30M model", log_x=True, log_y=True)


if __name__ == "__main__":
    main()
