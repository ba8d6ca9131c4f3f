"""The stage `colllm calibrate`: the threshold that is best when answers are decoded, and what the others cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from statistics import fmean

import torch

from colllm_ray.decoding.known import Known
from colllm_ray.decoding.rivals.choosing import EntropyThreshold
from colllm_ray.decoding.team_spec import AnswerRequest
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.deferral.calibration import Calibration, Candidate, best_of, thresholds_at_shares
from colllm_ray.deferral.trained import TrainedCollaboration, write_calibration
from colllm_ray.errors import ColllmError
from colllm_ray.evaluation.answered import Marker
from colllm_ray.evaluation.charts import calibration_chart
from colllm_ray.evaluation.examiner import Examiner, examining, questions_of
from colllm_ray.evaluation.metrics import metric_of
from colllm_ray.evaluation.questions import Question, max_tokens
from colllm_ray.evaluation.statistics import difference_of
from colllm_ray.evaluation.task import Task
from colllm_ray.storage import Where, location, write_whole

PLOT = "calibration.svg"
TIMED = 8  # questions on which the time of an answer is measured
SOME = 4  # of so many questions one is decoded at every threshold,
FEWEST = 32  # as long as they are so many
STEPS = 20  # of the shares of tokens that are tried
FINE_STEPS = 100  # of those between the neighbours of the best


@dataclass(frozen=True)
class Calibrated:
    """`passes`: forward passes that finding the thresholds took; `full_passes`: of decoding all questions once.

    The latter is the mean over the thresholds.
    """

    calibration: Calibration
    passes: int
    full_passes: float

    @property
    def decodings(self) -> float:
        """The cost in full decodings of the data."""
        return self.passes / self.full_passes


@dataclass(frozen=True)
class _Decoded:
    """One question at one threshold; `passes` are those of the plain loop, all models' and the experts' alone."""

    quality: float
    tokens: int
    deferrals: int
    passes: int
    expert_calls: int


class Sweep:
    """Questions of a task, decoded at one threshold after another; what thresholds have in common is decoded once.

    `rule` is what the threshold is of: the head's d_t, or with an `EntropyThreshold` the base's uncertainty.
    """

    def __init__(
        self, examiner: Examiner, task: Task, questions: Sequence[Question], rule: EntropyThreshold | None = None
    ) -> None:
        if not task.decodes:
            raise ColllmError(f"{task.name}: the metric {task.metric!r} is of likelihoods, for which nobody defers")
        self._examiner = examiner
        self._questions = questions
        self._marker = Marker(metric_of(task), task.stop, examiner.tokenizer, examiner.spec.end_tokens)
        longest, context = max_tokens(task, questions), examiner.spec.context
        self._requests = [
            AnswerRequest(one.prompt, min(longest, context - len(one.prompt)), rival=rule) for one in questions
        ]
        experts = len(examiner.spec.members) - 1
        self._calls_a_deferral = 1 if rule is None else experts  # all of them, where the surest is sought
        self._known = [Known.nothing(1 + experts) for _ in questions]
        self._decoded: defaultdict[float, dict[int, _Decoded]] = defaultdict(dict)  # by threshold and question
        self._timed_passes = 0
        self.all = range(len(questions))

    @property
    def passes(self) -> int:
        """Forward passes so far."""
        return sum(sum(known.passes) for known in self._known) + self._timed_passes

    @property
    def full_passes(self) -> float:
        """Forward passes of decoding all questions once at one of the thresholds, on average."""
        means = [fmean(one.passes for one in decoded.values()) for decoded in self._decoded.values()]
        return fmean(means) * len(self._questions)

    def uncertainties(self, eta: float) -> list[float]:
        """d_t of all tokens that are written at this threshold."""
        swept = self._sweep(f"decode at {eta:.3f}", [eta], self.all)
        return [token.p_defer or 0.0 for (answer,) in swept for token in answer]

    def decode(self, etas: Sequence[float], numbers: Sequence[int]) -> None:
        """Decodes the questions of these numbers at the thresholds."""
        swept = self._sweep(f"decode at {len(etas)} thresholds", etas, numbers)
        for number, answers in zip(numbers, swept, strict=True):
            for eta, tokens in zip(etas, answers, strict=True):
                reply = self._marker.reply(self._questions[number], tokens)
                calls = self._calls_a_deferral * _deferrals(tokens)
                self._decoded[eta][number] = _Decoded(
                    quality=reply.quality,
                    tokens=len(reply.tokens),
                    deferrals=_deferrals(reply.tokens),
                    passes=len(tokens) + calls,
                    expert_calls=calls,
                )

    def qualities(self, eta: float, numbers: Sequence[int]) -> list[float]:
        """Of the answers to these questions, decoded before."""
        return [self._decoded[eta][number].quality for number in numbers]

    def candidates(self) -> list[Candidate]:
        """What each threshold gives on the questions that were decoded at it, thresholds falling."""
        return [self._candidate(eta, list(self._decoded[eta].values())) for eta in sorted(self._decoded, reverse=True)]

    @property
    def finalists(self) -> list[Candidate]:
        """Those that were decoded on all questions: only they can be chosen."""
        return [one for one in self.candidates() if one.questions == len(self.all)]

    @property
    def best(self) -> float:
        """The threshold of the highest quality."""
        return best_of(self.finalists).threshold

    def timed(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """With the mean seconds of an answer of those on the front, which stay there if that leaves them the best.

        Measured on a few questions, one after the other.
        """
        seconds: dict[float, float] = {}
        for one in candidates:
            if one.on_front:
                asked = [replace(request, eta=one.threshold) for request in self._requests[:TIMED]]
                answers = self._examiner.answers(f"time at {one.threshold:.3f}", asked, at_once=1)
                seconds[one.threshold] = fmean(answer.seconds for answer in answers)
                self._timed_passes += sum(sum(answer.passes) for answer in answers)
        timed = [replace(one, answer_s=seconds.get(one.threshold)) for one in candidates]
        best = front([one for one in timed if one.on_front])
        return [replace(one, on_front=one in best) for one in timed]

    def _sweep(self, title: str, etas: Sequence[float], numbers: Sequence[int]) -> list[list[list[WrittenToken]]]:
        """The answers to these questions, by question and threshold."""
        requests, known = [self._requests[i] for i in numbers], [self._known[i] for i in numbers]
        answers, learned = self._examiner.sweep(title, requests, etas, known)
        for i, one in zip(numbers, learned, strict=True):
            self._known[i] = one
        return answers

    def _candidate(self, eta: float, decoded: Sequence[_Decoded]) -> Candidate:
        return Candidate(
            share=sum(one.deferrals for one in decoded) / sum(one.tokens for one in decoded),
            threshold=eta,
            quality=fmean(one.quality for one in decoded),
            questions=len(decoded),
            expert_calls=fmean(one.expert_calls for one in decoded),
        )


def calibrate(
    examiner: Examiner,
    task: Task,
    questions: Sequence[Question],
    steps: int = STEPS,
    rule: EntropyThreshold | None = None,
) -> Calibrated:
    """Decodes the questions at the thresholds that defer 0, 1/steps, .., 1 of the tokens, and chooses the best.

    The thresholds cut the d_t of the tokens that are written at the present threshold, which is tried too (of `rule`:
    the base's uncertainty). Those beside the best one follow in steps of 1/`FINE_STEPS`. Of the thresholds that no
    other one beats, the time of an answer is measured. Raises ColllmError for a task in which nothing is decoded.
    """
    sweep = Sweep(examiner, task, questions, rule)
    now = examiner.spec.trained.calibration.threshold if rule is None else 1.0
    d = torch.tensor(sweep.uncertainties(now), dtype=torch.double)
    _race(sweep, {now, *thresholds_at_shares(d, steps)})
    below, above = _beside(sweep.best, sweep.candidates())
    _race(sweep, {eta for eta in thresholds_at_shares(d, FINE_STEPS) if below < eta < above})
    best = front(sweep.finalists)
    candidates = [replace(one, on_front=one in best) for one in sweep.candidates()]
    if rule is None:
        candidates = sweep.timed(candidates)
    return Calibrated(Calibration(sweep.best, tuple(candidates), task.metric), sweep.passes, sweep.full_passes)


def calibrate_folder(trained: TrainedCollaboration, folder: Where, task: Task, steps: int = STEPS) -> Calibrated:
    """Calibrates a trained collaboration that is not running, and writes calibration.json and a plot into its folder.

    Raises as `calibrate` does.
    """
    with examining(trained) as examiner:
        return calibrate_running(examiner, task, folder, steps)


def calibrate_running(examiner: Examiner, task: Task, folder: Where, steps: int = STEPS) -> Calibrated:
    """The same for one that is running, which has the new calibration from then on."""
    calibrated = calibrate(examiner, task, questions_of(examiner, task), steps)
    examiner.use(calibrated.calibration)
    write_calibration(calibrated.calibration, folder)
    write_whole(location(folder) / PLOT, calibration_chart(calibrated.calibration).encode())
    return calibrated


def _race(sweep: Sweep, etas: Set[float]) -> None:
    """Decodes some of the questions at all thresholds, and the others at those that are worth it.

    A threshold is left out of the rest where another one defers less and is better beyond doubt: it is not the best,
    nor is it on the front. Source: racing, Maron and Moore, 1994.
    """
    known = {one.threshold for one in sweep.candidates()}
    etas = etas - known
    some = sweep.all[:: max(1, min(SOME, len(sweep.all) // FEWEST))]
    sweep.decode(sorted(etas, reverse=True), some)
    by_eta = {one.threshold: one for one in sweep.candidates()}
    qualities = {eta: sweep.qualities(eta, some) for eta in by_eta}
    best = max(by_eta, key=lambda eta: fmean(qualities[eta]))
    beaten = {
        eta
        for eta in etas
        if by_eta[eta].share > by_eta[best].share and difference_of(qualities[best], qualities[eta]).low > 0
    }
    rest = [number for number in sweep.all if number not in some]
    if rest:
        sweep.decode(sorted(etas - beaten, reverse=True), rest)


def _beside(eta: float, candidates: Sequence[Candidate]) -> tuple[float, float]:
    """The candidates' thresholds below and above this one."""
    below = [one.threshold for one in candidates if one.threshold < eta]
    above = [one.threshold for one in candidates if one.threshold > eta]
    return max(below, default=0.0), min(above, default=1.0)


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that no other one beats: none is as good in quality, share, calls and time, and better in one of them."""

    def costs(one: Candidate) -> tuple[float, ...]:
        return (-one.quality, one.share, one.expert_calls or 0.0, one.answer_s or 0.0)

    def beats(one: Candidate, other: Candidate) -> bool:
        pairs = list(zip(costs(one), costs(other), strict=True))
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    return [one for one in candidates if not any(beats(other, one) for other in candidates)]


def _deferrals(tokens: Sequence[WrittenToken]) -> int:
    return sum(token.author > 0 for token in tokens)
