"""What is wrong with a YAML file, field by field."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from upath import UPath

from colllm_ray.config.data import PATH, SECTION
from colllm_ray.config.section import Section

NOT_FIELDS = (PATH, SECTION, "[key]", "str", "dict[str,any]")  # what pydantic puts among the names of fields


def explain(path: UPath, whole: type[Section], error: ValidationError) -> str:
    """A line for each problem, with the file and the field."""
    lines = []
    for problem in error.errors():
        names = [part for part in problem["loc"] if part not in NOT_FIELDS]
        field = ".".join(str(part) for part in names)
        what = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            what = f"unknown field; there are: {fields_of(_section_at(whole, names[:-1]))}"
        lines.append(f"{path}: {field}: {what}" if field else f"{path}: {what}")
    return "\n".join(lines)


def fields_of(section: type[BaseModel]) -> str:
    """The names of its fields, as they are told to people."""
    return ", ".join(section.model_fields)


def _section_at(whole: type[BaseModel], names: list[int | str]) -> type[BaseModel]:
    section = whole
    for name in names:
        if isinstance(name, str):
            section = _section_in(section.model_fields[name].annotation) or section
    return section


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field's type names, alone or among others."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_section_in(part) for part in get_args(annotation))
    return next((section for section in found if section is not None), None)
