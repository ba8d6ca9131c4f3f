from __future__ import annotations

import pytest
import torch

from colllm_ray.engine.choose import choose
from colllm_ray.engine.messages import Sampling

P = torch.tensor([0.5, 0.3, 0.15, 0.05])
DRAWS = 4000


def drawn(sampling: Sampling) -> torch.Tensor:
    """How often each token is drawn, over many indices of one seed."""
    tokens = choose(P.log().repeat(DRAWS, 1), range(DRAWS), [sampling] * DRAWS)
    return torch.bincount(tokens, minlength=4) / DRAWS


def test_the_likeliest_token_is_chosen_without_sampling() -> None:
    assert choose(P.log()[None], [0], [None]).tolist() == [0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_as_often_as_they_are_likely(temperature: float) -> None:
    expected = torch.softmax(P.log() / temperature, 0)
    assert drawn(Sampling(temperature)).tolist() == pytest.approx(expected.tolist(), abs=0.03)


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    assert drawn(Sampling(1.0, top_p=0.6)).tolist() == pytest.approx([0.625, 0.375, 0, 0], abs=0.03)
    assert drawn(Sampling(1.0, top_p=0.01)).tolist() == [1, 0, 0, 0]


def test_neighbouring_seeds_and_indices_are_independent() -> None:
    rows = P.log().repeat(DRAWS, 1)
    one = choose(rows, range(DRAWS), [Sampling(1.0, seed=1)] * DRAWS)
    two = choose(rows, range(DRAWS), [Sampling(1.0, seed=2)] * DRAWS)
    independent = float((P**2).sum())
    assert float((one == two).float().mean()) == pytest.approx(independent, abs=0.03)
    assert float((one[1:] == one[:-1]).float().mean()) == pytest.approx(independent, abs=0.03)


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0.0}, {"temperature": 1.0, "top_p": 0.0}, {"temperature": 1.0, "seed": -1}]
)
def test_a_sampling_makes_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_the_coldest_temperature_draws_the_likeliest_token() -> None:
    for temperature in (1e-4, 1e-12, 1e-300):
        assert choose(P.flip(0).log()[None], [0], [Sampling(temperature)]).tolist() == [3]
