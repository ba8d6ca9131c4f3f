"""Who wrote what: counts over the collaboration's own answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate
from unicodedata import category

from colllm_ray.evaluation.answered import COLLABORATION, Answered
from colllm_ray.evaluation.measures import Evaluation
from colllm_ray.serving.api.answers import TraceToken
from colllm_ray.serving.api.attribution import trace_of

FEWEST = 5  # answers that have a token at a place, for the place to be told

Traces = Sequence[Sequence[TraceToken]]
"""One for each question."""


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

    A token is wrong where the reference has no such token in its place, as the two are aligned (Ratcliff and Obershelp,
    1988); a span, a run of marked tokens, where one of its tokens is. Answers whose reference has no tokens are left
    out of these. Of answers it is the mean quality, with and without marks.
    """

    marked: Share
    unmarked: Share
    spans: Share
    answers_with: Share
    answers_without: Share

    @property
    def knows_wrong(self) -> bool:
        """Whether any token could be compared with a reference."""
        return self.marked.whole + self.unmarked.whole > 0


@dataclass(frozen=True)
class Analysis:
    """Counts of the collaboration's tokens.

    `authors`: by domain (None: rows that name none) and model, of the domain's tokens; models that wrote none at all
    are left out. `places`: deferred tokens at each place of an answer, from its first token on, as far as `FEWEST`
    answers go (or all that are not empty, where they are fewer). `kinds`: deferred tokens of each kind, the most
    frequent one first.
    """

    authors: Mapping[str | None, Mapping[str, Share]]
    places: Sequence[Share]
    kinds: Mapping[str, Share]
    marks: Marks

    @classmethod
    def of(cls, evaluation: Evaluation, traces: Traces) -> Analysis:
        """`traces` are those of `traces_of`."""
        base = evaluation.models[0]
        return cls(
            authors=_authors(evaluation, traces),
            places=_places(traces, base),
            kinds=_kinds(traces, base),
            marks=_marks(evaluation.answered, traces),
        )


def traces_of(evaluation: Evaluation) -> list[list[TraceToken]]:
    """The trace of each of the collaboration's answers, marked at the threshold that it was written with."""
    return [
        trace_of(question.replies[COLLABORATION].pieces, evaluation.models, evaluation.calibration.threshold)
        for question in evaluation.answered
    ]


def kind_of(text: str, before: str) -> str:
    """The kind of a token, from its text as it stands in an answer, behind the text `before` it.

    A token without text has no kind of its own: "".
    """
    classes = _classes(text)
    if _is_of_a_word(classes):
        is_inside = not text[0].isspace() and _is_of_a_word(_classes(before[-1:]))
        return "inside of a word" if is_inside else "beginning of a word"
    if "N" in classes:
        return "number"
    if classes & {"P", "S"}:
        return "punctuation"
    return "whitespace" if text else ""


def _classes(text: str) -> set[str]:
    """The classes of its characters, by Unicode: letter, mark, number, punctuation, symbol, separator, other."""
    return {category(character)[0] for character in text}


def _is_of_a_word(classes: set[str]) -> bool:
    return bool(classes & {"L", "M"})


def _authors(evaluation: Evaluation, traces: Traces) -> dict[str | None, dict[str, Share]]:
    counts: dict[str | None, Counter[str]] = {}
    for question, trace in zip(evaluation.answered, traces, strict=True):
        counts.setdefault(question.domain, Counter()).update(token.model for token in trace)
    wrote = [model for model in evaluation.models if any(of_domain[model] for of_domain in counts.values())]
    return {
        domain: {model: Share(of_domain[model], of_domain.total()) for model in wrote}
        for domain, of_domain in counts.items()
    }


def _places(traces: Traces, base: str) -> list[Share]:
    fewest = min(FEWEST, sum(map(bool, traces)))
    places = []
    for place in range(max(map(len, traces), default=0)):
        models = [trace[place].model for trace in traces if len(trace) > place]
        if len(models) < fewest:
            break
        places.append(Share(sum(model != base for model in models), len(models)))
    return places


def _kinds(traces: Traces, base: str) -> dict[str, Share]:
    deferred: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for trace in traces:
        for kind, token in zip(_kinds_in(trace), trace, strict=True):
            total[kind] += 1
            deferred[kind] += token.model != base
    return {kind: Share(deferred[kind], count) for kind, count in total.most_common()}


def _kinds_in(trace: Sequence[TraceToken]) -> list[str]:
    """Of one answer: without text are the end token, and all but the last of the tokens that make one character."""
    texts = [token.text for token in trace]
    # The letter before is enough, also where the token before has no text.
    before = accumulate(texts, lambda known, text: text or known, initial="")
    kinds = [kind_of(text, known) or "part of a character" for text, known in zip(texts, before, strict=False)]
    return [*kinds[:-1], "end"] if texts and not texts[-1] else kinds


def _marks(answered: Sequence[Answered], traces: Traces) -> Marks:
    tokens: defaultdict[bool, list[bool]] = defaultdict(list)  # by whether one is marked: whether it is wrong
    spans: list[bool] = []
    qualities: defaultdict[bool, list[float]] = defaultdict(list)  # by whether an answer has marks
    for question, trace in zip(answered, traces, strict=True):
        marked = [token.doubt is not None for token in trace]
        qualities[any(marked)].append(question.replies[COLLABORATION].quality)
        if question.completion is None:
            continue
        wrong = _wrong([token.token for token in trace], question.completion)
        for is_marked, is_wrong in zip(marked, wrong, strict=True):
            tokens[is_marked].append(is_wrong)
        spans += [any(wrong[begin:end]) for begin, end in _runs(marked)]
    return Marks(
        marked=_share(tokens[True]),
        unmarked=_share(tokens[False]),
        spans=_share(spans),
        answers_with=_share(qualities[True]),
        answers_without=_share(qualities[False]),
    )


def _share(values: Sequence[float]) -> Share:
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
