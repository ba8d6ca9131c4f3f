"""Against arithmetic in plain Python, in double precision, one target at a time."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from colllm_ray.deferral.head import DeferralHead
from colllm_ray.deferral.loss import class_weights, marginal_logprob, weak_labels, weak_loss

finite = st.floats(-20, 20)


def marginal_by_hand(s: list[float], gold_logprob: list[float]) -> float:
    total = sum(math.exp(score) for score in s)
    return math.log(sum(math.exp(score) / total * math.exp(lp) for score, lp in zip(s, gold_logprob, strict=True)))


@given(st.lists(st.tuples(finite, st.floats(-30, 0)), min_size=2, max_size=6))
def test_the_marginal_is_the_mixture(pairs: list[tuple[float, float]]) -> None:
    s, logprobs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    got = marginal_logprob(torch.tensor([s], dtype=torch.float64), torch.tensor([logprobs], dtype=torch.float64))
    assert float(got) == pytest.approx(marginal_by_hand(s, logprobs), abs=1e-9)


def test_one_expert_is_the_papers_sigmoid() -> None:
    s = torch.tensor([[0.0, 0.7]], dtype=torch.float64)
    defer = 1 / (1 + math.exp(-0.7))
    expected = math.log((1 - defer) * 0.2 + defer * 0.9)
    logprobs = torch.tensor([[math.log(0.2), math.log(0.9)]], dtype=torch.float64)
    assert float(marginal_logprob(s, logprobs)) == pytest.approx(expected)


def test_gradients_are_those_of_small_differences() -> None:
    torch.manual_seed(0)
    head = DeferralHead(hidden_size=5, experts=3).double()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    h = torch.randn(7, 5, dtype=torch.float64)
    logprobs = -5 * torch.rand(7, 4, dtype=torch.float64)

    def loss_by_hand() -> float:
        total = 0.0
        for n in range(7):
            s = [0.0]
            for k in range(3):
                s.append(sum(float(head.weight.data[k, d] * h[n, d]) for d in range(5)) + float(head.bias.data[k]))
            total -= marginal_by_hand(s, logprobs[n].tolist())
        return total / 7

    loss = -marginal_logprob(head(h), logprobs).mean()
    assert float(loss.detach()) == pytest.approx(loss_by_hand(), abs=1e-12)
    loss.backward()
    step = 1e-6
    for parameter in head.parameters():
        assert parameter.grad is not None
        for index in range(parameter.numel()):
            flat = parameter.data.view(-1)
            flat[index] += step
            above = loss_by_hand()
            flat[index] -= 2 * step
            below = loss_by_hand()
            flat[index] += step
            slope = (above - below) / (2 * step)
            assert float(parameter.grad.view(-1)[index]) == pytest.approx(slope, abs=1e-7)


def label_by_hand(gold_logprob: list[float], top1: list[bool]) -> int:
    right = [k for k in range(1, len(top1)) if top1[k]]
    if top1[0] or not right:
        return 0
    return max(right, key=lambda k: gold_logprob[k])


@given(st.lists(st.tuples(st.floats(-9, 0), st.booleans()), min_size=2, max_size=5))
def test_weak_labels(pairs: list[tuple[float, bool]]) -> None:
    logprobs, top1 = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    (label,) = weak_labels(torch.tensor([logprobs], dtype=torch.float64), torch.tensor([top1])).tolist()
    expected = label_by_hand(logprobs, top1)
    # Equally sure experts are equally good labels.
    assert label == expected or (label > 0 and expected > 0 and logprobs[label] == logprobs[expected] and top1[label])


def test_every_choice_that_occurs_weighs_the_same() -> None:
    counts = torch.tensor([90, 0, 9, 1])
    weights = class_weights(counts)
    assert (weights * counts).tolist() == pytest.approx([100 / 3, 0, 100 / 3, 100 / 3])


def test_the_weak_loss_is_weighted_cross_entropy() -> None:
    s, weights = [0.0, 1.5, -0.5], [0.5, 2.0, 1.0]
    got = weak_loss(torch.tensor([s, s]), torch.tensor([1, 0]), torch.tensor(weights))
    total = math.log(sum(math.exp(score) for score in s))
    assert got.tolist() == pytest.approx([2.0 * (total - 1.5), 0.5 * total], abs=1e-6)
