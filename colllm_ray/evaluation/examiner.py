"""A running collaboration that is asked many questions side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from ray.serve.handle import DeploymentHandle
from rich.progress import Progress

from colllm_ray.config import ExpertConfig
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.decoding.judged import Judged
from colllm_ray.decoding.known import Known
from colllm_ray.decoding.team_spec import AnswerRequest, TeamSpec
from colllm_ray.decoding.written import Answer, WrittenToken
from colllm_ray.deferral.calibration import Calibration
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.engine.text import Text
from colllm_ray.evaluation.questions import Question, read_questions
from colllm_ray.evaluation.task import Task
from colllm_ray.progress import progress_bars
from colllm_ray.serving.application import running_router

AT_ONCE = 16  # questions that are under way

T = TypeVar("T")
R = TypeVar("R")


class Examiner:
    """Asks the router of a collaboration; all calls show a bar of their own, under the title that they are given."""

    def __init__(self, router: DeploymentHandle, spec: TeamSpec, progress: Progress) -> None:
        self.spec = spec
        self.tokenizer = load_tokenizer(spec.trained.collaboration.base)
        self._router = router
        self._progress = progress

    def use(self, calibration: Calibration) -> None:
        """From now on the collaboration's threshold is the one of this calibration."""
        self.spec = replace(self.spec, trained=replace(self.spec.trained, calibration=calibration))

    def answers(self, title: str, requests: Sequence[AnswerRequest], at_once: int = AT_ONCE) -> list[Answer]:
        """The answers, in the order of the requests."""

        def ask(request: AnswerRequest) -> Answer:
            answer: Answer = self._router.answer.remote(request).result()
            return answer

        return self._each(title, ask, requests, at_once)

    def sweep(
        self, title: str, requests: Sequence[AnswerRequest], etas: Sequence[float], known: Sequence[Known]
    ) -> tuple[list[list[list[WrittenToken]]], list[Known]]:
        """For each request its answer at each threshold, and what is known of it then; as `Team.sweep` has it."""

        def ask(one: tuple[AnswerRequest, Known]) -> tuple[list[list[WrittenToken]], Known]:
            swept: tuple[list[list[WrittenToken]], Known] = self._router.sweep.remote(one[0], etas, one[1]).result()
            return swept

        swept = self._each(title, ask, list(zip(requests, known, strict=True)))
        return [answers for answers, _ in swept], [known for _, known in swept]

    def judged(self, title: str, texts: Sequence[Text]) -> list[Judged]:
        """What all models and the head say of the texts' targets."""

        def ask(text: Text) -> Judged:
            judged: Judged = self._router.judged.remote(text).result()
            return judged

        return self._each(title, ask, texts)

    def _each(self, title: str, ask: Callable[[T], R], items: Sequence[T], at_once: int = AT_ONCE) -> list[R]:
        bar = self._progress.add_task(title, total=len(items), note="")
        results = []
        pool = ThreadPoolExecutor(at_once)
        try:
            for result in pool.map(ask, items):
                results.append(result)
                self._progress.advance(bar)
        finally:  # what fails, or is stopped, does not wait for the questions that are left
            pool.shutdown(wait=False, cancel_futures=True)
        return results


@contextmanager
def examining(
    trained: TrainedCollaboration,
    guests: Sequence[ExpertConfig] = (),
    heads: Mapping[str, DeferralHead] | None = None,
) -> Iterator[Examiner]:
    """Runs the collaboration's router, with the guests and other heads, on the Ray that this process has joined."""
    spec = TeamSpec.of(trained, guests, heads)
    with running_router(spec) as router, progress_bars() as progress:
        yield Examiner(router, spec, progress)


def questions_of(examiner: Examiner, task: Task) -> list[Question]:
    """The questions of a task for a running collaboration. Raises ColllmError."""
    spec = examiner.spec
    return read_questions(task, examiner.tokenizer, spec.context, spec.trained.collaboration.data)
