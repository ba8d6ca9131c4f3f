"""What large requests cost those who stream beside them, and how streams that are hung up are counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import ray

from benchmarks.events import stream
from benchmarks.plots import bar_chart
from benchmarks.report import Report, Row, arguments, finish
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.lab.collaboration import trained_lab
from colllm_ray.ray_session import ray_session
from colllm_ray.serving.application import serving_http

SIZE = 4 * 2**20 - 2**10  # bytes of a body, just below what a server takes by default
PORT = 8437
STREAMS = 16
TOKENS = 200  # of a stream, which goes on behind its end
SMOKE = ("empty turns", "words", "unknown fields")  # kinds of bodies
HANGUPS = 300
POLL_S = 0.1
CHAT, TEXT, TOKENIZE = "/v1/chat/completions", "/v1/completions", "/tokenize"
TURN = '{"role":"user","content":""}'
USER = f'"messages":[{TURN}]'
LINES = 7  # of a stream, after which its client hangs up

Body = tuple[str, bytes, str]  # path, content, and the `param` of its refusal


def _filled(head: str, item: str, tail: str, separator: str = ",") -> bytes:
    count = (SIZE - len(head) - len(tail)) // (len(item) + len(separator))
    return f"{head}{separator.join([item] * count)}{tail}".encode()


def _fields(head: str, value: str, tail: str) -> bytes:
    fields = [f'"f{i:06}":{value}' for i in range(SIZE // (len(value) + 11))]
    return f"{head}{','.join(fields)}{tail}".encode()


BODIES: dict[str, Callable[[], Body]] = {
    "empty turns": lambda: (CHAT, _filled('{"messages":[', TURN, "]}"), "messages"),
    "turns that are none": lambda: (CHAT, _filled('{"messages":[', "{}", "]}"), "messages"),
    "parts of a turn": lambda: (
        CHAT,
        _filled('{"messages":[{"role":"user","content":[', '{"type":"text","text":""}', "]}]}"),
        "messages",
    ),
    "words": lambda: (TEXT, _filled('{"prompt":"', "the fox", '"}', " "), "prompt"),
    "words of a turn": lambda: (
        CHAT,
        _filled('{"messages":[{"role":"user","content":"', "fox", '"}]}', " "),
        "messages",
    ),
    "words to encode": lambda: (TOKENIZE, _filled('{"prompt":"', "the fox", '"}', " "), "prompt"),
    "escaped characters": lambda: (TEXT, _filled('{"prompt":"', "\\u00e9", '"}', ""), "prompt"),
    "unknown fields": lambda: (TEXT, _fields('{"prompt":"a",', "0", "}"), "f000000"),
    "unknown fields of null": lambda: (TEXT, _fields('{"prompt":"a",', "null", "}"), "f000000"),
    "fields of a turn": lambda: (CHAT, _fields('{"messages":[{', "0", "}]}"), "messages"),
    "biased tokens": lambda: (CHAT, _fields(f'{{{USER},"logit_bias":{{', "0", "}}"), "logit_bias"),
    "tools": lambda: (CHAT, _filled(f'{{{USER},"tools":[', "{}", "]}"), "tools"),
    "token ids": lambda: (TEXT, _filled('{"prompt":[', "1", "]}"), "prompt"),
    "token ids to decode": lambda: ("/detokenize", _filled('{"tokens":[', "1", "]}"), "tokens"),
    "prompts": lambda: (TEXT, _filled('{"prompt":[', '"a"', "]}"), "prompt"),
    "prompts of token ids": lambda: (TEXT, _filled('{"prompt":[', "[1]", "]}"), "prompt"),
    "texts to score": lambda: (
        "/v1/colllm/scores",
        _filled('{"member":"base","texts":[', '{"input_ids":[1,2],"target_mask":[false,true]}', "]}"),
        "texts",
    ),
    "stop texts": lambda: (TEXT, _filled('{"prompt":"a","stop":[', '"a"', "]}"), "stop"),
    "one stop text": lambda: (TEXT, _filled('{"prompt":"a","stop":"', "a", '"}', ""), "stop"),
    "deep lists": lambda: (TEXT, b'{"prompt":' + b"[" * (SIZE // 2) + b"]" * (SIZE // 2) + b"}", "body"),
    "less deep lists": lambda: (TEXT, _filled('{"prompt":[', "[" * 90 + "]" * 90, "]}"), "prompt"),
    "one number": lambda: (TEXT, b'{"prompt":[' + b"1" * SIZE + b"]}", "body"),
    "no JSON": lambda: (TEXT, b'{"prompt":"' + b"a" * SIZE, "body"),
}


async def measured(
    url: str, kinds: Sequence[str] = tuple(BODIES), times: int = 3, tokens: int = TOKENS
) -> tuple[list[Row], float]:
    """A row for each kind of body, and the `ingress_stall_ms` of the worst: how much longer no token of a stream comes.

    The bodies of a kind are sent `times` times, one after the other, while 16 answers are streamed.
    """
    await _longest_silence_ms(url, tokens)  # models learn how far ahead of each other they work
    alone = await _longest_silence_ms(url, tokens)
    rows: list[Row] = []
    for kind in kinds:
        path, content, _ = BODIES[kind]()
        beside, statuses = await _beside(url, tokens, path, [content] * times)
        rows.append({"body": kind, "status": statuses[-1], "alone_ms": round(alone, 1), "beside_ms": round(beside, 1)})
    rows.append({"body": "none", "alone_ms": round(await _longest_silence_ms(url, tokens), 1)})
    return rows, max(0.0, *(float(row["beside_ms"]) - alone for row in rows[:-1]))


async def hangups_as_5xx(url: str, application: str, count: int = HANGUPS, at_once: int = 8) -> int:
    """How many of so many streams, hung up by their clients after a few lines, are errors of the server in its log."""
    before = len(_logged(application))
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            await stream(url, CHAT, _asked(number, TOKENS), LINES)

    await asyncio.gather(*(client() for _ in range(at_once)))
    while len(logged := _logged(application)) < before + count:
        await asyncio.sleep(POLL_S)
    return sum(status >= 500 for status in logged[before:])


def _logged(application: str) -> list[int]:
    """The statuses of all requests for answers, as the ingress replicas of this Ray's session have logged them."""
    logs = Path(ray._private.worker._global_node.get_session_dir_path()) / "logs" / "serve"
    lines = [line for file in sorted(logs.glob(f"*{application}_Ingress*")) for line in file.read_text().splitlines()]
    told = [json.loads(line) for line in lines if '"endpoint"' in line]
    return [one["status"] for one in sorted(told, key=lambda one: one["asctime"]) if one["endpoint"] in (CHAT, TEXT)]


