from __future__ import annotations

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


def test_prices_are_paid_in_expectation() -> None:
    prices = torch.tensor([0.0, 0.3, 1.5])
    free = head_objective("marginal", FREE, WEIGHTS)(SCORES, LOGPROB, LABELS)
    priced = head_objective("marginal", prices, WEIGHTS)(SCORES, LOGPROB, LABELS)
    p = torch.softmax(SCORES, dim=1)
    torch.testing.assert_close(priced - free, 0.3 * p[:, 1] + 1.5 * p[:, 2])


def test_weak_supervision_stands_next_to_the_base_s_own_loss() -> None:
    weak = cross_entropy(SCORES, LABELS, weight=WEIGHTS, reduction="none")
    torch.testing.assert_close(head_objective("weak", FREE, WEIGHTS)(SCORES, LOGPROB, LABELS), weak)
    torch.testing.assert_close(joint_objective("weak", FREE, WEIGHTS)(SCORES, LOGPROB, LABELS), weak - LOGPROB[:, 0])


def test_fine_tuning_asks_no_expert() -> None:
    losses = joint_objective("finetune", FREE, WEIGHTS)(SCORES, LOGPROB, LABELS)
    assert torch.equal(losses, -LOGPROB[:, 0])
