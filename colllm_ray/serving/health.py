"""What Serve asks every replica that holds a model, and how often."""

from __future__ import annotations

from colllm_ray.engine.stepping import ServesTexts

FAILED_SESSIONS = 3  # and none that went well since: one bad question, asked again and again, is of one session
EVERY_S = 5.0  # Serve gives a replica up after three checks that fail
WITHIN_S = 15.0  # a check is answered, between two steps


def check_engine(stepper: ServesTexts) -> None:
    """Raises RuntimeError where the engine fails at whatever it is asked."""
    if len(stepper.failed_sessions) >= FAILED_SESSIONS:
        raise RuntimeError(f"the model has failed at all of the last {len(stepper.failed_sessions)} texts")
