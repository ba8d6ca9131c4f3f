"""What the parts of a running collaboration agree on, and what may be asked of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from colllm_ray.config import ExpertConfig, ModelConfig, ServingConfig
from colllm_ray.data.chat import end_tokens
from colllm_ray.decoding.rivals.rule import Rule
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.engine.messages import Sampling
from colllm_ray.engine.weights import declared_end_tokens, weights_revision
from colllm_ray.errors import ColllmError
from colllm_ray.models.members import check_members


@dataclass(frozen=True)
class AnswerRequest:
    """An answer that is wanted.

    `member` lets one model write all of it ("base", an expert's name or a guest's), `rival` lets a rival method;
    without them the collaboration does, by its own head or the other one that `head` names. `max_tokens` of None allows
    what the context has left; `eta` of None is the calibrated threshold; `sampling` of None is greedy. With `run_ahead`
    "auto" the models work ahead of each other where that has paid; the answer is the same. `experts` are those that may
    write (None: all); one that is lost, as no copy of it can be reached for `wait_s`, ends the answer, unless `policy`
    lets the others go on. `top`: how many of its author's likeliest tokens are told with each.
    """

    prompt: tuple[int, ...]
    max_tokens: int | None = None
    member: str | None = None
    rival: Rule | None = None
    head: str | None = None
    eta: float | None = None
    sampling: Sampling | None = None
    run_ahead: Literal["auto", "off"] = "auto"
    experts: tuple[str, ...] | None = None
    policy: Literal["continue", "fail"] = "fail"
    wait_s: float = 60.0
    ignore_eos: bool = False
    top: int = 0

    def __post_init__(self) -> None:
        if (self.member or self.rival) and (self.head or self.experts is not None or self.eta is not None):
            raise ValueError("head, experts and eta are the collaboration's; one member or a rival has none of them")
        if self.member and self.rival:
            raise ValueError("a member and a rival cannot both write the answer; give one of them")


@dataclass(frozen=True)
class TeamSpec:
    """What every part of a running collaboration must agree on, read from the models once.

    `end_tokens` end an answer of the collaboration: all with which a member says that it is over. `own_ends` are those
    of one model, by its name, where it writes alone.
    `guests` are models beside the members that the head knows nothing of, and `heads` other heads for the same members,
    by name: both for comparison.
    """

    trained: TrainedCollaboration
    vocab_size: int
    context: int  # tokens, of the model with the shortest
    end_tokens: frozenset[int]
    guests: tuple[ExpertConfig, ...] = ()
    heads: Mapping[str, DeferralHead] = field(default_factory=dict)
    own_ends: Mapping[str, frozenset[int]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        trained: TrainedCollaboration,
        guests: Sequence[ExpertConfig] = (),
        heads: Mapping[str, DeferralHead] | None = None,
    ) -> TeamSpec:
        """Raises ColllmError where a model cannot be a member, or the base is not the head's any more."""
        everyone = trained.collaboration.with_guests(guests)
        shared = check_members(everyone)
        base = trained.collaboration.base
        if not trained.base_fits(weights_revision(base)):
            raise ColllmError(f"{base.model}: has other weights than when the head was trained; train it again")
        ends = end_tokens(shared.tokenizer)
        own_ends = {name: ends | declared_end_tokens(config) for name, config in everyone.members.items()}
        together = frozenset().union(*(own_ends[name] for name in trained.collaboration.members))
        return cls(trained, shared.vocab_size, shared.context, together, tuple(guests), dict(heads or {}), own_ends)

    @property
    def name(self) -> str:
        return self.trained.collaboration.name

    @property
    def serving(self) -> ServingConfig:
        return self.trained.collaboration.serving

    @property
    def members(self) -> dict[str, ModelConfig]:
        return self.trained.collaboration.members

    @property
    def models(self) -> dict[str, ModelConfig]:
        """Members and guests, by name: the members in the order of the head's choices."""
        return self.trained.collaboration.with_guests(self.guests).members

    def author_of(self, member: str) -> int:
        """The model's number: of a member, that of the head's choice. Raises ColllmError for one that is not there."""
        if member not in self.models:
            raise ColllmError(f"there is no member {member!r}; there are: {', '.join(self.models)}")
        return list(self.models).index(member)

    def masked(self, experts: Sequence[str] | None) -> frozenset[int]:
        """The choices of the head that may not write where these experts may. Raises ColllmError for an unknown one."""
        if experts is None:
            return frozenset()
        allowed = {self.author_of(name) for name in experts}
        if 0 in allowed:
            raise ColllmError("'base' is no expert: it may always write")
        return frozenset(range(1, len(self.members))) - allowed

    def ends(self, request: AnswerRequest) -> frozenset[int]:
        """The tokens that end the answer to a request."""
        if request.ignore_eos:
            return frozenset()
        return self.end_tokens if request.member is None else self.own_ends.get(request.member, self.end_tokens)

    def eta(self, request: AnswerRequest) -> float:
        """The threshold that holds for a request."""
        return self.trained.calibration.threshold if request.eta is None else request.eta

    def check_text(self, tokens: Sequence[int]) -> None:
        """Raises ColllmError for a text that is too long for the models, or no text of theirs."""
        if not tokens:
            raise ColllmError("a text has no token; it needs one at least")
        if len(tokens) > self.context:
            raise ColllmError(f"a text has {len(tokens)} tokens, the models' context is {self.context}")
        self.check_tokens(tokens)

    def check_tokens(self, tokens: Sequence[int]) -> None:
        """Raises ColllmError for tokens that the models do not know."""
        if not 0 <= min(tokens) <= max(tokens) < self.vocab_size:
            raise ColllmError(f"a text has a token that is none of the vocabulary's {self.vocab_size}")

    def tokens_left(self, request: AnswerRequest) -> int:
        """How many tokens the answer may have. Raises ColllmError where prompt and answer exceed the context."""
        if request.member is not None:
            self.author_of(request.member)
        self.masked(request.experts)
        left = self.context - len(request.prompt)
        if not request.prompt or left < 1 or (request.max_tokens is not None and request.max_tokens > left):
            raise ColllmError(
                f"the prompt has {len(request.prompt)} tokens and the answer may have {request.max_tokens or 'any'}; "
                f"the prompt needs at least one, and the models' context is {self.context} for both"
            )
        return left if request.max_tokens is None else request.max_tokens
