"""How right one answer is.

In: the text of an answer, and a task's reference for it. Out: a score from 0 to 1. This room knows no model and no
tokenizer; `choice` and `perplexity`, which are judged by likelihoods, are measured elsewhere.
"""

from __future__ import annotations

from functools import cache

from colllm_ray.evaluation.metrics.exact import Exact
from colllm_ray.evaluation.metrics.factoid import Factoid
from colllm_ray.evaluation.metrics.item_list import ItemList
from colllm_ray.evaluation.metrics.mathematics import Mathematics
from colllm_ray.evaluation.metrics.metric import Metric
from colllm_ray.evaluation.metrics.numeric import Numeric
from colllm_ray.evaluation.metrics.yes_no import YesNo
from colllm_ray.evaluation.task import MetricName, Task

METRICS: dict[MetricName, type[Metric]] = {
    "exact": Exact,
    "numeric": Numeric,
    "math": Mathematics,
    "list": ItemList,
    "factoid": Factoid,
    "yes_no": YesNo,
}


def metric_of(task: Task) -> Metric:
    """What judges the answers of a task. Raises ColllmError where the package that it needs is missing."""
    if not task.decodes:
        raise ValueError(f"{task.name}: has no answers to judge by {task.metric}")
    return _metric(task.metric)


@cache  # one process of Math-Verify for all methods
def _metric(name: MetricName) -> Metric:
    return METRICS[name]()
