"""Training of one small language model: the loop that makes the lab's models and the fine-tuned rival."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from colllm_ray.data.examples import Example, encode_row
from colllm_ray.data.rows import Row
from colllm_ray.lab.corpus import Passage

NO_LOSS = -100
BATCHES_AT_ONCE = 8


def example_of_passage(passage: Passage, tokenizer: PreTrainedTokenizerFast) -> Example:
    """Tokens of a passage; those that lie in one of its spans are targets."""
    encoded = tokenizer(passage.text, return_offsets_mapping=True, add_special_tokens=False)
    target_mask = [
        any(begin < end and span[0] <= begin and end <= span[1] for span in passage.spans)
        for begin, end in encoded["offset_mapping"]
    ]
    return Example("passage", encoded["input_ids"], target_mask)


def examples_of_rows(rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> list[Example]:
    """Conversations, with what the assistant says as targets."""
    return [encode_row(row, f"lab-{i:08d}", tokenizer) for i, row in enumerate(rows)]


def shuffled_forever(examples: Sequence[Example], rng: random.Random) -> Iterator[Example]:
    """The examples again and again, each round in a new order."""
    while True:
        yield from rng.sample(examples, len(examples))


def batches_of_similar_length(examples: Iterator[Example], batch_size: int) -> Iterator[list[Example]]:
    """Batches with little padding: a number of them is drawn at once, sorted by length and cut, and then shuffled."""
    rng = random.Random(0)
    while True:
        drawn = sorted(islice(examples, BATCHES_AT_ONCE * batch_size), key=lambda example: len(example.input_ids))
        batches = [drawn[start : start + batch_size] for start in range(0, len(drawn), batch_size)]
        rng.shuffle(batches)
        yield from batches


def train_language_model(
    model: PreTrainedModel,
    examples: Iterator[Example],
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    pad_id: int,
    corruption: float = 0.0,
    on_step: Callable[[int, float], None],
) -> None:
    """AdamW with a warm-up over 5 % of the steps and a cosine decay to zero; `on_step(step, loss)` after each.

    `corruption` is the share of input tokens that are read as random ones (the targets stay): a model trained so leans
    on all of its context, and keeps its place after a token that it has never seen.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=steps, pct_start=0.05, cycle_momentum=False
    )
    model.train()
    for step, batch in enumerate(islice(batches_of_similar_length(examples, batch_size), steps)):
        length = max(len(example.input_ids) for example in batch)
        input_ids = torch.full((batch_size, length), pad_id)  # [B, T]
        labels = torch.full((batch_size, length), NO_LOSS)  # [B, T]
        for row, example in enumerate(batch):
            ids = torch.tensor(example.input_ids)
            input_ids[row, : len(ids)] = ids
            labels[row, : len(ids)] = torch.where(torch.tensor(example.target_mask), ids, NO_LOSS)
        corrupt = torch.rand(input_ids.shape) < corruption
        input_ids = torch.where(corrupt, torch.randint_like(input_ids, model.config.vocab_size), input_ids)
        # Few positions carry loss: only they go through the output layer. Padding on the right needs no mask.
        hidden = model.base_model(input_ids=input_ids).last_hidden_state[:, :-1]  # [B, T - 1, D]
        wanted = labels[:, 1:] != NO_LOSS
        logits = model.get_output_embeddings()(hidden[wanted])
        loss = cross_entropy(logits, labels[:, 1:][wanted])
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        on_step(step, loss.item())
    model.eval()


def save_language_model(model: PreTrainedModel, folder: Path) -> None:
    """Writes configuration and weights."""
    if model.device.type == "cpu":  # it imports DeepSpeed, which warns where it finds nothing better and nobody says so
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    model.save_pretrained(folder)
