"""What the HTTP path costs: streamed answers of the lab over HTTP, and of its router called directly, one at a time.

And what becomes of streams that their clients hang up, none of which is a fault of the server, and of those beside
which others send bodies of 4 MB.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

from ray import serve
from ray.serve.handle import DeploymentHandle

from benchmarks.counters import EXPORTED_WITHIN_S, counted
from benchmarks.events import stream
from benchmarks.headline import lower
from benchmarks.ingress_stall import BODIES, FEW, stalls
from benchmarks.options import Amount, BenchmarkParser
from benchmarks.plots import bar_chart
from benchmarks.report import Report, Row, finish
from benchmarks.session import lab_for, over_http, some_ray
from colllm_ray.data.chat import encode_prompt
from colllm_ray.data.rows import Message
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.decoding.team_spec import AnswerRequest
from colllm_ray.serving.router_client import router_client

PORT = 8431
PATH = "/v1/chat/completions"
QUESTIONS = ("What is a^3 * a^2 if a = 5?", "When did the cave bear die out?", "What does the drug Opdualag contain?")
WARM_UP = 5  # pairs that are not counted
RUNS = 5
REQUESTS = "ray_colllm_requests_total"
HANG_UP_AFTER = 7  # events
HANG_UPS_AT_ONCE = 8


@dataclass(frozen=True)
class Plan:
    """How much is measured: pairs of a run; tokens of an answer, which goes on behind its end; streams hung up.

    And kinds of large bodies, each of which is sent so many times.
    """

    pairs: int
    tokens: int
    hang_ups: int
    bodies: tuple[str, ...]
    times: int


PLANS: dict[Amount, Plan] = {
    "full": Plan(60, 200, 300, tuple(BODIES), 3),
    "quick": Plan(40, 200, 50, FEW, 1),
    "smoke": Plan(1, 20, 3, FEW, 1),
}


@dataclass
class Times:
    """Of answers on one path: seconds to the first token, and from it to the last one for each token behind it."""

    first: list[float] = field(default_factory=list)
    token: list[float] = field(default_factory=list)

    def __add__(self, other: Times) -> Times:
        return Times(self.first + other.first, self.token + other.token)

    def add(self, tokens_at: list[tuple[float, int]]) -> None:
        """`tokens_at`: when chunks came, and how many tokens were in each."""
        (first, of_first), (last, _) = tokens_at[0], tokens_at[-1]
        self.first.append(first)
        self.token.append((last - first) / (sum(count for _, count in tokens_at) - of_first))

    def row(self) -> Row:
        return {
            "first_token_ms": round(median(self.first) * 1e3, 2),
            "token_ms": round(median(self.token) * 1e3, 4),
            "tokens_per_s": round(1 / median(self.token), 1),
        }


def parser() -> BenchmarkParser:
    return BenchmarkParser(__doc__ or "", RUNS)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().options(arguments)
    plan = PLANS[options.amount]
    trained = lab_for(options.amount)
    tokenizer = load_tokenizer(trained.collaboration.base)
    prompts = [tuple(encode_prompt([Message(role="user", content=question)], tokenizer)) for question in QUESTIONS]
    with some_ray(trained.collaboration), over_http(trained, PORT) as url:
        router = router_client(serve.get_deployment_handle("Router", trained.collaboration.name))
        asyncio.run(_pairs(url, router, prompts, WARM_UP, plan.tokens))
        runs = [asyncio.run(_pairs(url, router, prompts, plan.pairs, plan.tokens)) for _ in range(options.runs)]
        hangups_as_5xx = asyncio.run(_hang_ups(url, plan))
        beside, stall_ms = asyncio.run(stalls(url, plan.bodies, plan.times, plan.tokens))
    by_http, direct = (sum(all_runs, Times()) for all_runs in zip(*runs, strict=True))
    rows: list[Row] = [{"path": "router", **direct.row()}, {"path": "HTTP", **by_http.row()}, *beside]
    headline = {
        "http_over_router_token": lower(*(median(http.token) / median(router.token) for http, router in runs)),
        "http_first_token_extra_ms": lower(
            *((median(http.first) - median(router.first)) * 1e3 for http, router in runs)
        ),
        "hangups_as_5xx": lower(hangups_as_5xx),
        "ingress_stall_ms": lower(stall_ms),
    }
    finish(options, Report("http", rows, headline), _chart)


async def _pairs(
    url: str, router: DeploymentHandle, prompts: list[tuple[int, ...]], pairs: int, tokens: int
) -> tuple[Times, Times]:
    """HTTP and the router in turn, with the same question, so that the machine's moods are those of both."""
    by_http, direct = Times(), Times()
    for i in range(pairs):
        question, prompt = QUESTIONS[i % len(QUESTIONS)], prompts[i % len(QUESTIONS)]
        for way in ("http", "router") if i % 2 else ("router", "http"):
            if way == "http":
                by_http.add(await _by_http(url, question, tokens))
            else:
                direct.add(await _directly(router, prompt, tokens))
    return by_http, direct


async def _hang_ups(url: str, plan: Plan) -> float:
    """Hangs up streams in the middle, a few at once; how many requests the server counts as its own faults then."""

    def faults() -> float:
        return counted(REQUESTS, lambda labels: labels["status"].startswith("5"))

    before = faults()
    questions = iter(range(plan.hang_ups))

    async def client() -> None:
        for i in questions:
            body = _body(QUESTIONS[i % len(QUESTIONS)], plan.tokens)
            answer = await stream(url, PATH, body, HANG_UP_AFTER)
            if answer.status != 200 or answer.error:
                raise RuntimeError(f"a stream that was to be hung up failed: status {answer.status}, {answer.error}")

    await asyncio.gather(*(client() for _ in range(HANG_UPS_AT_ONCE)))
    await asyncio.sleep(EXPORTED_WITHIN_S)
    return faults() - before


async def _by_http(url: str, question: str, tokens: int) -> list[tuple[float, int]]:
    answer = await stream(url, PATH, _body(question, tokens))
    assert answer.is_done, answer.error
    return [(at, len(trace)) for at, trace in answer.traces]


def _body(question: str, tokens: int) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": question}], "max_tokens": tokens, "ignore_eos": True}


async def _directly(router: DeploymentHandle, prompt: tuple[int, ...], tokens: int) -> list[tuple[float, int]]:
    request = AnswerRequest(prompt, tokens, ignore_eos=True)
    begin, came = perf_counter(), []
    async for chunk in router.options(stream=True).stream.remote(request):
        if chunk.tokens:
            came.append((perf_counter() - begin, len(chunk.tokens)))
    return came


def _chart(path: Path, report: Report) -> None:
    bars = {str(row["path"]): float(row["token_ms"]) for row in report.rows if "path" in row}
    bar_chart(path, bars, "ms a token", "Streamed answers of the lab, one at a time")


if __name__ == "__main__":
    main()
