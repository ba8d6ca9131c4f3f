"""Scoring by Ray Data into Parquet, beside bare forward passes of the same batches and the reference's loop.

Two models of 5.7 million weights, which score side by side on a core each, and so do the bare passes. The reference
(clinicalml/co-llm, collm/dataset/scoring.py) is one process with all cores, for one model after the other. The clock of
scoring runs from the call to its return: reading and tokenising the data, starting the actors and loading the models
are in it, starting Ray is not. Bare passes, whose speed does not change with more of them, are made over a part of the
shards, another one in each run.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar
from upath import UPath

from benchmarks.headline import higher
from benchmarks.models import invented_words
from benchmarks.options import Amount, BenchmarkParser
from benchmarks.plots import bar_chart
from benchmarks.report import Report, Row, finish
from benchmarks.session import some_ray
from colllm_ray.config import Collaboration, ModelConfig
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.text import Text, batches_by_length, padded
from colllm_ray.lab.language_model_training import save_language_model
from colllm_ray.lab.tokenizer import train_tokenizer
from colllm_ray.scoring.score import score
from colllm_ray.scoring.score_folder import ScoreFolder
from colllm_ray.scoring.shards import EXAMPLES, read_shard, shard_name
from colllm_ray.storage import location

VOCABULARY = 32_000  # Llama 2's, which the paper's models are
SHAPE = {"hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 8, "num_attention_heads": 4}
CONTEXT = 2048  # tokens
RUNS = 2
MADE_ROWS = 7473  # as many as GSM8K's train.jsonl has
ROWS: dict[Amount, int | None] = {"full": None, "quick": 1000, "smoke": 60}  # all where nothing is said
VALIDATION_ROWS = 50
PARTS = 4  # of the shards, of which bare passes are made over one
REFERENCE_TEXTS = 300  # its speed does not change with more of them either
SCORE, BARE, EVERYWHERE, REFERENCE = (
    "colllm score", "bare forward passes", "the same, logits everywhere", "the reference's loop",
)  # fmt: skip

# Scores a share of the texts with one model; returns the tokens and the seconds.
Loop = Callable[[ModelConfig, Sequence[Sequence[Text]], int], tuple[int, float]]


def parser() -> BenchmarkParser:
    made = BenchmarkParser(__doc__ or "", RUNS)
    made.add_argument("--data", type=Path, metavar="FILE", help="GSM8K's train.jsonl (default: made text)")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().options(arguments)
    rows = _rows(options.data)[: ROWS[options.amount]]
    with tempfile.TemporaryDirectory() as folder:
        collaboration = _write_collaboration(Path(folder), rows)
        with some_ray(collaboration), ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
            runs = [_run(collaboration, location(folder) / f"run-{run}", run, processes) for run in range(options.runs)]
    table = [_row(how, [run[how] for run in runs if how in run]) for how in runs[0]]
    speeds = [{how: tokens / seconds for how, (tokens, seconds) in run.items()} for run in runs]
    headline = {
        "scoring_efficiency": higher(*(speed[SCORE] / speed[BARE] for speed in speeds)),
        "scoring_over_reference": higher(*(speed[SCORE] / speed[REFERENCE] for speed in speeds)),
    }
    finish(options, Report("scoring", table, headline), _chart)


def _run(
    collaboration: Collaboration, folder: UPath, run: int, processes: ProcessPoolExecutor
) -> dict[str, tuple[int, float]]:
    """Tokens and seconds of each way; of the one that no headline needs in the first run alone."""
    begin = perf_counter()
    score(collaboration, folder)
    seconds = perf_counter() - begin
    shards = _shards(ScoreFolder.of(collaboration, collaboration.data.sources, folder / "scores"))
    part = shards[run % PARTS :: PARTS] or shards
    members, budget = list(collaboration.members.values()), collaboration.scoring.tokens_for(collaboration.base)
    some_texts = [text for shard in part for text in shard][:REFERENCE_TEXTS]
    measured = {
        SCORE: (2 * _tokens(shards), seconds),
        BARE: _side_by_side(processes, _bare, members, part, budget),
        REFERENCE: _side_by_side(processes, _reference, members[:1], [some_texts], budget),
    }
    if run == 0:
        measured[EVERYWHERE] = _side_by_side(processes, _bare_with_all_logits, members, part[::2], budget)
    return measured


def _row(how: str, runs: Sequence[tuple[int, float]]) -> Row:
    tokens, seconds = (sum(each) for each in zip(*runs, strict=True))
    return {"how": how, "tokens": int(tokens), "seconds": round(seconds, 1), "tokens_per_s": round(tokens / seconds)}


def _rows(path: Path | None) -> list[dict[str, str]]:
    """Question and answer, from GSM8K's file or made of invented words, of much the same lengths."""
    if path is not None:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rng, words = random.Random("benchmarks/scoring"), invented_words(3000)

    def text(mean: int) -> str:
        return " ".join(rng.choices(words, k=max(10, round(rng.gauss(mean, mean / 3)))))

    return [{"question": text(45), "answer": text(50)} for _ in range(MADE_ROWS)]


