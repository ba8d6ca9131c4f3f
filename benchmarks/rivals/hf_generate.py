"""Hugging Face `generate` of one model alone, with its own cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers.generation.streamers import BaseStreamer
from transformers.utils.logging import disable_progress_bar


class _Stopwatch(BaseStreamer):
    """Notes when the prompt and each token came out of `generate`."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: torch.Tensor) -> None:  # noqa: ARG002
        self.times.append(perf_counter())

    def end(self) -> None:
        """Nothing is left to do."""


class _Generator:
    """The model of the process that measures it."""

    model: PreTrainedModel
    prompt: torch.Tensor


@contextmanager
def generating(folder: Path, prompt_tokens: int, threads: int) -> Iterator[Callable[[int], list[float]]]:
    """A function from a number of new tokens to the seconds of each but the first, which has the prompt to read.

    The model runs in a process of its own, which loads it once. The function raises ValueError for fewer than two.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), _load, (folder, prompt_tokens, threads)) as pool:
        yield lambda new_tokens: pool.submit(_seconds, new_tokens).result()


def _load(folder: Path, prompt_tokens: int, threads: int) -> None:
    torch.set_num_threads(threads)
    disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).eval()
    model.generation_config = GenerationConfig(do_sample=False)  # without an end token: all are written
    random = torch.Generator().manual_seed(0)
    _Generator.model = model
    _Generator.prompt = torch.randint(model.config.vocab_size, (1, prompt_tokens), generator=random)
    _seconds(2)  # the first call is slower than those after it


def _seconds(new_tokens: int) -> list[float]:
    if new_tokens < 2:
        raise ValueError(f"new_tokens is at least 2, as the first is not counted; it is {new_tokens}")
    model, prompt, stopwatch = _Generator.model, _Generator.prompt, _Stopwatch()
    mask = torch.ones_like(prompt)
    text = model.generate(prompt, attention_mask=mask, max_new_tokens=new_tokens, streamer=stopwatch)
    assert text.shape == (1, prompt.shape[1] + new_tokens), "no end token stopped it"
    return [after - before for before, after in pairwise(stopwatch.times[1:])]  # [0] is the prompt
