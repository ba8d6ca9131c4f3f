"""The rivals once more, without cache, sessions or our code: whole forwards of Hugging Face, a token at a time."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from colllm_ray.deferral.head import DeferralHead

Next = Callable[[list[int]], int]
"""From a text to its next token."""


class Plain:
    """Models, the base first, and their probabilities [V] behind a text, in double precision."""

    def __init__(self, models: Sequence[PreTrainedModel], head: DeferralHead) -> None:
        self._models, self._head = models, head

    @torch.no_grad()
    def p(self, k: int, text: Sequence[int]) -> Tensor:
        logits: Tensor = self._models[k](torch.tensor([list(text)])).logits[0, -1]
        return logits.double().softmax(-1)

    @torch.no_grad()
    def who(self, text: Sequence[int]) -> list[float]:
        """P(Z = k)."""
        base = self._models[0](torch.tensor([list(text)]), output_hidden_states=True)
        h = base.hidden_states[-1][0, -1].double()
        s = [0.0, *(self._head.weight.double() @ h + self._head.bias.double()).tolist()]
        return [math.exp(one) / sum(map(math.exp, s)) for one in s]


def greedy(next_token: Next, prompt: Sequence[int], max_tokens: int, end: int) -> list[int]:
    text = list(prompt)
    while len(text) < len(prompt) + max_tokens and (len(text) == len(prompt) or text[-1] != end):
        text.append(next_token(text))
    return text[len(prompt) :]


def alone(plain: Plain, k: int) -> Next:
    return lambda text: int(plain.p(k, text).argmax())


def oracle(plain: Plain, members: range, reference: Sequence[int], prompt: int) -> Next:
    def token(text: list[int]) -> int:
        answer, base = text[prompt:], int(plain.p(0, text).argmax())
        if len(answer) < len(reference) and answer == list(reference[: len(answer)]):
            gold = reference[len(answer)]
            if any(int(plain.p(k, text).argmax()) == gold for k in members):
                return gold
        return base

    return token


def dice(plain: Plain, shares: Sequence[float], seed: int) -> Next:
    def token(text: list[int]) -> int:
        cast, author = random.Random(f"{seed}/{len(text)}").random(), 0
        while cast >= sum(shares[: author + 1]):
            author += 1
        return int(plain.p(author, text).argmax())

    return token


def surest(plain: Plain, members: range) -> Next:
    return lambda text: int(max((plain.p(k, text) for k in members), key=lambda p: float(p.max())).argmax())


def entropy_threshold(plain: Plain, members: range, eta: float) -> Next:
    def token(text: list[int]) -> int:
        p = plain.p(0, text)
        entropy = -float((p * p.log()).sum())
        return int(p.argmax()) if 1 - math.exp(-entropy) <= eta else surest(plain, members[1:])(text)

    return token


def compose(plain: Plain, members: range) -> Next:
    def token(text: list[int]) -> int:
        weights = plain.who(text)
        return int(sum((weights[k] * plain.p(k, text) for k in members), torch.zeros(1)).argmax())

    return token


def average(plain: Plain, members: range) -> Next:
    return lambda text: int(torch.stack([plain.p(k, text) for k in members]).mean(0).argmax())


def product(plain: Plain, members: range) -> Next:
    return lambda text: int(torch.stack([plain.p(k, text) for k in members]).prod(0).argmax())


def contrastive(plain: Plain, expert: int, alpha: float) -> Next:
    def token(text: list[int]) -> int:
        p, amateur = plain.p(expert, text), plain.p(0, text)
        ratio = torch.where(p >= alpha * p.max(), p / amateur, torch.zeros(1).double())
        return int(ratio.argmax())

    return token


def proxy(plain: Plain, expert: int, tuned: int) -> Next:
    return lambda text: int((plain.p(expert, text) * plain.p(tuned, text) / plain.p(0, text)).argmax())
