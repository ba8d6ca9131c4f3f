"""The stage `colllm evaluate`: each model alone, the collaboration, and who wrote what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from uuid import uuid4

import torch
from ray.serve.handle import DeploymentHandle
from rich.progress import Progress
from torch import Tensor

from colllm_ray.config import Source
from colllm_ray.data.examples import Example, read_whole
from colllm_ray.data.text import text_of
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.decoding.team_spec import AnswerRequest
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.deferral.loss import marginal_logprob
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.engine.weights import shared_context
from colllm_ray.evaluation.measures import COLLABORATION, Answered, Evaluation
from colllm_ray.progress import progress_bars
from colllm_ray.scoring.score import score_sources
from colllm_ray.scoring.score_folder import ScoreFolder
from colllm_ray.serving.application import running_router
from colllm_ray.storage import Where, delete_folder, location

CONCURRENT_ANSWERS = 16

T = TypeVar("T")


def evaluate(trained: TrainedCollaboration, data: Source, workspace: Where) -> Evaluation:
    """Answers every row's prompt through Ray Serve, by each member alone and by all together, and scores every row.

    `data` has the columns of the collaboration's own data. An answer may have one token more than the longest
    reference: none of that length could be right. `workspace` is a folder that all nodes see; what is written there is
    deleted in the end. Raises ColllmError where the data is wrong.
    """
    collaboration = trained.collaboration
    tokenizer = load_tokenizer(collaboration.base)
    examples = list(read_whole(data, "test", tokenizer, shared_context(collaboration), collaboration.data))
    nll = _negative_log_likelihoods(trained, data, workspace)
    answers = _answers(trained, examples)
    return Evaluation(
        name=collaboration.name,
        members=tuple(collaboration.members),
        answered=tuple(
            Answered(
                domain=example.domain,
                prompt=text_of(example.prompt_ids, tokenizer),
                reference=text_of(example.completion_ids, tokenizer),
                answers={who: text_of([t.token for t in written[i]], tokenizer) for who, written in answers.items()},
                written=answers[COLLABORATION][i],
                nll={who: float(sums[i]) for who, sums in nll.items()},
                targets=sum(example.target_mask),
            )
            for i, example in enumerate(examples)
        ),
    )


def _negative_log_likelihoods(trained: TrainedCollaboration, data: Source, workspace: Where) -> dict[str, Tensor]:
    """For each member and the collaboration: the sum over each example's targets [examples], in nats."""
    sources, folder = {"test": data}, location(workspace) / f"evaluation-{uuid4().hex[:8]}"
    strict = trained.collaboration.data.model_copy(update={"max_failed": 0})
    collaboration = trained.collaboration.model_copy(update={"data": strict})
    try:
        score_sources(collaboration, sources, folder)
        scores = ScoreFolder.of(collaboration, sources, folder).read("test")
    finally:
        delete_folder(folder)
    with torch.no_grad():
        collaborative = marginal_logprob(trained.head(scores.features.float()), scores.gold_logprob)
    logprobs = {**dict(zip(scores.members, scores.gold_logprob.unbind(1), strict=True)), COLLABORATION: collaborative}
    zeros = torch.zeros(len(scores.example_ids))
    return {who: zeros.index_add(0, scores.example, -logprob) for who, logprob in logprobs.items()}


def _answers(trained: TrainedCollaboration, examples: list[Example]) -> Mapping[str, list[tuple[WrittenToken, ...]]]:
    """For each member and the collaboration: the answer to every example."""
    max_tokens = 1 + max(len(example.completion_ids) for example in examples)
    context = shared_context(trained.collaboration)
    answers = {}
    with running_router(trained) as router, progress_bars() as progress, ThreadPoolExecutor(CONCURRENT_ANSWERS) as pool:
        for who in (*trained.collaboration.members, COLLABORATION):
            answer_one = _Answerer(router, who, max_tokens, context)
            answers[who] = list(_follow(progress, f"answer {who}", len(examples), pool.map(answer_one, examples)))
    return answers


class _Answerer:
    """Asks the router for one member's answers, or for the collaboration's."""

    def __init__(self, router: DeploymentHandle, who: str, max_tokens: int, context: int) -> None:
        self._router, self._max_tokens, self._context = router, max_tokens, context
        self._member = None if who == COLLABORATION else who

    def __call__(self, example: Example) -> tuple[WrittenToken, ...]:
        prompt = tuple(example.prompt_ids)
        max_tokens = min(self._max_tokens, self._context - len(prompt))
        request = AnswerRequest(prompt, max_tokens, self._member)
        answer: tuple[WrittenToken, ...] = self._router.answer.remote(request).result()
        return answer


def _follow(progress: Progress, title: str, total: int, items: Iterable[T]) -> Iterator[T]:
    bar = progress.add_task(title, total=total, note="")
    for item in items:
        yield item
        progress.advance(bar)
