"""Methods by name: the collaboration, each model alone, and the rivals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from colllm_ray.decoding.rivals.choosing import EntropyThreshold, Oracle, Random, Surest
from colllm_ray.decoding.rivals.mixing import Average, Compose, Contrastive, Product, ProxyTuning
from colllm_ray.decoding.rivals.rule import Rule
from colllm_ray.decoding.rivals.speculative import Speculative
from colllm_ray.decoding.team_spec import AnswerRequest, TeamSpec
from colllm_ray.errors import ColllmError
from colllm_ray.evaluation.answered import COLLABORATION
from colllm_ray.evaluation.questions import Question

ALL, ALONE = "all", "alone"


@dataclass(frozen=True)
class Method:
    """A way to answer: `template` is the request for it, with everything but the question."""

    name: str
    template: AnswerRequest

    def request(self, question: Question, number: int, max_tokens: int) -> AnswerRequest:
        """What is asked for the question of that number, which dice are cast by."""
        rival = self.template.rival
        if isinstance(rival, Oracle):
            assert question.completion is not None, "the oracle is only for tasks with completions"
            rival = replace(rival, reference=question.completion)
        elif isinstance(rival, Random):
            rival = replace(rival, seed=number)
        return replace(self.template, prompt=question.prompt, max_tokens=max_tokens, rival=rival)


class Methods:
    """All methods that there are for a running collaboration and a task.

    `shares` tells how often each model writes in the collaboration, `uncertainty` the threshold of the base's
    uncertainty: asked where a method needs them, and no sooner.
    """

    def __init__(
        self,
        spec: TeamSpec,
        eta: float,
        etas: Mapping[str, float],
        shares: Callable[[], Sequence[float]],
        uncertainty: Callable[[], float],
        has_completions: bool,
    ) -> None:
        self._models = list(spec.models)
        number = {name: k for k, name in enumerate(spec.models)}
        self._templates: dict[str, Callable[[], AnswerRequest]] = {
            **{name: partial(AnswerRequest, (), member=name) for name in spec.models},
            "random": lambda: _rival(Random(tuple(shares()))),
            "surest": partial(_rival, Surest()),
            "entropy": lambda: _rival(EntropyThreshold(uncertainty())),
            "compose": partial(_rival, Compose()),
            "average": partial(_rival, Average()),
            "product": partial(_rival, Product()),
        }
        if has_completions:
            self._templates["oracle"] = partial(_rival, Oracle(()))
        for expert in spec.trained.collaboration.experts:
            k = number[expert.name]
            self._templates[f"contrastive:{expert.name}"] = partial(_rival, Contrastive(expert=k))
            self._templates[f"speculative:{expert.name}"] = partial(_rival, Speculative(expert=k))
            for guest in spec.guests:
                rule = ProxyTuning(expert=k, tuned=number[guest.name])
                self._templates[f"proxy:{expert.name}:{guest.name}"] = partial(_rival, rule)
        for name in spec.heads:
            self._templates[f"head:{name}"] = partial(AnswerRequest, (), head=name, eta=etas[name])
        self._templates[COLLABORATION] = partial(AnswerRequest, (), eta=eta)

    def expand(self, names: Sequence[str]) -> list[str]:
        """The full names: `all` is every method, `alone` each model, and a name without its colon all that begin so.

        Raises ColllmError for a name that is none.
        """
        expanded: dict[str, None] = {}
        for name in names:
            meant = self._meant(name)
            if not meant:
                there_are = ", ".join([*self._templates, ALONE, ALL])
                raise ColllmError(f"there is no method {name!r} here; there are: {there_are}")
            expanded.update(dict.fromkeys(meant))
        return list(expanded)

    def _meant(self, name: str) -> Sequence[str]:
        if name == ALONE:
            return self._models
        return [one for one in self._templates if name == ALL or one == name or one.startswith(f"{name}:")]

    def method(self, name: str) -> Method:
        """One method by its full name."""
        return Method(name, self._templates[name]())


def _rival(rule: Rule) -> AnswerRequest:
    return AnswerRequest((), rival=rule)
