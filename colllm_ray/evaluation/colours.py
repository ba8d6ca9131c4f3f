"""The colour of each author: the same in the terminal, in reports and in pictures."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from colllm_ray.serving.api.answers import TraceToken

# Okabe and Ito's palette, which people with colour-blindness can tell apart; the base stays as the page's own ink.
EXPERT_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")


def colour_of(author: int) -> str | None:
    """The colour of choice `author`: None is the base; experts beyond the palette begin it anew."""
    return None if author == 0 else EXPERT_COLOURS[(author - 1) % len(EXPERT_COLOURS)]


def coloured_answer(trace: Sequence[TraceToken], members: Sequence[str]) -> Text:
    """An answer with each token in its author's colour, and a line that says whose colour is whose."""
    text = Text()
    for token in trace:
        text.append(token.text, style=_style(members.index(token.model)))
    text.append("\n")
    for author, name in enumerate(members):
        count = sum(token.model == name for token in trace)
        text.append(f"  {name} {count}", style=_style(author))
    return text


def _style(author: int) -> str:
    colour = colour_of(author)
    return "" if colour is None else f"bold {colour}"
