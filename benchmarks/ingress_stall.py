"""What large requests cost those who stream beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise
from urllib.parse import urlsplit

from benchmarks.events import stream
from benchmarks.report import Row

SIZE = 4 * 2**20 - 2**10  # bytes of a body, just below what a server takes by default
STREAMS = 16
TOKENS = 200  # of a stream, which goes on behind its end
SMOKE = ("empty turns", "words", "unknown fields")  # a few of the kinds below
CHAT, TEXT, TOKENIZE = "/v1/chat/completions", "/v1/completions", "/tokenize"
TURN = '{"role":"user","content":""}'
USER = f'"messages":[{TURN}]'

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
