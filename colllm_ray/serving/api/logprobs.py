"""Log-probs as OpenAI's two APIs tell them. They are natural, and those of the token's author."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from colllm_ray.data.vocabulary import Vocabulary
from colllm_ray.serving.api.answer_text import Piece
from colllm_ray.serving.api.answers import ChatLogprobs, CompletionLogprobs, TokenLogprob, TopLogprob

LEAST = -9999.0  # JSON has no minus infinity


def chat_logprobs(pieces: Sequence[Piece], words: Vocabulary) -> ChatLogprobs:
    """One entry a token, with as many of the likeliest as its author told."""
    content = []
    for piece in pieces:
        written, text = piece.written, _text(piece, words)
        top = []
        for token, logprob in written.top:
            instead = _text_instead(piece, token, words)
            data = piece.data if token == written.token else words.data(token, instead)
            top.append(TopLogprob(token=instead, logprob=finite(logprob), bytes=list(data)))
        content.append(
            TokenLogprob(token=text, logprob=finite(written.logprob), bytes=list(piece.data), top_logprobs=top)
        )
    return ChatLogprobs(content=content)


def completion_logprobs(
    pieces: Sequence[Piece], words: Vocabulary, offset: int, tells_top: bool, begins: bool = False
) -> CompletionLogprobs:
    """One entry a token; `offset`: characters before them; `begins`: the first one has nothing before it."""
    offsets = accumulate((len(piece.text) for piece in pieces[:-1]), initial=offset)
    nothing = [None] if begins and pieces else []
    told = pieces[len(nothing) :]
    return CompletionLogprobs(
        tokens=[_text(piece, words) for piece in pieces],
        token_logprobs=[*nothing, *(finite(piece.written.logprob) for piece in told)],
        top_logprobs=[*nothing, *(_by_text(piece, words) for piece in told)] if tells_top else None,
        text_offset=list(offsets) if pieces else [],
    )


def finite(logprob: float) -> float:
    """As JSON can say it."""
    return max(logprob, LEAST)


def _text(piece: Piece, words: Vocabulary) -> str:
    """What a token adds; those that add nothing, such as special ones, by their names."""
    return piece.text or words.text(piece.written.token)


def _text_instead(piece: Piece, token: int, words: Vocabulary) -> str:
    """The text of another token in the place of this one."""
    if token == piece.written.token:
        return _text(piece, words)
    text = words.text(token)
    begins = words.text(piece.written.token) == f" {piece.text}"  # where a text does, some tokens lose their space
    return text.removeprefix(" ") if begins else text


def _by_text(piece: Piece, words: Vocabulary) -> dict[str, float]:
    """The likeliest tokens by their texts; of several with one text, the likeliest."""
    told: dict[str, float] = {}
    for token, logprob in piece.written.top:
        told.setdefault(_text_instead(piece, token, words), finite(logprob))
    return told
