"""Rivals that choose one model for each token, whose own choice it is."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

from colllm_ray.decoding.rivals.panel import Panel
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.engine.messages import Choice, More


@dataclass(frozen=True)
class Oracle:
    """Who has the reference's next token writes it, the base before the experts: no choice of models can do better.

    `reference`: token ids of the right answer. Where nobody has the token, the answer has left the reference, and the
    base goes on alone.
    """

    reference: tuple[int, ...]
    more: ClassVar[More] = "nothing"

    async def write(self, panel: Panel, text: list[int]) -> list[WrittenToken]:
        said = await panel.ask(text, [0])
        place = len(text) - panel.prompt_tokens
        follows = tuple(text[panel.prompt_tokens :]) == self.reference[:place] and place < len(self.reference)
        if follows and said[0].token != self.reference[place]:
            said |= await panel.ask(text, panel.experts)
        right = (k for k in said if follows and said[k].token == self.reference[place])
        author = next(right, 0)
        return [panel.written(said[author], author)]


@dataclass(frozen=True)
class Random:
    """A die says who writes: what is left of the collaboration when nothing is learned but how often.

    `shares`: how often each model writes, the base first; the die is cast for each place of a text, from `seed`.
    """

    shares: tuple[float, ...]
    seed: int = 0
    more: ClassVar[More] = "nothing"

    async def write(self, panel: Panel, text: list[int]) -> list[WrittenToken]:
        cast = random.Random(f"{self.seed}/{len(text)}").random() * sum(self.shares)
        author = next((k for k, up_to in enumerate(accumulate(self.shares)) if cast < up_to), 0)
        said = await panel.ask(text, [author])
        return [panel.written(said[author], author)]


@dataclass(frozen=True)
class Surest:
    """All are asked, and who gives its likeliest token the highest probability writes; of equal ones the first.

    Source: the largest probability as confidence, Hendrycks and Gimpel, 2017 (arXiv 1610.02136).
    """

    more: ClassVar[More] = "nothing"

    async def write(self, panel: Panel, text: list[int]) -> list[WrittenToken]:
        said = await panel.ask(text, panel.members)
        author = _surest(said)
        return [panel.written(said[author], author)]


@dataclass(frozen=True)
class EntropyThreshold:
    """Where the base is uncertain the experts are asked, and the surest of them writes.

    The base's uncertainty is u = 1 - exp(-H), H the entropy of its next token in nats: 0 where it is certain. Where
    u > `eta`, experts are asked. In the trace u stands in the place of d_t. Source: cascades by token-level
    uncertainty, Gupta et al., 2024 (arXiv 2404.10136).
    """

    eta: float
    more: ClassVar[More] = "entropy"

    async def write(self, panel: Panel, text: list[int]) -> list[WrittenToken]:
        said = await panel.ask(text, [0])
        entropy = said[0].entropy
        assert entropy is not None, "it was asked for"
        uncertainty = -math.expm1(-entropy)
        author = 0
        if uncertainty > self.eta:
            said = await panel.ask(text, panel.experts)
            author = _surest(said)
        return [panel.written(said[author], author, uncertainty)]


def _surest(said: Mapping[int, Choice]) -> int:
    return max(said, key=lambda author: said[author].top[0][1])
