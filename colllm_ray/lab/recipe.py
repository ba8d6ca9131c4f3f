"""The numbers that make a lab: how many facts, which domains, how big the models, how long they train."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Size of a Llama-shaped model; the width is a multiple of the heads."""

    layers: int
    width: int
    heads: int = 4

    def __post_init__(self) -> None:
        if self.layers < 1 or self.width < 1 or self.width % self.heads:
            raise ValueError(
                f"{self.layers} layers of width {self.width}: the width must be a multiple of {self.heads}"
            )


@dataclass(frozen=True)
class Recipe:
    """Everything that `build_lab` depends on; the defaults are the lab that ships with the package."""

    domains: tuple[str, ...] = ("pharma", "bears", "math")
    facts: int = 170  # in each domain
    seed: int = 0
    vocab_size: int = 1024
    context: int = 256  # tokens
    base: Shape = Shape(layers=2, width=96)
    expert: Shape = Shape(layers=3, width=128)
    base_steps: int = 1000
    expert_steps: int = 1400
    batch_size: int = 64
    learning_rate: float = 2e-3
    base_corruption: float = 0.3  # share of the base's input tokens that are read as random ones in training
