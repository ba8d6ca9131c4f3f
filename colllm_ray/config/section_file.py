"""A YAML file that holds the fields of a section."""

from __future__ import annotations

from typing import TypeVar

import yaml
from pydantic import ValidationError
from upath import UPath

from colllm_ray.config.explain import explain, fields_of
from colllm_ray.config.section import Section
from colllm_ray.errors import ColllmError

S = TypeVar("S", bound=Section)


def read_section(path: UPath, section: type[S]) -> S:
    """What the file says, checked; paths in it are as they were written.

    Raises ColllmError that names the file and the field.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ColllmError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ColllmError(f"{path}: is no YAML: {error}") from error
    if not isinstance(content, dict):
        raise ColllmError(f"{path}: must hold the fields of a {section.__name__.lower()}: {fields_of(section)}")
    try:
        return section.model_validate(content)
    except ValidationError as error:
        raise ColllmError(explain(path, section, error)) from error
