"""Independent, slow and plain: what the package is checked against."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
) -> list[tuple[int, int]]:
    """Greedy collaborative decoding without cache, batches or our code: pairs of token and author."""
    weight = trained.head.weight.detach().double()
    bias = trained.head.bias.detach().double()
    x = list(prompt)
    written: list[tuple[int, int]] = []
    while len(written) < max_tokens:
        base = models[0](torch.tensor([x]), output_hidden_states=True)
        h = base.hidden_states[-1][0, -1].double()
        s = [0.0, *(float(weight[k] @ h + bias[k]) for k in range(len(models) - 1))]
        total = sum(math.exp(score) for score in s)
        p = [math.exp(score) / total for score in s]
        author = max(range(1, len(p)), key=p.__getitem__) if 1 - p[0] > eta else 0
        logits = base.logits if author == 0 else models[author](torch.tensor([x])).logits
        token = int(logits[0, -1].argmax())
        x.append(token)
        written.append((token, author))
        if token == end:
            break
    return written
