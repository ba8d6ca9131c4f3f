"""Speculative decoding: one expert's own answer, drafted by the base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from colllm_ray.decoding.rivals.panel import Panel
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.engine.messages import More


@dataclass(frozen=True)
class Speculative:
    """The base drafts, the expert confirms in one forward pass: the expert's answer, token for token.

    With sampling, too: both draw the token of a place with the same noise, and the expert's own token is what stands.
    `draft`: tokens that the base writes ahead. Those that were confirmed are told as the base's. Source: Leviathan et
    al., 2023 (arXiv 2211.17192).
    """

    expert: int
    draft: int = 4
    more: ClassVar[More] = "nothing"

    async def write(self, panel: Panel, text: list[int]) -> list[WrittenToken]:
        drafted: list[int] = []
        while len(drafted) < min(self.draft, panel.tokens_left(text) - 1):
            token = (await panel.ask(text + drafted, [0]))[0].token
            drafted.append(token)
            if token in panel.terms.end_tokens:
                break
        written = []
        for i, choice in enumerate(await panel.ask_back(text + drafted, self.expert, len(drafted) + 1)):
            is_confirmed = drafted[i : i + 1] == [choice.token]
            written.append(panel.written(choice, 0 if is_confirmed else self.expert))
            if not is_confirmed:
                break
        return written
