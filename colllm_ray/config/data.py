"""What the head is trained on: sources, and what their columns mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from colllm_ray.column_template import ColumnTemplate
from colllm_ray.config.section import Section

PATH, SECTION = "(path)", "(section)"  # the kinds of source, as pydantic names them in the place of an error


class DatasetSource(Section):
    """A split of a data set that the `datasets` library loads."""

    dataset: str = Field(
        min_length=1, description="Hub id `org/name`, or a folder that `datasets` loads (relative to the YAML file)."
    )
    name: str | None = Field(None, description="The data set's configuration, where it has several.")
    split: str = Field(
        "train", min_length=1, description="Split, or a slice such as `train[:95%]` or `train[100:200]`."
    )
    revision: str | None = Field(None, description="Branch, tag or commit, for a hub id.")


def _kind_of_source(value: object) -> str:
    return PATH if isinstance(value, str) else SECTION


Source = Annotated[
    Annotated[str, Field(min_length=1), Tag(PATH)] | Annotated[DatasetSource, Tag(SECTION)],
    Discriminator(_kind_of_source),
]
"""A file, by path or URI, or a data set."""

RowPart = Literal["prompt", "completion", "messages", "system", "user", "assistant", "domain"]

KINDS_OF_ROW: tuple[frozenset[RowPart], ...] = (
    frozenset({"prompt", "completion"}),
    frozenset({"messages"}),
    frozenset({"user", "assistant"}),
    frozenset({"system", "user", "assistant"}),
)


def check_templates(columns: Mapping[RowPart, str]) -> None:
    """Raises ValueError for a text that is no template, or for one in the place of a column."""
    for part, text in columns.items():
        try:
            template = ColumnTemplate.parse(text)
        except ValueError as error:
            raise ValueError(f"columns.{part}: {error}") from error
        if part == "messages" and not template.is_column:
            raise ValueError(f"columns.messages: {text!r} is a template; only a column's name is right here")


class DataConfig(Section):
    """Where the head's data is, and which of its columns are what; `domain` may stand beside each kind of row."""

    train: Source = Field(
        description="What the head is trained on: a data set, or a file (path relative to the YAML file, or URI) that "
        "ends with .jsonl or .json (a row a line; then maybe .gz, .zst or .bz2) or with .parquet."
    )
    validation: Source = Field(
        description="What measures each epoch and what the threshold is chosen on; a file or data set, as `train`."
    )
    columns: dict[RowPart, Annotated[str, Field(min_length=1)]] = Field(
        {},
        description="What the rows call `prompt` and `completion`, or `messages`, or the turns of a conversation, "
        "`user` and `assistant` (and `system`); and `domain`. A column's name, or a template with columns in braces, "
        "such as 'Question: {question}'. Without it rows hold prompt and completion, or messages.",
    )
    loss_on: Literal["all", "last"] = Field(
        "all", description="Which of the assistant's turns in a conversation are learnt."
    )
    max_failed: int = Field(
        0,
        ge=0,
        description="Rows that may fail (unreadable, too long, not scorable) and be left out; one more stops the run.",
    )

    @model_validator(mode="after")
    def _columns_make_a_row(self) -> DataConfig:
        check_templates(self.columns)
        parts = set(self.columns) - {"domain"}
        if parts and parts not in KINDS_OF_ROW:
            raise ValueError(
                f"columns: {', '.join(self.columns)} make no row; "
                "right are: prompt, completion; or messages; or user, assistant and maybe system"
            )
        return self

    @property
    def sources(self) -> dict[str, Source]:
        """Where each split is read from."""
        return {"train": self.train, "validation": self.validation}

    @property
    def templates(self) -> dict[RowPart, ColumnTemplate]:
        """`columns`, parsed."""
        return {part: ColumnTemplate.parse(text) for part, text in self.columns.items()}
