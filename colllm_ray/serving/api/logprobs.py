"""Log-probs as OpenAI's two APIs tell them. They are natural, and those of the token's author."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from colllm_ray.data.text import REPLACEMENT, TokenTexts
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.serving.api.answer_text import Piece
from colllm_ray.serving.api.answers import ChatLogprobs, CompletionLogprobs, TokenLogprob, TopLogprob

LEAST = -9999.0  # JSON has no minus infinity


def chat_logprobs(pieces: Sequence[Piece], texts: TokenTexts) -> ChatLogprobs:
    """One entry a token, with as many of the likeliest as its author told."""
    content = []
    for written in (piece.written for piece in pieces):
        top = [TopLogprob(**_entry(token, logprob, texts)) for token, logprob in written.top]
        content.append(TokenLogprob(**_entry(written.token, written.logprob, texts), top_logprobs=top))
    return ChatLogprobs(content=content)


def completion_logprobs(
    pieces: Sequence[Piece], texts: TokenTexts, offset: int, tells_top: bool, begins: bool = False
) -> CompletionLogprobs:
    """One entry a token; `offset`: characters before them; `begins`: the first one has nothing before it."""
    offsets = accumulate((len(piece.text) for piece in pieces[:-1]), initial=offset)
    written = [piece.written for piece in pieces]
    nothing = [None] if begins and pieces else []
    top = [_by_text(one, texts) for one in written[len(nothing) :]]
    return CompletionLogprobs(
        tokens=[texts[one.token] for one in written],
        token_logprobs=[*nothing, *(finite(one.logprob) for one in written[len(nothing) :])],
        top_logprobs=[*nothing, *top] if tells_top else None,
        text_offset=list(offsets) if pieces else [],
    )


def finite(logprob: float) -> float:
    """As JSON can say it."""
    return max(logprob, LEAST)


def _entry(token: int, logprob: float, texts: TokenTexts) -> dict[str, object]:
    text = texts[token]
    data = None if REPLACEMENT in text else list(text.encode())
    return {"token": text, "logprob": finite(logprob), "bytes": data}


def _by_text(written: WrittenToken, texts: TokenTexts) -> dict[str, float]:
    """The likeliest tokens by their texts; of several with one text, the likeliest."""
    told: dict[str, float] = {}
    for token, logprob in written.top:
        told.setdefault(texts[token], finite(logprob))
    return told
