"""The API key with which this project's own commands ask a server."""

from __future__ import annotations

import os

VARIABLE = "COLLLM_API_KEY"  # of the environment


def key_headers() -> dict[str, str]:
    """Of an HTTP request; none where the environment has no key."""
    key = os.environ.get(VARIABLE)
    return {"Authorization": f"Bearer {key}"} if key else {}
