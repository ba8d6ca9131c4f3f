"""The loop that all rivals share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from colllm_ray.decoding.account import Account
from colllm_ray.decoding.model_client import ModelClient
from colllm_ray.decoding.rivals.panel import Panel
from colllm_ray.decoding.written import Terms, WrittenToken
from colllm_ray.engine.messages import More


class Rule(Protocol):
    """How the next tokens are written."""

    @property
    def more(self) -> More:
        """What the models have to tell beside their choices."""

    async def write(self, panel: Panel, text: list[int]) -> list[WrittenToken]:
        """One token at least that goes on from `text`, prompt and answer so far. Raises ModelFailedError."""


async def decode_by(
    rule: Rule,
    members: Sequence[ModelClient],
    prompt: Sequence[int],
    terms: Terms,
    account: Account | None = None,
    guests: Sequence[ModelClient] = (),
) -> AsyncGenerator[WrittenToken, None]:
    """Writes an answer by a rule; the base is the first of the members. Raises ModelFailedError."""
    text = list(prompt)
    with Panel(members, guests, prompt, terms, rule.more, account or Account()) as panel:
        while panel.tokens_left(text):
            for token in (await rule.write(panel, text))[: panel.tokens_left(text)]:
                text.append(token.token)
                yield token
                if token.token in terms.end_tokens:
                    return
