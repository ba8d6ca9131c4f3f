"""Hugging Face `generate` of one model alone, with its own cache."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from transformers import AutoModelForCausalLM, GenerationConfig
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


def generate_times(folder: Path, prompt_tokens: int, new_tokens: int, threads: int) -> float:
    """Milliseconds a token: the median over all but the first, which has the prompt to read. In a process of its own.

    Raises ValueError for fewer than two new tokens.
    """
    if new_tokens < 2:
        raise ValueError(f"new_tokens is at least 2, as the first is not counted; it is {new_tokens}")
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_measure, folder, prompt_tokens, new_tokens, threads).result()


def _measure(folder: Path, prompt_tokens: int, new_tokens: int, threads: int) -> float:
    torch.set_num_threads(threads)
    disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).eval()
    model.generation_config = GenerationConfig(do_sample=False)  # without an end token: all are written
    prompt = torch.randint(model.config.vocab_size, (1, prompt_tokens), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(prompt)
    model.generate(prompt, attention_mask=mask, max_new_tokens=2)  # the first call is slower than those after it
    stopwatch = _Stopwatch()
    text = model.generate(prompt, attention_mask=mask, max_new_tokens=new_tokens, streamer=stopwatch)
    assert text.shape == (1, prompt_tokens + new_tokens), "no end token stopped it"
    return 1000 * median(after - before for before, after in pairwise(stopwatch.times[1:]))  # [0] is the prompt
