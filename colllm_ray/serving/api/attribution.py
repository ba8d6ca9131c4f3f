"""Who wrote what, and where to double-check."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count

from colllm_ray.decoding.written import WrittenToken
from colllm_ray.serving.api.answer_text import Piece
from colllm_ray.serving.api.answers import Attribution, Doubtful, Span, TraceToken
from colllm_ray.serving.api.logprobs import finite
from colllm_ray.serving.api.requests import Doubt


class Tracer:
    """Traces one answer as it comes; `eta` is the threshold that it is written with."""

    def __init__(self, members: Sequence[str], eta: float, doubt: Doubt, tells_trace: bool) -> None:
        self._members = members
        self._least = math.log(doubt.probability) if doubt.probability else -math.inf
        self._tie = doubt.tie
        self._log_odds = _log_odds(eta)
        self._tells_trace = tells_trace
        self._spans: list[Span] = []
        self._indices = count()

    def told(self, pieces: Sequence[Piece]) -> Attribution:
        """What a chunk tells of these tokens, which follow those of the chunk before."""
        trace = []
        for piece, index in zip(pieces, self._indices, strict=False):
            written, doubt = piece.written, self._doubtful(piece.written)
            if doubt is not None:
                self._mark(index, piece.text)
            trace.append(
                TraceToken(
                    token=written.token,
                    text=piece.text,
                    model=self._members[written.author],
                    p_defer=written.p_defer,
                    logprob=finite(written.logprob),
                    doubt=doubt,
                )
            )
        return Attribution(trace=trace) if self._tells_trace else Attribution()

    def end(self, attribution: Attribution, lost: Sequence[int]) -> Attribution:
        """The same with what is known once the answer is there."""
        names = [self._members[author] for author in lost]
        return attribution.model_copy(update={"double_check": self._spans, "lost": names})

    def _doubtful(self, written: WrittenToken) -> Doubtful | None:
        if written.logprob < self._least:
            return "unsure"
        if written.p_defer is not None and abs(_log_odds(written.p_defer) - self._log_odds) < self._tie:
            return "tie"
        return None

    def _mark(self, index: int, text: str) -> None:
        if self._spans and self._spans[-1].end == index:
            self._spans[-1].end += 1
            self._spans[-1].text += text
        else:
            self._spans.append(Span(start=index, end=index + 1, text=text))


def trace_of(pieces: Sequence[Piece], members: Sequence[str], eta: float = 1.0) -> list[TraceToken]:
    """The trace of a whole answer; `members` in the order of the head's choices. Without `eta` no tie is marked."""
    return Tracer(members, eta, Doubt(), tells_trace=True).told(pieces).trace or []


def _log_odds(p: float) -> float:
    """Infinite at 0 and 1, which so are near nothing."""
    if 0 < p < 1:
        return math.log(p) - math.log1p(-p)
    return math.inf if p >= 1 else -math.inf
