from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from colllm_ray.deferral.objective import head_objective, joint_objective

torch.manual_seed(0)
N, K = 7, 3
SCORES = torch.randn(N, K)
LOGPROB = -3 * torch.rand(N, K)
LABELS = torch.randint(0, K, (N,))
WEIGHTS = torch.tensor([0.5, 1.0, 2.0])
FREE = torch.zeros(K)


def test_the_marginal_objective_sums_over_who_wrote() -> None:
    expected = [
        -torch.log(sum(torch.softmax(SCORES[t], 0)[k] * LOGPROB[t, k].exp() for k in range(K)))  # type: ignore[arg-type]
        for t in range(N)
    ]
    for objective in (head_objective("marginal", FREE, WEIGHTS), joint_objective("marginal", FREE, WEIGHTS)):
        torch.testing.assert_close(objective(SCORES, LOGPROB, LABELS), torch.stack(expected))


@pytest.mark.parametrize(("gain", "defers"), [(0.4, False), (0.6, True), (3.0, True)])
def test_it_pays_to_defer_where_an_expert_is_better_by_more_than_its_price(gain: float, defers: bool) -> None:
    objective = head_objective("marginal", torch.tensor([0.0, 0.5]), WEIGHTS[:2])
    gold_logprob = torch.tensor([[-4.0, -4.0 + gain]])
    for score in torch.linspace(-5, 5, 11):
        scores = torch.tensor([[0.0, float(score)]], requires_grad=True)
        objective(scores, gold_logprob, LABELS[:1]).sum().backward()
        assert scores.grad is not None
        assert bool(scores.grad[0, 1] < 0) == defers  # a step against it raises the expert's score


def test_weak_supervision_stands_next_to_the_base_s_own_loss() -> None:
    weak = cross_entropy(SCORES, LABELS, weight=WEIGHTS, reduction="none")
    torch.testing.assert_close(head_objective("weak", FREE, WEIGHTS)(SCORES, LOGPROB, LABELS), weak)
    torch.testing.assert_close(joint_objective("weak", FREE, WEIGHTS)(SCORES, LOGPROB, LABELS), weak - LOGPROB[:, 0])


def test_fine_tuning_asks_no_expert() -> None:
    losses = joint_objective("finetune", FREE, WEIGHTS)(SCORES, LOGPROB, LABELS)
    assert torch.equal(losses, -LOGPROB[:, 0])
