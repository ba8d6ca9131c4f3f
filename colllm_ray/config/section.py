"""What all sections of the YAML have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]


class Section(BaseModel):
    """Fields that are known, and do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
