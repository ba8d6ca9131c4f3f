"""The text of an answer under way: what is confirmed, and behind it what is guessed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass

from colllm_ray.decoding.account import Account
from colllm_ray.decoding.model_client import scores_of
from colllm_ray.decoding.pace import Pace
from colllm_ray.decoding.written import Terms, WrittenToken
from colllm_ray.deferral.rule import decide_one, expert_probabilities
from colllm_ray.engine.messages import Choice

LEANING = 0.8  # how much the steps before count beside the next one
LIKELY = 0.005  # the mean P(Z = k) from which on an expert may soon be asked


@dataclass(frozen=True)
class _Step:
    """What the base said at an index: who writes there, and its own choice."""

    author: int
    p_defer: float
    choice: Choice

    @classmethod
    def of(cls, choice: Choice, eta: float, masked: Set[int]) -> _Step:
        return cls(*decide_one(scores_of(choice), eta, masked), choice)


class Tail:
    """Puts together what the models say about a text that grows by guesses and is cut back where one was wrong.

    Whatever a model says at index i holds for one text before i. So a token is confirmed, in order, once the base's
    step and its author's choice are known for the text before it: exactly the token that the plain loop writes. All
    that was said behind a token which turns out wrong is forgotten.
    """

    def __init__(self, prompt: Sequence[int], eta: float, terms: Terms, account: Account) -> None:
        self.text = list(prompt)
        self.confirmed = len(prompt)  # tokens
        self._prompt = len(prompt)
        self._eta = eta
        self._terms = terms
        self._account = account
        self._masked: Set[int] = terms.masked  # experts that do not write (any more)
        self._steps: dict[int, _Step] = {}
        self._experts: defaultdict[int, dict[int, Choice]] = defaultdict(dict)  # by index, then by author
        self._leaning: list[float] = []
        self._guessed: set[int] = set()  # the indices of tokens that were not known when the text went on with them

    @property
    def finished(self) -> bool:
        return self._ends_at(self.confirmed)

    @property
    def base_wants(self) -> int:
        """After how many of the last tokens the base has not said its step."""
        return len(self.text) - max(self._steps, default=self._prompt - 1)

    @property
    def likeliest_expert(self) -> int | None:
        """The one to which the head leaned most of late; None where it leaned to none."""
        most = max(self._leaning, default=0.0)
        return 1 + self._leaning.index(most) if most >= LIKELY else None

    def heard(self, author: int, index: int, choice: Choice) -> None:
        """Keeps what a model said, given the text before `index` as it is now."""
        if author:
            self._experts[index][author] = choice
            return
        self._steps[index] = _Step.of(choice, self._eta, self._masked)
        now = expert_probabilities(scores_of(choice), self._masked)
        before = self._leaning or now
        self._leaning = [LEANING * old + (1 - LEANING) * new for old, new in zip(before, now, strict=True)]

    def decide_again(self) -> None:
        """An expert was lost: what is not confirmed is written by those that are left."""
        self._masked = self._terms.masked | set(self._account.lost)
        self._leaning = [0.0 if k in self._masked else p for k, p in enumerate(self._leaning, start=1)]
        for index in range(self.confirmed, len(self.text) + 1):
            if step := self._steps.get(index):
                self._steps[index] = _Step.of(step.choice, self._eta, self._masked)

    def settle(self, pace: Pace) -> list[WrittenToken]:
        """Confirms as many tokens as are known, cuts the guesses back to them, and tells `pace` what came true."""
        written: list[WrittenToken] = []
        while not self.finished and (step := self._steps.get(self.confirmed)):
            index = self.confirmed
            choice = self._choice_at(index)
            if choice is None:
                break
            self._tell(pace, index, step, choice.token)
            if index in self._guessed:
                self._guessed.remove(index)
                self._account.guessed += 1
                self._account.right += self.text[index] == choice.token
            if self.text[index : index + 1] != [choice.token]:
                self._cut_back(index)
                self.text.append(choice.token)
            if step.author == 0:
                pace.memory.learn(self.text, index)
            self.confirmed += 1
            for known in (self._steps, self._experts):
                known.pop(index - 1, None)  # one token back is looked at, and nothing before
            written.append(WrittenToken(choice.token, step.author, step.p_defer, choice.logprob, choice.top))
        return written

    def guess(self, pace: Pace) -> None:
        """Goes on with what the models would write if all went as it looks, as far as `pace` finds it worth while."""
        while not self._ends_at(len(self.text)):
            token = self._guess_at(len(self.text), pace)
            if token is None:
                return
            if self._choice_at(len(self.text)) is None:
                self._guessed.add(len(self.text))
            self.text.append(token)

    def open_questions(self, author: int) -> tuple[int, int] | None:
        """The first and the last index at which the expert is to write and has not said what."""
        indices = [
            index
            for index in range(self.confirmed, len(self.text) + 1)
            if (step := self._steps.get(index)) and step.author == author and author not in self._experts[index]
        ]
        return (indices[0], indices[-1]) if indices else None

    def _choice_at(self, index: int) -> Choice | None:
        """What is written at an index, given the text before it, where that is known."""
        step = self._steps.get(index)
        if step is None:
            return None
        return self._experts[index].get(step.author) if step.author else step.choice

    def _guess_at(self, index: int, pace: Pace) -> int | None:
        said, step = self._experts[index], self._steps.get(index)
        if step is None:  # not seen by the base: an expert's draft, or from memory
            for choice in said.values():
                return choice.token
            return pace.memory.recall(self.text, index) if pace.is_worth_a_recall(self.base_wants - 1) else None
        if (known := self._choice_at(index)) is not None:
            return known.token
        unanswered = sum(
            step.author > 0 and step.author not in self._experts[i]
            for i, step in self._steps.items()
            if self.confirmed <= i < index
        )
        return step.choice.token if pace.is_worth_a_guess(step.author, unanswered) else None

    def _tell(self, pace: Pace, index: int, step: _Step, token: int) -> None:
        if step.author:
            pace.saw_deferral(step.author, step.choice.token == token)
        if (recalled := pace.memory.recall(self.text, index)) is not None:
            pace.saw_recall(recalled == token)
        before = self._steps.get(index - 1)
        if before and before.author:
            pace.saw_next(before.author, step.author == before.author)

    def _cut_back(self, length: int) -> None:
        del self.text[length:]
        self._guessed = {index for index in self._guessed if index < length}
        for known in (self._steps, self._experts):
            for index in [index for index in known if index > length]:
                del known[index]

    def _ends_at(self, length: int) -> bool:
        answer = length - self._prompt
        return answer >= self._terms.max_tokens or (answer > 0 and self.text[length - 1] in self._terms.end_tokens)
