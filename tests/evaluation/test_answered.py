from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from colllm_ray.decoding.written import WrittenToken
from colllm_ray.evaluation.answered import Marker
from colllm_ray.evaluation.metrics import metric_of
from colllm_ray.evaluation.questions import Question
from colllm_ray.evaluation.task import Task


def test_an_answer_ends_before_the_first_stop_text(tokenizer: PreTrainedTokenizerFast) -> None:
    """Its text is judged up to there, and the tokens behind it are nobody's."""
    task = Task(name="sums", data="rows.jsonl", metric="numeric", stop=("\n\n", "Q:"))
    question = Question("test-00000000", None, (5,), "18", None)

    def written(text: str) -> list[WrittenToken]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return [WrittenToken(token, 0, None, -0.1) for token in ids]

    marker = Marker(metric_of(task), task.stop, tokenizer, ends=frozenset())
    cut = marker.reply(question, written("18 dogs\n\nQ: and 5 foxes?"), (9, 1))
    assert (cut.text, cut.quality, cut.passes) == ("18 dogs", 1.0, (9, 1))
    assert cut.tokens == written("18 dogs")
    assert marker.reply(question, written("18 dogs and 5")).quality == 0.0
