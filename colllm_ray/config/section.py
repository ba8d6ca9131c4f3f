"""What all sections of the YAML have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
Labels = dict[str, Annotated[str, Field(pattern=rf"^!?({_LABEL}|in\({_LABEL}(, *{_LABEL})*\))$")]]
"""What labels of a node must be, by name, in the words of Ray's label selectors."""


class Section(BaseModel):
    """Fields that are known, and do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
