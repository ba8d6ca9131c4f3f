"""The threshold eta, chosen on validation data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colllm_ray.deferral.rule import decide


@dataclass(frozen=True)
class Candidate:
    """What a threshold gives on the validation targets, each token decided on the true text before it.

    `exact_match` is the share of examples in which every token comes out right: as greedy decoding leaves the true
    text at its first mistake, this is the exact match that decoding has. All are shares in [0, 1].
    """

    frequency: float
    threshold: float
    exact_match: float
    token_accuracy: float


@dataclass(frozen=True)
class Calibration:
    """The chosen threshold and the candidates that it was chosen from."""

    threshold: float
    candidates: tuple[Candidate, ...]


def calibrate(scores: Tensor, top1: Tensor, example: Tensor, steps: int = 100) -> Calibration:
    """Tries a threshold for each deferral frequency 0, 1/steps, .., 1 and chooses the best.

    scores [N, K]; top1 [N, K] bool; example [N] numbers the examples from 0. The best has the highest exact match,
    then token accuracy; of several equal ones the middle, which is furthest from where things change.
    """
    _, p_defer = decide(scores, 1.0)
    candidates = []
    for step in range(steps + 1):
        threshold = _threshold_at(p_defer, step / steps)
        author, _ = decide(scores, threshold)
        right = top1.gather(1, author[:, None])[:, 0]
        wrong_examples = example[~right].unique().numel()
        candidates.append(
            Candidate(
                frequency=float((author > 0).float().mean()),
                threshold=threshold,
                exact_match=1 - wrong_examples / example.unique().numel(),
                token_accuracy=float(right.float().mean()),
            )
        )
    best = max((c.exact_match, c.token_accuracy) for c in candidates)
    equal = [c for c in candidates if (c.exact_match, c.token_accuracy) == best]
    return Calibration(equal[len(equal) // 2].threshold, tuple(candidates))


def _threshold_at(p_defer: Tensor, frequency: float) -> float:
    """A threshold that `frequency` of the targets lie above, midway between two of their values."""
    descending = torch.cat([torch.ones(1), torch.sort(p_defer, descending=True).values, torch.zeros(1)])
    above = round(frequency * len(p_defer))
    return float(descending[above : above + 2].mean())
