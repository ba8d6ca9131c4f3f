"""What the HTTP path costs: streamed answers of the lab over HTTP, and of its router called directly, one at a time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

from ray import serve
from ray.serve.handle import DeploymentHandle

from benchmarks.events import stream
from benchmarks.plots import bar_chart
from benchmarks.report import Report, Row, arguments, finish
from colllm_ray.data.chat import encode_prompt
from colllm_ray.data.rows import Message
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.decoding.team_spec import AnswerRequest
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.lab.collaboration import trained_lab
from colllm_ray.ray_session import ray_session
from colllm_ray.serving.application import serving_http
from colllm_ray.serving.router_client import router_client

PORT = 8431
QUESTIONS = ("What is a^3 * a^2 if a = 5?", "When did the cave bear die out?", "What does the drug Opdualag contain?")
TOKENS = 200  # of an answer, which goes on behind its end
WARM_UP = 5  # pairs that are not counted


@dataclass
class Times:
    """Of answers on one path: seconds to the first token, and from it to the last one for each token behind it."""

    first: list[float] = field(default_factory=list)
    token: list[float] = field(default_factory=list)

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


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    pairs = 40 if options.quick else 300
    trained = TrainedCollaboration.load(trained_lab(None))
    tokenizer = load_tokenizer(trained.collaboration.base)
    prompts = [tuple(encode_prompt([Message(role="user", content=question)], tokenizer)) for question in QUESTIONS]
    with ray_session(None, trained.collaboration), serving_http(trained, "127.0.0.1", PORT) as url:
        router = router_client(serve.get_deployment_handle("Router", trained.collaboration.name))
        over_http, direct = asyncio.run(_measured(url, router, prompts, pairs))
    rows = [{"path": "router", **direct.row()}, {"path": "HTTP", **over_http.row()}]
    headline = {
        "http_over_router_token": round(median(over_http.token) / median(direct.token), 3),
        "http_first_token_extra_ms": round((median(over_http.first) - median(direct.first)) * 1e3, 2),
    }
    finish(options, Report("http", rows, headline), _chart)


async def _measured(
    url: str, router: DeploymentHandle, prompts: list[tuple[int, ...]], pairs: int
) -> tuple[Times, Times]:
    """The two paths in turn, with the same question, so that the machine's moods are those of both."""
    over_http, direct = Times(), Times()
    for i in range(pairs + WARM_UP):
        question, prompt = QUESTIONS[i % len(QUESTIONS)], prompts[i % len(QUESTIONS)]
        for way in ("http", "router") if i % 2 else ("router", "http"):
            came = await (_over_http(url, question) if way == "http" else _directly(router, prompt))
            if i >= WARM_UP:
                (over_http if way == "http" else direct).add(came)
    return over_http, direct


async def _over_http(url: str, question: str) -> list[tuple[float, int]]:
    body: dict[str, object] = {
        "messages": [{"role": "user", "content": question}],
        "max_tokens": TOKENS,
        "ignore_eos": True,
    }
    answer = await stream(url, "/v1/chat/completions", body)
    assert answer.is_done, answer.error
    return [(at, len(trace)) for at, trace in answer.traces]


async def _directly(router: DeploymentHandle, prompt: tuple[int, ...]) -> list[tuple[float, int]]:
    request = AnswerRequest(prompt, TOKENS, ignore_eos=True)
    begin, came = perf_counter(), []
    async for chunk in router.options(stream=True).stream.remote(request):
        if chunk.tokens:
            came.append((perf_counter() - begin, len(chunk.tokens)))
    return came


def _chart(path: Path, report: Report) -> None:
    bars = {str(row["path"]): float(row["token_ms"]) for row in report.rows}
    bar_chart(path, bars, "ms a token", "Streamed answers of the lab, one at a time")


if __name__ == "__main__":
    main()
