"""Questions that are asked over HTTP, a few at a time, and what became of each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.events import Streamed, stream

PATH = "/v1/chat/completions"
WAIT_S = 300


@dataclass(frozen=True)
class Asked:
    """An answer, or why there is none. at: when it was asked for, on the clock of perf_counter."""

    question: int
    at: float
    seconds: float
    answer: Streamed
    error: str | None


def questions(file: Path) -> list[dict[str, object]]:
    """Requests for the rows of a file: all of them, and then every third of them sampled.

    They wait for an expert for as long as a crowded machine may need to start it.
    """
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    greedy = [{"messages": row["messages"][:1], "colllm": {"wait_s": WAIT_S}} for row in rows]
    return [*greedy, *({**body, "temperature": 1.0, "seed": seed} for seed, body in enumerate(greedy[::3]))]


def right_answers(file: Path, asked: Sequence[Asked]) -> float:
    """The share of the rows that were asked whose answer is the file's; `asked` are of `questions`."""
    rows: list[str] = [
        json.loads(line)["messages"][1]["content"] for line in file.read_text(encoding="utf-8").splitlines()
    ]
    answered = [one for one in asked if one.question < len(rows)]
    return sum(one.answer.text == rows[one.question] for one in answered) / len(answered)


async def ask(url: str, question: int, body: dict[str, object]) -> Asked:
    """Asks once, and never again: what a client that knows of no trouble does."""
    begin = perf_counter()
    answer, error = Streamed(), None
    try:
        answer = await stream(url, PATH, body)
    except (OSError, ValueError, IndexError) as problem:  # the connection broke, also within a line
        error = f"{type(problem).__name__}: {problem}"
    else:
        if answer.status != 200 or answer.error or not answer.is_done:
            error = f"status {answer.status}, {answer.error or 'the stream broke off'}"
    return Asked(question, begin, perf_counter() - begin, answer, error)


async def load(
    url: str, bodies: Sequence[dict[str, object]], at_once: int, goes_on: Callable[[int], bool]
) -> list[Asked]:
    """Asks the questions in turn, `at_once` at a time, for as long as `goes_on`, which is told how many were asked."""
    numbers = count()
    asked: list[Asked] = []

    async def client() -> None:
        while goes_on(number := next(numbers)):
            question = number % len(bodies)
            asked.append(await ask(url, question, bodies[question]))

    await asyncio.gather(*(client() for _ in range(at_once)))
    return asked


def lost(asked: Sequence[Asked]) -> list[Asked]:
    """Those without an answer, or without all of it."""
    return [one for one in asked if one.error is not None]


def differing(asked: Sequence[Asked], expected: Sequence[Sequence[int]]) -> list[Asked]:
    """Whole answers whose tokens, or experts, are not those of the undisturbed run."""
    whole = [one for one in asked if one.error is None]
    return [one for one in whole if one.answer.tokens != expected[one.question] or one.answer.lost_experts]


def quantiles(asked: Sequence[Asked]) -> tuple[float, float]:
    """Median and 99th percentile of the seconds to the end of an answer."""
    seconds = sorted(one.seconds for one in asked)
    return median(seconds), seconds[int(0.99 * (len(seconds) - 1))]
