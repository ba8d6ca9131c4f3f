"""Independent, slow and plain: what the package is checked against."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from colllm_ray.deferral.trained import TrainedCollaboration


def load_all(trained: TrainedCollaboration) -> list[PreTrainedModel]:
    """The members as Hugging Face loads them, the base first."""
    return [
        AutoModelForCausalLM.from_pretrained(config.model, dtype=torch.float32).eval()
        for config in trained.collaboration.members.values()
    ]


@torch.no_grad()
def brute_force_answer(
    models: Sequence[PreTrainedModel],
    trained: TrainedCollaboration,
    prompt: Sequence[int],
    eta: float,
    max_tokens: int,
    end: int,
    masked: Set[int] = frozenset(),
) -> list[tuple[int, int]]:
    """Greedy collaborative decoding without cache, batches or our code: pairs of token and author."""
    x = list(prompt)
    written: list[tuple[int, int]] = []
    while len(written) < max_tokens:
        author, logprobs = brute_force_next(models, trained, x, eta, masked)
        token = int(logprobs.argmax())
        x.append(token)
        written.append((token, author))
        if token == end:
            break
    return written


@torch.no_grad()
def brute_force_next(
    models: Sequence[PreTrainedModel],
    trained: TrainedCollaboration,
    text: Sequence[int],
    eta: float,
    masked: Set[int] = frozenset(),
) -> tuple[int, torch.Tensor]:
    """Who writes the next token, and that model's log-probs [V]."""
    weight = trained.head.weight.detach().double()
    bias = trained.head.bias.detach().double()
    base = models[0](torch.tensor([list(text)]), output_hidden_states=True)
    h = base.hidden_states[-1][0, -1].double()
    s = [0.0, *(float(weight[k] @ h + bias[k]) for k in range(len(models) - 1))]
    weights = [0.0 if k in masked else math.exp(score) for k, score in enumerate(s)]
    p = [each / sum(weights) for each in weights]
    author = max(range(1, len(p)), key=p.__getitem__) if 1 - p[0] > eta else 0
    logits = base.logits if author == 0 else models[author](torch.tensor([list(text)])).logits
    return author, logits[0, -1].log_softmax(-1)
