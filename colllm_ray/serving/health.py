"""What Serve asks every replica that holds a model, and how often."""

from __future__ import annotations

from colllm_ray.engine.stepper import Stepper

FAILED_STEPS = 3  # one after the other: a broken device fails at all, a bad request at one
EVERY_S = 5.0  # Serve gives a replica up after three checks that fail
WITHIN_S = 15.0  # a check is answered, between two steps


def check_engine(stepper: Stepper) -> None:
    """Raises RuntimeError where the engine's last steps all failed."""
    if stepper.failed_steps >= FAILED_STEPS:
        raise RuntimeError(f"the last {stepper.failed_steps} steps of the model have failed")
