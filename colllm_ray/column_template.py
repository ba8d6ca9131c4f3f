"""What a row's text is made of: one column, or a template with columns in braces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter

from colllm_ray.errors import ColllmError


@dataclass(frozen=True)
class ColumnTemplate:
    """`parts` in order: a text as it stands, or a column whose value goes there.

    `text` is what the user wrote: a column's name where it has no braces; `{{` and `}}` are braces of the text.
    """

    text: str
    parts: tuple[tuple[str, str | None], ...]

    @classmethod
    def parse(cls, text: str) -> ColumnTemplate:
        """Raises ValueError for anything but plain `{column}` fields."""
        if "{" not in text and "}" not in text:
            return cls(text, (("", text),))
        try:
            parts = tuple(Formatter().parse(text))
        except ValueError as error:
            raise ValueError(f"{text!r} is no template: {error}; a brace of the text is written twice") from error
        for _, field, spec, conversion in parts:
            if field is not None and (not field or spec or conversion or any(sign in field for sign in ".[]{}")):
                raise ValueError(
                    f"{text!r} has a field that is more or less than a column's name; "
                    "only {column} is taken: no attribute, index, conversion or format"
                )
        return cls(text, tuple((literal, field) for literal, field, _, _ in parts))

    @property
    def columns(self) -> frozenset[str]:
        return frozenset(field for _, field in self.parts if field is not None)

    @property
    def is_column(self) -> bool:
        """Whether it is one column as it is, and no text around it."""
        return self.parts == (("", self.text),)

    def fill(self, record: Mapping[str, object]) -> str:
        """The text for one row. Numbers are taken in a template only. Raises ColllmError that names the column."""
        written = []
        for literal, column in self.parts:
            written.append(literal)
            if column is not None:
                written.append(self._value(column, value_of(column, record)))
        return "".join(written)

    def _value(self, column: str, value: object) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, int | float):
            if not self.is_column:
                return str(value)
            hint = f"; '{{{column}}}' writes a number as text"
        else:
            hint = ""
        kind = "null" if value is None else f"no text but {type(value).__name__}"
        raise ColllmError(f"the column {column!r} holds {kind}{hint}")


def value_of(column: str, record: Mapping[str, object]) -> object:
    """What a row holds in a column. Raises ColllmError for a row without it."""
    if column not in record:
        raise ColllmError(f"has no column {column!r}; it has: {', '.join(map(repr, record))}")
    return record[column]
