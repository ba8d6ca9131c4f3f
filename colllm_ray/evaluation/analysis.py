"""Who wrote what: counts over the collaboration's own answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from transformers import PreTrainedTokenizerBase

from colllm_ray.evaluation.answered import COLLABORATION, Answered
from colllm_ray.evaluation.measures import Evaluation
from colllm_ray.serving.api.answers import TraceToken
from colllm_ray.serving.api.attribution import trace_of

FEWEST = 5  # answers that have a token at a place, for the place to be told


@dataclass(frozen=True)
class Share:
    """`part` of `whole` tokens, spans or answers."""

    part: float
    whole: int

    @property
    def of_one(self) -> float | None:
        """None of nothing."""
        return self.part / self.whole if self.whole else None


@dataclass(frozen=True)
class Marks:
    """Whether what is marked to be double-checked is wrong more often.

    A token is wrong where the reference has no such token in its place, as the two are aligned; a span, a run of marked
    tokens, where one of its tokens is. Of answers it is the mean quality, with and without marks.
    """

    marked: Share
    unmarked: Share
    spans: Share
    answers_with: Share
    answers_without: Share


@dataclass(frozen=True)
class Analysis:
    """Counts of the collaboration's tokens.

    `authors`: tokens of each model, by domain; `places`: deferred tokens at each place of an answer, from its first
    token on, as far as there are answers of that length; `kinds`: deferred ones of each kind of token; `marks`: None
    where questions have no completions.
    """

    authors: Mapping[str, Sequence[int]]
    places: Sequence[Share]
    kinds: Mapping[str, Share]
    marks: Marks | None

    @classmethod
    def of(cls, evaluation: Evaluation, tokenizer: PreTrainedTokenizerBase) -> Analysis:
        """Reads the traces of all answers."""
        traces = traces_of(evaluation, tokenizer)
        authors: dict[str, list[int]] = {}
        for question, trace in zip(evaluation.answered, traces, strict=True):
            counts = authors.setdefault(question.domain or "all", [0] * len(evaluation.models))
            for token in trace:
                counts[evaluation.models.index(token.model)] += 1
        base = evaluation.models[0]
        return cls(
            authors=authors,
            places=_places(traces, base),
            kinds=_kinds(traces, base),
            marks=_marks(evaluation.answered, traces),
        )


def traces_of(evaluation: Evaluation, tokenizer: PreTrainedTokenizerBase) -> list[list[TraceToken]]:
    """The trace of each of the collaboration's answers, marked at the threshold that it was written with."""
    return [
        trace_of(question.replies[COLLABORATION].tokens, evaluation.models, tokenizer, evaluation.calibration.threshold)
        for question in evaluation.answered
    ]


def kind_of(text: str) -> str:
    """The kind of a token, from its text as it stands in an answer."""
    if not text:
        return "end"
    core = text.strip()
    if not core:
        return "space"
    if core[0].isdigit():
        return "number"
    if not any(character.isalnum() for character in core):
        return "punctuation"
    return "word, begun" if text[0].isspace() or core[0].isupper() else "word, inside"


def _places(traces: Sequence[Sequence[TraceToken]], base: str) -> list[Share]:
    places = []
    for place in range(max(map(len, traces), default=0)):
        models = [trace[place].model for trace in traces if len(trace) > place]
        if len(models) < min(FEWEST, len(traces)):
            break
        places.append(Share(sum(model != base for model in models), len(models)))
    return places


def _kinds(traces: Sequence[Sequence[TraceToken]], base: str) -> dict[str, Share]:
    deferred: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for trace in traces:
        for token in trace:
            kind = kind_of(token.text)
            total[kind] += 1
            deferred[kind] += token.model != base
    return {kind: Share(deferred[kind], count) for kind, count in total.most_common()}


def _marks(answered: Sequence[Answered], traces: Sequence[Sequence[TraceToken]]) -> Marks | None:
    counted: defaultdict[bool, list[bool]] = defaultdict(list)  # by whether a token is marked: whether it is wrong
    spans: list[bool] = []
    qualities: defaultdict[bool, list[float]] = defaultdict(list)  # by whether an answer has marks
    for question, trace in zip(answered, traces, strict=True):
        if question.completion is None:
            return None
        wrong = _wrong([token.token for token in trace], question.completion)
        marked = [token.doubt is not None for token in trace]
        for is_marked, is_wrong in zip(marked, wrong, strict=True):
            counted[is_marked].append(is_wrong)
        spans += [any(wrong[begin:end]) for begin, end in _runs(marked)]
        qualities[any(marked)].append(question.replies[COLLABORATION].quality)
    return Marks(
        marked=_share(counted[True]),
        unmarked=_share(counted[False]),
        spans=_share(spans),
        answers_with=Share(sum(qualities[True]), len(qualities[True])),
        answers_without=Share(sum(qualities[False]), len(qualities[False])),
    )


def _share(values: Sequence[bool]) -> Share:
    return Share(sum(values), len(values))


def _wrong(answer: Sequence[int], reference: Sequence[int]) -> list[bool]:
    wrong = [True] * len(answer)
    for block in SequenceMatcher(None, answer, reference, autojunk=False).get_matching_blocks():
        wrong[block.a : block.a + block.size] = [False] * block.size
    return wrong


def _runs(marked: Sequence[bool]) -> list[tuple[int, int]]:
    """Begin and end of each run of marked tokens."""
    edges = [i for i, (a, b) in enumerate(zip([False, *marked], [*marked, False], strict=True)) if a != b]
    return list(zip(edges[::2], edges[1::2], strict=True))
