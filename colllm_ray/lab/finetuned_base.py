"""The rival that the lab's report shows: the base fine-tuned on the data that the head is trained on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase as Tokenizer

from colllm_ray.config import Collaboration
from colllm_ray.data.chat import end_tokens
from colllm_ray.data.examples import Example, read_whole
from colllm_ray.data.text import text_of
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.decoding.loop import decode_alone
from colllm_ray.decoding.written import Terms
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.stepper import Stepper
from colllm_ray.engine.weights import shared_context
from colllm_ray.evaluation.measures import Evaluation
from colllm_ray.lab.language_model_training import shuffled_forever, train_language_model
from colllm_ray.progress import progress_bars

STEPS = 400
BATCH_SIZE = 32
LEARNING_RATE = 1e-3


def finetuned_base(collaboration: Collaboration) -> LanguageModel:
    """The base with all of its weights fine-tuned on the collaboration's training data."""
    tokenizer = load_tokenizer(collaboration.base)
    model = LanguageModel.load(collaboration.base, len(tokenizer))
    context = shared_context(collaboration)
    examples = list(read_whole(collaboration.data.train, "train", tokenizer, context, collaboration.data))
    torch.manual_seed(0)
    with progress_bars() as progress:
        bar = progress.add_task("fine-tune base", total=STEPS, note="")
        train_language_model(
            model.model,
            shuffled_forever(examples, random.Random(0)),
            steps=STEPS,
            batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            pad_id=tokenizer.pad_token_id,
            on_step=lambda step, loss: progress.update(bar, completed=step + 1, note=f"loss {loss:.4f}"),
        )
    return model


def with_answers_of(
    model: LanguageModel, name: str, evaluation: Evaluation, examples: Sequence[Example], tokenizer: Tokenizer
) -> Evaluation:
    """The evaluation with one more model beside the members: its greedy answers, its log-likelihoods.

    `examples` are those that the evaluation has answered, in the same order.
    """
    nll = [_negative_log_likelihood(model, example) for example in examples]
    answers = asyncio.run(_greedy_answers(model, examples, tokenizer))
    answered = tuple(
        replace(question, answers={**question.answers, name: answer}, nll={**question.nll, name: value})
        for question, answer, value in zip(evaluation.answered, answers, nll, strict=True)
    )
    return replace(evaluation, answered=answered)


async def _greedy_answers(model: LanguageModel, examples: Sequence[Example], tokenizer: Tokenizer) -> list[str]:
    longest = 1 + max(len(example.completion_ids) for example in examples)
    context = longest + max(len(example.prompt_ids) for example in examples)
    stepper, end = Stepper(Engine(model, 1, context)), end_tokens(tokenizer)
    answers = []
    for example in examples:
        written = decode_alone(stepper, 0, example.prompt_ids, Terms(longest, end))
        answers.append(text_of([token.token async for token in written], tokenizer))
    return answers


def _negative_log_likelihood(model: LanguageModel, example: Example) -> float:
    """The sum over the example's targets, in nats."""
    ids = torch.tensor(example.input_ids)
    targets = torch.tensor(example.target_mask).nonzero()[:, 0]
    logits, _ = model.forward(ids[None], targets - 1)
    return float(cross_entropy(logits, ids[targets], reduction="sum"))
