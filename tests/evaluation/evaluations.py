"""Evaluations made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from colllm_ray.decoding.written import WrittenToken
from colllm_ray.deferral.calibration import Calibration, Candidate
from colllm_ray.evaluation.answered import COLLABORATION, Answered, Reply
from colllm_ray.evaluation.measures import Evaluation

DECODED = tuple(
    Candidate(share, 1 - share, quality, questions=4, expert_calls=10 * share, answer_s=share or None, on_front=True)
    for share, quality in ((0.0, 0.1), (0.2, 0.9), (0.5, 0.4))
)


class Maker:
    """Makes answers of texts; models are "base" and "one"."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def reply(self, quality: float, parts: Sequence[tuple[str, int, float]], passes: Sequence[int] = (5, 1)) -> Reply:
        """`parts`: texts, with who wrote them and the log-prob of each of their tokens."""
        tokens = [
            WrittenToken(token, author, 0.9 if author else 0.1, logprob)
            for text, author, logprob in parts
            for token in self.ids(text)
        ]
        return Reply(quality, "".join(text for text, *_ in parts), tuple(tokens), tuple(passes))

    def question(
        self, reference: str, replies: Mapping[str, Reply], domain: str | None = None, prompt: str = "what?"
    ) -> Answered:
        ids = self.ids(reference)
        nll = {"base": 2.0 * len(ids), COLLABORATION: 1.0 * len(ids)}
        return Answered("test-00000000", domain, prompt, reference, ids, replies, nll, len(ids))


def evaluation(
    answered: Sequence[Answered], curve: tuple[Candidate, ...] = (), metric: str = "exact", decoded: bool = True
) -> Evaluation:
    calibration = Calibration(0.8, DECODED, metric) if decoded else Calibration(0.8, (Candidate(0.2, 0.8, 0.9, 0.9),))
    seconds = dict.fromkeys(answered[0].replies, 2.0)
    return Evaluation("team", "quiz", metric, ("base", "one"), tuple(answered), seconds, 16, calibration, curve)
