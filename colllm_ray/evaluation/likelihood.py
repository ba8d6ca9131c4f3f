"""How likely given texts are, under each model and under all of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from colllm_ray.decoding.judged import Judged
from colllm_ray.deferral.loss import marginal_logprob
from colllm_ray.engine.text import Text
from colllm_ray.evaluation.answered import COLLABORATION, Reply
from colllm_ray.evaluation.questions import Question

Logprobs = Mapping[str, float]
"""By model and "collaboration": the sum of a text's target log-probs in nats."""


def answer_behind(prompt: Sequence[int], answer: Sequence[int]) -> Text:
    """An answer behind its prompt, as a text whose targets are the answer's tokens."""
    return Text([*prompt, *answer], [False] * len(prompt) + [True] * len(answer))


def logprobs_of(judged: Judged, models: Sequence[str]) -> Logprobs:
    """Of one text; `models` are members, then guests."""
    gold = torch.tensor(judged.gold_logprob, dtype=torch.double)  # [n, models]
    scores = torch.tensor(judged.scores, dtype=torch.double)  # [n, K]
    together = marginal_logprob(scores, gold[:, : scores.shape[1]])
    return {**dict(zip(models, gold.sum(0).tolist(), strict=True)), COLLABORATION: float(together.sum())}


def likeliest(question: Question, choices: Sequence[Logprobs], texts: Sequence[str]) -> dict[str, Reply]:
    """Who finds which choice the likeliest, and whether it is the right one.

    The log-probs of a choice's tokens are added up, not averaged; of equal ones the first counts. `texts` are the
    choices as people read them.
    """
    replies = {}
    for who in choices[0]:
        totals = [choice[who] for choice in choices]
        best = totals.index(max(totals))
        replies[who] = Reply(float(best == question.reference), texts[best])
    return replies


def probabilities(logprobs: Logprobs, targets: int) -> dict[str, Reply]:
    """Each one's geometric mean of the targets' probabilities, which is 1 / perplexity, as the quality."""
    return {who: Reply(float(torch.tensor(total / targets).exp())) for who, total in logprobs.items()}
