"""How the method's research code defers: every token asks with the full prefix, and is answered with log-probs as JSON.

Each model is an HTTP server; none keeps anything between calls, and the whole vocabulary's log-probs travel each time,
as an object from token id to log-prob, on a connection of their own (clinicalml/co-llm, collm/generate.py and
collm/inference/). What that code does beside its protocol is left out: it copies log-probs into a tensor one by one.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import httpx

SERVER = Path(__file__).with_name("reference_server.py")
START_SECONDS = 120.0
STOP_SECONDS = 10.0
ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class ReferenceAnswer:
    """The tokens written, and the seconds that each one took."""

    tokens: list[int]
    seconds: list[float]


@contextmanager
def reference_servers(folders: Sequence[Path], threads: int) -> Iterator[list[str]]:
    """A server process for each model folder, with `threads` torch threads: their URLs, once all answer.

    Raises RuntimeError, naming the folder, where one does not start.
    """
    with ExitStack() as stack:
        servers = [stack.enter_context(_server(folder, threads)) for folder in folders]
        with httpx.Client(timeout=START_SECONDS) as client:
            for folder, url in zip(folders, servers, strict=True):
                try:
                    _logprobs(client, url, [0])  # waits: the socket is there before the process listens to it
                except httpx.HTTPError as error:
                    raise RuntimeError(f"{folder}: its server did not start: {error!r}") from error
        yield servers


@contextmanager
def _server(folder: Path, threads: int) -> Iterator[str]:
    # The socket is made here and handed over: no port is guessed, and where the process dies, its clients hear of it.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, str(SERVER), str(folder), str(listener.fileno()), str(threads)],
            pass_fds=[listener.fileno()],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
    try:
        yield url
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def decode(
    urls: Sequence[str], prompt: Sequence[int], author_of: Callable[[int], int], max_tokens: int
) -> ReferenceAnswer:
    """Writes `max_tokens` tokens greedily with the models behind `urls`, the base first.

    `author_of` tells who writes the token at an index of the whole text, prompt included: 0 the base, 1..M the
    experts. The base is asked for every token, as the decision needs it; an expert only where it writes.
    """
    x = list(prompt)
    seconds = []
    with _a_connection_each() as client:
        for _ in range(max_tokens):
            token, took = _token(client, urls, x, author_of)
            x.append(token)
            seconds.append(took)
    return ReferenceAnswer(x[len(prompt) :], seconds)


def seconds_at(
    urls: Sequence[str], text: Sequence[int], author_of: Callable[[int], int], indices: Sequence[int]
) -> list[float]:
    """What each of these tokens of a text takes to write: the same alone, as no server keeps anything of the others."""
    with _a_connection_each() as client:
        return [_token(client, urls, text[:index], author_of)[1] for index in indices]


def _a_connection_each() -> httpx.Client:
    """For each question, that is."""
    return httpx.Client(timeout=ANSWER_SECONDS, limits=httpx.Limits(max_keepalive_connections=0))


def _token(
    client: httpx.Client, urls: Sequence[str], x: Sequence[int], author_of: Callable[[int], int]
) -> tuple[int, float]:
    """The token behind x, and its seconds."""
    started = perf_counter()
    logprobs = _logprobs(client, urls[0], x)
    author = author_of(len(x))
    if author:
        logprobs = _logprobs(client, urls[author], x)
    return max(logprobs, key=logprobs.__getitem__), perf_counter() - started


def _logprobs(client: httpx.Client, url: str, prefix: Sequence[int]) -> dict[int, float]:
    response = client.post(f"{url}/logprobs", json={"input_ids": list(prefix)})
    response.raise_for_status()
    return {int(token): logprob for token, logprob in response.json().items()}
