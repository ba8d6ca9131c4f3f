"""The threshold eta, chosen on validation data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colllm_ray.deferral.rule import decide
from colllm_ray.errors import ColllmError


@dataclass(frozen=True)
class Candidate:
    """What a threshold gives on the validation targets, each token decided on the true text before it.

    `frequency` is the share of targets that it defers. `exact_match` is the share of examples in which every token
    comes out right: as greedy decoding leaves the true text at its first mistake, this is the exact match that decoding
    has. All are shares in [0, 1].
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

    @property
    def knows_shares(self) -> bool:
        """Whether a candidate lies between the base alone and the experts alone."""
        return any(0 < one.frequency < 1 for one in self.candidates)

    def threshold_for(self, share: float) -> float:
        """The threshold that defers this share of tokens, between the candidates by interpolation.

        0 is the base alone, 1 the experts alone. Raises ColllmError for a share between, where no candidate lies there.
        """
        if not self.knows_shares and 0 < share < 1:
            raise ColllmError("the calibration knows no thresholds for shares of tokens; give a threshold")
        points = {one.frequency: one.threshold for one in self.candidates if 0 < one.frequency < 1} | {
            0.0: 1.0,
            1.0: 0.0,
        }
        below = max(frequency for frequency in points if frequency <= share)
        above = min(frequency for frequency in points if frequency >= share)
        if below == above:
            return points[below]
        part = (share - below) / (above - below)
        return points[below] + part * (points[above] - points[below])


def calibrate(scores: Tensor, top1: Tensor, example: Tensor, steps: int = 100) -> Calibration:
    """Tries every threshold that makes a difference and chooses the best; tells the candidates at 0, 1/steps, .., 1.

    scores [N, K]; top1 [N, K] bool; example [N] numbers the examples from 0. The best has the highest exact match,
    then token accuracy; of several equal ones the middle, which is furthest from where things change. Frequencies that
    no threshold gives, because scores are equal, are told as the nearest one that some threshold does.
    """
    author, p_defer = decide(scores, 0.0)
    order = torch.argsort(p_defer, descending=True)
    p_defer, example = p_defer[order], example[order]
    base_right, expert_right = top1[order, 0], top1[order, author[order]]
    exact_match = _exact_match_by_cut(base_right, expert_right, example)
    token_accuracy = _token_accuracy_by_cut(base_right, expert_right)
    thresholds = torch.cat([p_defer.new_ones(1), p_defer, p_defer.new_zeros(1)]).unfold(0, 2, 1).mean(1)  # [N + 1]

    quality = torch.stack([exact_match, token_accuracy], dim=1)  # [N + 1, 2]
    # No threshold cuts between equal values.
    possible = torch.cat([p_defer[:1] < 1, p_defer[:-1] > p_defer[1:], p_defer[-1:] > 0]).nonzero()[:, 0]
    chosen = possible[_middle_of_the_best(quality[possible].tolist())]
    wanted = torch.linspace(0, len(p_defer), steps + 1)
    told = possible[(possible[None, :] - wanted[:, None]).abs().argmin(dim=1)].unique()
    return Calibration(
        threshold=float(thresholds[chosen]),
        candidates=tuple(
            Candidate(cut / len(p_defer), float(thresholds[cut]), float(exact_match[cut]), float(token_accuracy[cut]))
            for cut in told.tolist()
        ),
    )


def base_alone(top1: Tensor, example: Tensor) -> Calibration:
    """The threshold 1, for a head that nobody asks: top1 [N, K] bool, example [N] numbers the examples from 0."""
    right = top1[:, 0]
    wrong_in = torch.zeros(int(example.max()) + 1).index_add(0, example, (~right).float())
    candidate = Candidate(0.0, 1.0, float((wrong_in == 0).float().mean()), float(right.float().mean()))
    return Calibration(1.0, (candidate,))


def _middle_of_the_best(quality: list[list[float]]) -> int:
    """The index in the middle of the longest run of indices whose quality is the best there is."""
    best = max(quality)
    runs: list[list[int]] = [[]]
    for i, value in enumerate(quality):
        if value == best:
            runs[-1].append(i)
        elif runs[-1]:
            runs.append([])
    longest = max(runs, key=len)
    return longest[len(longest) // 2]


# Below, targets come in the order of falling p_defer, and a cut a in 0..N defers the first a of them.


def _exact_match_by_cut(base_right: Tensor, expert_right: Tensor, example: Tensor) -> Tensor:
    """Exact match [N + 1] for every cut: [N] bool, [N] bool, [N] -> shares.

    An example is right from the cut that defers its last token that the base has wrong, to the one before its first
    token that the expert has wrong is deferred.
    """
    targets, examples = len(example), int(example.max()) + 1
    rank = torch.arange(targets)
    first = torch.zeros(examples, dtype=torch.long)
    first.scatter_reduce_(0, example[~base_right], rank[~base_right] + 1, "amax")
    last = torch.full((examples,), targets)
    last.scatter_reduce_(0, example[~expert_right], rank[~expert_right], "amin")
    can_be_right = first <= last
    change = torch.zeros(targets + 2)
    change.index_add_(0, first[can_be_right], torch.ones(int(can_be_right.sum())))
    change.index_add_(0, last[can_be_right] + 1, -torch.ones(int(can_be_right.sum())))
    return change.cumsum(0)[:-1] / examples


def _token_accuracy_by_cut(base_right: Tensor, expert_right: Tensor) -> Tensor:
    """Token accuracy [N + 1] for every cut: [N] bool, [N] bool -> shares."""
    deferred = torch.cat([torch.zeros(1), expert_right.double().cumsum(0)])
    kept = base_right.sum() - torch.cat([torch.zeros(1), base_right.double().cumsum(0)])
    return ((deferred + kept) / len(base_right)).float()
