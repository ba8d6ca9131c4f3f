"""One question to a running server: `colllm ask URL`, which loads neither torch nor Ray."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from colllm_ray.client_key import key_headers
from colllm_ray.errors import ColllmError
from colllm_ray.serving.api.answers import ChatAnswer, TraceToken
from colllm_ray.serving.api.requests import ChatMessage, ChatRequest

TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Attributed:
    """An answer's trace, and the members of the collaboration, the base first."""

    trace: list[TraceToken]
    members: list[str]


def ask_server(url: str, prompt: str) -> Attributed:
    """The answer of a running server at `url`, such as "http://127.0.0.1:8000"."""
    request = ChatRequest(messages=[ChatMessage(role="user", content=prompt)])
    try:
        response = httpx.post(
            f"{url.rstrip('/')}/v1/chat/completions",
            json=request.model_dump(mode="json", exclude_defaults=True),
            headers=key_headers(),
            timeout=TIMEOUT_S,
        )
    except httpx.HTTPError as error:
        raise ColllmError(f"{url}: cannot be reached: {error}") from error
    if response.status_code != httpx.codes.OK:
        raise ColllmError(f"{url}: refused with status {response.status_code}: {response.text}")
    answer = ChatAnswer.model_validate_json(response.content)
    return Attributed(answer.choices[0].colllm.trace or [], list(answer.usage.colllm.models))
