"""Questions with everyone's answers: what all measures are counted from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from colllm_ray.decoding.written import WrittenToken
from colllm_ray.evaluation.metrics.metric import Metric
from colllm_ray.evaluation.questions import Question
from colllm_ray.serving.api.answer_text import Piece, pieces_of

COLLABORATION = "collaboration"


@dataclass(frozen=True)
class Reply:
    """What one method answered: its text up to a stop text, and the tokens that this is of.

    `quality` in [0, 1] by the task's metric; `passes`: forward passes of each model. Of a task that is judged by
    likelihood there is `quality` alone.
    """

    quality: float
    text: str = ""
    pieces: tuple[Piece, ...] = ()
    passes: tuple[int, ...] = ()

    @property
    def tokens(self) -> list[WrittenToken]:
        return [piece.written for piece in self.pieces]


@dataclass(frozen=True)
class Answered:
    """One question: `replies` by method, `nll` by model and "collaboration" in nats over the completion's `targets`.

    `reference` is as people read it; `completion` its tokens, where there are any.
    """

    example_id: str
    domain: str | None
    prompt: str
    reference: str
    completion: tuple[int, ...] | None
    replies: Mapping[str, Reply]
    nll: Mapping[str, float] = field(default_factory=dict)
    targets: int = 0


class Marker:
    """Turns what was written into replies, by a task's metric."""

    def __init__(self, metric: Metric, stop: Sequence[str], tokenizer: PreTrainedTokenizerBase, ends: Set[int]) -> None:
        """`ends`: the tokens that end an answer."""
        self._metric, self._stop, self._tokenizer, self._ends = metric, stop, tokenizer, ends

    def reply(self, question: Question, tokens: Sequence[WrittenToken], passes: Sequence[int] = ()) -> Reply:
        """An answer to the question as it stands up to a stop text, and its quality."""
        pieces = pieces_of(tokens, question.prompt, self._tokenizer, self._ends, self._stop)
        text = "".join(piece.text for piece in pieces)
        return Reply(self._metric.score(text, question.reference), text, tuple(pieces), tuple(passes))
