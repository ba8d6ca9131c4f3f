"""A task as its user describes it: one YAML file that says what is asked and how answers are judged."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from colllm_ray.config import RowPart, Source
from colllm_ray.config.data import KINDS_OF_ROW, check_templates
from colllm_ray.config.places import source_place
from colllm_ray.config.section import Name, Section
from colllm_ray.config.section_file import read_section
from colllm_ray.data.data_sets import title_of
from colllm_ray.errors import ColllmError
from colllm_ray.storage import Where, location

ANSWERS: frozenset[RowPart] = frozenset({"completion", "assistant"})  # the parts that a question does without
KINDS_OF_QUESTION = (*KINDS_OF_ROW, *(kind - ANSWERS for kind in KINDS_OF_ROW))

MetricName = Literal["exact", "numeric", "math", "choice", "list", "factoid", "yes_no", "perplexity"]


class Task(Section):
    """Questions, where their right answers are, and the measure of an answer."""

    name: Name = Field(description="What results are told under.")
    data: Source = Field(description="The questions: a file or data set, as a collaboration's `data.train`.")
    columns: dict[RowPart, Annotated[str, Field(min_length=1)]] = Field(
        {},
        description="What the rows call their parts, as a collaboration's `data.columns`, which counts where nothing "
        "stands here. `completion` or `assistant` may be left out: then `answer` names the reference.",
    )
    metric: MetricName = Field(
        "exact",
        description="`exact`: the reference's text; `numeric`: its number; `math`: an expression of its value; "
        "`list`: F1 of its items; `factoid`: F1 of its words; `yes_no`: the same of the two; `choice`: the likeliest "
        "of several is the right one; `perplexity`: how likely the completion is.",
    )
    answer: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="The column that holds the reference, of any JSON value; the completion's text by default."
    )
    choices: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="With the metric `choice`, the column that holds the list of choices; `answer` holds the index of "
        "the right one, counted from 0, its text, or its letter from A on.",
    )
    max_tokens: int | None = Field(
        None,
        ge=1,
        description="The longest answer; by default one token more than the longest completion, and 256 where there "
        "are none.",
    )
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="Texts at which an answer is over; it ends before the first of them."
    )

    @model_validator(mode="after")
    def _columns_make_a_question(self) -> Task:
        check_templates(self.columns)
        parts = set(self.columns) - {"domain"}
        if parts and parts not in KINDS_OF_QUESTION:
            raise ValueError(
                f"columns: {', '.join(self.columns)} make no question; right are: prompt and maybe completion; or "
                "messages; or user and maybe system and assistant"
            )
        return self

    @model_validator(mode="after")
    def _reference_is_somewhere(self) -> Task:
        if (self.choices is None) is (self.metric == "choice"):
            raise ValueError("choices: names the column of the choices for the metric `choice`, and only for that one")
        if self.metric == "choice" and self.answer is None:
            raise ValueError("answer: the metric `choice` needs the column that says which choice is right")
        if self.metric == "perplexity" and self.answer is not None:
            raise ValueError("answer: the metric `perplexity` is that of the completion; leave `answer` out")
        parts = set(self.columns) - {"domain"}
        if self.answer is None and parts and "messages" not in parts and not parts & ANSWERS:
            raise ValueError(
                "columns: say of no completion or assistant; it holds the reference"
                + ("" if self.metric == "perplexity" else ", unless `answer` names a column that does")
            )
        return self

    @model_validator(mode="after")
    def _only_what_is_written_ends(self) -> Task:
        if not self.decodes and (self.max_tokens is not None or self.stop):
            raise ValueError(
                f"the metric `{self.metric}` has no answer written; leave out `max_tokens` and `stop`, which end one"
            )
        return self

    @property
    def decodes(self) -> bool:
        """Whether answers are written; else what is judged is how likely given ones are."""
        return self.metric not in ("choice", "perplexity")

    @classmethod
    def load(cls, path: Where) -> Task:
        """Reads and checks a YAML file; a path in it is relative to its folder and absolute from here on.

        Raises ColllmError that names the file and the field.
        """
        path = location(path)
        task = read_section(path, cls)
        try:
            return task.model_copy(update={"data": source_place(task.data, path.parent, "data")})
        except ColllmError as error:
            raise ColllmError(f"{path}: {error}") from error

    @classmethod
    def of(cls, source: Source) -> Task:
        """The task for data alone: answers are to be exactly what the collaboration's own columns say."""
        name = re.sub(r"[^A-Za-z0-9._-]", "-", title_of(source) if not isinstance(source, str) else _stem(source))
        return cls(name=name.strip("-._")[:64] or "data", data=source)


def _stem(path: str) -> str:
    """A file's name without its endings."""
    return path.rpartition("/")[2].partition(".")[0]
