"""How far it pays to run ahead: learned from what came true."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from colllm_ray.decoding.memory import Memory

# A guess that fails costs half a step on average, one that comes true saves one: it pays from one in three on.
WORTH = 0.4
# A step over several tokens costs more than one, and the base has nothing to wait for: the odds must be better.
WORTH_A_RECALL = 0.5
# An expert that drafts in vain is found busy by the next question; one that drafts rightly has begun a step earlier.
WORTH_A_DRAFT = 0.7
MEMORY = 0.1  # the weight of the newest observation
LONGEST_DRAFT = 8  # tokens
# An expert that answers within so many steps of the base keeps up with it; a slower one would mostly be found busy.
KEEPS_UP = 3.0
LONG_GAP = 16  # tokens, from which on taking them in costs a model noticeably more than one token
QUIET = 2  # answers at once, up to which there is likely to be an idle expert


class Pace:
    """What all answers of a collaboration have learned about guessing, for each of its M experts.

    What it needs to know is seen without guessing, too: where guessing does not pay, nothing has to be tried to find
    out when it does again.
    """

    def __init__(self, experts: int) -> None:
        self.memory = Memory()
        self._recalls = 0.5  # how often the memory is right
        self._agrees = [0.45] * (experts + 1)  # how often the base would have written the expert's token
        self._goes_on = [0.45] * (experts + 1)  # how often the expert writes the next token as well
        self._seconds = [math.inf] * (experts + 1)  # until a question is answered; the base is 0
        self._answers = 0

    @contextmanager
    def answering(self) -> Iterator[None]:
        """An answer is under way for as long as the body runs."""
        self._answers += 1
        try:
            yield
        finally:
            self._answers -= 1

    def saw_deferral(self, author: int, base_agrees: bool) -> None:
        self._agrees[author] += MEMORY * (base_agrees - self._agrees[author])

    def saw_recall(self, is_right: bool) -> None:
        self._recalls += MEMORY * (is_right - self._recalls)

    def saw_next(self, author: int, goes_on: bool) -> None:
        self._goes_on[author] += MEMORY * (goes_on - self._goes_on[author])

    def saw_answer(self, author: int, seconds: float) -> None:
        before = self._seconds[author]
        self._seconds[author] = seconds if math.isinf(before) else before + MEMORY * (seconds - before)

    def is_worth_a_guess(self, author: int, unanswered: int) -> bool:
        """Whether the base goes on from its own choice at a deferral, behind so many that are open still."""
        return self._agrees[author] ** (unanswered + 1) >= WORTH

    def is_worth_a_recall(self, guessed: int) -> bool:
        """Whether the base is shown what the memory says, behind so many such guesses."""
        return guessed < LONGEST_DRAFT and self._recalls ** (guessed + 1) >= WORTH_A_RECALL

    def draft(self, author: int) -> int:
        """How many tokens the expert goes on to write by itself."""
        goes_on = self._goes_on[author]
        if self._answers > QUIET or goes_on < WORTH_A_DRAFT:
            return 0
        return min(LONGEST_DRAFT, int(math.log(WORTH_A_RECALL) / math.log(min(goes_on, 0.999))))

    def follows(self, author: int, gap: int) -> bool:
        """Whether an idle expert is sent `gap` tokens before it is asked, because it is likely to be asked next."""
        if self._answers > QUIET:
            return False
        return gap >= LONG_GAP or self._seconds[author] <= KEEPS_UP * self._seconds[0]
