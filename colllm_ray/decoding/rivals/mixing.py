"""Rivals that make one distribution of several, from which the token is taken.

Each asks its models at every token for their log-probs of the whole vocabulary. A token's author is, of the models that
are mixed, the one whose part of its probability is the largest.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from colllm_ray.decoding.model_client import scores_of
from colllm_ray.decoding.rivals.panel import Panel
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.engine.choose import choose
from colllm_ray.engine.messages import Choice, More


@dataclass(frozen=True)
class Mixture(ABC):
    """The rule of all that mix."""

    more: ClassVar[More] = "distribution"

    @abstractmethod
    def models(self, panel: Panel) -> Iterable[int]:
        """Who is asked."""

    @abstractmethod
    def mixed(self, said: Mapping[int, Choice]) -> tuple[Tensor, Tensor]:
        """Log-probs [V] that the token is taken from, and what each model of `said` adds to them [K, V], as logs."""

    async def write(self, panel: Panel, text: list[int]) -> list[WrittenToken]:
        said = await panel.ask(text, self.models(panel))
        mixed, parts = self.mixed(said)
        token = int(choose(mixed[None], [len(text)], [panel.terms.sampling]))
        author = list(said)[int(parts[:, token].argmax())]
        top = mixed.topk(min(panel.terms.top, len(mixed)))
        likeliest = tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True))
        return [WrittenToken(token, author, None, float(mixed[token]), likeliest)]


@dataclass(frozen=True)
class Ensemble(Mixture):
    """Mixes all members."""

    def models(self, panel: Panel) -> Iterable[int]:
        return panel.members


@dataclass(frozen=True)
class Compose(Ensemble):
    """The marginal itself: sum over k of P(Z = k) P_k, instead of one model's token.

    Source: the marginal that the paper's head is trained on; every model is asked at every token.
    """

    def mixed(self, said: Mapping[int, Choice]) -> tuple[Tensor, Tensor]:
        parts = _log_probs(said) + torch.tensor(scores_of(said[0])).log_softmax(0)[:, None]
        return parts.logsumexp(0), parts


@dataclass(frozen=True)
class Average(Ensemble):
    """The mean of the members' probabilities: the linear opinion pool (Stone, 1961)."""

    def mixed(self, said: Mapping[int, Choice]) -> tuple[Tensor, Tensor]:
        parts = _log_probs(said)
        return parts.logsumexp(0) - math.log(len(parts)), parts


@dataclass(frozen=True)
class Product(Ensemble):
    """The geometric mean of the members' probabilities: a product of experts (Hinton, 2002)."""

    def mixed(self, said: Mapping[int, Choice]) -> tuple[Tensor, Tensor]:
        parts = _log_probs(said)
        return parts.mean(0).log_softmax(0), parts


@dataclass(frozen=True)
class Contrastive(Mixture):
    """An expert's log-probs less the base's, among tokens that the expert finds plausible.

    Plausible is what has at least `alpha` of the likeliest token's probability. Source: Li et al., 2023
    (arXiv 2210.15097), the base as the amateur.
    """

    expert: int
    alpha: float = 0.1

    def models(self, panel: Panel) -> Iterable[int]:  # noqa: ARG002 (two, whoever else there is)
        return (0, self.expert)

    def mixed(self, said: Mapping[int, Choice]) -> tuple[Tensor, Tensor]:
        amateur, expert = _log_probs(said)
        is_plausible = expert >= expert.max() + math.log(self.alpha)
        contrast = (expert - amateur).masked_fill(~is_plausible, -torch.inf).log_softmax(0)
        return contrast, _all_of_the_last(said, contrast)


@dataclass(frozen=True)
class ProxyTuning(Mixture):
    """An expert, steered by what tuning has changed in a small model: expert + (tuned - base), in logits.

    `tuned` is the base after tuning, a model beside the members. Source: Liu et al., 2024 (arXiv 2401.08565).
    """

    expert: int
    tuned: int

    def models(self, panel: Panel) -> Iterable[int]:  # noqa: ARG002 (three, whoever else there is)
        return (0, self.tuned, self.expert)

    def mixed(self, said: Mapping[int, Choice]) -> tuple[Tensor, Tensor]:
        untuned, tuned, expert = _log_probs(said)
        steered = (expert + tuned - untuned).log_softmax(0)
        return steered, _all_of_the_last(said, steered)


def _log_probs(said: Mapping[int, Choice]) -> Tensor:
    """[K, V], in the order in which they were asked."""
    rows = []
    for choice in said.values():
        assert choice.distribution is not None, "it was asked for"
        rows.append(torch.frombuffer(bytearray(choice.distribution), dtype=torch.float32))
    return torch.stack(rows)


def _all_of_the_last(said: Mapping[int, Choice], mixed: Tensor) -> Tensor:
    """The parts [K, V] where one model writes and the others only steer it."""
    parts = torch.full((len(said), len(mixed)), -torch.inf)
    parts[-1] = mixed
    return parts
