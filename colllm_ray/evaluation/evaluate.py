"""The stage `colllm evaluate`: tasks, each answered by the collaboration and by others, measured alike."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from upath import UPath

from colllm_ray.config import Source
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.errors import ColllmError
from colllm_ray.evaluation.compared import Compared
from colllm_ray.evaluation.exam import Exam
from colllm_ray.evaluation.examiner import Examiner, examining
from colllm_ray.evaluation.measures import Evaluation
from colllm_ray.evaluation.report import report_page
from colllm_ray.evaluation.task import Task
from colllm_ray.storage import write_whole


def evaluate(
    trained: TrainedCollaboration,
    tasks: Sequence[Task],
    methods: Sequence[str],
    out: UPath,
    compared: Compared,
    validation: Source | None = None,
    with_curve: bool = False,
) -> Iterator[Evaluation]:
    """Puts each task to the collaboration through Ray Serve, and writes OUT/<task>: answers, measures, report.

    What an earlier call has answered is not asked again. `validation` is what rivals choose their thresholds on; by
    default the collaboration's own, for tasks with its columns. Raises ColllmError where a task is wrong.
    """
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise ColllmError(f"two tasks have the same name: {', '.join(names)}; their results would lie in one folder")
    with examining(trained, compared.guests, compared.heads) as examiner:
        for task in tasks:
            yield examined(examiner, task, methods, out / task.name, compared, validation, with_curve)


def examined(
    examiner: Examiner,
    task: Task,
    methods: Sequence[str],
    folder: UPath,
    compared: Compared,
    validation: Source | None = None,
    with_curve: bool = False,
) -> Evaluation:
    """One task, put to a collaboration that runs, and its results written into the folder."""
    if validation is None and not task.columns and task.answer is None:
        validation = examiner.spec.trained.collaboration.data.validation
    exam = Exam(examiner, task, folder / "answers", compared.etas)
    evaluation = exam.evaluate(methods, validation, with_curve)
    write_whole(folder / "measures.json", (json.dumps(evaluation.to_json(), indent=1) + "\n").encode())
    write_whole(folder / "measures.csv", evaluation.to_csv().encode())
    write_whole(folder / "report.html", report_page(evaluation).encode())
    return evaluation
