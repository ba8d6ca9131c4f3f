"""What Ray's Prometheus endpoint tells of a collaboration that is served; Ray puts `ray_` before each name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ray.util.metrics import Counter, Gauge, Histogram

from colllm_ray.decoding.account import Account

if TYPE_CHECKING:  # which the ingress does not load: it has no model
    from colllm_ray.engine.stepping import ServesTexts

BASE = "base"
EVERY_S = 1.0
FIRST_TOKEN_S = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]
TOKEN_S = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]

Outcome = Literal["finished", "left", "failed"]


class IngressMetrics:
    """What clients see."""

    def __init__(self, collaboration: str) -> None:
        def tagged(*keys: str) -> tuple[str, ...]:
            return ("collaboration", *keys)

        self._requests = Counter(
            "colllm_requests", "Requests that were answered or refused.", tagged("route", "status")
        )
        self._first = Histogram(
            "colllm_first_token_seconds", "From a request to its first token.", FIRST_TOKEN_S, tagged()
        )
        self._token = Histogram("colllm_token_seconds", "Mean time between the tokens of an answer.", TOKEN_S, tagged())
        self._waiting = Gauge("colllm_waiting_answers", "Answers that wait for their turn.", tagged())
        for metric in (self._requests, self._first, self._token, self._waiting):
            metric.set_default_tags({"collaboration": collaboration})

    def saw_request(self, route: str, status: int) -> None:
        self._requests.inc(1, {"route": route, "status": str(status)})

    def saw_answer(self, first_token_s: float, time_s: float, tokens: int) -> None:
        self._first.observe(first_token_s)
        if tokens > 1:
            self._token.observe(max(time_s - first_token_s, 1e-9) / (tokens - 1))

    def saw_waiting(self, answers: int) -> None:
        self._waiting.set(answers)


class RouterMetrics:
    """What answers cost."""

    def __init__(self, collaboration: str, members: Sequence[str]) -> None:
        def counter(name: str, description: str, *keys: str) -> Counter:
            made = Counter(name, description, ("collaboration", *keys))
            made.set_default_tags({"collaboration": collaboration})
            return made

        self._members = members
        self._answers = counter("colllm_answers", "Answers, by how they ended.", "outcome")
        self._tokens = counter("colllm_tokens", "Tokens, by the model that wrote them.", "model")
        self._calls = counter("colllm_calls", "Questions that a model was asked.", "model")
        self._link = counter("colllm_link_seconds", "Time that questions and answers were under way.", "model")
        self._lost = counter("colllm_lost_experts", "Answers that an expert was lost to.", "model")
        self._guesses = counter("colllm_guesses", "Tokens that were guessed ahead, by what came of it.", "outcome")

    def saw_answer(self, outcome: Outcome, tokens: Sequence[int], account: Account) -> None:
        """An answer is over; `tokens`: that each of the members wrote."""
        self._answers.inc(1, {"outcome": outcome})
        authors = len(self._members)
        for name, written, calls, seconds in zip(
            self._members, tokens, account.calls(authors), account.link_seconds(authors), strict=True
        ):
            link = 0.0 if name == BASE else seconds  # the base is asked in the router itself
            for metric, value in ((self._tokens, written), (self._calls, calls), (self._link, link)):
                if value > 0:
                    metric.inc(value, {"model": name})
        for author in account.lost:
            self._lost.inc(1, {"model": self._members[author]})
        for how, count in (("right", account.right), ("wrong", account.guessed - account.right)):
            if count > 0:
                self._guesses.inc(count, {"outcome": how})


class EngineMetrics:
    """What one model does."""

    def __init__(self, collaboration: str, member: str) -> None:
        tags = {"collaboration": collaboration, "model": member}
        keys = tuple(tags)
        self._sessions = Gauge("colllm_sessions", "Answers whose text a model holds.", keys)
        self._evictions = Counter("colllm_evictions", "Sessions that had to make room.", keys)
        self._steps = Counter("colllm_steps", "Forward passes.", keys)
        self._taken_in = Counter("colllm_taken_in_tokens", "Tokens that went through forward passes.", keys)
        self._seconds = Counter("colllm_step_seconds", "Time in forward passes.", keys)
        for metric in (self._sessions, self._evictions, self._steps, self._taken_in, self._seconds):
            metric.set_default_tags(tags)
        self._task: asyncio.Task[None] | None = None

    def follow(self, stepper: ServesTexts) -> None:
        """Tells of the engine from now on, every second; the first call counts. Needs a running loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._follow(stepper))

    async def _follow(self, stepper: ServesTexts) -> None:
        counters = (self._evictions, self._steps, self._taken_in, self._seconds)
        before = (0.0, 0.0, 0.0, 0.0)
        while True:
            times = stepper.times
            self._sessions.set(stepper.engine.session_count)
            now = (stepper.engine.evictions, times.steps, times.tokens, times.seconds)
            for counter, new, old in zip(counters, now, before, strict=True):
                if new > old:
                    counter.inc(new - old)
            before = now
            await asyncio.sleep(EVERY_S)
