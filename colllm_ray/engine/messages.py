"""What is said to a model that holds sessions, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

MOST_TOP = 20  # likeliest tokens that are told of one place

More = Literal["nothing", "entropy", "distribution"]
"""What is told with each choice of the distribution that it was chosen from."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is drawn; the noise for index t of a text comes from (seed, t) alone, so a retry draws the same.

    temperature > 0 divides the logits; then the smallest set of tokens whose probability reaches top_p is kept.
    """

    temperature: float
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature {self.temperature}: must be above 0; greedy decoding has no Sampling")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p}: must be above 0 and at most 1")
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed {self.seed}: must be from 0 to 2^64 - 1")


@dataclass(frozen=True, slots=True)
class Extend:
    """Take in `tokens`, which begin at index `start` of the session's text, and say what comes next.

    A session that holds more than `start` tokens is cut back to it; one that holds less answers `Behind`. A session
    that is not known begins empty. `number` comes back in every reply; a session's next request takes the place of
    one that still waits, and ends its draft. `want`: after how many of the last tokens the model says what comes
    next; 0 only takes the tokens in. `draft`: how many tokens the model then goes on to write by itself. `gold`:
    for each wanted place the token that does follow there, where its log-prob is asked for as well. `top`: how many
    of the likeliest tokens are told with each choice; `more`: what else is.
    """

    session: str
    start: int
    tokens: tuple[int, ...]
    number: int = 0
    want: int = 1
    draft: int = 0
    sampling: Sampling | None = None
    gold: tuple[int, ...] = ()
    top: int = 0
    more: More = "nothing"

    def __post_init__(self) -> None:
        if self.start < 0 or not self.tokens:
            raise ValueError(f"session {self.session}: needs start >= 0 and at least one token")
        if not 0 <= self.want <= len(self.tokens):
            raise ValueError(f"session {self.session}: cannot answer after {self.want} of {len(self.tokens)} tokens")
        if self.draft < 0 or (self.draft and not self.want):
            raise ValueError(f"session {self.session}: drafts {self.draft} tokens after {self.want} answers")
        if not 0 <= self.top <= MOST_TOP:
            raise ValueError(f"session {self.session}: asks for the {self.top} likeliest; at most {MOST_TOP} are told")
        if len(self.gold) not in (0, self.want):
            raise ValueError(f"session {self.session}: {len(self.gold)} gold tokens for {self.want} answers")

    @property
    def end(self) -> int:
        """How many tokens the session holds once it took these in; the index of the last choice."""
        return self.start + len(self.tokens)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a model would write at one index, with its natural log-prob: its own, before temperature and top_p.

    `scores` are s_t of the deferral head, one for each of the K choices; only the base has them. `gold_logprob` is
    that of the token that was named as gold there. `top` are the likeliest tokens with their log-probs, best first.
    `entropy` of the model's own distribution is in nats; `distribution` are its natural log-probs [V] as the bytes of
    little-endian float32.
    """

    token: int
    logprob: float
    scores: tuple[float, ...] | None = None
    gold_logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    entropy: float | None = None
    distribution: bytes | None = None


@dataclass(frozen=True, slots=True)
class Extended:
    """The session took the tokens of request `number` in: its choices at the text's indices `index`, `index` + 1, ...

    An Extend with draft = n is followed by up to n more of these, one choice each: the model took in its own choice
    before, and says what comes next. `seconds`: how long the request, or the draft's token, waited and computed there.
    """

    session: str
    number: int
    index: int
    choices: tuple[Choice, ...]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Behind:
    """The session holds only `have` tokens: send from there."""

    session: str
    number: int
    have: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The request could not be served, and what the session holds is not known; `reason` is for people."""

    session: str
    number: int
    reason: str


Reply = Extended | Behind | Failed
Deliver = Callable[[Reply], None]
