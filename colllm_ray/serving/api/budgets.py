"""Budgets: the threshold with which experts write a share of the tokens, kept to what has really been written."""

from __future__ import annotations

from dataclasses import dataclass

from colllm_ray.deferral.calibration import Calibration

ANSWERS = 10  # over which what is owed is paid back, where there are not more under way
SLOWER = 4  # times, than what is owed is paid back, is the correction learned
LENGTH_MEMORY = 0.1  # the weight of the newest answer's length


@dataclass
class _Account:
    """Of all answers with one budget.

    owed: deferrals that there should have been; correction: what is added to the share, learned from what was owed, so
    that it need not be owed any longer; length: tokens of an answer; under_way: answers.
    """

    owed: float = 0.0
    correction: float = 0.0
    length: float = 0.0
    under_way: int = 0

    @property
    def answers(self) -> int:
        """Over which what is owed is paid back: those under way do not know of each other."""
        return max(ANSWERS, 2 * self.under_way)

    def aim(self, share: float) -> float:
        """The share with which what is owed is paid back."""
        return self.correction + share + self.owed / (self.answers * max(1.0, self.length))

    def saw(self, share: float, tokens: int, deferrals: int) -> None:
        """An answer is over. Nothing more is owed, and nothing learned, than the next answers can pay."""
        self.length += (LENGTH_MEMORY if self.length else 1.0) * (tokens - self.length)
        horizon = self.answers * max(1.0, self.length)
        owed = self.owed + share * tokens - deferrals
        self.owed = min((1 - share) * horizon, max(-share * horizon, owed))
        # Slowly beside the paying back, so that the two together do not swing.
        correction = self.correction + self.owed / horizon / (SLOWER * self.answers)
        self.correction = min(1 - share, max(-share, correction))


class Budgets:
    """One ingress's answers, by the share of their tokens that experts are to write.

    The calibration says which threshold defers a share of the validation data's tokens. Other questions may defer more
    or less: what answers of late have deferred too little, those that begin now may defer more, and the other way
    round. The threshold of an answer that has begun stays as it is.
    """

    def __init__(self, calibration: Calibration) -> None:
        self._calibration = calibration
        self._accounts: dict[float, _Account] = {}  # by share, in hundredths

    def eta(self, share: float) -> float:
        """The threshold for an answer that begins now. Raises ColllmError where the calibration knows no shares."""
        if share in (0.0, 1.0):  # the base alone, the experts alone: nothing to keep to
            return self._calibration.threshold_for(share)
        return self._calibration.threshold_for(min(1.0, max(0.0, self._of(share).aim(share))))

    def begin(self, share: float) -> None:
        """An answer with this budget is under way."""
        self._of(share).under_way += 1

    def end(self, share: float, tokens: int, deferrals: int) -> None:
        """One is over, or broken off."""
        account = self._of(share)
        account.under_way -= 1
        account.saw(share, tokens, deferrals)

    def _of(self, share: float) -> _Account:
        return self._accounts.setdefault(round(share, 2), _Account())
