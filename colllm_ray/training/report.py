"""What a training says of itself, a few times in its course."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Report:
    """How far a training has come; all numbers are over all workers.

    `phase` is what is trained: "weak start" or the head's objective, then "lora" or "full". `loss` is the mean of the
    objective over the epoch so far, in nats a target token. At an epoch's end, `validation_loss` is the marginal
    negative log-likelihood (of the base alone, where it is fine-tuned without experts), and `deferral` for each expert
    the mean of P(Z = k), both over the validation targets.
    """

    phase: str
    epoch: int  # from 1
    step: int  # over all epochs, from 1
    loss: float
    targets_done: int
    targets_to_go: int
    targets_per_second: float
    validation_loss: float | None = None
    deferral: dict[str, float] | None = None
    time: float = field(default_factory=time.time)  # of the clock, in seconds
