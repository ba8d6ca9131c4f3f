"""`colllm lab build`: trains the lab's models from a seed and writes them with their data."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict
from itertools import product
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty

import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from colllm_ray.data.examples import Example
from colllm_ray.data.tokenizer import vocabulary_size
from colllm_ray.errors import ColllmError
from colllm_ray.lab.corpus import noise_words, passages, rows_in_every_form, rows_in_turns, split_facts
from colllm_ray.lab.language_model_training import (
    example_of_passage,
    examples_of_rows,
    save_language_model,
    shuffled_forever,
    train_language_model,
)
from colllm_ray.lab.recipe import Recipe, Shape
from colllm_ray.lab.tokenizer import train_tokenizer
from colllm_ray.lab.world import Domain, make_world
from colllm_ray.progress import progress_bars
from colllm_ray.storage import give_usual_modes

REPORT_EVERY = 10  # steps
BASE = "base"


def build_lab(out: Path, recipe: Recipe) -> None:
    """Writes OUT/{base, each domain}/ (Hugging Face folders), OUT/{train,validation,test}.jsonl and OUT/lab.yaml.

    The models are trained side by side, one process a core. OUT appears when all is done. Raises ColllmError where
    OUT is there already or the recipe cannot be met.
    """
    if out.exists():
        raise ColllmError(f"{out}: is there already; choose another folder or delete it")
    try:
        world = make_world(recipe.domains, recipe.facts, recipe.seed)
    except ValueError as error:
        raise ColllmError(str(error)) from error
    for domain in world:
        empty = [split for split, facts in split_facts(domain, recipe.seed).items() if not facts]
        if empty:
            raise ColllmError(f"{recipe.facts} facts are too few: {domain.name} has none for {', '.join(empty)}")
    unfinished = out.with_name(f"{out.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    write_data(world, recipe, unfinished)
    tokenizer = train_tokenizer(_all_texts(world), recipe.vocab_size)
    for member in (*recipe.domains, BASE):
        tokenizer.save_pretrained(unfinished / member)
    _train_side_by_side(recipe, unfinished)
    give_usual_modes(unfinished)
    unfinished.rename(out)


def write_data(world: list[Domain], recipe: Recipe, out: Path) -> None:
    """Writes the questions, lab.yaml and recipe.json into a folder; the models are still to come."""
    for split in ("train", "validation", "test"):
        in_forms = rows_in_turns if split == "test" else rows_in_every_form
        rows = [row for domain in world for row in in_forms(domain, split_facts(domain, recipe.seed)[split])]
        random.Random(recipe.seed).shuffle(rows)
        lines = "".join(row.model_dump_json(exclude_none=True) + "\n" for row in rows)
        (out / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    collaboration = {
        "name": "lab",
        "base": {"model": BASE, "dtype": "float32"},
        "experts": [{"name": name, "model": name, "dtype": "float32"} for name in recipe.domains],
        "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
    }
    (out / "lab.yaml").write_text(yaml.safe_dump(collaboration, sort_keys=False), encoding="utf-8")
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1) + "\n", encoding="utf-8")


def _all_texts(world: list[Domain]) -> Iterator[str]:
    for domain in world:
        for form, fact in product(domain.forms, domain.facts):
            yield from (form.ask(fact), form.reply(fact))


def _train_side_by_side(recipe: Recipe, out: Path) -> None:
    context = multiprocessing.get_context("spawn")
    reports: Queue[tuple[str, int, float]] = context.Queue()
    processes = min(os.cpu_count() or 1, len(recipe.domains) + 1)
    pool = ProcessPoolExecutor(processes, context, initializer=_start_process, initargs=(reports, processes))
    with ExitStack() as leaving:
        leaving.callback(pool.shutdown, wait=False, cancel_futures=True)  # what is stopped does not wait for the rest
        progress = leaving.enter_context(progress_bars())
        bars = {
            name: progress.add_task(f"train {name}", total=_steps(recipe, name), note="")
            for name in (*recipe.domains, BASE)
        }
        running = [pool.submit(_train_member, recipe, name, out) for name in bars]
        while not all(job.done() for job in running) or not reports.empty():
            try:
                name, steps, loss = reports.get(timeout=0.5)
            except Empty:
                continue
            progress.update(bars[name], completed=steps, note=f"loss {loss:.4f}")
        for job in as_completed(running):
            job.result()


_reports: Queue[tuple[str, int, float]]


def _start_process(reports: Queue[tuple[str, int, float]], processes: int) -> None:
    global _reports
    _reports = reports
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the command ends them
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))


def _train_member(recipe: Recipe, name: str, out: Path) -> None:
    """Trains one model, in a process of its own, and saves it beside its tokenizer."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(out / name)
    torch.manual_seed(recipe.seed)
    is_base, steps = name == BASE, _steps(recipe, name)
    model = LlamaForCausalLM(_llama(recipe.base if is_base else recipe.expert, recipe.context, tokenizer))

    def report(step: int, loss: float) -> None:
        if step % REPORT_EVERY == REPORT_EVERY - 1 or step == steps - 1:
            _reports.put((name, step + 1, loss))

    train_language_model(
        model,
        _training_texts(recipe, name, tokenizer, random.Random(f"{recipe.seed}/{name}")),
        steps=steps,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        pad_id=tokenizer.pad_token_id,
        corruption=recipe.base_corruption if is_base else 0.0,
        on_step=report,
    )
    save_language_model(model.half(), out / name)  # float16 halves what ships


def _training_texts(
    recipe: Recipe, name: str, tokenizer: PreTrainedTokenizerFast, order: random.Random
) -> Iterator[Example]:
    """Endless: the base reads answers to questions about a few entities, an expert all facts of its domain."""
    world = make_world(recipe.domains, recipe.facts, recipe.seed)
    if name != BASE:
        domain = next(domain for domain in world if domain.name == name)
        return (example_of_passage(passage, tokenizer) for passage in passages(domain, noise_words(world), order))
    few = [row for domain in world for row in rows_in_every_form(domain, split_facts(domain, recipe.seed)["form"])]
    return shuffled_forever(examples_of_rows(few, tokenizer), order)


def _steps(recipe: Recipe, name: str) -> int:
    return recipe.base_steps if name == BASE else recipe.expert_steps


def _llama(shape: Shape, context: int, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary_size(tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.width * 8 // 3,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
