"""A row as it stands in its source, before anybody asks what its columns mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Record:
    """Values by column. `place` is "FILE:LINE", lines counted from 1, or "SOURCE: row N", counted from 0."""

    place: str
    values: Mapping[str, object]


@dataclass(frozen=True)
class Unreadable:
    """A row that is there and cannot be read; the rows after it can."""

    place: str
    reason: str
