"""What an evaluation says, and how it is counted from questions and answers."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from colllm_ray.deferral.calibration import Calibration, Candidate
from colllm_ray.evaluation.answered import COLLABORATION, Answered
from colllm_ray.evaluation.statistics import Difference, Interval, difference_of, interval_of


@dataclass(frozen=True)
class Measures:
    """One method over some questions.

    `behind`: by how much the collaboration is better on the same questions, None for itself. Of what was written:
    `shares` of the tokens by model, `passes` of each model a token, `expert_calls`, those of all models but the base;
    empty where nothing was. `nll` of a target token in nats, None for methods that only write.
    """

    quality: Interval
    behind: Difference | None
    nll: float | None
    tokens: int
    shares: Mapping[str, float]
    passes: Mapping[str, float]
    expert_calls: float | None


@dataclass(frozen=True)
class Evaluation:
    """All questions as they were answered, measured together and by domain; `models` are members, then guests.

    `seconds` that each method took, `at_once` questions under way. `curve`: what thresholds give on these questions,
    where that was asked for; `calibration`: what they gave on validation data.
    """

    name: str
    task: str
    metric: str
    models: tuple[str, ...]
    answered: tuple[Answered, ...]
    seconds: Mapping[str, float]
    at_once: int
    calibration: Calibration
    curve: tuple[Candidate, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """In the order in which they were asked for, the collaboration last."""
        names = list(self.answered[0].replies)
        return (*(name for name in names if name != COLLABORATION), COLLABORATION)

    @cached_property
    def overall(self) -> dict[str, Measures]:
        """By method."""
        return self._measured(self.answered)

    @property
    def domains(self) -> tuple[str, ...]:
        """Those that rows name, in order of first appearance."""
        return tuple(dict.fromkeys(q.domain for q in self.answered if q.domain is not None))

    @cached_property
    def by_domain(self) -> dict[str, dict[str, Measures]]:
        """By domain, then by method."""
        return {
            domain: self._measured([question for question in self.answered if question.domain == domain])
            for domain in self.domains
        }

    def tokens_per_s(self, method: str) -> float | None:
        """Of all questions that were under way; None where nothing was written."""
        tokens = sum(len(question.replies[method].tokens) for question in self.answered)
        return tokens / self.seconds[method] if tokens else None

    def to_json(self) -> dict[str, object]:
        """All measures, by method, and under "domains" again for each domain."""
        return {
            "name": self.name,
            "task": self.task,
            "metric": self.metric,
            "questions": len(self.answered),
            "threshold": self.calibration.threshold,
            "at_once": self.at_once,
            "methods": {
                method: {**asdict(measures), "tokens_per_s": self.tokens_per_s(method)}
                for method, measures in self.overall.items()
            },
            "domains": {
                domain: {method: asdict(measures) for method, measures in by_method.items()}
                for domain, by_method in self.by_domain.items()
            },
            "curve": [asdict(candidate) for candidate in self.curve],
        }

    def to_csv(self) -> str:
        """A line a method, of the questions of all domains."""
        lines = io.StringIO()
        columns = ["method", "quality", "low", "high", "behind", "p", "nll", "tokens", "expert_calls", "tokens_per_s"]
        columns += [f"{what}_{model}" for what in ("share", "passes") for model in self.models]
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(columns)
        for method, one in self.overall.items():
            behind = (None, None) if one.behind is None else (one.behind.mean, one.behind.p)
            first = [method, one.quality.mean, one.quality.low, one.quality.high, *behind, one.nll, one.tokens]
            rest = [one.expert_calls, self.tokens_per_s(method)]
            by_model = [part.get(model) for part in (one.shares, one.passes) for model in self.models]
            writer.writerow([*first, *rest, *by_model])
        return lines.getvalue()

    def _measured(self, answered: Sequence[Answered]) -> dict[str, Measures]:
        return {method: measure(answered, method, self.models) for method in self.methods}


def measure(answered: Sequence[Answered], method: str, models: Sequence[str]) -> Measures:
    """One method's measures over the questions given."""
    replies = [question.replies[method] for question in answered]
    qualities = [reply.quality for reply in replies]
    ours = [question.replies[COLLABORATION].quality for question in answered]
    targets = sum(question.targets for question in answered)
    tokens = [token for reply in replies for token in reply.tokens]
    passes = [sum(each) for each in zip(*(reply.passes for reply in replies), strict=True)]
    authors = [sum(token.author == k for token in tokens) for k in range(len(models))]
    return Measures(
        quality=interval_of(qualities),
        behind=None if method == COLLABORATION else difference_of(ours, qualities),
        nll=sum(question.nll[method] for question in answered) / targets if method in answered[0].nll else None,
        tokens=len(tokens),
        shares={name: count / len(tokens) for name, count in zip(models, authors, strict=True) if tokens},
        passes={name: count / len(tokens) for name, count in zip(models, passes, strict=True)} if tokens else {},
        expert_calls=sum(passes[1:]) / len(tokens) if tokens else None,
    )
