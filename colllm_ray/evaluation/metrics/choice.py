"""Which of several choices is the right one."""

from __future__ import annotations

import string
from collections.abc import Sequence

from colllm_ray.errors import ColllmError


def choice_texts(value: object) -> list[str]:
    """The choices of a row; numbers are taken as they are written. Raises ColllmError for anything but a list."""
    if not isinstance(value, list) or len(value) < 2:
        raise ColllmError(f"holds {value!r}; a list of two choices or more is right")
    texts = [str(choice) for choice in value if isinstance(choice, str | int | float) and not isinstance(choice, bool)]
    if len(texts) < len(value) or not all(text.strip() for text in texts):
        raise ColllmError(f"holds {value!r}; each choice must be a text that is not empty, or a number")
    return texts


def right_choice(choices: Sequence[str], reference: object) -> int:
    """The index of the choice that is meant: by its index, else its text, else its letter.

    Raises ColllmError for a reference that means none of them, or several.
    """
    if isinstance(reference, int) and not isinstance(reference, bool) and 0 <= reference < len(choices):
        return reference
    if isinstance(reference, str):
        text = reference.strip()
        same = [i for i, choice in enumerate(choices) if choice.strip() == text]
        if len(same) > 1:
            raise ColllmError(f"holds {reference!r}, which is choice {' and '.join(map(str, same))}; an index is right")
        if same:
            return same[0]
        if len(text) == 1 and text.upper() in string.ascii_uppercase[: len(choices)]:
            return string.ascii_uppercase.index(text.upper())
    raise ColllmError(
        f"holds {reference!r}; right are an index from 0 to {len(choices) - 1}, the text of a choice, or a letter from "
        f"A to {string.ascii_uppercase[len(choices) - 1 : len(choices)] or 'Z'}"
    )
