"""The method that asks every expert at every token, as ensembles do, on our engines and links."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from colllm_ray.decoding.model_client import scores_of
from colllm_ray.decoding.rivals.panel import Panel
from colllm_ray.decoding.written import WrittenToken
from colllm_ray.deferral.rule import decide_one
from colllm_ray.engine.messages import More


@dataclass(frozen=True)
class AskingAll:
    """Writes what the plain loop writes; all members take in every token, side by side, before one of them is heard."""

    eta: float
    more: ClassVar[More] = "nothing"

    async def write(self, panel: Panel, text: list[int]) -> list[WrittenToken]:
        said = await panel.ask(text, panel.members)
        author, p_defer = decide_one(scores_of(said[0]), self.eta)
        return [panel.written(said[author], author, p_defer)]
