"""Evaluations made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from colllm_ray.decoding.written import WrittenToken
from colllm_ray.deferral.calibration import Calibration, Candidate
from colllm_ray.evaluation.answered import COLLABORATION, Answered, Reply
from colllm_ray.evaluation.measures import Evaluation
from colllm_ray.serving.api.answer_text import pieces_of

SURE, UNSURE = -0.1, -2.0  # log-probs
HOSTILE = "<script>alert('$x$')</script>"
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
        pieces = pieces_of(tokens, (), self._tokenizer, ends=frozenset())
        return Reply(quality, "".join(text for text, *_ in parts), tuple(pieces), tuple(passes))

    def question(
        self, reference: str, replies: Mapping[str, Reply], domain: str | None = None, prompt: str = "what?"
    ) -> Answered:
        ids = self.ids(reference)
        nll = {"base": 2.0 * len(ids), COLLABORATION: 1.0 * len(ids)}
        return Answered("test-00000000", domain, prompt, reference, ids, replies, nll, len(ids))


def quiz(tokenizer: PreTrainedTokenizerBase) -> Evaluation:
    """Four questions of two domains: three answers right, one wrong in a place that is marked; others are all wrong."""
    maker = Maker(tokenizer)
    base = maker.reply(0.0, [("the dog", 0, SURE)], (2, 0))
    right = maker.reply(1.0, [("the quick", 0, SURE), (" fox", 1, SURE)])
    wrong = maker.reply(0.0, [("the quick", 0, SURE), (" dog", 1, UNSURE)])
    return evaluation(
        [
            maker.question("the quick fox", {COLLABORATION: reply, "base": base, HOSTILE: base}, domain, HOSTILE)
            for domain, reply in (("a", right), ("b", wrong), ("a", right), ("b", right))
        ],
        DECODED,
    )


def judged(tokenizer: PreTrainedTokenizerBase) -> Evaluation:
    """The same by likelihood: nothing was written."""
    made = quiz(tokenizer)
    answered = tuple(
        replace(one, replies={"base": Reply(0.2), COLLABORATION: Reply(0.4)}, domain=None) for one in made.answered
    )
    return replace(made, answered=answered, metric="perplexity", curve=(), seconds={})


def evaluation(
    answered: Sequence[Answered], curve: tuple[Candidate, ...] = (), models: tuple[str, ...] = ("base", "one")
) -> Evaluation:
    """Calibrated by decoding, each method done after two seconds."""
    calibration, seconds = Calibration(0.8, DECODED), dict.fromkeys(answered[0].replies, 2.0)
    return Evaluation("team", "quiz", "exact", models, tuple(answered), seconds, 16, calibration, curve)
