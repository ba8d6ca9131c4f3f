"""Scores as tensors: what training, calibration and evaluation compute with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from colllm_ray.engine.text import Text


@dataclass(frozen=True)
class Scores:
    """Target tokens of one split, flat; N targets, K members in the order of the head's choices.

    example [N]: which of `example_ids` a target belongs to; gold_logprob [N, K] natural logs; top1 [N, K] bool.
    """

    members: tuple[str, ...]
    example_ids: tuple[str, ...]
    domains: tuple[str | None, ...]
    example: Tensor
    gold_logprob: Tensor
    top1: Tensor


@dataclass(frozen=True)
class FeatureScores(Scores):
    """What a head is trained on: with the frozen base's hidden states, features [N, D] float16."""

    features: Tensor


@dataclass(frozen=True)
class TextScores(Scores):
    """What a base is trained on: with the texts, one after the other, T tokens in all.

    input_ids [T] int32; is_target [T] bool; text_ends and target_ends [E + 1]: text i has the tokens from text_ends[i]
    to text_ends[i + 1], and the targets from target_ends[i] to target_ends[i + 1].
    """

    input_ids: Tensor
    is_target: Tensor
    text_ends: Tensor
    target_ends: Tensor

    def text(self, i: int) -> Text:
        """The tokens of example i."""
        tokens = slice(int(self.text_ends[i]), int(self.text_ends[i + 1]))
        return Text(self.input_ids[tokens].tolist(), self.is_target[tokens].tolist())

    def targets(self, i: int) -> slice:
        """Where the targets of example i are."""
        return slice(int(self.target_ends[i]), int(self.target_ends[i + 1]))


@dataclass(frozen=True)
class Part:
    """One of `count` shares of a split's examples, all of the same size but for one example."""

    rank: int = 0
    count: int = 1

    def of(self, examples: int) -> range:
        """The numbers of its examples."""
        return range(examples * self.rank // self.count, examples * (self.rank + 1) // self.count)


WHOLE = Part()