def _write_collaboration(folder: Path, rows: Sequence[dict[str, str]]) -> Collaboration:
    texts = [f"{row['question']} {row['answer']}" for row in rows]
    tokenizer = train_tokenizer([*texts, " ".join(invented_words(40_000))], VOCABULARY)
    assert len(tokenizer) == VOCABULARY
    disable_progress_bar()
    for seed, name in enumerate(("base", "expert")):
        torch.manual_seed(seed)
        config = LlamaConfig(
            **SHAPE, vocab_size=len(tokenizer), max_position_embeddings=CONTEXT, tie_word_embeddings=True
        )
        save_language_model(LlamaForCausalLM(config), folder / name)
        tokenizer.save_pretrained(folder / name)
    for split, part in (("train", rows), ("validation", rows[:VALIDATION_ROWS])):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    description = {
        "name": "scoring",
        "base": {"model": "base", "num_cpus": 1},
        "experts": [{"name": "expert", "model": "expert", "num_cpus": 1}],
        "data": {
            "train": "train.jsonl",
            "validation": "validation.jsonl",
            "columns": {"user": "question", "assistant": "answer"},
        },
    }
    (folder / "scoring.yaml").write_text(yaml.safe_dump(description), encoding="utf-8")
    return Collaboration.load(folder / "scoring.yaml")


def _shards(folder: ScoreFolder) -> list[list[Text]]:
    tables = [
        read_shard(folder.path / "examples" / shard_name(index), EXAMPLES, folder.made_from["examples"])
        for index in range(len(folder.manifest().shards))
    ]
    return [list(map(Text, t["input_ids"].to_pylist(), t["target_mask"].to_pylist())) for t in tables]


def _side_by_side(
    processes: ProcessPoolExecutor,
    loop: Loop,
    members: Sequence[ModelConfig],
    shards: Sequence[Sequence[Text]],
    budget: int,
) -> tuple[int, float]:
    """Tokens of all models, and the seconds of the slowest: each in a process of its own, all at once."""
    list(processes.map(torch.set_num_threads, [1] * len(members)))  # all have started
    done = [processes.submit(loop, member, shards, budget) for member in members]
    results = [one.result() for one in done]
    return sum(tokens for tokens, _ in results), max(seconds for _, seconds in results)


def _bare(config: ModelConfig, shards: Sequence[Sequence[Text]], budget: int) -> tuple[int, float]:
    """The batches that scoring makes, on its linear layers; logits of the target tokens, and nothing done with them."""
    model, batches = _prepared(config, shards, budget)
    model.block_linear_layers()
    begin = perf_counter()
    for ids, wanted in batches:
        model.forward(ids, wanted.flatten().nonzero()[:, 0])
    return _tokens(shards), perf_counter() - begin


def _bare_with_all_logits(config: ModelConfig, shards: Sequence[Sequence[Text]], budget: int) -> tuple[int, float]:
    """The batches that scoring makes, through Hugging Face's forward as it is."""
    model, batches = _prepared(config, shards, budget)
    begin = perf_counter()
    with torch.inference_mode():
        for ids, _ in batches:
            model.model(input_ids=ids, use_cache=False)
    return _tokens(shards), perf_counter() - begin


def _reference(config: ModelConfig, shards: Sequence[Sequence[Text]], budget: int) -> tuple[int, float]:  # noqa: ARG001
    """One example a forward, the log-softmax of all of it, log-probs and highest probabilities in Python lists."""
    torch.set_num_threads(os.cpu_count() or 1)
    model = _load(config).model
    begin = perf_counter()
    with torch.inference_mode():
        for text in shards[0]:
            ids = torch.tensor([text.input_ids])
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, :-1].contiguous()
            logprobs = logits.log_softmax(-1)
            logprobs.max(-1)[0].tolist()
            logprobs.gather(1, ids[0, 1:, None])[:, 0].tolist()
    return _tokens(shards), perf_counter() - begin


def _prepared(
    config: ModelConfig, shards: Sequence[Sequence[Text]], budget: int
) -> tuple[LanguageModel, list[tuple[torch.Tensor, torch.Tensor]]]:
    torch.set_num_threads(1)
    batches = [
        padded([shard[i] for i in batch])
        for shard in shards
        for batch in batches_by_length([len(text.input_ids) for text in shard], budget)
    ]
    return _load(config), batches


def _load(config: ModelConfig) -> LanguageModel:
    return LanguageModel.load(config, VOCABULARY)


def _tokens(shards: Sequence[Sequence[Text]]) -> int:
    return sum(len(text.input_ids) for shard in shards for text in shard)


def _chart(path: Path, report: Report) -> None:
    bars = {str(row["how"]): float(row["tokens_per_s"]) for row in report.rows}
    bar_chart(path, bars, "tokens a second", "Scoring with two models of 5.7M weights")


if __name__ == "__main__":
    main()
