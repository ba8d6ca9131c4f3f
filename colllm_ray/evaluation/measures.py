"""What an evaluation says, and how it is counted from answers and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from colllm_ray.decoding.written import WrittenToken

COLLABORATION = "collaboration"


@dataclass(frozen=True)
class Answered:
    """One question with everyone's answers.

    `answers` and `nll` are keyed by member and "collaboration"; `nll` is the sum over the target tokens in nats.
    """

    domain: str | None
    prompt: str
    reference: str
    answers: Mapping[str, str]
    written: tuple[WrittenToken, ...]  # the collaboration's
    nll: Mapping[str, float]
    targets: int

    def is_right(self, who: str) -> bool:
        return self.answers[who].strip() == self.reference.strip()


@dataclass(frozen=True)
class Measures:
    """Over some questions: shares of exact answers, mean negative log-likelihood of a target token, who wrote what.

    `deferral_rate` and `tokens_by_model` are counted over the tokens of the collaboration's own answers.
    """

    questions: int
    exact_match: Mapping[str, float]
    nll: Mapping[str, float]
    deferral_rate: float
    tokens_by_model: Mapping[str, int]


def measure(answered: Sequence[Answered], members: Sequence[str]) -> Measures:
    """Measures of the questions given; `members` in the order of the head's choices."""
    written = [token for question in answered for token in question.written]
    targets = sum(question.targets for question in answered)
    who_answered = list(answered[0].answers)
    return Measures(
        questions=len(answered),
        exact_match={who: sum(q.is_right(who) for q in answered) / len(answered) for who in who_answered},
        nll={who: sum(q.nll[who] for q in answered) / targets for who in who_answered},
        deferral_rate=sum(token.author > 0 for token in written) / len(written),
        tokens_by_model={name: sum(token.author == k for token in written) for k, name in enumerate(members)},
    )


@dataclass(frozen=True)
class Evaluation:
    """All questions, as they were answered; measured together and by domain."""

    name: str
    members: tuple[str, ...]
    answered: tuple[Answered, ...]

    @property
    def overall(self) -> Measures:
        return measure(self.answered, self.members)

    @property
    def by_domain(self) -> dict[str, Measures]:
        """Measures of each domain that rows name, in order of first appearance."""
        domains = dict.fromkeys(q.domain for q in self.answered if q.domain is not None)
        return {name: measure([q for q in self.answered if q.domain == name], self.members) for name in domains}

    def to_json(self) -> dict[str, object]:
        """The measures, and under "domains" the same for each domain."""
        return {**asdict(self.overall), "domains": {name: asdict(m) for name, m in self.by_domain.items()}}
