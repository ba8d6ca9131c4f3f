"""Many clients that stream from the lab at once, of whom some hang up: nothing is lost, doubled or left behind."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

import psutil
from ray import serve
from ray.serve.handle import DeploymentHandle

from benchmarks.events import Streamed, stream
from benchmarks.headline import lower, neither
from benchmarks.options import Amount, BenchmarkParser
from benchmarks.plots import bar_chart
from benchmarks.report import Report, Row, finish
from benchmarks.session import lab_for, over_http, some_ray
from colllm_ray.lab.collaboration import SHIPPED

PORT = 8432
CLIENTS: dict[Amount, int] = {"full": 64, "quick": 64, "smoke": 4}
SECONDS: dict[Amount, float] = {"full": 180, "quick": 30, "smoke": 1}
QUESTIONS: dict[Amount, int | None] = {"full": None, "quick": None, "smoke": 4}  # all where nothing is said
HANG_UPS = 0.2  # the share of answers that their client leaves
POLL_S = 0.02


@dataclass
class Counted:
    """What became of all answers. wrong: those that differ from the answer that was given to one client alone."""

    answers: int = 0
    left: int = 0
    errors: list[str] = field(default_factory=list)
    wrong: int = 0
    tokens: int = 0
    first: list[float] = field(default_factory=list)  # seconds to the first token


def parser() -> BenchmarkParser:
    made = BenchmarkParser(__doc__ or "")
    made.add_argument("--seconds", type=float, help=f"how long clients ask ({SECONDS['full']:g})")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().options(arguments)
    seconds = options.seconds or SECONDS[options.amount]
    clients, trained = CLIENTS[options.amount], lab_for(options.amount)
    lines = (SHIPPED / "test.jsonl").read_text(encoding="utf-8").splitlines()
    bodies = [_body(line) for line in lines[: QUESTIONS[options.amount]]]
    with some_ray(trained.collaboration), over_http(trained, PORT) as url:
        names = ["Router", *(f"Expert-{expert.name}" for expert in trained.collaboration.experts)]
        engines = [serve.get_deployment_handle(name, trained.collaboration.name) for name in names]
        counted, to_zero_s, grown_mib = asyncio.run(_run(url, engines, bodies, clients, seconds))
    row: Row = {
        "clients": clients,
        "seconds": seconds,
        "answers": counted.answers,
        "left": counted.left,
        "errors": len(counted.errors),
        "wrong": counted.wrong,
        "tokens_per_s": round(counted.tokens / seconds, 1),
        "first_token_ms_p50": round(median(counted.first) * 1e3, 1),
        "first_token_ms_p99": round(sorted(counted.first)[int(0.99 * (len(counted.first) - 1))] * 1e3, 1),
        "sessions_to_zero_s": round(to_zero_s, 2),
        "memory_grown_mib": round(grown_mib, 1),
    }
    for error in counted.errors[:5]:
        print(f"error: {error}")
    headline = {
        **{key: neither(float(row[key])) for key in ("answers", "left")},
        **{key: lower(float(row[key])) for key in ("errors", "wrong", "sessions_to_zero_s")},
    }
    finish(options, Report("clients", [row], headline), _chart)


async def _run(
    url: str, engines: list[DeploymentHandle], bodies: list[dict[str, object]], clients: int, seconds: float
) -> tuple[Counted, float, float]:
    alone = [await stream(url, "/v1/chat/completions", body) for body in bodies]
    counted, before = Counted(), _resident()
    end = perf_counter() + seconds
    await asyncio.gather(
        *(_client(url, bodies, alone, counted, random.Random(number), end) for number in range(clients))
    )
    left_at = perf_counter()
    while any([await engine.sessions.remote() for engine in engines]):
        await asyncio.sleep(POLL_S)
    return counted, perf_counter() - left_at, (_resident() - before) / 2**20


async def _client(
    url: str, bodies: list[dict[str, object]], alone: list[Streamed], counted: Counted, rng: random.Random, end: float
) -> None:
    """Asks one question after the other; in the end it hangs up in the middle of an answer."""
    over = False
    while not over:
        over = perf_counter() >= end
        i = rng.randrange(len(bodies))
        hang_up_after = rng.randint(1, 3) if over or rng.random() < HANG_UPS else None
        try:
            answer = await stream(url, "/v1/chat/completions", bodies[i], hang_up_after)
        except OSError as error:
            counted.errors.append(f"{type(error).__name__}: {error}")
            continue
        counted.answers += 1
        counted.left += hang_up_after is not None
        counted.tokens += len(answer.tokens)
        if answer.traces:
            counted.first.append(answer.traces[0][0])
        if answer.status != 200 or answer.error or (hang_up_after is None and not answer.is_done):
            counted.errors.append(f"status {answer.status}, {answer.error or 'the stream broke off'}")
        expected = alone[i].tokens
        counted.wrong += answer.tokens != (expected if hang_up_after is None else expected[: len(answer.tokens)])


def _body(line: str) -> dict[str, object]:
    return {"messages": json.loads(line)["messages"][:1]}


def _resident() -> int:
    """Bytes of all replicas."""
    processes = psutil.Process().children(recursive=True)
    return sum(one.memory_info().rss for one in processes if "ServeReplica" in " ".join(one.cmdline()))


def _chart(path: Path, report: Report) -> None:
    bars = {f"p{q}": float(report.rows[0][f"first_token_ms_p{q}"]) for q in (50, 99)}
    bar_chart(path, bars, "ms", f"Time to the first token, {report.rows[0]['clients']} clients")


if __name__ == "__main__":
    main()