async def _beside(url: str, tokens: int, path: str, contents: Sequence[bytes]) -> tuple[float, list[int]]:
    """The longest silence of streams while these bodies are sent, and the statuses of their answers."""
    streams = asyncio.create_task(_longest_silence_ms(url, tokens))
    statuses = [await _status(url, path, content) for content in contents]
    return await streams, statuses


async def _longest_silence_ms(url: str, tokens: int) -> float:
    """From one chunk of a stream to its next; the first has to wait for the prompt, and the last for nobody."""
    answers = await asyncio.gather(*(stream(url, CHAT, _asked(number, tokens)) for number in range(STREAMS)))
    for answer in answers:
        assert answer.is_done, answer.error
    times = [[at for at, _ in answer.traces] for answer in answers]
    return 1e3 * max(later - earlier for each in times for earlier, later in pairwise(each))


def _asked(number: int, tokens: int) -> dict[str, object]:
    question = f"What is a^{number % 7 + 2} * a^2 if a = 5?"
    return {"messages": [{"role": "user", "content": question}], "max_tokens": tokens, "ignore_eos": True}


async def _status(url: str, path: str, content: bytes) -> int:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        head = f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode() + content)
        await writer.drain()
        status = int((await reader.readline()).split()[1])
        await reader.read()
    finally:
        writer.close()
    return status


def _chart(path: Path, report: Report) -> None:
    bars = {str(row["body"]): float(row["beside_ms"]) for row in report.rows if "beside_ms" in row}
    bar_chart(path, bars, "ms", "Longest silence of 16 streams beside bodies of 4 MB")


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--smoke", action="store_true", help="all code, few numbers: under 30 s")
    options = parser.parse_args()
    few = options.smoke or options.quick
    trained = TrainedCollaboration.load(trained_lab(None))
    name = trained.collaboration.name
    with ray_session(None, trained.collaboration), serving_http(trained, "127.0.0.1", PORT) as url:
        rows, stall_ms = asyncio.run(measured(url, SMOKE, 1, 40) if few else measured(url))
        failed = asyncio.run(hangups_as_5xx(url, name, 16 if few else HANGUPS))
    headline = {"ingress_stall_ms": round(stall_ms, 1), "hangups_as_5xx": failed}
    finish(options, Report("ingress_stall", rows, headline), _chart)


if __name__ == "__main__":
    main()
