"""Scripted, seeded deferrals: who writes each token and which one, without a trained head or trained models."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True)
class Script:
    """Who writes the token at each index of a text, and what each model would write there.

    All are pure functions of seed and index, the same in every process. Of two scripts with one seed, the one with the
    higher frequency defers wherever the other does; likewise for agreement.

    frequency: share of tokens that an expert writes; agreement: share at which base and expert would write the same;
    experts: M; spread: deferrals go evenly to all experts rather than all to expert 1; low, high: token ids are in
    [low, high).
    """

    frequency: float
    agreement: float
    experts: int
    seed: int
    spread: bool
    low: int
    high: int

    def __post_init__(self) -> None:
        for name in ("frequency", "agreement"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share in [0, 1], not {getattr(self, name)}")
        if self.experts < 1:
            raise ValueError(f"a script needs an expert to defer to; experts is {self.experts}")
        if self.low < 0 or self.high - self.low < 2:
            raise ValueError(f"[{self.low}, {self.high}) holds no two tokens that base and expert could choose")

    def author(self, i: int) -> int:
        """Who writes the token at index i: 0 the base, 1..M the experts."""
        if self._uniform("defer", i) >= self.frequency:
            return 0
        return 1 + int(self._uniform("expert", i) * self.experts) if self.spread else 1

    def agrees(self, i: int) -> bool:
        """Whether every expert would write at index i what the base would."""
        return self._uniform("agree", i) < self.agreement

    def token(self, i: int, author: int) -> int:
        """What `author` would write at index i."""
        size = self.high - self.low
        offset = int(self._uniform("token", i) * size)
        if author and not self.agrees(i):
            offset += 1 + int(self._uniform(f"token of {author}", i) * (size - 1))
        return self.low + offset % size

    def _uniform(self, what: str, i: int) -> float:
        """In [0, 1), independent for each `what` and i."""
        digest = blake2b(f"{self.seed}/{what}/{i}".encode(), digest_size=8).digest()
        return (int.from_bytes(digest, "big") >> 11) / 2**53
