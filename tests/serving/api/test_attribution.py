from __future__ import annotations

import math

from colllm_ray.decoding.written import WrittenToken
from colllm_ray.serving.api.answer_text import Piece
from colllm_ray.serving.api.answers import Span
from colllm_ray.serving.api.attribution import Tracer
from colllm_ray.serving.api.requests import Doubt

MEMBERS = ["base", "one"]


def piece(text: str, p_defer: float | None, probability: float, author: int = 0) -> Piece:
    return Piece(WrittenToken(1, author, p_defer, math.log(probability) if probability else -math.inf), text)


def doubts(pieces: list[Piece], eta: float, doubt: Doubt) -> list[str | None]:
    trace = Tracer(MEMBERS, eta, doubt, tells_trace=True).told(pieces).trace
    assert trace is not None
    return [token.doubt for token in trace]


def test_a_token_is_marked_where_its_author_was_unsure_or_its_authorship_a_tie() -> None:
    pieces = [
        piece("a", 0.01, 0.9),
        piece("b", 0.01, 0.49),
        piece("c", 0.45, 0.9),  # 0.2 nats of log-odds below the threshold
        piece("d", 0.9, 0.9, author=1),
        piece("e", 0.55, 0.9, author=1),
    ]
    assert doubts(pieces, 0.5, Doubt()) == [None, "unsure", "tie", None, "tie"]
    assert doubts(pieces, 0.5, Doubt(probability=0, tie=0)) == [None] * 5
    assert doubts(pieces, 0.5, Doubt(probability=0.95, tie=0)) == ["unsure"] * 5


def test_a_threshold_that_decides_all_has_no_ties() -> None:
    for eta in (0.0, 1.0):
        assert doubts([piece("a", p, 0.9) for p in (0.0, 1e-9, 0.5, 1.0)], eta, Doubt()) == [None] * 4
    assert doubts([piece("a", None, 0.9)], 0.5, Doubt()) == [None]


def test_marked_neighbours_are_one_span_also_across_chunks() -> None:
    tracer = Tracer(MEMBERS, 0.5, Doubt(), tells_trace=True)
    tracer.told([piece("a", 0.01, 0.9), piece("b", 0.01, 0.1)])
    tracer.told([piece("c", 0.01, 0.1), piece("d", 0.01, 0.9)])
    told = tracer.end(tracer.told([piece("e", 0.01, 0.1)]), lost=[1])
    assert told.double_check == [Span(start=1, end=3, text="bc"), Span(start=4, end=5, text="e")]
    assert told.lost == ["one"]


def test_json_can_say_every_log_prob() -> None:
    trace = Tracer(MEMBERS, 0.5, Doubt(), tells_trace=True).told([piece("a", 0.1, 0.0)]).trace
    assert trace is not None
    assert trace[0].logprob == -9999.0


def test_without_a_trace_the_marks_are_told() -> None:
    tracer = Tracer(MEMBERS, 0.5, Doubt(), tells_trace=False)
    told = tracer.end(tracer.told([piece("a", 0.01, 0.1)]), lost=[])
    assert told.trace is None
    assert told.double_check == [Span(start=0, end=1, text="a")]
