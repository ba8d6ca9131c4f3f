"""The rival that the lab's report shows: the base fine-tuned on the data that the head is trained on."""

from __future__ import annotations

import random
from pathlib import Path

import torch

from colllm_ray.config import Collaboration, ExpertConfig
from colllm_ray.data.examples import read_whole
from colllm_ray.data.tokenizer import load_tokenizer, vocabulary_size
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.weights import shared_context
from colllm_ray.evaluation.compared import guest
from colllm_ray.lab.language_model_training import save_language_model, shuffled_forever, train_language_model
from colllm_ray.progress import progress_bars
from colllm_ray.storage import give_usual_modes

NAME = "finetuned_base"
STEPS = 400
BATCH_SIZE = 32
LEARNING_RATE = 1e-3


def finetuned_base(collaboration: Collaboration, folder: Path, steps: int = STEPS) -> ExpertConfig:
    """Writes the base, all of its weights fine-tuned on the collaboration's training data, to a folder."""
    tokenizer = load_tokenizer(collaboration.base)
    model = LanguageModel.load(collaboration.base, vocabulary_size(tokenizer))
    context = shared_context(collaboration)
    examples = list(read_whole(collaboration.data.train, "train", tokenizer, context, collaboration.data))
    torch.manual_seed(0)
    with progress_bars() as progress:
        bar = progress.add_task("fine-tune base", total=steps, note="")
        train_language_model(
            model.model,
            shuffled_forever(examples, random.Random(0)),
            steps=steps,
            batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            pad_id=tokenizer.pad_token_id,
            on_step=lambda step, loss: progress.update(bar, completed=step + 1, note=f"loss {loss:.4f}"),
        )
    save_language_model(model.model, folder)
    tokenizer.save_pretrained(folder)
    give_usual_modes(folder)
    return guest(collaboration, NAME, folder)
