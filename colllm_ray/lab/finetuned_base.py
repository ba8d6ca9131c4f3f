"""The rival that the lab's report shows: the base fine-tuned on the data that the head is trained on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import torch

from colllm_ray.config import Collaboration
from colllm_ray.data.examples import Example, read_examples
from colllm_ray.data.text import text_of
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.decoding.loop import decode_alone
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.language_model import LanguageModel, shared_context
from colllm_ray.engine.stepper import Stepper
from colllm_ray.lab.language_model_training import shuffled_forever, train_language_model
from colllm_ray.progress import progress_bars

STEPS = 400
BATCH_SIZE = 32
LEARNING_RATE = 1e-3
FINETUNED_BASE = "finetuned_base"


class FinetunedBase:
    """A language model on its own, in this process."""

    def __init__(self, collaboration: Collaboration) -> None:
        """Fine-tunes all of the base's weights on the collaboration's training data."""
        self._tokenizer = load_tokenizer(collaboration.base)
        self._model = LanguageModel.load(collaboration.base, len(self._tokenizer))
        context = shared_context(collaboration)
        examples = list(read_examples(Path(collaboration.data.train), "train", self._tokenizer, context))
        torch.manual_seed(0)
        with progress_bars() as progress:
            bar = progress.add_task("fine-tune base", total=STEPS, note="")
            train_language_model(
                self._model.model,
                shuffled_forever(examples, random.Random(0)),
                steps=STEPS,
                batch_size=BATCH_SIZE,
                learning_rate=LEARNING_RATE,
                pad_id=self._tokenizer.pad_token_id,
                on_step=lambda step, loss: progress.update(bar, completed=step + 1, note=f"loss {loss:.4f}"),
            )

    def answer_all(self, examples: Sequence[Example], max_tokens: int) -> list[str]:
        """The greedy answer to each example's prompt."""
        stepper = Stepper(Engine(self._model, max_sessions=1))
        end = frozenset({int(self._tokenizer.eos_token_id)})

        async def answers() -> list[str]:
            written = [
                [t.token async for t in decode_alone(stepper, 0, e.prompt_ids, max_tokens=max_tokens, end_tokens=end)]
                for e in examples
            ]
            return [text_of(tokens, self._tokenizer) for tokens in written]

        return asyncio.run(answers())

    def negative_log_likelihoods(self, examples: Sequence[Example]) -> list[float]:
        """The sum over each example's targets, in nats."""
        sums = []
        for example in examples:
            ids = torch.tensor([example.input_ids])
            wanted = torch.tensor([[*example.target_mask[1:], False]])
            logits, _ = self._model.forward(ids, wanted)
            gold = ids.roll(-1, dims=1)[wanted]
            sums.append(float(torch.nn.functional.cross_entropy(logits, gold, reduction="sum")))
        return sums
