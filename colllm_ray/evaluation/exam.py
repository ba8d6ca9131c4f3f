"""One task put to a running collaboration and to its rivals."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from time import perf_counter

import pyarrow as pa
from safetensors.torch import save
from upath import UPath

from colllm_ray import __version__
from colllm_ray.config import Source
from colllm_ray.data.text import text_behind, text_of
from colllm_ray.decoding.judged import Judged
from colllm_ray.decoding.rivals.choosing import EntropyThreshold
from colllm_ray.decoding.team_spec import TeamSpec
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.deferral.calibration import Candidate
from colllm_ray.engine.text import Text
from colllm_ray.engine.weights import weights_revision
from colllm_ray.errors import ColllmError
from colllm_ray.evaluation.answered import COLLABORATION, Answered, Marker, Reply
from colllm_ray.evaluation.calibrate import Sweep, calibrate
from colllm_ray.evaluation.examiner import AT_ONCE, Examiner, questions_of
from colllm_ray.evaluation.likelihood import Logprobs, answer_behind, likeliest, logprobs_of, probabilities
from colllm_ray.evaluation.measures import Evaluation
from colllm_ray.evaluation.methods import Method, Methods
from colllm_ray.evaluation.metrics import metric_of
from colllm_ray.evaluation.parts import Kept, Row
from colllm_ray.evaluation.questions import Question, max_tokens
from colllm_ray.evaluation.task import Task

ANSWERS = pa.schema(
    {
        "token": pa.list_(pa.int32()),
        "author": pa.list_(pa.int32()),
        "p_defer": pa.list_(pa.float64()),
        "logprob": pa.list_(pa.float64()),
        "passes": pa.list_(pa.int32()),
        "part_s": pa.float64(),  # of the part that the row belongs to
    }
)
UNCERTAINTY = pa.schema({"threshold": pa.float64()})
# A list for each target token.
JUDGED = pa.schema(
    {
        "gold_logprob": pa.list_(pa.list_(pa.float64())),
        "scores": pa.list_(pa.list_(pa.float64())),
    }
)


class Exam:
    """One task put to a running collaboration; what was answered is kept in a folder, which a later exam goes on from.

    `etas`: the thresholds of the collaboration's other heads.
    """

    def __init__(self, examiner: Examiner, task: Task, folder: UPath, etas: Mapping[str, float] | None = None) -> None:
        self._examiner = examiner
        self._spec = examiner.spec
        self._task = task
        self._folder = folder
        self._etas = etas or {}
        self._identity = _identity(examiner.spec)
        self.questions = questions_of(examiner, task)

    def evaluate(self, names: Sequence[str], validation: Source | None = None, with_curve: bool = False) -> Evaluation:
        """Answers by the named methods, and by the collaboration always; `with_curve` at all thresholds that it knows.

        A task that is judged by likelihood is judged for each model alone and for all together, whatever the methods.
        `validation` is what the threshold of the base's uncertainty is chosen on, where that is asked for. Raises
        ColllmError for a method that there is not, and for data that are wrong.
        """
        if not self._task.decodes:
            replies, nll = self._by_likelihood()
            return self._evaluation(replies, nll, {}, ())
        by_method: dict[str, list[Reply]] = {}
        seconds: dict[str, float] = {}
        methods = self._methods(validation, by_method)
        for name in dict.fromkeys((COLLABORATION, *methods.expand(names))):  # it is the first: others depend on it
            by_method[name], seconds[name] = self._answered(methods.method(name))
        curve: tuple[Candidate, ...] = ()
        if with_curve:
            sweep = Sweep(self._examiner, self._task, self.questions)
            sweep.decode([one.threshold for one in self._spec.trained.calibration.candidates], sweep.all)
            curve = tuple(sweep.candidates())
        replies = [dict(zip(by_method, each, strict=True)) for each in zip(*by_method.values(), strict=True)]
        return self._evaluation(replies, self._logprobs_of_completions(), seconds, curve)

    def _methods(self, validation: Source | None, answered: Mapping[str, Sequence[Reply]]) -> Methods:
        """`answered` fills while methods are asked for."""
        return Methods(
            self._spec,
            eta=self._spec.trained.calibration.threshold,
            etas=self._etas,
            shares=lambda: self._shares(answered[COLLABORATION]),
            uncertainty=lambda: self._uncertainty(validation),
            has_completions=all(question.completion is not None for question in self.questions),
        )

    def _shares(self, replies: Sequence[Reply]) -> list[float]:
        """How often each member writes in these answers."""
        authors = [token.author for reply in replies for token in reply.tokens]
        return [authors.count(k) / len(authors) for k in range(len(self._spec.members))]

    def _uncertainty(self, validation: Source | None) -> float:
        """The best threshold of the base's uncertainty, found as the collaboration's own is."""
        if validation is None:
            raise ColllmError("entropy: its threshold is chosen on validation data; name them with --validation")
        task = self._task.model_copy(update={"data": validation})
        questions = questions_of(self._examiner, task)

        def make(_: range) -> list[Row]:
            rule = EntropyThreshold(1.0)
            return [{"threshold": calibrate(self._examiner, task, questions, rule=rule).calibration.threshold}]

        kept = Kept.of(self._folder, "uncertainty", (self._identity, task, questions), UNCERTAINTY)
        threshold: float = kept.rows(1, make)[0]["threshold"]
        return threshold

    def _answered(self, method: Method) -> tuple[list[Reply], float]:
        """Replies to all questions, and the seconds that they took."""
        longest, context = max_tokens(self._task, self.questions), self._spec.context
        requests = [
            method.request(question, number, min(longest, context - len(question.prompt)))
            for number, question in enumerate(self.questions)
        ]

        def make(part: range) -> list[Row]:
            begin = perf_counter()
            answers = self._examiner.answers(f"answer {method.name}", [requests[i] for i in part])
            seconds = perf_counter() - begin
            return [
                {
                    "token": [token.token for token in answer.tokens],
                    "author": [token.author for token in answer.tokens],
                    "p_defer": [token.p_defer for token in answer.tokens],
                    "logprob": [token.logprob for token in answer.tokens],
                    "passes": list(answer.passes),
                    "part_s": seconds / len(part),
                }
                for answer in answers
            ]

        kept = Kept.of(self._folder, method.name, (self._identity, requests), ANSWERS)
        rows = kept.rows(len(requests), make)
        ends = self._spec.ends(requests[0])
        marker = Marker(metric_of(self._task), self._task.stop, self._examiner.tokenizer, ends)
        replies = [
            marker.reply(question, _tokens(row), row["passes"])
            for question, row in zip(self.questions, rows, strict=True)
        ]
        return replies, sum(row["part_s"] for row in rows)

    def _by_likelihood(self) -> tuple[list[dict[str, Reply]], list[Logprobs]]:
        """Replies to each question, and how likely what is right is."""
        if self._task.metric == "perplexity":
            logprobs = self._logprobs_of_completions()
            lengths = (len(question.completion or ()) for question in self.questions)
            return [probabilities(one, length) for one, length in zip(logprobs, lengths, strict=True)], logprobs
        texts = [answer_behind(one.prompt, choice) for one in self.questions for choice in one.choices]
        told = iter(self._logprobs(texts))
        replies, right = [], []
        for question in self.questions:
            choices = [next(told) for _ in question.choices]
            written = [text_behind(question.prompt, choice, self._examiner.tokenizer) for choice in question.choices]
            replies.append(likeliest(question, choices, written))
            right.append(choices[_right(question)])
        return replies, right

    def _logprobs_of_completions(self) -> list[Logprobs]:
        """For each question; nothing where questions have no completions."""
        with_completions = [(one.prompt, one.completion) for one in self.questions if one.completion is not None]
        if len(with_completions) < len(self.questions):
            return [{} for _ in self.questions]
        return self._logprobs([answer_behind(prompt, completion) for prompt, completion in with_completions])

    def _logprobs(self, texts: Sequence[Text]) -> list[Logprobs]:
        def make(part: range) -> list[Row]:
            judged = self._examiner.judged("score texts", [texts[i] for i in part])
            return [{"gold_logprob": one.gold_logprob, "scores": one.scores} for one in judged]

        kept = Kept.of(self._folder, "likelihood", (self._identity, texts), JUDGED)
        models = list(self._spec.models)
        return [logprobs_of(Judged(row["gold_logprob"], row["scores"]), models) for row in kept.rows(len(texts), make)]

    def _evaluation(
        self,
        replies: Sequence[Mapping[str, Reply]],
        logprobs: Sequence[Logprobs],
        seconds: Mapping[str, float],
        curve: tuple[Candidate, ...],
    ) -> Evaluation:
        calibration = self._spec.trained.calibration
        answered = [self._question(*each) for each in zip(self.questions, replies, logprobs, strict=True)]
        return Evaluation(
            name=self._spec.name,
            task=self._task.name,
            metric=self._task.metric,
            models=tuple(self._spec.models),
            answered=tuple(answered),
            seconds=seconds,
            at_once=AT_ONCE,
            calibration=calibration,
            curve=curve,
        )

    def _question(self, question: Question, replies: Mapping[str, Reply], logprobs: Logprobs) -> Answered:
        right = question.choices[_right(question)] if question.choices else question.completion
        told = right if question.choices or right is None else right[:-1]  # without the end token
        tokenizer = self._examiner.tokenizer
        readable = str(question.reference) if told is None else text_behind(question.prompt, told, tokenizer)
        return Answered(
            example_id=question.example_id,
            domain=question.domain,
            prompt=text_of(question.prompt, self._examiner.tokenizer),
            reference=readable,
            completion=question.completion,
            replies=replies,
            nll={who: -total for who, total in logprobs.items()},
            targets=len(right or ()),
        )


def _right(question: Question) -> int:
    """The index of the right choice."""
    assert isinstance(question.reference, int), "the reader has made an index of it"
    return question.reference


def _tokens(row: Row) -> list[WrittenToken]:
    columns = (row[name] for name in ("token", "author", "p_defer", "logprob"))
    return [WrittenToken(*each) for each in zip(*columns, strict=True)]


def _identity(spec: TeamSpec) -> object:
    """All that answers depend on besides the requests."""
    heads = [hashlib.sha256(save(head.state_dict())).hexdigest() for head in (spec.trained.head, *spec.heads.values())]
    models = [(name, weights_revision(config), config.dtype) for name, config in spec.models.items()]
    return __version__, spec.context, heads, list(spec.heads), models
