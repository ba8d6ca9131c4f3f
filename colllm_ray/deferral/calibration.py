"""The threshold eta, chosen on validation data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from colllm_ray.deferral.rule import decide
from colllm_ray.errors import ColllmError


@dataclass(frozen=True)
class Candidate:
    """What a threshold gives on validation data.

    `share` is that of the tokens that it defers, `quality` the mean of the metric, `token_accuracy` the share of tokens
    that come out right, where each is decided on the true text before it; all in [0, 1]. Where answers were decoded:
    `questions`, how many; `expert_calls`, the experts' forward passes an answer; `answer_s`, the seconds of an answer,
    measured for those on the front alone; `on_front`: no other candidate is as good and cheaper in one of these.
    """

    share: float
    threshold: float
    quality: float
    token_accuracy: float | None = None
    questions: int | None = None
    expert_calls: float | None = None
    answer_s: float | None = None
    on_front: bool = False


@dataclass(frozen=True)
class Calibration:
    """The chosen threshold and the candidates that it was chosen from, thresholds falling; `metric` names quality."""

    threshold: float
    candidates: tuple[Candidate, ...]
    metric: str = "exact"

    @property
    def knows_shares(self) -> bool:
        """Whether a candidate lies between the base alone and the experts alone."""
        return any(0 < one.share < 1 for one in self.candidates)

    def threshold_for(self, share: float) -> float:
        """The threshold that defers this share of tokens, between the candidates by interpolation.

        0 is the base alone, 1 the experts alone. Raises ColllmError for a share between, where no candidate lies there.
        """
        if not self.knows_shares and 0 < share < 1:
            raise ColllmError("the calibration knows no thresholds for shares of tokens; give a threshold")
        points = {0.0: 1.0, 1.0: 0.0}
        highest = 0.0
        for one in self.candidates:  # of decoded answers a lower threshold may defer less: what was written is another
            if highest < one.share < 1:
                points[one.share] = one.threshold
                highest = one.share
        below = max(known for known in points if known <= share)
        above = min(known for known in points if known >= share)
        if below == above:
            return points[below]
        part = (share - below) / (above - below)
        return points[below] + part * (points[above] - points[below])


def best_of(candidates: Sequence[Candidate]) -> Candidate:
    """The one of the highest quality, thresholds falling.

    Of several equal ones it is the one in the middle, which is furthest from where things change.
    """
    return candidates[_middle_of_the_best([(one.quality, 0.0) for one in candidates])]


def thresholds_at_shares(p_defer: Tensor, steps: int) -> list[float]:
    """The thresholds that defer 0, 1/steps, .., 1 of these tokens, falling: d_t [N].

    Shares that no threshold gives, because values are equal, get the nearest that one does.
    """
    cuts = _Cuts(p_defer.sort(descending=True).values)
    return [float(cuts.thresholds[cut]) for cut in cuts.nearest(steps)]


def calibrate_on_text(scores: Tensor, top1: Tensor, example: Tensor, steps: int = 100) -> Calibration:
    """Tries every threshold that makes a difference and chooses the best; tells the candidates at 0, 1/steps, .., 1.

    Every token is decided on the true text before it: as greedy decoding leaves that at its first mistake, the share of
    examples whose every token comes out right is the exact match that decoding has. scores [N, K]; top1 [N, K] bool;
    example [N] numbers the examples from 0. The best has the highest exact match, then token accuracy; of several equal
    ones the middle. Shares that no threshold gives are told as the nearest one that some threshold does.
    """
    author, p_defer = decide(scores, 0.0)
    order = torch.argsort(p_defer, descending=True)
    cuts, example = _Cuts(p_defer[order]), example[order]
    base_right, expert_right = top1[order, 0], top1[order, author[order]]
    exact_match = _exact_match_by_cut(base_right, expert_right, example)
    token_accuracy = _token_accuracy_by_cut(base_right, expert_right)
    quality = torch.stack([exact_match, token_accuracy], dim=1)  # [N + 1, 2]
    chosen = cuts.possible[_middle_of_the_best([(a, b) for a, b in quality[cuts.possible].tolist()])]
    return Calibration(
        threshold=float(cuts.thresholds[chosen]),
        candidates=tuple(
            Candidate(
                cut / len(order), float(cuts.thresholds[cut]), float(exact_match[cut]), float(token_accuracy[cut])
            )
            for cut in cuts.nearest(steps)
        ),
    )


def base_alone(top1: Tensor, example: Tensor) -> Calibration:
    """The threshold 1, for a head that nobody asks: top1 [N, K] bool, example [N] numbers the examples from 0."""
    right = top1[:, 0]
    wrong_in = torch.zeros(int(example.max()) + 1).index_add(0, example, (~right).float())
    candidate = Candidate(0.0, 1.0, float((wrong_in == 0).float().mean()), float(right.float().mean()))
    return Calibration(1.0, (candidate,))


class _Cuts:
    """Where thresholds can cut tokens that come in the order of falling d_t [N]: cut a in 0..N defers the first a."""

    def __init__(self, p_defer: Tensor) -> None:
        self._count = len(p_defer)
        self.thresholds = torch.cat([p_defer.new_ones(1), p_defer, p_defer.new_zeros(1)]).unfold(0, 2, 1).mean(1)
        # No threshold cuts between equal values; none is above 1.
        is_possible = torch.cat([p_defer.new_ones(1) > 0, p_defer[:-1] > p_defer[1:], p_defer[-1:] > 0])
        self.possible = is_possible.nonzero()[:, 0]

    def nearest(self, steps: int) -> list[int]:
        """The possible cuts next to the shares 0, 1/steps, .., 1, each once, rising."""
        wanted = torch.linspace(0, self._count, steps + 1)
        at: Tensor = self.possible[(self.possible[None, :] - wanted[:, None]).abs().argmin(dim=1)].unique()
        return [int(cut) for cut in at]


def _middle_of_the_best(quality: Sequence[tuple[float, float]]) -> int:
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


# Below, targets come in the order of falling p_defer, and there is a value for each cut.


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
